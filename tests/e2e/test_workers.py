"""Several workers behind one address: real clients and brokers, workers killed, numbers changed."""

import contextlib
import http.client
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import nats
import paho.mqtt.client as paho
import pytest

from tests.e2e.servers import HOST, Answer, Gateway, poll_until
from tests.e2e.servers.process import free_port

EVENT = '{"specversion":"1.0","id":"%s","source":"/s","type":"t"}'
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
SECONDS = 60  # for whatever takes long on a machine that is busy


def config(sink, workers=2, sources=None, **delivery):
    return {
        "workers": workers,
        "sources": sources or {"web": {"protocol": "http", "listen": f"{HOST}:0"}},
        "sinks": {"out": {"protocol": "http", "url": sink.url, "mode": "structured"}},
        "routes": [
            {"name": "way", "to": ["out"], "delivery": {"backoffDelay": "PT0.05S", **delivery}}
        ],
        "drain": {"grace": "PT15S"},
    }


@contextlib.contextmanager
def running(folder, settings):
    """Start a gateway in a folder of its own; it has to end well."""
    folder.mkdir(exist_ok=True)
    gateway = Gateway(folder, settings).start()
    try:
        yield gateway
    except BaseException:
        gateway.kill()
        raise
    assert gateway.stop(SECONDS) == 0, gateway.log[-4000:]
    assert "Traceback" not in gateway.log, gateway.log[-8000:]


def again(gateway, **changes):
    """Return the settings of a gateway with changes, so that it finds its state."""
    settings = {**gateway.config, **changes}
    del settings["admin"]  # a port of its own is found for each
    return settings


def ids(sink):
    return [json.loads(request.body)["id"] for request in list(sink.requests)]


def post(port, name):
    """Post one event on a connection of its own; return the status."""
    connection = http.client.HTTPConnection(HOST, port, timeout=SECONDS)
    try:
        connection.request("POST", "/", EVENT % name, STRUCTURED)
        return connection.getresponse().status
    finally:
        connection.close()


def metrics(gateway):
    """Return the samples of /metrics by name and labels, as they stand there."""
    text = gateway.get("/metrics")[1].decode()
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def received(gateway, number):
    return metrics(gateway)[f'ce_gateway_worker_events_received_total{{worker="{number}"}}']


def status(gateway):
    return json.loads(gateway.get("/api/v1/status")[1])


def pid_of(gateway, number):
    return next(one["pid"] for one in status(gateway)["workers"] if one["number"] == number)


def wait_replaced(gateway, number, pid):
    """Return when another process is this worker, and all are ready."""

    def is_replaced():
        worker = next(one for one in status(gateway)["workers"] if one["number"] == number)
        return worker["ready"] and worker["pid"] not in {0, pid}

    poll_until(is_replaced, SECONDS, f"worker {number} to be replaced")
    poll_until(lambda: gateway.get("/readyz")[0] == 200, SECONDS, "all workers to be ready")


class Senders:
    """Threads that post each event until it is acknowledged, on a new connection after an error."""

    def __init__(self, port, count=8):
        self.accepted = []
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def wait_more(self, count):
        wanted = len(self.accepted) + count
        poll_until(lambda: len(self.accepted) >= wanted, SECONDS, "events to be acknowledged")

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, sender):
        connection = None
        for number in itertools.count():
            name = f"{sender}-{number}"
            while True:
                if self._stop.is_set():
                    if connection is not None:
                        connection.close()
                    return
                try:
                    if connection is None or number % 5 == 0:
                        if connection is not None:
                            connection.close()
                        connection = http.client.HTTPConnection(HOST, self._port, timeout=20)
                    connection.request("POST", "/", EVENT % name, STRUCTURED)
                    response = connection.getresponse()
                    response.read()
                except (http.client.HTTPException, OSError):
                    if connection is not None:
                        connection.close()
                    connection = None
                    self._stop.wait(0.02)
                    continue
                if response.status == 202:
                    self.accepted.append(name)
                    break


