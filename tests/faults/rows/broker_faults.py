"""Row 6: brokers killed, sessions lost, other clients in the gateway's place.

The gateway reaches Mosquitto and the stream through taps, which judge each acknowledgement: it has
to be about a message of its own connection (or its own stream), which is at the sink by then. There
is no spool here, so that nothing else can be meant by it.
"""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import nats
import nats.errors
import nats.js.errors
from nats.js.api import RetentionPolicy, StorageType

from tests.e2e.servers import HOST, Mosquitto, NatsServer
from tests.faults.bench import MESSAGES, Bench, bench
from tests.faults.checker import Finding
from tests.faults.figures import Figures
from tests.faults.producers.mqtt import MqttProducer, text, varint
from tests.faults.producers.nats import NatsProducer
from tests.faults.promises import Promises
from tests.faults.row import Context
from tests.faults.sink import RandomFaults
from tests.faults.tap import MqttWatch, NatsWatch, Tap, Watcher

NUMBER = 6
NAME = "mosquitto and nats-server killed, sessions and streams lost, another client in our place"
BOUND = "20 each, with and without a kept session"
SHORT_BOUND = "1 each"
SECONDS = 900.0
SHORT_SECONDS = 180.0

RESUME_SECONDS = 2.0
TAKEN_SECONDS = 5.0
"""After another client had the session: the pauses double on purpose, lest two take turns."""
UNANSWERED = MESSAGES + 1000
"""Messages that the gateway may have taken and not answered: the receive maximum, and what one read
of 256 KiB holds, as Mosquitto sends more than the maximum."""
AT_ONCE = 4
"""Of these in one process of the gateway: whose session never lasts comes back ever more slowly."""
SHARES = {"503": 0.02, "drop": 0.005, "slow": 0.01}
DELIVERY = {
    "spool": "off", "dead_letters": "local", "timeout": "PT2S", "backoffDelay": "PT0.05S",
    "backoffCap": "PT0.5S", "retry": 1000,
}  # fmt: skip
_FORGETFUL: Final = ("persistence false",)
_STREAM: Final = "KILLED"


