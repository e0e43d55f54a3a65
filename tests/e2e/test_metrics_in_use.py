"""The alerts and the dashboard of deploy/examples, beside the metrics of gateways that run."""

import http.client
import itertools
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import skipping_what_is_missing
from tests.e2e.servers import HOST, Answer, Gateway, HttpRecorder, free_port, poll_until, program
from tests.e2e.servers.prometheus import Prometheus

EXAMPLES = Path(__file__).parents[2] / "deploy/examples"
RULES = EXAMPLES / "prometheus/rules.yml"
DASHBOARD = EXAMPLES / "grafana/ce-gateway.json"

VARIABLES = {"$__rate_interval": "10s", "$job": "ce-gateway", "$instance": ".+"}
OF_PROMETHEUS = {"up": {"job", "instance"}}
KEYWORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}
GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
TOKEN = re.compile(
    r'"[^"]*"|\[[^]]*\]|\d[\w.]*|(?P<name>[A-Za-z_:][\w:]*)|(?P<sign>[(){}=!~<>,*/%^+-])|\S'
)


def rules():
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels():
    dashboard = json.loads(DASHBOARD.read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def dashboard_queries():
    """Return each query with its legend."""
    return [
        (target["expr"], target["legendFormat"])
        for panel in panels()
        for target in panel["targets"]
    ]


def plain(query):
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    return query


def used_by(query):
    """Return the metrics of a query with the labels that select them, and the labels that group."""
    metrics, grouping, inside = {}, set(), None
    tokens = [found for found in TOKEN.finditer(query) if found["name"] or found["sign"]]
    for token, following in itertools.zip_longest(tokens, tokens[1:]):
        name, after = token["name"], following[0] if following else ""
        if token["sign"] in {")", "}"}:
            inside = None
        elif name and inside is not None:
            inside.add(name)
        elif name in GROUPING:
            inside = grouping
        elif name and name not in KEYWORDS and after != "(" and after not in GROUPING:
            labels = metrics.setdefault(name, set())
            inside = labels if after == "{" else None
    return metrics, grouping


@pytest.mark.parametrize(
    ("query", "metrics", "grouping"),
    [
        ("up", {"up": set()}, set()),
        ('sum by (a, b) (rate(m{x="y z", i=~"b.+"}[5m]))', {"m": {"x", "i"}}, {"a", "b"}),
        ("sum(rate(m[1d] offset 15m)) by (a) > 0.5 and n == 1", {"m": set(), "n": set()}, {"a"}),
        (
            "a:b / on (x) group_left (y) (d > 0) or vector(0)",
            {"a:b": set(), "d": set()},
            {"x", "y"},
        ),
    ],
)
def test_metrics_and_labels_of_a_query_are_found(query, metrics, grouping):
    assert used_by(query) == (metrics, grouping)


@pytest.fixture(scope="module")
def gateways(tmp_path_factory):
    """Run a gateway that has seen everything, and one with two workers."""
    with HttpRecorder() as good, HttpRecorder(lambda _: Answer(400)) as refusing:
        busy = Gateway(
            tmp_path_factory.mktemp("busy"),
            {
                "sources": {"web": {"protocol": "http", "listen": f"{HOST}:0"}},
                "sinks": {
                    "good": {"protocol": "http", "url": good.url},
                    "refusing": {"protocol": "http", "url": refusing.url},
                    "down": {"protocol": "http", "url": f"http://{HOST}:{free_port()}"},
                },
                "routes": [
                    {"name": "good", "filter": {"exact": {"type": "good"}}, "to": ["good"]},
                    {"name": "bad", "filter": {"exact": {"type": "refused"}}, "to": ["refusing"]},
                    {"name": "kept", "filter": {"exact": {"type": "kept"}}, "to": ["down"]},
                ],
            },
        )
        workers = Gateway(
            tmp_path_factory.mktemp("workers"),
            {
                "sources": {"web": {"protocol": "http", "listen": f"{HOST}:0"}},
                "sinks": {"good": {"protocol": "http", "url": good.url}},
                "routes": [{"to": ["good"]}],
                "workers": 2,
            },
        )
        with busy, workers:
            assert [post(busy, kind) for kind in ("good", "refused", "kept", "unwanted")] == [
                202
            ] * 4
            assert post(busy, "good", specversion="0.1") == 400
            assert post(workers, "good") == 202
            replay(busy)
            yield busy, workers


def post(gateway, kind, **changes):
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": kind, **changes}
    content_type = {"content-type": "application/cloudevents+json"}
    return request(gateway.ports["web"], "/", json.dumps(event), content_type)


def replay(gateway):
    body, headers = json.dumps({"ids": [1]}), {"content-type": "application/json"}
    assert request(gateway.port, "/api/v1/dead-letters/replay", body, headers) == 200


def request(port, path, body, headers):
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


@pytest.fixture(scope="module")
def exported(gateways):
    """Return the labels of each sample that a gateway exports, by name."""
    found = {}
    for gateway in gateways:
        text = gateway.get("/metrics")[1].decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, {"job", "instance"}).update(sample.labels)
    return found


