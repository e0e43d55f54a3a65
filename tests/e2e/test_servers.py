"""The servers themselves: each starts, serves a foreign client, and survives what it should."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import nats
import pytest

from tests.e2e.readers.sdk import Record, read_with_python
from tests.e2e.servers import HOST, Answer, Mosquitto, NatsServer, free_port, program


def test_mosquitto_keeps_a_session_over_a_kill(start):
    broker = start(Mosquitto, users={"ann": "secret"})
    common = [
        "-h",
        HOST,
        "-p",
        str(broker.port),
        "-u",
        "ann",
        "-P",
        "secret",
        "-q",
        "1",
        "-t",
        "a/b",
    ]
    subscribe = [
        program("mosquitto_sub", "mosquitto-clients"),
        *common,
        "-c",
        "-i",
        "reader",
        "-V",
        "311",
    ]
    subprocess.run([*subscribe, "-E"], check=True, timeout=10)
    publish = [program("mosquitto_pub", "mosquitto-clients"), *common, "-m", "kept"]
    subprocess.run(publish, check=True, timeout=10)
    broker.stop()
    broker.start()
    broker.kill()
    broker.start()
    read = subprocess.run([*subscribe, "-C", "1"], check=True, timeout=10, capture_output=True)
    assert read.stdout == b"kept\n"


async def test_nats_server_keeps_a_stream_over_a_kill(start):
    server = start(NatsServer)
    client = await nats.connect(server.url)
    jetstream = client.jetstream()
    await jetstream.add_stream(name="KEPT", subjects=["kept.>"])
    await jetstream.publish("kept.a", b"1")
    await client.close()
    server.kill()
    server.start()
    client = await nats.connect(server.url)
    message = await client.jetstream().get_msg("KEPT", 1)
    assert message.data == b"1"
    await client.close()


def test_kafka_serves_kcat(kafka):
    topic = kafka.create_topic("servers-kcat")
    kcat = [program("kcat", "kcat"), "-b", kafka.bootstrap_servers, "-t", topic]
    subprocess.run([*kcat, "-P", "-H", "a=b"], input=b"hello", check=True, timeout=20)
    read = subprocess.run(
        [*kcat, "-C", "-e", "-q", "-J"], check=True, timeout=20, capture_output=True
    )
    message = json.loads(read.stdout)
    assert message["payload"] == "hello"
    assert message["headers"] == ["a", "b"]


def test_http_recorder_keeps_the_raw_request_and_answers_as_told(http_recorder):
    http_recorder.answer = lambda _: Answer(429, {"Retry-After": "7"}, b"later")
    request = urllib.request.Request(f"{http_recorder.url}/x?y", b"body", {"Ce-Id": "1"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=5)
    with refused.value as error:
        assert error.code == 429
        assert error.headers["Retry-After"] == "7"
        assert error.read() == b"later"
    recorded = http_recorder.wait_for(lambda requests: requests and requests[0])
    assert (recorded.method, recorded.target, recorded.body) == ("POST", "/x?y", b"body")
    assert recorded.header("ce-id") == "1"


def test_both_sdks_read_a_kafka_record(npm_reader):
    record = Record(
        "Kafka",
        [
            ("ce_specversion", "1.0"),
            ("ce_id", "1"),
            ("ce_source", "/s"),
            ("ce_type", "t"),
            ("content-type", "application/json"),
        ],
        b'{"a":1}',
    )
    for event in (read_with_python(record), npm_reader.read(record)):
        assert event.attributes["id"] == "1"
        assert event.attributes["source"] == "/s"
        assert event.data == {"a": 1}


def test_a_port_that_one_process_of_the_tests_has_is_not_given_to_another():
    ports = [free_port(), free_port()]
    with pytest.raises(OSError, match="none of these ports is free"):
        free_port(among=ports)
    code = "import sys; from tests.e2e.servers import free_port; "
    code += "free_port(among=[int(one) for one in sys.argv[1:]])"
    command = [sys.executable, "-c", code, *map(str, ports)]
    other = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "OSError: none of these ports is free" in other.stderr


def test_no_port_is_one_that_the_system_gives_to_clients():
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    if first <= 20000 and last >= 60000:
        pytest.skip("clients are given nearly all ports here")
    ports = {free_port() for _ in range(50)}
    assert len(ports) == 50
    assert not ports & set(range(first, last + 1))
