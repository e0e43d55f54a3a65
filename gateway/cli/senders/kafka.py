"""`ce-gateway send kafka://...`: a record for each message, over the Kafka sink's producer."""

import contextlib
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from confluent_kafka import KafkaError, KafkaException, Producer
from pydantic import ValidationError

from bindings.binding import Message
from bindings.event import Event, canonical_text
from bindings.kafka import KAFKA
from gateway.cli.senders import Plain, SendError, SendOptions
from gateway.config.records import TlsConfig
from gateway.errors import GatewayError
from gateway.sinks.kafka.batch import Batch
from gateway.sinks.kafka.config import KafkaSinkConfig, librdkafka_settings
from gateway.sinks.kafka.producer import Client
from gateway.tasks import Tasks
from gateway.tls import client_context


class KafkaSender:
    """Sends to the topic in the URL's path: `kafka://[USER:PASSWORD@]HOST:PORT/TOPIC`.

    An event's `partitionkey` is the record's key. `?tls=true` asks for TLS where no file of it is
    named, `?sasl_mechanism=SCRAM-SHA-512` for another way to show the password than PLAIN.
    """

    def __init__(self, url: str, options: SendOptions) -> None:
        parts = urlsplit(url)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        hosts = parts.netloc.rpartition("@")[2]
        table: dict[str, Any] = {
            "protocol": "kafka",
            "bootstrap_servers": hosts if ":" in hosts else f"{hosts or 'localhost'}:9092",
            "topic": unquote(parts.path.strip("/")),
            "username": options.username or (parts.username and unquote(parts.username)),
            "password": options.password or (parts.password and unquote(parts.password)),
            "timeout": options.timeout,
        }
        tls = query.pop("tls", "false") == "true"
        if tls or options.ca or options.cert or options.insecure:
            table["tls"] = TlsConfig(
                ca=options.ca, cert=options.cert, key=options.key, verify=not options.insecure
            )
        if not table["topic"]:
            raise SendError("no topic: write kafka://HOST:PORT/TOPIC")
        try:
            self._config = KafkaSinkConfig(**table, **query)
        except ValidationError as error:
            first = error.errors()[0]
            raise SendError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        self._mode = options.mode
        self._tasks = Tasks("send")
        self._client: Client | None = None
        self._words = ""

    async def open(self) -> None:
        settings = librdkafka_settings(self._config, self._config.timeout)
        settings["error_cb"] = self._on_error
        try:
            if self._config.tls is not None:
                client_context(self._config.tls)  # says which file is wrong; librdkafka does not
            self._client = Client(settings, self._config.linger, self._tasks)
        except (GatewayError, KafkaException) as error:
            raise SendError(str(error)) from error

    async def send(self, message: Event | Plain) -> str:
        client = self._client
        if client is None:
            raise SendError("not connected")
        key = None
        if isinstance(message, Plain):
            record = Message(message.payload, message.content_type)
        else:
            record = KAFKA.encode(message, self._mode)
            with contextlib.suppress(KeyError):
                key = canonical_text(message.extensions["partitionkey"]).encode()
        headers: list[tuple[str, str | bytes | None]] = [*record.headers]
        if record.content_type:
            headers.append(("content-type", record.content_type))
        answer = ""

        def produce(producer: Producer, batch: Batch) -> None:
            take = batch.reports[0]

            def report(error: KafkaError | None, sent: Any) -> None:
                nonlocal answer
                if error is None:
                    answer = f"{sent.topic()} [{sent.partition()}] offset {sent.offset()}"
                take(error, sent)

            producer.produce(
                self._config.topic, record.payload, key, headers=headers, on_delivery=report
            )
            batch.produced = 1

        failures = (await client.run(1, produce)).failures
        if failures:
            detail = failures[0].detail
            raise SendError(f"{detail} ({self._words})" if self._words else detail)
        return answer

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
        await self._tasks.close()

    def _on_error(self, error: KafkaError) -> None:
        # That all brokers are down follows from the trouble with each, which tells more.
        if not self._words or error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - no other name
            self._words = error.str()
