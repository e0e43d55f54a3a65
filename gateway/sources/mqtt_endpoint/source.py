"""The listener."""

import asyncio
import logging
import ssl
from typing import ClassVar

from gateway.config.records import Address
from gateway.errors import ListenError
from gateway.interfaces import Intake
from gateway.sources.mqtt_endpoint.config import MqttEndpointConfig
from gateway.sources.mqtt_endpoint.connection import Connection
from gateway.sources.mqtt_endpoint.session import Host
from gateway.tls import listener_context

_log = logging.getLogger(__name__)


class MqttEndpointSource:
    """Takes messages from devices that connect to it."""

    config_type: ClassVar = MqttEndpointConfig

    def __init__(self, config: MqttEndpointConfig) -> None:
        self._config = config
        self._host: Host | None = None
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> Address:
        """Where it listens, with the port that the system chose."""
        assert self._server is not None  # noqa: S101 - only after `open`
        host, port = self._server.sockets[0].getsockname()[:2]
        return Address(host, port)

    async def open(self, intake: Intake) -> None:
        config = self._config
        context: ssl.SSLContext | None = None
        if config.tls is not None:
            context = listener_context(config.tls)
        host = self._host = Host(config, intake)
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Connection(host),
                config.listen.host,
                config.listen.port,
                reuse_port=config.reuse_port,
                ssl=context,
                backlog=1024,
            )
        except OSError as error:
            raise ListenError(config.listen, error) from error
        scheme = "mqtt" if context is None else "mqtts"
        _log.info("listening on %s://%s", scheme, self.address, extra={"source": config.name})

    async def drain(self) -> None:
        """Disconnect each device once it has its answers (0x8B); refuse those that come (0x88)."""
        host = self._host
        if host is None:
            return
        host.draining = True
        host.backlog.close()
        connections = list(host.connections)
        for connection in connections:
            connection.drain()
        if connections:
            await asyncio.wait([connection.closed for connection in connections])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        host = self._host
        if host is None:
            return
        host.backlog.close()
        connections = list(host.connections)
        for connection in connections:
            connection.abort()
        if connections:
            await asyncio.wait([connection.closed for connection in connections])
        await host.tasks.close()
