"""Duplicates at the door of a route, from the intake to the sink and back."""

import asyncio

import pytest

from gateway import stored_event
from gateway.delivery import Failure, Outcome, Reason
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.retry import RetryPolicy
from gateway.router import Route
from gateway.spool import Spool
from gateway.state import State
from gateway.target import Target
from tests.helpers import Answers, ScriptedSink, make_event

DOWN = Failure(0, Outcome.RELEASED, Reason.SINK_DOWN, status=503)
REFUSED = Failure(0, Outcome.REJECTED, Reason.SINK_REFUSED, status=400)


class Rig:
    def __init__(self, folder):
        self.folder = folder
        self.metrics = Metrics()
        self.pipeline = self.state = None

    async def open(self, sinks, **route):
        routes = [
            Route(
                name="way",
                sinks=list(sinks),
                dedup_window=600.0,
                policy=RetryPolicy(retry=0),
                **route,
            )
        ]
        if route.get("spool") or route.get("keeps_letters"):
            self.state = State(self.folder, 2**26, routes)
            self.state.open()
        targets = {
            name: Target(name=name, sink=sink, address="http://sink/")
            for name, sink in sinks.items()
        }
        self.pipeline = Pipeline(routes, targets, self.metrics, self.state)
        self.pipeline.start()
        return self.pipeline.intake("web")

    async def close(self):
        if self.pipeline is not None:
            await self.pipeline.close()
        if self.state is not None:
            self.state.close()
        self.pipeline = self.state = None

    @property
    def duplicates(self):
        return self.metrics.routes["way"].duplicates


@pytest.fixture
async def rig(tmp_path):
    rig = Rig(tmp_path)
    yield rig
    await rig.close()


class Copies:
    """Settlements of copies of one event, which `Answers` would call settled twice."""

    def __init__(self):
        self.settlements = []
        self._changed = asyncio.Event()

    def delivery(self, event):
        answers = Answers()
        delivery = answers.delivery(event)
        own = delivery._on_settled

        def on_settled(settlement):
            own(settlement)
            self.settlements.append(settlement)
            self._changed.set()

        delivery._on_settled = on_settled
        return delivery

    async def count(self, number):
        async with asyncio.timeout(10):
            while len(self.settlements) < number:
                self._changed.clear()
                await self._changed.wait()

    @property
    def plain(self):
        return [(one.outcome, one.reason) for one in self.settlements]


async def test_a_duplicate_of_what_is_safe_is_acknowledged_and_goes_no_further(rig):
    sink, copies = ScriptedSink(), Copies()
    intake = await rig.open({"out": sink})
    await intake.submit([copies.delivery(make_event(1))])
    await copies.count(1)
    await intake.submit([copies.delivery(make_event(1)), copies.delivery(make_event(2))])
    await copies.count(3)
    assert [event.id for event in sink.taken] == ["1", "2"]
    assert (Outcome.ACCEPTED, Reason.DUPLICATE) in copies.plain
    assert rig.duplicates == 1
    assert rig.metrics.routes["way"].inflight == 0


async def test_a_duplicate_is_acknowledged_only_when_its_original_is(rig):
    sink, copies = ScriptedSink(), Copies()
    sink.gate.clear()
    intake = await rig.open({"out": sink})
    await intake.submit([copies.delivery(make_event(1))])
    await sink.called.wait()
    await intake.submit([copies.delivery(make_event(1))])
    assert copies.settlements == []
    sink.gate.set()
    await copies.count(2)
    assert [event.id for event in sink.taken] == ["1"]
    assert {outcome for outcome, _ in copies.plain} == {Outcome.ACCEPTED}


