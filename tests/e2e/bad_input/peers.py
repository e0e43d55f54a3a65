"""Senders that put on the wire exactly the bytes they are given, and read what comes back.

Nothing here comes from the product: a mistake that both sides make would not show.
"""

import json
import select
import socket
from collections.abc import Sequence
from typing import NamedTuple, Self

from tests.e2e.servers import HOST

SECONDS = 10


def event(event_id: str, members: bytes = b"") -> bytes:
    """Return the JSON format of an event; `members` goes in as it is, with its comma in front."""
    return (
        b'{"specversion":"1.0","id":"%b","source":"/s","type":"t.x"' % event_id.encode()
        + members
        + b"}"
    )


class TcpPeer:
    """A connection to a port of this machine."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._input = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, size: int) -> bytes:
        """Return `size` bytes, or fewer if the connection ends."""
        try:
            return self._input.read(size)
        except ConnectionError:
            return b""

    def line(self) -> bytes:
        try:
            return self._input.readline()
        except ConnectionError:
            return b""

    @property
    def is_closed(self) -> bool:
        """Whether the other side closes without saying any more; waits for it."""
        return self.read(1) == b""

    def close(self) -> None:
        self._input.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Response(NamedTuple):
    status: int
    fields: dict[str, str]
    body: bytes


class HttpPeer(TcpPeer):
    """Sends HTTP/1.1, or what only looks like it."""

    def answer(self) -> Response | None:
        """Return the next answer, None at the end of the connection."""
        start = self.line()
        if not start:
            return None
        assert start.startswith(b"HTTP/1.1 "), start
        fields = {}
        while (line := self.line()) != b"\r\n":
            name, _, value = line.decode("latin-1").partition(":")
            fields[name.lower()] = value.strip()
        status = int(start.split()[1])
        return Response(status, fields, self.read(int(fields.get("content-length", "0"))))

    def statuses(self, count: int) -> list[int]:
        """Return the statuses of the next answers; fewer if the connection ends."""
        answers = [self.answer() for _ in range(count)]
        return [answer.status for answer in answers if answer is not None]


def http_post(body: bytes = b"", *fields: bytes, path: bytes = b"/") -> bytes:
    """Return a POST with a Content-Length."""
    lines = (b"POST " + path + b" HTTP/1.1", b"Host: x", b"Content-Length: %d" % len(body), *fields)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


# MQTT


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def text(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def packet(first: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes((first,)) + varint(len(body)) + body


def properties(*parts: bytes) -> bytes:
    block = b"".join(parts)
    return varint(len(block)) + block


def user(name: bytes, value: bytes) -> bytes:
    return b"\x26" + text(name) + text(value)


def connect(version: int, client_id: bytes = b"", flags: int = 2, *rest: bytes) -> bytes:
    """Return CONNECT; flags 2 is a clean start."""
    block = b"\0" if version == 5 else b""
    level = bytes((version, flags))
    return packet(0x10, text(b"MQTT"), level, b"\0\x3c", block, text(client_id), *rest)


def publish(payload: bytes, number: int = 0, *props: bytes, version: int = 5) -> bytes:
    """Return PUBLISH with QoS 1, or with QoS 0 for packet identifier 0."""
    identifier = number.to_bytes(2, "big") if number else b""
    block = properties(*props) if version == 5 else b""
    return packet(0x32 if number else 0x30, text(b"bad/t"), identifier, block, payload)


JSON_EVENT = b"\x03" + text(b"application/cloudevents+json")
"""The property Content Type."""


class MqttPeer(TcpPeer):
    """A client that has had its CONNACK, unless `version` is None."""

    def __init__(self, port: int, version: int | None = 5, client_id: bytes = b"") -> None:
        super().__init__(port)
        self.version = version
        if version is not None:
            self.send(connect(version, client_id))
            first, body = self.packet()
            assert (first, body[:2]) == (0x20, b"\0\0"), (first, body)

    def packet(self) -> tuple[int, bytes]:
        """Return first byte and body of the next packet; (0, b"") at the end."""
        first = self.read(1)
        if not first:
            return 0, b""
        length = shift = 0
        while True:
            byte = self.read(1)[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return first[0], self.read(length)

    def acknowledgements(self, count: int, first: int = 0x40) -> list[tuple[int, int]]:
        """Return packet identifier and reason code of the next PUBACKs (or PUBRECs)."""
        found = []
        for _ in range(count):
            kind, body = self.packet()
            assert kind == first, (kind, body)
            found.append((int.from_bytes(body[:2], "big"), body[2] if len(body) > 2 else 0))
        return found

    @property
    def is_alive(self) -> bool:
        """Whether PINGREQ is answered."""
        self.send(b"\xc0\0")
        return self.packet() == (0xD0, b"")


# CoAP


def coap_options(query: Sequence[bytes]) -> bytes:
    """Return Uri-Path `ce`, Content-Format 50 (JSON) and Uri-Query options (RFC 7252 3.1)."""
    parts = [b"\xb2ce\x11\x32"]
    for position, value in enumerate(query):
        delta, length = (3 if position == 0 else 0) << 4, len(value)
        head = (delta | length,) if length < 13 else (delta | 13, length - 13)
        parts.append(bytes(head) + value)
    return b"".join(parts)


class CoapPeer:
    """A UDP socket."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(SECONDS)
        self.socket.connect((HOST, port))
        self._mid = 0xF000

    def send(self, datagram: bytes) -> None:
        self.socket.send(datagram)

    def receive(self) -> bytes:
        return self.socket.recv(65536)

    def ping(self) -> bytes:
        """Send an empty CON; returns the RST that answers it."""
        self._mid += 1
        mid = self._mid.to_bytes(2, "big")
        self.send(b"\x40\0" + mid)
        return b"\x70\0" + mid

    def post(self, event_id: str) -> bytes:
        """Send a good event in a CON; returns the beginning of its answer, 2.04."""
        self._mid += 1
        mid = self._mid.to_bytes(2, "big")
        query = (b"t=t.x", b"i=" + event_id.encode(), b"s=/s")
        self.send(b"\x42\x02" + mid + mid + coap_options(query) + b"\xff{}")
        return b"\x62\x44" + mid + mid

    def answer(self, mid: bytes, token: bytes) -> bytes:
        """Return the answer to a CON, which has to come next.

        It is in the acknowledgement; or that is empty, and the answer comes in a CON, which is
        acknowledged (RFC 7252 5.2.1, 5.2.2).
        """
        datagram = self.receive()
        if datagram == b"\x60\0" + mid:
            datagram = self.receive()
            assert datagram[0] == 0x40 | len(token), datagram
            self.send(b"\x60\0" + datagram[2:4])
        else:
            assert datagram[0] == 0x60 | len(token), datagram
            assert datagram[2:4] == mid, datagram
        assert datagram[1], datagram
        assert datagram[4 : 4 + len(token)] == token, datagram
        return datagram

    def deliver(self, event_id: str) -> None:
        """Send a good event in a CON; what comes next has to be 2.04 for it."""
        mid = self.post(event_id)[2:4]
        datagram = self.answer(mid, mid)
        assert datagram[1] == 0x44, datagram

    def receive_until(self, wanted: bytes) -> list[bytes]:
        """Return what comes before the first datagram that begins with `wanted`."""
        before = []
        while not (datagram := self.receive()).startswith(wanted):
            before.append(datagram)
        return before

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


