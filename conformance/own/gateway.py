"""A whole gateway of ours: every source that needs no broker of its own, and every sink.

Sources, pipeline and sinks run in this process, towards an HTTP server of the suite and a
nats-server of its own; towards Kafka if the environment names one in KAFKA_BOOTSTRAP_SERVERS. One
route leads everywhere, so that each message has to be sent once for all sinks.
"""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final
from uuid import uuid4

import msgspec
import yaml

from bindings.binding import ContentMode, Message
from conformance.check import CheckFailed, Unsupported
from conformance.forms import WireEvent
from conformance.peers.dialogue import dialogue
from conformance.peers.http_server import HttpServer
from conformance.peers.kafka import KafkaReader, Record
from conformance.peers.nats import NatsClient, Received
from conformance.reference.carrier import Carrier
from conformance.reference.delivered import read_delivery
from gateway import assembly
from gateway.config.loader import load
from gateway.embedded_nats import EmbeddedNats
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.target import Target

_LISTEN: Final = "127.0.0.1:0"
_ROUTES: Final = {
    "/ce": {"source_policy": "any"},
    "/ce/s": {"mode": "structured", "source_policy": "any"},
}
_SECONDS: Final = 10.0


class Arrival(msgspec.Struct, frozen=True):
    """What came out of a sink.

    Attributes:
        event: as the suite's own reader has it.
        key: of a Kafka record.
    """

    event: WireEvent
    key: bytes | None = None


