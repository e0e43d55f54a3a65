"""Routes, fan-out, windows and the one answer to each message."""

import asyncio

import pytest

from gateway.delivery import Failure, Outcome, Reason
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.retry import RetryPolicy
from gateway.router import Route
from gateway.target import Target
from tests.helpers import Answers, ScriptedSink, make_event

NO_RETRY = RetryPolicy(retry=0)
DOWN = Failure(0, Outcome.RELEASED, Reason.SINK_DOWN)
REFUSED = Failure(0, Outcome.REJECTED, Reason.SINK_REFUSED, status=400)


class Setup:
    def __init__(self, routes, **sinks):
        self.metrics = Metrics()
        targets = {name: Target(name=name, sink=sink, address=name) for name, sink in sinks.items()}
        self.pipeline = Pipeline(routes, targets, self.metrics)
        self.pipeline.start()
        self.intake = self.pipeline.intake("field")
        self.answers = Answers()


@pytest.fixture
async def setup():
    made = []

    def make(routes, **sinks):
        made.append(Setup(routes, **sinks))
        return made[-1]

    yield make
    for item in made:
        await item.pipeline.close()


async def test_an_event_reaches_the_sink_and_its_message_is_accepted(setup):
    sink = ScriptedSink()
    s = setup([Route(name="r", sinks=["a"])], a=sink)
    await s.intake.submit([s.answers.delivery(make_event())])
    await s.answers.count(1)
    assert s.answers.by_id["1"].outcome is Outcome.ACCEPTED
    assert sink.taken == [make_event()]
    assert s.metrics.sources["field"].received == 1
    assert s.metrics.sources["field"].settled == [1, 0, 0]
    assert s.metrics.routes["r"].inflight == 0


async def test_an_event_that_no_route_wants_is_accepted_and_counted_as_filtered(setup):
    sink = ScriptedSink()
    s = setup([Route(name="r", sinks=["a"], matches=lambda event: event.id == "2")], a=sink)
    await s.intake.submit([s.answers.delivery(make_event(1)), s.answers.delivery(make_event(2))])
    await s.answers.count(2)
    assert s.answers.by_id["1"].reason is Reason.FILTERED
    assert [event.id for event in sink.taken] == ["2"]
    assert s.metrics.sources["field"].filtered == 1


async def test_an_event_takes_every_route_that_wants_it(setup):
    a, b = ScriptedSink(), ScriptedSink()
    s = setup(
        [
            Route(name="r1", sinks=["a"]),
            Route(name="r2", sinks=["b"], matches=lambda e: e.id == "1"),
        ],
        a=a,
        b=b,
    )
    await s.intake.submit([s.answers.delivery(make_event(1)), s.answers.delivery(make_event(2))])
    await s.answers.count(2)
    assert [event.id for event in a.taken] == ["1", "2"]
    assert [event.id for event in b.taken] == ["1"]


@pytest.mark.parametrize(
    ("first", "second", "worst"),
    [
        (None, None, Outcome.ACCEPTED),
        (None, REFUSED, Outcome.REJECTED),
        (DOWN, None, Outcome.RELEASED),
        (REFUSED, DOWN, Outcome.RELEASED),
        (DOWN, REFUSED, Outcome.RELEASED),
    ],
)
async def test_the_worst_outcome_of_all_sinks_is_the_answer(setup, first, second, worst):
    s = setup(
        [Route(name="r", sinks=["a", "b"], policy=NO_RETRY)],
        a=ScriptedSink(lambda _: first),
        b=ScriptedSink(lambda _: second),
    )
    await s.intake.submit([s.answers.delivery(make_event())])
    await s.answers.count(1)
    assert s.answers.by_id["1"].outcome is worst
    assert s.metrics.routes["r"].inflight == 0


