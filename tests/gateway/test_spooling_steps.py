"""A lane with a spool, between two steps of the disk: what happens before it has answered."""

import asyncio
import errno

import pytest

from gateway import spooling, undeliverable
from gateway.delivery import Failure, Outcome, Reason
from gateway.dispatcher import MAX_LIST
from gateway.retry import RetryPolicy
from gateway.throttle import Throttle
from tests.gateway.stepped import SteppedLane, VirtualLoop
from tests.helpers import Answers, ScriptedSink, make_event

DOWN = Failure(0, Outcome.RELEASED, Reason.SINK_DOWN, status=503)
REFUSED = Failure(0, Outcome.REJECTED, Reason.SINK_REFUSED, status=400)
SOON = RetryPolicy(retry=10, delay=0.001, cap=0.001)


@pytest.fixture
async def lanes():
    opened = []

    def make(*args, **options):
        opened.append(SteppedLane(*args, **options))
        return opened[-1]

    yield make
    for lane in opened:
        await lane.close()


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


def now():
    return asyncio.get_running_loop().time()


def ids(events):
    return [event.id for event in events]


async def test_lists_that_one_failed_commit_held_reach_the_sink_in_order(lanes):
    sink, answers = ScriptedSink(), Answers()
    lane = lanes(sink, always=True)
    lane.disk.fail("write", errno.EIO, times=9)
    lane.put(answers.delivery(make_event(1)))
    lane.put(answers.delivery(make_event(2)))
    lane.store()
    await answers.count(2)
    assert ids(sink.taken) == ["1", "2"]
    assert {answer.outcome for answer in answers.by_id.values()} == {Outcome.ACCEPTED}


async def test_a_list_refused_at_once_does_not_overtake_one_that_waits_for_the_disk(lanes):
    sink, answers = ScriptedSink(), Answers()
    lane = lanes(sink, always=True, max_bytes=4000)
    lane.put(answers.delivery(make_event(1)))
    lane.put(answers.delivery(make_event(2, data=bytes(5000))))
    lane.spool.deliver()
    assert answers.by_id["2"].reason is Reason.NOT_STORED
    await lane.settle()
    assert ids(sink.taken) == ["1"]


@pytest.mark.parametrize("is_stored", [True, False])
async def test_a_shutdown_waits_for_the_answer_to_what_is_being_stored(lanes, is_stored):
    # It would be told to come again, and then be taken for a copy of the one in the spool.
    sink, answers = ScriptedSink(lambda _: DOWN), Answers()
    lane = lanes(sink)
    lane.put(answers.delivery(make_event(1)))
    await until(lambda: lane.lane.spooling.appending)
    if not is_stored:
        lane.disk.fail("write", errno.EIO, times=9)
    lane.lane.hurry(now() + 1)
    assert not answers.by_id
    lane.store()
    await answers.count(1)
    expected = Outcome.ACCEPTED if is_stored else Outcome.RELEASED
    assert answers.by_id["1"].outcome is expected
    assert lane.spool.pending == is_stored
    assert lane.done == 1
    async with asyncio.timeout(10):
        await lane.lane.quiet()


async def test_what_is_being_stored_is_not_released_for_want_of_a_dead_letter(lanes, monkeypatch):
    monkeypatch.setattr(undeliverable, "STORE_AGAIN_SECONDS", 0.001)
    sink, answers = ScriptedSink(lambda e: REFUSED if e.id == "1" else DOWN), Answers()
    sink.gate.clear()
    lane = lanes(sink)
    lane.put(answers.delivery(make_event(1)))
    await sink.called.wait()
    lane.lane.spooling.divert("the test says so")
    sink.gate.set()
    await until(lambda: lane.letters.waiting)
    lane.letters.work(fails=True)
    assert not answers.by_id
    lane.store()
    assert answers.by_id["1"].outcome is Outcome.ACCEPTED
    assert lane.spool.pending == 1
    await until(lambda: lane.letters.waiting)
    lane.letters.work()
    assert lane.spool.pending == 0
    assert [event.id for *_, event in lane.letters.kept] == ["1"]


async def test_a_shutdown_does_not_wait_for_dead_letters_that_cannot_be_stored(lanes):
    sink, answers = ScriptedSink(lambda _: REFUSED), Answers()
    lane = lanes(sink, always=True)
    lane.put(answers.delivery(make_event(1)))
    lane.store()
    await until(lambda: lane.letters.waiting)
    lane.letters.work(fails=True)
    lane.lane.hurry(now() + 60)
    async with asyncio.timeout(10):
        await lane.lane.quiet()
    assert lane.spool.pending == 1


