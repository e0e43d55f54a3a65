"""The exposition is what Prometheus' own parser reads."""

from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from gateway.build import build
from gateway.metrics import Histogram, Metrics
from gateway.spool import Spool


def samples(metrics):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


def test_counters_appear_under_their_documented_names():
    metrics = Metrics()
    source = metrics.sources["field"]
    source.received = 3
    source.settled[0] = 2
    source.rejected["invalid_event"] += 1
    metrics.sinks["knative"].sent = 2
    metrics.sinks["knative"].retried = 4
    metrics.routes["r"].dead_lettered = 1
    metrics.routes["r"].inflight = 7
    metrics.routes["r"].limit = 1000
    found = samples(metrics)
    assert found["ce_gateway_events_received_total", ("source", "field")] == 3
    assert found["ce_gateway_settled_total", ("outcome", "accepted"), ("source", "field")] == 2
    assert found["ce_gateway_rejected_total", ("reason", "invalid_event"), ("source", "field")] == 1
    assert found["ce_gateway_sent_total", ("sink", "knative")] == 2
    assert found["ce_gateway_retried_total", ("sink", "knative")] == 4
    assert found["ce_gateway_dead_lettered_total", ("route", "r")] == 1
    assert found["ce_gateway_inflight", ("route", "r")] == 7
    assert found["ce_gateway_inflight_limit", ("route", "r")] == 1000


class AtWork(NamedTuple):
    spool: Spool
    damaged: int = 0
    is_on: bool = False


def test_a_spool_is_shown_beside_what_it_may_take(tmp_path):
    metrics = Metrics()
    metrics.spools["r", "s"] = AtWork(Spool(tmp_path, max_bytes=1 << 20))
    found = samples(metrics)
    lane = ("route", "r"), ("sink", "s")
    assert found["ce_gateway_spool_bytes", *lane] == 0
    assert found["ce_gateway_spool_max_bytes", *lane] == 1 << 20


def test_the_build_is_told_with_its_version_and_kind():
    this = build()
    labels = ("compiled", str(this.is_compiled).lower()), ("version", this.version)
    assert samples(Metrics())["ce_gateway_build_info", *labels] == 1


def test_a_histogram_is_cumulative_and_keeps_the_sum():
    histogram = Histogram()
    histogram.observe(0.001)
    histogram.observe(0.3, 2)
    histogram.observe(1000)
    buckets = dict(histogram.cumulative())
    assert buckets["0.001"] == 1
    assert buckets["0.25"] == 1
    assert buckets["0.5"] == 3
    assert buckets["60.0"] == 3
    assert buckets["+Inf"] == 4
    assert histogram.total == 1000.601
