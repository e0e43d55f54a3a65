"""Consent by callback: a receiver's GET or POST on an address of ours (http-webhook.md 4.1.3)."""

import asyncio
import hmac
import logging
import secrets
import time
from typing import Final, Protocol, cast
from urllib.parse import parse_qs, quote, urlsplit

import httptools

from bindings.wire.http1 import format_date, response_head
from gateway.config.records import Address
from gateway.errors import ListenError
from gateway.sinks.http.webhook_config import CallbackConfig
from gateway.tls import listener_context

_log = logging.getLogger(__name__)

_SECONDS: Final = 10.0
"""From the connection to its end."""
_MAX_BYTES: Final = 16_384
_MAX_CONNECTIONS: Final = 64


class Permission(Protocol):
    """Who wants to know of consent."""

    def granted_by_callback(self, rate: str | None) -> bool:
        """Take consent; returns whether `rate`, WebHook-Allowed-Rate, is one."""


class CallbackListener:
    """Listens for consent. Each address that was handed out grants once."""

    def __init__(self, name: str, config: CallbackConfig, permission: Permission) -> None:
        self._name = name
        self._config = config
        self._permission = permission
        self._key = ""
        self._server: asyncio.Server | None = None
        self.connections: set[_Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def address(self) -> Address:
        """Where it listens."""
        if self._server is None or not self._server.sockets:
            return self._config.listen
        return Address(self._config.listen.host, self._server.sockets[0].getsockname()[1])

    async def open(self) -> None:
        """Bind the port.

        Raises:
            GatewayError: it is taken, or the certificate is wrong.
        """
        listen, tls = self._config.listen, self._config.tls
        context = listener_context(tls) if tls is not None else None
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: _Connection(self),
                listen.host,
                listen.port,
                ssl=context,
                ssl_handshake_timeout=_SECONDS if context else None,
            )
        except OSError as error:
            raise ListenError(listen, error) from error
        _log.info("listening for consent on %s", self.address, extra={"sink": self._name})

    async def close(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
            for connection in tuple(self.connections):
                connection.abort()
            await self._empty.wait()
            await self._server.wait_closed()
            self._server = None

    def url(self) -> str:
        """Return the address that grants; the same until it has been used."""
        self._key = self._key or secrets.token_urlsafe(32)
        separator = "&" if "?" in self._config.url else "?"
        return f"{self._config.url}{separator}id={quote(self._name, safe='')}&key={self._key}"

    def answer(self, method: bytes, target: bytes, rate: str | None) -> tuple[int, str]:
        """Return status and text of the answer to a request."""
        if method not in (b"GET", b"POST"):
            return 405, "consent is given by GET or POST"
        keys = parse_qs(urlsplit(target.decode("latin-1")).query).get("key", [])
        shown = keys[0].encode("utf-8", "replace") if len(keys) == 1 else b""
        if not self._key or not hmac.compare_digest(shown, self._key.encode()):
            return 403, "this address grants nothing, or has been used"
        if not self._permission.granted_by_callback(rate):
            return 400, "WebHook-Allowed-Rate is neither * nor a positive integer"
        self._key = ""
        return 200, "events may be sent now"

    def joined(self, connection: "_Connection") -> bool:
        """Add a connection; returns whether there is room for it."""
        self.connections.add(connection)
        self._empty.clear()
        return len(self.connections) <= _MAX_CONNECTIONS

    def left(self, connection: "_Connection") -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()


class _Connection(asyncio.Protocol):
    """One request and its answer."""

    def __init__(self, listener: CallbackListener) -> None:
        self._listener = listener
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._received = 0
        self._target = b""
        self._rates: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        # Not earlier: a timer that is over before there is a transport would drop nothing.
        self._timer = asyncio.get_running_loop().call_later(_SECONDS, self.abort)
        if not self._listener.joined(self):
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the interface's
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None
        self._listener.left(self)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._transport is None or self._transport.is_closing():
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._reply(400, "no upgrade here")
        except httptools.HttpParserError:
            self._reply(400, "malformed HTTP request")
        if self._received > _MAX_BYTES:
            self.abort()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"webhook-allowed-rate":
            self._rates.append(value.decode("latin-1").strip(" \t"))

    def on_message_complete(self) -> None:
        rate = ", ".join(self._rates) if self._rates else None
        self._reply(*self._listener.answer(self._parser.get_method(), self._target, rate))

    def _reply(self, status: int, text: str) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        body = f"{text}\n".encode()
        fields = [
            ("Date", format_date(time.time())),
            ("Connection", "close"),
            ("Cache-Control", "no-store"),
            ("Content-Type", "text/plain; charset=utf-8"),
        ]
        if status == 405:
            fields.append(("Allow", "GET, POST"))
        transport.write(response_head(status, fields, len(body)) + body)
        transport.close()
