"""The Kafka sink against librdkafka's mock cluster; tests/e2e/test_kafka.py has the real one."""

import asyncio
import json
import logging
import random
import socket
from functools import partial

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from pydantic import ValidationError

from bindings.binding import HeaderBinding
from bindings.event import Event
from bindings.kafka import KAFKA
from gateway.config.records import TlsConfig
from gateway.delivery import DRAINING, Delivery, Outcome, Reason
from gateway.errors import GatewayError
from gateway.interfaces import HurryingSink, PromptSink
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.retry import RetryPolicy
from gateway.router import Route
from gateway.sinks.kafka import KafkaSink, KafkaSinkConfig
from gateway.sinks.kafka.batch import Batch
from gateway.sinks.kafka.config import ONE_BY_ONE, TopicTemplate, librdkafka_settings
from gateway.sinks.kafka.producer import Client
from gateway.target import Target
from gateway.tasks import Tasks
from tests.mock_kafka import PRODUCE, MockCluster

# Error codes of the protocol (kafka.apache.org/protocol, "Error Codes").
UNKNOWN_TOPIC_OR_PARTITION = 3
NOT_LEADER = 6
REQUEST_TIMED_OUT = 7
MSG_SIZE_TOO_LARGE = 10
NOT_ENOUGH_REPLICAS = 19
NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
TOPIC_AUTHORIZATION_FAILED = 29
RECORD_LIST_TOO_LARGE = 18
POLICY_VIOLATION = 44
OUT_OF_ORDER_SEQUENCE_NUMBER = 45
INVALID_PRODUCER_EPOCH = 47
INVALID_RECORD = 87


@pytest.fixture
def cluster():
    with MockCluster() as cluster:
        cluster.create_topic("events", 1)
        yield cluster


@pytest.fixture
async def make_sink(cluster):
    sinks = []

    async def make(**config):
        config = {"bootstrap_servers": cluster.bootstrap_servers, "topic": "events", **config}
        sink = KafkaSink(KafkaSinkConfig(protocol="kafka", name="log", **config))
        await sink.open()
        sinks.append(sink)
        return sink

    yield make
    for sink in sinks:
        await sink.close()


def event(number, **attributes):
    attributes = {"source": "/s", "type": "t", "data": b"%d" % number, **attributes}
    return Event(id=str(number), **attributes)


def read(cluster, topic="events", partitions=1, count=None):
    """Return what is in the topic by now, or the first `count` records, by partition and offset."""
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap_servers, "group.id": "g"})
    try:
        messages = []
        for partition in range(partitions):
            place = TopicPartition(topic, partition, 0)
            end = consumer.get_watermark_offsets(place, timeout=10)[1] if count is None else count
            consumer.assign([place])
            for _ in range(end):
                message = consumer.poll(10)
                assert message is not None
                assert message.error() is None
                messages.append(message)
        return messages
    finally:
        consumer.close()


async def test_binary_event_is_a_record_with_ce_headers(cluster, make_sink):
    sink = await make_sink(mode="binary")
    sent = event(
        1,
        source="/s?a=b",
        subject="é %",
        datacontenttype="text/plain",
        extensions={"flag": True, "count": 5},
        data=b"hi",
    )
    assert await sink.send([sent]) == []
    [message] = read(cluster)
    assert message.value() == b"hi"
    assert message.key() is None
    assert dict(message.headers()) == {  # kafka-protocol-binding.md 3.2: text in UTF-8, no escapes
        "ce_specversion": b"1.0",
        "ce_id": b"1",
        "ce_source": b"/s?a=b",
        "ce_type": b"t",
        "ce_subject": b"\xc3\xa9 %",
        "ce_flag": b"true",
        "ce_count": b"5",
        "content-type": b"text/plain",
    }


async def test_structured_event_is_a_record_with_a_content_type(cluster, make_sink):
    sink = await make_sink()
    assert await sink.send([event(1, datacontenttype="text/plain", data=b"hi")]) == []
    [message] = read(cluster)
    [(name, value)] = message.headers()
    assert name == "content-type"
    assert value.startswith(b"application/cloudevents+json")
    assert json.loads(message.value()) == {
        "specversion": "1.0",
        "id": "1",
        "source": "/s",
        "type": "t",
        "datacontenttype": "text/plain",
        "data": "hi",
    }


