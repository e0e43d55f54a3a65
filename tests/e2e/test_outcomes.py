"""What a sink answers, as each sender hears it; and which bytes of an event reach a sink.

One gateway, senders that know nothing of it, and a sink of the standard library that is told what
to answer. Nothing is retried, stored or dead-lettered unless a test says so.
"""

import contextlib
import json
from collections.abc import Iterator

import pytest

from tests.e2e.bad_input.nats import GOOD_HEADER
from tests.e2e.bad_input.peers import (
    JSON_EVENT,
    CoapPeer,
    HttpPeer,
    MqttPeer,
    NatsPeer,
    event,
    http_post,
    nats_publish,
    publish,
)
from tests.e2e.conftest import skipping_what_is_missing
from tests.e2e.receivers import NatsReceiver
from tests.e2e.servers import HOST, Answer, Gateway, HttpRecorder
from tests.e2e.servers.process import poll_until

STRUCTURED = b"Content-Type: application/cloudevents+json"
OK = Answer(202)

# What the sink answers; then HTTP's status and Retry-After, CoAP's code and Max-Age, what core NATS
# says. MQTT and JetStream are told what is final, and nothing of what may yet be.
OUTCOMES = {
    "202": (OK, (202, None), (0x44, None), b"+ACK"),
    "400": (Answer(400), (422, None), (0xA2, None), b"-ERR sink_refused"),
    "403": (Answer(403), (422, None), (0xA2, None), b"-ERR sink_refused"),
    "307": (Answer(307, {"Location": "/x"}), (422, None), (0xA2, None), b"-ERR sink_refused"),
    "404": (Answer(404), (503, "1"), (0xA3, range(30, 91)), b"-ERR sink_down"),
    "503": (Answer(503), (503, "1"), (0xA3, range(30, 91)), b"-ERR sink_down"),
    "503, 7 s": (Answer(503, {"Retry-After": "7"}), (503, "7"), (0xA3, [7]), b"-ERR sink_down"),
    "429, 7 s": (Answer(429, {"Retry-After": "7"}), (429, "7"), (0x9D, [7]), b"-ERR sink_busy"),
}


class Bench:
    """A gateway, the sink, and a client that reads what JetStream knows."""

    def __init__(self, gateway: Gateway, sink: HttpRecorder, client: NatsReceiver) -> None:
        self.ports = gateway.ports
        self.gateway = gateway
        self.sink = sink
        self._client = client

    def consumer(self) -> tuple[int, int, int]:
        """Return what the consumer waits for: acknowledgements, messages; and what came again."""
        stream = self._client.client.jetstream()
        info = self._client.run(stream.consumer_info("OUTCOMES", "out"))
        return info.num_ack_pending, info.num_pending, info.num_redelivered

    def attempts(self, event_id: str) -> int:
        return sum(b'"%b"' % event_id.encode() in r.body for r in self.sink.requests)


@pytest.fixture(scope="module")
def bench(tmp_path_factory, nats_server) -> Iterator[Bench]:
    with contextlib.ExitStack() as running, skipping_what_is_missing():
        sink = running.enter_context(HttpRecorder())
        client = running.enter_context(NatsReceiver(nats_server.url, "out.answers"))
        stream = client.client.jetstream()
        client.run(stream.add_stream(name="OUTCOMES", subjects=["outcomes.js.>"]))
        running.callback(lambda: client.run(stream.delete_stream("OUTCOMES")))
        listen, bus = f"{HOST}:0", {"protocol": "nats", "url": nats_server.url}
        config = {
            "sources": {
                "coap": {
                    "protocol": "coap",
                    "listen": listen,
                    "routes": {"/ce": {"source_policy": "any"}},
                },
                "devices": {"protocol": "mqtt-endpoint", "listen": listen},
                "core": {**bus, "subjects": ["outcomes.core"]},
                "stream": {**bus, "stream": "OUTCOMES", "durable": "out"},
                "http": {"protocol": "http", "listen": listen},
            },
            "sinks": {"out": {"protocol": "http", "url": sink.url}},
            "routes": [
                {
                    "to": ["out"],
                    "delivery": {"retry": 0, "spool": "off", "dead_letters": "off"},
                }
            ],
        }
        gateway = Gateway(tmp_path_factory.mktemp("outcomes"), config).start()
        running.callback(gateway.stop)
        gateway.ports["nats"] = nats_server.port
        yield Bench(gateway, sink, client)
        gateway.finish()


