"""The Kafka sink: events as records, through librdkafka's idempotent producer (acks=all)."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from bindings.event import Event, canonical_text
from bindings.kafka import KAFKA
from gateway.config.records import SinkConfig
from gateway.delivery import Failure, Outcome, Reason
from gateway.errors import GatewayError
from gateway.sinks.kafka.config import KafkaSinkConfig, TopicTemplate
from gateway.sinks.kafka.producer import REFUSED, Batch, Client, failure_of
from gateway.tasks import Tasks
from gateway.tls import client_context

__all__ = ["KafkaSink", "KafkaSinkConfig"]

_log = logging.getLogger(__name__)
_librdkafka = logging.getLogger(f"{__name__}.librdkafka")
_silent = _librdkafka.getChild("unasked")  # it logs each attempt to connect
_silent.setLevel(logging.CRITICAL + 1)

# Errors of the client that mean that nothing can get through.
_LOST: Final = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001 - as above
        KafkaError._AUTHENTICATION,  # noqa: SLF001 - as above
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

    async def open(self) -> None:
        client_context(self._config.tls)  # says which file is wrong; librdkafka does not
        self._client(self._config.timeout)

    async def send(
        self, events: Sequence[Event], timeout: float | None = None
    ) -> Sequence[Failure]:
        held: set[str] = set()

        def produce(producer: Producer, batch: Batch, position: int) -> None:
            event = events[position]
            failure = (
                Failure(position, Outcome.RELEASED, Reason.HELD)
                if held and event.key in held
                else self._produce(producer, event, partial(batch.report, position), position)
            )
            if failure is not None:
                batch.settle(position, failure)
                if failure.outcome is Outcome.RELEASED:
                    held.add(event.key)

        client = self._client(self._config.timeout if timeout is None else timeout)
        failures = await client.send(len(events), produce)
        if len(failures) < len(events) and not self._connected:
            self._connected = True
            _log.info(
                "sink %s is connected to Kafka at %s",
                self._config.name,
                self._config.bootstrap_servers,
                extra={"sink": self._config.name},
            )
        return failures

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self._clients.values()))
        self._clients.clear()
        await self._tasks.close()

    def _produce(
        self,
        producer: Producer,
        event: Event,
        report: Callable[[KafkaError | None, object], None],
        position: int,
    ) -> Failure | None:
        """Hand one event to librdkafka; return a failure when it refuses it at once.

        Raises:
            BufferError: there is no room now.
            KafkaException: the producer has failed for good.
        """
        config = self._config
        try:
            topic = self._topic.fill(event)
        except ValueError as error:
            return Failure(position, *REFUSED, detail=str(error))
        message = KAFKA.encode(event, config.mode)
        headers: list[tuple[str, str | bytes | None]] = [
            (name, value.encode()) for name, value in message.headers
        ]
        if message.content_type:
            headers.append(("content-type", message.content_type.encode()))
        try:
            producer.produce(
                topic,
                message.payload,
                self._key(event),
                on_delivery=report,
                headers=headers,
            )
        except KafkaException as exception:
            cause = exception.args[0]
            if cause.fatal() or cause.code() == KafkaError._FATAL:  # noqa: SLF001 - as above
                raise
            return failure_of(position, cause)
        return None

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
            settings = self._settings(timeout)
            try:
                client = Client(settings, self._config.linger, self._tasks)
            except KafkaException as exception:
                raise GatewayError(
                    f"sink {self._config.name}: {exception.args[0].str()}"
                ) from exception
            self._clients[timeout] = client
        return client

    def _settings(self, timeout: float) -> dict[str, Any]:
        config = self._config
        milliseconds = max(1, round(timeout * 1000))
        settings: dict[str, Any] = {
            "client.id": "ce-gateway",
            "partitioner": "murmur2_random",  # the Java client's, so that keys meet in partitions
            "socket.keepalive.enable": True,
            "reconnect.backoff.max.ms": 2000,
            **config.properties,
            "bootstrap.servers": config.bootstrap_servers,
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": config.compression,
            "linger.ms": min(config.linger * 1000, milliseconds - 1),
            "delivery.timeout.ms": milliseconds,
            "security.protocol": "SSL" if config.tls else "PLAINTEXT",
            "error_cb": self._on_error,
            "logger": _librdkafka if config.properties.keys() & {"debug", "log_level"} else _silent,
        }
        if config.username is not None:
            settings["security.protocol"] = "SASL_SSL" if config.tls else "SASL_PLAINTEXT"
            settings["sasl.mechanism"] = config.sasl_mechanism
            settings["sasl.username"] = config.username
            settings["sasl.password"] = (
                config.password.get_secret_value() if config.password else ""
            )
        if config.tls:
            settings["enable.ssl.certificate.verification"] = config.tls.verify is not False
            files = {
                "ssl.ca.location": config.tls.ca,
                "ssl.certificate.location": config.tls.cert,
                "ssl.key.location": config.tls.key or config.tls.cert,
            }
            settings.update({name: str(path) for name, path in files.items() if path is not None})
        return settings

    def _on_error(self, error: KafkaError) -> None:
        if error.code() not in _LOST or self._connected is False:
            return
        self._connected = False
        _log.warning(
            "sink %s has no connection to Kafka at %s: %s",
            self._config.name,
            self._config.bootstrap_servers,
            error.str(),
            extra={"sink": self._config.name},
        )
