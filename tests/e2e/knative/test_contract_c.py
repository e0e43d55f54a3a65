"""Knative's contract, section C: answers and retries. docs/knative.md has the numbers."""

import base64
import contextlib
import json
import select
import threading
from dataclasses import dataclass
from itertools import pairwise

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
    QUICK,
    STRUCTURED,
    Bench,
    attempts,
    configuration,
    event,
    metric,
    post,
    received,
    started,
)
from tests.e2e.servers import (
    Answer,
    GatedRecorder,
    Gateway,
    HttpRecorder,
    RecordedRequest,
    free_port,
    poll_until,
)

RETRY = 2
CLOSE = Answer(202, {"Connection": "close"})
DELIVERIES = {
    "t": {"retry": RETRY, "backoffDelay": "PT0.01S"},
    "timed": {"retry": 3, "backoffDelay": "PT0.01S", "timeout": "PT3S"},
    "linear": {"retry": 3, "backoffPolicy": "linear", "backoffDelay": "PT0.2S"},
    "exponential": {"retry": 2, "backoffPolicy": "exponential", "backoffDelay": "PT0.2S"},
    "patient": {"retry": 1, "backoffDelay": "PT0.01S", "retryAfterMax": "PT1S"},
    "hasty": {"retry": 1, "backoffDelay": "PT0.01S", "retryAfterMax": "PT0S"},
}
"""How events of a type are delivered; all have the dead-letter sink."""


@dataclass
class LetterBench(Bench):
    """One with a dead-letter sink besides."""

    dead: HttpRecorder

    def letter(self, name: str) -> dict[str, object]:
        """Return what Knative's attributes say on the only dead letter of that id."""
        (found,) = (f for f in map(received, self.dead.requests) if f["id"] == name)
        return {key: value for key, value in found.items() if key.startswith("knative")}

    def gaps(self) -> list[float]:
        """Return the seconds between the sink's requests."""
        times = [request.at for request in self.sink.requests]
        return [after - before for before, after in pairwise(times)]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with HttpRecorder() as sink, HttpRecorder() as dead:
        config = configuration()
        config["sinks"]["absent"] = {"protocol": "http", "url": f"http://127.0.0.1:{free_port()}"}
        config["delivery"] = {**QUICK, "deadLetterSink": f"{dead.url}/letters"}
        config["routes"] = [
            {"to": ["knative"], "filter": {"exact": {"type": kind}}, "delivery": delivery}
            for kind, delivery in DELIVERIES.items()
        ]
        delivery = {"retry": 1, "backoffDelay": "PT0.01S"}
        absent = {"to": ["absent"], "filter": {"exact": {"type": "absent"}}, "delivery": delivery}
        config["routes"].append(absent)
        env = {"K_SINK": f"{sink.url}/ns/broker"}
        with started(Gateway(tmp_path_factory.mktemp("c"), config, env)) as gateway:
            yield LetterBench(gateway, sink, dead)


@pytest.fixture
def bench(running):
    for recorder in (running.sink, running.dead):
        recorder.requests.clear()
        recorder.answer = lambda _: CLOSE
    return running


def answering(status: int, **fields: str):
    """Return what answers so each time."""
    answer = Answer(status, {"Connection": "close", **fields}, b"why")
    return lambda _request: answer


DELIVERED = (200, 201, 202, 204, 206, 299)
FINAL = (300, 301, 302, 303, 307, 308, 400, 402, 403, 405, 406, 410, 413, 415, 418, 422, 451, 499)
RETRIED = (404, 408, 409, 429, 500, 501, 502, 503, 504, 505, 511, 599)


@pytest.mark.parametrize("status", DELIVERED)
def test_point_20_is_delivered(bench, status):
    bench.sink.answer = answering(status)
    assert post(bench.gateway, "x") == 202
    assert (attempts(bench.sink), bench.dead.requests) == ({"x": 1}, [])


@pytest.mark.parametrize("status", FINAL)
def test_point_20_is_an_error_for_good(bench, status):
    bench.sink.answer = answering(status, Location="/elsewhere")
    assert post(bench.gateway, "x") == 202  # the dead-letter sink has it
    assert attempts(bench.sink) == {"x": 1}
    assert bench.letter("x")["knativeerrorcode"] == status


