"""The HTTP source: opens the port, drains, closes."""

import asyncio
import logging
from typing import ClassVar, cast

from gateway.config.records import Address
from gateway.errors import ListenError
from gateway.interfaces import Intake
from gateway.sources.http.config import HttpSourceConfig
from gateway.sources.http.connection import Connection
from gateway.sources.http.listener import Listener
from gateway.tls import listener_context

_log = logging.getLogger(__name__)


class HttpSource:
    """Takes events by HTTP/1.1 POST; a message is answered when its events are settled."""

    config_type: ClassVar[type[HttpSourceConfig]] = HttpSourceConfig

    def __init__(self, config: HttpSourceConfig) -> None:
        self._config = config
        self._listener: Listener | None = None
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> Address:
        """Where it listens; with the port that the system chose if the configured one is 0."""
        if self._server is None or not self._server.sockets:
            return self._config.listen
        return Address(self._config.listen.host, self._server.sockets[0].getsockname()[1])

    async def open(self, intake: Intake) -> None:
        config = self._config
        context = listener_context(config.tls) if config.tls is not None else None
        listener = self._listener = Listener(config, intake)
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: cast("asyncio.Protocol", Connection(listener)),
                config.listen.host,
                config.listen.port,
                reuse_port=config.reuse_port,
                ssl=context,
                ssl_handshake_timeout=config.header_timeout if context else None,
                backlog=1024,
            )
        except OSError as error:
            raise ListenError(config.listen, error) from error
        scheme = "http" if context is None else "https"
        _log.info("listening on %s://%s", scheme, self.address, extra={"source": config.name})

    async def drain(self) -> None:
        if self._listener is not None:
            self._stop_taking(self._listener)
            await self._listener.drained()

    async def close(self) -> None:
        if self._listener is not None:
            self._stop_taking(self._listener)
            await self._listener.close()
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    def _stop_taking(self, listener: Listener) -> None:
        if self._server is not None:
            self._server.close()
        listener.drain()