async def test_no_answer_leaves_before_the_slowest_sink_has_the_event(setup):
    slow = ScriptedSink()
    slow.gate.clear()
    fast = ScriptedSink()
    s = setup([Route(name="r", sinks=["fast", "slow"])], fast=fast, slow=slow)
    await s.intake.submit([s.answers.delivery(make_event())])
    await slow.called.wait()
    await fast.called.wait()
    assert not s.answers.by_id
    slow.gate.set()
    await s.answers.count(1)


async def test_a_batch_with_one_released_event_is_released_as_a_whole(setup):
    s = setup(
        [Route(name="r", sinks=["a"], policy=NO_RETRY)],
        a=ScriptedSink(lambda event: DOWN if event.id == "2" else None),
    )
    batch = [make_event(n, source=f"/{n}") for n in (1, 2, 3)]
    await s.intake.submit([s.answers.delivery(*batch)])
    await s.answers.count(3)
    assert {answer.outcome for answer in s.answers.by_id.values()} == {Outcome.RELEASED}
    assert s.metrics.sources["field"].settled == [0, 0, 3]


async def test_an_empty_batch_is_accepted(setup):
    s = setup([Route(name="r", sinks=["a"])], a=ScriptedSink())
    settled = []
    delivery = s.answers.delivery()
    delivery._on_settled = settled.append
    await s.intake.submit([delivery])
    assert settled[0].outcome is Outcome.ACCEPTED
    assert settled[0].reason is Reason.NONE


async def test_try_submit_takes_all_or_none(setup):
    sink = ScriptedSink()
    sink.gate.clear()
    s = setup([Route(name="r", sinks=["a"], inflight=3)], a=sink)
    assert s.intake.try_submit([s.answers.delivery(make_event(n)) for n in (1, 2)])
    assert not s.intake.try_submit([s.answers.delivery(make_event(n)) for n in (3, 4)])
    assert s.intake.try_submit([s.answers.delivery(make_event(5))])
    sink.gate.set()
    await s.answers.count(3)
    assert sorted(event.id for event in sink.taken) == ["1", "2", "5"]


async def test_submit_waits_for_room_and_keeps_the_order(setup):
    sink = ScriptedSink()
    sink.gate.clear()
    s = setup([Route(name="r", sinks=["a"], inflight=4)], a=sink)
    submitting = asyncio.ensure_future(
        s.intake.submit([s.answers.delivery(make_event(n)) for n in range(20)])
    )
    await sink.called.wait()
    assert not submitting.done()
    assert s.pipeline.inflight == 4
    sink.gate.set()
    await submitting
    await s.answers.count(20)
    assert [event.id for event in sink.taken] == [str(n) for n in range(20)]


async def test_a_batch_larger_than_the_window_goes_in_alone(setup):
    s = setup([Route(name="r", sinks=["a"], inflight=2)], a=ScriptedSink())
    async with asyncio.timeout(5):
        await s.intake.submit([s.answers.delivery(*[make_event(n) for n in range(5)])])
        await s.answers.count(5)


async def test_a_full_route_does_not_stop_another_route(setup):
    stuck, free = ScriptedSink(), ScriptedSink()
    stuck.gate.clear()
    s = setup(
        [
            Route(name="stuck", sinks=["stuck"], inflight=1, matches=lambda e: e.source == "/s"),
            Route(name="free", sinks=["free"], matches=lambda e: e.source == "/f"),
        ],
        stuck=stuck,
        free=free,
    )
    assert s.intake.try_submit([s.answers.delivery(make_event(1, source="/s"))])
    assert not s.intake.try_submit([s.answers.delivery(make_event(2, source="/s"))])
    assert s.intake.try_submit([s.answers.delivery(make_event(3, source="/f"))])
    await s.answers.count(1)
    assert list(s.answers.by_id) == ["3"]


async def test_a_dead_letter_sink_makes_a_refused_event_accepted(setup):
    dead = ScriptedSink()
    s = setup(
        [Route(name="r", sinks=["a"], dead_letter_sink="dead", policy=NO_RETRY)],
        a=ScriptedSink(lambda _: REFUSED),
        dead=dead,
    )
    await s.intake.submit([s.answers.delivery(make_event())])
    await s.answers.count(1)
    assert s.answers.by_id["1"].outcome is Outcome.ACCEPTED
    assert dead.taken[0].extensions["knativeerrordest"] == "a"
    assert s.metrics.routes["r"].dead_lettered == 1