@pytest.mark.parametrize("status", RETRIED)
def test_point_20_is_tried_again(bench, status):
    bench.sink.answer = answering(status)
    assert post(bench.gateway, "x") == 202
    assert attempts(bench.sink) == {"x": RETRY + 1}
    assert bench.letter("x")["knativeerrorcode"] == status


def test_point_20_401_is_tried_again_as_the_token_may_come(bench):
    bench.sink.answer = answering(401)
    assert post(bench.gateway, "x") == 202
    assert attempts(bench.sink) == {"x": RETRY + 1}


def test_point_20_redirects_are_not_followed(bench):
    bench.sink.answer = answering(307, Location="/elsewhere")
    assert post(bench.gateway, "x") == 202
    assert [request.target for request in bench.sink.requests] == ["/ns/broker"]


def test_point_20_no_answer_is_tried_again(bench):
    asked = []

    def close(request: RecordedRequest) -> Answer:
        asked.append(request)
        raise ConnectionAbortedError

    bench.sink.answer = close
    assert post(bench.gateway, "closed") == 202
    assert len(asked) == RETRY + 1
    assert post(bench.gateway, "absent", type="absent") == 202
    assert {bench.letter(name)["knativeerrorcode"] for name in ("closed", "absent")} == {500}


@pytest.mark.parametrize("status", [600, 799, 999])
def test_point_21_a_code_outside_the_table_is_tried_again(bench, status):
    bench.sink.answer = answering(status)
    assert post(bench.gateway, "x") == 202
    assert attempts(bench.sink) == {"x": RETRY + 1}


# The waits before each retry, counted from 1 (docs/delivery.md says who counts how).
WAITS = {"linear": [0.2, 0.4, 0.6], "exponential": [0.4, 0.8]}


@pytest.mark.parametrize("policy", WAITS)
def test_point_22_the_back_off_is_that_of_the_policy_and_retry_n_is_n_plus_1_attempts(
    bench, policy
):
    bench.sink.answer = answering(503)
    assert post(bench.gateway, "x", type=policy) == 202
    gaps = bench.gaps()
    assert len(gaps) == DELIVERIES[policy]["retry"]
    for gap, wait in zip(gaps, WAITS[policy], strict=True):
        assert gap > wait - 0.01  # a clock's tick


def test_point_22_a_dead_sink_opens_its_circuit_and_is_asked_seldom(tmp_path):
    with HttpRecorder() as sink:
        sink.answer = answering(503)
        config = configuration({"retry": 100, "backoffDelay": "PT0.01S", "jitter": 1.0})
        with started(Gateway(tmp_path, config, {"K_SINK": sink.url})) as gateway:
            assert [post(gateway, f"{n}") for n in range(50)] == [202] * 50  # they are on disk
            opened = 'ce_gateway_circuit_open{sink="knative"}'
            poll_until(lambda: metric(gateway, opened) == 1, 20, "the circuit to open")
            assert len(sink.requests) < 100
            sink.answer = lambda _: CLOSE
            sink.wait_for(lambda _: set(attempts(sink)) == {f"{n}" for n in range(50)}, 60)


def test_point_23_retry_after_counts_up_to_the_ceiling(bench):
    bench.sink.answer = answering(429, **{"Retry-After": "3600"})
    assert post(bench.gateway, "x", type="patient") == 202
    (gap,) = bench.gaps()
    assert gap > 0.99


def test_point_23_retry_after_is_ignored_where_the_ceiling_is_0(bench):
    bench.sink.answer = answering(503, **{"Retry-After": "3600"})
    assert post(bench.gateway, "x", type="hasty") == 202  # and not in an hour
    assert attempts(bench.sink) == {"x": 2}


def test_point_24_the_timeout_is_for_one_attempt(bench):
    stalled = threading.Event()

    def answer(_request: RecordedRequest) -> Answer:
        if len(bench.sink.requests) + len(waiting) < 2:
            waiting.append(None)
            stalled.wait(60)
        return CLOSE

    # Two attempts end by the limit, which is over then for the delivery as a whole.
    waiting: list[None] = []
    bench.sink.answer = answer
    assert post(bench.gateway, "x", type="timed") == 202
    assert len(waiting) == 2
    assert bench.dead.requests == []
    stalled.set()
    bench.sink.wait_for(lambda requests: len(requests) == 3, 60)  # no later test has to see them


