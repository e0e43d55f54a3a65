"""What is counted, under which name, and when: integers on the hot path, Prometheus at the scrape.

    received    events handed in by a source, when `submit` took them
    settled     events whose message was answered, by outcome
    rejected    messages that brought no event, by reason
    sent        events that a sink accepted
    retried     attempts after the first
    spool_...   what waits on disk, by route and sink
    dead_letters, replayed      those kept on disk, and those sent again, by route
    dead_lettered, duplicates, filtered, inflight, sink_seconds, ack_seconds   as their names say

No label ever holds a device's identity.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from gateway.build import build
from gateway.spool import Spool

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Histogram:
    """Seconds, in buckets."""

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(_BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float, count: int = 1) -> None:
        """Count `count` observations of `seconds`."""
        self.buckets[bisect_left(_BOUNDS, seconds)] += count
        self.total += seconds * count

    def cumulative(self) -> list[tuple[str, float]]:
        """Return Prometheus' buckets: each upper bound with all that is below it."""
        result, running = [], 0
        for bound, count in zip([*map(str, _BOUNDS), "+Inf"], self.buckets, strict=True):
            running += count
            result.append((bound, float(running)))
        return result


class SourceMetrics:
    """One source's counters."""

    def __init__(self) -> None:
        self.received = 0
        self.settled = [0, 0, 0]  # by Outcome
        self.filtered = 0
        self.rejected: defaultdict[str, int] = defaultdict(int)
        self.ack_seconds = Histogram()


class SinkMetrics:
    """One sink's counters."""

    def __init__(self) -> None:
        self.sent = 0
        self.retried = 0
        self.failed: defaultdict[str, int] = defaultdict(int)
        self.seconds = Histogram()


class RouteMetrics:
    """One route's counters; `inflight` and its `limit` are gauges."""

    def __init__(self) -> None:
        self.dead_lettered = 0
        self.duplicates = 0
        self.inflight = 0
        self.limit = 0


class DeadLetterFigures(Protocol):
    """What is counted of local dead letters."""

    @property
    def stored(self) -> Mapping[str, int]:
        """How many there are, by route."""

    @property
    def bytes(self) -> int:
        """What they take on the disk."""

    @property
    def is_full(self) -> bool:
        """Whether nothing can be stored at the moment."""

    @property
    def replayed(self) -> Mapping[tuple[str, str], int]:
        """How many were replayed, by route and outcome."""


class SpoolFigures(Protocol):
    """What is counted of a spool at work."""

    @property
    def spool(self) -> Spool:
        """The spool itself."""

    @property
    def damaged(self) -> int:
        """Events lost to damage since the start."""

    @property
    def is_on(self) -> bool:
        """Whether events go through it at the moment."""


class CircuitFigures(Protocol):
    """What is shown of a sink's circuit."""

    @property
    def is_open(self) -> bool:
        """Whether the sink is only asked by probes."""


