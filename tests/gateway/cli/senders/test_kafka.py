import asyncio

import pytest
from confluent_kafka import KafkaError

from bindings.event import Event
from gateway.cli.senders import Plain, SendError, SendOptions
from gateway.cli.senders.kafka import KafkaSender
from tests.gateway.sinks.kafka.test_kafka import read
from tests.mock_kafka import MockCluster


@pytest.fixture
def cluster():
    with MockCluster() as cluster:
        cluster.create_topic("events", 1)
        yield cluster


async def test_events_and_plain_payloads_become_records(cluster):
    sender = KafkaSender(f"kafka://{cluster.bootstrap_servers}/events", SendOptions())
    await sender.open()
    event = Event(id="1", source="/s", type="t", extensions={"partitionkey": "k"}, data=b"a")
    assert await sender.send(event) == "events [0] offset 0"
    assert await sender.send(Plain(b"b", "text/plain")) == "events [0] offset 1"
    await sender.close()
    first, second = read(cluster)
    assert (first.key(), first.value()) == (b"k", b"a")
    assert dict(first.headers())["ce_id"] == b"1"
    assert (second.key(), second.value()) == (None, b"b")
    assert second.headers() == [("content-type", b"text/plain")]


async def test_many_sends_at_once_are_answered_each(cluster):
    sender = KafkaSender(f"kafka://{cluster.bootstrap_servers}/events", SendOptions())
    await sender.open()
    answers = await asyncio.gather(*(sender.send(Plain(b"%d" % n)) for n in range(100)))
    await sender.close()
    assert answers == [f"events [0] offset {n}" for n in range(100)]


async def test_broker_that_is_down_is_told_in_words(cluster):
    cluster.go_down()
    sender = KafkaSender(f"kafka://{cluster.bootstrap_servers}/events", SendOptions(timeout=0.5))
    await sender.open()
    with pytest.raises(SendError, match=r"timed out .*(refused|down)"):
        await sender.send(Plain(b"x"))
    await sender.close()


async def test_why_a_broker_is_down_is_told_and_not_only_that_it_is(cluster):
    sender = KafkaSender(f"kafka://{cluster.bootstrap_servers}/events", SendOptions())
    await sender.open()
    for code in (KafkaError._AUTHENTICATION, KafkaError._ALL_BROKERS_DOWN):  # librdkafka's order
        sender._on_error(KafkaError(code))
    assert "uthentication" in sender._words
    await sender.close()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("kafka://host:9092", "no topic"),
        ("kafka://host:9092/a b", "topic"),
        ("kafka://host:9092/t?sasl_mechanism=NONE", "sasl_mechanism"),
        ("kafka://host:9092/t?nothing=1", "nothing"),
    ],
)
def test_wrong_url_is_explained(url, text):
    with pytest.raises(SendError, match=text):
        KafkaSender(url, SendOptions())
