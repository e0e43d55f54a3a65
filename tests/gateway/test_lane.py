"""A lane delivers in lists, keeps order per key, retries and hands over dead letters."""

import asyncio
import base64

import pytest

from gateway.delivery import Failure, Outcome, Reason
from gateway.dispatcher import MAX_LIST, Target
from gateway.lane import Lane, Way
from gateway.metrics import RouteMetrics, SinkMetrics
from gateway.retry import RetryPolicy
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


async def test_events_that_wait_leave_as_one_list(lanes):
    sink, answers = ScriptedSink(), Answers()
    lanes(sink).put([answers.delivery(make_event(n)) for n in range(100)])
    await answers.count(100)
    assert [len(events) for events in sink.lists] == [100]
    assert {answer.outcome for answer in answers.by_id.values()} == {Outcome.ACCEPTED}


async def test_a_list_is_bounded(lanes):
    sink, answers = ScriptedSink(), Answers()
    lanes(sink).put([answers.delivery(make_event(n)) for n in range(MAX_LIST + 1)])
    await answers.count(MAX_LIST + 1)
    assert max(len(events) for events in sink.lists) == MAX_LIST


async def test_the_timeout_of_an_attempt_reaches_the_sink(lanes):
    sink, answers = ScriptedSink(), Answers()
    lanes(sink, timeout=2.5).put([answers.delivery(make_event())])
    await answers.count(1)
    assert sink.timeouts == [2.5]


async def test_a_key_under_way_holds_back_its_own_events_only(lanes):
    sink, answers = ScriptedSink(), Answers()
    lane = lanes(sink)
    sink.gate.clear()
    lane.put([answers.delivery(make_event(1, source="/a"))])
    await sink.called.wait()
    sink.called.clear()
    lane.put(
        [answers.delivery(make_event(2, source="/a")), answers.delivery(make_event(3, source="/b"))]
    )
    await sink.called.wait()
    assert [[event.id for event in events] for events in sink.lists] == [["1"], ["3"]]
    sink.gate.set()
    await answers.count(3)
    assert [event.id for event in sink.lists[2]] == ["2"]


async def test_a_failed_event_is_tried_again_before_later_events_of_its_key(lanes):
    failures = [DOWN, DOWN]
    sink = ScriptedSink(lambda event: failures.pop() if event.id == "1" and failures else None)
    answers = Answers()
    lane = lanes(sink)
    lane.put([answers.delivery(make_event(n)) for n in (1, 2, 3)])
    lane.put([answers.delivery(make_event(4, source="/other"))])
    await answers.count(4)
    assert [event.id for event in sink.taken if event.source != "/other"] == ["1", "2", "3"]
    assert sink.taken[0].id == "4"
    assert lane._dispatcher._metrics.retried == 2


async def test_a_retry_goes_before_what_arrived_behind_it(lanes):
    failures = [DOWN]
    sink = ScriptedSink(lambda event: failures.pop() if failures else None)
    answers = Answers()
    lane = lanes(sink)
    sink.gate.clear()
    lane.put([answers.delivery(make_event(1))])
    await sink.called.wait()
    lane.put([answers.delivery(make_event(2)), answers.delivery(make_event(3, source="/b"))])
    sink.called.clear()
    await sink.called.wait()  # 3 is under way, so 2 has been put behind 1
    sink.gate.set()
    await answers.count(3)
    assert [event.id for event in sink.taken if event.source != "/b"] == ["1", "2"]


@pytest.mark.parametrize("retry", [0, 1, 3])
async def test_retry_n_means_n_plus_one_attempts(lanes, retry):
    sink, answers = ScriptedSink(lambda _: DOWN), Answers()
    lanes(sink, RetryPolicy(retry=retry, delay=0)).put([answers.delivery(make_event())])
    await answers.count(1)
    assert len(sink.lists) == retry + 1
    assert answers.by_id["1"].outcome is Outcome.RELEASED
    assert answers.by_id["1"].reason is Reason.SINK_DOWN