async def test_no_data_is_a_null_value_and_empty_data_an_empty_one(cluster, make_sink):
    sink = await make_sink(mode="binary")
    assert await sink.send([event(1, data=None), event(2, data=b"")]) == []
    assert [message.value() for message in read(cluster)] == [None, b""]


async def test_list_keeps_its_order(cluster, make_sink):
    sink = await make_sink(mode="binary")
    assert await sink.send([event(number) for number in range(1000)]) == []
    assert [message.value() for message in read(cluster)] == [b"%d" % n for n in range(1000)]


@pytest.mark.parametrize(
    ("key", "extensions", "expected"),
    [
        ("none", {"partitionkey": "k"}, None),
        ("partitionkey", {"partitionkey": "k"}, b"k"),
        ("partitionkey", {}, None),
        ("order", {"partitionkey": "k"}, b"k"),
        ("order", {}, b"/s"),
        ("source", {}, b"/s"),
        ("count", {"count": 5}, b"5"),
    ],
)
async def test_key_is_what_the_configuration_says(cluster, make_sink, key, extensions, expected):
    sink = await make_sink(mode="binary", key=key)
    assert await sink.send([event(1, extensions=extensions)]) == []
    [message] = read(cluster)
    assert message.key() == expected
    if "partitionkey" in extensions:  # kafka-protocol-binding.md 3.1: the attribute stays
        assert dict(message.headers())["ce_partitionkey"] == b"k"


async def test_key_chooses_the_partition_as_the_java_client_does(cluster, make_sink):
    # Murmur2 of "21" is -973932308 in Kafka's own UtilsTest; made positive, modulo 4.
    cluster.create_topic("keyed", 4)
    sink = await make_sink(mode="binary", topic="keyed", key="partitionkey")
    assert await sink.send([event(1, extensions={"partitionkey": "21"})]) == []
    [message] = read(cluster, "keyed", partitions=4)
    assert message.partition() == (-973932308 & 0x7FFFFFFF) % 4


async def test_topic_is_made_of_attributes(cluster, make_sink):
    cluster.create_topic("events.com.acme", 1)
    sink = await make_sink(mode="binary", topic="events.{type}")
    events = [event(1, type="com.acme"), event(2, type="no blanks"), event(3, type="com.acme")]
    [failure] = await sink.send(events)
    assert (failure.position, failure.outcome) == (1, Outcome.REJECTED)
    assert failure.reason is Reason.SINK_REFUSED
    assert "events.no blanks" in failure.detail
    assert [message.value() for message in read(cluster, "events.com.acme")] == [b"1", b"3"]


def test_topic_may_be_made_of_an_attribute_whose_name_is_a_number():
    assert TopicTemplate("a.{1}.{type}.b").fill(event(1, extensions={"1": 5})) == "a.5.t.b"


async def test_topic_lacks_an_attribute(make_sink, caplog):
    sink = await make_sink(topic="events.{subject}")
    [failure] = await sink.send([event(1)])
    assert failure.outcome is Outcome.REJECTED
    assert "subject" in failure.detail
    assert not caplog.records  # the event's fault, not the connection's


async def test_too_large_event_is_rejected_and_its_neighbours_are_not(cluster, make_sink):
    sink = await make_sink(mode="binary", properties={"message.max.bytes": 2000})
    [failure] = await sink.send([event(1), event(2, data=b"x" * 3000), event(3)])
    assert (failure.position, failure.outcome) == (1, Outcome.REJECTED)
    assert failure.status == MSG_SIZE_TOO_LARGE
    assert [message.value() for message in read(cluster)] == [b"1", b"3"]


@pytest.mark.parametrize(
    ("code", "outcome", "reason"),
    [
        (MSG_SIZE_TOO_LARGE, Outcome.REJECTED, Reason.SINK_REFUSED),
        (INVALID_RECORD, Outcome.REJECTED, Reason.SINK_REFUSED),
        (TOPIC_AUTHORIZATION_FAILED, Outcome.RELEASED, Reason.SINK_DOWN),
    ],
)
async def test_broker_refuses_a_record(cluster, make_sink, code, outcome, reason):
    sink = await make_sink()
    cluster.fail_next(PRODUCE, code, code)  # the second time when it is sent by itself
    [failure] = await sink.send([event(1)])
    assert (failure.outcome, failure.reason, failure.status) == (outcome, reason, code)
    async with asyncio.timeout(10):
        while await sink.send([event(2)]):  # a denied topic stays so until its next look-up
            await asyncio.sleep(0.05)


