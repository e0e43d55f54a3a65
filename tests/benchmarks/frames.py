"""The messages of the load, prebuilt: a thousand in one buffer, with numbers and times varied.

A message that is built when it is sent costs microseconds, and the load would be the limit. All
messages of one protocol have the same length, so what differs from one thousand to the next one is
a few columns of the buffer, and a column is written with one strided assignment.
"""

from collections.abc import Callable
from typing import Final

from tests.benchmarks import numbered
from tests.faults.producers.mqtt import text, varint

BLOCK: Final = 1000
_PROBE: Final = 98_761_234  # no other text in a message has its digits
PACKET_IDS: Final = 60_000
"""MQTT: packet identifiers are 1 to this, in the order of the numbers."""


def packet_id(number: int) -> int:
    """Return the packet identifier of an MQTT message."""
    return number % PACKET_IDS + 1


class Frames:
    """Messages by number, as slices of one buffer.

    Args:
        make: returns a message; all of the same length.
    """

    def __init__(self, make: Callable[[int], bytes]) -> None:
        self.length = len(make(0))
        self._block = bytearray(b"".join(make(number) for number in range(BLOCK)))
        assert len(self._block) == BLOCK * self.length
        self._thousand = 0
        probe = make(_PROBE)
        self._numbers = _find_all(probe, b"%08d" % _PROBE)
        self._seconds = [
            at + len("2026-11-22T10:00:") for at in _find_all(probe, numbered.time(_PROBE).encode())
        ]

    def take(self, first: int, count: int) -> bytes:
        """Return the messages from `first`, `count` or fewer: up to the end of its thousand."""
        thousand, offset = divmod(first, BLOCK)
        if thousand != self._thousand:
            self._thousand = thousand
            self._write(thousand)
        length = self.length
        return bytes(memoryview(self._block)[offset * length : min(offset + count, BLOCK) * length])

    def _write(self, thousand: int) -> None:
        for at in self._numbers:
            self._columns(at, b"%05d" % thousand)
        for at in self._seconds:
            self._columns(at, b"%02d" % (thousand % 60))

    def _columns(self, at: int, digits: bytes) -> None:
        for place, digit in enumerate(digits, at):
            self._block[place :: self.length] = bytes([digit]) * BLOCK


class MqttFrames(Frames):
    """PUBLISH packets; their packet identifiers are `packet_id`.

    Args:
        version: 5, with the attributes as user properties, or 4 (3.1.1), structured mode.
        qos: 0 or 1.
    """

    def __init__(self, version: int, qos: int) -> None:
        super().__init__(lambda number: _publish(number, version, qos))
        # The fixed header of such a length has three bytes.
        self._id_at = 3 + len(text(_topic(0))) if qos else None
        ids = [packet_id(number).to_bytes(2, "big") for number in range(PACKET_IDS)]
        self._high, self._low = bytes(pair[0] for pair in ids), bytes(pair[1] for pair in ids)
        self._version = version

    def _write(self, thousand: int) -> None:
        super()._write(thousand)
        if self._id_at is not None:
            first = thousand * BLOCK % PACKET_IDS
            self._block[self._id_at :: self.length] = self._high[first : first + BLOCK]
            self._block[self._id_at + 1 :: self.length] = self._low[first : first + BLOCK]


def _topic(number: int) -> str:
    return f"load/dev{number % numbered.KEYS:03d}"


def _publish(number: int, version: int, qos: int) -> bytes:
    body = text(_topic(number))
    if qos:
        body += packet_id(number).to_bytes(2, "big")
    if version == 5:
        properties = b"\x03" + text("application/json")
        for name, value in {"specversion": "1.0", **numbered.attributes(number)}.items():
            properties += b"\x26" + text(name) + text(value)
        body += varint(len(properties)) + properties + numbered.data(number)
    else:
        body += numbered.structured(number)
    length = varint(len(body))
    assert len(length) == 2
    return bytes([0x30 | qos << 1]) + length + body


def nats_publication(number: int, reply: str = "") -> bytes:
    """Return an HPUB with the attributes as headers, and a subject for its answer."""
    attributes = {"specversion": "1.0", **numbered.attributes(number)}
    lines = [f"ce-{name}: {value}" for name, value in attributes.items()]
    lines.append("ce-datacontenttype: application/json")
    head = "\r\n".join(["NATS/1.0", *lines, "", ""]).encode()
    data = numbered.data(number)
    subject = f"load.dev{number % numbered.KEYS:03d} {reply}".rstrip().encode()
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (
        subject, len(head), len(head) + len(data), head, data,
    )  # fmt: skip


def http_request(number: int) -> bytes:
    """Return a POST in binary mode."""
    attributes = {"specversion": "1.0", **numbered.attributes(number)}
    lines = [f"ce-{name}: {value}" for name, value in attributes.items()]
    lines += ["content-type: application/json", "content-length: 200"]
    head = "\r\n".join(["POST / HTTP/1.1", "host: 127.0.0.1", *lines, "", ""])
    return head.encode() + numbered.data(number)


def structured_request(number: int) -> bytes:
    """Return a POST in structured mode, as the gateway writes it."""
    body = numbered.structured(number)
    return (
        b"POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/cloudevents+json\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(body), body)
    )


def coap_options(number: int) -> bytes:
    """Return options, payload marker and payload of a POST with the attributes in the query."""
    out = _option(11, b"ce") + _option(1, b"\x32")  # Uri-Path, Content-Format: JSON
    delta = 3  # Uri-Query
    for name, value in sorted(numbered.attributes(number).items()):
        out += _option(delta, f"{name}={value}".encode())
        delta = 0
    return out + b"\xff" + numbered.data(number)


def _option(delta: int, value: bytes) -> bytes:
    if len(value) < 13:
        return bytes([delta << 4 | len(value)]) + value
    assert len(value) < 269
    return bytes([delta << 4 | 13, len(value) - 13]) + value


def _find_all(whole: bytes, part: bytes) -> list[int]:
    found, at = [], whole.find(part)
    while at >= 0:
        found.append(at)
        at = whole.find(part, at + 1)
    return found
