"""Devices that talk to the CoAP source over WebSockets, byte by byte (RFC 6455, RFC 8323 4)."""

import asyncio
import struct
from contextlib import asynccontextmanager

from tests.gateway.sources.coap.stream_device import LOOPBACK, listening

# The key and what it has to be answered with are those of RFC 6455 1.3.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HEADERS = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "coap",
}
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

CSM = bytes.fromhex("00e1")
SERVER_CSM = bytes.fromhex("00e12301080020")  # Max-Message-Size 67584, Block-Wise-Transfer
POST_T = bytes.fromhex("010207b1741132ff7b2261223a317d")  # token 07, POST /t, CF 50, {"a":1}
CHANGED = bytes.fromhex("014407")


def handshake(request="GET /.well-known/coap HTTP/1.1", **changes):
    """The bytes that open a WebSocket; `Sec_WebSocket_Key=None` leaves that header out."""
    headers = HEADERS | {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([request, *lines, "", ""]).encode("latin-1")


def frame(payload, opcode=BINARY, *, fin=True, mask=b"\x37\xfa\x21\x3d", reserved=0):
    """One frame as a client sends it (RFC 6455 5.2); its length in the shortest form."""
    head = bytes((fin << 7 | reserved << 4 | opcode,))
    masked = 0x80 if mask else 0
    if len(payload) < 126:
        head += bytes((masked | len(payload),))
    elif len(payload) < 65536:
        head += bytes((masked | 126,)) + struct.pack(">H", len(payload))
    else:
        head += bytes((masked | 127,)) + struct.pack(">Q", len(payload))
    if not mask:
        return head + payload
    return head + mask + bytes(octet ^ mask[n % 4] for n, octet in enumerate(payload))


def message(code, *, options=b"", payload=b"", token=b"\x07"):
    """A message as content of a frame: its length is 0."""
    return bytes((len(token), code)) + token + options + (b"\xff" + payload if payload else b"")


def fields(content):
    """Code, token, options and payload of a message, in the form of `device.fields`."""
    from tests.gateway.sources.coap.device import fields as of_datagram

    assert content[0] <= 8
    return of_datagram(bytes((0x40 | content[0], content[1], 0, 0)) + content[2:])


def listening_ws(intake, **changes):
    """A source that listens for WebSockets only."""
    return listening(intake, **{"listen_tcp": None, "listen_ws": LOOPBACK, **changes})


@asynccontextmanager
async def connected(source, scheme="coap+ws", **options):
    """A connection on which nothing was said yet."""
    address = source.stream_addresses[scheme]
    if "sock" in options:
        options["sock"].connect(address)
    else:
        options["host"], options["port"] = address
    reader, writer = await asyncio.open_connection(**options)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def websocket(source, **options):
    """A connection after the handshake and the exchange of CSMs."""
    async with connected(source, **options) as line:
        line.write(handshake())
        status, headers, _ = await line.response()
        assert (status, headers["sec-websocket-accept"]) == (101, ACCEPT)
        assert headers["sec-websocket-protocol"] == "coap"
        line.send(CSM)
        assert await line.receive() == SERVER_CSM
        yield line


class Line:
    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    def write(self, *octets):
        self.writer.write(b"".join(octets))

    def send(self, *messages):
        self.write(*(frame(content) for content in messages))

    async def ask(self, *messages):
        self.send(*messages)
        return await self.receive()

    async def response(self):
        """Return status, headers and body of an HTTP response."""
        async with asyncio.timeout(5):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head[:-4].split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ") for line in lines)}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(first.split(" ")[1]), headers, body.decode()

    async def receive_frame(self):
        """Return opcode and payload of the next frame, which has no mask and no fragments."""
        async with asyncio.timeout(5):
            first, size = await self.reader.readexactly(2)
            for short, more in ((126, 2), (127, 8)):
                if size == short:
                    size = int.from_bytes(await self.reader.readexactly(more), "big")
                    break
            return first & 0x7F if first & 0x80 else None, await self.reader.readexactly(size)

    async def receive(self):
        opcode, payload = await self.receive_frame()
        assert opcode == BINARY
        return payload

    async def expect_close(self, code):
        """Expect a close frame, answer it, and expect the end."""
        opcode, payload = await self.receive_frame()
        assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, code)
        self.write(frame(payload[:2], CLOSE))
        await self.expect_end()

    async def expect_end(self):
        async with asyncio.timeout(5):
            assert await self.reader.read() == b""
