"""The Kafka sink: events as records, through librdkafka's idempotent producer (acks=all)."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Final

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer

from bindings.binding import EVENT_MEDIA_TYPE, Message
from bindings.event import Event, canonical_text
from bindings.json_format import encode_event
from bindings.kafka import KAFKA
from gateway.config.records import SinkConfig
from gateway.delivery import Failure, Outcome, Reason
from gateway.errors import GatewayError
from gateway.sinks.kafka.config import (
    ONE_BY_ONE,
    KafkaSinkConfig,
    TopicTemplate,
    librdkafka_settings,
)
from gateway.sinks.kafka.producer import REFUSED, Batch, Client, failure_of
from gateway.tasks import Tasks
from gateway.throttle import Throttle
from gateway.tls import client_context

__all__ = ["KafkaSink", "KafkaSinkConfig"]

_log = logging.getLogger(__name__)

_Headers = list[tuple[str, str | bytes | None]]

_STRUCTURED: Final[_Headers] = [("content-type", EVENT_MEDIA_TYPE.encode())]
"""The headers of nearly every record."""
_ANY_PARTITION: Final = -1  # RD_KAFKA_PARTITION_UA of librdkafka's rdkafka.h
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
        self._fixed_topic = self._topic.fixed
        self._mode = config.mode
        self._key_name = config.key
        self._tasks = Tasks(f"sink {config.name}")
        self._clients: dict[tuple[float, bool], Client] = {}
        self._connected: bool | None = None  # None: not known yet
        self._trouble = "no answer in time"
        self._lines = Throttle()

    async def open(self) -> None:
        if self._config.tls is not None:
            client_context(self._config.tls)  # says which file is wrong; librdkafka does not
        self._client(self._config.timeout)

    async def send(
        self, events: Sequence[Event], timeout: float | None = None
    ) -> Sequence[Failure]:
        seconds = self._config.timeout if timeout is None else timeout
        failures: dict[int, Failure] = {}
        positions: Sequence[int] = range(len(events))
        while positions:
            batch = await self._send_some(self._client(seconds), events, positions, failures)
            if not batch.suspects:
                break
            # Whose fault was it? And then on with what was not sent because of it.
            suspects = [positions[index] for index in sorted(batch.suspects)]
            positions = [positions[index] for index in sorted(batch.swept)]
            for position in (*suspects, *positions):
                del failures[position]
            self._note_suspects(len(suspects))
            alone = self._client(seconds, one_by_one=True)
            await self._send_some(alone, events, suspects, failures)
        if len(failures) < len(events):
            self._note_connection(connected=True)
        elif any(f.reason in _UNANSWERED and f.status is None for f in failures.values()):
            self._note_connection(connected=False)
        return [failures[position] for position in sorted(failures)]

    async def _send_some(
        self,
        client: Client,
        events: Sequence[Event],
        positions: Sequence[int],
        failures: dict[int, Failure],
    ) -> Batch:
        """Send the events at these positions, and add to `failures`."""
        held: dict[str, int] = {}  # by key: the first position that has to be repeated
        for position in sorted(failures):
            if failures[position].outcome is Outcome.RELEASED:
                held.setdefault(events[position].key, position)

        batch = await client.run(len(positions), partial(self._produce, events, positions, held))
        for index, failure in batch.failures.items():
            position = positions[index]
            failures[position] = msgspec.structs.replace(failure, position=position)
        return batch

    def _produce(
        self,
        events: Sequence[Event],
        positions: Sequence[int],
        held: dict[str, int],
        producer: Producer,
        batch: Batch,
    ) -> None:
        """Hand the events at these positions over, from `batch.produced` on."""
        produce, reports = producer.produce, batch.reports
        fixed_topic, has_key = self._fixed_topic, self._key_name != "none"
        headers, is_structured = _STRUCTURED, self._mode == "structured"
        event, position = events[0], 0
        index = first = batch.produced
        try:
            for index in range(first, batch.size):
                position = positions[index]
                event = events[position]
                if held and held.get(event.key, position) < position:
                    batch.fail(index, Failure(index, Outcome.RELEASED, Reason.HELD))
                    continue
                topic = fixed_topic
                if topic is None:
                    try:
                        topic = self._topic.fill(event)
                    except ValueError as error:
                        batch.fail(index, Failure(index, *REFUSED, detail=str(error)))
                        continue
                value: bytes | None
                if is_structured:  # as KAFKA.encode does it
                    value = encode_event(event)
                else:
                    value, headers = _record_of(KAFKA.encode(event, "binary"))
                key = self._key(event) if has_key else None
                # By position, as the client takes half a microsecond to read keywords.
                produce(topic, value, key, _ANY_PARTITION, reports[index], None, 0, headers)
            index = batch.size
        except KafkaException as exception:
            if failure_of(index, exception.args[0]).outcome is Outcome.RELEASED:
                held.setdefault(event.key, position)  # librdkafka did not even queue it
            raise
        finally:
            batch.produced = index

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self._clients.values()))
        self._clients.clear()
        await self._tasks.close()

    def _key(self, event: Event) -> bytes | None:
        if self._key_name == "order":
            return event.key.encode()
        value = event.attributes().get(self._key_name)
        return None if value is None else canonical_text(value).encode()

    def _client(self, timeout: float, *, one_by_one: bool = False) -> Client:
        """Return the producer whose records time out after `timeout`: it has one time for all."""
        client = self._clients.get((timeout, one_by_one))
        if client is None:
            settings = librdkafka_settings(self._config, timeout)
            settings |= {
                "error_cb": self._on_error,
                "delivery.report.only.error": True,
                **(ONE_BY_ONE if one_by_one else {}),
            }
            try:
                client = Client(settings, self._config.linger, self._tasks)
            except KafkaException as exception:
                raise GatewayError(exception.args[0].str()) from exception
            self._clients[timeout, one_by_one] = client
        return client

    def _on_error(self, error: KafkaError) -> None:
        self._trouble = error.str()
        if error.code() in _HOPELESS:
            self._note_connection(connected=False)

    def _note_suspects(self, count: int) -> None:
        more = self._lines.pass_on("suspects", count)
        if more is not None:
            _log.warning(
                "sink %s: Kafka refused %d records of one batch, for one of them or for the size "
                "of all; they are sent one by one. If that comes often, set `batch.size` in "
                "`properties` to less than the topic's max.message.bytes%s",
                self._config.name,
                count,
                more,
                extra={"sink": self._config.name},
            )

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


def _record_of(message: Message) -> tuple[bytes | None, _Headers]:
    """Return a message's value and headers."""
    headers: _Headers = [*message.headers]
    if message.content_type:
        headers.append(("content-type", message.content_type))
    return message.payload, headers