async def test_passing_errors_are_retried_in_order_and_not_reported(cluster, make_sink):
    sink = await make_sink(mode="binary", properties={"retry.backoff.ms": 10})
    cluster.fail_next(
        PRODUCE,
        NOT_ENOUGH_REPLICAS,
        NOT_LEADER,
        REQUEST_TIMED_OUT,
        NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    )
    assert await sink.send([event(number) for number in range(50)]) == []
    values = [message.value() for message in read(cluster)]
    # The mock keeps records that it answers with an error, and knows no sequence numbers.
    assert list(dict.fromkeys(values)) == [b"%d" % number for number in range(50)]


def test_producer_is_idempotent_waits_for_all_replicas_and_leaves_no_gap():
    config = KafkaSinkConfig(protocol="kafka", bootstrap_servers="k:9092", topic="t", name="log")
    settings = librdkafka_settings(config, 10)
    assert settings["enable.idempotence"] is True
    assert settings["acks"] == "all"
    assert settings["enable.gapless.guarantee"] is True
    assert settings["partitioner"] == "murmur2_random"


# The mock checks no sequence numbers and would store what is behind a failed batch in other
# requests under way; Apache Kafka refuses it. So one request at a time, here.
ONE_REQUEST = {"batch.num.messages": 10, "max.in.flight": 1}


async def test_one_permanent_error_fails_its_neighbours_only_as_released(cluster, make_sink):
    sink = await make_sink(mode="binary", linger=0.0, properties=ONE_REQUEST)
    assert await sink.send([event(0)]) == []
    cluster.fail_next(PRODUCE, 0, TOPIC_AUTHORIZATION_FAILED)
    events = [event(number) for number in range(1, 351)]
    failures = await sink.send(events)
    assert failures
    assert {failure.outcome for failure in failures} == {Outcome.RELEASED}
    first = failures[0].position
    assert [failure.position for failure in failures] == list(range(first, 350))
    async with asyncio.timeout(10):
        while failures:  # a denied topic stays so until its next look-up
            events = [events[failure.position] for failure in failures]
            failures = await sink.send(events)
    assert [int(m.value()) for m in read(cluster)] == list(range(351))


@pytest.mark.parametrize(
    "code", [POLICY_VIOLATION, INVALID_PRODUCER_EPOCH, OUT_OF_ORDER_SEQUENCE_NUMBER]
)
async def test_nothing_overtakes_what_is_released(cluster, make_sink, caplog, code):
    sink = await make_sink(mode="binary", linger=0.0, properties=ONE_REQUEST)
    assert await sink.send([event(0)]) == []
    # librdkafka may send more before it stops. A broker refuses that too, as a sequence number is
    # missing; the mock cluster looks at none.
    then = (
        INVALID_PRODUCER_EPOCH if code == INVALID_PRODUCER_EPOCH else OUT_OF_ORDER_SEQUENCE_NUMBER
    )
    cluster.fail_next(PRODUCE, 0, code, *[then] * 20)
    failures = await sink.send([event(number) for number in range(1, 200)])
    cluster.fail_no_more(PRODUCE)
    assert {failure.outcome for failure in failures} == {Outcome.RELEASED}
    first = failures[0].position + 1
    assert [failure.position + 1 for failure in failures] == list(range(first, 200))
    assert [int(m.value()) for m in read(cluster)] == list(range(first))
    # The producer is another one now, and takes them in their order.
    assert await sink.send([event(failure.position + 1) for failure in failures]) == []
    assert [int(m.value()) for m in read(cluster)] == list(range(200))
    assert len([r for r in caplog.records if "made anew" in r.getMessage()]) == 1