# NATS


class NatsPeer(TcpPeer):
    """A client that publishes raw header blocks and hears the answers to its requests."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        assert self.line().startswith(b"INFO ")
        options = {"verbose": False, "pedantic": False, "headers": True, "protocol": 1}
        self.send(b"CONNECT " + json.dumps(options).encode() + b"\r\nSUB peer.* 1\r\nPING\r\n")
        assert self.line() == b"PONG\r\n"

    def poll_line(self) -> bytes:
        """Return the next line, or b"" if there is none within a while."""
        readable, _, _ = select.select([self.socket], [], [], 0.2)
        return self.line() if readable else b""

    def answer(self) -> bytes:
        """Return the body of the next message."""
        while (line := self.line()).startswith((b"PING", b"INFO ")):
            if line == b"PING\r\n":
                self.send(b"PONG\r\n")
        assert line.startswith(b"MSG "), line
        return self.read(int(line.split()[-1]) + 2)[:-2]


def nats_publish(
    subject: bytes, payload: bytes, header: bytes = b"", reply: bytes = b"peer.1"
) -> bytes:
    """Return PUB, or HPUB for a header block; an empty `reply` asks for no answer."""
    words = b" ".join(part for part in (subject, reply) if part)
    if not header:
        return b"PUB %b %d\r\n%b\r\n" % (words, len(payload), payload)
    total = len(header) + len(payload)
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (words, len(header), total, header, payload)


def nats_header(*lines: bytes) -> bytes:
    return b"NATS/1.0\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
