"""One gateway under load: senders, sink, ledger and the process between them."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.e2e.servers import HOST, Mosquitto, NatsServer, Server
from tests.faults.figures import Figures
from tests.faults.gateway_process import GatewayProcess
from tests.faults.ledger import Ledger
from tests.faults.producers.coap import CoapProducer
from tests.faults.producers.http import HttpProducer
from tests.faults.producers.mqtt import MqttProducer
from tests.faults.producers.nats import NatsProducer
from tests.faults.producers.producer import Producer
from tests.faults.sample import Sample, read_structured
from tests.faults.sink import FaultySink

INPUTS: Final = ("http", "endpoint", "coap", "mqtt", "nats", "jetstream")
"""HTTP, MQTT devices at the gateway, CoAP; MQTT through mosquitto, core NATS, JetStream."""
MODES: Final[Mapping[str, Mapping[str, str]]] = {
    "sink": {"ack": "sink", "spool": "auto", "dead_letters": "local"},
    "stored": {"ack": "stored", "spool": "auto", "dead_letters": "local"},
}
"""Acknowledgement modes, as `delivery` has them."""
INFLIGHT: Final = 100
"""`limits.inflight`: events under way in the gateway."""
MESSAGES: Final = 100
"""Messages of a broker that the gateway has and has not acknowledged."""
WINDOW: Final = INFLIGHT + MESSAGES
"""How many events may come again after a kill: those under way, and those of a broker that are done
and wait for their turn to be acknowledged, as MQTT keeps the order of acknowledgements."""
_UNHURRIED: Final = ("autosave_on_changes false", "autosave_interval 1800")
"""A mosquitto that is not killed needs not write everything it has at each message."""
_DEAD_LETTER_FILES: Final = ("*.db", "*.sqlite", "*.sqlite3")


@dataclass
class Bench:
    """What a row works with.

    Attributes:
        chance: from the seed; use it for everything that is left to chance.
        gateway: started already.
        producers: by input, not started yet.
        brokers: by name, running.
        undecodable: dead letters that brought no event; None while there must be none.
    """

    chance: Random
    sample: Sample
    ledger: Ledger
    sink: FaultySink
    gateway: GatewayProcess
    producers: dict[str, Producer] = field(default_factory=dict)
    brokers: dict[str, Mosquitto | NatsServer] = field(default_factory=dict)
    kills: int = 0
    undecodable: int | None = None

    def start_load(self) -> None:
        for producer in self.producers.values():
            producer.start()

    async def stop_load(self, seconds: float = 20) -> None:
        """Stop the senders; what they have under way may take as long as `seconds`."""
        await asyncio.gather(*(producer.stop(seconds) for producer in self.producers.values()))

    async def kill(self) -> None:
        """Kill -9 the gateway."""
        self.kills += 1
        await self.gateway.kill_hard()
        self.ledger.kill()
        for producer in self.producers.values():
            producer.gateway_gone()

    async def terminate(self, *, again_after: float | None = None) -> float:
        """SIGTERM the gateway; returns the seconds until its end.

        With a second SIGTERM it ends as if it were killed, and so it is counted.
        """
        took = await self.gateway.terminate(again_after=again_after)
        if again_after is None:
            self.ledger.remark("ended by SIGTERM")
        else:
            self.ledger.kill()
        for producer in self.producers.values():
            producer.gateway_gone()
        return took

    async def restart(self) -> float:
        """Start the gateway again; returns the seconds until it was ready."""
        return await self.gateway.up()

    async def settle(self, seconds: float = 60, *, quiet: float = 0.5) -> None:
        """Wait until all that was acknowledged has arrived and the gateway holds nothing more.

        Returns in any case when nothing has come for `seconds`: the account then says what is
        missing.
        """
        loop = asyncio.get_running_loop()
        arrived, since = -1, loop.time()
        while loop.time() < since + seconds:
            if self.sink.arrived != arrived:
                arrived, since = self.sink.arrived, loop.time()
            elif (
                loop.time() - since > quiet
                and not self.ledger.account.outstanding
                and not await self.held()
            ):
                return
            await asyncio.sleep(0.05)

    async def held(self) -> float:
        """Return how many events the gateway has under way or in its spools."""
        if self.gateway.returncode is not None:
            return 0
        metrics = await self.gateway.metrics()
        return sum(
            value
            for name, value in metrics.items()
            if name.startswith(("ce_gateway_inflight{", "ce_gateway_spool_events{"))
        )

    async def finish(self, figures: Figures, *, seconds: float = 60) -> None:
        """Stop the load, wait for the rest, stop the gateway, and add everything to the figures."""
        self.ledger.remark("stop the load")
        await self.stop_load()
        self.ledger.remark("wait for the rest")
        await self.settle(seconds)
        self.ledger.remark("end")
        if self.gateway.returncode is None:
            took = await self.terminate()
            figures.require(
                self.gateway.returncode == 0, f"exit code {self.gateway.returncode} at the end"
            )
            figures.require(took < 25, f"the end took {took:.1f} s")
        self.read_dead_letters()
        figures.take(self.ledger.account)
        figures.kills += self.kills
        figures.ready += self.gateway.ready_seconds[1:]
        figures.rss_mib = max(figures.rss_mib, self.gateway.peak_mib)
        for traceback in self.gateway.complaints()[:3]:
            figures.problems.append(f"traceback in the gateway's log:\n{traceback}")

    def read_dead_letters(self) -> None:
        """Put the gateway's dead letters into the ledger, and compare them with what was sent."""
        folder = Path(self.gateway.config["state"]["path"])
        for pattern in _DEAD_LETTER_FILES:
            for file in folder.rglob(pattern):
                with contextlib.closing(sqlite3.connect(file)) as connection:
                    rows = connection.execute("SELECT event, reason FROM letters").fetchall()
                for event, reason in rows:
                    self._take_dead_letter(event, reason)

    def _take_dead_letter(self, event: bytes | None, reason: str) -> None:
        if event is None and self.undecodable is not None:
            self.undecodable += 1
            return
        if event is None:
            self.ledger.corrupt(f"a dead letter that could not be decoded: {reason}")
            return
        attributes, data = read_structured(event)
        difference = self.sample.difference(attributes, data, dead=True)
        if difference:
            self.ledger.corrupt(f"dead letter: {difference}")
            return
        key, _, number = attributes["id"].rpartition("-")
        self.ledger.dead_letter(key, int(number), reason)


