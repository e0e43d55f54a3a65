"""Devices that talk to the CoAP source over connections, byte by byte (RFC 8323 3.2)."""

import asyncio
import struct
from contextlib import asynccontextmanager

from gateway.config.records import Address
from tests.gateway.sources.coap.device import running

CSM = bytes.fromhex("00e1")
PING, PONG = bytes.fromhex("01e209"), bytes.fromhex("01e309")
SERVER_CSM = bytes.fromhex("50e12301080020")  # Max-Message-Size 67584, Block-Wise-Transfer
POST_T = bytes.fromhex("c10207b1741132ff7b2261223a317d")  # token 07, POST /t, CF 50, {"a":1}
CHANGED = bytes.fromhex("014407")
LOOPBACK = Address("127.0.0.1", 0)


def listening(intake, **changes):
    """A source that listens for connections only, and unless told otherwise over TCP."""
    return running(intake, **{"listen": None, "listen_tcp": LOOPBACK, **changes})


@asynccontextmanager
async def connection(source, scheme="coap+tcp", **options):
    host, port = source.stream_addresses[scheme]
    reader, writer = await asyncio.open_connection(host, port, **options)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


class Line:
    """A connection to the source."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    def send(self, *messages):
        self.writer.write(b"".join(messages))

    async def receive(self):
        """Return the next message as on the wire."""
        async with asyncio.timeout(5):
            head = await self.reader.readexactly(1)
            size = head[0] >> 4
            for nibble, more, offset in ((13, 1, 13), (14, 2, 269), (15, 4, 65805)):
                if size == nibble:
                    extension = await self.reader.readexactly(more)
                    head += extension
                    size = int.from_bytes(extension, "big") + offset
                    break
            return head + await self.reader.readexactly(1 + (head[0] & 15) + size)

    async def expect_end(self):
        async with asyncio.timeout(5):
            assert await self.reader.read() == b""

    async def greet(self):
        self.send(CSM)
        assert await self.receive() == SERVER_CSM
        return self

    async def ask(self, *messages):
        self.send(*messages)
        return await self.receive()


def message(code, *, options=b"", payload=b"", token=b"\x07"):
    """A message, encoded without our codec."""
    body = options + (b"\xff" + payload if payload else b"")
    if len(body) < 13:
        length = bytes((len(body) << 4 | len(token),))
    elif len(body) < 269:
        length = bytes((0xD0 | len(token), len(body) - 13))
    elif len(body) < 65805:
        length = bytes((0xE0 | len(token),)) + struct.pack(">H", len(body) - 269)
    else:
        length = bytes((0xF0 | len(token),)) + struct.pack(">I", len(body) - 65805)
    return length + bytes((code,)) + token + body


def fields(frame):
    """Code, token, options and payload of a message, in the form of `device.fields`."""
    from tests.gateway.sources.coap.device import fields as of_datagram

    skip = {13: 1, 14: 2, 15: 4}.get(frame[0] >> 4, 0)
    datagram = bytes((0x40 | frame[0] & 15, frame[1 + skip], 0, 0)) + frame[2 + skip :]
    return of_datagram(datagram)