class OwnGateway:
    """A gateway under test, with what stands around it."""

    title = "cloudevents-gateway"

    def __init__(self) -> None:
        self._urls: dict[str, str] = {}
        self._server = HttpServer()
        self._nats: NatsClient
        self._kafka: dict[str, KafkaReader] = {}
        self._sent: dict[str, CheckFailed | None] = {}
        self._arrived: dict[tuple[str, str], list[Arrival]] = {}
        self._seen = 0
        self._records = dict.fromkeys(("kafka-binary", "kafka-structured"), 0)

    async def carry(self, way: str, mode: ContentMode, name: str, event: WireEvent) -> None:
        """Send an event in, unless it has been, and wait until it is acknowledged.

        Args:
            way: how (`conformance.peers.dialogue`).
            mode: in which content mode.
            name: of the event; its source says so too.
            event: what to send.

        Raises:
            CheckFailed: it was refused.
        """
        source = source_of(way, mode, name)
        if source not in self._sent:
            self._sent[source] = None
            try:
                await self._send(way, Carrier(_BINDINGS.get(way, way), mode), event)
            except CheckFailed as failed:
                self._sent[source] = failed
            await self._collect()
        failure = self._sent[source]
        if failure is not None:
            raise failure

    def arrivals(self, sink: str, source: str) -> Sequence[Arrival]:
        """Return what came out of a sink with that source.

        Raises:
            Unsupported: there is no such sink here.
        """
        if sink.startswith("kafka") and not self._kafka:
            raise Unsupported("no Kafka broker: KAFKA_BOOTSTRAP_SERVERS=host:port names one")
        return self._arrived.get((sink, source), [])

    async def _send(self, way: str, carrier: Carrier, event: WireEvent) -> None:
        url = self._urls[way]
        if way == "coap" and carrier.mode == "structured":
            url += "/s"
        async with dialogue(way, url) as talk:
            sent = talk.send(carrier.write(event))
            answer = await talk.answer(_SECONDS)
        if answer.word != "yes":
            raise CheckFailed(
                "it was not taken", expected="yes", got=answer.text, reproduce=sent[:4000]
            )

    async def _collect(self) -> None:
        """Take what has come out; an acknowledgement means that every sink has it."""
        requests = await self._server.requests(self._seen)
        for request in requests[self._seen :]:
            for event in read_delivery(request):
                self._put(request.target.strip("/"), event)
        self._seen = len(requests)
        await self._nats.flush()
        while self._nats.has_kept("out."):
            received = await self._nats.receive("out.")
            self._put(*_of_nats(received))
        for sink, reader in self._kafka.items():
            records = await reader.wait(self._records[sink] + 1)
            for record in records[self._records[sink] :]:
                self._put(sink, _of_kafka(sink, record), record.key)
            self._records[sink] = len(records)

    def _put(self, sink: str, event: WireEvent, key: bytes | None = None) -> None:
        source = str(event.attributes.get("source"))
        self._arrived.setdefault((sink, source), []).append(Arrival(event, key))

    async def open(self, stack: AsyncExitStack) -> None:
        """Start everything; `stack` ends it."""
        await stack.enter_async_context(self._server)
        nats_server = EmbeddedNats(port=0)
        await nats_server.start()
        stack.push_async_callback(nats_server.stop)
        self._nats = await stack.enter_async_context(NatsClient(nats_server.url))
        for name in ("IN", "OUT"):
            stream = {"name": name, "subjects": [f"{name.lower()}.>"], "storage": "memory"}
            await self._nats.ask(f"$JS.API.STREAM.CREATE.{name}", stream)
        self._nats.subscribe("out.>")
        await self._open_kafka(stack)
        await self._open_gateway(stack, nats_server.url)

    async def _open_kafka(self, stack: AsyncExitStack) -> None:
        servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
        if not servers:
            return
        for sink in self._records:
            reader = KafkaReader(servers, f"conformance-{sink}-{uuid4().hex[:8]}")
            await reader.open()
            stack.push_async_callback(reader.close)
            self._kafka[sink] = reader

    async def _open_gateway(self, stack: AsyncExitStack, nats_url: str) -> None:
        config = load(yaml.safe_dump(self._configuration(nats_url)), {})
        sinks = assembly.make_sinks(config)
        targets = {name: Target(name=name, sink=sink, address=name) for name, sink in sinks.items()}
        for sink in sinks.values():
            await sink.open()
            stack.push_async_callback(sink.close)
        pipeline = Pipeline(assembly.make_routes(config), targets, Metrics())
        pipeline.start()
        stack.push_async_callback(pipeline.close)
        for name, source in assembly.make_sources(config).items():
            await source.open(pipeline.intake(name))
            stack.push_async_callback(source.close)
            address = getattr(source, "address", None)
            if address is not None:
                self._urls[name] = f"{name}://{address}"
        self._urls["mqtt311"] = self._urls["mqtt"]
        self._urls["coap"] += "/ce"
        self._urls["nats"] = f"{nats_url}/core.events"
        self._urls["jetstream"] = f"{nats_url}/in.events?stream=IN"

    def _configuration(self, nats_url: str) -> Mapping[str, Any]:
        sinks: dict[str, Any] = {}
        for mode in ("binary", "structured"):
            url = f"{self._server.url}/http-{mode}"
            sinks[f"http-{mode}"] = {"protocol": "http", "url": url, "mode": mode}
            subject = f"out.nats-{mode}"
            sinks[f"nats-{mode}"] = {
                "protocol": "nats", "url": nats_url, "subject": subject, "mode": mode,
            }  # fmt: skip
        url = f"{self._server.url}/http-batch"
        sinks["http-batch"] = {"protocol": "http", "url": url, "batch": True}
        for sink, reader in self._kafka.items():
            mode = sink.partition("-")[2]
            table = {"protocol": "kafka", "bootstrap_servers": reader.servers, "mode": mode}
            sinks[sink] = {**table, "topic": reader.topic}
            if mode == "binary":
                sinks[sink]["key"] = "partitionkey"
        return {
            "sources": {
                "http": {"protocol": "http", "listen": _LISTEN},
                "mqtt": {"protocol": "mqtt-endpoint", "listen": _LISTEN},
                "coap": {"protocol": "coap", "listen": _LISTEN, "routes": _ROUTES},
                "nats": {"protocol": "nats", "url": nats_url, "subjects": ["core.>"]},
                "jetstream": {
                    "protocol": "nats", "url": nats_url, "stream": "IN", "durable": "conformance",
                },
            },
            "sinks": sinks,
            "routes": [{"to": list(sinks)}],
            "admin": {"listen": _LISTEN},
        }  # fmt: skip


_BINDINGS: Final = {"jetstream": "nats"}
"""The binding of a way to talk, where its name is another."""


def source_of(way: str, mode: str, name: str) -> str:
    """Return the source that tells an event from all others."""
    return f"/conformance/{way}/{mode}/{name}"


def _of_nats(received: Received) -> tuple[str, WireEvent]:
    sink = received.subject.removeprefix("out.")
    return sink, _read("nats", sink, received.message)


def _of_kafka(sink: str, record: Record) -> WireEvent:
    return _read("kafka", sink, record.message)


def _read(binding: str, sink: str, message: Message) -> WireEvent:
    mode: ContentMode = "binary" if sink.endswith("binary") else "structured"
    return Carrier(binding, mode).read(message)


@asynccontextmanager
async def own_gateway() -> AsyncIterator[OwnGateway]:
    """Run a gateway, while the context lasts."""
    gateway = OwnGateway()
    async with AsyncExitStack() as stack:
        await gateway.open(stack)
        yield gateway
