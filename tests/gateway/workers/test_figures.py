"""Sums over workers: what Prometheus' own parser reads of them."""

from prometheus_client.parser import text_string_to_metric_families

from gateway.delivery import Outcome
from gateway.metrics import Metrics
from gateway.workers.figures import (
    WorkerFigures,
    added,
    exposition,
    families_of,
    lasting,
    received_of,
)


class Circuit:
    def __init__(self, *, is_open):
        self.is_open = is_open


def counted(received, inflight=0, seconds=0.02):
    metrics = Metrics()
    source = metrics.sources["web"]
    source.received = received
    source.settled[Outcome.ACCEPTED] = received
    source.ack_seconds.observe(seconds, received)
    metrics.routes["way"].inflight = inflight
    return metrics


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def shown(*parts, workers=()):
    return samples(exposition(added(map(families_of, parts)), [], workers))


def test_counters_histograms_and_gauges_are_added():
    found = shown(counted(3, inflight=1).collect(), counted(4, inflight=2, seconds=7).collect())
    assert found["ce_gateway_events_received_total", "web"] == 7
    assert found["ce_gateway_settled_total", "accepted", "web"] == 7
    assert found["ce_gateway_inflight", "way"] == 3
    assert found["ce_gateway_ack_seconds_bucket", "0.025", "web"] == 3
    assert found["ce_gateway_ack_seconds_bucket", "+Inf", "web"] == 7
    assert found["ce_gateway_ack_seconds_count", "web"] == 7
    assert found["ce_gateway_ack_seconds_sum", "web"] == 3 * 0.02 + 4 * 7


def test_the_build_stays_one_however_many_workers_tell_it():
    found = shown(counted(3).collect(), counted(4).collect())
    assert [value for key, value in found.items() if key[0] == "ce_gateway_build_info"] == [1]


def test_one_worker_is_shown_as_it_shows_itself():
    metrics = counted(3, inflight=1)
    alone = samples(metrics.exposition())
    workers = {
        key: value for key, value in shown(metrics.collect()).items() if "_worker_" not in key[0]
    }
    assert workers == alone


def test_what_only_one_worker_has_is_in_the_sum():
    other = Metrics()
    other.sources["can"].received = 5
    found = shown(counted(3).collect(), other.collect())
    assert found["ce_gateway_events_received_total", "web"] == 3
    assert found["ce_gateway_events_received_total", "can"] == 5


def test_a_flag_is_no_number_of_workers():
    parts = []
    for is_open in (True, True, False):
        metrics = Metrics()
        metrics.circuits["out"] = Circuit(is_open=is_open)
        metrics.spools["way", "out"] = AtWork()
        parts.append(metrics.collect())
    found = shown(*parts)
    assert found["ce_gateway_circuit_open", "out"] == 1
    assert found["ce_gateway_spool_in_use", "out", "way"] == 1
    assert found["ce_gateway_spool_full", "out", "way"] == 0
    assert found["ce_gateway_spool_events", "out", "way"] == 3 * 7
    assert found["ce_gateway_spool_max_bytes", "out", "way"] == 3 * 400


class AtWork:
    """The figures of a spool with 7 events."""

    damaged = 0
    is_on = True

    class spool:  # noqa: N801 - an attribute
        pending = 7
        bytes = 100
        max_bytes = 400
        is_full = False


def test_of_a_worker_that_has_ended_the_counters_stay():
    families = lasting(families_of(counted(3, inflight=1).collect()))
    found = samples(exposition(added([families]), [], []))
    assert found["ce_gateway_events_received_total", "web"] == 3
    assert found["ce_gateway_ack_seconds_count", "web"] == 3
    assert ("ce_gateway_inflight", "way") not in found


def test_each_worker_is_told_of():
    found = shown(workers=[WorkerFigures(0, True, 0, 5), WorkerFigures(1, False, 2, 6)])
    assert found["ce_gateway_worker_up", "0"] == 1
    assert found["ce_gateway_worker_up", "1"] == 0
    assert found["ce_gateway_worker_restarts_total", "1"] == 2
    assert found["ce_gateway_worker_events_received_total", "1"] == 6
    assert received_of(families_of(counted(3).collect())) == 3
