"""A sink is given lists at once where it can be, and from few tasks where it can't."""

import asyncio
import gc
import weakref

import pytest

from gateway.delivery import DRAINING, Failure, Outcome, Reason
from gateway.senders import KEPT, Senders
from gateway.tasks import Tasks
from tests.helpers import Answers, ScriptedSink, make_event

MANY = 3000


class PromptSink(ScriptedSink):
    """Is told at once, and tells the end when the test says so, or at once."""

    def __init__(self, *, ends_at_once=False):
        super().__init__()
        self.ends_at_once = ends_at_once
        self.under_way = []
        self.cut_off = 0

    def start_sending(self, events, timeout, on_ended, on_accepted):
        self.lists.append(list(events))
        self.under_way.append((on_ended, on_accepted))
        if self.ends_at_once:
            on_ended(())
        return self

    def cancel(self):
        self.cut_off += 1


def put_many(dispatcher, answers):
    """Put an event, and the next for each that has ended; return the list of those."""
    ended = []

    def ends(deliveries):
        ended.extend(deliveries)
        if len(ended) < MANY:
            dispatcher.put([answers.delivery(make_event(len(ended)))])

    dispatcher._ends.delivered = ends
    dispatcher.put([answers.delivery(make_event(0))])
    return ended


def ids_of(lists):
    return [[event.id for event in events] for events in lists]


async def test_a_prompt_sink_has_the_event_when_put_returns(dispatchers):
    sink, answers = PromptSink(), Answers()
    dispatchers(sink).put([answers.delivery(make_event(1))])
    assert ids_of(sink.lists) == [["1"]]


async def test_the_source_has_its_answer_when_the_sink_has_told_of_the_end(dispatchers):
    sink, answers = PromptSink(), Answers()
    dispatchers(sink).put([answers.delivery(make_event(1))])
    sink.under_way[0][0](())
    assert answers.by_id["1"].outcome is Outcome.ACCEPTED


async def test_what_comes_while_a_list_is_under_way_gathers_for_a_turn(dispatchers):
    sink, answers = PromptSink(), Answers()
    dispatcher = dispatchers(sink)
    for number in range(4):
        dispatcher.put([answers.delivery(make_event(number, source=f"/{number}"))])
    await asyncio.sleep(0)
    assert ids_of(sink.lists) == [["0"], ["1", "2", "3"]]


async def test_a_sink_that_answers_while_it_is_called_is_heard_afterwards(dispatchers):
    sink, answers = PromptSink(ends_at_once=True), Answers()
    dispatchers(sink).put([answers.delivery(make_event(1))])
    assert not answers.by_id
    await answers.count(1)
    assert answers.by_id["1"].outcome is Outcome.ACCEPTED


async def test_a_source_that_hands_in_more_for_each_answer_does_not_nest(dispatchers):
    sink, answers = PromptSink(ends_at_once=True), Answers()
    ended = put_many(dispatchers(sink), answers)
    async with asyncio.timeout(30):
        while len(ended) < MANY:
            await asyncio.sleep(0)


async def test_an_end_that_is_told_twice_counts_once(dispatchers):
    sink, answers = PromptSink(), Answers()
    dispatcher = dispatchers(sink)
    dispatcher.put([answers.delivery(make_event(1))])
    for _ in range(2):
        sink.under_way[0][0](())
    assert dispatcher._metrics.sent == 1


async def test_a_failed_event_of_a_prompt_sink_is_tried_again(dispatchers):
    sink, answers = PromptSink(), Answers()
    dispatchers(sink).put([answers.delivery(make_event(1))])
    sink.ends_at_once = True
    sink.under_way[0][0]([Failure(0, Outcome.RELEASED, Reason.SINK_DOWN)])
    await answers.count(1)
    assert ids_of(sink.lists) == [["1"], ["1"]]


async def test_stopping_cuts_off_what_a_prompt_sink_has(dispatchers):
    sink, answers = PromptSink(), Answers()
    dispatcher = dispatchers(sink)
    dispatcher.put([answers.delivery(make_event(1))])
    await dispatcher.stop()
    dispatcher.give_up()
    assert sink.cut_off == 1
    assert answers.by_id["1"] == DRAINING


async def test_a_prompt_sink_that_raises_releases_its_list(dispatchers, caplog):
    class Broken(PromptSink):
        def start_sending(self, *args):
            raise ZeroDivisionError

    answers = Answers()
    dispatchers(Broken()).put([answers.delivery(make_event(1))])
    await answers.count(1)
    assert answers.by_id["1"].outcome is Outcome.RELEASED
    assert "raised instead of reporting" in caplog.text


async def test_a_sink_that_only_sends_is_called_from_tasks_that_are_used_again():
    sink = ScriptedSink()
    senders = Senders("sink", sink, 2.5)
    for number in range(3):
        ended = asyncio.get_running_loop().create_future()
        senders.send([make_event(number)], ended.set_result, lambda _: None)
        assert await ended == []
    await senders.close()
    assert sink.timeouts == [2.5] * 3
    assert senders._started == 1


async def test_no_more_tasks_are_kept_than_lists_are_under_way_as_a_rule():
    sink = ScriptedSink()
    sink.gate.clear()
    senders = Senders("sink", sink, None)
    ends = []
    for number in range(2 * KEPT):
        senders.send([make_event(number)], ends.append, lambda _: None)
    sink.gate.set()
    async with asyncio.timeout(10):
        while len(ends) < 2 * KEPT or len(senders._tasks._tasks) > KEPT:
            await asyncio.sleep(0)
    await senders.close()


class Sending:
    """Knows whom it tells, as a sink's own record of a list does."""

    def __init__(self, on_ended):
        self.on_ended = on_ended

    def cancel(self):
        pass


async def test_a_list_that_has_ended_does_not_wait_for_the_collector(dispatchers):
    class Sink(PromptSink):
        def start_sending(self, events, timeout, on_ended, on_accepted):
            self.sending = Sending(on_ended)
            return self.sending

    sink, answers = Sink(), Answers()
    dispatchers(sink).put([answers.delivery(make_event(1))])
    sending, sink.sending = sink.sending, None
    there = weakref.ref(sending)
    gc.disable()
    try:
        sending.on_ended(())
        del sending
        assert there() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("early", [False, True])
async def test_a_bug_behind_an_end_stops_the_service_and_not_the_sink(
    dispatchers, caplog, monkeypatch, early
):
    failed = asyncio.Event()
    monkeypatch.setattr(Tasks, "failed", failed)
    sink, answers = PromptSink(), Answers()
    dispatcher = dispatchers(sink)

    def ends(_):
        raise ZeroDivisionError

    dispatcher._ends.delivered = ends
    dispatcher.put([answers.delivery(make_event(1)), answers.delivery(make_event(2))])
    on_ended, on_accepted = sink.under_way[0]
    if early:
        on_accepted([0])
    else:
        on_ended(())
    assert failed.is_set()
    assert "ZeroDivisionError" in caplog.text


async def test_a_sink_that_never_waits_leaves_others_their_turn(dispatchers):
    sink, answers = ScriptedSink(), Answers()
    loop, turns = asyncio.get_running_loop(), []
    ended = put_many(dispatchers(sink), answers)

    def turn():
        turns.append(len(ended))
        if len(ended) < MANY:
            loop.call_soon(turn)

    loop.call_soon(turn)
    async with asyncio.timeout(30):
        while len(ended) < MANY:
            await asyncio.sleep(0)
    assert len(turns) > 30
