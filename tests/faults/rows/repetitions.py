"""Row 14: senders and brokers that repeat nearly everything, to a route with `dedup`.

No repetition may reach the sink, also across a kill -9. What the gateway sends twice itself is what
the sink had just taken when it was killed: the cursor of the spool is written every 100 ms.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from random import Random
from typing import Any, Final, NamedTuple

import nats
from nats.aio.client import Client

from tests.e2e.servers import HOST, Mosquitto, NatsServer
from tests.faults.bench import MESSAGES, MODES, Bench, bench
from tests.faults.figures import Figures
from tests.faults.ledger import Ledger
from tests.faults.producers.mqtt import MqttProducer
from tests.faults.producers.producer import Producer
from tests.faults.producers.repeating import (
    RepeatingCoap,
    RepeatingHttp,
    RepeatingMqtt,
    RepeatingNats,
)
from tests.faults.row import Context
from tests.faults.sample import Sample
from tests.faults.sink import Fault
from tests.faults.tap import MqttWatch, NatsWatch, Tap

NUMBER = 14
NAME = "everything repeated: CoAP, MQTT, HTTP and NATS, with `dedup` and a kill -9"
BOUND = "10000 unacknowledged messages of a stream, 5 times, 10 kills"
SHORT_BOUND = "1000 unacknowledged messages of a stream, 1 kill"
SECONDS = 400.0
SHORT_SECONDS = 180.0

RECENT_SECONDS: Final = 0.5
"""After which the spool should know that something was delivered: 100 ms, on a busy machine."""
_PENDING: Final = re.compile(r"spool of route faults to sink out: (\d+) events pending")
ACK_WAIT: Final = 2.0
_AT_ONCE: Final = 200
_FEW: Final = 1000
_STREAM_KEYS: Final = 20
_STREAM: Final = "REPEATED"


class Arrivals:
    """When each event arrived first; stands where the sink asks what goes wrong: nothing.

    What comes again after a kill is the gateway's own doing as long as it is not more than what its
    spool had pending at the start. All else was repeated by somebody else.

    Attributes:
        own: in each life of the gateway, how often something came that had come before it.
        pending: in each life, what the spool had at its start.
        oldest: most seconds between the first arrival of what came again and the kill.
        others: what came again within one life.
    """

    def __init__(self) -> None:
        self.own = [0]
        self.pending = [0]
        self.oldest = 0.0
        self.others: list[str] = []
        self._killed = 0.0
        self._first: dict[tuple[str, int], float] = {}
        self._last_life: dict[tuple[str, int], int] = {}

    def kill(self) -> None:
        """Note that the gateway is no more, and that another one will be started."""
        self._killed = time.monotonic()
        self.own.append(0)
        self.pending.append(0)

    def __call__(self, key: str, number: int) -> Fault | None:
        now, life = time.monotonic(), len(self.own) - 1
        first = self._first.setdefault((key, number), now)
        last_life = self._last_life.get((key, number))
        self._last_life[key, number] = life
        if last_life == life:
            self.others.append(f"{key}-{number} after {now - first:.3f} s")
        elif last_life is not None:
            self.own[-1] += 1
            self.oldest = max(self.oldest, self._killed - first)
        return None

    def judge(self, figures: Figures) -> None:
        others = self.others
        figures.require(not others, f"{len(others)} repetitions at the sink: {others[:5]}")
        for own, pending in zip(self.own, self.pending, strict=True):
            figures.require(
                own <= pending, f"{own} came again after a kill, only {pending} out of the spool"
            )


class Stream:
    """A stream that is filled, and whose acknowledgements are lost on their way."""

    def __init__(self, url: str, sample: Sample, ledger: Ledger, watch: NatsWatch) -> None:
        self._url = url
        self._watch = watch
        self._sample = sample
        self._ledger = ledger
        self._next = 0

    async def fill(self, count: int) -> None:
        """Publish so many events, the keys by turns; what the stream says is in the ledger."""
        client = await nats.connect(self._url)
        try:
            for start in range(self._next, self._next + count, _AT_ONCE):
                numbers = range(start, min(start + _AT_ONCE, self._next + count))
                await asyncio.gather(*(self._publish(client, number) for number in numbers))
        finally:
            await client.close()
        self._next += count

    async def _publish(self, client: Client, position: int) -> None:
        key, number = f"stream-{position % _STREAM_KEYS:02}", position // _STREAM_KEYS
        self._ledger.intent(key, number)
        headers = {"Content-Type": "application/cloudevents+json"}
        payload = self._sample.structured(key, number)
        await client.jetstream().publish(f"stream.{key}", payload, headers=headers, timeout=10)
        self._ledger.ack(key, number)

    async def repeated(self, count: int) -> None:
        """Wait until the gateway was given so many messages again; 30 s at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(30):
                while self._watch.repeated < count:
                    await asyncio.sleep(0.02)


class Brokers(NamedTuple):
    """The brokers, and the taps before them."""

    mosquitto: Mosquitto
    nats: NatsServer
    mqtt_tap: Tap
    nats_tap: Tap


