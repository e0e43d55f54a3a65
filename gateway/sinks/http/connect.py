"""How connections are made: TCP, TLS, and the version of HTTP.

Over TLS the server picks the version (ALPN); over plain TCP HTTP/2 is spoken where the
configuration says so (RFC 9113 3.3, "prior knowledge", also known as h2c).
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, Protocol, cast

import msgspec

from bindings.wire.http2 import RequestEncoder
from gateway.sinks.http import h2, pipelined
from gateway.sinks.http.config import HttpVersion
from gateway.sinks.http.connection import Connection
from gateway.sinks.http.h2 import Http2Connection
from gateway.sinks.http.pipelined import PipelinedConnection

SharedConnection = Http2Connection | PipelinedConnection
"""A connection that several requests may be under way on."""

_ALPN: Final[dict[HttpVersion, list[str]]] = {"auto": ["h2", "http/1.1"], "2": ["h2"]}


class Endpoint(msgspec.Struct, frozen=True):
    """Where connections go.

    Attributes:
        host: name or address; resolved for each connection.
        port: TCP port.
        tls: returns the context for a new connection, with `offer_versions` done; None is plain.
        version: of HTTP; auto is what a TLS server picks, and 1.1 over plain TCP.
        pipelining: most requests under way on a connection of HTTP/1.1.
    """

    host: str
    port: int
    tls: Callable[[], ssl.SSLContext] | None = None
    version: HttpVersion = "1.1"
    pipelining: int = 1

    @property
    def may_multiplex(self) -> bool:
        """Whether several requests may be under way on a connection."""
        may_be_2 = self.version == "2" or (self.version == "auto" and self.tls is not None)
        return may_be_2 or self.pipelining > 1


class Owner(pipelined.Owner, h2.Owner, Protocol):
    """The pool, as every connection sees it."""

    def opened(self, connection: Connection | SharedConnection) -> None:
        """Count a connection that stands."""

    def lost(self, connection: Connection | SharedConnection) -> None:
        """Forget a connection."""

    def retire(self, connection: SharedConnection) -> None:
        """Give a connection no more requests."""


def offer_versions(context: ssl.SSLContext, version: HttpVersion) -> None:
    """Have a TLS context offer what may be spoken."""
    if version in _ALPN:
        context.set_alpn_protocols(_ALPN[version])


class _Negotiation(asyncio.Protocol):
    """The moment between a connection that stands and the protocol that it speaks."""

    def __init__(self, endpoint: Endpoint, pool: Owner, encoder: RequestEncoder) -> None:
        self._endpoint = endpoint
        self._pool = pool
        self._encoder = encoder
        self.chosen: Connection | SharedConnection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        version: str | None = self._endpoint.version
        if self._endpoint.tls is not None:
            version = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        if version in ("2", "h2"):
            self.chosen = Http2Connection(self._pool, self._encoder)
        elif self._endpoint.version == "2":
            cast("asyncio.Transport", transport).abort()
            return
        elif self._endpoint.pipelining > 1:
            self.chosen = PipelinedConnection(self._pool, self._endpoint.pipelining)
        else:
            self.chosen = Connection(self._pool)
        cast("asyncio.Transport", transport).set_protocol(cast("asyncio.Protocol", self.chosen))
        self.chosen.connection_made(transport)


async def connect(
    endpoint: Endpoint, pool: Owner, encoder: RequestEncoder
) -> Connection | SharedConnection:
    """Return a new connection that is ready for requests.

    Raises:
        OSError: there is none, or it does not speak the version that it has to.
        GatewayError: a certificate is wrong.
    """
    context = endpoint.tls() if endpoint.tls is not None else None
    negotiation = _Negotiation(endpoint, pool, encoder)
    try:
        await asyncio.get_running_loop().create_connection(
            lambda: negotiation,
            endpoint.host,
            endpoint.port,
            ssl=context,
            server_hostname=endpoint.host if context is not None else None,
        )
    except asyncio.CancelledError:
        if negotiation.chosen is not None:  # uvloop closes it, and never tells it
            negotiation.chosen.abort()
            pool.lost(negotiation.chosen)
        raise
    connection = negotiation.chosen
    if connection is None:
        raise ConnectionError("the sink does not offer HTTP/2 (ALPN h2)")
    if isinstance(connection, Http2Connection):
        await connection.settled()
    return connection