async def test_a_dead_letter_that_fails_during_a_shutdown_stays_in_the_spool(lanes):
    sink, answers = ScriptedSink(lambda _: REFUSED), Answers()
    lane = lanes(sink, always=True)
    lane.put(answers.delivery(make_event(1)))
    lane.store()
    await until(lambda: lane.letters.waiting)
    lane.lane.hurry(now() + 60)
    lane.letters.work(fails=True)
    async with asyncio.timeout(10):
        await lane.lane.quiet()
    assert lane.spool.pending == 1


async def test_what_was_refused_before_the_others_were_stored_is_released_by_a_shutdown(lanes):
    sink, answers = ScriptedSink(lambda e: REFUSED if e.id == "1" else DOWN), Answers()
    lane = lanes(sink)
    lane.put(answers.delivery(make_event(1)), answers.delivery(make_event(2)))
    await until(lambda: lane.letters.waiting and lane.lane.spooling.appending)
    lane.letters.work(fails=True)
    lane.lane.hurry(now() + 60)
    lane.store()
    assert answers.by_id["1"].reason is Reason.DRAINING
    assert answers.by_id["2"].outcome is Outcome.ACCEPTED
    assert lane.done == 2
    async with asyncio.timeout(10):
        await lane.lane.quiet()


async def test_during_a_shutdown_what_is_in_the_spool_is_not_tried_again(lanes):
    sink, answers = ScriptedSink(lambda _: DOWN), Answers()
    sink.gate.clear()
    lane = lanes(sink, SOON, always=True)
    lane.put(answers.delivery(make_event(1)))
    lane.store()
    await sink.called.wait()
    lane.lane.hurry(now() + 60)
    sink.gate.set()
    async with asyncio.timeout(10):
        await lane.lane.quiet()
    assert lane.lane._dispatcher.unfinished() == []
    assert (len(sink.lists), lane.spool.pending) == (1, 1)


async def test_what_the_disk_had_no_room_for_is_stored_when_it_has(lanes, monkeypatch):
    monkeypatch.setattr(spooling, "DIVERT_AGAIN_SECONDS", 0.01)
    sink, answers = ScriptedSink(), Answers()
    sink.gate.clear()
    lane = lanes(sink, after=0.01)
    lane.disk.fail("write", errno.EIO)
    lane.put(answers.delivery(make_event(1)))
    await until(lambda: lane.lane.spooling.appending)
    lane.store()
    assert not answers.by_id
    assert not lane.lane.spooling.is_on
    await until(lambda: lane.lane.spooling.appending)  # though nothing comes and nothing fails
    lane.store()
    assert answers.by_id["1"].outcome is Outcome.ACCEPTED
    assert lane.spool.pending == 1


async def test_while_the_disk_has_no_room_not_every_failure_asks_it(lanes):
    sink, answers = ScriptedSink(lambda _: DOWN), Answers()
    lane = lanes(sink, RetryPolicy(retry=4, delay=0.001, cap=0.001))
    lane.disk.fail("write", errno.EIO, times=100)
    lane.put(answers.delivery(make_event(1)))
    while not answers.by_id:
        await lane.settle()
        lane.letters.work()
    assert answers.by_id["1"].reason is Reason.DEAD_LETTERED
    assert lane.disk.calls["write"] == 1


async def test_a_sink_that_stumbles_again_and_again_does_not_fill_the_log(lanes, caplog):
    caplog.set_level("INFO", "gateway.spooling")
    failures = []
    sink = ScriptedSink(lambda _: failures.pop() if failures else None)
    answers = Answers()
    lane = lanes(sink, SOON)
    for number in range(10):
        failures.append(DOWN)
        lane.put(answers.delivery(make_event(number)))
        async with asyncio.timeout(10):
            while number + 1 > len(sink.taken) or lane.lane.spooling.is_on:
                await lane.settle()
    lines = [record.message for record in caplog.records if record.name == "gateway.spooling"]
    assert [line.rpartition(": ")[2] for line in lines] == [
        "the sink is in trouble",
        "the spool is empty",
    ]


@pytest.mark.parametrize("is_full", [True, False])
async def test_a_spool_that_takes_nothing_says_so_once_and_not_that_it_is_used_or_empty(
    lanes, caplog, monkeypatch, is_full
):
    monkeypatch.setattr(spooling, "DIVERT_AGAIN_SECONDS", 0.0)
    caplog.set_level("INFO")
    sink, answers = ScriptedSink(), Answers()
    sink.gate.clear()
    lane = lanes(sink, after=0.001, max_bytes=4000)
    lane.lane.spooling._lines = Throttle(0)
    if is_full:
        lane.disk.free = lambda _folder: (-1, 1 << 30)
    else:
        lane.disk.fail("write", errno.EIO, times=1000)
    lane.put(answers.delivery(make_event(1)))
    for _ in range(4):
        await until(lambda: lane.lane.spooling.appending)
        lane.store()
    lines = [record.message for record in caplog.records]
    assert len(lines) == 1
    assert ("the spool is full" if is_full else "the spool can't store") in lines[0]
    lane.disk.faults.clear()
    lane.disk.free = lambda _folder: (1 << 29, 1 << 30)
    while not answers.by_id:
        await lane.settle()
    sink.gate.set()
    while lane.lane.spooling.is_on:
        await lane.settle()
    assert [record.message for record in caplog.records][1:] == [
        "/spool/lane: the spool has room again" if is_full else "/spool/lane stores again",
        "route way to sink out: events go through the spool: the sink is slow",
        "route way to sink out: the spool is empty",
    ]


