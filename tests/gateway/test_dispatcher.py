"""A dispatcher sends in lists, keeps order per key, and retries."""

import asyncio

import msgspec
import pytest

from gateway.delivery import ACCEPTED, DRAINING, Failure, Outcome, Reason
from gateway.dispatcher import FEW, LISTS, MAX_LIST
from gateway.retry import RetryPolicy
from tests.helpers import Answers, ScriptedSink, make_event

DOWN = Failure(0, Outcome.RELEASED, Reason.SINK_DOWN, status=503)
REFUSED = Failure(0, Outcome.REJECTED, Reason.SINK_REFUSED, status=400, body=b"no")


async def test_events_that_wait_leave_as_one_list(dispatchers):
    sink, answers = ScriptedSink(), Answers()
    dispatchers(sink).put([answers.delivery(make_event(n)) for n in range(100)])
    await answers.count(100)
    assert [len(events) for events in sink.lists] == [100]
    assert {answer.outcome for answer in answers.by_id.values()} == {Outcome.ACCEPTED}


async def test_a_list_is_bounded(dispatchers):
    sink, answers = ScriptedSink(), Answers()
    dispatchers(sink).put([answers.delivery(make_event(n)) for n in range(MAX_LIST + 1)])
    await answers.count(MAX_LIST + 1)
    assert max(len(events) for events in sink.lists) == MAX_LIST


async def test_the_timeout_of_an_attempt_reaches_the_sink(dispatchers):
    sink, answers = ScriptedSink(), Answers()
    dispatchers(sink, timeout=2.5).put([answers.delivery(make_event())])
    await answers.count(1)
    assert sink.timeouts == [2.5]


async def test_a_key_under_way_holds_back_its_own_events_only(dispatchers):
    sink, answers = ScriptedSink(), Answers()
    dispatcher = dispatchers(sink)
    sink.gate.clear()
    dispatcher.put([answers.delivery(make_event(1, source="/a"))])
    await sink.called.wait()
    sink.called.clear()
    dispatcher.put(
        [answers.delivery(make_event(2, source="/a")), answers.delivery(make_event(3, source="/b"))]
    )
    await sink.called.wait()
    assert [[event.id for event in events] for events in sink.lists] == [["1"], ["3"]]
    sink.gate.set()
    await answers.count(3)
    assert [event.id for event in sink.lists[2]] == ["2"]


async def test_a_failed_event_is_tried_again_before_later_events_of_its_key(dispatchers):
    failures = [DOWN, DOWN]
    sink = ScriptedSink(lambda event: failures.pop() if event.id == "1" and failures else None)
    answers = Answers()
    dispatcher = dispatchers(sink)
    dispatcher.put([answers.delivery(make_event(n)) for n in (1, 2, 3)])
    dispatcher.put([answers.delivery(make_event(4, source="/other"))])
    await answers.count(4)
    assert [event.id for event in sink.taken if event.source != "/other"] == ["1", "2", "3"]
    assert sink.taken[0].id == "4"
    assert dispatcher._metrics.retried == 2


async def test_a_retry_goes_before_what_arrived_behind_it(dispatchers):
    failures = [DOWN]
    sink = ScriptedSink(lambda event: failures.pop() if failures else None)
    answers = Answers()
    dispatcher = dispatchers(sink)
    sink.gate.clear()
    dispatcher.put([answers.delivery(make_event(1))])
    await sink.called.wait()
    dispatcher.put([answers.delivery(make_event(2)), answers.delivery(make_event(3, source="/b"))])
    sink.called.clear()
    await sink.called.wait()  # 3 is under way, so 2 has been put behind 1
    sink.gate.set()
    await answers.count(3)
    assert [event.id for event in sink.taken if event.source != "/b"] == ["1", "2"]


@pytest.mark.parametrize("retry", [0, 1, 3])
async def test_retry_n_means_n_plus_one_attempts(dispatchers, retry):
    sink, answers = ScriptedSink(lambda _: DOWN), Answers()
    dispatchers(sink, RetryPolicy(retry=retry, delay=0)).put([answers.delivery(make_event())])
    await answers.count(1)
    assert len(sink.lists) == retry + 1
    assert answers.by_id["1"].outcome is Outcome.RELEASED
    assert answers.by_id["1"].reason is Reason.SINK_DOWN


