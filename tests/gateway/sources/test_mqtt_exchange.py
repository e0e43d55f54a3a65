"""The receiving half of a session, without a socket."""

import asyncio

import pytest

from bindings.binding import Message
from bindings.errors import InvalidEventError
from bindings.event import Event
from bindings.wire.mqtt import V5, V311, Ack, PacketType, Publish
from gateway.delivery import ACCEPTED, BUSY, Outcome, Reason, Settlement
from gateway.sources import keeper
from gateway.sources.backlog import Backlog
from gateway.sources.mqtt_exchange import Receiver
from gateway.spool import StoreError
from gateway.tasks import Tasks
from tests.helpers import RecordingIntake

REFUSED = Settlement(Outcome.REJECTED, Reason.SINK_REFUSED)


def decode(message):
    if message.payload == b"bad":
        raise InvalidEventError("bad", reason="bad")
    extensions = dict(message.user_properties)
    return [Event(id=message.payload.decode(), source="/s", type="t", extensions=extensions)]


def publish(mid, payload=b"x", *, qos=1, dup=False):
    return Publish("t", payload, qos, mid, dup)


class Bench:
    def __init__(self, **options):
        self.intake = RecordingIntake()
        self.tasks = Tasks("test")
        self.backlog = Backlog(self.tasks, limit=1000)
        self.backlog.open(self.intake)
        self.progress = 0
        self.receiver = Receiver(decode, self.intake, self.backlog, self._progress, **options)
        self.connect()

    def _progress(self):
        self.progress += 1

    def connect(self, version=V5):
        self.written = []
        self.receiver.connect(self.written.append, version)

    def take(self, *packets):
        return self.receiver.take(packets)


@pytest.fixture
def bench():
    return Bench()


async def turn():
    """Let what was scheduled for the next turn of the loop run."""
    await asyncio.sleep(0)


async def test_a_list_that_settles_leaves_in_one_write(bench):
    deliveries = bench.take(*(publish(mid) for mid in (1, 2, 3)))
    for delivery in deliveries:
        delivery.settle(ACCEPTED)
    assert bench.written == []
    await turn()
    assert bench.written == [bytes.fromhex("40020001 40020002 40020003")]
    assert bench.receiver.is_idle


async def test_an_answer_waits_for_those_before_it_and_keeps_its_reason(bench):
    first, second = bench.take(publish(1), publish(2, b"bad"), publish(3))
    second.settle(REFUSED)
    await turn()
    assert bench.written == []
    first.settle(ACCEPTED)
    await turn()
    (written,) = bench.written
    assert written.startswith(bytes.fromhex("40020001 400a0002 99 06 1f 0003") + b"bad")
    assert written.endswith(bytes.fromhex("83 0f 1f 000c") + b"sink_refused")
    assert bench.intake.rejections == [("bad", "bad")]


async def test_a_released_message_keeps_its_place_and_its_events(bench):
    first, second = bench.take(publish(1), publish(2))
    first.settle(BUSY)
    second.settle(ACCEPTED)
    await turn()
    assert bench.written == []
    await bench.intake.wait_for(lambda i: i.deliveries)
    await turn()
    assert bench.written == [bytes.fromhex("40020001 40020002")]
    assert bench.intake.events == first.events


async def test_a_lost_session_drops_what_its_sender_will_send_again(bench):
    (delivery,) = bench.take(publish(1))
    delivery.settle(BUSY)
    bench.connect()
    bench.receiver.lose()
    assert bench.take(publish(1, b"other")) == []  # it waits behind one of its key
    await bench.intake.wait_for(lambda i: i.deliveries)
    assert [event.id for event in bench.intake.events] == ["other"]


async def test_a_lost_session_at_a_broker_keeps_what_nobody_else_has():
    bench = Bench(of_broker=True)
    (delivery,) = bench.take(publish(1))
    delivery.settle(BUSY)
    bench.connect()
    bench.receiver.lose()
    await bench.intake.wait_for(lambda i: i.deliveries)
    await turn()
    assert bench.written == []  # and nobody waits for its answer


async def test_what_is_settled_without_a_connection_is_answered_on_the_next(bench):
    (delivery,) = bench.take(publish(1, qos=2))
    bench.receiver.disconnect()
    delivery.settle(ACCEPTED)
    await turn()
    bench.connect()
    assert bench.take(publish(1, qos=2, dup=True)) == []
    await turn()
    assert bench.written == [bytes.fromhex("50020001")]


async def test_pubcomp_never_overtakes_pubrec(bench):
    (delivery,) = bench.take(publish(1, qos=2))
    delivery.settle(ACCEPTED)
    bench.take(Ack(PacketType.PUBREL, 1))
    await turn()
    assert bench.written == [bytes.fromhex("50020001 70020001")]


async def test_a_release_before_its_turn_makes_pubrec_needless(bench):
    bench.take(publish(1))
    (delivery,) = bench.take(publish(2, qos=2))
    delivery.settle(ACCEPTED)
    bench.take(Ack(PacketType.PUBREL, 2))
    await turn()
    assert bench.written == [bytes.fromhex("70020002")]
    assert bench.receiver.unanswered == 1


async def test_a_release_of_what_was_never_received_does_no_harm(bench):
    """A sender that skips PUBREC breaks the protocol, and only for itself."""
    bench.take(publish(1))
    (delivery,) = bench.take(publish(2, qos=2))
    delivery.settle(ACCEPTED)
    bench.connect()
    assert len(bench.take(Ack(PacketType.PUBREL, 2), publish(3))) == 1
    await turn()
    assert bench.written == [bytes.fromhex("70020002")]
    assert bench.receiver.used_quota == 1