def max_age(datagram: bytes) -> int | None:
    """Return Max-Age of an answer with a token of two bytes and no other option."""
    options = datagram[6:].partition(b"\xff")[0]
    if not options:
        return None
    assert options[0] >> 4 == 13, datagram  # 14 = 13 + 1
    assert options[1] == 1, datagram
    return int.from_bytes(options[2:], "big")


@pytest.mark.parametrize("name", OUTCOMES)
def test_the_sink_s_answer_reaches_http_coap_and_nats_in_their_words(bench, name):
    bench.sink.answer = lambda _: answer
    answer, (status, retry_after), (code, ages), said = OUTCOMES[name]
    with HttpPeer(bench.ports["http"]) as peer:
        peer.send(http_post(event(f"http {name}"), STRUCTURED))
        response = peer.answer()
        assert (response.status, response.fields.get("retry-after")) == (status, retry_after)
    with CoapPeer(bench.ports["coap"]) as device:
        mid = device.post(f"coap-{answer.status}-{len(answer.headers)}")[2:4]
        datagram = device.answer(mid, mid)
        assert datagram[1] == code
        found = max_age(datagram)
        assert found is None if ages is None else found in ages
    with NatsPeer(bench.ports["nats"]) as client:
        client.send(nats_publish(b"outcomes.core", event(f"nats {name}"), GOOD_HEADER))
        assert client.answer().startswith(said)
    assert bench.attempts(f"http {name}") == 1


def test_what_is_refused_for_good_is_0x83_over_mqtt_and_ended_in_jetstream(bench):
    bench.sink.answer = lambda _: Answer(400)
    with MqttPeer(bench.ports["devices"], client_id=b"refused") as device:
        device.send(publish(event("mqtt-refused"), 1, JSON_EVENT))
        assert device.acknowledgements(1) == [(1, 0x83)]
    with NatsPeer(bench.ports["nats"]) as client:
        client.send(nats_publish(b"outcomes.js.a", event("js-refused"), GOOD_HEADER, b""))
    bench.sink.wait_for(lambda _: bench.attempts("js-refused"))
    poll_until(lambda: bench.consumer() == (0, 0, 0), 10, "the end of the message")
    assert bench.attempts("js-refused") == bench.attempts("mqtt-refused") == 1


def test_what_may_yet_be_is_held_for_mqtt_and_jetstream_until_the_sink_takes_it(bench):
    bench.sink.answer = lambda _: Answer(503)
    with (
        MqttPeer(bench.ports["devices"], client_id=b"held") as device,
        NatsPeer(bench.ports["nats"]) as client,
    ):
        device.send(publish(event("mqtt-held"), 7, JSON_EVENT))
        client.send(nats_publish(b"outcomes.js.a", event("js-held"), GOOD_HEADER, b""))
        for name in ("mqtt-held", "js-held"):
            bench.sink.wait_for(lambda _, name=name: bench.attempts(name) >= 2)
        assert device.is_alive  # PINGRESP comes next: there was no PUBACK before it
        assert bench.consumer() == (1, 0, 0)
        # Every pod has the same sink: nothing is won when all of them are taken out of service.
        assert [bench.gateway.get(path)[0] for path in ("/readyz", "/livez")] == [200, 200]
        bench.sink.answer = lambda _: OK
        assert device.acknowledgements(1) == [(7, 0)]
    poll_until(lambda: bench.consumer() == (0, 0, 0), 10, "the acknowledgement")


# The bytes of an event on their way.