@pytest.fixture(scope="module")
def prometheus(gateways, tmp_path_factory):
    targets = [f"{HOST}:{gateway.port}" for gateway in gateways]
    with skipping_what_is_missing():
        server = Prometheus(tmp_path_factory.mktemp("prometheus"), {"ce-gateway": targets}, [RULES])
    with server:
        yield server


# --- rules ----------------------------------------------------------------------------------------


def test_promtool_finds_no_mistake_in_the_rules():
    promtool = program("promtool", "prometheus")
    subprocess.run([promtool, "check", "rules", "--lint=all", "--lint-fatal", RULES], check=True)


def test_alerts_fire_when_they_should():
    promtool = program("promtool", "prometheus")
    subprocess.run([promtool, "test", "rules", RULES.with_name("rules_test.yml")], check=True)


def test_every_alert_and_record_has_a_case():
    cases = RULES.with_name("rules_test.yml").read_text()
    names = [rule.get("alert") or rule["record"] for rule in rules()]
    assert [name for name in names if f" {name}" not in cases] == []


def test_rules_use_metrics_and_labels_that_gateways_export(exported):
    known = {**exported, **OF_PROMETHEUS}
    for rule in rules():
        metrics, grouping = used_by(rule["expr"])
        assert set(metrics) - set(known) == set(), rule
        labels = set().union(*(known[name] for name in metrics))
        assert all(selected <= known[name] for name, selected in metrics.items()), rule
        assert grouping <= labels, rule
        if "record" in rule:
            known[rule["record"]] = (grouping & labels) or labels
            continue
        kept = grouping or labels
        shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert shown <= kept, rule


def test_a_real_prometheus_evaluates_the_rules(prometheus):
    def healths():
        groups = prometheus.api("rules")["data"]["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    poll_until(lambda: "unknown" not in healths().values(), 30, "an evaluation")
    assert healths() == {rule.get("alert") or rule["record"]: "ok" for rule in rules()}
    for rule in rules():
        if "record" in rule:
            poll_until(lambda name=rule["record"]: prometheus.query(name), 30, rule["record"])


# --- dashboard ------------------------------------------------------------------------------------


def test_the_dashboard_uses_metrics_and_labels_that_gateways_export(exported):
    known = {**exported, **OF_PROMETHEUS}
    for query, _ in dashboard_queries():
        metrics, grouping = used_by(plain(query))
        assert set(metrics) - set(known) == set(), query
        assert all(selected <= known[name] for name, selected in metrics.items()), query
        assert grouping <= set().union(*(known[name] for name in metrics)), query


def test_every_query_of_the_dashboard_has_an_answer_with_the_labels_of_its_legend(prometheus):
    for query, legend in dashboard_queries():
        answer = poll_until(lambda q=query: prometheus.query(plain(q)), 30, query)
        wanted = set(re.findall(r"{{(\w+)}}", legend))
        assert all(wanted <= set(series["metric"]) for series in answer), (query, answer)


def test_every_metric_of_a_gateway_is_on_the_dashboard(exported):
    used = set().union(*(used_by(plain(query))[0] for query, _ in dashboard_queries()))
    parts = ("_bucket", "_sum", "_count", "_created")
    names = {re.sub(f"({'|'.join(parts)})$", "_bucket", name) for name in exported}
    own = {name for name in names if name.startswith("ce_gateway_")}
    assert own - used - {"ce_gateway_worker_up", "ce_gateway_dead_letters_bytes"} == {
        "ce_gateway_dead_letters_full",  # an alert
        "ce_gateway_spool_in_use",  # part of an alert
    }


def test_panels_have_their_own_places_and_ids():
    dashboard = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in dashboard}) == len(dashboard)
    taken = set()
    for panel in dashboard:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert cells & taken == set()
        assert place["x"] + place["w"] <= 24
        taken |= cells
