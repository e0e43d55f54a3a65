"""nats-py's client with its parser replaced: what a read brought comes as one list.

nats-py connects, negotiates TLS, authenticates and manages JetStream; its own way of a message (a
header object, a queue and a wake-up each) costs four times ours.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import nats.errors
from nats.aio.client import Client

from bindings.wire.nats import NatsMessage, NatsProtocolError, Parser

Handler = Callable[[list[NatsMessage]], None]
"""Takes the messages of one subscription that one read brought; must not block."""
Refused = Callable[[str], None]
"""Takes the server's words when it refuses a publish or a subscription."""
Pause = Callable[[], Awaitable[None]]
"""Awaited after each read; reading stops until it returns."""

CLIENT_ERRORS: Final = (OSError, nats.errors.Error, TimeoutError, ValueError, EOFError)
"""What nats-py raises when there is no connection or the other side does not do as it should."""
_CLOSE_SECONDS = 2

_log = logging.getLogger(__name__)


class TlsClient(Client):
    """nats-py's client, which uses TLS only if the server asks for it, made to insist on it.

    Args:
        wants_tls: whether to say nothing, and credentials least of all, without TLS.
    """

    def __init__(self, *, wants_tls: bool) -> None:
        super().__init__()
        self._wants_tls = wants_tls
        self._transport: Any

    def _connect_command(self) -> bytes:  # the last moment before credentials are sent
        writer = self._transport._io_writer  # noqa: SLF001 - there is no other way to it
        if self._wants_tls and writer.get_extra_info("ssl_object") is None:
            raise nats.errors.Error("the server offers no TLS, which is required here")
        return super()._connect_command()

    async def discard(self) -> None:
        """Close the socket, in order if the other side takes what was written.

        nats-py's `close` waits for ever for a socket whose TLS handshake failed.
        """
        if self._flush_queue is None:
            return  # it never began to connect
        # nats-py would wait for a broken connection to take these.
        self._pending, self._pending_data_size = [], 0
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.close()
        except CLIENT_ERRORS as error:
            _log.debug("closing a connection: %s", error)
        finally:
            if self._transport:  # false until it has a socket
                writer = self._transport._io_writer  # noqa: SLF001 - there is no other way to it
                writer.transport.abort()  # no effect on what has been closed


class ListClient(TlsClient):
    """nats-py's client with our parser, and with the few private names of it that we rely on.

    `_ps`, `_sid`, `_transport`, `_pongs`, `_process_*` and `_connect_command` are the seam; the
    minor version is pinned for it and tests/gateway/test_nats_client.py watches it.
    """

    def __init__(self, *, wants_tls: bool, refused: Refused, pause: Pause | None) -> None:
        super().__init__(wants_tls=wants_tls)
        self._ps: Any = _ParserAdapter(self, pause)
        self._refused = refused
        self.handlers: dict[int, Handler] = {}
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.refusal = ""
        self.last_text = ""

    @property
    def peer(self) -> str:
        """Host and port, without the credentials that a URL may hold."""
        uri = self.connected_url
        return f"{uri.hostname}:{uri.port}" if uri is not None else "server"

    def add_handler(self, handler: Handler) -> int:
        self._sid += 1
        self.handlers[self._sid] = handler
        return self._sid

    def write(self, data: bytes) -> None:
        """Write protocol lines; no effect on a socket that is broken, which the reading tells."""
        if not self._is_broken:
            self._transport.write(data)

    @property
    def _is_broken(self) -> bool:
        """Whether the socket is; uvloop's raises when it is written to nevertheless."""
        writer = self._transport._io_writer  # noqa: SLF001 - there is no other way to it
        return bool(writer.is_closing())

    async def drain_writes(self) -> None:
        await self._transport.drain()

    def send_ping(self) -> "asyncio.Future[None]":
        pong: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        self.write(b"PING\r\n")
        return pong

    @property
    def is_usable(self) -> bool:
        return self.is_connected and not self.gone.done() and not self._is_broken

    async def refused(self, text: str) -> None:
        """Take a `-ERR`: a permission that lacks leaves the connection up, all else ends it."""
        self.last_text = text
        if "permissions violation" in text.lower():
            self.refusal = text
            self._refused(text)
        else:
            await self._process_op_err(nats.errors.Error(text))

    async def on_error(self, error: Exception) -> None:
        self.last_text = self.last_text or str(error) or type(error).__name__

    async def _process_op_err(self, e: Exception) -> None:
        # The original closes here and now, and fails half-way if the socket is already broken.
        await self.on_error(e)
        if not self.gone.done():
            self.gone.set_result(None)


class _ParserAdapter:
    """Stands where nats-py keeps its parser: gives lists to us and the rest to the client."""

    def __init__(self, client: ListClient, pause: Pause | None) -> None:
        self._client = client
        self._pause = pause
        self._wire = Parser()

    def reset(self) -> None:
        self._wire.reset()

    async def parse(self, data: bytes = b"") -> None:
        try:
            messages, lines = self._wire.feed(data)
        except NatsProtocolError as error:
            await self._dispatch(error.messages)
            self._client.last_text = str(error)
            raise nats.errors.ProtocolError from error
        if messages:
            await self._dispatch(messages)
        for line in lines:
            await self._control(line)
        if self._pause is not None:
            await self._pause()

    async def _dispatch(self, messages: list[NatsMessage]) -> None:
        start = 0
        count = len(messages)
        while start < count:
            sid = messages[start].sid
            stop = start + 1
            while stop < count and messages[stop].sid == sid:
                stop += 1
            run = messages if stop - start == count else messages[start:stop]
            handler = self._client.handlers.get(sid)
            if handler is not None:
                handler(run)
            else:
                await self._pass_on(run)
            start = stop

    async def _pass_on(self, messages: Sequence[NatsMessage]) -> None:
        """Give the client what is its own: answers to JetStream management."""
        for message in messages:
            try:
                await self._client._process_msg(  # noqa: SLF001 - see ListClient
                    message.sid,
                    message.subject.encode("utf-8", "surrogateescape"),
                    message.reply,
                    message.payload,
                    message.header,
                )
            except (ValueError, IndexError) as error:
                # Anybody may publish to its inbox, and nothing would be read after an exception.
                _log.debug("%s: no answer: %r", self._client.peer, error)

    async def _control(self, line: bytes) -> None:
        client = self._client
        if line.startswith(b"PING"):
            client.write(b"PONG\r\n")
        elif line.startswith(b"PONG"):
            await client._process_pong()  # noqa: SLF001 - see ListClient
        elif line.startswith(b"-ERR"):
            await client.refused(line[4:].decode("utf-8", "replace").strip(" '"))
        elif line.startswith(b"INFO "):
            try:
                info = json.loads(line[5:])
            except ValueError as error:
                raise nats.errors.ProtocolError from error
            if isinstance(info, dict):
                await client._process_info(info)  # noqa: SLF001 - see ListClient