@contextlib.asynccontextmanager
async def bench(
    folder: Path,
    seed: int,
    *,
    inputs: Sequence[str] = INPUTS,
    rate: float = 600,
    delivery: Mapping[str, Any],
    sink_mode: str = "structured",
    keys: int = 20,
    neighbour: bool = False,
    process: type[GatewayProcess] = GatewayProcess,
    **config: Any,
) -> AsyncIterator[Bench]:
    """Start brokers, sink and gateway; stop everything at the end.

    Args:
        folder: for all files.
        seed: of the events and of all chance.
        inputs: of `INPUTS`.
        rate: events per second, of all inputs together.
        delivery: of the only route.
        sink_mode: structured or binary.
        keys: of each input.
        neighbour: also an input `steady` with a route of its own to a sink that never fails.
        process: how the gateway is run.
        config: further tables, such as `limits` and `drain`; `sources` and `sinks` are added to
            those of the bench.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chance, sample = Random(seed), Sample(seed)
    ledger = Ledger(folder / "ledger")
    sink = FaultySink(sample, ledger)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(ledger.close)
        brokers = await _start_brokers(folder, inputs, stack)
        await sink.open()
        stack.push_async_callback(sink.close)
        tables = _tables(inputs, brokers, sink, sink_mode)
        for name in ("sources", "sinks"):
            tables[name] |= config.pop(name, {})
        if neighbour:
            healthy = FaultySink(sample, ledger)
            await healthy.open()
            stack.push_async_callback(healthy.close)
            _add_neighbour(tables, healthy)
        gateway = process(
            folder / "gateway",
            {**tables, "delivery": dict(delivery), "limits": {"inflight": INFLIGHT}, **config},
        )
        stack.callback(gateway.kill_if_running)
        await gateway.up()
        made = Bench(chance, sample, ledger, sink, gateway, brokers=brokers)
        load = {"rate": rate / len(inputs), "keys": keys}
        made.producers = {name: _producer(name, made, load) for name in inputs}
        if neighbour:
            port = gateway.ports["steady"]
            made.producers["steady"] = HttpProducer(
                port, sample, ledger, name="steady", rate=50, keys=5
            )
        stack.push_async_callback(made.stop_load, 1)
        yield made


def _tables(
    inputs: Sequence[str], brokers: Mapping[str, Server], sink: FaultySink, sink_mode: str
) -> dict[str, Any]:
    return {
        "sources": {name: _source(name, brokers) for name in inputs},
        "sinks": {"out": {"protocol": "http", "url": sink.url, "mode": sink_mode}},
        "routes": [{"name": "faults", "from": list(inputs), "to": ["out"]}],
    }


def _add_neighbour(tables: dict[str, Any], sink: FaultySink) -> None:
    tables["sources"]["steady"] = {"protocol": "http", "listen": f"{HOST}:0"}
    tables["sinks"]["steady"] = {"protocol": "http", "url": sink.url}
    tables["routes"].append({"name": "steady", "from": ["steady"], "to": ["steady"]})


async def _start_brokers(
    folder: Path, inputs: Sequence[str], stack: contextlib.AsyncExitStack
) -> dict[str, Mosquitto | NatsServer]:
    """Start what the inputs need."""
    brokers: dict[str, Mosquitto | NatsServer] = {}
    for kind, needed_by in ((Mosquitto, {"mqtt"}), (NatsServer, {"nats", "jetstream"})):
        if needed_by.isdisjoint(inputs):
            continue
        place = folder / kind.name
        place.mkdir()
        server = Mosquitto(place, _UNHURRIED) if kind is Mosquitto else kind(place)
        await asyncio.to_thread(server.start)
        stack.callback(server.stop)
        brokers[kind.name] = server
    if "jetstream" in inputs:
        await _make_stream(brokers["nats-server"].url)
    return brokers


async def _make_stream(url: str) -> None:
    import nats

    client = await nats.connect(url)
    await client.jetstream().add_stream(name="FAULTS", subjects=["stream.>"])
    await client.close()


def _source(name: str, brokers: Mapping[str, Server]) -> dict[str, Any]:
    listen = f"{HOST}:0"
    match name:
        case "http":
            return {"protocol": "http", "listen": listen}
        case "endpoint":
            return {"protocol": "mqtt-endpoint", "listen": listen}
        case "coap":
            routes = {"/ce": {"mode": "auto", "source_policy": "any"}}
            return {"protocol": "coap", "listen": listen, "routes": routes}
        case "mqtt":
            subscribe = [{"topic": "faults/#", "qos": 1}]
            url = brokers["mosquitto"].url
            session = {"client_id": "gw", "subscribe": subscribe, "receive_maximum": MESSAGES}
            return {"protocol": "mqtt", "url": url, **session}
        case "nats":
            url = brokers["nats-server"].url
            return {"protocol": "nats", "url": url, "subjects": ["core.>"]}
        case "jetstream":
            stream = {
                "stream": "FAULTS",
                "durable": "gw",
                "ack_wait": "PT5S",
                "max_ack_pending": MESSAGES,
            }
            return {"protocol": "nats", "url": brokers["nats-server"].url, **stream}
        case other:
            raise ValueError(f"no input {other}")


def _producer(name: str, made: Bench, load: Mapping[str, Any]) -> Producer:
    sample, ledger, ports = made.sample, made.ledger, made.gateway.ports
    match name:
        case "http":
            return HttpProducer(ports["http"], sample, ledger, **load)
        case "endpoint":
            port = ports["endpoint"]
            return MqttProducer(name, port, sample, ledger, topic="faults", **load)
        case "coap":
            chance = Random(made.chance.random())
            return CoapProducer(ports["coap"], sample, ledger, chance=chance, **load)
        case "mqtt":
            port = made.brokers["mosquitto"].port
            return MqttProducer(name, port, sample, ledger, topic="faults", **load)
        case "nats" | "jetstream":
            stream = name == "jetstream"
            subject = "stream" if stream else "core"
            url = made.brokers["nats-server"].url
            return NatsProducer(name, url, sample, ledger, subject=subject, stream=stream, **load)
        case other:
            raise ValueError(f"no input {other}")
