"""The Kafka sink and the real Apache Kafka, with kcat and the SDKs as readers."""

import asyncio
import http.client
import json
import logging
import re
import subprocess

import pytest

from bindings.event import Event
from gateway.cli.senders import SendError, SendOptions
from gateway.cli.senders.kafka import KafkaSender
from gateway.config.records import TlsConfig
from gateway.delivery import Outcome, Reason
from gateway.sinks.kafka import KafkaSink, KafkaSinkConfig
from tests.e2e.readers.sdk import Record, read_with_python
from tests.e2e.servers import HOST, Kafka, MissingError, poll_until, program
from tests.mock_kafka import MockCluster


def consume(kafka, topic, *arguments):
    """Read a topic from its beginning to its end with kcat: a JSON object for each record."""
    kcat = [program("kcat", "kcat"), "-b", kafka.bootstrap_servers, "-t", topic, "-C", "-e", "-q"]
    done = subprocess.run(
        [*kcat, "-J", "-X", "fetch.wait.max.ms=20", *arguments],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def record_of(message):
    """Return one of kcat's objects as the SDKs want it; the payload has to be text."""
    headers = message["headers"]
    payload = message["payload"]
    return Record(
        "Kafka",
        list(zip(headers[::2], headers[1::2], strict=True)),
        None if payload is None else payload.encode(),
        message["key"],
    )


async def until_told(words):
    """Wait until the client has found out, and said in `words()`, why it is not let in."""
    async with asyncio.timeout(30):
        while not re.search("uthentication|certificate", words()):
            await asyncio.sleep(0.01)


@pytest.fixture
async def make_sink(kafka):
    sinks = []

    async def make(topic, **config):
        config = {"bootstrap_servers": kafka.bootstrap_servers, "topic": topic, **config}
        sink = KafkaSink(KafkaSinkConfig(protocol="kafka", name="log", **config))
        await sink.open()
        sinks.append(sink)
        return sink

    yield make
    for sink in sinks:
        await sink.close()


EVENT = Event(
    id="a-1",
    source="/plant/1",
    type="com.acme.temp.v1",
    subject="line é",
    time="2026-11-22T10:00:00Z",
    datacontenttype="application/json",
    extensions={"partitionkey": "line-1", "comacmeflag": True},
    data=b'{"t": 21.5}',
)


@pytest.mark.parametrize("mode", ["binary", "structured"])
async def test_kcat_and_both_sdks_read_the_event(kafka, make_sink, npm_reader, mode):
    topic = kafka.create_topic(f"kcat-{mode}")
    sink = await make_sink(topic, mode=mode, key="partitionkey")
    assert await sink.send([EVENT]) == []
    [message] = consume(kafka, topic)
    assert message["key"] == "line-1"
    record = record_of(message)
    if mode == "binary":
        assert record.header_table == {
            "ce_specversion": "1.0",
            "ce_id": "a-1",
            "ce_source": "/plant/1",
            "ce_type": "com.acme.temp.v1",
            "ce_subject": "line é",
            "ce_time": "2026-11-22T10:00:00Z",
            "ce_partitionkey": "line-1",
            "ce_comacmeflag": "true",
            "content-type": "application/json",
        }
        assert record.body == EVENT.data
    for event in (read_with_python(record), npm_reader.read(record)):
        for name in ("id", "source", "type", "subject", "datacontenttype", "partitionkey"):
            assert event.attributes[name] == EVENT.attributes()[name]
        assert event.data == {"t": 21.5}


async def test_null_and_empty_values_differ_on_the_wire(kafka, make_sink):
    topic = kafka.create_topic("tombstones")
    sink = await make_sink(topic, mode="binary", key="source")
    assert await sink.send([EVENT.replace(data=None), EVENT.replace(data=b"")]) == []
    kcat = [program("kcat", "kcat"), "-b", kafka.bootstrap_servers, "-t", topic, "-C", "-e", "-q"]
    done = subprocess.run([*kcat, "-f", "%S\n"], check=True, capture_output=True, timeout=30)
    assert done.stdout == b"-1\n0\n"


async def test_order_of_each_key_is_kept_over_partitions(kafka, make_sink):
    topic = kafka.create_topic("ordered", partitions=4)
    sink = await make_sink(topic, mode="binary", key="order", compression="lz4")
    events = [
        Event(id=str(n), source=f"/device/{n % 20}", type="t", data=b"%d" % n) for n in range(2000)
    ]
    for start in range(0, 2000, 500):
        assert await sink.send(events[start : start + 500]) == []
    by_key: dict[str, list[int]] = {}
    partitions = set()
    for message in consume(kafka, topic):
        by_key.setdefault(message["key"], []).append(int(message["payload"]))
        partitions.add(message["partition"])
    assert {key: sorted(values) for key, values in by_key.items()} == by_key
    assert sum(map(len, by_key.values())) == 2000
    assert len(partitions) > 1


async def test_record_too_large_for_the_topic_is_rejected(kafka, make_sink):
    if not kafka.is_apache:
        pytest.skip("noida-db does not limit a topic's records")
    topic = kafka.create_topic("small", max_message_bytes="1000")
    sink = await make_sink(topic, mode="binary")
    [failure] = await sink.send([EVENT.replace(data=b'"' + b"x" * 5000 + b'"')])
    assert (failure.outcome, failure.reason) == (Outcome.REJECTED, Reason.SINK_REFUSED)
    assert failure.status == 10  # MESSAGE_TOO_LARGE
    assert await sink.send([EVENT]) == []


async def test_records_too_large_together_are_taken_one_by_one_in_order(kafka, make_sink, caplog):
    if not kafka.is_apache:
        pytest.skip("noida-db does not limit a topic's records")
    topic = kafka.create_topic("small-batches", max_message_bytes="1000")
    sink = await make_sink(topic, mode="binary", key="order")
    events = [numbered(n) for n in range(200)]
    for position in (20, 21, 150):
        events[position] = events[position].replace(data=b"x" * 2000)
    failures = await sink.send(events)
    assert [(f.position, f.outcome, f.status) for f in failures] == [
        (position, Outcome.REJECTED, 10) for position in (20, 21, 150)
    ]
    values = [int(message["payload"]) for message in consume(kafka, topic)]
    assert values == [n for n in range(200) if n not in {20, 21, 150}]
    assert "batch.size" in caplog.text


async def test_batch_size_that_fits_the_topic_needs_no_second_way(kafka, make_sink, caplog):
    if not kafka.is_apache:
        pytest.skip("noida-db does not limit a topic's records")
    topic = kafka.create_topic("fitting-batches", max_message_bytes="1000")
    sink = await make_sink(topic, mode="binary", key="order", properties={"batch.size": 900})
    assert await sink.send([numbered(n) for n in range(200)]) == []
    assert [int(m["payload"]) for m in consume(kafka, topic)] == list(range(200))
    assert "batch.size" not in caplog.text


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_password_over_tls_is_accepted(kafka, make_sink, certificates, mechanism):
    topic = kafka.create_topic(f"secure-{mechanism.lower()}")
    sink = await make_sink(
        topic,
        bootstrap_servers=secure_servers(kafka),
        tls=TlsConfig(ca=certificates.ca),
        username="writer",
        password=kafka.users["writer"],
        sasl_mechanism=mechanism,
    )
    assert await sink.send([EVENT]) == []
    assert len(consume(kafka, topic)) == 1


async def test_wrong_password_releases_and_logs_once(kafka, make_sink, certificates, caplog):
    sink = await make_sink(
        "anything",
        bootstrap_servers=secure_servers(kafka),
        tls=TlsConfig(ca=certificates.ca),
        username="writer",
        password="wrong",
        timeout=1.5,
    )
    await until_told(lambda: caplog.text)
    [failure] = await sink.send([EVENT])
    assert failure.outcome is Outcome.RELEASED
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "uthentication" in warnings[0].getMessage()


async def test_unknown_certificate_releases(kafka, make_sink, caplog):
    sink = await make_sink(
        "anything", bootstrap_servers=secure_servers(kafka), tls=TlsConfig(), timeout=1.5
    )
    await until_told(lambda: caplog.text)
    [failure] = await sink.send([EVENT])
    assert failure.outcome is Outcome.RELEASED
    assert "certificate" in caplog.text


async def test_user_without_a_grant_is_released(kafka, make_sink, certificates):
    topic = kafka.create_topic("denied")
    sink = await make_sink(
        topic,
        bootstrap_servers=secure_servers(kafka),
        tls=TlsConfig(ca=certificates.ca),
        username="stranger",
        password=kafka.users["stranger"],
        timeout=5,
    )
    failures = await sink.send([EVENT, EVENT])
    assert [failure.outcome for failure in failures] == [Outcome.RELEASED] * 2
    assert consume(kafka, topic) == []


async def test_nothing_is_lost_when_the_broker_is_killed(start, certificates):
    broker = start(Kafka, certificates)
    topic = broker.create_topic("killed")
    config = KafkaSinkConfig(
        protocol="kafka", name="log", bootstrap_servers=broker.bootstrap_servers, topic=topic,
        mode="binary", timeout=60,
    )  # fmt: skip
    sink = KafkaSink(config)
    await sink.open()
    assert await sink.send([numbered(n) for n in range(100)]) == []
    broker.kill()
    sending = asyncio.ensure_future(sink.send([numbered(n) for n in range(100, 200)]))
    await asyncio.to_thread(broker.start)
    assert await sending == []
    await sink.close()
    values = [int(message["payload"]) for message in consume(broker, topic)]
    assert values == list(range(200))


async def test_sender_writes_what_kcat_reads(kafka, certificates):
    topic = kafka.create_topic("sender")
    url = f"kafka://writer:{kafka.users['writer']}@{secure_servers(kafka)}/{topic}"
    sender = KafkaSender(f"{url}?sasl_mechanism=SCRAM-SHA-512", SendOptions(ca=certificates.ca))
    await sender.open()
    assert await sender.send(EVENT) == f"{topic} [0] offset 0"
    await sender.close()
    [message] = consume(kafka, topic)
    assert message["key"] == "line-1"
    assert json.loads(message["payload"]) == {"t": 21.5}
    refused = KafkaSender(
        url.replace("writer-secret", "no"), SendOptions(ca=certificates.ca, timeout=1)
    )
    await refused.open()
    await until_told(lambda: refused._words)
    with pytest.raises(SendError, match="uthentication"):
        await refused.send(EVENT)
    await refused.close()


def test_gateway_acknowledges_only_what_kafka_has(gateway):
    with MockCluster() as cluster:
        cluster.create_topic("events", 1)
        sink = {"protocol": "kafka", "bootstrap_servers": cluster.bootstrap_servers}
        process = gateway(
            {
                "sources": {"web": {"protocol": "http", "listen": f"{HOST}:0"}},
                "sinks": {"log": {**sink, "topic": "events", "mode": "binary"}},
                "routes": [
                    {
                        "to": ["log"],
                        "delivery": {
                            "spool": "off",
                            "dead_letters": "off",
                            "retry": 0,
                            "timeout": "PT5S",
                        },
                    }
                ],
            }
        )

        def post(number):
            headers = {
                "ce-specversion": "1.0",
                "ce-id": str(number),
                "ce-source": "/s",
                "ce-type": "t",
            }
            connection = http.client.HTTPConnection(HOST, process.ports["web"], timeout=30)
            connection.request("POST", "/", b"%d" % number, headers)
            status = connection.getresponse().status
            connection.close()
            return status

        assert post(1) == 202
        cluster.go_down()
        assert post(2) == 503
        cluster.come_up()
        poll_until(lambda: post(3) == 202, 20, "Kafka to be back")
        kcat = f"-b {cluster.bootstrap_servers} -t events -C -e -q".split()
        read = subprocess.run(
            [program("kcat", "kcat"), *kcat], check=True, capture_output=True, timeout=30
        )
        assert read.stdout.splitlines() == [b"1", b"3"]
        log = [line for line in process.log.splitlines() if "gateway.sinks.kafka" in line]
        assert ["no connection" in line for line in log] == [False, True, False], log


def numbered(number):
    return Event(id=str(number), source="/s", type="t", data=b"%d" % number)


def secure_servers(kafka):
    try:
        return kafka.secure_servers
    except MissingError as missing:
        pytest.skip(str(missing))
