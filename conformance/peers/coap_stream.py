"""A CoAP device on a TCP or TLS connection, byte by byte (RFC 8323 section 3)."""

import asyncio
import struct
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from conformance.check import CheckFailed
from conformance.peers.coap import Reply, code_text, read_options

CSM: Final = 0xE1
PING: Final = 0xE2
PONG: Final = 0xE3
RELEASE: Final = 0xE4
ABORT: Final = 0xE5

_EXTENDED: Final = {13: (1, 13), 14: (2, 269), 15: (4, 65805)}
_PORT: Final = 5683


def frame(code: int, token: bytes = b"", rest: bytes = b"") -> bytes:
    """Write a message.

    Args:
        code: as a number.
        token: up to eight bytes.
        rest: options and payload, with its marker.
    """
    size = len(rest)
    if size < 13:
        length, more = size, b""
    elif size < 269:
        length, more = 13, bytes((size - 13,))
    elif size < 65805:
        length, more = 14, struct.pack(">H", size - 269)
    else:
        length, more = 15, struct.pack(">I", size - 65805)
    return bytes((length << 4 | len(token),)) + more + bytes((code,)) + token + rest


def reply_of(message: bytes, code_at: int) -> Reply:
    """Take a message apart whose code stands at a position.

    Raises:
        CheckFailed: it is no CoAP message.
    """
    try:
        body = code_at + 1 + (message[0] & 15)
        options, position = read_options(message, body)
        code, token = code_text(message[code_at]), message[code_at + 1 : body]
    except IndexError:
        raise CheckFailed("the answer is no CoAP message", got=message.hex()) from None
    payload = message[position + 1 :]
    return Reply("", code, b"", token, options, payload, message[body:], message)


class StreamDevice:
    """A connection, as an asynchronous context manager.

    Args:
        url: `coap+tcp://host:port`.
    """

    def __init__(self, url: str) -> None:
        at = urlsplit(url)
        self._address = (at.hostname or "127.0.0.1", at.port or _PORT)

    async def __aenter__(self) -> Self:
        try:
            self._reader, self._writer = await asyncio.open_connection(*self._address)
        except OSError as error:
            raise CheckFailed("no connection", got=str(error)) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._writer.transport.abort()

    async def greet(self, options: bytes = b"") -> Reply:
        """Exchange CSMs; return the other side's.

        Args:
            options: of ours.
        """
        self.send(frame(CSM, rest=options))
        return await self.receive()

    def send(self, *frames: bytes) -> None:
        """Send messages at once."""
        self._writer.write(b"".join(frames))

    async def send_alone(self, octets: bytes) -> None:
        """Send octets, and let them leave before anything else is sent."""
        self._writer.write(octets)
        await self._writer.drain()
        await asyncio.sleep(0)

    def send_message(self, code: int, token: bytes, rest: bytes) -> None:
        """Send one message; the arguments are those of `frame`."""
        self.send(frame(code, token, rest))

    async def receive(self, seconds: float = 5.0) -> Reply:
        """Wait for the next message.

        Raises:
            CheckFailed: none came in time, or the connection ended.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._next()
        except TimeoutError:
            raise CheckFailed("no answer came", expected=f"one within {seconds} s") from None
        except (asyncio.IncompleteReadError, OSError) as error:
            raise CheckFailed("the connection ended", got=str(error)) from error

    async def _next(self) -> Reply:
        head = await self._reader.readexactly(1)
        size = head[0] >> 4
        if size in _EXTENDED:
            count, offset = _EXTENDED[size]
            more = await self._reader.readexactly(count)
            head += more
            size = int.from_bytes(more, "big") + offset
        code_at = len(head)
        rest: Any = await self._reader.readexactly(1 + (head[0] & 15) + size)
        return reply_of(head + rest, code_at)

    async def ask(self, code: int, token: bytes = b"", rest: bytes = b"") -> Reply:
        """Send one message and return the next that comes."""
        self.send_message(code, token, rest)
        return await self.receive()

    async def expect_end(self) -> bytes:
        """Wait until the other side has closed; return what came before.

        Raises:
            CheckFailed: it does not.
        """
        try:
            async with asyncio.timeout(5):
                return await self._reader.read()
        except TimeoutError:
            raise CheckFailed("the connection stays open") from None
        except OSError:
            return b""
