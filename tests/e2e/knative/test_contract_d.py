"""Knative's contract, section D: the life of the process. docs/knative.md has the numbers."""

import contextlib
import os
import signal
import threading
from pathlib import Path

import pytest

from tests.e2e.bad_input.peers import (
    JSON_EVENT,
    CoapPeer,
    HttpPeer,
    MqttPeer,
    http_post,
    publish,
)
from tests.e2e.knative.bench import (
    STRUCTURED,
    Bench,
    configuration,
    event,
    metric,
    post,
    started,
)
from tests.e2e.knative.container import Container
from tests.e2e.servers import (
    Answer,
    GatedRecorder,
    Gateway,
    HttpRecorder,
    RecordedRequest,
    poll_until,
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with HttpRecorder() as sink:
        env = {"K_SINK": sink.url}
        with started(Container(tmp_path_factory.mktemp("d"), configuration(), env)) as gateway:
            yield Bench(gateway, sink)


def health(gateway: Gateway) -> list[int]:
    return [gateway.get(path)[0] for path in ("/readyz", "/livez")]


def test_point_29_a_sink_that_is_down_does_not_make_it_unready(bench):
    bench.sink.answer = lambda _: Answer(503)
    assert post(bench.gateway, "x") == 503
    assert health(bench.gateway) == [200, 200]
    assert (
        metric(bench.gateway, 'ce_gateway_sink_failures_total{reason="sink_down",sink="knative"}')
        > 0
    )


def test_point_30_livez_does_not_depend_on_the_sink(bench):
    asked, gate = threading.Event(), threading.Event()

    def answer(_request: RecordedRequest) -> Answer:
        asked.set()
        gate.wait(60)
        return Answer(202)

    bench.sink.answer = answer
    with HttpPeer(bench.gateway.ports["http"]) as device:
        device.send(http_post(event("stalled"), STRUCTURED))
        assert asked.wait(30)
        assert health(bench.gateway) == [200, 200]  # while the sink is silent
        gate.set()
        assert device.statuses(1) == [202]


def test_point_31_at_sigterm_it_is_unready_takes_nothing_new_and_ends_what_is_under_way(tmp_path):
    with GatedRecorder() as sink, contextlib.ExitStack() as devices:
        gateway = Gateway(tmp_path, configuration(), {"K_SINK": sink.url}).start()
        devices.callback(gateway.stop)
        late, first = (devices.enter_context(HttpPeer(gateway.ports["http"])) for _ in range(2))
        first.send(http_post(event("http"), STRUCTURED))
        broker = devices.enter_context(MqttPeer(gateway.ports["mqtt"], client_id=b"d1"))
        broker.send(publish(event("mqtt"), 7, JSON_EVENT))
        sink.wait_asked()
        sink.wait_asked()
        gateway.signal(signal.SIGTERM)
        poll_until(lambda: gateway.get("/readyz")[0] == 503, 20, "it to be unready")
        assert health(gateway) == [503, 200]
        # New exchanges, on connections that stand: 5.03 with Max-Age, and 503 or a plain close.
        with CoapPeer(gateway.ports["coap"]) as device:
            device.send(b"\x41\x02\x00\x01\x07\xb1t\x44s=/s\xff1")
            answer = device.receive()
            assert answer[1] == 0xA3
            assert answer[5] >> 4 in (13, 14)  # the option Max-Age, 14
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            late.send(http_post(event("late"), STRUCTURED))
        refused = late.answer()
        assert refused is None or refused.status == 503
        sink.gate.set()
        answer = first.answer()
        assert answer is not None
        assert (answer.status, answer.fields.get("connection")) == (202, "close")
        assert broker.acknowledgements(1) == [(7, 0)]
        assert broker.packet() == (0xE0, b"\x8b")  # DISCONNECT: server shutting down
        poll_until(lambda: "stopped" in gateway.log, 20, "it to end")
        # A second SIGTERM would end it at once, with 1.
        os.waitid(os.P_PID, gateway.pid, os.WEXITED | os.WNOWAIT)
        gateway.finish()
        assert sorted(sink.ids()) == ["http", "mqtt"]


def test_point_31_what_could_not_be_delivered_stays_with_its_sender(tmp_path):
    with GatedRecorder() as sink, contextlib.ExitStack() as devices:
        config = {**configuration(), "drain": {"grace": "PT1S"}}
        gateway = Gateway(tmp_path, config, {"K_SINK": sink.url}).start()
        devices.callback(gateway.stop)
        broker = devices.enter_context(MqttPeer(gateway.ports["mqtt"], client_id=b"d1"))
        broker.send(publish(event("mqtt"), 7, JSON_EVENT))
        sink.wait_asked()
        gateway.finish()
        assert broker.packet()[0] in (0xE0, 0)  # DISCONNECT or nothing, but no PUBACK


def test_point_32_its_root_is_read_only_and_it_has_no_capability(bench):
    bench.sink.answer = lambda _: Answer(202)
    assert post(bench.gateway, "x") == 202
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{bench.gateway.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert (int(status["CapEff"], 16), status["NoNewPrivs"]) == (0, "1")
    mounts = Path(f"/proc/{bench.gateway.pid}/mounts").read_text().splitlines()
    (root,) = (line.split() for line in mounts if line.split()[1] == "/")
    assert "ro" in root[3].split(",")


def test_point_33_metrics_have_what_is_asked_for_and_name_no_device(bench):
    bench.sink.answer = lambda _: Answer(202)
    assert post(bench.gateway, "secret-id", source="/devices/secret-device", subject="sub-j") == 202
    with MqttPeer(bench.gateway.ports["mqtt"], client_id=b"secret-client") as device:
        device.send(publish(event("secret-id-2", source="/devices/secret-device"), 1, JSON_EVENT))
        assert device.acknowledgements(1) == [(1, 0)]
    exposition = bench.gateway.get("/metrics")[1].decode()
    families = (
        "events_received_total",  # received
        "sent_total",  # delivered
        "retried_total",
        "dead_lettered_total",
        "settled_total",  # outcome="rejected" and "released": what was not taken
        "inflight",
        "sink_seconds_bucket",  # latency
    )
    missing = [each for each in families if f"\nce_gateway_{each}{{" not in exposition]
    assert missing == []
    for source in ("http", "mqtt", "coap"):
        assert f'ce_gateway_events_received_total{{source="{source}"}}' in exposition
    for secret in ("secret", "sub-j"):
        assert secret not in exposition
