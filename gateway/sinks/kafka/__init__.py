"""The Kafka sink: events as records, through librdkafka's idempotent producer (acks=all)."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from bindings.event import Event, canonical_text
from bindings.kafka import KAFKA
from gateway.config.records import SinkConfig
from gateway.delivery import Failure, Outcome, Reason
from gateway.errors import GatewayError
from gateway.sinks.kafka.config import KafkaSinkConfig, TopicTemplate, librdkafka_settings
from gateway.sinks.kafka.producer import REFUSED, Batch, Client, failure_of
from gateway.tasks import Tasks
from gateway.tls import client_context

__all__ = ["KafkaSink", "KafkaSinkConfig"]

_log = logging.getLogger(__name__)

Report = Callable[[KafkaError | None, object], None]

_UNANSWERED: Final = {Reason.TIMEOUT, Reason.SINK_DOWN}

# Errors of a connection that another attempt does not mend.
_HOPELESS: Final = frozenset(
    {
        KafkaError._AUTHENTICATION,  # noqa: SLF001 - the library's public name for a local error
        KafkaError._SSL,  # noqa: SLF001 - as above
    }
)


class KafkaSink:
    """A sink of records (see the module)."""

    config_type: ClassVar[type[SinkConfig]] = KafkaSinkConfig

    def __init__(self, config: KafkaSinkConfig) -> None:
        self._config = config
        self._topic = TopicTemplate(config.topic)
        self._tasks = Tasks(f"sink {config.name}")
        self._clients: dict[float, Client] = {}
        self._connected: bool | None = None  # None: not known yet
        self._trouble = "no answer in time"

    async def open(self) -> None:
        if self._config.tls is not None:
            client_context(self._config.tls)  # says which file is wrong; librdkafka does not
        self._client(self._config.timeout)

    async def send(
        self, events: Sequence[Event], timeout: float | None = None
    ) -> Sequence[Failure]:
        held: set[str] = set()  # keys of events that librdkafka would not even queue

        def produce(producer: Producer, batch: Batch, position: int) -> None:
            event = events[position]
            if held and event.key in held:
                batch.settle(position, Failure(position, Outcome.RELEASED, Reason.HELD))
                return
            try:
                topic = self._topic.fill(event)
            except ValueError as error:
                batch.settle(position, Failure(position, *REFUSED, detail=str(error)))
                return
            try:
                self._produce(producer, topic, event, partial(batch.report, position))
            except KafkaException as exception:
                if failure_of(position, exception.args[0]).outcome is Outcome.RELEASED:
                    held.add(event.key)
                raise

        client = self._client(self._config.timeout if timeout is None else timeout)
        failures = await client.send(len(events), produce)
        if len(failures) < len(events):
            self._note_connection(connected=True)
        elif any(f.reason in _UNANSWERED and f.status is None for f in failures):
            self._note_connection(connected=False)
        return failures

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self._clients.values()))
        self._clients.clear()
        await self._tasks.close()

    def _produce(self, producer: Producer, topic: str, event: Event, report: Report) -> None:
        message = KAFKA.encode(event, self._config.mode)
        headers: list[tuple[str, str | bytes | None]] = [*message.headers]
        if message.content_type:
            headers.append(("content-type", message.content_type))
        producer.produce(
            topic, message.payload, self._key(event), on_delivery=report, headers=headers
        )

    def _key(self, event: Event) -> bytes | None:
        name = self._config.key
        if name == "none":
            return None
        if name == "order":
            return event.key.encode()
        value = event.attributes().get(name)
        return None if value is None else canonical_text(value).encode()

    def _client(self, timeout: float) -> Client:
        """Return the producer whose records time out after `timeout`: it has one time for all."""
        client = self._clients.get(timeout)
        if client is None:
            settings = librdkafka_settings(self._config, timeout)
            settings["error_cb"] = self._on_error
            try:
                client = Client(settings, self._config.linger, self._tasks)
            except KafkaException as exception:
                raise GatewayError(exception.args[0].str()) from exception
            self._clients[timeout] = client
        return client

    def _on_error(self, error: KafkaError) -> None:
        self._trouble = error.str()
        if error.code() in _HOPELESS:
            self._note_connection(connected=False)

    def _note_connection(self, *, connected: bool) -> None:
        """Log a change, once. Brokers close idle connections: what counts is what gets through."""
        if connected is self._connected:
            return
        self._connected = connected
        name, servers = self._config.name, self._config.bootstrap_servers
        extra = {"sink": name}
        if connected:
            _log.info("sink %s is connected to Kafka at %s", name, servers, extra=extra)
        else:
            _log.warning(
                "sink %s has no connection to Kafka at %s: %s",
                name,
                servers,
                self._trouble,
                extra=extra,
            )
