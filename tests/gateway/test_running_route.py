"""A route's window, and what goes into its lanes."""

import asyncio

import pytest

from gateway.delivery import Failure, Outcome, Reason
from gateway.metrics import Metrics
from gateway.retry import RetryPolicy
from gateway.router import Route
from gateway.running_route import RunningRoute
from gateway.state import State
from gateway.target import Target
from tests.helpers import Answers, ScriptedSink, make_event

DOWN = Failure(0, Outcome.RELEASED, Reason.SINK_DOWN, status=503)


class Rig:
    def __init__(self, folder):
        self.folder = folder
        self.answers = Answers()
        self.route = self.state = None

    def open(self, sinks, **options):
        options = {"policy": RetryPolicy(retry=0), **options}
        route = Route(name="way", sinks=list(sinks), **options)
        if route.spool:
            self.state = State(self.folder, 2**26, [route])
            self.state.open()
        targets = {name: Target(name=name, sink=sink, address="") for name, sink in sinks.items()}
        self.route = RunningRoute(route, targets, Metrics(), self.state)
        self.route.start()
        return self.route

    def put(self, *numbers):
        self.route.put([self.answers.delivery(make_event(number)) for number in numbers])

    async def close(self):
        for lane in self.route.all_lanes:
            await lane.close()
        if self.state is not None:
            self.state.close()


@pytest.fixture
async def rig(tmp_path):
    rig = Rig(tmp_path)
    yield rig
    await rig.close()


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_the_window_counts_events_and_not_their_copies_for_each_sink(rig):
    sinks = {"a": ScriptedSink(), "b": ScriptedSink()}
    sinks["b"].gate.clear()
    route = rig.open(sinks)
    rig.put(1, 2)
    await until(lambda: len(sinks["a"].taken) == 2)
    assert route.used == 2
    sinks["b"].gate.set()
    await rig.answers.count(2)
    assert route.used == 0


@pytest.mark.parametrize("names", ["a", "ab"])
async def test_what_is_stored_leaves_the_window_though_a_sink_is_down(rig, names):
    sinks = {name: ScriptedSink() for name in names}
    sinks["a"].script = lambda _: DOWN
    route = rig.open(
        sinks, spool=True, keeps_letters=True, policy=RetryPolicy(retry=10, delay=60), inflight=4
    )
    for first in range(0, 40, 4):
        await until(lambda: route.fits(4))
        rig.put(*range(first, first + 4))
    await rig.answers.count(40)
    await until(lambda: route.used == 0)
    assert {answer.outcome for answer in rig.answers.by_id.values()} == {Outcome.ACCEPTED}
    assert rig.state.spool_of("way", "a").pending == 40


async def test_what_is_larger_than_the_window_fits_when_it_is_alone(rig):
    sink = ScriptedSink()
    sink.gate.clear()
    route = rig.open({"a": sink}, inflight=3)
    assert route.fits(100)
    assert not route.fits(100, queued=1)
    rig.put(1)
    assert not route.fits(3)
    assert route.fits(2)
    assert not route.fits(2, queued=1)


async def test_who_waits_for_room_wakes_to_a_quarter_of_the_window(rig):
    sink = ScriptedSink()
    sink.gate.clear()
    route = rig.open({"a": sink}, inflight=8)
    rig.put(*range(8))
    waiting = asyncio.ensure_future(route.room())
    await asyncio.sleep(0)
    route.release(1)
    await asyncio.sleep(0)
    assert not waiting.done()
    route.release(1)
    await asyncio.sleep(0)
    assert waiting.done()
    route.metrics.inflight = 8
    sink.gate.set()
    await rig.answers.count(8)


async def test_nobody_waits_for_room_in_an_empty_window(rig):
    route = rig.open({"a": ScriptedSink()})
    async with asyncio.timeout(10):
        await route.room()


async def test_a_list_of_duplicates_costs_no_disk(rig):
    route = rig.open(
        {"a": ScriptedSink()}, spool=True, stored=True, keeps_letters=True, dedup_window=600.0
    )
    rig.put(1)
    await rig.answers.count(1)
    await until(lambda: rig.state.spool_of("way", "a").pending == 0)
    again = Answers()
    route.put([again.delivery(make_event(1))])
    assert again.by_id["1"].reason is Reason.DUPLICATE
    assert not route.lanes[0].spooling.appending
