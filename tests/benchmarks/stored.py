"""`ack: stored` beside `ack: sink`: what it costs, and how long a sender waits.

In one process, with a sink that does nothing: what the way through the spool adds to the pipeline.
Then the whole gateway at an even rate of 5,000 events/s, the two modes by turns, sender and sink in
processes of their own. CPU time counts all threads, and so it counts the writer's.
"""

import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from gateway.delivery import Delivery
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.router import Route
from gateway.state import State
from gateway.target import Target
from tests.benchmarks.codec import NullSink, make_events
from tests.benchmarks.counting_sink import counting_sink
from tests.benchmarks.load import WINDOW, Report, run_load
from tests.benchmarks.machine import spread, table
from tests.benchmarks.process import cpu_seconds, gateway, memory_mib
from tests.e2e.servers import HOST, free_port

RATE: Final = 5000
SECONDS: Final = 6.0
PAIRS: Final = 5
MODES: Final = ("sink", "stored")
_DISK: Final = "/var/tmp"  # /tmp may be in memory
_EVENTS: Final = 16 * 1024
_SIZES: Final = (1, 16, 256, 1000)
_ROUNDS: Final = 3


@dataclass(frozen=True)
class Way:
    """How events come in, and how they go out.

    Attributes:
        name: in the table.
        kind: of the sender.
        connections: of the sender.
        burst: events that it sends together.
        batch: whether the sink gets batches, and not an event a request.
    """

    name: str
    kind: str
    connections: int
    burst: int = 1
    batch: bool = False


WAYS: Final = (
    Way("HTTP, an event a request", "http", 200),
    Way("MQTT endpoint, QoS 1", "mqtt", 4),
    Way("MQTT endpoint, QoS 1, to a batch sink", "mqtt", 4, batch=True),
    Way("MQTT endpoint, 256 at a time, to a batch sink", "mqtt", 4, burst=256, batch=True),
    Way("HTTP, batches of 256, to a batch sink", "http", 2, burst=256, batch=True),
)


@dataclass
class Measured:
    """One way in one mode, run by run."""

    cpu: list[float] = field(default_factory=list)
    mib: list[float] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)

    def cells(self) -> Sequence[str]:
        """Return the cells that a mode has in the table."""
        waits = [
            " / ".join(f"{report[name]:.1f}" for name in ("p50", "p99", "p999"))
            for report in sorted(self.reports, key=lambda report: report["p99"])
        ]
        return [
            spread([report["rate"] for report in self.reports], 0),
            f"{waits[len(waits) // 2]} ({waits[0]} .. {waits[-1]})",
            spread(self.cpu),
            spread(self.mib, 0),
        ]


def config_of(way: Way, mode: str, port: int, sink: int) -> dict[str, Any]:
    """Return a gateway's configuration, without its state."""
    protocol = {"http": "http", "mqtt": "mqtt-endpoint"}[way.kind]
    source: dict[str, Any] = {"protocol": protocol, "listen": f"{HOST}:{port}"}
    if way.kind == "mqtt":
        source["receive_maximum"] = WINDOW
    return {
        "sources": {"in": source},
        "sinks": {"out": {"protocol": "http", "url": f"http://{HOST}:{sink}/", "batch": way.batch}},
        "routes": [{"name": "load", "to": ["out"]}],
        "delivery": {"ack": mode},
        "limits": {"max_event_bytes": "1MiB"},  # a batch is a message
    }


def run() -> None:
    """Print the tables."""
    _run_pipelines()
    rows = []
    for way in WAYS:
        modes = {mode: Measured() for mode in MODES}
        for number in range(PAIRS):
            # By turns, and each mode first as often as the other, nearly.
            for mode in MODES if number % 2 == 0 else reversed(MODES):
                _measure(way, mode, modes[mode])
        print(f"  {way.name}", file=sys.stderr)
        more = [
            stored - sink
            for sink, stored in zip(modes["sink"].cpu, modes["stored"].cpu, strict=True)
        ]
        for mode, measured in modes.items():
            difference = spread(more) if mode == "stored" else ""
            rows.append((way.name, mode, *measured.cells(), difference))
    print(
        f"\n{RATE} events/s of 200 B of JSON and eight attributes for {SECONDS:.0f} s, "
        f"{PAIRS} pairs. Of the acknowledgement latencies: the run with the median p99, the best "
        "and the worst."
    )
    table(
        (
            "way in and out", "ack", "events/s", "p50 / p99 / p99.9, ms", "CPU us per event",
            "resident, MiB", "stored - sink, us",
        ),
        rows,
    )  # fmt: skip


def _measure(way: Way, mode: str, measured: Measured) -> None:
    """Run a gateway under load once."""
    port = free_port()
    with tempfile.TemporaryDirectory(dir=_DISK) as folder, counting_sink(Path(folder)) as sink:
        config = config_of(way, mode, port, sink.port)
        config["state"] = {"path": f"{folder}/state"}
        with gateway(config) as running:
            before = cpu_seconds(running.pid)
            report = run_load(
                way.kind, port, rate=RATE, seconds=SECONDS, connections=way.connections,
                burst=way.burst,
            )  # fmt: skip
            running.until_sent(report["acked"])
            measured.cpu.append((cpu_seconds(running.pid) - before) / report["acked"] * 1e6)
            measured.mib.append(memory_mib(running.pid))
            measured.reports.append(report)


def _run_pipelines() -> None:
    events = make_events(_EVENTS)
    kinds = {"no spool": (False, False), "sink": (True, False), "stored": (True, True)}
    rows = []
    for size in _SIZES:
        figures: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(_ROUNDS):
            for kind, (spool, stored) in kinds.items():
                route = Route(name="bench", sinks=["null"], spool=spool, stored=stored)
                figures[kind].append(uvloop.run(_pipeline(route, size, events)))
        more = statistics.median(figures["stored"]) - statistics.median(figures["sink"])
        rows.append((str(size), *(spread(found) for found in figures.values()), f"{more:.1f}"))
    print("\nCPU us per event of the pipeline with a null sink, until the sink has all.")
    table(("events per list", "no spool", "ack: sink", "ack: stored", "stored - sink"), rows)


async def _pipeline(route: Route, size: int, events: Sequence[Any]) -> float:
    """Return CPU microseconds per event, all threads."""
    metrics = Metrics()
    with _running(route, metrics) as running:
        running.start()
        intake = running.intake("bench")
        settled = 0

        def on_settled(_: object) -> None:
            nonlocal settled
            settled += 1

        started = time.process_time()
        for start in range(0, len(events), size):
            chunk = events[start : start + size]
            await intake.submit([Delivery((event,), on_settled) for event in chunk])
        while settled < len(events) or metrics.sinks["null"].sent < len(events):
            await asyncio.sleep(0.0005)
        used = time.process_time() - started
        await running.close()
    return used / len(events) * 1e6


@contextlib.contextmanager
def _running(route: Route, metrics: Metrics) -> Iterator[Pipeline]:
    target = Target(name="null", sink=NullSink(), address="null")
    with tempfile.TemporaryDirectory(dir=_DISK) as folder:
        state = State(Path(folder), 1 << 30, [route])
        state.open()
        try:
            yield Pipeline([route], {"null": target}, metrics, state)
        finally:
            state.close()