class Brokers:
    """Both brokers, what the taps before them see, and what befalls them.

    Args:
        made: a bench whose gateway reads from the taps.
        keeps: whether the brokers keep on disk what they have.
    """

    def __init__(
        self, made: Bench, servers: Sequence[Mosquitto | NatsServer], taps: Sequence[Tap],
        watches: tuple[MqttWatch, NatsWatch], *, keeps: bool,
    ) -> None:  # fmt: skip
        self.made = made
        self.mosquitto, self.nats = servers
        self._taps = dict(zip(servers, taps, strict=True))
        self.mqtt_watch, self.nats_watch = watches
        self.keeps = keeps
        self.resumed: dict[str, list[float]] = {}
        self.disturbances = 0
        self.longest_absence = 1.0
        self.mqtt_promises = Promises(made.ledger)
        self.stream_promises = Promises(made.ledger)
        self._saves = self.mosquitto.folder / "mosquitto.db"

    def add_producers(self, rate: float) -> None:
        sample, load = self.made.sample, {"rate": rate, "keys": 10}
        mqtt: Any = self.mqtt_promises if self.keeps else _Unheard(self.made.ledger)
        stream: Any = self.stream_promises
        url = self.nats.url
        self.made.producers |= {
            "mqtt": MqttProducer("mqtt", self.mosquitto.port, sample, mqtt, topic="faults", **load),
            "jetstream": NatsProducer(
                "jetstream", url, sample, stream, subject="stream", stream=True, **load
            ),
            "nats": NatsProducer(
                "nats", url, sample, self.made.ledger, subject="core", stream=False, **load
            ),
        }

    async def watch_saves(self) -> None:
        """Hold Mosquitto to what it has saved, for ever."""
        while True:
            self.mqtt_promises.bind_saved(self._saves)
            await asyncio.sleep(0.005)

    async def kill_mosquitto(self) -> None:
        await self._kill(self.mosquitto, self.mqtt_watch, self.mqtt_promises)

    async def kill_nats(self) -> None:
        await self._kill(self.nats, self.nats_watch, self.stream_promises)

    async def _kill(
        self, server: Mosquitto | NatsServer, watch: MqttWatch | NatsWatch, promises: Promises
    ) -> None:
        self._disturb(f"{server.name} killed")
        frozen = not self.keeps or self.made.chance.random() < 0.5
        if frozen:  # what is under way is answered for when the broker has forgotten it
            self.made.sink.freeze()
            await asyncio.sleep(0.2)
        self.mqtt_promises.bind_saved(self._saves)
        await asyncio.to_thread(server.kill)
        await self._taps[server].close()  # or it would be there in the broker's place
        if server is self.mosquitto:
            self.mqtt_promises.bind_saved(self._saves)
        elif self.keeps:
            promises.bind()  # it was on its disk, or at least in the kernel's hands
        promises.forget()
        self.made.producers["nats"].gateway_gone()
        await asyncio.sleep(self.made.chance.uniform(0.5, self.longest_absence))
        await asyncio.to_thread(server.start)
        if server is self.nats and not self.keeps:
            self.nats_watch.generation += 1
            await make_stream(self.nats.url, StorageType.MEMORY)
        before = watch.resumptions
        await self._taps[server].open()
        await self._resumed(
            f"{server.name} killed", lambda: watch.resumptions > before, frozen=frozen
        )

    async def take_over(self) -> None:
        """Be the gateway for a while, at Mosquitto: take its messages and acknowledge none."""
        self._disturb("taken over at mosquitto")
        before = self.mqtt_watch.resumptions
        reader, writer = await asyncio.open_connection(HOST, self.mosquitto.port)
        properties = b"\x11\0\0\x0e\x10"  # the session is to be kept for an hour
        flags = b"\0" if self.keeps else b"\2"  # ... and the old one, or it is begun anew
        body = text("MQTT") + b"\x05" + flags + b"\0\0" + varint(len(properties)) + properties
        body += text("gw")
        writer.write(b"\x10" + varint(len(body)) + body)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(self.made.chance.uniform(0.1, 0.6)):
                while await reader.read(1 << 16):  # until the gateway takes over in turn
                    pass
        writer.close()
        # Mosquitto saves everything at each message: a long queue would make it very slow.
        self.made.producers["mqtt"].pause()
        await self._resumed("taken over", lambda: self.mqtt_watch.resumptions > before)
        self.made.producers["mqtt"].resume()

    async def take_the_consumer(self) -> None:
        """Delete the gateway's consumer, or take messages out of it and acknowledge none."""
        self._disturb("consumer taken")
        client = await nats.connect(self.nats.url)
        try:
            stream = client.jetstream()
            if self.keeps:
                await stream.delete_consumer(_STREAM, "gw")
            else:
                with contextlib.suppress(nats.errors.TimeoutError, nats.js.errors.Error):
                    thief = await stream.pull_subscribe_bind(consumer="gw", stream=_STREAM)
                    await thief.fetch(10, timeout=1)
        finally:
            await client.close()
        what = "consumer deleted" if self.keeps else "messages taken"
        before = self.nats_watch.messages
        await self._resumed(what, lambda: self.nats_watch.messages > before)

    def judge(self, figures: Figures, patience: float) -> None:
        """Add what the taps have seen."""
        for name, watch in (("MQTT", self.mqtt_watch), ("JetStream", self.nats_watch)):
            stale = watch.stale
            figures.require(not stale, f"{name}: {len(stale)} stale acknowledgements: {stale[:5]}")
            figures.require(watch.acknowledged, f"{name}: nothing was acknowledged")
        for what, seconds in self.resumed.items():
            late, limit = max(seconds), TAKEN_SECONDS if what == "taken over" else RESUME_SECONDS
            figures.require(late <= limit * patience, f"{what}: resumed only after {late:.2f} s")

    async def check_stream(self, figures: Figures) -> None:
        """What has not arrived must still be in the stream, and what has arrived must not."""
        client = await nats.connect(self.nats.url)
        try:
            for _ in range(100):
                state = (await client.jetstream().stream_info(_STREAM)).state
                if not state.messages:
                    break
                await asyncio.sleep(0.1)
            figures.require(not state.messages, f"{state.messages} are still in the stream")
        finally:
            await client.close()

    def _disturb(self, what: str) -> None:
        self.disturbances += 1
        self.made.ledger.remark(what)

    async def _resumed(
        self, what: str, condition: Callable[[], bool], *, frozen: bool = False
    ) -> None:
        """Note the seconds until the gateway goes on; 60 if it never does.

        With a frozen sink and no room left it reads no more, and so does not see the end of a
        connection: then the time begins when the sink is thawed.
        """
        seconds = await _seconds_until(condition, 1 if frozen else 30)
        if frozen:
            await asyncio.sleep(0.2)
            self.made.sink.thaw()
            if seconds is None:
                seconds = await _seconds_until(condition, 30)
        self.resumed.setdefault(what, []).append(60.0 if seconds is None else seconds)


