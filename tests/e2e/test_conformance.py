"""The suite against a gateway process, as somebody with a foreign gateway runs it."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from conformance.peers.kafka import KafkaReader
from conformance.peers.nats import NatsClient
from tests.e2e.servers import HOST
from tests.e2e.servers.process import free_port

pytestmark = pytest.mark.timeout(400)  # a whole run of the suite is in each test
ROOT = Path(__file__).parents[2]
FIXTURE = yaml.safe_load((ROOT / "docs/conformance/fixture.yaml").read_text())


def configuration(sources: dict[str, Any], observe: str, **delivery: Any) -> dict[str, Any]:
    """Return what docs/conformance/fixture.yaml says, with other sources and address."""
    (route,) = FIXTURE["routes"]
    return {
        "sources": sources,
        "sinks": {"observer": {**FIXTURE["sinks"]["observer"], "url": observe}},
        "routes": [{**route, "delivery": {**route["delivery"], **delivery}}],
    }


def judge(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess, dict[str, Any]]:
    """Run the suite; return how it ended, and its report."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "gateway", "conformance", "run", *arguments]
    done = subprocess.run(
        [*command, "--report", str(report)],
        cwd=ROOT, capture_output=True, text=True, timeout=360, check=False,
    )  # fmt: skip
    return done, json.loads(report.read_text()) if report.exists() else {}


def passed(report: dict[str, Any]) -> dict[str, int]:
    """Return how many checks of each family passed, after seeing that none failed."""
    failed = [case for case in report["cases"] if case["status"] == "failed"]
    assert failed == [], json.dumps(failed, indent=1)
    counts: dict[str, int] = {}
    for case in report["cases"]:
        counts[case["family"]] = counts.get(case["family"], 0) + (case["status"] == "passed")
    return counts


@pytest.mark.parametrize(
    ("protocol", "least"),
    [
        ("http", {"messages": 100, "acknowledgement": 6, "robustness": 19, "limits": 3}),
        ("mqtt", {"messages": 80, "acknowledgement": 18, "robustness": 25, "redelivery": 4}),
        ("coap", {"datagrams": 390, "channels": 30, "same answers": 900}),
    ],
)
def test_a_gateway_process_passes_as_a_foreign_one(tmp_path, gateway, protocol, least):
    observe = f"http://{HOST}:{free_port()}"
    source = dict(FIXTURE["sources"][protocol])
    schemes = {"listen": protocol, "listen_dtls": "coaps", "listen_tcp": "coap+tcp"}
    schemes["listen_ws"] = "coap+ws"
    targets = []
    for name in (name for name in schemes if name in source):  # UDP first
        source[name] = f"{HOST}:{free_port()}"
        targets += ["--target", f"{schemes[name]}://{source[name]}"]
    gateway(configuration({protocol: source}, observe))
    done, report = judge(tmp_path, protocol, *targets, "--observe", observe)
    counts = passed(report)
    assert done.returncode == 0, done.stdout
    few = {family: counts[family] for family, count in least.items() if counts[family] < count}
    assert few == {}


def test_what_a_gateway_makes_of_a_brokers_messages_is_judged(tmp_path, gateway, mosquitto):
    observe = f"http://{HOST}:{free_port()}"
    source = {
        "protocol": "mqtt", "url": mosquitto.url, "client_id": "conformance",
        "subscribe": [{"topic": "judged/#", "qos": 2}],
    }  # fmt: skip
    gateway(configuration({"plant": source}, observe))
    target = f"{mosquitto.url}/judged/here"
    done, report = judge(tmp_path, "mqtt", "--target", target, "--broker", "--observe", observe)
    counts = passed(report)
    assert done.returncode == 0, done.stdout
    assert counts["messages"] >= 60
    assert counts["acknowledgement"] == 0


def test_a_gateway_behind_a_nats_server_is_judged(tmp_path, gateway, nats_server):
    observe = f"http://{HOST}:{free_port()}"
    source = {"protocol": "nats", "url": nats_server.url, "subjects": ["judged.>"]}
    gateway(configuration({"bus": source}, observe))
    target = f"{nats_server.url}/judged.here"
    done, report = judge(tmp_path, "nats", "--target", target, "--observe", observe)
    counts = passed(report)
    assert done.returncode == 0, done.stdout
    assert counts["messages"] >= 45
    assert counts["acknowledgement"] == 6


def test_a_gateway_that_reads_a_stream_is_judged(tmp_path, gateway, nats_server):
    async def add_stream() -> None:
        async with NatsClient(nats_server.url) as client:
            stream = {"name": "JUDGED", "subjects": ["stream.>"], "storage": "memory"}
            await client.ask("$JS.API.STREAM.CREATE.JUDGED", stream)

    asyncio.run(add_stream())
    observe = f"http://{HOST}:{free_port()}"
    source = {"protocol": "nats", "url": nats_server.url, "stream": "JUDGED", "durable": "d"}
    gateway(configuration({"bus": source}, observe))
    target = f"{nats_server.url}/stream.here?stream=JUDGED"
    done, report = judge(tmp_path, "nats", "--target", target, "--observe", observe)
    counts = passed(report)
    assert done.returncode == 0, done.stdout
    assert counts["messages"] >= 28
    assert counts["acknowledgement"] == 6


def test_nothing_that_comes_out_is_told_in_a_sentence(tmp_path, mosquitto):
    observe = f"http://{HOST}:{free_port()}"
    done, report = judge(tmp_path, "mqtt", "--target", mosquitto.url, "--observe", observe)
    assert done.returncode == 1
    assert report == {}
    text = " ".join(done.stderr.split())
    assert (
        f"no event came out at {observe} within 5 s after one was sent to {mosquitto.url}" in text
    )
    assert "is the gateway set up to deliver there?" in text


def test_nobody_at_the_address_is_told_in_a_sentence(tmp_path):
    url = f"http://{HOST}:{free_port()}"
    observe = f"http://{HOST}:{free_port()}"
    done, _ = judge(tmp_path, "http", "--target", url, "--observe", observe)
    assert done.returncode == 1
    assert f"{url} can't be used: nobody listens there" in " ".join(done.stderr.split())


def test_events_reach_kafka_through_a_whole_gateway(tmp_path, kafka, monkeypatch):
    assert KafkaReader(kafka.bootstrap_servers, "t").records == []
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    done, report = judge(tmp_path, "kafka", "--family", "through the gateway")
    assert done.returncode == 0, done.stdout
    assert passed(report)["through the gateway"] > 250