@pytest.mark.parametrize("failure", [DOWN, REFUSED])
async def test_what_was_not_taken_is_no_original_of_anything(rig, failure):
    failures = [failure]
    sink, copies = ScriptedSink(lambda _: failures.pop() if failures else None), Copies()
    sink.gate.clear()
    intake = await rig.open({"out": sink})
    await intake.submit([copies.delivery(make_event(1)), copies.delivery(make_event(1))])
    sink.gate.set()
    await copies.count(2)
    assert copies.plain == [(failure.outcome, failure.reason)] * 2
    await intake.submit([copies.delivery(make_event(1))])
    await copies.count(3)
    assert copies.plain[2] == (Outcome.ACCEPTED, Reason.NONE)
    assert [event.id for event in sink.taken] == ["1"]


async def test_two_sinks_of_a_route_each_get_an_event_once(rig):
    sinks, copies = {"a": ScriptedSink(), "b": ScriptedSink()}, Copies()
    intake = await rig.open(sinks)
    await intake.submit([copies.delivery(make_event(1)) for _ in range(3)])
    await copies.count(3)
    assert [len(sink.taken) for sink in sinks.values()] == [1, 1]


async def test_the_window_outlives_the_process_with_what_was_stored(rig):
    sink, copies = ScriptedSink(), Copies()
    options = {"spool": True, "stored": True, "keeps_letters": True}
    intake = await rig.open({"out": sink}, **options)
    await intake.submit([copies.delivery(make_event(n)) for n in range(5)])
    await copies.count(5)
    async with asyncio.timeout(10):
        while len(sink.taken) < 5:
            await asyncio.sleep(0)
    await rig.close()
    again, copies = ScriptedSink(), Copies()
    intake = await rig.open({"out": again}, **options)
    await intake.submit([copies.delivery(make_event(n)) for n in range(6)])
    await copies.count(6)
    async with asyncio.timeout(10):
        while not again.taken:
            await asyncio.sleep(0)
    assert [event.id for event in again.taken] == ["5"]
    assert rig.duplicates == 5


async def test_what_one_of_two_lanes_had_not_stored_is_new_to_the_next_life(rig):
    options = {"spool": True, "stored": True, "keeps_letters": True}
    sinks = {"a": ScriptedSink(), "b": ScriptedSink()}
    await rig.open(sinks, **options)
    await rig.close()
    spool = Spool(rig.folder / "spool/way/a", max_bytes=2**26)
    spool.open()
    stored = asyncio.Event()
    spool.append([stored_event.encode(make_event(1), "web")], lambda *_: stored.set())
    await stored.wait()
    spool.close()  # the other lane's was cut off
    copies = Copies()
    intake = await rig.open(sinks, **options)
    await intake.submit([copies.delivery(make_event(1))])
    await copies.count(1)
    async with asyncio.timeout(10):
        while not sinks["b"].taken:
            await asyncio.sleep(0)
    assert rig.duplicates == 0


async def test_a_replayed_dead_letter_is_no_duplicate(rig):
    failures = [REFUSED]
    sink, copies = ScriptedSink(lambda _: failures.pop() if failures else None), Copies()
    intake = await rig.open({"out": sink}, keeps_letters=True)
    await intake.submit([copies.delivery(make_event(1))])
    await copies.count(1)
    assert copies.plain == [(Outcome.ACCEPTED, Reason.DEAD_LETTERED)]
    await rig.pipeline.replay_intake("way").submit([copies.delivery(make_event(1))])
    await copies.count(2)
    assert [event.id for event in sink.taken] == ["1"]


async def test_a_replayed_dead_letter_that_is_refused_again_makes_no_other_letter(rig, caplog):
    sink, copies = ScriptedSink(lambda _: REFUSED), Copies()
    intake = await rig.open({"out": sink}, keeps_letters=True)
    await intake.submit([copies.delivery(make_event(1))])
    await copies.count(1)
    (line,) = [record.message for record in caplog.records if "is a dead letter" in record.message]
    assert line == (
        "route way: event 1 of /devices/dev1 is a dead letter, after 1 attempt at sink out: "
        "sink_refused"
    )
    await rig.pipeline.replay_intake("way").submit([copies.delivery(make_event(1))])
    await copies.count(2)
    assert copies.plain[1] == (Outcome.REJECTED, Reason.SINK_REFUSED)
    assert rig.state.letters.stored == {"way": 1}
