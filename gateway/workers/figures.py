"""The metrics of several workers as one: sums, and what is said of the workers themselves.

A flag ("1 while...") is 1 while it is so in any worker. Of a worker that has ended, what it counted
stays in the sums, so that no counter ever goes back.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

_FLAGS: Final = frozenset(
    {
        "ce_gateway_build_info",
        "ce_gateway_spool_in_use",
        "ce_gateway_spool_full",
        "ce_gateway_circuit_open",
    }
)


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One value with its labels."""

    name: str
    labels: Mapping[str, str]
    value: float


class Family(msgspec.Struct, frozen=True, array_like=True):
    """A metric: its samples, and what Prometheus is told of it."""

    name: str
    text: str
    kind: str
    samples: Sequence[Sample]


class WorkerFigures(msgspec.Struct, frozen=True):
    """What is told of one worker: whether it takes events, how many, how often it was replaced."""

    number: int
    is_up: bool
    restarts: int
    received: int


def families_of(metrics: Iterable[Metric]) -> list[Family]:
    """Return metrics in the form that is sent."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            [Sample(one.name, one.labels, one.value) for one in metric.samples],
        )
        for metric in metrics
    ]


def added(parts: Iterable[Sequence[Family]]) -> list[Family]:
    """Return the sums of several workers' metrics."""
    heads: dict[str, Family] = {}
    sums: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], Sample]] = {}
    for family in (family for part in parts for family in part):
        heads.setdefault(family.name, family)
        samples = sums.setdefault(family.name, {})
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            known = samples.get(key)
            if known is None:
                samples[key] = sample
                continue
            is_flag = family.name in _FLAGS
            value = max(known.value, sample.value) if is_flag else known.value + sample.value
            samples[key] = Sample(sample.name, sample.labels, value)
    return [
        Family(name, head.text, head.kind, list(sums[name].values()))
        for name, head in heads.items()
    ]


def lasting(families: Sequence[Family]) -> list[Family]:
    """Return what stays counted when the worker has ended: no gauges."""
    return [family for family in families if family.kind != "gauge"]


def received_of(families: Sequence[Family]) -> int:
    """Return how many events came, from all sources."""
    return sum(
        int(sample.value)
        for family in families
        if family.name == "ce_gateway_events_received"
        for sample in family.samples
    )


def exposition(
    families: Sequence[Family], own: Iterable[Metric], workers: Sequence[WorkerFigures]
) -> bytes:
    """Return Prometheus' text format (version 0.0.4).

    Args:
        families: the sums over all workers.
        own: the parent's metrics.
        workers: each worker.
    """
    registry = CollectorRegistry()
    registry.register(_Everything([*_metrics(families), *own, *_of_workers(workers)]))
    return generate_latest(registry)


class _Everything(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _metrics(families: Sequence[Family]) -> Iterator[Metric]:
    for family in families:
        metric = Metric(family.name, family.text, family.kind)
        for sample in family.samples:
            metric.add_sample(sample.name, dict(sample.labels), sample.value)
        yield metric


def _of_workers(workers: Sequence[WorkerFigures]) -> Iterator[Metric]:
    up = GaugeMetricFamily("ce_gateway_worker_up", "1 while a worker is ready", labels=["worker"])
    restarts = CounterMetricFamily(
        "ce_gateway_worker_restarts", "How often a worker was replaced", labels=["worker"]
    )
    received = CounterMetricFamily(
        "ce_gateway_worker_events_received",
        "Events that came to a worker, from all sources",
        labels=["worker"],
    )
    for worker in workers:
        received.add_metric([str(worker.number)], worker.received)
        up.add_metric([str(worker.number)], float(worker.is_up))
        restarts.add_metric([str(worker.number)], worker.restarts)
    yield up
    yield restarts
    yield received
