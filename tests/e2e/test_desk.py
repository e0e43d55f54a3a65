"""docker-compose.yml's services as processes: each with the configuration that is mounted."""

import asyncio
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import nats
import pytest
import yaml
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from tests.e2e.servers import HOST, Gateway, Mosquitto, NatsServer, poll_until, program
from tests.e2e.servers.envoy import CLUSTERS, Envoy, envoy_program

ROOT = Path(__file__).parents[2]
DESK = ROOT / "deploy/compose"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
LOADS = {name: one for name, one in COMPOSE["services"].items() if name.startswith("load-")}
EVENTS = 12
"""Events of each load."""


def run(*command, **options):
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=180, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def nats_server_program(folder):
    return NatsServer(folder).command()[0]


# --- each program checks its own configuration ----------------------------------------------------


def test_nats_server_takes_its_configuration(tmp_path):
    config = (DESK / "nats/nats-server.conf").read_text()
    assert "/data" in config
    (tmp_path / "nats.conf").write_text(config.replace("/data", str(tmp_path / "data")))
    checked = run(nats_server_program(tmp_path), "-t", "-c", str(tmp_path / "nats.conf"))
    assert "is valid" in checked


def test_mosquitto_takes_its_configuration(tmp_path):
    class Desk(Mosquitto):
        def command(self):
            text = (DESK / "mosquitto/mosquitto.conf").read_text()
            text = text.replace("listener 1883", f"listener {self.port} {HOST}")
            text = text.replace("/mosquitto/data/", f"{self.folder}/")
            text += "user root\n" if os.geteuid() == 0 else ""
            (self.folder / "desk.conf").write_text(text)
            return [program("mosquitto", "mosquitto"), "-c", str(self.folder / "desk.conf")]

    with Desk(tmp_path) as broker:
        run(
            program("mosquitto_pub", "mosquitto-clients"), "-h", HOST, "-p", str(broker.port),
            "-q", "1", "-t", "plant/1/temp", "-m", "21",
        )  # fmt: skip


def test_prometheus_takes_its_configuration(tmp_path):
    config = (DESK / "prometheus/prometheus.yml").read_text()
    rules = ROOT / "deploy/examples/prometheus/rules.yml"
    (tmp_path / "p.yml").write_text(config.replace("/etc/prometheus/rules.yml", str(rules)))
    promtool = program("promtool", "prometheus")
    assert "SUCCESS" in run(promtool, "check", "config", str(tmp_path / "p.yml"))


def test_envoy_takes_its_configuration(tmp_path):
    example = ROOT / "deploy/examples/envoy"
    # Its check does not look into the files that a bootstrap names, so they are put into it.
    bootstrap = yaml.safe_load((DESK / "envoy/bootstrap.yaml").read_text())
    sources = bootstrap.pop("dynamic_resources")
    assert sources["lds_config"]["path_config_source"]["path"] == "/etc/envoy/xds/lds.yaml"
    assert sources["cds_config"]["path_config_source"]["path"] == "/etc/envoy/xds/cds.yaml"
    bootstrap["static_resources"] = {
        "listeners": without_types(example / "xds/lds.yaml"),
        "clusters": without_types(DESK / "envoy/cds.yaml"),
    }
    (tmp_path / "envoy.yaml").write_text(
        yaml.safe_dump(bootstrap).replace("/etc/envoy/wasm", str(example / "wasm"))
    )
    checked = run(
        envoy_program(), "--mode", "validate", "-c", str(tmp_path / "envoy.yaml"),
        "--use-dynamic-base-id",
    )  # fmt: skip
    assert "OK" in checked


def without_types(path):
    resources = yaml.safe_load(path.read_text())["resources"]
    return [{key: one[key] for key in one if key != "@type"} for one in resources]


def test_the_gateway_takes_its_configuration():
    environment = COMPOSE["services"]["gateway-1"]["environment"]
    environment = {key: plain(text) for key, text in environment.items()}
    command = [sys.executable, "-m", "gateway", "check", str(DESK / "gateway/gateway.yaml")]
    checked = run(*command, env={**os.environ, "PYTHONPATH": str(ROOT), **environment})
    assert "gateway.yaml: ok" in checked