async def test_an_event_that_was_held_back_has_not_used_up_an_attempt(lanes):
    failures = [DOWN, DOWN, DOWN]
    sink = ScriptedSink(lambda event: failures.pop() if event.id == "1" and failures else None)
    answers = Answers()
    lanes(sink, RetryPolicy(retry=3, delay=0)).put(
        [answers.delivery(make_event(n)) for n in (1, 2)]
    )
    await answers.count(2)
    assert {answer.outcome for answer in answers.by_id.values()} == {Outcome.ACCEPTED}


async def test_a_refused_event_is_not_tried_again_and_its_neighbours_go_on(lanes):
    sink = ScriptedSink(lambda event: REFUSED if event.id == "2" else None)
    answers = Answers()
    lanes(sink).put([answers.delivery(make_event(n)) for n in (1, 2, 3)])
    await answers.count(3)
    assert [answers.by_id[n].outcome for n in "123"] == [
        Outcome.ACCEPTED,
        Outcome.REJECTED,
        Outcome.ACCEPTED,
    ]
    assert len(sink.lists) == 1


async def test_a_sink_that_raises_releases_its_list_and_loses_nothing(lanes, caplog):
    class Broken(ScriptedSink):
        async def send(self, events, timeout=None):
            self.script = lambda _: None
            if not self.lists:
                self.lists.append(list(events))
                raise RuntimeError("a bug")
            return await super().send(events, timeout)

    sink, answers = Broken(), Answers()
    lanes(sink).put([answers.delivery(make_event(n)) for n in (1, 2)])
    await answers.count(2)
    assert [event.id for event in sink.taken] == ["1", "2"]
    assert "raised instead of reporting" in caplog.text


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


async def test_hurry_releases_retries_that_would_come_too_late(lanes):
    sink, answers = ScriptedSink(lambda event: DOWN if event.source == "/slow" else None), Answers()
    lane = lanes(sink, RetryPolicy(retry=5, delay=1000, cap=1e9))
    lane.put([answers.delivery(make_event(1, source="/slow")), answers.delivery(make_event(2))])
    await answers.count(1)
    lane.put([answers.delivery(make_event(3, source="/slow"))])
    lane.put([answers.delivery(make_event(4))])
    await answers.count(2)
    lane.hurry(deadline=0)
    assert {answers.by_id[n].reason for n in "13"} == {Reason.DRAINING}


async def test_a_retry_that_would_come_too_late_is_released_as_soon_as_it_fails(lanes):
    sink, answers = ScriptedSink(lambda _: DOWN), Answers()
    sink.gate.clear()
    lane = lanes(sink, RetryPolicy(retry=5, delay=1000, cap=1e9))
    lane.put([answers.delivery(make_event(1))])
    await sink.called.wait()
    lane.put([answers.delivery(make_event(2))])
    lane.hurry(deadline=asyncio.get_running_loop().time() + 10)
    sink.gate.set()
    await answers.count(2, seconds=5)
    assert {answer.reason for answer in answers.by_id.values()} == {Reason.DRAINING}
    assert len(sink.lists) == 1


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


async def test_a_sink_that_waited_for_something_cancelled_is_tried_again(lanes):
    class Broken(ScriptedSink):
        async def send(self, events, timeout=None):
            if not self.called.is_set():
                self.called.set()
                raise asyncio.CancelledError
            return await super().send(events, timeout)

    sink, answers = Broken(), Answers()
    lane = lanes(sink)
    lane.put([answers.delivery(make_event(n)) for n in (1, 2)])
    await answers.count(2, seconds=5)
    assert [event.id for event in sink.taken] == ["1", "2"]


async def test_an_event_that_is_held_back_behind_nothing_has_used_up_an_attempt(lanes):
    class Holding(ScriptedSink):
        async def send(self, events, timeout=None):
            self.lists.append(list(events))
            return [Failure(n, Outcome.RELEASED, Reason.HELD) for n in range(len(events))]

    sink, answers = Holding(), Answers()
    lane = lanes(sink, RetryPolicy(retry=2, delay=0))
    lane.put([answers.delivery(make_event(1))])
    await answers.count(1)
    assert len(sink.lists) == 3
    assert answers.by_id["1"].outcome is Outcome.RELEASED


