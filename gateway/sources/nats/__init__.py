"""NATS source: core subjects, or a durable JetStream consumer that is pulled from."""

from gateway.interfaces import Intake
from gateway.sources.nats.config import NatsSourceConfig
from gateway.sources.nats.core import CoreSubscriber
from gateway.sources.nats.jetstream import JetStreamConsumer

__all__ = ["NatsSource", "NatsSourceConfig"]


class NatsSource:
    """Takes events from a NATS server: with `stream` at least once, else as core NATS does."""

    config_type = NatsSourceConfig

    def __init__(self, config: NatsSourceConfig) -> None:
        self._way = JetStreamConsumer(config) if config.stream else CoreSubscriber(config)

    async def open(self, intake: Intake) -> None:
        await self._way.open(intake)

    async def drain(self) -> None:
        await self._way.drain()

    async def close(self) -> None:
        await self._way.close()