def plain(text):
    """Return what Compose makes of a text when no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


# --- all of them together -------------------------------------------------------------------------


@pytest.fixture
def desk(start, kafka, http_recorder):
    """Run two gateways behind Envoy, with brokers; names of services become addresses."""
    bus, mosquitto = start(NatsServer), start(Mosquitto)
    make_stream = [sys.executable, str(DESK / "nats/make_stream.py")]
    for _ in range(2):  # the second finds it there
        run(*make_stream, bus.url, str(DESK / "nats/stream.json"))
    text = (DESK / "gateway/gateway.yaml").read_text()
    addresses = {
        "mqtt://mosquitto:1883": mosquitto.url,
        "nats://nats:4222": bus.url,
        "kafka:19092": kafka.bootstrap_servers,
        "0.0.0.0:5683": f"{HOST}:0",
        "0.0.0.0:1883": f"{HOST}:0",
        "0.0.0.0:8080": f"{HOST}:0",
    }
    for name, address in addresses.items():
        assert name in text
        text = text.replace(name, address)
    config = yaml.safe_load(text)
    del config["admin"]
    config["sinks"]["archive"]["topic"] = topic = kafka.create_topic(f"desk-{uuid.uuid4().hex}")
    gateways = []
    for name in ("a", "b"):
        environment = {
            "K_SINK": f"{http_recorder.url}/{name}",
            "SENSOR_PASSWORD": "secret",
            "GATEWAY": f"desk-{name}-{uuid.uuid4().hex}",
        }
        gateways.append(start(Gateway, config, environment))
    endpoints = {
        cluster: [(one.ports[source], one.port) for one in gateways]
        for cluster, source in zip(CLUSTERS, ("field", "devices", "web"), strict=True)
    }
    envoy = start(Envoy, endpoints)
    for cluster in CLUSTERS:
        poll_until(lambda c=cluster: all(envoy.hosts(c).values()), 60, "healthy gateways")
    ports = {
        "coap://envoy": f"coap://{HOST}:{envoy.ports['coap']}",
        "mqtt://envoy": f"mqtt://{HOST}:{envoy.ports['mqtt']}",
        "http://envoy:8080": f"http://{HOST}:{envoy.ports['http']}",
        "mqtt://mosquitto": mosquitto.url,
        "nats://nats": bus.url,
    }
    return http_recorder, ports, topic, kafka, bus


def load(service, ports):
    """Run a load of docker-compose.yml: fewer events, and as fast as it goes."""
    command = list(service["command"])
    (host,) = [name for name in ports if command[1].startswith(name)]
    command[1] = command[1].replace(host, ports[host])
    command[command.index("-n") + 1] = str(EVENTS)
    command[command.index("--rate") + 1] = "1000"
    environment = {key: plain(text) for key, text in service.get("environment", {}).items()}
    run(
        sys.executable, "-m", "gateway", *command,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


@pytest.mark.timeout(300)  # Kafka's start is in it
async def test_every_load_arrives_at_the_sink_in_kafka_and_in_jetstream(desk):
    sink, ports, topic, kafka, bus = desk
    assert len(LOADS) == 5
    await asyncio.gather(*(asyncio.to_thread(load, one, ports) for one in LOADS.values()))
    count = EVENTS * len(LOADS)
    arrived = sink.wait_for(lambda some: len(identities(some)) >= count and list(some), 120)
    ids = identities(arrived)
    assert len(ids) == count
    assert {source.split("/")[2] for source, _ in ids} == {
        name.removeprefix("load-") for name in LOADS
    }
    assert {request.target for request in arrived} == {"/a", "/b"}
    assert await asyncio.to_thread(read, kafka, topic, count) == ids
    assert await read_stream(bus, count) == ids


def identity(body):
    event = json.loads(body)
    return event["source"], event["id"]


def identities(requests):
    """Return source and id of what arrived, each once: under load one may come again."""
    return {identity(request.body) for request in requests}


async def read_stream(bus, count):
    """Return source and id of so many messages of the stream."""
    client = await nats.connect(bus.url)
    stored = await client.jetstream().subscribe("events.>", stream="EVENTS", ordered_consumer=True)
    found = set()
    async with asyncio.timeout(120):
        while len(found) < count:
            found.add(identity((await stored.next_msg(timeout=120)).data))
    await client.close()
    return found


def read(kafka, topic, count):
    """Return source and id of so many records."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "group.id": topic,
        }
    )
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])  # a group takes time to form
    found = set()

    def take():
        for record in consumer.consume(100, 0.5):
            assert record.error() is None
            found.add(identity(record.value()))
        return len(found) >= count

    try:
        poll_until(take, 120, "records")
    finally:
        consumer.close()
    return found