def test_http_connections_are_spread_and_the_sums_are_what_was_sent(gateway, http_recorder):
    process = gateway(config(http_recorder))
    names = [str(number) for number in range(80)]
    assert {post(process.ports["web"], name) for name in names} == {202}
    assert sorted(ids(http_recorder)) == sorted(names)
    found = metrics(process)
    assert found['ce_gateway_events_received_total{source="web"}'] == 80
    assert found['ce_gateway_settled_total{outcome="accepted",source="web"}'] == 80
    assert found['ce_gateway_sent_total{sink="out"}'] == 80
    assert found['ce_gateway_ack_seconds_count{source="web"}'] == 80
    assert found['ce_gateway_inflight{route="way"}'] == 0
    parts = [received(process, number) for number in (0, 1)]
    assert all(parts), parts
    assert sum(parts) == 80
    assert "workers: 2" in process.log
    assert re.search(r"worker 1 is ready, process \d+", process.log)


def test_coap_endpoints_are_spread_and_each_stays_with_its_worker(gateway, http_recorder):
    coap = {
        "protocol": "coap",
        "listen": f"{HOST}:0",
        "ack_after": "PT1.99S",  # so that the answer is in the acknowledgement
        "routes": {"/t": {"mode": "auto", "type": "t", "source": "/c", "source_policy": "any"}},
    }
    process = gateway(config(http_recorder, sources={"field": coap}))
    with contextlib.ExitStack() as sockets:
        for number in range(40):
            device = sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            device.settimeout(SECONDS)
            device.connect((HOST, process.ports["field"]))
            # RFC 7252: CON POST, message id, Uri-Path t, Content-Format 50 (JSON)
            head = b"\x40\x02" + (number + 1).to_bytes(2, "big")
            request = head + b"\xb1t\x11\x32\xff" + b"%d" % number
            device.send(request)
            first = device.recv(2000)
            assert first[1] >> 5 == 2, first  # 2.xx
            device.send(request)  # the same message again: known there, and not a second event
            assert device.recv(2000) == first
    assert len(http_recorder.requests) == 40
    parts = [received(process, number) for number in (0, 1)]
    assert all(parts), parts
    assert sum(parts) == 40


def test_the_address_of_another_gateway_is_not_shared_with_it(tmp_path, http_recorder):
    settings = config(http_recorder, spool="off", dead_letters="off")
    with running(tmp_path / "first", settings) as first:
        port = first.ports["web"]
        sources = {"web": {"protocol": "http", "listen": f"{HOST}:{port}"}}
        second = Gateway(tmp_path, config(http_recorder, sources=sources), ready=True)
        with pytest.raises(RuntimeError, match="can't listen on"):
            second.start()


def test_a_worker_that_can_not_start_ends_the_gateway_with_its_reason(tmp_path, http_recorder):
    settings = config(http_recorder)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "worker-1").write_text("in the way")
    with pytest.raises(RuntimeError, match=r"ended with 1(?s:.*)worker-1"):
        Gateway(tmp_path, settings).start()


@pytest.mark.parametrize("ack", ["sink", "stored"])
def test_a_killed_worker_is_replaced_and_nothing_acknowledged_is_lost(tmp_path, http_recorder, ack):
    with running(tmp_path, config(http_recorder, ack=ack)) as process:
        senders = Senders(process.ports["web"])
        try:
            for number in (1, 0):
                senders.wait_more(50)
                pid = pid_of(process, number)
                os.kill(pid, signal.SIGKILL)
                wait_replaced(process, number, pid)
                senders.wait_more(50)
        finally:
            senders.stop()
        accepted = set(senders.accepted)
        poll_until(lambda: accepted <= set(ids(http_recorder)), SECONDS, "all to arrive")
        for number in (0, 1):
            assert f"worker {number} has ended: killed by SIGKILL" in process.log
            restarts = f'ce_gateway_worker_restarts_total{{worker="{number}"}}'
            assert metrics(process)[restarts] == 1


