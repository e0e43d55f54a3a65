"""What a source sees of the gateway: windows, filters, and who is told what."""

import asyncio
import time

import pytest

from bindings.binding import Message
from gateway.delivery import ACCEPTED, Outcome, Reason, settle_all
from gateway.intake import SourceIntake
from gateway.metrics import Metrics
from gateway.router import Route
from gateway.running_route import RunningRoute
from gateway.spool import StoreError
from gateway.target import Target
from tests.gateway.stepped import SteppedLetters
from tests.helpers import Answers, ScriptedSink, make_event


class Rig:
    def __init__(self, *routes):
        self.metrics = Metrics()
        self.sink = ScriptedSink()
        self.sink.gate.clear()
        target = Target(name="a", sink=self.sink, address="")
        self.routes = [
            RunningRoute(
                Route(name=f"r{number}", sinks=["a"], **options), {"a": target}, self.metrics, None
            )
            for number, options in enumerate(routes)
        ]
        for route in self.routes:
            route.start()
        self.letters = SteppedLetters()
        self.counts = self.metrics.sources["field"]
        self.intake = SourceIntake(
            "field", self.routes, self.counts, protocol="mqtt", letters=self.letters
        )
        self.answers = Answers()

    def deliveries(self, *numbers, **changes):
        return [self.answers.delivery(make_event(number, **changes)) for number in numbers]

    async def close(self):
        self.intake.draining = True
        for route in self.routes:
            route.wake()
            for lane in route.all_lanes:
                await lane.close()


@pytest.fixture
async def rigs():
    opened = []

    def make(*routes):
        opened.append(Rig(*routes))
        return opened[-1]

    yield make
    for rig in opened:
        await rig.close()


async def test_a_batch_waits_for_room_on_each_of_its_routes(rigs):
    rig = rigs({"inflight": 10}, {"inflight": 1})
    batch = rig.answers.delivery(make_event(1), make_event(2))
    assert rig.intake.try_submit(rig.deliveries(3))
    assert not rig.intake.try_submit([batch])
    submitting = asyncio.ensure_future(rig.intake.submit([batch]))
    await asyncio.sleep(0)
    assert not submitting.done()
    assert [route.used for route in rig.routes] == [1, 1]
    rig.sink.gate.set()
    async with asyncio.timeout(10):
        await submitting
    await rig.answers.count(3)
    assert {answer.outcome for answer in rig.answers.by_id.values()} == {Outcome.ACCEPTED}


async def test_what_was_refused_was_not_touched(rigs):
    rig = rigs({"inflight": 1})
    assert rig.intake.try_submit(rig.deliveries(1))
    (delivery,) = rig.deliveries(2)
    assert not rig.intake.try_submit([delivery])
    assert (delivery.received_at, delivery.source, delivery.observer) == (0.0, "", None)
    assert rig.counts.received == 1


async def test_a_list_is_stamped_with_its_source_and_its_time(rigs):
    rig = rigs({})
    made = rig.deliveries(1, 2)
    await rig.intake.submit(made)
    assert {delivery.source for delivery in made} == {"field"}
    assert made[0].received_at == made[1].received_at > 0


async def test_what_is_settled_together_counts_with_its_own_time_and_events(rigs):
    rig = rigs({})
    now = time.monotonic()
    made = [*rig.deliveries(1, 2, 3), rig.answers.delivery(make_event(4), make_event(5))]
    rig.intake._stamp(made)
    made[0].received_at = made[1].received_at = now - 20.0
    settle_all(made, ACCEPTED)
    buckets = dict(rig.counts.ack_seconds.cumulative())
    assert (buckets["10.0"], buckets["30.0"], buckets["+Inf"]) == (2.0, 4.0, 4.0)
    assert 40.0 <= rig.counts.ack_seconds.total < 50.0
    assert rig.counts.settled == [5, 0, 0]


async def test_duplicates_beyond_the_window_do_not_make_a_source_wait_for_ever(rigs):
    rig = rigs({"inflight": 2, "dedup_window": 600.0})
    rig.sink.gate.set()
    await rig.intake.submit(rig.deliveries(*range(10)))
    await rig.answers.count(10)
    again = Answers()
    async with asyncio.timeout(10):
        await rig.intake.submit([again.delivery(make_event(number)) for number in range(10)])
    assert {answer.reason for answer in again.by_id.values()} == {Reason.DUPLICATE}
    assert len(rig.sink.taken) == 10


async def test_only_what_a_route_wants_takes_room_in_it(rigs):
    rig = rigs({"inflight": 2, "matches": lambda event: event.source == "/wanted"})
    assert rig.intake.try_submit(rig.deliveries(*range(10), source="/other"))
    assert rig.routes[0].used == 0
    assert rig.counts.filtered == 10
    assert rig.intake.try_submit(rig.deliveries(10, 11, source="/wanted"))
    assert rig.routes[0].used == 2


@pytest.mark.parametrize("fails", [False, True])
async def test_what_cannot_be_decoded_is_kept_before_it_is_acknowledged(rigs, fails):
    rig = rigs({})
    said = []
    rig.intake.undecodable(Message(b"?"), "invalid_event", "no id", said.append)
    assert said == []
    ((letter,), _) = rig.letters.waiting[0]
    assert (letter.source, letter.protocol) == ("field", "mqtt")
    assert (letter.reason, letter.detail) == ("invalid_event", "no id")
    assert letter.message == Message(b"?")
    if fails:
        rig.letters.waiting[0][1](StoreError("full"))
        assert [str(error) for error in said] == ["full"]
    else:
        rig.letters.waiting[0][1](None)
        assert said == [None]
    assert rig.counts.rejected == {"invalid_event": 1}


async def test_without_dead_letters_it_is_answered_at_once(rigs):
    rig = rigs({})
    intake = SourceIntake("field", rig.routes, rig.counts)
    said = []
    intake.undecodable(Message(b"?"), "invalid_event", "no id", said.append)
    assert said == [None]
    assert rig.counts.rejected == {"invalid_event": 1}
