"""Knative's contract, section B: what goes on the wire. docs/knative.md has the numbers."""

import json

import pytest

from tests.e2e.bad_input.peers import HttpPeer, http_post
from tests.e2e.knative.bench import (
    QUICK,
    Bench,
    attempts,
    configuration,
    event,
    post,
    received,
    started,
)
from tests.e2e.knative.container import Container
from tests.e2e.servers import HOST, Answer, Gateway, HttpRecorder

REPLY = b'{"specversion":"1.0","id":"reply","source":"/r","type":"t"}'
CE_JSON = {"Content-Type": "application/cloudevents+json"}
TRACE = {
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": "congo=t61rcWkgMzE",
}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A gateway whose events of type `binary` go by a sink in binary mode, all to one address."""
    with HttpRecorder() as sink:
        config = configuration({**QUICK, "retry": 3, "backoffDelay": "PT0.01S"})
        config["sinks"]["binary"] = {"protocol": "http", "url": "${K_SINK}", "mode": "binary"}
        (route,) = config["routes"]
        config["routes"] = [
            {**route, "filter": {"not": {"exact": {"type": "binary"}}}},
            {"to": ["binary"], "filter": {"exact": {"type": "binary"}}, "delivery": QUICK},
        ]
        folder = tmp_path_factory.mktemp("b")
        env = {"K_SINK": f"{sink.url}/ns/broker", "NAMESPACE": "team-a"}
        with started(Gateway(folder, config, env)) as gateway:
            yield Bench(gateway, sink)


@pytest.fixture
def bench(running):
    running.sink.requests.clear()
    running.sink.answer = lambda _: Answer(202)
    return running


def test_point_13_events_are_structured_by_default_and_binary_where_it_is_said(bench):
    data = {"celsius": 21.5}
    assert post(bench.gateway, "s", data=data) == 202
    assert post(bench.gateway, "b", type="binary", data=data) == 202
    structured, binary = bench.sink.requests
    assert {structured.method, binary.method} == {"POST"}
    assert structured.body == event("s", data=data)
    assert structured.header("Content-Type") == "application/cloudevents+json"
    assert structured.header("ce-id") is None
    assert {
        name.lower(): value for name, value in binary.headers if name.lower().startswith("ce-")
    } == {"ce-specversion": "1.0", "ce-id": "b", "ce-source": "/b", "ce-type": "binary"}
    assert binary.header("Content-Type") == "application/json"
    assert json.loads(binary.body) == data


def test_point_14_id_and_source_are_of_one_event_and_the_same_in_each_attempt(bench):
    bench.sink.answer = lambda _: Answer(202 if len(bench.sink.requests) % 3 == 2 else 503)
    with HttpPeer(bench.gateway.ports["http"]) as device:
        for _ in range(2):  # the same message twice is two events
            device.send(http_post(b'{"celsius": 21.5}', b"Content-Type: application/json"))
            assert device.statuses(1) == [202]
    names = [(found["source"], found["id"]) for found in map(received, bench.sink.requests)]
    assert names == [names[0]] * 3 + [names[3]] * 3
    assert names[0] != names[3]


@pytest.mark.parametrize("status", [200, 202])
def test_point_15_no_reply_is_asked_for_and_one_that_comes_is_ignored(bench, status):
    bench.sink.answer = lambda _: Answer(status, CE_JSON, REPLY)
    assert post(bench.gateway, f"x {status}") == 202
    assert post(bench.gateway, f"y {status}") == 202
    assert attempts(bench.sink) == {f"x {status}": 1, f"y {status}": 1}
    assert [request.header("Prefer") for request in bench.sink.requests] == [None, None]


def test_point_16_the_sender_s_namespace_is_sent(bench):
    assert post(bench.gateway, "x") == 202
    assert bench.sink.requests[0].header("Kn-Namespace") == "team-a"


def test_point_17_a_device_s_trace_is_kept_in_each_attempt(bench):
    bench.sink.answer = lambda _: Answer(202 if len(bench.sink.requests) > 1 else 503)
    assert post(bench.gateway, "x", **TRACE) == 202
    assert len(bench.sink.requests) >= 2
    for found in map(received, bench.sink.requests):
        assert {name: found[name] for name in TRACE} == TRACE


def test_point_18_nothing_is_negotiated(bench):
    bench.sink.answer = lambda _: Answer(202, {"Upgrade": "h2c", "Connection": "Upgrade"})
    assert [post(bench.gateway, f"x {n}") for n in range(3)] == [202] * 3
    for request in bench.sink.requests:
        assert request.method == "POST"  # no OPTIONS before it
        assert request.header("Upgrade") is None
        assert request.header("Expect") is None


def test_point_19_connections_are_kept(bench):
    with HttpPeer(bench.gateway.ports["http"]) as device:
        for n in range(20):
            device.send(http_post(event(f"{n}"), b"Content-Type: application/cloudevents+json"))
            assert device.statuses(1) == [202]
    assert len({request.client for request in bench.sink.requests}) == 1


def test_point_19_a_new_connection_asks_for_the_address_again(tmp_path):
    with HttpRecorder() as old, HttpRecorder(host="127.0.0.2", port=old.port) as new:
        for sink in (old, new):
            sink.answer = lambda _: Answer(202, {"Connection": "close"})
        env = {"K_SINK": f"http://sink.test:{old.port}/"}
        process = Container(tmp_path, configuration(), env)
        process.hosts.write_text(f"{HOST} sink.test\n")
        with started(process):
            assert post(process, "before") == 202
            process.hosts.write_text("127.0.0.2 sink.test\n")
            assert post(process, "after") == 202
        assert [attempts(old), attempts(new)] == [{"before": 1}, {"after": 1}]