def test_what_a_killed_worker_had_stored_is_its_successors(tmp_path, http_recorder):
    http_recorder.answer = lambda _: Answer(503)
    with running(tmp_path, config(http_recorder, ack="stored", retry=1000)) as process:
        names = [str(number) for number in range(40)]
        assert {post(process.ports["web"], name) for name in names} == {202}
        for number in (0, 1):
            pid = pid_of(process, number)
            os.kill(pid, signal.SIGKILL)
            wait_replaced(process, number, pid)
        http_recorder.requests.clear()
        http_recorder.answer = lambda _: Answer(202)
        poll_until(lambda: set(names) <= set(ids(http_recorder)), SECONDS, "all to arrive")


def test_sigterm_lets_all_workers_end_what_is_under_way(tmp_path, http_recorder):
    with running(tmp_path, config(http_recorder, spool="off", dead_letters="off")) as process:
        senders = Senders(process.ports["web"])
        try:
            senders.wait_more(100)
            assert process.stop(SECONDS) == 0
        finally:
            senders.stop()
        assert "killed" not in process.log
    assert set(senders.accepted) <= set(ids(http_recorder))


def test_workers_drain_and_end_when_their_parent_is_killed(tmp_path, http_recorder):
    process = Gateway(tmp_path, config(http_recorder)).start()
    pids = [pid_of(process, number) for number in (0, 1)]
    senders = Senders(process.ports["web"])
    try:
        senders.wait_more(50)
        process.kill()
        poll_until(lambda: not any(map(is_alive, pids)), SECONDS, "the workers to end")
    finally:
        senders.stop()
    assert set(senders.accepted) <= set(ids(http_recorder))
    assert process.log.count("the parent process is gone: draining") == 2
    with running(tmp_path, again(process)):  # their locks and ports are free again
        pass


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(("before", "after"), [(3, 2), (3, 1), (1, 3), (2, 2)])
def test_another_number_of_workers_loses_nothing_that_was_stored(
    tmp_path, http_recorder, before, after
):
    """One worker is a process without a parent, with its state in the same folder."""
    http_recorder.answer = lambda _: Answer(503)
    with running(
        tmp_path, config(http_recorder, workers=before, ack="stored", retry=1000)
    ) as process:
        names = [str(number) for number in range(60)]
        port = process.ports["web"]
        assert {post(port, name) for name in names} == {202}
        state = Path(process.config["state"]["path"])
    with_events = {path.parents[3] for path in state.glob("**/spool/way/out/*.seg")}
    assert len(with_events) == before
    http_recorder.requests.clear()
    http_recorder.answer = lambda _: Answer(202)
    with running(tmp_path, again(process, workers=after)) as process:
        poll_until(lambda: set(names) <= set(ids(http_recorder)), SECONDS, "all to arrive")
        retired = [f"worker-{number}" for number in range(max(after, 1), before)]
        for name in retired:
            poll_until(lambda n=name: not (state / n).exists(), SECONDS, f"{name} to be removed")
        assert post(port, "new") == 202
        poll_until(lambda: "new" in ids(http_recorder), SECONDS, "a new event")
    assert Counter(ids(http_recorder)) == Counter([*names, "new"])
    kept = {f"worker-{number}" for number in range(1, after)}
    assert {path.name for path in state.glob("worker-*")} == kept


def test_dead_letters_of_all_workers_are_one_list(tmp_path, http_recorder):
    http_recorder.answer = lambda _: Answer(400)
    with running(tmp_path, config(http_recorder)) as process:
        names = [str(number) for number in range(40)]
        assert {post(process.ports["web"], name) for name in names} == {202}
        assert all(received(process, number) for number in (0, 1))
        assert metrics(process)['ce_gateway_dead_letters{route="way"}'] == 40
        assert dead_letters("list", "--url", process.admin_url, "--json").count("\n") == 40
        purged = dead_letters("purge", "1", "2", "--url", process.admin_url, "--yes")
        assert "2" in purged
        http_recorder.requests.clear()
        http_recorder.answer = lambda _: Answer(202)
        dead_letters("replay", "--url", process.admin_url, "--rate", "1000")
        assert len(set(ids(http_recorder))) == 38
        assert metrics(process)['ce_gateway_replayed_total{outcome="accepted",route="way"}'] == 38
    # Also when the gateway is stopped, in the folder of the whole.
    state = process.config["state"]["path"]
    assert dead_letters("list", "--state", state, "--json") == ""


