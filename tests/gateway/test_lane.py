"""A lane delivers in lists, keeps order per key, retries and hands over dead letters."""

import asyncio
import base64

import pytest

from gateway.delivery import Failure, Outcome, Reason
from gateway.lane import Lane, Way
from gateway.metrics import RouteMetrics, SinkMetrics
from gateway.retry import RetryPolicy
from gateway.target import Target
from tests.helpers import Answers, ScriptedSink, make_event

DOWN = Failure(0, Outcome.RELEASED, Reason.SINK_DOWN, status=503)
REFUSED = Failure(0, Outcome.REJECTED, Reason.SINK_REFUSED, status=400, body=b"no")
FAST = RetryPolicy(retry=3, delay=0.001)


@pytest.fixture
async def lanes():
    started = []

    def make(sink, policy=FAST, dead_letters=None, timeout=None):
        lane = Lane(
            Target(name="sink", sink=sink, address="http://sink/"),
            Way(route="route", policy=policy, timeout=timeout, dead_letters=dead_letters),
            metrics=(SinkMetrics(), RouteMetrics()),
            on_done=lambda _: None,
        )
        lane.start()
        started.append(lane)
        return lane

    yield make
    for lane in started:
        await lane.close()


async def test_a_dead_letter_carries_knatives_error_extensions_and_is_accepted(lanes):
    sink, dead, answers = ScriptedSink(lambda _: REFUSED), ScriptedSink(), Answers()
    old = make_event(1, extensions={"knativeerrordata": "b2xk", "mine": 7})
    lanes(sink, dead_letters=lanes(dead)).put([answers.delivery(old)])
    await answers.count(1)
    assert answers.by_id["1"].outcome is Outcome.ACCEPTED
    assert answers.by_id["1"].reason is Reason.DEAD_LETTERED
    assert dead.taken[0].extensions == {
        "mine": 7,
        "knativeerrordest": "http://sink/",
        "knativeerrorcode": 400,
        "knativeerrordata": base64.b64encode(b"no").decode(),
    }


async def test_a_dead_letter_without_an_answer_says_500_and_forgets_old_data(lanes):
    silent = Failure(0, Outcome.RELEASED, Reason.SINK_DOWN)
    sink, dead, answers = ScriptedSink(lambda _: silent), ScriptedSink(), Answers()
    event = make_event(1, extensions={"knativeerrordata": "b2xk"})
    lane = lanes(sink, RetryPolicy(retry=0), dead_letters=lanes(dead))
    lane.put([answers.delivery(event)])
    await answers.count(1)
    assert dead.taken[0].extensions["knativeerrorcode"] == 500
    assert "knativeerrordata" not in dead.taken[0].extensions


async def test_error_data_is_cut_so_that_it_stays_base64_of_1024_characters(lanes):
    long = Failure(0, Outcome.REJECTED, Reason.SINK_REFUSED, status=400, body=b"x" * 5000)
    sink, dead, answers = ScriptedSink(lambda _: long), ScriptedSink(), Answers()
    lanes(sink, dead_letters=lanes(dead)).put([answers.delivery(make_event())])
    await answers.count(1)
    data = dead.taken[0].extensions["knativeerrordata"]
    assert len(data) == 1024
    assert base64.b64decode(data, validate=True) == b"x" * 768


@pytest.mark.parametrize(
    ("first", "second", "worst"),
    [
        (REFUSED, REFUSED, Outcome.REJECTED),
        (REFUSED, DOWN, Outcome.RELEASED),
        (DOWN, REFUSED, Outcome.RELEASED),
    ],
)
async def test_when_the_dead_letter_sink_fails_too_the_worse_failure_is_the_answer(
    lanes, first, second, worst
):
    sink, dead, answers = ScriptedSink(lambda _: first), ScriptedSink(lambda _: second), Answers()
    policy = RetryPolicy(retry=2, delay=0)
    lanes(sink, policy, dead_letters=lanes(dead, policy)).put([answers.delivery(make_event())])
    await answers.count(1)
    assert len(dead.lists) == (3 if second is DOWN else 1)
    assert answers.by_id["1"].outcome is worst


async def test_a_refused_event_is_not_refused_for_good_when_a_shutdown_stops_its_dead_letter(lanes):
    sink, dead, answers = ScriptedSink(lambda _: REFUSED), ScriptedSink(), Answers()
    dead.gate.clear()
    dead_letters = lanes(dead)
    lanes(sink, dead_letters=dead_letters).put([answers.delivery(make_event())])
    await dead.called.wait()
    await dead_letters.close()
    assert answers.by_id["1"].outcome is Outcome.RELEASED
    assert answers.by_id["1"].reason is Reason.DRAINING


async def test_close_releases_what_is_under_way_waiting_and_behind_a_key(lanes):
    sink, answers = ScriptedSink(), Answers()
    sink.gate.clear()
    lane = lanes(sink, RetryPolicy(retry=5, delay=1000))
    lane.put([answers.delivery(make_event(1))])
    await sink.called.wait()
    lane.put([answers.delivery(make_event(2)), answers.delivery(make_event(3, source="/b"))])
    await lane.close()
    assert {answer.reason for answer in answers.by_id.values()} == {Reason.DRAINING}
    assert len(answers.by_id) == 3


@pytest.mark.parametrize("error", [None, RuntimeError])
async def test_close_ends_though_the_sink_swallows_its_cancellation(lanes, error):
    class Stubborn(ScriptedSink):
        async def send(self, events, timeout=None):
            try:
                return await super().send(events, timeout)
            except asyncio.CancelledError:
                if error is not None:
                    raise error from None
                return []

    sink, answers = Stubborn(), Answers()
    sink.gate.clear()
    lane = lanes(sink, RetryPolicy(retry=5, delay=1000))
    lane.put([answers.delivery(make_event())])
    await sink.called.wait()
    async with asyncio.timeout(5):
        await lane.close()
    expected = Outcome.ACCEPTED if error is None else Outcome.RELEASED
    assert answers.by_id["1"].outcome is expected