@pytest.mark.parametrize("code", [MSG_SIZE_TOO_LARGE, RECORD_LIST_TOO_LARGE, INVALID_RECORD])
async def test_batch_refused_for_one_record_costs_only_that_record(cluster, make_sink, code):
    sink = await make_sink(mode="binary", linger=0.05, properties=ONE_REQUEST)
    assert await sink.send([event(0)]) == []
    # The first batch of ten is refused, and of its records, one by one, the third.
    cluster.fail_next(PRODUCE, code, 0, 0, code)
    failures = await sink.send([event(number) for number in range(1, 41)])
    assert [(f.position, f.outcome, f.status) for f in failures] == [(2, Outcome.REJECTED, code)]
    values = [int(message.value()) for message in read(cluster)]
    assert values == [number for number in range(41) if number != 3]


async def test_key_waits_when_its_suspect_is_released(cluster, make_sink):
    sink = await make_sink(mode="binary", linger=0.05, properties=ONE_REQUEST)
    assert await sink.send([event(0)]) == []
    cluster.fail_next(PRODUCE, MSG_SIZE_TOO_LARGE, TOPIC_AUTHORIZATION_FAILED)
    events = [event(number, source=f"/{number % 2}") for number in range(1, 25)]
    failures = await sink.send(events)
    assert {failure.outcome for failure in failures} == {Outcome.RELEASED}
    kept = {failure.position for failure in failures}
    stored = [int(message.value()) for message in read(cluster)]
    for key in ("/0", "/1"):  # what is stored of a key is its beginning
        of_key = [position for position, e in enumerate(events) if e.source == key]
        released = [position for position in of_key if position in kept]
        assert released == of_key[len(of_key) - len(released) :]
    assert {number - 1 for number in stored if number} == set(range(24)) - kept


@pytest.mark.parametrize("only_errors", [False, True])
async def test_report_that_raises_ends_neither_polling_nor_its_neighbours(cluster, only_errors):
    loop = asyncio.get_running_loop()
    raised = []
    loop.set_exception_handler(lambda _, context: raised.append(context.get("exception")))
    config = KafkaSinkConfig(
        protocol="kafka", name="log", topic="events", bootstrap_servers=cluster.bootstrap_servers
    )
    settings = librdkafka_settings(config, 10) | {"delivery.report.only.error": only_errors}
    client = Client(settings, 0.0, Tasks("test"))

    def produce(producer, batch):
        for position in range(batch.produced, batch.size):

            def report(error, message, take=batch.reports[position], position=position):
                take(error, message)
                raise LookupError(position)

            producer.produce("events", b"x", on_delivery=report)
            batch.produced += 1

    async with asyncio.timeout(10):
        assert (await client.run(5, produce)).failures == {}
        cluster.fail_next(PRODUCE, INVALID_RECORD)
        assert set((await client.run(1, produce)).failures) == {0}
    await client.close()
    assert {type(error) for error in raised} == {LookupError}


@pytest.mark.parametrize("extra", [{}, ONE_BY_ONE])
async def test_failure_whose_report_found_no_memory_is_not_taken_for_a_success(cluster, extra):
    asyncio.get_running_loop().set_exception_handler(lambda _, context: context.clear())
    config = KafkaSinkConfig(
        protocol="kafka", name="log", topic="events", bootstrap_servers=cluster.bootstrap_servers
    )
    settings = librdkafka_settings(config, 30) | {"delivery.report.only.error": True, **extra}
    client = Client(settings, 0.0, Tasks("test"))

    class Report:
        """As the real one, but that no memory is left for the call."""

        def __call__(self, error, message):
            raise MemoryError

    def produce(producer, batch):
        batch.reports[:] = [Report() for _ in range(batch.size)]
        for position in range(batch.size):
            producer.produce("events", b"x", on_delivery=batch.reports[position])
        batch.produced = batch.size

    async with asyncio.timeout(60):
        assert (await client.run(3, produce)).failures == {}
        cluster.fail_next(PRODUCE, *[INVALID_RECORD] * 3)
        failures = (await client.run(3, produce)).failures
    assert {position: failure.outcome for position, failure in failures.items()} == dict.fromkeys(
        range(3), Outcome.RELEASED
    )
    await client.close()


