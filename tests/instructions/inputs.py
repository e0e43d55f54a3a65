"""What comes over the wire, as bytes that never change: ids and times differ, 200 devices repeat.

The event of docs/performance.md: 200 bytes of JSON and eight attributes. Written out here and not
made by our encoders, so that a count changes with the code that it is about, and with no other.
"""

import struct
from typing import Final

DATA: Final = b'{"temperature":21.5,"unit":"C","pad":"' + b"x" * 160 + b'"}'
assert len(DATA) == 200

Attributes = list[tuple[str, str]]


def attributes(number: int) -> Attributes:
    """Return the attributes of an event but for `datacontenttype`."""
    return [
        ("specversion", "1.0"),
        ("id", f"b3c1f2d4-{number:08d}"),
        ("source", f"/devices/dev{number % 200:03d}"),
        ("type", "com.example.temperature.v1"),
        ("subject", f"room-{number % 50:02d}"),
        ("time", f"2026-11-22T10:{number // 60 % 60:02d}:{number % 60:02d}.123Z"),
        ("partitionkey", f"dev{number % 200:03d}"),
    ]


def structured(number: int) -> bytes:
    """Return the JSON event."""
    members = ",".join(f'"{name}":"{value}"' for name, value in attributes(number))
    return b'{%s,"datacontenttype":"application/json","data":%s}' % (members.encode(), DATA)


def mqtt_publish(number: int) -> bytes:
    """Return a PUBLISH of MQTT 5 at QoS 1 (sections 3.3 and 2.2.2)."""

    def text(value: str) -> bytes:
        return struct.pack(">H", len(value)) + value.encode()

    properties = b"\x03" + text("application/json")
    properties += b"".join(b"\x26" + text(name) + text(value) for name, value in attributes(number))
    body = text(f"plant/dev{number % 200:03d}") + struct.pack(">H", number % 60_000 + 1)
    body += _varint(len(properties)) + properties + DATA
    return b"\x32" + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    assert 128 <= value < 16384
    return bytes((value % 128 | 128, value // 128))


def nats_message(number: int) -> bytes:
    """Return an HMSG with headers, as a server sends it to a pull consumer."""
    head = "NATS/1.0\r\n" + "".join(f"ce-{name}: {value}\r\n" for name, value in attributes(number))
    block = f"{head}ce-datacontenttype: application/json\r\n\r\n".encode()
    reply = f"$JS.ACK.IN.bench.1.{number}.{number}.1764000000000000000.0"
    sizes = f"{len(block)} {len(block) + len(DATA)}"
    line = f"HMSG events.dev{number % 200:03d} 1 {reply} {sizes}\r\n"
    return line.encode() + block + DATA + b"\r\n"


def http_headers(number: int) -> Attributes:
    """Return the headers of a request in binary mode."""
    usual = [("host", "127.0.0.1:8080"), ("content-length", "200")]
    return usual + [(f"ce-{name}", value) for name, value in attributes(number)]


def coap_request(number: int) -> bytes:
    """Return a CON POST to /ce in binary mode (RFC 7252 section 3, docs/bindings/coap.md)."""
    options = [(11, b"ce"), (12, b"\x32")]  # Uri-Path, Content-Format 50: application/json
    options += [
        (15, f"{name}={value}".encode())
        for name, value in attributes(number)
        if name not in {"specversion", "partitionkey"}
    ]
    datagram = bytearray((0x44, 0x02)) + struct.pack(">HI", number % 65536, number)
    previous = 0
    for option, value in options:
        delta, previous = option - previous, option
        size = len(value)
        if size < 13:
            datagram += bytes((delta << 4 | size,)) + value
        else:
            datagram += bytes((delta << 4 | 13, size - 13)) + value
    return bytes(datagram) + b"\xff" + DATA