@contextlib.asynccontextmanager
async def _brokers(
    context: Context, mqtt_watch: MqttWatch, nats_watch: NatsWatch
) -> AsyncIterator[Brokers]:
    async with contextlib.AsyncExitStack() as stack:
        for name in ("mosquitto", "nats"):
            (context.folder / name).mkdir()
        lines = ("autosave_on_changes false", "autosave_interval 1800")
        mosquitto = Mosquitto(context.folder / "mosquitto", lines)
        server = NatsServer(context.folder / "nats")
        for each in (mosquitto, server):
            await asyncio.to_thread(each.start)
            stack.callback(each.stop)
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(name=_STREAM, subjects=["stream.>"])
        await client.close()
        mqtt_tap = await stack.enter_async_context(Tap(mosquitto.port, mqtt_watch.connection))
        nats_tap = await stack.enter_async_context(Tap(server.port, nats_watch.connection))
        yield Brokers(mosquitto, server, mqtt_tap, nats_tap)


def _sources(found: Brokers, window: int) -> dict[str, Any]:
    return {
        "mqtt": {
            "protocol": "mqtt", "url": f"mqtt://{HOST}:{found.mqtt_tap.port}", "client_id": "gw",
            "subscribe": [{"topic": "faults/#", "qos": 1}], "receive_maximum": MESSAGES,
        },
        "nats": {"protocol": "nats", "url": found.nats.url, "subjects": ["core.>"]},
        "stream": {
            "protocol": "nats", "url": f"nats://{HOST}:{found.nats_tap.port}", "stream": _STREAM,
            "durable": "gw", "ack_wait": ACK_WAIT, "max_ack_pending": window,
        },
    }  # fmt: skip


def _producers(made: Bench, found: Brokers) -> dict[str, Producer]:
    sample, ledger, ports = made.sample, made.ledger, made.gateway.ports
    load: dict[str, Any] = {"rate": 60, "keys": 10}
    http = RepeatingHttp(ports["http"], sample, ledger, **load)
    coap = RepeatingCoap(ports["coap"], sample, ledger, chance=Random(made.chance.random()), **load)
    core = RepeatingNats(
        "nats", found.nats.url, sample, ledger, subject="core", stream=False, **load
    )
    device = RepeatingMqtt("endpoint", ports["endpoint"], sample, ledger, topic="faults", **load)
    for each in (http, coap, core, device):
        each.repeats = Random(made.chance.random())
    broker = MqttProducer("mqtt", found.mosquitto.port, sample, ledger, topic="faults", **load)
    return {"http": http, "coap": coap, "nats": core, "endpoint": device, "mqtt": broker}


async def _round(made: Bench, stream: Stream, found: Brokers, watch: NatsWatch, count: int) -> None:
    """Let everything be repeated, also what was acknowledged before a kill."""
    watch.swallows = True
    goal = watch.repeated + count
    await stream.fill(count // 2)
    found.mqtt_tap.cut()
    await asyncio.sleep(2 * RECENT_SECONDS)  # so that these can't come again of themselves
    filling = asyncio.ensure_future(stream.fill(count - count // 2))
    await asyncio.sleep(made.chance.uniform(0.1, 0.3))
    await _kill(made)
    await filling
    found.mqtt_tap.cut()
    await stream.repeated(goal)
    if count > _FEW:
        await _kill(made)  # once more, when there is nothing new
        await stream.repeated(goal + count)
    watch.swallows = False


async def _kill(made: Bench) -> None:
    await made.kill()
    arrivals = made.sink.choose
    assert isinstance(arrivals, Arrivals)
    await asyncio.sleep(0.2)  # what it had sent is read
    arrivals.kill()
    said = len(made.gateway.log)
    await made.restart()
    found = _PENDING.search(made.gateway.log, said)
    arrivals.pending[-1] = int(found[1]) if found else 0


async def run(context: Context) -> Figures:
    figures = Figures()
    count = 1000 if context.short else 10_000
    rounds = 1 if context.short else 5
    route = {"name": "faults", "to": ["out"], "dedup": {"window": "PT10M"}}
    mqtt_watch, nats_watch = MqttWatch(None), NatsWatch(None)
    async with (
        _brokers(context, mqtt_watch, nats_watch) as found,
        bench(
            context.folder / "bench", context.seed, inputs=("http", "endpoint", "coap"), rate=300,
            delivery=MODES["stored"], sources=_sources(found, count), routes=[route],
        ) as made,
    ):  # fmt: skip
        arrivals = made.sink.choose = Arrivals()
        made.producers = _producers(made, found)
        stream = Stream(found.nats.url, made.sample, made.ledger, nats_watch)
        made.start_load()
        for _ in range(rounds):
            await _round(made, stream, found, nats_watch, count)
        await made.finish(figures, seconds=15 if context.short else 60)
    again = {name: getattr(each, "again", 0) for name, each in made.producers.items()}
    figures.notes.append(
        "repetitions sent: "
        + ", ".join(f"{count} {name}" for name, count in again.items() if count)
        + f"; {mqtt_watch.repeated} with DUP by mosquitto, {nats_watch.repeated} by the stream"
    )
    figures.notes.append(
        f"{sum(arrivals.own)} sent again by the gateway itself after {made.kills} kills, of "
        f"{sum(arrivals.pending)} that its spool had pending; they had arrived at most "
        f"{arrivals.oldest * 1000:.0f} ms before"
    )
    arrivals.judge(figures)
    figures.require(
        nats_watch.repeated >= rounds * count, f"only {nats_watch.repeated} of the stream again"
    )
    figures.require(mqtt_watch.repeated, "mosquitto has repeated nothing")
    for name in made.producers.keys() - {"mqtt"}:
        figures.require(again[name], f"{name} has repeated nothing")
    return figures
