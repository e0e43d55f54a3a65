"""What is held and when it is submitted again; the sources that use it have tests of their own."""

import asyncio
from functools import partial

import pytest

from gateway.delivery import ACCEPTED, BUSY, Delivery, Outcome, Reason, Settlement
from gateway.sources.backlog import Backlog, Gate
from gateway.tasks import Tasks
from tests.gateway.stepped import VirtualLoop
from tests.helpers import RecordingIntake, make_event

LONG = Settlement(Outcome.RELEASED, Reason.SINK_BUSY, 3600.0)
DOWN = Settlement(Outcome.RELEASED, Reason.SINK_DOWN)


class Bench:
    """A source whose messages are held each time they are released."""

    def __init__(self):
        self.intake = RecordingIntake()
        self.tasks = Tasks("test")
        self.backlog = Backlog(self.tasks, limit=2)
        self.backlog.open(self.intake)
        self.gate = Gate(self.intake, self.backlog, self.tasks)

    def message(self, key):
        return self._again(key, self.backlog.next_number())

    def release(self, key, settlement=BUSY):
        self.message(key).settle(settlement)

    def _again(self, key, number):
        return Delivery([make_event(number, source=key)], partial(self._settled, key, number))

    def _settled(self, key, number, settlement):
        if settlement.outcome is Outcome.RELEASED:
            again = partial(self._again, key, number)
            self.backlog.hold(key, number, again, settlement.retry_after)
        else:
            self.backlog.passed(key, number)

    @property
    def ids(self):
        return [int(event.id) for event in self.intake.events]


@pytest.fixture
async def bench():
    bench = Bench()
    yield bench
    bench.backlog.close()
    await bench.tasks.close()


async def test_a_long_retry_after_holds_back_its_own_key_only(bench):
    bench.release("a", LONG)
    bench.release("b")
    await bench.intake.wait_for(lambda i: i.deliveries)
    assert bench.ids == [1]
    assert bench.backlog.holds("a")
    assert len(bench.backlog) == 1


@pytest.mark.loop(factory=VirtualLoop)
async def test_what_is_released_again_waits_longer_and_its_followers_with_it(bench):
    moments = []

    def answer(_):
        moments.append(asyncio.get_running_loop().time())
        return DOWN if len(moments) == 1 else ACCEPTED

    bench.intake.answer = answer
    began = asyncio.get_running_loop().time()
    for _ in range(3):
        bench.release("a", DOWN)
    await bench.intake.wait_for(lambda i: len(i.deliveries) == 4)
    assert bench.ids == [0, 0, 1, 2]  # the first alone, the others when it was through
    assert 0.5 <= moments[0] - began <= 0.625
    assert 1.0 <= moments[1] - moments[0] <= 1.25
    await asyncio.sleep(0)
    assert not bench.backlog.holds_any


async def test_a_follower_that_is_released_waits_again_and_holds_back_those_behind_it(bench):
    script = [ACCEPTED, BUSY, ACCEPTED, ACCEPTED, ACCEPTED]
    bench.intake.answer = lambda _: script.pop(0)
    for _ in range(3):
        bench.release("a", DOWN)
    await bench.intake.wait_for(lambda i: len(i.deliveries) == 4)
    assert bench.ids == [0, 1, 2, 1]  # 2 was on its way already, as in the pipeline
    await asyncio.sleep(0)
    assert not bench.backlog.holds_any


@pytest.mark.loop(factory=VirtualLoop)
async def test_one_that_comes_while_the_others_follow_is_not_delayed(bench):
    moments = []

    def answer(_):
        if not moments:
            bench.intake.room.clear()
        moments.append(asyncio.get_running_loop().time())
        return ACCEPTED

    bench.intake.answer = answer
    bench.release("a")
    bench.release("a")
    await bench.intake.wait_for(lambda i: i.deliveries)
    await asyncio.sleep(0)
    number = bench.backlog.next_number()
    bench.backlog.follow("a", number, partial(bench._again, "a", number))
    bench.intake.room.set()
    await bench.intake.wait_for(lambda i: len(i.deliveries) == 3)
    assert bench.ids == [0, 1, 2]
    assert moments[2] == moments[0]
    await asyncio.sleep(0)
    assert not bench.backlog.holds_any


async def test_what_nobody_wants_any_more_holds_back_nothing(bench):
    bench.backlog.hold("a", bench.backlog.next_number(), lambda: None)
    number = bench.backlog.next_number()
    bench.backlog.hold("a", number, partial(bench._again, "a", number))
    bench.backlog.hold("b", bench.backlog.next_number(), lambda: None)
    await bench.intake.wait_for(lambda i: i.deliveries)
    async with asyncio.timeout(5):
        while bench.backlog.holds_any:
            await asyncio.sleep(0.01)
    assert bench.ids == [1]


async def test_a_held_message_waits_for_room(bench):
    bench.intake.room.clear()
    bench.release("a")
    async with asyncio.timeout(5):
        while len(bench.backlog):
            await asyncio.sleep(0.01)
    assert bench.ids == []
    assert bench.backlog.holds("a")
    bench.intake.room.set()
    await bench.intake.wait_for(lambda i: i.deliveries)


async def test_a_gate_is_shut_until_there_is_room_and_keeps_the_order(bench):
    opened = []
    bench.gate.submit([bench.message("a")], lambda: opened.append(1))
    assert not bench.gate.is_shut
    bench.intake.room.clear()
    bench.gate.submit([bench.message("a")], lambda: opened.append(2))
    assert bench.gate.is_shut
    bench.intake.room.set()
    bench.gate.submit([bench.message("a")], lambda: opened.append(3))
    bench.gate.submit([], lambda: opened.append(4))
    async with asyncio.timeout(5):
        await bench.gate.opened()
    assert opened == [2, 3, 4]
    assert bench.ids == [0, 1, 2]


async def test_a_full_backlog_shuts_the_gate_until_there_is_room(bench):
    bench.release("a")
    bench.release("b")
    assert bench.backlog.is_full
    bench.gate.submit([bench.message("c")], lambda: None)
    assert bench.gate.is_shut
    async with asyncio.timeout(5):
        await bench.gate.opened()
    assert 2 in bench.ids


async def test_a_full_backlog_that_is_closed_lets_go_who_waits_for_room(bench):
    bench.release("a")
    bench.release("b")
    bench.gate.submit([bench.message("c")], lambda: None)
    bench.backlog.close()
    await bench.intake.wait_for(lambda i: i.deliveries)  # a gateway that drains refuses it
    assert bench.ids == [2]
    assert len(bench.backlog) == 2