async def _seconds_until(condition: Callable[[], bool], limit: float) -> float | None:
    began = time.monotonic()
    while not condition():
        if time.monotonic() > began + limit:
            return None
        await asyncio.sleep(0.005)
    return time.monotonic() - began


class _Unheard:
    """A ledger that the broker's acknowledgements do not reach: it forgets what they were for."""

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def ack(self, key: str, number: int) -> None:
        pass


async def make_stream(url: str, storage: StorageType) -> None:
    client = await nats.connect(url)
    await client.jetstream().add_stream(
        name=_STREAM, subjects=["stream.>"], storage=storage, retention=RetentionPolicy.WORK_QUEUE
    )
    await client.close()


@contextlib.asynccontextmanager
async def brokers(context: Context, name: str, seed: int, *, keeps: bool) -> AsyncIterator[Brokers]:
    """Start brokers, taps, gateway and senders; `keeps`: what the brokers have outlives a kill."""
    folder = context.folder / name
    async with contextlib.AsyncExitStack() as stack:
        servers = []
        for kind in (Mosquitto, NatsServer):
            place = folder / kind.name
            place.mkdir(parents=True)
            server = (
                Mosquitto(place, () if keeps else _FORGETFUL) if kind is Mosquitto else kind(place)
            )
            await asyncio.to_thread(server.start)
            stack.callback(server.stop)
            servers.append(server)
        nats_server = servers[1]
        await make_stream(nats_server.url, StorageType.FILE if keeps else StorageType.MEMORY)
        switches = _Switch(), _Switch()
        taps = [
            Tap(server.port, switch.connection)
            for server, switch in zip(servers, switches, strict=True)
        ]
        for tap in taps:
            await stack.enter_async_context(tap)
        made = await stack.enter_async_context(
            bench(
                folder / "bench", seed, inputs=("http",), rate=50, delivery=DELIVERY,
                sources=_sources(nats_server, taps[0].port, taps[1].port),
                routes=[{"name": "faults", "to": ["out"]}],
                limits={"inflight": 1000},  # room for what comes while the sink is stuck
            )
        )  # fmt: skip
        watches = MqttWatch(made.ledger, acknowledges=not keeps), NatsWatch(made.ledger)
        for tap, switch, watch in zip(taps, switches, watches, strict=True):
            switch.watch = watch
            tap.cut()  # what comes again is watched
        found = Brokers(made, servers, taps, watches, keeps=keeps)
        found.add_producers(rate=30)
        yield found


class _Switch:
    """Stands for a watch until there is a ledger; nothing is sent by then."""

    def __init__(self) -> None:
        self.watch: MqttWatch | NatsWatch | None = None

    def connection(self) -> Watcher:
        return self if self.watch is None else self.watch.connection()

    def from_gateway(self, data: bytes) -> bytes:
        return data

    def from_broker(self, data: bytes) -> bytes:
        return data