async def test_an_event_that_was_held_back_counts_as_no_failed_attempt(lanes):
    failures = [DOWN]
    sink, answers = ScriptedSink(lambda _: failures.pop() if failures else None), Answers()
    lane = lanes(sink)
    lane.put([answers.delivery(make_event(n)) for n in (1, 2)])
    await answers.count(2)
    assert lane._dispatcher._metrics.failed == {"sink_down": 1}


async def test_a_sink_that_goes_down_is_logged_once_and_once_when_it_is_back(lanes, caplog):
    caplog.set_level("INFO")
    failures = [DOWN] * 3
    sink = ScriptedSink(lambda _: failures.pop() if failures else None)
    answers = Answers()
    lanes(sink, RetryPolicy(retry=5, delay=0)).put([answers.delivery(make_event())])
    await answers.count(1)
    lines = [record.message for record in caplog.records]
    assert lines == ["sink sink takes no events: sink_down ", "sink sink takes events again"]


async def test_a_sink_that_goes_up_and_down_is_not_logged_each_time(lanes, caplog):
    caplog.set_level("INFO")
    sink, answers = ScriptedSink(lambda event: DOWN if int(event.id) % 2 else None), Answers()
    lane = lanes(sink, RetryPolicy(retry=0))
    for number in range(20):
        lane.put([answers.delivery(make_event(number))])
        await answers.count(number + 1)
    assert len(caplog.records) == 2


async def test_what_one_list_does_not_hold_is_sent_at_the_same_time_by_another_worker(lanes):
    sink, answers = ScriptedSink(), Answers()
    sink.gate.clear()
    lane = lanes(sink)
    await asyncio.sleep(0)  # the workers have found nothing to do
    lane.put([answers.delivery(make_event(n, source=f"/{n}")) for n in range(MAX_LIST + 1)])
    await sink.called.wait()
    await asyncio.sleep(0)
    assert [len(events) for events in sink.lists] == [MAX_LIST, 1]
    sink.gate.set()
    await answers.count(MAX_LIST + 1)


class ResumingSink(ScriptedSink):
    """A sink that learns by itself that it can take events again."""

    def __init__(self, script):
        super().__init__(script)
        self.callbacks = []

    def on_resumed(self, callback):
        self.callbacks.append(callback)

    def resume(self):
        self.script = lambda _: None
        for callback in self.callbacks:
            callback()


@pytest.mark.parametrize("while_it_answers", [False, True])
async def test_a_sink_that_can_take_events_again_ends_the_wait_for_a_retry(lanes, while_it_answers):
    later = Failure(0, Outcome.RELEASED, Reason.SINK_DOWN, retry_after=500.0)
    sink, answers = ResumingSink(lambda _: later), Answers()
    lane = lanes(sink)
    if while_it_answers:
        sink.gate.clear()
    lane.put([answers.delivery(make_event(n)) for n in (1, 2)])
    lane.put([answers.delivery(make_event(3, source="/other"))])
    await sink.called.wait()
    if while_it_answers:
        sink.gate.set()
        sink.script = lambda _: sink.resume() or later  # known, and the answer not yet read
    else:
        async with asyncio.timeout(10):
            while len(lane._dispatcher._queue._parked) < 2:
                await asyncio.sleep(0)
        sink.resume()
    async with asyncio.timeout(10):
        await answers.count(3)
    assert {answer.outcome for answer in answers.by_id.values()} == {Outcome.ACCEPTED}
    assert [event.id for event in sink.taken if event.source != "/other"] == ["1", "2"]


async def test_a_closed_lane_does_not_care_that_its_sink_can_take_events_again(lanes):
    later = Failure(0, Outcome.RELEASED, Reason.SINK_DOWN, retry_after=500.0)
    sink, answers = ResumingSink(lambda _: later), Answers()
    lane = lanes(sink)
    lane.put([answers.delivery(make_event(1))])
    async with asyncio.timeout(10):
        while not lane._dispatcher._queue._parked:
            await asyncio.sleep(0)
    await lane.close()
    sink.resume()
    assert answers.by_id["1"].reason is Reason.DRAINING
    assert sink.taken == []
