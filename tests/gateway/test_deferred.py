"""What is put off waits on disk, in order, and comes when its turn has come."""

import asyncio

import pytest

from gateway import stored_event
from gateway.deferred import FETCH, Deferred
from gateway.spool import Spool
from tests.helpers import make_event


class Dispatching:
    """What a dispatcher says of its keys."""

    def __init__(self):
        self.stuck = set()
        self.inside = {}

    @property
    def has_failing(self):
        return bool(self.stuck)

    def is_stuck(self, key):
        return key in self.stuck

    def count_of(self, key):
        return self.inside.get(key, 0)


@pytest.fixture
async def spool(tmp_path):
    spool = Spool(tmp_path / "spool", max_bytes=2**24)
    spool.open()
    yield spool
    spool.close()


async def stored(spool, sources):
    """Store an event for each source, and return them as a lane has them."""
    records = [
        stored_event.encode(make_event(n, source=source), "web")
        for n, source in enumerate(sources, 1)
    ]
    answered = asyncio.Event()
    spool.append(records, lambda *_: answered.set())
    await answered.wait()
    return [stored_event.delivery_of(data, n) for n, data in spool.read(10_000, 2**24)]


def numbers(deliveries):
    return [delivery.sequence for delivery in deliveries]


async def test_without_trouble_everything_passes(spool):
    deliveries = await stored(spool, ["/a"] * 5)
    deferred = Deferred(spool, Dispatching(), None)
    assert deferred.sift(deliveries) is deliveries
    assert deferred.due(deliveries) == []


async def test_a_stuck_key_is_put_off_and_comes_in_order_when_its_turn_is_there(spool):
    deliveries = await stored(spool, ["/a", "/b"] * 100)
    dispatching = Dispatching()
    dispatching.stuck = {"/a"}
    dispatching.inside = {"/a": FETCH}
    deferred = Deferred(spool, dispatching, None)
    assert {event.events[0].source for event in deferred.sift(deliveries)} == {"/b"}
    dispatching.stuck = set()  # behind what was put off, it waits all the same
    inside = [stored_event.delivery_of(stored_event.encode(make_event(0, source="/a"), ""), 0)]
    assert deferred.due(inside * (FETCH // 2)) == []
    first = deferred.due(inside)
    assert numbers(first) == list(range(1, 2 * FETCH, 2))
    rest, ending = [], inside * (FETCH // 2 - 1) + first
    while found := deferred.due(ending):
        rest += found
        ending = found
    assert numbers(first + rest) == list(range(1, 200, 2))
    assert [event.events[0].id for event in rest[:2]] == [str(2 * FETCH + 1), str(2 * FETCH + 3)]
    assert deferred.sift(deliveries[:1]) == deliveries[:1]


async def test_what_is_done_meanwhile_does_not_come(spool):
    deliveries = await stored(spool, ["/a"] * 4)
    dispatching = Dispatching()
    dispatching.stuck = {"/a"}
    deferred = Deferred(spool, dispatching, None)
    deferred.sift(deliveries)
    spool.done([2, 3])
    assert numbers(deferred.due(deliveries[:1])) == [1, 4]


async def test_at_the_end_nothing_comes(spool):
    deliveries = await stored(spool, ["/a"] * 4)
    dispatching = Dispatching()
    dispatching.stuck = {"/a"}
    deferred = Deferred(spool, dispatching, None)
    deferred.sift(deliveries)
    deferred.close()
    assert deferred.due(deliveries) == []
    assert spool.pending == 4