class Metrics(Collector):
    """Every counter of the process, and its Prometheus exposition.

    Attributes:
        dead_letters: the local ones; None when none are kept.
        spools: those at work, by route and sink.
        circuits: by sink.
    """

    def __init__(self) -> None:
        self.dead_letters: DeadLetterFigures | None = None
        self.spools: dict[tuple[str, str], SpoolFigures] = {}
        self.circuits: dict[str, CircuitFigures] = {}
        self.sources: defaultdict[str, SourceMetrics] = defaultdict(SourceMetrics)
        self.sinks: defaultdict[str, SinkMetrics] = defaultdict(SinkMetrics)
        self.routes: defaultdict[str, RouteMetrics] = defaultdict(RouteMetrics)
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def exposition(self) -> bytes:
        """Return the text format (version 0.0.4) of everything."""
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        yield _build_info()
        yield from self._collect_sources()
        yield from self._collect_sinks()
        yield _counter(
            "ce_gateway_dead_lettered",
            "Events that became dead letters: local ones, or at the route's dead-letter sink",
            ("route",),
            (((name,), route.dead_lettered) for name, route in self.routes.items()),
        )
        yield _counter(
            "ce_gateway_duplicates",
            "Events that came again within the window of `dedup`",
            ("route",),
            (((name,), route.duplicates) for name, route in self.routes.items()),
        )
        inflight = GaugeMetricFamily("ce_gateway_inflight", "Events under way", labels=["route"])
        limit = GaugeMetricFamily(
            "ce_gateway_inflight_limit",
            "Events under way beyond which sources wait or refuse",
            labels=["route"],
        )
        for name, route in self.routes.items():
            inflight.add_metric([name], route.inflight)
            limit.add_metric([name], route.limit)
        yield inflight
        yield limit
        yield from self._collect_spools()
        yield from self.collect_dead_letters()

    def collect_dead_letters(self) -> Iterator[Metric]:
        """Yield what is told of the dead letters, which the parent of several workers has."""
        if self.dead_letters is not None:
            yield from _dead_letters(self.dead_letters)

    def _collect_sources(self) -> Iterator[Metric]:
        sources = self.sources.items()
        yield _counter(
            "ce_gateway_events_received",
            "Events handed in by a source",
            ("source",),
            (((name,), source.received) for name, source in sources),
        )
        yield _counter(
            "ce_gateway_settled",
            "Events whose message was answered",
            ("source", "outcome"),
            (
                ((name, outcome), count)
                for name, source in sources
                for outcome, count in zip(
                    ("accepted", "rejected", "released"), source.settled, strict=True
                )
            ),
        )
        yield _counter(
            "ce_gateway_filtered",
            "Events that no route wanted",
            ("source",),
            (((name,), source.filtered) for name, source in sources),
        )
        yield _counter(
            "ce_gateway_rejected",
            "Messages that brought no event",
            ("source", "reason"),
            (
                ((name, reason), count)
                for name, source in sources
                for reason, count in source.rejected.items()
            ),
        )
        yield _histogram(
            "ce_gateway_ack_seconds",
            "From submit to the answer",
            "source",
            ((name, source.ack_seconds) for name, source in sources),
        )

    def _collect_spools(self) -> Iterator[Metric]:
        if not self.spools:
            return
        figures: dict[str, tuple[str, Callable[[SpoolFigures], float]]] = {
            "events": (
                "Events on disk that the sink does not have",
                lambda at_work: at_work.spool.pending,
            ),
            "bytes": ("What the spool takes on the disk", lambda at_work: at_work.spool.bytes),
            "max_bytes": ("What it may take there", lambda at_work: at_work.spool.max_bytes),
            "in_use": ("1 while events go through the spool", lambda at_work: at_work.is_on),
            "full": ("1 while the spool takes nothing", lambda at_work: at_work.spool.is_full),
        }
        for name, (text, value) in figures.items():
            family = GaugeMetricFamily(f"ce_gateway_spool_{name}", text, labels=["route", "sink"])
            for lane, spool in self.spools.items():
                family.add_metric(lane, float(value(spool)))
            yield family
        yield _counter(
            "ce_gateway_spool_damaged",
            "Events on disk that were lost to damage",
            ("route", "sink"),
            ((lane, spool.damaged) for lane, spool in self.spools.items()),
        )
        circuits = GaugeMetricFamily(
            "ce_gateway_circuit_open", "1 while a sink is only asked by probes", labels=["sink"]
        )
        for name, circuit in self.circuits.items():
            circuits.add_metric([name], float(circuit.is_open))
        yield circuits

    def _collect_sinks(self) -> Iterator[Metric]:
        sinks = self.sinks.items()
        yield _counter(
            "ce_gateway_sent",
            "Events that a sink accepted",
            ("sink",),
            (((name,), sink.sent) for name, sink in sinks),
        )
        yield _counter(
            "ce_gateway_retried",
            "Attempts after the first",
            ("sink",),
            (((name,), sink.retried) for name, sink in sinks),
        )
        yield _counter(
            "ce_gateway_sink_failures",
            "Attempts that failed",
            ("sink", "reason"),
            (
                ((name, reason), count)
                for name, sink in sinks
                for reason, count in sink.failed.items()
            ),
        )
        yield _histogram(
            "ce_gateway_sink_seconds",
            "Duration of an attempt, by event",
            "sink",
            ((name, sink.seconds) for name, sink in sinks),
        )


def _build_info() -> Metric:
    this = build()
    family = GaugeMetricFamily(
        "ce_gateway_build_info",
        "1, with the version and whether the codecs are compiled",
        labels=["version", "compiled"],
    )
    family.add_metric([this.version, str(this.is_compiled).lower()], 1)
    return family


def _dead_letters(figures: DeadLetterFigures) -> Iterator[Metric]:
    stored = GaugeMetricFamily(
        "ce_gateway_dead_letters", "Dead letters that are kept", labels=["route"]
    )
    for route, count in figures.stored.items():
        stored.add_metric([route], count)
    yield stored
    yield GaugeMetricFamily(
        "ce_gateway_dead_letters_bytes",
        "What they take on the disk, with the database's log",
        value=figures.bytes,
    )
    yield GaugeMetricFamily(
        "ce_gateway_dead_letters_full",
        "1 while no dead letter can be stored: no room, or a disk that fails",
        value=figures.is_full,
    )
    yield _counter(
        "ce_gateway_replayed",
        "Dead letters that were replayed; accepted: they have arrived or are in a spool",
        ("route", "outcome"),
        list(figures.replayed.items()),
    )


def _counter(
    name: str, text: str, labels: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], int]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in rows:
        family.add_metric(values, count)
    return family


def _histogram(
    name: str, text: str, label: str, rows: Iterable[tuple[str, Histogram]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=[label])
    for value, histogram in rows:
        family.add_metric([value], buckets=histogram.cumulative(), sum_value=histogram.total)
    return family
