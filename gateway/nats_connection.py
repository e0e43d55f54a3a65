"""One connection to NATS that comes back: what the source and the sink share.

The client's own reconnection is off, since it gives up for good on some errors (an authentication
that expires, for one): each connection has a fresh client, made here, with back-off.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import nats.errors
from nats.aio.client import Client
from pydantic import Field, SecretStr, field_validator

from gateway.config.records import AdapterConfig
from gateway.errors import GatewayError
from gateway.nats_client import CLIENT_ERRORS, Handler, ListClient, Pause, Refused
from gateway.nats_secrets import check_credentials, check_nkey
from gateway.tasks import Tasks
from gateway.tls import client_context

BACKOFF_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_ABSENT_SECONDS = 1.0
"""Longest pause while nobody is there, so that we are back soon after the server is."""
_CONNECT_SECONDS = 5
_PING_SECONDS = 20  # a dead peer shows after a minute; the server's own interval is two minutes

_log = logging.getLogger(__name__)

# A server that is down says no more with each attempt; what it says itself is worth a line.
_NOBODY_THERE: Final = (OSError, TimeoutError, EOFError, nats.errors.NoServersError)


class MissingError(nats.errors.Error):
    """What `attach` raises when only what the connection is for is missing; the text names it."""


class NatsServerConfig(AdapterConfig):
    """Where the NATS server is, and who we are."""

    url: str | list[str] = Field(
        "nats://127.0.0.1:4222", description="server, or servers of one cluster; tls:// demands TLS"
    )
    token: SecretStr | None = Field(None, description="authentication token")
    credentials: Path | None = Field(None, description=".creds file with the user's JWT and seed")
    nkey: Path | None = Field(None, description="file with the user's nkey seed")

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str | list[str]) -> str | list[str]:
        for url in [value] if isinstance(value, str) else value:
            parts = urlsplit(url)
            if parts.scheme not in {"nats", "tls"} or not parts.hostname:
                raise ValueError("expected nats://host:port or tls://host:port")
            if "@" in parts.netloc:
                raise ValueError(
                    "credentials do not belong in a URL: use username, password or token"
                )
        if not value:
            raise ValueError("expected at least one server")
        return value

    @property
    def urls(self) -> list[str]:
        """The servers, as a list."""
        return [self.url] if isinstance(self.url, str) else self.url

    @property
    def wants_tls(self) -> bool:
        """Whether a connection without TLS must not be used."""
        return self.tls is not None or any(url.startswith("tls:") for url in self.urls)


class ClientCallbacks(NamedTuple):
    """What an owner of a connection gives it.

    Attributes:
        attach: makes the subscriptions of a new connection; an error means another try.
        lost: the connection is gone.
        refused: the server refused a publish or a subscription; the text is its own.
        pause: awaited after each read; reading stops until it returns.
    """

    attach: Callable[[], Awaitable[None]]
    lost: Callable[[], None] = lambda: None
    refused: Refused = lambda _text: None
    pause: Pause | None = None


class NatsConnection:
    """A connection that is kept up from `open` to `close`."""

    def __init__(self, config: NatsServerConfig, callbacks: ClientCallbacks) -> None:
        self._config = config
        self.callbacks = callbacks
        self._tasks = Tasks(f"nats {config.name}")
        self._client: ListClient | None = None
        self._opened = asyncio.Event()
        self._fatal: GatewayError | None = None
        self._complaints: set[str] = set()
        self._is_absent = False  # the server, at the last attempt
        self._tells_refusals = False
        self._closed = False

    @property
    def client(self) -> Client:
        """nats-py's client of the present connection, for JetStream management only."""
        assert self._client is not None  # noqa: S101 - only used from `attach` on
        return self._client

    @property
    def is_up(self) -> bool:
        """Whether what is written now has a chance to arrive."""
        return self._client is not None and self._client.is_usable

    @property
    def max_payload(self) -> int:
        """Largest header block and body together, in bytes, by the server's word."""
        return self._client.max_payload if self._client is not None else 1 << 20

    def start(self) -> None:
        """Begin to connect, in the background.

        Raises:
            GatewayError: the certificate or the credentials can't be read.
        """
        self._connect_options()
        self._tasks.start(self._keep_up(), "connection")

    async def open(self) -> None:
        """Connect and attach; waits for a server that is down.

        Raises:
            GatewayError: the certificate or the credentials can't be read, or `attach` raised it.
        """
        self.start()
        await self.opened()

    async def opened(self) -> None:
        """Wait until the first connection is attached.

        Raises:
            GatewayError: `attach` raised it.
        """
        await self._opened.wait()
        if self._fatal is not None:
            raise self._fatal

    async def close(self) -> None:
        """Close for good; what was written before is flushed."""
        self._closed = True
        await self._tasks.close()
        client, self._client = self._client, None
        if client is not None:
            await client.discard()

    def subscribe(self, subject: str, handler: Handler, queue: str = "") -> int:
        """Subscribe on the present connection; `flush` makes sure that it was granted."""
        client = self._client
        assert client is not None  # noqa: S101 - only used from `attach` on
        sid = client.add_handler(handler)
        words = ["SUB", subject, queue, str(sid)] if queue else ["SUB", subject, str(sid)]
        self.write(" ".join(words).encode() + b"\r\n")
        return sid

    def unsubscribe(self, sid: int) -> None:
        """Ask for no more messages; those under way still come."""
        self.write(b"UNSUB %d\r\n" % sid)

    def inbox(self) -> str:
        """Return a subject nobody else has, to which a token may be appended."""
        return self.client.new_inbox()

    def write(self, data: bytes) -> bool:
        """Write protocol lines at once; returns whether there was a connection."""
        client = self._client
        if client is None or not client.is_usable:
            return False
        client.write(data)
        return True

    async def drain(self) -> None:
        """Wait until the socket has taken most of what was written.

        Raises:
            ConnectionError: the connection was lost.
        """
        if self._client is not None:
            await self._client.drain_writes()

    async def flush(self, seconds: float = 5) -> None:
        """Wait until the server has handled all that was written, and we all that it wrote before.

        Raises:
            nats.errors.Error: the connection was lost, or the server refused something meanwhile.
        """
        client = self._client
        if client is None or not client.is_usable:
            raise nats.errors.ConnectionClosedError
        client.refusal = ""
        pong = client.send_ping()
        async with asyncio.timeout(seconds):
            await asyncio.wait({pong, client.gone}, return_when=asyncio.FIRST_COMPLETED)
        if not pong.done():
            raise nats.errors.ConnectionClosedError
        if client.refusal:
            raise nats.errors.Error(client.refusal)

    async def _keep_up(self) -> None:
        attempt = 0
        loop = asyncio.get_running_loop()
        while not self._closed:  # nats-py swallows some cancellations, so one is not enough
            was_absent, self._is_absent = self._is_absent, False
            client = await self._connect()
            if was_absent and not self._is_absent:
                attempt = 0  # it has come back, and may need a moment
            if client is not None:
                began = loop.time()
                await self._serve(client)
                if loop.time() - began > BACKOFF_SECONDS[-1]:
                    attempt = 0  # it held; one that is lost at once must not be hammered
            if self._fatal is not None:
                self._opened.set()
                return
            pause = BACKOFF_SECONDS[min(attempt, len(BACKOFF_SECONDS) - 1)]
            await asyncio.sleep(min(pause, _ABSENT_SECONDS) if self._is_absent else pause)
            attempt += 1

    async def _connect(self) -> ListClient | None:
        """Return a client whose subscriptions are made, or None."""
        client = ListClient(
            wants_tls=self._config.wants_tls,
            refused=self._refused,
            pause=self.callbacks.pause,
        )
        attached = False
        try:
            # Read each time, as mounted secrets change.
            await client.connect(error_cb=client.on_error, **self._connect_options())
            self._client = client
            await self._attach(client)
            attached = not self._closed
        except MissingError as error:
            self._tell_missing(str(error))
        except CLIENT_ERRORS as error:
            cause = client.last_error or error
            self._is_absent = isinstance(cause, _NOBODY_THERE)
            self._complain(cause, client.last_text or str(cause) or type(cause).__name__)
        except GatewayError as error:
            self._complain(error, str(error))
            if not self._opened.is_set():
                self._fatal = error
        finally:
            if not attached:
                self._client = None
                await client.discard()
        return client if attached else None

    async def _attach(self, client: ListClient) -> None:
        """Make the subscriptions, or see that the connection is gone.

        nats-py waits for the answer to a request though there is nobody left to give it.
        """
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(None)

        def end(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # it has come to its end meanwhile
                limit.reschedule(loop.time())

        try:
            async with limit:
                client.gone.add_done_callback(end)
                try:
                    await self.callbacks.attach()
                finally:
                    client.gone.remove_done_callback(end)
        except TimeoutError:
            if limit.expired():
                raise nats.errors.ConnectionClosedError from None
            raise

    async def _serve(self, client: ListClient) -> None:
        _log.info("%s: connected to %s", self._config.name, client.peer)
        self._complaints.clear()
        self._tells_refusals = True
        self._opened.set()
        await asyncio.shield(client.gone)
        self._client = None
        self._tells_refusals = False
        text = client.last_text or "connection closed"
        _log.warning("%s: lost %s: %s", self._config.name, client.peer, text)
        self._complaints.add(text)
        self.callbacks.lost()
        await client.discard()

    def _refused(self, text: str) -> None:
        if self._tells_refusals:  # once for a connection: it may come for each message
            self._tells_refusals = False
            _log.warning("%s: refused by the server: %s", self._config.name, text)
        self.callbacks.refused(text)

    def _tell_missing(self, text: str) -> None:
        """Log once what is not there, and that it is waited for."""
        if text not in self._complaints:
            self._complaints.add(text)
            _log.warning(
                "%s: %s is not there yet; it is looked for again, at the latest after %.0f s",
                self._config.name, text, BACKOFF_SECONDS[-1],
            )  # fmt: skip

    def _complain(self, error: Exception, text: str) -> None:
        """Log why there is no connection: once, and again if the server itself says why."""
        news = not self._complaints or not isinstance(error, _NOBODY_THERE)
        if news and text not in self._complaints:
            self._complaints.add(text)
            servers = ", ".join(_host(url) for url in self._config.urls)
            _log.warning("%s: no connection to %s: %s", self._config.name, servers, text)

    def _connect_options(self) -> dict[str, Any]:
        config = self._config
        options: dict[str, Any] = {
            "servers": config.urls,
            "name": f"ce-gateway {config.name}",
            "allow_reconnect": False,
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0,
            "connect_timeout": _CONNECT_SECONDS,
            "ping_interval": _PING_SECONDS,
            "user": config.username,
            "password": config.password and config.password.get_secret_value(),
            "token": config.token and config.token.get_secret_value(),
        }
        if config.wants_tls:
            options["tls"] = client_context(config.tls)
        if config.credentials is not None:
            check_credentials(config.credentials)
            options["user_credentials"] = str(config.credentials)
        if config.nkey is not None:
            check_nkey(config.nkey)
            options["nkeys_seed"] = str(config.nkey)
        return options


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 4222}"
