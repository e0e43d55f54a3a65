"""One run: a contender on a course, with its load and its sink, from the start to the proof."""

import asyncio
import contextlib
import json
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from tests.benchmarks.board import ACKED, ARRIVED, SENT, STOP, make_board
from tests.benchmarks.contender import SUBJECT, Addresses, Contender, Course, Running
from tests.benchmarks.counting_sink import CountingSink
from tests.benchmarks.generators.load import WARM
from tests.benchmarks.generators.nats import make_stream
from tests.benchmarks.kafka_sink import PARTITIONS
from tests.benchmarks.kafka_sink import TOPIC as KAFKA_TOPIC
from tests.benchmarks.processes import Usage, calibration, usage
from tests.benchmarks.worker import Worker
from tests.e2e.servers import HOST, Kafka, NatsServer, free_port
from tests.e2e.servers.kafka import NoidaKafka
from tests.helpers import make_certificates

_DISK: Final = "/var/tmp"  # /tmp may be in memory
_POLL: Final = 0.002
_READY: Final = 60.0
_STALLED: Final = 5.0
_SAMPLE: Final = 1000
_CORE_AHEAD: Final = 4096
_QOS0_AHEAD: Final = 2000
ACKNOWLEDGING: Final = ("mqtt", "http", "coap", "mqtt-endpoint")
"""Sources whose load sees the acknowledgements."""


@dataclass(frozen=True)
class Plan:
    """How much of it.

    Attributes:
        count: events.
        seconds: the run ends after this time, also if not all events have arrived.
        rate: events per second; 0: as fast as they are acknowledged.
        whole: measure from the beginning; where events are acknowledged before the sink has them,
            most of the work on them may be done when the first tenth arrives.
        options: of the load, such as `connections`.
        sink: of the sink, such as `every`; `cluster` is `mock`, `noida` or `apache`.
    """

    count: int = 100_000
    seconds: float = 5.0
    rate: float = 0.0
    whole: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    sink: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """What came of a run. Times are per event of the measured window.

    Attributes:
        cpu: CPU microseconds of the contender, user and system, all its processes.
        system: the part of it in the kernel.
        rate: events per second that arrived.
        mib: resident memory at the end, MiB.
        processes: of the contender.
        events: in the window.
        latency: milliseconds until the acknowledgement: p50, p99, p999, longest; at a rate only.
        lost: events that were acknowledged and did not arrive; none is the only good figure. Where
            nothing is acknowledged: that were sent and did not arrive.
        twice: events that arrived more than once.
        corrupted: of those that were looked into, how many were not as they were sent.
        sampled: how many were looked into.
        refused: answers that said no.
        load_cpu, sink_cpu: CPU microseconds per event of the load and the sink.
        late: at a rate, milliseconds by which the load itself was late at most.
        calibration: before and after, milliseconds.
        cut: whether time ended before the events did.
    """

    cpu: float
    system: float
    rate: float
    mib: float
    processes: int
    events: int
    latency: dict[str, float]
    lost: int
    twice: int
    corrupted: int
    sampled: int
    refused: int
    load_cpu: float
    sink_cpu: float
    late: float
    calibration: tuple[float, float]
    cut: bool

    @property
    def faults(self) -> str:
        """What went wrong with the events, in words; empty when all is well."""
        found = [
            f"{count} {what}"
            for count, what in (
                (self.lost, "lost"),
                (self.twice, "twice"),
                (self.corrupted, "corrupted"),
                (self.refused, "refused"),
            )
            if count
        ]
        if not self.sampled:
            found.append("nothing looked into")
        return ", ".join(found)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self) | {"faults": self.faults}


Watch = Callable[[Sequence[int]], None]
"""Is given the processes of the contender every second."""


