"""`ce-gateway send coap+tcp://...`: CoAP over TCP, TLS and WebSockets (RFC 8323), as a client."""

import asyncio
import logging
import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final, Protocol
from urllib.parse import SplitResult

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

from bindings.wire.coap import (
    Code,
    Message,
    Option,
    Type,
    parse_options,
    serialise_options,
    to_uint,
)
from bindings.wire.coap_stream import from_websocket, head, read_head, to_websocket
from gateway.cli.senders import SendError, SendOptions
from gateway.config.records import TlsConfig
from gateway.errors import GatewayError
from gateway.tasks import Tasks
from gateway.tls import client_context

PORTS: Final = {"coap+tcp": 5683, "coaps+tcp": 5684, "coap+ws": 80, "coaps+ws": 443}
"""Default ports by URL scheme (RFC 8323 8)."""

_CSM, _PING, _PONG, _RELEASE, _ABORT = 0xE1, 0xE2, 0xE3, 0xE4, 0xE5
_MAX_MESSAGE_SIZE: Final = 2
"""The option of a CSM that says how large a message may be (RFC 8323 5.3.1)."""
_DEFAULT_MAX_MESSAGE_BYTES: Final = 1152
_READ_BYTES: Final = 65536
_MAX_ANSWER_BYTES: Final = 65536
_CLOSE_SECONDS: Final = 2.0

_quiet = logging.getLogger(f"{__name__}.websockets")
_quiet.setLevel(logging.CRITICAL)


class Channel(Protocol):
    """Carries whole messages, in the form that they have over TCP."""

    async def send(self, message: bytes) -> None:
        """Send one."""

    def receive(self) -> AsyncIterator[bytes]:
        """Yield what comes in, until the other side has closed."""

    async def close(self) -> None:
        """Close, and wait for it."""


class StreamClient:
    """Requests and their answers on one connection."""

    def __init__(self, channel: Channel, options: SendOptions) -> None:
        self._channel = channel
        self._timeout = options.timeout
        self._tasks = Tasks("send")
        self._by_token: dict[bytes, asyncio.Future[Message]] = {}
        self._next = secrets.randbelow(2**32)
        self._max_message_bytes = _DEFAULT_MAX_MESSAGE_BYTES
        self._greeted = asyncio.Event()
        self._end = ""

    async def start(self) -> None:
        """Exchange CSMs.

        Raises:
            SendError: the other side sent none.
        """
        self._tasks.start(self._read(), "connection")
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                await self._send(_CSM)
                await self._greeted.wait()
        if not self._greeted.is_set() or self._end:
            words = self._end or f"no CSM within {self._timeout:g} s; does CoAP listen there?"
            await self.close()
            raise SendError(words)

    def fits(self, options: list[Option], payload: bytes) -> bool:
        """Whether the other side takes a message of this size."""
        size = 2 + 4 + len(serialise_options(options)) + 1 + len(payload)
        return size <= self._max_message_bytes

    async def post(self, options: list[Option], payload: bytes) -> Message:
        """Send one POST and return its answer.

        Raises:
            SendError: the connection has ended, or there was no answer in time.
        """
        if self._end:
            raise SendError(self._end)
        self._next = (self._next + 1) & 0xFFFFFFFF
        token = self._next.to_bytes(4, "big")
        body = serialise_options(options) + (b"\xff" + payload if payload else b"")
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._by_token[token] = answer
        try:
            async with asyncio.timeout(self._timeout):
                await self._send(Code.POST, token, body)
                return await answer
        except TimeoutError:
            raise SendError(f"no answer within {self._timeout:g} s") from None
        finally:
            del self._by_token[token]

    async def close(self) -> None:
        """Release the connection; what waits for an answer fails."""
        self._fail("closed before the answer came")
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._send(_RELEASE)
                await self._channel.close()
        await self._tasks.close()

    async def _send(self, code: int, token: bytes = b"", body: bytes = b"") -> None:
        with suppress(OSError, ConnectionClosed):  # the reading side says so, and better
            await self._channel.send(head(len(token), len(body), code) + token + body)

    async def _read(self) -> None:
        words = "the connection was closed"
        try:
            async for octets in self._channel.receive():
                await self._take(octets)
        except (OSError, ConnectionClosed) as error:
            words = f"the connection was lost: {error}"
        except ValueError as error:
            words = f"that is no CoAP: {error}"
        self._fail(words)
        self._greeted.set()

    async def _take(self, octets: bytes) -> None:
        """Take one message.

        Raises:
            ValueError: it is none.
        """
        found = read_head(octets)
        if found is None or found.token_length > 8:
            raise ValueError("reserved token length")
        body = found.token_start + found.token_length
        code, token = octets[found.token_start - 1], octets[found.token_start : body]
        options, payload = parse_options(octets, body)
        if code == _CSM:
            for number, value in options:
                if number == _MAX_MESSAGE_SIZE:
                    self._max_message_bytes = to_uint(value)
            self._greeted.set()
        elif code == _PING:
            await self._send(_PONG, token)
        elif code == _ABORT:
            words = payload[:200].decode("utf-8", "replace")
            self._fail(f"aborted: {words}" if words else "aborted")
        elif (answer := self._by_token.get(token)) is not None and not answer.done():
            answer.set_result(Message(Type.ACK, code, 0, token, options, payload))

    def _fail(self, words: str) -> None:
        self._end = self._end or words
        for answer in self._by_token.values():
            if not answer.done():
                answer.set_exception(SendError(self._end))


