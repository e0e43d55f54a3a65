"""The listeners for CoAP over TCP, TLS and WebSockets (RFC 8323), and what they share."""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from gateway.config.records import Address
from gateway.errors import ListenError
from gateway.interfaces import Intake
from gateway.sources.coap.config import CoapSourceConfig
from gateway.sources.coap.connection import CLOSE_SECONDS, Connection
from gateway.sources.coap.exchange import Exchange
from gateway.sources.coap.handover import Batch
from gateway.sources.coap.listener import bound_address, open_stream_socket
from gateway.sources.coap.requests import Requests
from gateway.tls import listener_context

_MESSAGE_OVERHEAD: Final = 2048
"""What a message may have beside its payload: header and options (binding section 11)."""
_LEAST_MAX_MESSAGE_BYTES: Final = 65536 + _MESSAGE_OVERHEAD


class Streams:
    """The listeners for connections of one source, and what their connections share."""

    # What aiocoap's connection asks of the object that it belongs to.
    _scheme = "coap+tcp"
    _default_port = 5683

    def __init__(self, config: CoapSourceConfig, requests: Requests, intake: Intake) -> None:
        self.config = config
        self.requests = requests
        self.intake = intake
        self.loop = asyncio.get_running_loop()
        self.draining = False
        self.addresses: dict[str, Address] = {}
        limits = [route.max_event_bytes or 0 for route in config.routes.values()]
        self.max_message_bytes = max(
            _LEAST_MAX_MESSAGE_BYTES,
            max(config.limits.max_event_bytes, *limits) + _MESSAGE_OVERHEAD,
        )
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._count = 0
        self._none_left = asyncio.Event()
        self._none_left.set()
        self._unsettled: deque[tuple[float, Exchange, Connection]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Start to listen.

        Raises:
            GatewayError: a port is taken, or a file of the `tls` table does not fit.
        """
        config = self.config
        plain = partial(Connection, self)
        if config.listen_tcp is not None:
            await self._listen("coap+tcp", config.listen_tcp, plain, None)
        if config.listen_tls is not None:
            await self._listen("coaps+tcp", config.listen_tls, plain, self._context("coap"))
        if config.listen_ws is None and config.listen_wss is None:
            return
        # Only here, as the library takes 4 MB.
        from gateway.sources.coap.websockets import WebSocket  # noqa: PLC0415 - see above

        framed = partial(WebSocket, self)
        if config.listen_ws is not None:
            await self._listen("coap+ws", config.listen_ws, framed, None)
        if config.listen_wss is not None:
            await self._listen("coaps+ws", config.listen_wss, framed, self._context("http/1.1"))

    def _context(self, protocol: str) -> ssl.SSLContext:
        assert self.config.tls is not None  # noqa: S101 - for the type checker
        context = listener_context(self.config.tls)
        context.set_alpn_protocols([protocol])  # RFC 8323 8.2
        return context

    async def _listen(
        self,
        scheme: str,
        listen: Address,
        protocol: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext | None,
    ) -> None:
        listener = await open_stream_socket(listen, reuse_port=self.config.reuse_port)
        try:
            server = await self.loop.create_server(
                protocol,
                sock=listener,
                backlog=1024,
                ssl=context,
                ssl_handshake_timeout=self.config.message_timeout if context else None,
                ssl_shutdown_timeout=CLOSE_SECONDS if context else None,
            )
        except OSError as error:
            listener.close()
            raise ListenError(listen, error) from error
        self._servers.append(server)
        self.addresses[scheme] = bound_address(listener)

    def drain(self) -> None:
        """Refuse every new request."""
        self.draining = True
        for connection in list(self._connections):
            connection.process()

    async def close(self) -> None:
        """Release every connection (7.04) and end."""
        self.draining = True
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            await connection.leave()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._none_left.wait()
        for connection in list(self._connections):
            connection.drop()
        await self._none_left.wait()
        for server in self._servers:
            await server.wait_closed()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- for connections ----------------------------------------------------------------------

    def connected(self, connection: Connection) -> int | None:
        """Return the connection's number; None when there are too many."""
        if len(self._connections) >= self.config.max_connections:
            self.intake.rejected("too_many_connections", "a connection was closed unanswered")
            return None
        self._connections.add(connection)
        self._none_left.clear()
        self._count += 1
        return self._count

    def _dispatch_error(self, connection: Connection, _error: Exception | None) -> None:
        """Forget a connection that is lost: what aiocoap calls then."""
        self._connections.discard(connection)
        self.requests.assemblies.drop_all(connection.address)
        if not self._connections:
            self._none_left.set()

    def knows(self, connection: Connection) -> bool:
        """Whether the connection has not been lost."""
        return connection in self._connections

    def wait_for(self, batch: Batch, connection: Connection, now: float) -> None:
        """Answer 5.04 to what of a batch is not settled in time."""
        queue = self._unsettled
        while queue and not queue[0][1].pending:
            queue.popleft()
        deadline = now + self.config.sink_timeout
        queue.extend(
            (deadline, each.exchange, connection) for each in batch if each.exchange.pending
        )
        if queue and self._timer is None:
            self._timer = self.loop.call_at(queue[0][0], self._time_out)

    def _time_out(self) -> None:
        self._timer = None
        now = self.loop.time()
        queue = self._unsettled
        while queue and (queue[0][0] <= now or not queue[0][1].pending):
            _, exchange, connection = queue.popleft()
            if exchange.pending:
                connection.finish(exchange, exchange.timed_out())
        if queue:
            self._timer = self.loop.call_at(queue[0][0], self._time_out)