class UnderWay:
    """A run whose load is at work.

    Attributes:
        board: the counters, see `tests.benchmarks.board`.
        running: the contender.
    """

    def __init__(self, board: memoryview, running: Running, watch: Watch | None) -> None:
        self.board = board
        self.running = running
        self._watch = watch
        self._watched = 0.0

    def until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Wait for something; returns whether it came before the time, or a standstill, ended."""
        now = time.monotonic()
        deadline, progress, changed = now + seconds, (0, 0), now
        while not done():
            time.sleep(_POLL)
            now = time.monotonic()
            if self._watch is not None and now - self._watched >= 1:
                self._watched = now
                self._watch(self.running.pids)
            present = (self.board[ACKED], self.board[ARRIVED])
            if present != progress:
                progress, changed = present, now
            if now > deadline or now - changed > _STALLED:
                return False
        return True


def measure(
    contender: Contender, course: Course, plan: Plan, watch: Watch | None = None
) -> Measured:
    """Run it once.

    Raises:
        RuntimeError: the contender ended, or nothing arrived.
    """
    before = calibration()
    with tempfile.TemporaryDirectory(dir=_DISK) as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        board = make_board(folder / "board")
        sink = stack.enter_context(_sink(course, contender.form, folder, plan))
        load, running = _start(contender, course, plan, folder, sink.addresses, board, stack)
        under_way = UnderWay(board, running, watch)
        begun = usage(running.pids)
        load.go()
        window = _window(under_way, course, plan, begun)
        board[STOP] = 1
        _settle(under_way, course, cut=window["cut"])
        running.stop()
        load.go()
        sent = load.report()
        figures, counts = sink.stop()
        acked = _promised(course, folder, board, cut=window["cut"])
        lost = sum(
            1
            for number, flag in enumerate(acked)
            if flag and (number >= len(counts) or not counts[number])
        )
        latency = sent["latency"] if plan.rate and course.source in ACKNOWLEDGING else {}
        return Measured(
            **window,
            latency=latency,
            lost=lost,
            twice=sum(1 for times in counts if times > 1),
            corrupted=figures["corrupted"],
            sampled=figures["sampled"],
            refused=sent["refused"],
            load_cpu=sent["cpu"],
            sink_cpu=figures["cpu"],
            late=sent["late"],
            calibration=(before, calibration()),
        )


def _start(  # noqa: PLR0917 - it is called once
    contender: Contender,
    course: Course,
    plan: Plan,
    folder: Path,
    sink: dict[str, str],
    board: memoryview,
    stack: contextlib.ExitStack,
) -> tuple[Worker, Running]:
    """Start the load and the contender, whichever listens first."""
    options: dict[str, Any] = {
        "board": folder / "board",
        "acked": folder / "acked",
        "count": plan.count,
        "rate": plan.rate,
        **plan.options,
    }
    scheme, path = {"coap": ("coap", "/ce"), "http": ("http", "/")}.get(course.source, ("mqtt", ""))
    work = folder / contender.name
    work.mkdir()

    def start(port: int, url: str) -> Running:
        addresses = Addresses(url, port, **sink)
        running = contender.start(course, addresses, work)
        stack.callback(running.stop)
        deadline = time.monotonic() + _READY
        while not board[ARRIVED] and not running.is_ready():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{contender.name} was not ready within {_READY:.0f} s")
            time.sleep(0.05)
        return running

    def make_load(module: str, **more: Any) -> Worker:
        worker = Worker(f"tests.benchmarks.generators.{module}", **options, **more)
        stack.callback(worker.end)
        return worker

    if course.source == "mqtt":
        options.setdefault("ahead", 0 if course.qos else _QOS0_AHEAD)
        load = make_load("mqtt", qos=course.qos)
        port = load.ready()["port"]
        return load, start(port, f"mqtt://{HOST}:{port}")
    if course.source in ("nats", "jetstream"):
        server = stack.enter_context(_nats_server(folder))
        url = server.url
        if course.source == "jetstream":
            asyncio.run(make_stream(server.port))
            running = start(server.port, url)
        else:
            options.setdefault("ahead", _CORE_AHEAD)
            running = start(server.port, url)
            _until_subscribed(server.monitor)
        load = make_load("nats", port=server.port, stream=course.source == "jetstream")
        load.ready()
        return load, running
    if course.source == "mqtt-endpoint":
        raise ValueError("the MQTT endpoint has no load at full speed")
    port = free_port()
    running = start(port, f"{scheme}://{HOST}:{port}{path}")
    load = make_load(course.source, port=getattr(running, "port", port))
    load.ready()
    return load, running


def _window(under_way: UnderWay, course: Course, plan: Plan, begun: Usage) -> dict[str, Any]:
    """Take the figures between the first tenth, or the beginning, and the end."""
    board = under_way.board
    first, started = 0, time.perf_counter()
    if not plan.whole:
        tenth = plan.count * WARM
        patience = _READY + (tenth / plan.rate if plan.rate else 0.0)
        if not under_way.until(lambda: bool(board[ARRIVED] >= tenth), patience):
            raise RuntimeError(f"only {board[ARRIVED]} of {plan.count} events arrived")
        first, started, begun = board[ARRIVED], time.perf_counter(), usage(under_way.running.pids)

    def done() -> bool:
        acknowledged = course.source not in ACKNOWLEDGING or course.qos == 0
        return bool(board[ARRIVED] >= plan.count and (acknowledged or board[ACKED] >= plan.count))

    seconds = plan.count / plan.rate + plan.seconds if plan.rate else plan.seconds
    finished = under_way.until(done, seconds)
    ended, elapsed, events = usage(under_way.running.pids), time.perf_counter() - started, 0
    events = board[ARRIVED] - first
    if not events:
        raise RuntimeError("nothing arrived in the window")
    return {
        "cpu": (ended.cpu - begun.cpu) / events * 1e6,
        "system": (ended.system - begun.system) / events * 1e6,
        "rate": events / elapsed,
        "mib": ended.mib,
        "processes": ended.processes,
        "events": events,
        "cut": not finished,
    }


def _settle(under_way: UnderWay, course: Course, *, cut: bool) -> None:
    """Wait for what is still under way."""
    board = under_way.board
    if course.source in ACKNOWLEDGING and course.qos:
        under_way.until(lambda: bool(board[ARRIVED] >= board[ACKED] >= board[SENT]), 20)
    elif course.source != "jetstream" or not cut:
        under_way.until(lambda: bool(board[ARRIVED] >= board[SENT]), 20)


def _promised(course: Course, folder: Path, board: memoryview, *, cut: bool) -> bytes:
    """Return a byte for each event: 1 if it has to have arrived."""
    if course.source in ACKNOWLEDGING and course.qos:
        return (folder / "acked").read_bytes()
    if course.source == "jetstream" and cut:
        return b""
    return b"\x01" * board[SENT]


class _Sink(Protocol):
    addresses: dict[str, str]

    def stop(self) -> tuple[dict[str, Any], bytes]: ...

    def end(self) -> None: ...


class _HttpSink:
    def __init__(self, form: str, folder: Path, more: dict[str, Any]) -> None:
        self._sink = CountingSink(
            folder / "counts", folder / "board", form, **{"sample": _SAMPLE, **more}
        )
        self._sink.wait()
        self.addresses = {"sink_url": f"http://{HOST}:{self._sink.port}/"}

    def stop(self) -> tuple[dict[str, Any], bytes]:
        figures, counts = self._sink.stop()
        return dict(figures), counts

    def end(self) -> None:
        self._sink.kill()


class _KafkaSink:
    def __init__(self, form: str, folder: Path, more: dict[str, Any]) -> None:
        self._counts = folder / "counts"
        options = {"form": form, "whole": True, "sample": _SAMPLE, **more}
        self._cluster = _cluster(options.pop("cluster", "mock"), folder)
        if self._cluster is not None:
            options["servers"] = self._cluster.start().bootstrap_servers
            self._cluster.create_topic(KAFKA_TOPIC, PARTITIONS)
        self._worker = Worker(
            "tests.benchmarks.kafka_sink", board=folder / "board", counts=self._counts, **options
        )
        servers = self._worker.ready()["bootstrap_servers"]
        self.addresses = {"bootstrap_servers": servers, "kafka_topic": KAFKA_TOPIC}

    def stop(self) -> tuple[dict[str, Any], bytes]:
        self._worker.go()
        return self._worker.report(), self._counts.read_bytes()

    def end(self) -> None:
        self._worker.end()
        if self._cluster is not None:
            self._cluster.stop()


def _cluster(kind: str, folder: Path) -> Kafka | None:
    """Return a cluster that is not started yet; None for the sink's own."""
    if kind == "mock":
        return None
    path = folder / "kafka"
    path.mkdir()
    return NoidaKafka(path, "chosen") if kind == "noida" else Kafka(path, make_certificates(path))


@contextlib.contextmanager
def _sink(course: Course, form: str, folder: Path, plan: Plan) -> Iterator[_Sink]:
    sink: _Sink
    if course.sink == "kafka":
        sink = _KafkaSink(form, folder, plan.sink)
    else:
        sink = _HttpSink(form, folder, {"h2": course.sink == "h2c", **plan.sink})
    try:
        yield sink
    finally:
        sink.end()


class _MonitoredNats(NatsServer):
    def __init__(self, folder: Path) -> None:
        self.monitor = free_port()
        super().__init__(folder, f'http: "{HOST}:{self.monitor}"')


def _nats_server(folder: Path) -> _MonitoredNats:
    path = folder / "nats"
    path.mkdir()
    return _MonitoredNats(path)


def _until_subscribed(monitor: int) -> None:
    """Wait until the server has a subscription to the load's subjects."""
    url = f"http://{HOST}:{monitor}/subsz?subs=1&test={SUBJECT.replace('>', 'dev000')}"
    deadline = time.monotonic() + _READY
    while True:
        with urllib.request.urlopen(url, timeout=5) as answer:
            if json.load(answer)["total"]:
                return
        if time.monotonic() > deadline:
            raise RuntimeError("nobody subscribed")
        time.sleep(0.05)
