"""The two-stage set-ups of docs/buffers.md, with the files of deploy/examples/buffers as they are.

A producer for each key sends its events one after the other, each until it is acknowledged; the
last stage notes what arrives. Meanwhile servers are killed with SIGKILL.
"""

import asyncio
import http.client
import json
import re
import threading
import time
from pathlib import Path

import nats
import yaml
from confluent_kafka import Consumer

from tests.e2e.servers import HOST, Answer, Gateway, Kafka, NatsServer, poll_until

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples" / "buffers"
KEYS = 8
EVENTS = 60
"""Events of each key."""


class Producers:
    """A thread for each key; `acknowledged` has its events in order, as "key-number"."""

    def __init__(self, port):
        self._port = port
        self.acknowledged = {key: [] for key in range(KEYS)}
        self.refusals = 0
        self._threads = [threading.Thread(target=self._run, args=(key,)) for key in range(KEYS)]
        self._stop = False

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop = True
        for thread in self._threads:
            thread.join()

    @property
    def count(self):
        return sum(map(len, self.acknowledged.values()))

    def wait_for(self, count, seconds=60):
        poll_until(lambda: self.count >= count, seconds, f"{count} acknowledgements")

    def _run(self, key):
        connection = http.client.HTTPConnection(HOST, self._port, timeout=60)
        for number in range(EVENTS):
            while not self._stop and self._post(connection, key, number) != 202:
                self.refusals += 1
                time.sleep(0.05)
            if self._stop:
                break
            self.acknowledged[key].append(f"{key}-{number}")
        connection.close()

    @staticmethod
    def _post(connection, key, number):
        headers = {
            "ce-specversion": "1.0",
            "ce-id": f"{key}-{number}",
            "ce-source": f"/device/{key}",
            "ce-type": "com.acme.t",
        }
        connection.request("POST", "/", b"%d" % number, headers)
        response = connection.getresponse()
        response.read()
        return response.status


def example(name, **changes):
    """Read an example; `changes` are tables to be merged in, by `section.name`."""
    config = yaml.safe_load((EXAMPLES / name).read_text())
    for path, table in changes.items():
        section, key = path.split("__")
        target = config[section][int(key) if key.isdigit() else key]
        for name_of, value in table.items():
            if isinstance(value, dict):
                target[name_of] |= value
            else:
                target[name_of] = value
    return config


def check(producers, arrived):
    """Nothing acknowledged is lost, nothing comes from nowhere, keys are in order."""
    first = list(dict.fromkeys(arrived))
    for key, acknowledged in producers.acknowledged.items():
        assert len(acknowledged) == EVENTS
        of_key = [event for event in first if event.startswith(f"{key}-")]
        assert of_key == acknowledged
    assert len(first) == KEYS * EVENTS


class ExampleNatsServer(NatsServer):
    """nats-server with the example's configuration; only address and folder are the test's."""

    def __init__(self, folder):
        super().__init__(folder)
        text = (EXAMPLES / "nats-server.conf").read_text()
        for line, own in (
            ('listen: "0.0.0.0:4222"', f'listen: "{HOST}:{self.port}"'),
            ('store_dir: "/data/nats"', f'store_dir: "{folder}"'),
        ):
            assert text.count(line) == 1
            text = text.replace(line, own)
        assert re.search(r"^  sync_interval: always$", text, re.MULTILINE)
        self._config.write_text(text)


async def create_stream(url, **changes):
    """Make the stream as `nats stream add --config stream.json` does: the file is the request."""
    client = await nats.connect(url)
    request = json.dumps(json.loads((EXAMPLES / "stream.json").read_text()) | changes).encode()
    reply = await client.request("$JS.API.STREAM.CREATE.EVENTS", request, timeout=10)
    answer = json.loads(reply.data)
    await client.close()
    assert "error" not in answer, answer