async def test_drain_refuses_new_events_and_lets_the_others_end(setup):
    sink = ScriptedSink()
    sink.gate.clear()
    s = setup([Route(name="r", sinks=["a"])], a=sink)
    await s.intake.submit([s.answers.delivery(make_event(1))])
    draining = asyncio.ensure_future(s.pipeline.drain(10))
    await sink.called.wait()
    assert not s.intake.try_submit([s.answers.delivery(make_event(2))])
    await s.intake.submit([s.answers.delivery(make_event(3))])
    assert s.answers.by_id["3"].reason is Reason.DRAINING
    sink.gate.set()
    await draining
    assert s.answers.by_id["1"].outcome is Outcome.ACCEPTED


async def test_what_does_not_end_in_time_is_released_by_close(setup):
    sink = ScriptedSink()
    sink.gate.clear()
    s = setup([Route(name="r", sinks=["a"])], a=sink)
    await s.intake.submit([s.answers.delivery(make_event(1))])
    await s.pipeline.drain(0.01)
    await s.pipeline.close()
    assert s.answers.by_id["1"].outcome is Outcome.RELEASED


async def test_drain_wakes_a_source_that_waits_for_room(setup):
    sink = ScriptedSink()
    sink.gate.clear()
    s = setup([Route(name="r", sinks=["a"], inflight=1)], a=sink)
    submitting = asyncio.ensure_future(
        s.intake.submit([s.answers.delivery(make_event(n)) for n in (1, 2)])
    )
    await sink.called.wait()
    await s.pipeline.drain(0.01)
    await s.pipeline.close()
    async with asyncio.timeout(5):
        await submitting
    assert s.answers.by_id["2"].reason is Reason.DRAINING


async def test_a_source_that_waits_for_room_is_refused_as_soon_as_a_drain_begins(setup):
    sink = ScriptedSink()
    sink.gate.clear()
    s = setup([Route(name="r", sinks=["a"], inflight=1)], a=sink)
    submitting = asyncio.ensure_future(
        s.intake.submit([s.answers.delivery(make_event(n)) for n in (1, 2)])
    )
    await sink.called.wait()
    draining = asyncio.ensure_future(s.pipeline.drain(60))
    async with asyncio.timeout(5):
        await submitting
    assert s.answers.by_id["2"].reason is Reason.DRAINING
    assert not draining.done()
    sink.gate.set()
    await draining
    assert s.answers.by_id["1"].outcome is Outcome.ACCEPTED


async def test_a_source_that_waits_for_room_is_refused_by_close_without_a_drain(setup):
    sink = ScriptedSink()
    sink.gate.clear()
    s = setup([Route(name="r", sinks=["a"], inflight=1)], a=sink)
    submitting = asyncio.ensure_future(
        s.intake.submit([s.answers.delivery(make_event(n)) for n in (1, 2, 3)])
    )
    await sink.called.wait()
    await s.pipeline.close()
    async with asyncio.timeout(5):
        await submitting
    assert {answer.reason for answer in s.answers.by_id.values()} == {Reason.DRAINING}
    assert len(s.answers.by_id) == 3


async def test_rejections_are_counted_by_reason_and_logged_once_per_interval(setup, caplog):
    s = setup([Route(name="r", sinks=["a"])], a=ScriptedSink())
    for _ in range(5):
        s.intake.rejected("invalid_event", "no id")
    s.intake.rejected("too_large", "100 bytes", 2)
    assert dict(s.metrics.sources["field"].rejected) == {"invalid_event": 5, "too_large": 2}
    assert [record.message for record in caplog.records] == [
        "source field rejected a message: invalid_event: no id",
        "source field rejected a message: too_large: 100 bytes",
    ]