@pytest.mark.parametrize("seed", range(2))
async def test_what_counts_as_delivered_was_reported_so_whatever_happens(
    cluster, monkeypatch, seed
):
    rng = random.Random(seed)
    batches = []

    class Told(Batch):
        """Takes reports of success as well, which are what it is compared with."""

        __slots__ = ("told",)

        def __init__(self, size, on_ended):
            super().__init__(size, on_ended)
            self.told = {}
            batches.append(self)

        def _report(self, position, error, message):
            self.told[position] = error is None
            super()._report(position, error, message)

        def _finish(self):
            if not self.is_ended:
                delivered = set(range(self.size)) - self.failures.keys()
                assert all(self.told.get(position) for position in delivered)
            super()._finish()

    monkeypatch.setattr("gateway.sinks.kafka.producer.Batch", Told)
    settings = librdkafka_settings(
        KafkaSinkConfig(
            protocol="kafka",
            name="log",
            topic="events",
            bootstrap_servers=cluster.bootstrap_servers,
            properties={
                "queue.buffering.max.messages": 100,
                "batch.num.messages": 10,
                "retry.backoff.ms": 5,
                "message.max.bytes": 2000,
            },
        ),
        20.0,
    )
    client = Client(settings | {"delivery.report.only.error": False}, 0.0, Tasks("test"))

    def produce(producer, batch):
        for index in range(batch.produced, batch.size):
            batch.produced = index
            producer.produce(
                "events", b"x" * rng.choice((*[1] * 50, 3000)), on_delivery=batch.reports[index]
            )
        batch.produced = batch.size

    async with asyncio.timeout(60):
        failures = (await client.run(300, produce)).failures
    assert 0 < len(failures) < 300
    codes = (NOT_LEADER, REQUEST_TIMED_OUT, INVALID_RECORD, TOPIC_AUTHORIZATION_FAILED)
    runs = []
    for _ in range(40):
        runs.append(asyncio.ensure_future(client.run(rng.choice((1, 30, 300)), produce)))
        await asyncio.wait(runs[-1:], timeout=rng.choice((0, 0.01, 0.1)))
        chance = rng.random()
        if chance < 0.2:
            cluster.fail_next(PRODUCE, 0, rng.choice((*codes, OUT_OF_ORDER_SEQUENCE_NUMBER)))
        elif chance < 0.3:
            rng.choice(runs).cancel()
        elif chance < 0.35:
            client._renew("for a test")
        elif chance < 0.4:
            cluster.go_down()
        cluster.come_up()
    monkeypatch.setattr("gateway.sinks.kafka.producer._CLOSE_SECONDS", 0.2)
    await client.close()
    async with asyncio.timeout(60):
        results = await asyncio.gather(*runs, return_exceptions=True)
    assert {type(result) for result in results} <= {Told, asyncio.CancelledError}
    assert len(batches) == 41


async def test_giving_up_releases_what_the_producer_still_holds():
    batch = Batch(3, print)
    held = batch.reports[1]  # as librdkafka's client does until it has reported
    batch.produced = 2
    batch.give_up("for a test")
    assert {position: failure.outcome for position, failure in batch.failures.items()} == {
        1: Outcome.RELEASED,
        2: Outcome.RELEASED,
    }
    assert batch.is_ended
    del held


async def test_lone_list_is_looked_at_later_where_the_broker_takes_its_time(cluster):
    config = KafkaSinkConfig(
        protocol="kafka", name="log", topic="events", bootstrap_servers=cluster.bootstrap_servers
    )
    client = Client(librdkafka_settings(config, 10), 0.0, Tasks("test"))

    def produce(producer, batch):
        producer.produce("events", b"x", on_delivery=batch.reports[0])
        batch.produced = 1

    async with asyncio.timeout(20):
        await client.run(1, produce)
        cluster.answer_after(300)
        before = client._usual
        await client.run(1, produce)
        await client.run(1, produce)
        assert client._usual > before
        cluster.answer_after(0)
        before = client._usual = 0.5
        await client.run(1, produce)
        assert client._usual < before
        before = client._usual
        client._look()  # there is nothing to learn from
        assert client._usual == before
        client._usual = 0.0
        cluster.answer_after(200)
        for _ in range(12):
            await client.run(1, produce)
        # Many slow lists don't make a quick one wait: it was a millisecond each, without end.
        assert client._usual == 0.01
    await client.close()