async def test_an_event_that_was_held_back_has_not_used_up_an_attempt(dispatchers):
    failures = [DOWN, DOWN, DOWN]
    sink = ScriptedSink(lambda event: failures.pop() if event.id == "1" and failures else None)
    answers = Answers()
    dispatchers(sink, RetryPolicy(retry=3, delay=0)).put(
        [answers.delivery(make_event(n)) for n in (1, 2)]
    )
    await answers.count(2)
    assert {answer.outcome for answer in answers.by_id.values()} == {Outcome.ACCEPTED}


async def test_a_refused_event_is_not_tried_again_and_its_neighbours_go_on(dispatchers):
    sink = ScriptedSink(lambda event: REFUSED if event.id == "2" else None)
    answers = Answers()
    dispatchers(sink).put([answers.delivery(make_event(n)) for n in (1, 2, 3)])
    await answers.count(3)
    assert [answers.by_id[n].outcome for n in "123"] == [
        Outcome.ACCEPTED,
        Outcome.REJECTED,
        Outcome.ACCEPTED,
    ]
    assert len(sink.lists) == 1


async def test_a_sink_that_raises_releases_its_list_and_loses_nothing(dispatchers, caplog):
    class Broken(ScriptedSink):
        async def send(self, events, timeout=None):
            self.script = lambda _: None
            if not self.lists:
                self.lists.append(list(events))
                raise RuntimeError("a bug")
            return await super().send(events, timeout)

    sink, answers = Broken(), Answers()
    dispatchers(sink).put([answers.delivery(make_event(n)) for n in (1, 2)])
    await answers.count(2)
    assert [event.id for event in sink.taken] == ["1", "2"]
    assert "raised instead of reporting" in caplog.text


async def test_hurry_releases_retries_that_would_come_too_late(dispatchers):
    sink, answers = ScriptedSink(lambda event: DOWN if event.source == "/slow" else None), Answers()
    dispatcher = dispatchers(sink, RetryPolicy(retry=5, delay=1000, cap=1e9))
    dispatcher.put(
        [answers.delivery(make_event(1, source="/slow")), answers.delivery(make_event(2))]
    )
    await answers.count(1)
    dispatcher.put([answers.delivery(make_event(3, source="/slow"))])
    dispatcher.put([answers.delivery(make_event(4))])
    await answers.count(2)
    dispatcher.hurry(deadline=0)
    assert {answers.by_id[n].reason for n in "13"} == {Reason.DRAINING}


async def test_a_retry_that_would_come_too_late_is_released_as_soon_as_it_fails(dispatchers):
    sink, answers = ScriptedSink(lambda _: DOWN), Answers()
    sink.gate.clear()
    dispatcher = dispatchers(sink, RetryPolicy(retry=5, delay=1000, cap=1e9))
    dispatcher.put([answers.delivery(make_event(1))])
    await sink.called.wait()
    dispatcher.put([answers.delivery(make_event(2))])
    dispatcher.hurry(deadline=asyncio.get_running_loop().time() + 10)
    sink.gate.set()
    await answers.count(2, seconds=5)
    assert {answer.reason for answer in answers.by_id.values()} == {Reason.DRAINING}
    assert len(sink.lists) == 1


async def test_a_sink_that_waited_for_something_cancelled_is_tried_again(dispatchers):
    class Broken(ScriptedSink):
        async def send(self, events, timeout=None):
            if not self.called.is_set():
                self.called.set()
                raise asyncio.CancelledError
            return await super().send(events, timeout)

    sink, answers = Broken(), Answers()
    dispatcher = dispatchers(sink)
    dispatcher.put([answers.delivery(make_event(n)) for n in (1, 2)])
    await answers.count(2, seconds=5)
    assert [event.id for event in sink.taken] == ["1", "2"]