async def test_what_is_larger_than_the_spool_is_told_once(lanes, caplog, monkeypatch):
    monkeypatch.setattr(spooling, "DIVERT_AGAIN_SECONDS", 0.0)
    sink, answers = ScriptedSink(), Answers()
    sink.gate.clear()
    lane = lanes(sink, after=0.001, max_bytes=4000)
    lane.lane.spooling._lines = Throttle(0)
    lane.put(answers.delivery(make_event(1, data=bytes(5000))))
    for _ in range(4):
        await until(lambda: lane.lane.spooling.appending)
        lane.store()
    (line,) = [record.message for record in caplog.records]
    assert "state.max_bytes gives this spool 4000 bytes; senders wait for the sink" in line


@pytest.mark.loop(factory=VirtualLoop)
async def test_a_window_of_one_waits_for_the_sink_and_the_cursor_alone():
    sink, answers = ScriptedSink(), Answers()
    lane = SteppedLane(sink, always=True, window=1)
    sink.gate.clear()
    for number in range(30):
        lane.put(answers.delivery(make_event(number)))
        lane.store()
    sink.gate.set()
    before = now()
    async with asyncio.timeout(1000):
        while len(sink.taken) < 30:
            lane.store()  # the cursor, after each: it is all that may come twice
            await asyncio.sleep(0.0001)  # or the loop's time would stand still
        await lane.close()
    seconds = now() - before
    assert ids(sink.taken) == [str(number) for number in range(30)]
    assert seconds < 0.1


async def test_what_cannot_be_stored_during_a_shutdown_does_not_overtake_what_is(lanes):
    sink, answers = ScriptedSink(lambda event: DOWN if event.id == "1" else None), Answers()
    lane = lanes(sink)
    lane.put(answers.delivery(make_event(1)))
    await until(lambda: lane.lane.spooling.appending)
    lane.store()
    lane.disk.fail("write", errno.EIO, times=9)
    lane.put(answers.delivery(make_event(2)))
    lane.lane.hurry(now() + 60)
    lane.store()
    await lane.settle()
    assert sink.taken == []
    assert [answers.by_id[n].outcome for n in "12"] == [Outcome.ACCEPTED, Outcome.RELEASED]


async def test_what_waits_behind_an_event_that_stays_in_the_spool_is_released(lanes):
    sink, answers = ScriptedSink(lambda event: DOWN if event.id == "1" else None), Answers()
    sink.gate.clear()
    lane = lanes(sink, SOON, always=True)
    lane.put(answers.delivery(make_event(1)))
    lane.store()
    await sink.called.wait()
    lane.disk.fail("write", errno.EIO, times=2)
    lane.put(answers.delivery(make_event(2)))
    lane.put(answers.delivery(make_event(3, source="/other")))
    lane.store()
    lane.lane.hurry(now() + 60)
    sink.gate.set()
    await lane.settle()
    assert ids(sink.taken) == ["3"]
    assert answers.by_id["2"].reason is Reason.DRAINING
    assert lane.spool.pending == 1


@pytest.mark.parametrize("is_stored", [True, False])
async def test_nothing_overtakes_what_is_being_stored_when_a_shutdown_begins(lanes, is_stored):
    loop = asyncio.get_running_loop()

    def script(event):
        if event.id == "1" and not sink.taken:
            # So many that nobody has looked at the last one yet when the shutdown begins.
            others = [make_event(n, source=f"/{n}") for n in range(10, 10 + MAX_LIST)]
            lane.put(*[answers.delivery(event) for event in [*others, make_event(2)]])
            loop.call_soon(lane.lane.hurry, now() + 1)
            sink.gate.clear()
            return DOWN
        return None

    sink, answers = ScriptedSink(script), Answers()
    lane = lanes(sink)
    lane.put(answers.delivery(make_event(1)))
    await until(lambda: lane.lane.spooling.appending)
    for _ in range(10):
        await asyncio.sleep(0)
    sink.gate.set()
    if not is_stored:
        lane.disk.fail("write", errno.EIO, times=9)
    lane.store()
    await lane.settle()
    assert "2" not in ids(sink.taken) or not is_stored
    assert answers.by_id["1"].outcome is (Outcome.ACCEPTED if is_stored else Outcome.RELEASED)
    assert lane.spool.pending == (2 if is_stored else 0)
    async with asyncio.timeout(10):
        await lane.lane.quiet()