def dead_letters(*arguments):
    found = subprocess.run(
        [sys.executable, "-m", "gateway", "dead-letters", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
    )
    return found.stdout


def test_the_event_log_shows_what_came_to_any_worker(gateway):
    settings = {
        "workers": 2,
        "sources": {"web": {"protocol": "http", "listen": f"{HOST}:0"}},
        "sinks": {"out": {"protocol": "log"}},
        "routes": [{"to": ["out"]}],
    }
    process = gateway(settings)
    names = {str(number) for number in range(40)}
    assert {post(process.ports["web"], name) for name in names} == {202}

    def shown():
        return {event["id"] for event in json.loads(process.get("/api/v1/events")[1])}

    poll_until(lambda: shown() == names, SECONDS, "all events in the log")
    assert all(received(process, number) for number in (0, 1))


def mqtt_source(broker, client_id, **changes):
    return {
        "plant": {
            "protocol": "mqtt",
            "url": broker.url,
            "client_id": client_id,
            "subscribe": [{"topic": f"{client_id}/#", "qos": 1}],
            "event": {"type": "t", "source": "/plant", "subject": "{topic}"},
            **changes,
        }
    }


def publish(broker, topic, payloads):
    """Publish with QoS 1, and return when the broker has all."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(100)
    client.connect(HOST, broker.port)
    client.loop_start()
    try:
        sent = [client.publish(topic, payload, qos=1) for payload in payloads]
        for one in sent:
            one.wait_for_publish(SECONDS)
    finally:
        client.disconnect()
        client.loop_stop()


def data(sink):
    return [json.loads(request.body)["data"] for request in list(sink.requests)]


def test_an_mqtt_subscription_is_shared_and_every_message_comes_once(
    gateway, mosquitto, http_recorder
):
    process = gateway(config(http_recorder, sources=mqtt_source(mosquitto, "shared")))
    publish(mosquitto, "shared/1", range(1000))
    poll_until(lambda: len(http_recorder.requests) >= 1000, SECONDS, "all messages")
    assert Counter(data(http_recorder)) == Counter(range(1000))
    assert all(received(process, number) for number in (0, 1))
    assert "order of a key is not kept" in process.log


def test_mqtt_3_1_1_is_one_workers(gateway, mosquitto, http_recorder):
    source = mqtt_source(mosquitto, "old", version="3.1.1")
    process = gateway(config(http_recorder, sources=source))
    publish(mosquitto, "old/1", range(100))
    poll_until(lambda: len(http_recorder.requests) >= 100, SECONDS, "all messages")
    assert Counter(data(http_recorder)) == Counter(range(100))
    assert [received(process, number) for number in (0, 1)] == [100, 0]
    assert "source plant: only worker 0 opens it" in process.log


def test_a_killed_worker_loses_no_mqtt_message(tmp_path, mosquitto, http_recorder):
    http_recorder.answer = lambda _: Answer(delay=0.002)
    settings = config(http_recorder, sources=mqtt_source(mosquitto, "killed"))
    with running(tmp_path, settings) as process:
        sending = threading.Thread(target=publish, args=(mosquitto, "killed/1", range(2000)))
        sending.start()
        poll_until(lambda: len(http_recorder.requests) > 100, SECONDS, "the first messages")
        pid = pid_of(process, 1)
        os.kill(pid, signal.SIGKILL)
        sending.join()
        wait_replaced(process, 1, pid)
        poll_until(lambda: set(range(2000)) <= set(data(http_recorder)), SECONDS, "all to arrive")


@pytest.mark.parametrize(("before", "after"), [(1, 2), (3, 2), (2, 1)])
def test_messages_at_the_broker_outlive_another_number_of_workers(
    tmp_path, mosquitto, http_recorder, before, after
):
    """Each worker has a session; what is queued in one that is given up is fetched."""
    topic = f"number{before}{after}"
    settings = config(http_recorder, workers=before, sources=mqtt_source(mosquitto, topic))
    with running(tmp_path, settings) as process:
        pass
    publish(mosquitto, f"{topic}/1", range(60))
    with running(tmp_path, again(process, workers=after)) as process:
        poll_until(lambda: set(range(60)) <= set(data(http_recorder)), SECONDS, "all to arrive")
        state = Path(process.config["state"]["path"])
        for number in range(after, before):
            folder = state / f"worker-{number}"
            poll_until(lambda f=folder: not f.exists(), SECONDS, "the session to be empty")
        http_recorder.requests.clear()
        publish(mosquitto, f"{topic}/1", range(100, 300))
        poll_until(
            lambda: set(range(100, 300)) <= set(data(http_recorder)), SECONDS, "all to arrive"
        )
        assert Counter(data(http_recorder)) == Counter(range(100, 300))


async def test_workers_share_a_consumer_and_a_new_one_leaves_it_as_it_is(
    tmp_path, nats_server, http_recorder
):
    client = await nats.connect(nats_server.url)
    stream = client.jetstream()
    await stream.add_stream(name="WORKERS", subjects=["workers.>"])
    source = {
        "protocol": "nats",
        "url": nats_server.url,
        "stream": "WORKERS",
        "durable": "gw",
        "batch": 10,
        "ack_wait": "PT2S",
        "event": {"type": "t", "source": "/nats"},
    }
    try:
        with running(tmp_path, config(http_recorder, sources={"bus": source})) as process:
            for number in range(500):
                await stream.publish("workers.a", b"%d" % number)
            poll_until(lambda: len(http_recorder.requests) >= 500, SECONDS, "all messages")
            assert Counter(data(http_recorder)) == Counter(range(500))
            assert all(received(process, number) for number in (0, 1))
            pid = pid_of(process, 1)
            os.kill(pid, signal.SIGKILL)
            for number in range(500, 1000):
                await stream.publish("workers.a", b"%d" % number)
            wait_replaced(process, 1, pid)
            poll_until(
                lambda: set(range(1000)) <= set(data(http_recorder)), SECONDS, "all to arrive"
            )
            assert "come again" not in process.log  # nobody began the consumer anew
    finally:
        await client.close()


async def test_core_subjects_are_shared_by_a_queue_group(gateway, nats_server, http_recorder):
    source = {
        "protocol": "nats",
        "url": nats_server.url,
        "subjects": ["core.>"],
        "event": {"type": "t", "source": "/nats"},
    }
    process = gateway(config(http_recorder, sources={"bus": source}))
    client = await nats.connect(nats_server.url)
    try:
        for number in range(300):
            answer = await client.request("core.a", b"%d" % number, timeout=SECONDS)
            assert answer.data == b"+ACK"
    finally:
        await client.close()
    assert Counter(data(http_recorder)) == Counter(range(300))
    assert all(received(process, number) for number in (0, 1))


def test_tcp_listeners_of_every_kind_are_shared(gateway, http_recorder):
    ports = [free_port() for _ in range(2)]
    sources = {
        "devices": {
            "protocol": "mqtt-endpoint",
            "listen": f"{HOST}:{ports[0]}",
            "event": {"type": "t", "source": "/d"},
        },
        "field": {
            "protocol": "coap",
            "listen": None,
            "listen_tcp": f"{HOST}:{ports[1]}",
            "routes": {"/t": {"mode": "auto", "type": "t", "source": "/c"}},
        },
    }
    process = gateway(config(http_recorder, sources=sources))
    for number in range(20):
        with socket.create_connection((HOST, ports[1]), timeout=SECONDS) as peer:
            # RFC 8323: CSM, then POST /t with JSON; the answer is read after their CSM
            body = b"\xb1t\x11\x32\xff%d" % (number % 10)
            peer.sendall(b"\x00\xe1" + bytes([len(body) << 4, 0x02]) + body)
            found = b""
            while b"\x44" not in found and b"\x41" not in found:  # 2.04 or 2.01
                found += peer.recv(100)
    for number in range(20):
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, f"device-{number}")
        client.connect(HOST, ports[0])
        client.loop_start()
        client.publish("a", "1", qos=1).wait_for_publish(SECONDS)
        client.disconnect()
        client.loop_stop()
    assert len(http_recorder.requests) == 40
    assert all(received(process, number) for number in (0, 1))