async def test_a_negative_pubrec_frees_the_identifier_in_mqtt_5_only(bench):
    bench.take(publish(1, b"bad", qos=2))
    await turn()
    assert bench.receiver.used_quota == 0
    bench.take(publish(1, b"bad", qos=2))
    assert len(bench.intake.rejections) == 2
    bench.connect(V311)
    bench.take(publish(2, b"bad", qos=2))
    await turn()
    assert bench.written == [bytes.fromhex("50020002")]
    bench.take(publish(2, b"bad", qos=2, dup=True))
    assert len(bench.intake.rejections) == 3


async def test_the_quota_counts_what_is_not_complete(bench):
    deliveries = bench.take(publish(1), publish(2, qos=2))
    assert bench.receiver.used_quota == 2
    for delivery in deliveries:
        delivery.settle(ACCEPTED)
    await turn()
    assert bench.receiver.used_quota == 1
    bench.take(Ack(PacketType.PUBREL, 2))
    assert bench.receiver.used_quota == 0


async def test_a_closed_backlog_submits_nothing(bench):
    (delivery,) = bench.take(publish(1))
    bench.backlog.close()
    delivery.settle(BUSY)
    await turn()
    assert len(bench.backlog) == 1
    assert bench.receiver.is_idle
    assert bench.progress == 1  # who drains learns that nothing more will be settled


def keyed(mid, payload, key, *, qos=1):
    return Publish("t", payload, qos, mid, user_properties=[("partitionkey", key)])


async def test_later_messages_of_its_key_wait_behind_a_released_one_and_no_others(bench):
    (first,) = bench.take(keyed(1, b"a1", "a"))
    first.settle(BUSY)
    (other,) = bench.take(keyed(2, b"a2", "a"), keyed(3, b"b1", "b"), keyed(0, b"a3", "a", qos=0))
    assert other.events[0].id == "b1"
    other.settle(ACCEPTED)
    answers = {"a1": [BUSY, ACCEPTED], "a2": [REFUSED], "a3": [ACCEPTED]}
    bench.intake.answer = lambda delivery: answers[delivery.events[0].id].pop(0)
    await bench.intake.wait_for(lambda i: len(i.deliveries) == 4)
    assert [event.id for event in bench.intake.events] == ["a1", "a1", "a2", "a3"]
    await turn()
    await turn()
    assert b"".join(bench.written).startswith(bytes.fromhex("40020001"))
    assert not bench.backlog.holds_any
    assert len(bench.take(keyed(4, b"a4", "a"))) == 1


async def test_one_released_behind_the_first_is_held_in_its_place(bench):
    """The pipeline had both; the second was released while the first was tried again."""
    first, second = bench.take(publish(1, b"1"), publish(2, b"2"))
    first.settle(BUSY)
    assert bench.take(publish(3, b"3")) == []
    second.settle(BUSY)
    await bench.intake.wait_for(lambda i: len(i.deliveries) == 3)
    assert [event.id for event in bench.intake.events] == ["1", "2", "3"]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(keeper, "FIRST_DELAY", 0.01)


@pytest.mark.parametrize(("of_broker", "version"), [(True, V5), (True, V311), (False, V311)])
async def test_what_is_no_event_is_kept_where_nobody_can_be_told(of_broker, version):
    bench = Bench(of_broker=of_broker)
    bench.connect(version)
    bench.intake.keeping = []
    assert (
        bench.take(publish(1, b"bad"), publish(0, b"bad", qos=0), publish(2, b"bad", qos=2)) == []
    )
    await turn()
    assert bench.written == []
    assert not bench.receiver.is_idle
    for on_kept in bench.intake.keeping:
        on_kept(None)
    await turn()
    assert bench.written == [bytes.fromhex("40020001 50020002")]
    assert bench.receiver.is_idle
    assert bench.intake.kept == [Message(b"bad", address="t")] * 3


async def test_a_repetition_joins_what_is_not_kept_yet(quick):
    bench = Bench(of_broker=True)
    bench.intake.keep_error = StoreError("no room", full=True)
    bench.take(publish(1, b"bad"), publish(2, b"bad"))
    await turn()
    assert bench.receiver.is_idle  # who drains need not wait for that
    bench.connect()
    bench.take(publish(1, b"bad", dup=True), publish(2, b"bad", dup=True))
    bench.intake.keep_error = None
    await bench.intake.wait_for(lambda i: len(i.kept) == 2)
    await turn()
    assert b"".join(bench.written) == bytes.fromhex("40020001 40020002")


@pytest.mark.parametrize(("of_broker", "kept"), [(True, [b"bad"]), (False, [])])
async def test_a_lost_session_leaves_what_its_sender_has_too(quick, of_broker, kept):
    bench = Bench(of_broker=of_broker)
    bench.connect(V311)
    bench.intake.keep_error = StoreError("no room", full=True)
    bench.take(publish(1, b"bad"))
    bench.connect(V311)
    bench.receiver.lose()
    bench.intake.keep_error = None
    async with asyncio.timeout(5):
        while bench.backlog.keeper.weight:
            await asyncio.sleep(0.001)
    await turn()
    assert [message.payload for message in bench.intake.kept] == kept
    assert bench.written == []


async def test_a_repetition_has_the_same_topic_and_payload(bench):
    (first,) = bench.take(publish(1, qos=2))
    assert bench.take(publish(1, qos=2, dup=True)) == []
    (other,) = bench.take(publish(1, b"y", qos=2, dup=True))
    (another,) = bench.take(Publish("other", b"y", 2, 1, True))
    assert [d.events[0].id for d in (first, other, another)] == ["x", "y", "y"]