async def test_list_goes_out_in_the_call_that_brought_it(cluster, make_sink):
    sink = await make_sink(mode="binary")
    assert isinstance(sink, PromptSink)
    told = asyncio.get_running_loop().create_future()
    sending = sink.start_sending([event(1), event(2)], None, told.set_result, print)
    assert sending._batch.produced == 2  # no turn of the event loop was needed
    assert not told.done()
    async with asyncio.timeout(20):
        assert await told == []
    assert [message.value() for message in read(cluster)] == [b"1", b"2"]


async def test_end_of_a_list_that_fails_at_once_is_told_after_the_call(make_sink):
    sink = await make_sink(topic="events.{subject}")
    told = asyncio.get_running_loop().create_future()
    sink.start_sending([event(1), event(2)], None, told.set_result, print)
    assert not told.done()
    async with asyncio.timeout(20):
        assert [failure.outcome for failure in await told] == [Outcome.REJECTED] * 2


async def test_list_that_was_cut_off_is_not_told_of(cluster, make_sink):
    sink = await make_sink(mode="binary", properties={"queue.buffering.max.messages": 10})
    assert await sink.send([event(0)]) == []
    told = []
    cluster.answer_after(200)
    # The first waits for its reports, the second for room.
    for first in (1, 100):
        events = [event(number) for number in range(first, first + 9)]
        sink.start_sending(events, None, told.append, print).cancel()
    cluster.answer_after(0)
    async with asyncio.timeout(20):
        assert await sink.send([event(number) for number in range(200, 250)]) == []
    assert told == []
    values = [int(message.value()) for message in read(cluster)]
    assert values == [*range(10), 100, *range(200, 250)]


async def test_list_begun_as_another_ends_goes_out(make_sink):
    sink = await make_sink(mode="binary", linger=0.0)
    told = asyncio.get_running_loop().create_future()

    def go_on(left, failures):
        assert failures == []
        if left:
            sink.start_sending([event(left)], None, partial(go_on, left - 1), print)
        else:
            told.set_result(None)

    go_on(5, [])
    async with asyncio.timeout(20):
        await told


async def test_event_that_can_not_be_written_holds_back_its_key_only(
    cluster, make_sink, monkeypatch, caplog
):
    class Faulty(HeaderBinding):
        def encode(self, what, mode):
            if what.id == "2":
                raise LookupError(what.id)
            return KAFKA.encode(what, mode)

    monkeypatch.setattr("gateway.sinks.kafka.records.KAFKA", Faulty(name="kafka", prefix="ce_"))
    sink = await make_sink(mode="binary")
    events = [event(number, source=f"/{number % 2}") for number in range(6)]
    failures = await sink.send(events)
    assert [(f.position, f.outcome, f.reason) for f in failures] == [
        (2, Outcome.RELEASED, Reason.SINK_DOWN),
        (4, Outcome.RELEASED, Reason.HELD),
    ]
    assert [message.value() for message in read(cluster)] == [b"0", b"1", b"3", b"5"]
    assert len(caplog.records) == 1


async def test_second_attempt_that_has_no_producer_releases(cluster, make_sink, monkeypatch):
    sink = await make_sink(mode="binary")
    assert await sink.send([event(0)]) == []
    cluster.fail_next(PRODUCE, MSG_SIZE_TOO_LARGE)
    # No such setting of ours is wrong: this stands for a machine that has no thread left.
    monkeypatch.setattr("gateway.sinks.kafka.ONE_BY_ONE", {"no.such.setting": 1})
    async with asyncio.timeout(20):
        failures = await sink.send([event(1), event(2)])
    assert [failure.outcome for failure in failures] == [Outcome.RELEASED] * 2


async def test_lists_one_after_the_other_without_linger(cluster, make_sink):
    sink = await make_sink(mode="binary", linger=0.0)
    lists = [[event(number)] for number in range(20)]
    assert await asyncio.gather(*(sink.send(events) for events in lists)) == [[]] * 20
    assert sorted(int(message.value()) for message in read(cluster)) == list(range(20))


async def test_more_events_than_the_queue_holds_wait_for_room(cluster, make_sink):
    sink = await make_sink(mode="binary", properties={"queue.buffering.max.messages": 10})
    lists = [[event(number) for number in range(n, n + 100)] for n in (0, 100, 200)]
    assert await asyncio.gather(*(sink.send(events) for events in lists)) == [[], [], []]
    values = [int(message.value()) for message in read(cluster)]
    assert sorted(values) == list(range(300))
    assert [value for value in values if value < 100] == list(range(100))