async def test_an_event_that_is_held_back_behind_nothing_has_used_up_an_attempt(dispatchers):
    class Holding(ScriptedSink):
        async def send(self, events, timeout=None):
            self.lists.append(list(events))
            return [Failure(n, Outcome.RELEASED, Reason.HELD) for n in range(len(events))]

    sink, answers = Holding(), Answers()
    dispatcher = dispatchers(sink, RetryPolicy(retry=2, delay=0))
    dispatcher.put([answers.delivery(make_event(1))])
    await answers.count(1)
    assert len(sink.lists) == 3
    assert answers.by_id["1"].outcome is Outcome.RELEASED


async def test_an_event_that_was_held_back_counts_as_no_failed_attempt(dispatchers):
    failures = [DOWN]
    sink, answers = ScriptedSink(lambda _: failures.pop() if failures else None), Answers()
    dispatcher = dispatchers(sink)
    dispatcher.put([answers.delivery(make_event(n)) for n in (1, 2)])
    await answers.count(2)
    assert dispatcher._metrics.failed == {"sink_down": 1}


async def test_a_sink_that_goes_down_is_logged_once_and_once_when_it_is_back(dispatchers, caplog):
    caplog.set_level("INFO")
    failures = [DOWN] * 3
    sink = ScriptedSink(lambda _: failures.pop() if failures else None)
    answers = Answers()
    dispatchers(sink, RetryPolicy(retry=5, delay=0)).put([answers.delivery(make_event())])
    await answers.count(1)
    lines = [record.message for record in caplog.records]
    assert lines == ["sink sink takes no events: sink_down", "sink sink takes events again"]


async def test_a_sink_that_goes_up_and_down_is_not_logged_each_time(dispatchers, caplog):
    caplog.set_level("INFO")
    sink, answers = ScriptedSink(lambda event: DOWN if int(event.id) % 2 else None), Answers()
    dispatcher = dispatchers(sink, RetryPolicy(retry=0))
    for number in range(20):
        dispatcher.put([answers.delivery(make_event(number))])
        await answers.count(number + 1)
    assert len(caplog.records) == 2


async def test_what_one_list_does_not_hold_is_sent_at_the_same_time_by_another_worker(dispatchers):
    sink, answers = ScriptedSink(), Answers()
    sink.gate.clear()
    dispatcher = dispatchers(sink)
    await asyncio.sleep(0)  # the workers have found nothing to do
    dispatcher.put([answers.delivery(make_event(n, source=f"/{n}")) for n in range(MAX_LIST + 1)])
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
async def test_a_sink_that_can_take_events_again_ends_the_wait_for_a_retry(
    dispatchers, while_it_answers
):
    later = Failure(0, Outcome.RELEASED, Reason.SINK_DOWN, retry_after=500.0)
    sink, answers = ResumingSink(lambda _: later), Answers()
    dispatcher = dispatchers(sink)
    if while_it_answers:
        sink.gate.clear()
    dispatcher.put([answers.delivery(make_event(n)) for n in (1, 2)])
    dispatcher.put([answers.delivery(make_event(3, source="/other"))])
    await sink.called.wait()
    if while_it_answers:
        sink.gate.set()
        sink.script = lambda _: sink.resume() or later  # known, and the answer not yet read
    else:
        async with asyncio.timeout(10):
            while len(dispatcher._queue._parked) < 2:
                await asyncio.sleep(0)
        sink.resume()
    async with asyncio.timeout(10):
        await answers.count(3)
    assert {answer.outcome for answer in answers.by_id.values()} == {Outcome.ACCEPTED}
    assert [event.id for event in sink.taken if event.source != "/other"] == ["1", "2"]