def _sources(server: NatsServer, mqtt_port: int, nats_port: int) -> dict[str, Any]:
    return {
        "http": {"protocol": "http", "listen": f"{HOST}:0"},
        "mqtt": {
            "protocol": "mqtt", "url": f"mqtt://{HOST}:{mqtt_port}", "client_id": "gw",
            "subscribe": [{"topic": "faults/#", "qos": 1}], "receive_maximum": MESSAGES,
        },
        "nats": {"protocol": "nats", "url": server.url, "subjects": ["core.>"]},
        "jetstream": {
            "protocol": "nats", "url": f"nats://{HOST}:{nats_port}", "stream": _STREAM,
            "durable": "gw", "ack_wait": "PT2S", "max_ack_pending": MESSAGES,
        },
    }  # fmt: skip


async def run(context: Context) -> Figures:
    figures = Figures()
    runs = [
        _run(context, context.seed + number, figures, keeps=keeps)
        for number, keeps in enumerate((True, False))
    ]
    if context.short:
        async with asyncio.TaskGroup() as group:
            for each in runs:
                group.create_task(each)
    else:
        for each in runs:
            await each
    return figures


async def _run(context: Context, seed: int, figures: Figures, *, keeps: bool) -> None:
    name = "kept" if keeps else "lost"
    async with brokers(context, name, seed, keeps=keeps) as found:
        made = found.made
        made.sink.choose = RandomFaults(made.chance, SHARES)
        watching = asyncio.ensure_future(found.watch_saves())
        made.start_load()
        if context.short:
            found.longest_absence = 0.6
        for number, action in enumerate(_plan(found, 1 if context.short else 20)):
            if number % AT_ONCE == 0 and number:
                await _restart(made)
            await asyncio.sleep(made.chance.uniform(0.1, 0.4))
            await action()
        for number in range(1 if context.short else 20):
            if number % AT_ONCE == 0 and not context.short:
                await _restart(made)
            await asyncio.sleep(made.chance.uniform(0.2, 0.6))
            await found.take_over()
        await asyncio.sleep(0.3)
        await made.stop_load()
        watching.cancel()
        found.mqtt_promises.bind()
        found.stream_promises.bind()
        await made.settle(15 if context.short else 60)
        await found.check_stream(figures)
        found.judge(figures, context.patience)
        await made.finish(figures, seconds=5)
    if not keeps:
        _allow_reordering(figures, made.ledger.account.reordered)
    own = sum(made.ledger.account.own)
    resumed = ", ".join(
        f"{what} {statistics.median(seconds):.2f} / {max(seconds):.2f} s"
        for what, seconds in found.resumed.items()
    )
    figures.notes.append(
        f"sessions {name}: {found.disturbances} disturbances, resumed p50 / max: "
        f"{resumed}; judged "
        f"{found.mqtt_watch.acknowledged} PUBACKs and {found.nats_watch.acknowledged} "
        f"acknowledgements of a stream; sessions present at CONNACK: "
        f"{sum(found.mqtt_watch.sessions)} of {len(found.mqtt_watch.sessions)}; {own} events came "
        "again from a broker that had not got their acknowledgement"
    )
    most = UNANSWERED * found.disturbances
    figures.require(own <= most, f"{own} own duplicates, {most} were under way at most")


async def _restart(made: Bench) -> None:
    await made.terminate()
    await made.restart()


def _plan(found: Brokers, count: int) -> list[Callable[[], Any]]:
    actions = [found.kill_mosquitto, found.kill_nats, found.take_the_consumer]
    plan = [action for action in actions for _ in range(count)]
    found.made.chance.shuffle(plan)
    return plan


def _allow_reordering(figures: Figures, found: Finding) -> None:
    """Messages that another client of the consumer took come again later than those behind them."""
    if found.count:
        figures.notes.append(f"{found.count} came late, since another client had taken them")
        figures.problems.remove(f"REORDERED {found}")
        figures.reordered -= found.count