async def test_broker_that_is_down_releases_after_the_timeout(cluster, make_sink, caplog):
    caplog.set_level(logging.INFO, "gateway.sinks.kafka")
    sink = await make_sink()
    assert await sink.send([event(1)]) == []
    cluster.go_down()
    failures = await sink.send([event(2), event(3)], 0.5)
    assert [failure.position for failure in failures] == [0, 1]
    assert {failure.outcome for failure in failures} == {Outcome.RELEASED}
    assert {failure.reason for failure in failures} == {Reason.TIMEOUT}
    assert {failure.status for failure in failures} == {None}
    assert len(await sink.send([event(2), event(3)], 0.5)) == 2
    cluster.come_up()
    assert await sink.send([event(2)], 20) == []
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3, lines
    assert [("is connected" in line) for line in lines] == [True, False, True]


async def test_sink_opens_while_the_broker_is_down(cluster, make_sink):
    cluster.go_down()
    sink = await make_sink(timeout=20)
    sending = asyncio.ensure_future(sink.send([event(1)]))
    await asyncio.sleep(0)
    cluster.come_up()
    assert await sending == []


@pytest.fixture
def nobody():
    """An address of which every connection is refused: bound, and nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


async def test_log_says_which_servers_were_never_reached_and_why(make_sink, nobody, caplog):
    servers = f"127.0.0.1:1,{nobody}"
    await make_sink(bootstrap_servers=servers)  # and not an event comes
    async with asyncio.timeout(60):
        while not caplog.records:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
    [record] = caplog.records
    line = record.getMessage()
    assert servers in line
    for server in servers.split(","):  # in librdkafka's words
        assert f"{server}/bootstrap: Connect to ipv4#{server} failed: Connection refused" in line


async def test_brokers_that_were_never_reached_do_not_keep_events_for_the_whole_timeout(
    make_sink, nobody, monkeypatch
):
    monkeypatch.setattr("gateway.sinks.kafka._UNREACHED_SECONDS", 0.1)
    sink = await make_sink(bootstrap_servers=nobody, timeout=3000)
    for _ in range(2):
        async with asyncio.timeout(60):
            failures = await sink.send([event(1), event(2)])
        assert [failure.position for failure in failures] == [0, 1]
        assert {failure.outcome for failure in failures} == {Outcome.RELEASED}
        assert {failure.reason for failure in failures} == {Reason.SINK_DOWN}
        assert {failure.retry_after for failure in failures} == {None}
        assert all("efused" in failure.detail for failure in failures)


async def test_shutdown_does_not_wait_for_brokers_that_have_gone(
    cluster, make_sink, monkeypatch, caplog
):
    monkeypatch.setattr("gateway.sinks.kafka._HURRY_SECONDS", 0.1)
    sink = await make_sink(mode="binary", timeout=3000)
    assert await sink.send([event(1)]) == []
    cluster.go_down()
    sending = asyncio.ensure_future(sink.send([event(2), event(3)]))
    await asyncio.sleep(0)
    sink.hurry(asyncio.get_running_loop().time() + 500)
    async with asyncio.timeout(60):
        failures = await sending
    assert {failure.outcome for failure in failures} == {Outcome.RELEASED}
    assert all(400 < failure.retry_after <= 501 for failure in failures)
    assert {failure.reason for failure in failures} == {Reason.HELD}
    assert "has no connection to Kafka" in caplog.text
    async with asyncio.timeout(60):  # a list that comes while the shutdown lasts
        assert len(await sink.send([event(4)])) == 1
        cluster.come_up()
        while await sink.send([event(5)]):
            pass


async def test_shutdown_waits_for_brokers_that_take_their_time(cluster, make_sink, monkeypatch):
    monkeypatch.setattr("gateway.sinks.kafka._HURRY_SECONDS", 0.01)
    sink = await make_sink(mode="binary")
    assert await sink.send([event(1)]) == []
    cluster.answer_after(500)
    sink.hurry(asyncio.get_running_loop().time())
    assert await sink.send([event(2)]) == []


@pytest.mark.parametrize(
    "policy",
    [RetryPolicy(), RetryPolicy(retry=0), RetryPolicy(retry_after_max=0.0)],
    ids=["usual", "no retry", "no Retry-After"],
)
async def test_gateway_ends_though_its_brokers_were_never_there(
    make_sink, nobody, monkeypatch, policy
):
    monkeypatch.setattr("gateway.sinks.kafka._HURRY_SECONDS", 0.1)
    sink = await make_sink(bootstrap_servers=nobody, timeout=3000)
    assert isinstance(sink, HurryingSink)
    route = Route(name="r", sinks=["log"], policy=policy)
    pipeline = Pipeline([route], {"log": Target(name="log", sink=sink, address="log")}, Metrics())
    pipeline.start()
    settled = []
    await pipeline.intake("s").submit([Delivery((event(1),), settled.append)])
    async with asyncio.timeout(60):
        await pipeline.drain(500)
    await pipeline.close()
    assert settled == [DRAINING]  # and no dead letter


async def test_what_a_producer_says_at_its_end_is_of_no_interest(make_sink, nobody, caplog):
    sink = await make_sink()
    said = []

    def on_error(error):
        said.append(error.code())
        sink._on_error(error)  # what it raises comes out of `close`, and would end the gateway

    producer = Producer({"bootstrap.servers": nobody, "log_level": 0, "error_cb": on_error})
    async with asyncio.timeout(60):
        while len(producer) < 2:  # what nobody polls: of the connection, and of all brokers
            await asyncio.sleep(0.01)
    await asyncio.to_thread(producer.close)  # as that of a failed producer
    assert KafkaError._ALL_BROKERS_DOWN in said
    assert not caplog.records


async def test_close_releases_what_is_under_way(cluster, make_sink, monkeypatch):
    monkeypatch.setattr("gateway.sinks.kafka.producer._CLOSE_SECONDS", 0.2)
    cluster.go_down()
    sink = await make_sink()
    sending = asyncio.ensure_future(sink.send([event(1), event(2)]))
    await asyncio.sleep(0)
    await sink.close()
    failures = await sending
    assert [failure.outcome for failure in failures] == [Outcome.RELEASED] * 2


async def test_close_waits_for_what_is_under_way(cluster, make_sink):
    sink = await make_sink()
    assert await sink.send([event(1)]) == []
    cluster.answer_after(300)
    sending = asyncio.ensure_future(sink.send([event(2)]))
    await asyncio.sleep(0)
    await sink.close()
    assert await sending == []


async def test_cancelled_send_harms_nobody(cluster, make_sink):
    sink = await make_sink()
    cluster.answer_after(100)
    sending = asyncio.ensure_future(sink.send([event(1)]))
    await asyncio.sleep(0)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert await sink.send([event(2)]) == []


async def test_wrong_file_or_setting_is_named_at_open(make_sink, tmp_path):
    with pytest.raises(GatewayError, match=r"nothing\.pem"):
        await make_sink(tls=TlsConfig(ca=tmp_path / "nothing.pem"))
    with pytest.raises(GatewayError, match=r"no\.such\.setting"):
        await make_sink(properties={"no.such.setting": 1})


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("topic", "", "empty"),
        ("topic", "a b", "letters"),
        ("topic", "a.{Type}", "attribute"),
        ("topic", "a.{type!r}", "attribute"),
        ("topic", "a.{", "'{'"),
        ("key", "Partition-Key", "attribute"),
        ("mode", "batch", "structured"),
        ("properties", {"acks": 1}, "acks"),
        ("properties", {"enable.idempotence": False}, "enable.idempotence"),
        ("properties", {"sasl.password": "x"}, "sasl.password"),
        ("linger", "5 ms", "duration"),
        ("bootstrap_servers", "", "at least 1"),
    ],
)
def test_wrong_configuration_is_refused(field, value, text):
    table = {"protocol": "kafka", "bootstrap_servers": "k:9092", "topic": "t", field: value}
    with pytest.raises(ValidationError, match=text):
        KafkaSinkConfig(**table)


def test_password_is_not_shown():
    config = KafkaSinkConfig(
        protocol="kafka", bootstrap_servers="k:9092", topic="t", username="u", password="hidden"
    )
    assert "hidden" not in repr(config)