class Ledger:
    """An HTTP sink's memory: refuses while it is down, else notes the event and then says 202."""

    def __init__(self):
        self.is_up = False
        self.arrived = []
        self.refused = 0
        self._lock = threading.Lock()

    def answer(self, request):
        with self._lock:
            if not self.is_up:
                self.refused += 1
                return Answer(503)
            event = request.header("ce-id") or json.loads(request.body)["id"]
            self.arrived.append(event)
            return Answer(202)


async def test_two_gateways_with_jetstream_between_lose_nothing(start, http_recorder):
    server = start(ExampleNatsServer)
    await create_stream(server.url)
    ledger = Ledger()
    http_recorder.answer = ledger.answer
    env = {"NATS_URL": server.url, "SINK_URL": http_recorder.url}
    first = start(Gateway, example("jetstream-in.yaml", sources__web={"listen": f"{HOST}:0"}), env)
    # Shorter waits, so that the test is short.
    changes = {
        "sources__buffer": {"ack_wait": "PT2S"},
        "routes__0": {"delivery": {"backoffCap": "PT0.3S"}},
    }
    second = start(Gateway, example("jetstream-out.yaml", **changes), env)
    with Producers(first.ports["web"]) as producers:
        producers.wait_for(100)  # the sink is down: all of it waits in the stream
        poll_until(lambda: ledger.refused, 20, "an attempt at the sink")
        assert not ledger.arrived
        server.kill()
        server.start()
        producers.wait_for(200)
        second.kill()
        ledger.is_up = True
        second.start()
        poll_until(lambda: len(ledger.arrived) >= 50, 30, "50 events at the sink")
        second.kill()
        second.start()
        server.kill()
        server.start()
        producers.wait_for(KEYS * EVENTS)
    poll_until(lambda: len(set(ledger.arrived)) == KEYS * EVENTS, 60, "every event at the sink")
    check(producers, ledger.arrived)
    assert ": stream " not in first.log  # no weakness to warn of
    async with asyncio.timeout(20):
        while await waiting(server.url):  # what was delivered leaves the stream
            await asyncio.sleep(0.05)


async def waiting(url):
    """Return how many events the stream has."""
    client = await nats.connect(url)
    state = (await client.jetstream().stream_info("EVENTS")).state
    await client.close()
    return state.messages


async def test_full_buffer_is_told_to_the_sender_and_loses_nothing(start):
    server = start(ExampleNatsServer)
    await create_stream(server.url, max_bytes=20_000)
    first = start(
        Gateway,
        example("jetstream-in.yaml", sources__web={"listen": f"{HOST}:0"}),
        {"NATS_URL": server.url},
    )
    with Producers(first.ports["web"]) as producers:
        poll_until(lambda: producers.refusals, 30, "a refusal")
        held = await waiting(server.url)
    assert 0 < held < KEYS * EVENTS
    assert await waiting(server.url) == producers.count  # acknowledged is what is stored


async def test_gateway_and_kafka_and_a_plain_consumer_lose_nothing(start, certificates):
    broker = start(Kafka, certificates)
    topic = broker.create_topic("events", partitions=3, max_message_bytes="1048588")
    config = example("kafka-in.yaml", sources__web={"listen": f"{HOST}:0"})
    first = start(Gateway, config, {"KAFKA_SERVERS": broker.bootstrap_servers})
    with Producers(first.ports["web"]) as producers:
        producers.wait_for(100)
        broker.kill()
        broker.start()
        producers.wait_for(KEYS * EVENTS, 90)
    arrived = consume(broker.bootstrap_servers, topic, KEYS * EVENTS)
    check(producers, arrived)


def consume(servers, topic, count):
    """Read until `count` different events have come; return the ids of all, in order."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "delivery",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    arrived = []
    try:
        consumer.subscribe([topic])
        while len(set(arrived)) < count:
            message = consumer.poll(20)
            assert message is not None, f"{len(set(arrived))} of {count} came"
            assert message.error() is None, message.error()
            arrived.append(json.loads(message.value())["id"])
            consumer.commit(message)  # after it was handled, as any second stage has to
    finally:
        consumer.close()
    return arrived