async def test_a_stopped_dispatcher_does_not_care_that_its_sink_can_take_events_again(dispatchers):
    later = Failure(0, Outcome.RELEASED, Reason.SINK_DOWN, retry_after=500.0)
    sink, answers = ResumingSink(lambda _: later), Answers()
    dispatcher = dispatchers(sink)
    dispatcher.put([answers.delivery(make_event(1))])
    async with asyncio.timeout(10):
        while not dispatcher._queue._parked:
            await asyncio.sleep(0)
    await dispatcher.stop()
    dispatcher.give_up()
    sink.resume()
    assert answers.by_id["1"].reason is Reason.DRAINING
    assert sink.taken == []


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_the_lane_is_told_of_trouble_once_for_each_list_that_has_to_come_again(dispatchers):
    failures = [DOWN, REFUSED]
    sink, answers = ScriptedSink(lambda _: failures.pop() if failures else None), Answers()
    dispatcher = dispatchers(sink)
    for number in (1, 2, 3):
        dispatcher.put([answers.delivery(make_event(number))])
        await answers.count(number)
    assert dispatcher._ends.troubles == 1  # a refusal is none


async def test_what_has_not_ended_is_listed_in_the_order_of_arrival(dispatchers):
    sink, answers = ScriptedSink(lambda event: DOWN if event.source == "/down" else None), Answers()
    dispatcher = dispatchers(sink, RetryPolicy(retry=5, delay=1000))
    sources = ["/down", "/a", "/down", "/b", "/a", "/down"]
    made = [answers.delivery(make_event(n, source=key)) for n, key in enumerate(sources)]
    for number, delivery in enumerate(made):
        delivery.received_at = float(number)
    dispatcher.put(made[:1])
    await until(lambda: dispatcher._queue.next_due < 1e300)
    sink.gate.clear()
    for delivery in made[1:]:
        dispatcher.put([delivery])
        await asyncio.sleep(0)
    await until(lambda: dispatcher.is_sending)
    assert dispatcher.unfinished() == made


async def test_what_is_in_a_spool_can_be_left_there(dispatchers):
    sink, answers = ScriptedSink(lambda _: DOWN), Answers()
    sink.gate.clear()
    dispatcher = dispatchers(sink)
    made = [answers.delivery(make_event(n, source=f"/{n % 2}")) for n in range(6)]
    for delivery in made[2:4]:
        delivery.sequence = 1
    dispatcher.put(made[:4])
    await sink.called.wait()
    dispatcher.put(made[4:])
    dispatcher.give_up_stored()
    assert not answers.by_id  # it is under way
    sink.gate.set()
    await answers.count(4)
    assert set(answers.by_id) == {"2", "3", "4", "5"}  # the last two must not go before
    assert set(dispatcher.unfinished()) == set(made[:2])


async def test_a_dispatcher_that_was_stopped_takes_nothing(dispatchers):
    sink, answers = ScriptedSink(), Answers()
    dispatcher = dispatchers(sink)
    await dispatcher.stop()
    dispatcher.put([answers.delivery(make_event(1))])
    assert answers.by_id["1"].reason is Reason.DRAINING


@pytest.mark.parametrize("waits", [True, False])
async def test_only_who_waits_for_the_circuit_leaves_a_sink_alone(dispatchers, waits):
    sink, answers = ScriptedSink(), Answers()
    dispatcher = dispatchers(sink, waits=waits)
    dispatcher._circuit.failed([DOWN] * 5, asyncio.get_running_loop().time())
    dispatcher.put([answers.delivery(make_event(n, source=f"/{n}")) for n in range(3)])
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(sink.taken) == (0 if waits else 3)
    dispatcher._circuit.succeeded()
    await answers.count(3)


async def test_a_probe_under_way_when_its_dispatcher_stops_is_free_for_others(dispatchers):
    sink, answers = ScriptedSink(), Answers()
    sink.gate.clear()
    dispatcher = dispatchers(sink, waits=True)
    circuit = dispatcher._circuit
    circuit.failed([DOWN] * 5, asyncio.get_running_loop().time())
    dispatcher.put([answers.delivery(make_event(n)) for n in range(3)])
    circuit.resume(asyncio.get_running_loop().time())
    await sink.called.wait()
    assert [len(events) for events in sink.lists] == [1]
    assert not circuit.take_probe(asyncio.get_running_loop().time())
    await dispatcher.stop()
    assert circuit.take_probe(asyncio.get_running_loop().time())