async def connect_stream(parts: SplitResult, options: SendOptions) -> StreamClient:
    """Connect to the host of a URL whose scheme is one of `PORTS`.

    Raises:
        SendError: it can't; the text says what to check.
    """
    host, port = parts.hostname or "127.0.0.1", parts.port or PORTS[parts.scheme]
    try:
        async with asyncio.timeout(options.timeout):
            channel = await _open(parts.scheme, host, port, options)
    except TimeoutError as error:
        raise SendError(f"{host}:{port}: no connection within {options.timeout:g} s") from error
    except (OSError, WebSocketException, GatewayError) as error:
        raise SendError(f"{host}:{port}: {error}") from error
    client = StreamClient(channel, options)
    await client.start()
    return client


async def _open(scheme: str, host: str, port: int, options: SendOptions) -> Channel:
    context: ssl.SSLContext | None = None
    if scheme.startswith("coaps"):
        context = client_context(
            TlsConfig(
                cert=options.cert, key=options.key, ca=options.ca, verify=not options.insecure
            )
        )
    if scheme.endswith("ws"):
        name = f"[{host}]" if ":" in host else host
        url = f"{'wss' if context else 'ws'}://{name}:{port}/.well-known/coap"
        socket = await connect(
            url, subprotocols=[Subprotocol("coap")], ssl=context, compression=None, logger=_quiet,
            open_timeout=None, ping_interval=None, close_timeout=_CLOSE_SECONDS, proxy=None,
            max_size=_MAX_ANSWER_BYTES,
        )  # fmt: skip
        return _WebSocketChannel(socket)
    if context is not None:
        context.set_alpn_protocols(["coap"])  # RFC 8323 8.2
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    return _TcpChannel(reader, writer)


class _TcpChannel:
    """TCP or TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, message: bytes) -> None:
        self._writer.write(message)
        await self._writer.drain()

    async def receive(self) -> AsyncIterator[bytes]:
        buffer = bytearray()
        while data := await self._reader.read(_READ_BYTES):
            buffer += data
            position = 0
            while (found := read_head(buffer, position)) is not None:
                if found.size > _MAX_ANSWER_BYTES:
                    raise ValueError("an answer that is too large")
                if position + found.size > len(buffer):
                    break
                yield bytes(buffer[position : position + found.size])
                position += found.size
            del buffer[:position]

    async def close(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


class _WebSocketChannel:
    """A WebSocket, with or without TLS."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def send(self, message: bytes) -> None:
        await self._socket.send(to_websocket(message))

    async def receive(self) -> AsyncIterator[bytes]:
        async for content in self._socket:
            if isinstance(content, str):
                raise ValueError("a text message")  # noqa: TRY004 - about what came, not our types
            yield from_websocket(content)

    async def close(self) -> None:
        await self._socket.close()