DATA = b'{"n": 1.10, "n":2 ,"big":9007199254740993.0,"u":"\\u00e9\\/"}'
# Blanks, the order of members, an escape, a number beyond doubles, and no datacontenttype.
PRETTY = (
    b'\n{ "id":"%b", "specversion" : "1.0","type":"t\\u002ex", "source":"/s",\t"region":"us",\n'
    b'"data" : ' + DATA + b" }\n"
)


@pytest.fixture
def paths(gateway, http_recorder) -> Gateway:
    """One event goes to /as-it-is, to /knative by K_SINK, and by way of a refusal to /dead."""
    url = http_recorder.url
    http_recorder.answer = lambda r: Answer(400, {}, b"no") if r.target == "/refused" else OK
    sinks = {name: {"protocol": "http", "url": f"{url}/{name}"} for name in ("as-it-is", "refused")}
    config = {
        "sources": {"http": {"protocol": "http", "listen": f"{HOST}:0"}},
        "sinks": {**sinks, "knative": {"protocol": "http", "url": "${K_SINK}"}},
        "routes": [
            {"to": ["as-it-is", "knative"]},
            {"to": ["refused"], "delivery": {"deadLetterSink": f"{url}/dead"}},
        ],
    }
    overrides = json.dumps({"extensions": {"region": "eu", "cluster": "c1"}})
    return gateway(config, {"K_SINK": f"{url}/knative", "K_CE_OVERRIDES": overrides})


def send_and_collect(gateway: Gateway, recorder: HttpRecorder, request: bytes) -> dict[str, bytes]:
    """Return the bodies by path, when the sender has had its 202."""
    with HttpPeer(gateway.ports["http"]) as peer:
        peer.send(request)
        assert peer.statuses(1) == [202]
    for received in recorder.requests:
        assert received.header("Content-Type") == "application/cloudevents+json"
    return {received.target: received.body for received in recorder.requests}


def test_an_event_that_nobody_changes_keeps_its_bytes_and_a_changed_one_its_data(
    paths, http_recorder
):
    sent = PRETTY % b"1"
    bodies = send_and_collect(paths, http_recorder, http_post(sent, STRUCTURED))
    assert bodies["/as-it-is"] == bodies["/refused"] == sent
    expected = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t.x", "region": "us"}
    data = json.loads(DATA)
    changed = json.loads(bodies["/knative"])
    dead = json.loads(bodies["/dead"])
    implied = {"datacontenttype": "application/json", "data": data}
    assert changed == {**expected, **implied, "region": "eu", "cluster": "c1"}
    assert dead == {
        **expected,
        **implied,
        "knativeerrordest": f"{http_recorder.url}/refused",
        "knativeerrorcode": 400,
        "knativeerrordata": "bm8=",
    }
    assert DATA in bodies["/knative"]
    assert DATA in bodies["/dead"]


def test_a_binary_event_is_written_anew_for_each_sink(paths, http_recorder):
    fields = (b"ce-specversion: 1.0", b"ce-id: 1", b"ce-source: /s", b"ce-type: t.x")
    request = http_post(DATA, *fields, b"Content-Type: application/json", b"ce-region: us")
    bodies = send_and_collect(paths, http_recorder, request)
    regions = {path: json.loads(body)["region"] for path, body in bodies.items()}
    assert regions == {"/as-it-is": "us", "/refused": "us", "/dead": "us", "/knative": "eu"}
    assert all(DATA in body for body in bodies.values())


def test_each_event_of_a_batch_keeps_its_bytes(paths, http_recorder):
    batch = b"[" + PRETTY % b"1" + b"," + PRETTY % b"2" + b"]"
    content_type = b"Content-Type: application/cloudevents-batch+json"
    send_and_collect(paths, http_recorder, http_post(batch, content_type))
    bodies = [r.body for r in http_recorder.requests if r.target == "/as-it-is"]
    assert bodies == [(PRETTY % b"1").strip(), (PRETTY % b"2").strip()]