async def test_a_sink_that_holds_back_while_its_circuit_is_open_is_not_asked_without_end(
    dispatchers,
):
    held = Failure(0, Outcome.RELEASED, Reason.HELD, retry_after=60.0)
    sink, answers = ScriptedSink(lambda _: held), Answers()
    dispatcher = dispatchers(sink, waits=True)
    circuit = dispatcher._circuit
    circuit.failed([DOWN] * 5, asyncio.get_running_loop().time())
    dispatcher.put([answers.delivery(make_event(n, source=f"/{n}")) for n in range(3)])
    circuit.resume(asyncio.get_running_loop().time())
    await sink.called.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert [len(events) for events in sink.lists] == [1]


class ReportingSink(ScriptedSink):
    """A sink that accepts what `holds` does not name at once, and the rest when `gate` is set."""

    def __init__(self, holds, script=lambda _: None):
        super().__init__(script)
        self.holds = holds
        self.gate.clear()

    def start_sending(self, events, timeout, on_ended, on_accepted):
        return asyncio.ensure_future(self._work(events, timeout, on_ended, on_accepted))

    async def _work(self, events, timeout, on_ended, on_accepted):
        held = [number for number, event in enumerate(events) if self.holds(event)]
        on_accepted([number for number in range(len(events)) if number not in held])
        failures = await self.send([events[number] for number in held], timeout) if held else []
        on_ended([msgspec.structs.replace(each, position=held[each.position]) for each in failures])


async def test_what_a_sink_has_does_not_wait_for_the_slowest_of_its_list(dispatchers):
    sink, answers = ReportingSink(lambda event: event.id == "1"), Answers()
    dispatcher = dispatchers(sink)
    dispatcher.put([answers.delivery(make_event(n, source=f"/{n % 2}")) for n in range(4)])
    await answers.count(3)
    assert set(answers.by_id) == {"0", "2", "3"}
    assert [each.events[0].id for each in dispatcher.unfinished()] == ["1"]
    sink.gate.set()
    await answers.count(4)


async def test_a_key_goes_on_when_all_of_it_is_with_the_sink(dispatchers):
    sink, answers = ReportingSink(lambda event: event.id == "slow"), Answers()
    dispatcher = dispatchers(sink)
    slow = make_event("slow", source="/slow")
    dispatcher.put([answers.delivery(event) for event in (make_event(0, source="/a"), slow)])
    await answers.count(1)
    behind = [make_event("behind", source="/slow"), make_event(1, source="/a")]
    dispatcher.put([answers.delivery(event) for event in behind])
    await answers.count(2)
    assert set(answers.by_id) == {"0", "1"}
    sink.gate.set()
    await answers.count(4)


async def test_a_failure_after_a_report_is_of_the_event_that_failed(dispatchers):
    sink = ReportingSink(lambda event: event.id in "13", lambda e: REFUSED if e.id == "3" else None)
    answers = Answers()
    dispatchers(sink).put([answers.delivery(make_event(n, source=f"/{n}")) for n in range(5)])
    await answers.count(3)
    sink.gate.set()
    await answers.count(5)
    refused = [id_ for id_, each in answers.by_id.items() if each.outcome is Outcome.REJECTED]
    assert refused == ["3"]


async def test_lists_of_which_little_is_left_make_room_for_others(dispatchers):
    sink, answers = ReportingSink(lambda event: event.id.startswith("slow")), Answers()
    dispatcher = dispatchers(sink)
    lists = FEW + 3 * LISTS
    for number in range(lists):
        dispatcher.put(
            [answers.delivery(make_event(id_, source=f"/{id_}"))
             for id_ in (f"slow-{number}", f"{number}-a", f"{number}-b")]
        )  # fmt: skip
        await answers.count(2 * (number + 1))
    assert len(dispatcher.unfinished()) == lists
    sink.gate.set()
    await answers.count(3 * lists)
    async with asyncio.timeout(10):
        while dispatcher.is_sending:
            await asyncio.sleep(0)
    assert not dispatcher._straggling
    sink.gate.clear()  # what was taken early and has ended is not counted twice, nor for ever
    for number in range(FEW):
        dispatcher.put([answers.delivery(make_event(f"slow-again-{number}", source=f"/{number}"))])
        for _ in range(10):
            await asyncio.sleep(0)
    assert len(sink.lists) == lists + FEW
    sink.gate.set()
    await answers.count(3 * lists + FEW)