def test_point_25_dead_letters_say_where_and_why(bench):
    bench.sink.answer = answering(400)
    assert post(bench.gateway, "x", knativeerrorcode=1, other="kept") == 202
    assert bench.letter("x") == {
        "knativeerrordest": f"{bench.sink.url}/ns/broker",
        "knativeerrorcode": 400,
        "knativeerrordata": base64.b64encode(b"why").decode(),
    }
    assert bench.dead.requests[0].target == "/letters"
    assert received(bench.dead.requests[0])["other"] == "kept"


def test_point_26_a_dead_letter_is_tried_by_the_same_table(bench):
    bench.sink.answer = answering(400)
    bench.dead.answer = answering(503)
    assert post(bench.gateway, "retried") == 503
    assert attempts(bench.dead) == {"retried": RETRY + 1}
    bench.dead.answer = answering(403)
    assert post(bench.gateway, "refused") == 422
    assert attempts(bench.dead) == {"retried": RETRY + 1, "refused": 1}


def test_point_26_what_nobody_takes_is_not_acknowledged_and_counted(bench):
    def lost() -> float:
        outcomes = ("rejected", "released")
        samples = (f'ce_gateway_settled_total{{outcome="{o}",source="http"}}' for o in outcomes)
        return sum(metric(bench.gateway, sample) for sample in samples)

    before = lost()
    bench.sink.answer = bench.dead.answer = answering(503)
    assert post(bench.gateway, "x") == 503
    assert lost() == before + 1


def silent(peer) -> bool:
    """Whether nothing has come for a device."""
    return not select.select([peer.socket], [], [], 0)[0]


def test_point_27_a_device_is_told_only_after_the_sink_s_2xx(tmp_path):
    with GatedRecorder() as sink, contextlib.ExitStack() as devices:
        process = Gateway(tmp_path, configuration(), {"K_SINK": sink.url})
        gateway = devices.enter_context(started(process))
        web = devices.enter_context(HttpPeer(gateway.ports["http"]))
        web.send(http_post(event("http"), STRUCTURED))
        broker = devices.enter_context(MqttPeer(gateway.ports["mqtt"], client_id=b"d1"))
        broker.send(publish(event("mqtt"), 7, JSON_EVENT))
        coap = devices.enter_context(CoapPeer(gateway.ports["coap"]))
        # CON POST /t?s=/s, message ID 1, token 07; an empty ACK is "later" (RFC 7252 5.2.2).
        coap.send(b"\x41\x02\x00\x01\x07\xb1t\x44s=/s\xff1")
        for _ in range(3):
            sink.wait_asked()
        assert coap.receive() == b"\x60\x00\x00\x01"
        assert [silent(device) for device in (web, broker, coap)] == [True] * 3
        sink.gate.set()
        assert web.statuses(1) == [202]
        assert broker.acknowledgements(1) == [(7, 0)]
        answer = coap.receive()
        assert (answer[1], answer[4:5]) == (0x44, b"\x07")  # 2.04
        coap.send(b"\x60\x00" + answer[2:4])


def test_point_27_what_the_sink_refuses_is_not_acknowledged(tmp_path):
    with HttpRecorder() as sink:
        sink.answer = answering(503)
        with started(Gateway(tmp_path, configuration(), {"K_SINK": sink.url})) as gateway:
            assert post(gateway, "http") == 503
            with CoapPeer(gateway.ports["coap"]) as device:
                device.send(b"\x41\x02\x00\x01\x07\xb1t\x44s=/s\xff1")
                assert device.answer(b"\0\1", b"\7")[1] == 0xA3  # 5.03
            with MqttPeer(gateway.ports["mqtt"], client_id=b"d1") as device:
                device.send(publish(event("mqtt"), 7, JSON_EVENT))
                sink.wait_for(lambda _: attempts(sink)["mqtt"] >= 2)  # it is kept and tried again
                assert device.is_alive  # and no PUBACK stands before the answer to the ping
                sink.answer = lambda _: CLOSE
                assert device.acknowledgements(1) == [(7, 0)]


def test_point_28_a_device_s_order_is_kept_while_nothing_fails(bench):
    with MqttPeer(bench.gateway.ports["mqtt"], client_id=b"d1") as device:
        messages = [event(f"{n}", source="/d1", type="t") for n in range(50)]
        for n, message in enumerate(messages, 1):
            device.send(publish(message, n, JSON_EVENT))
        device.acknowledgements(50)
    assert [json.loads(r.body)["id"] for r in bench.sink.requests] == [f"{n}" for n in range(50)]