async def test_few_events_do_not_wait_for_each_other_and_many_become_lists(dispatchers):
    sink, answers = ReportingSink(lambda _: True), Answers()
    dispatcher = dispatchers(sink)

    async def put_one_by_one(numbers):
        for number in numbers:
            dispatcher.put([answers.delivery(make_event(number, source=f"/{number}"))])
            for _ in range(10):
                await asyncio.sleep(0)

    await put_one_by_one(range(FEW))
    assert [len(events) for events in sink.lists] == [1] * FEW
    await put_one_by_one(range(FEW, FEW + 20))
    assert len(sink.lists) == FEW
    sink.gate.set()
    await answers.count(FEW + 20)
    assert [len(events) for events in sink.lists] == [1] * FEW + [20]
    sink.gate.clear()  # what has ended is not counted
    await put_one_by_one(range(100, 100 + FEW))
    assert len(sink.lists) == 2 * FEW + 1
    sink.gate.set()
    await answers.count(2 * FEW + 20)


async def test_a_sink_that_is_waited_for_in_tasks_gets_a_few_lists_at_a_time(dispatchers):
    sink, answers = ScriptedSink(), Answers()
    dispatcher = dispatchers(sink)
    sink.gate.clear()
    for number in range(FEW):
        dispatcher.put([answers.delivery(make_event(number, source=f"/{number}"))])
        for _ in range(10):
            await asyncio.sleep(0)
    assert [len(events) for events in sink.lists] == [1] * LISTS
    sink.gate.set()
    await answers.count(FEW)


async def test_what_a_sink_has_is_not_given_up_when_it_is_stopped(dispatchers):
    sink, answers = ReportingSink(lambda event: event.id == "1"), Answers()
    dispatcher = dispatchers(sink)
    dispatcher.put([answers.delivery(make_event(n, source=f"/{n}")) for n in range(3)])
    await answers.count(2)
    await dispatcher.stop()
    dispatcher.give_up()
    assert answers.by_id["1"] == DRAINING
    assert {answers.by_id["0"], answers.by_id["2"]} == {ACCEPTED}


class LateReportingSink(ScriptedSink):
    """A sink that tells what it has only when it is cut off."""

    def start_sending(self, events, timeout, on_ended, on_accepted):
        self.lists.append(list(events))
        self.called.set()
        self.on_accepted = on_accepted
        return self

    def cancel(self):
        self.on_accepted([0])


async def test_nothing_is_sent_any_more_when_a_sink_reports_while_it_is_cut_off(dispatchers):
    sink, answers = LateReportingSink(), Answers()
    dispatcher = dispatchers(sink)
    dispatcher.put([answers.delivery(make_event(n, source=f"/{n}")) for n in range(2)])
    await sink.called.wait()
    dispatcher.put([answers.delivery(make_event("behind", source="/0"))])
    await dispatcher.stop()
    for _ in range(10):
        await asyncio.sleep(0)
    dispatcher.give_up()
    assert len(sink.lists) == 1
    assert not dispatcher.is_sending
    assert answers.by_id == {"0": ACCEPTED, "1": DRAINING, "behind": DRAINING}


async def test_a_list_of_which_the_sink_took_some_early_does_not_open_the_circuit(dispatchers):
    sink = ReportingSink(lambda event: event.id != "0", lambda _: DOWN)
    answers = Answers()
    dispatcher = dispatchers(sink, RetryPolicy(retry=0), waits=True)
    dispatcher.put([answers.delivery(make_event(n, source=f"/{n}")) for n in range(9)])
    await answers.count(1)
    sink.gate.set()
    await answers.count(9)
    assert not dispatcher._circuit.is_open
