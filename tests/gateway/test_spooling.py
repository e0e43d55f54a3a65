"""A lane with a spool: nothing on disk while all is well, everything through it in trouble."""

import asyncio
import math

import pytest

from gateway import stored_event
from gateway.dead_letters import DeadLetters, Filter
from gateway.delivery import Failure, Outcome, Reason
from gateway.lane import Lane, Way
from gateway.metrics import RouteMetrics, SinkMetrics
from gateway.retry import RetryPolicy
from gateway.spool import Spool
from gateway.spooling import SpoolUse
from gateway.target import Target
from tests.helpers import Answers, ScriptedSink, make_event

DOWN = Failure(0, Outcome.RELEASED, Reason.SINK_DOWN, status=503)
REFUSED = Failure(0, Outcome.REJECTED, Reason.SINK_REFUSED, status=400, body=b"no")
SOON = RetryPolicy(retry=10, delay=0.001, cap=0.01)
LATER = RetryPolicy(retry=10, delay=60)


class Rig:
    """A lane over a folder that can be closed and opened again."""

    def __init__(self, folder):
        self.folder = folder
        self.lane = None
        self.letters = None
        self.spool = None
        self.done = 0

    async def open(self, sink, policy=SOON, *, max_bytes=2**26, **use):
        self.spool = Spool(self.folder / "spool", max_bytes=max_bytes)
        self.found = self.spool.open()
        self.letters = DeadLetters(self.folder / "letters", max_bytes=2**22)
        self.letters.open()
        self.lane = Lane(
            Target(name="out", sink=sink, address="http://sink/"),
            Way(
                route="way",
                policy=policy,
                letters=self.letters,
                spool=SpoolUse(
                    **{
                        "spool": self.spool,
                        "always": False,
                        "after": 60.0,
                        "rate": None,
                        "window": 1000,
                        **use,
                    }
                ),
            ),
            metrics=(SinkMetrics(), RouteMetrics()),
            on_done=self._on_done,
        )
        self.lane.start()
        return self.lane

    async def close(self):
        if self.lane is not None:
            await self.lane.close()
            self.letters.close()
        self.lane = None

    async def empty(self):
        await until(lambda: self.spool.pending == 0)

    def _on_done(self, count):
        self.done += count


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


@pytest.fixture
async def rig(tmp_path):
    rig = Rig(tmp_path)
    yield rig
    await rig.close()


def ids(events):
    return [event.id for event in events]


def outcomes(answers):
    return {answer.outcome for answer in answers.by_id.values()}


async def test_a_healthy_sink_touches_no_disk(rig):
    sink, answers = ScriptedSink(), Answers()
    lane = await rig.open(sink)
    for n in range(50):
        lane.put([answers.delivery(make_event(n))])
    await answers.count(50)
    assert not list(rig.folder.glob("spool/*.seg"))
    assert (rig.done, rig.spool.pending) == (50, 0)


async def test_senders_are_answered_from_the_disk_when_the_sink_is_in_trouble(rig):
    sink, answers = ScriptedSink(lambda _: DOWN), Answers()
    lane = await rig.open(sink, LATER)
    lane.put([answers.delivery(make_event(n)) for n in range(5)])
    await answers.count(5)
    lane.put([answers.delivery(make_event(n)) for n in range(5, 8)])
    await answers.count(8)
    assert outcomes(answers) == {Outcome.ACCEPTED}
    assert rig.spool.pending == 8
    assert rig.done == 8


async def test_what_was_stored_comes_in_order_when_the_sink_is_back_and_then_goes_direct(rig):
    is_down = True
    sink = ScriptedSink(lambda _: DOWN if is_down else None)
    answers = Answers()
    lane = await rig.open(sink)
    for n in range(200):
        lane.put([answers.delivery(make_event(n, source=f"/{n % 7}"))])
    await answers.count(200)
    is_down = False
    await rig.empty()
    for key in range(7):
        numbers = [int(event.id) for event in sink.taken if event.source == f"/{key}"]
        assert numbers == sorted(numbers)
    assert len(sink.taken) == 200
    await until(lambda: not lane.spooling.is_on)
    segments = {path: path.stat().st_size for path in rig.folder.glob("spool/*.seg")}
    lane.put([answers.delivery(make_event(200))])
    await answers.count(201)
    assert sink.taken[-1].id == "200"
    assert {path: path.stat().st_size for path in rig.folder.glob("spool/*.seg")} == segments


async def test_what_was_stored_is_delivered_by_the_next_life(rig):
    answers = Answers()
    lane = await rig.open(ScriptedSink(lambda _: DOWN), LATER)
    lane.put([answers.delivery(make_event(n)) for n in range(20)])
    await answers.count(20)
    await rig.close()
    sink = ScriptedSink()
    await rig.open(sink)
    assert rig.found.pending == 20
    await rig.empty()
    assert ids(sink.taken) == [str(n) for n in range(20)]


async def test_more_than_the_window_waits_on_disk_only(rig):
    is_down = True
    sink, answers = ScriptedSink(lambda _: DOWN if is_down else None), Answers()
    lane = await rig.open(sink, window=20)
    lane.put([answers.delivery(make_event(0))])
    await answers.count(1)
    for n in range(1, 500):
        lane.put([answers.delivery(make_event(n))])
    await answers.count(500)
    assert len(lane._dispatcher.unfinished()) <= 20
    is_down = False
    await rig.empty()
    assert ids(sink.taken) == [str(n) for n in range(500)]


async def test_stored_mode_answers_before_the_sink_does_and_delivers_from_memory(rig):
    sink, answers = ScriptedSink(), Answers()
    sink.gate.clear()
    lane = await rig.open(sink, always=True)
    lane.put([answers.delivery(make_event(n)) for n in range(10)])
    await answers.count(10)
    assert sink.taken == []
    assert rig.spool.unread == 0
    sink.gate.set()
    await rig.empty()
    assert ids(sink.taken) == [str(n) for n in range(10)]
    lane.put([answers.delivery(make_event(n)) for n in range(10, 20)])
    await answers.count(20)
    await rig.empty()
    assert ids(sink.taken) == [str(n) for n in range(20)]
    assert lane.spooling.is_on


async def test_a_slow_sink_is_in_trouble_too(rig):
    sink, answers = ScriptedSink(), Answers()
    sink.gate.clear()
    lane = await rig.open(sink, after=0.01)
    lane.put([answers.delivery(make_event(n)) for n in range(3)])
    await answers.count(3)
    assert sink.taken == []
    assert rig.spool.pending == 3
    sink.gate.set()
    await rig.empty()
    assert ids(sink.taken) == ["0", "1", "2"]


async def test_what_the_sink_takes_while_it_is_being_stored_is_done_at_once(rig):
    failures = [DOWN]
    sink, answers = ScriptedSink(lambda _: failures.pop() if failures else None), Answers()
    lane = await rig.open(sink, RetryPolicy(retry=3, delay=0))
    lane.put([answers.delivery(make_event(n)) for n in range(3)])
    await answers.count(3)
    await rig.empty()
    assert ids(sink.taken) == ["0", "1", "2"]
    await until(lambda: not lane.spooling.is_on)


async def test_a_stored_event_that_the_sink_refuses_becomes_a_dead_letter(rig):
    sink = ScriptedSink(lambda event: REFUSED if event.id == "1" else None)
    answers = Answers()
    lane = await rig.open(sink, always=True)
    lane.put([answers.delivery(make_event(n)) for n in range(3)])
    await answers.count(3)
    await rig.empty()
    assert ids(sink.taken) == ["0", "2"]
    (letter,) = (await rig.letters.page(Filter())).letters
    assert (letter.event_id, letter.route, letter.sink) == ("1", "way", "out")
    assert (letter.reason, letter.status, letter.attempts) == ("sink_refused", 400, 1)


async def test_a_dead_letter_is_durable_before_the_sender_is_answered(rig):
    sink, answers = ScriptedSink(lambda _: REFUSED), Answers()
    lane = await rig.open(sink)
    lane.put([answers.delivery(make_event(1))])
    await answers.count(1)
    assert (answers.by_id["1"].outcome, answers.by_id["1"].reason) == (
        Outcome.ACCEPTED,
        Reason.DEAD_LETTERED,
    )
    assert await rig.letters.count(Filter()) == 1
    assert rig.spool.pending == 0


async def test_when_neither_spool_nor_dead_letters_can_store_the_sender_is_told(rig):
    sink, answers = ScriptedSink(lambda _: REFUSED), Answers()
    lane = await rig.open(sink)
    rig.letters.close()
    lane.put([answers.delivery(make_event(1))])
    await answers.count(1)
    assert (answers.by_id["1"].outcome, answers.by_id["1"].reason) == (
        Outcome.RELEASED,
        Reason.NOT_STORED,
    )


async def test_a_stored_event_whose_dead_letter_cannot_be_stored_stays_in_the_spool(rig):
    sink, answers = ScriptedSink(lambda _: REFUSED), Answers()
    lane = await rig.open(sink, always=True)
    rig.letters.close()
    lane.put([answers.delivery(make_event(1))])
    await answers.count(1)
    await until(lambda: sink.lists)
    await rig.close()
    sink = ScriptedSink()
    await rig.open(sink)
    await rig.empty()
    assert ids(sink.taken) == ["1"]


async def test_a_full_spool_refuses_what_would_overtake_and_takes_it_again_when_there_is_room(rig):
    is_down = True
    sink, answers = ScriptedSink(lambda _: DOWN if is_down else None), Answers()
    lane = await rig.open(sink, window=4, max_bytes=64 * 1024)
    count = 0
    while not rig.spool.is_full:
        lane.put([answers.delivery(make_event(count, data=bytes(1000)))])
        count += 1
        await answers.count(count)
    lane.put([answers.delivery(make_event(count, data=bytes(1000)))])
    await answers.count(count + 1)
    answer = answers.by_id[str(count)]
    assert (answer.outcome, answer.reason) == (Outcome.RELEASED, Reason.NOT_STORED)
    is_down = False
    await rig.empty()
    await until(lambda: not rig.spool.is_full)
    accepted = [n for n, answer in answers.by_id.items() if answer.outcome is Outcome.ACCEPTED]
    assert ids(sink.taken) == accepted
    lane.put([answers.delivery(make_event("again"))])
    await answers.count(count + 2)
    assert answers.by_id["again"].outcome is Outcome.ACCEPTED


async def test_without_room_on_disk_a_healthy_sink_still_gets_its_events(rig):
    sink, answers = ScriptedSink(), Answers()
    lane = await rig.open(sink, always=True, max_bytes=64 * 1024)
    lane.put([answers.delivery(make_event(1, data=bytes(100_000)))])
    await answers.count(1)
    assert answers.by_id["1"].outcome is Outcome.ACCEPTED
    assert ids(sink.taken) == ["1"]
    assert rig.spool.pending == 0


async def test_what_the_disk_refuses_does_not_wait_for_a_sink_that_is_down(rig):
    sink, answers = ScriptedSink(lambda _: DOWN), Answers()
    lane = await rig.open(sink, LATER, always=True, max_bytes=64 * 1024)
    lane.put([answers.delivery(make_event(n, source=f"/{n}")) for n in range(10)])
    await until(lambda: lane._dispatcher._circuit.is_open)
    lane.put([answers.delivery(make_event("large", data=bytes(100_000)))])
    await answers.count(11)
    answer = answers.by_id["large"]
    assert (answer.outcome, answer.reason) == (Outcome.RELEASED, Reason.NOT_STORED)
    assert rig.done == 11  # nothing of the window is taken by it
    lane.put([answers.delivery(make_event("small"))])
    await answers.count(12)
    assert answers.by_id["small"].outcome is Outcome.ACCEPTED


async def test_what_the_disk_refuses_asks_whether_a_sink_is_back_when_nothing_else_does(rig):
    sink, answers = ScriptedSink(), Answers()
    lane = await rig.open(sink, always=True, max_bytes=64 * 1024)
    circuit, now = lane._dispatcher._circuit, asyncio.get_running_loop().time()
    circuit.failed([DOWN] * 10, now)
    assert circuit.is_open
    lane.put([answers.delivery(make_event("large", data=bytes(100_000)))])
    await until(lambda: not rig.spool._writer._queue)
    circuit.resume(now)
    await answers.count(1)
    assert answers.by_id["large"].outcome is Outcome.ACCEPTED
    assert ids(sink.taken) == ["large"]


async def test_while_the_circuit_is_open_single_events_ask_and_use_up_no_retry(rig):
    is_down = True
    sink, answers = ScriptedSink(lambda _: DOWN if is_down else None), Answers()
    lane = await rig.open(sink, RetryPolicy(retry=2, delay=0.001))
    lane.put([answers.delivery(make_event(n, source=f"/{n}")) for n in range(50)])
    await answers.count(50)
    circuit = lane._dispatcher._circuit
    await until(lambda: circuit.is_open)
    for _ in range(6):  # more than the retries
        before = len(sink.lists)
        circuit.resume(asyncio.get_running_loop().time())
        await until(lambda before=before: len(sink.lists) > before)
        assert len(sink.lists[-1]) == 1
        await until(lambda: not circuit._probing)
    is_down = False
    circuit.resume(asyncio.get_running_loop().time())
    await rig.empty()
    assert len(sink.taken) == 50
    assert await rig.letters.count(Filter()) == 0


async def test_another_key_asks_each_time(rig):
    is_down = True
    sink, answers = ScriptedSink(lambda _: DOWN if is_down else None), Answers()
    lane = await rig.open(sink, LATER)
    lane.put([answers.delivery(make_event(n, source=f"/{n % 6}")) for n in range(12)])
    await answers.count(12)
    circuit = lane._dispatcher._circuit
    await until(lambda: circuit.is_open)
    first = len(sink.lists)
    for _ in range(6):
        before = len(sink.lists)
        circuit.resume(asyncio.get_running_loop().time())
        await until(lambda before=before: len(sink.lists) > before and not circuit._probing)
    assert {events[0].source for events in sink.lists[first:]} == {f"/{n}" for n in range(6)}


async def test_an_event_whose_wait_is_over_first_does_not_ask_again_and_again(rig):
    sink, answers = ScriptedSink(lambda _: DOWN), Answers()
    lane = await rig.open(sink, RetryPolicy(retry=100, delay=0.001, cap=0.001))
    lane.put([answers.delivery(make_event(n, source=f"/{n}")) for n in range(6)])
    await answers.count(6)
    circuit, queue = lane._dispatcher._circuit, lane._dispatcher._queue
    await until(lambda: circuit.is_open)
    first = len(sink.lists)
    for _ in range(6):
        await until(lambda: queue.next_due == math.inf)  # no wait for a retry is left
        before = len(sink.lists)
        circuit.resume(asyncio.get_running_loop().time())
        await until(lambda before=before: len(sink.lists) > before and not circuit._probing)
    assert {events[0].source for events in sink.lists[first:]} == {f"/{n}" for n in range(6)}


async def test_what_has_not_failed_yet_asks_before_what_has(rig):
    sink, answers = ScriptedSink(lambda _: DOWN), Answers()
    lane = await rig.open(sink, RetryPolicy(retry=100, delay=0.001, cap=0.001))
    lane.put([answers.delivery(make_event(n, source=f"/{n}")) for n in range(6)])
    await answers.count(6)
    circuit, queue = lane._dispatcher._circuit, lane._dispatcher._queue
    await until(lambda: circuit.is_open and queue.next_due == math.inf)
    fresh = [(10, "/0"), (11, "/6"), (12, "/6")]
    lane.put([answers.delivery(make_event(n, source=key)) for n, key in fresh])
    await answers.count(9)
    await until(lambda: len(queue.all()) == 9)
    before = len(sink.lists)
    circuit.resume(asyncio.get_running_loop().time())
    await until(lambda: len(sink.lists) > before and not circuit._probing)
    assert ids(sink.lists[-1]) == ["11"]


async def test_a_retry_after_holds_when_the_circuit_closes(rig):
    is_down = True
    busy = Failure(0, Outcome.RELEASED, Reason.SINK_BUSY, status=429, retry_after=60.0)

    def script(event):
        if event.id == "0":
            return busy
        return DOWN if is_down else None

    sink, answers = ScriptedSink(script), Answers()
    lane = await rig.open(sink)
    lane.put([answers.delivery(make_event(n, source=f"/{n}")) for n in range(6)])
    await answers.count(6)
    circuit = lane._dispatcher._circuit
    await until(lambda: circuit.is_open)
    is_down = False
    circuit.resume(asyncio.get_running_loop().time())
    await until(lambda: rig.spool.pending == 1)
    assert not circuit.is_open
    assert sum("0" in ids(events) for events in sink.lists) == 1


async def test_what_must_wait_is_no_probe_and_delays_none(rig):
    busy = Failure(0, Outcome.RELEASED, Reason.SINK_BUSY, status=429, retry_after=60.0)
    sink, answers = ScriptedSink(lambda event: busy if int(event.id) < 6 else None), Answers()
    lane = await rig.open(sink)
    lane.put([answers.delivery(make_event(n, source=f"/{n}")) for n in range(6)])
    await answers.count(6)
    circuit = lane._dispatcher._circuit
    await until(lambda: circuit.is_open)
    circuit.resume(asyncio.get_running_loop().time())
    await until(lambda: not circuit._probing)
    lane.put([answers.delivery(make_event(6, source="/6"))])
    await answers.count(7)
    await until(lambda: not circuit.is_open)
    assert [ids(events) for events in sink.lists] == [[str(n) for n in range(6)], ["6"]]


async def test_a_poison_event_ends_as_a_dead_letter_and_other_keys_flow(rig):
    sink = ScriptedSink(lambda event: DOWN if event.id == "0" else None)
    answers = Answers()
    lane = await rig.open(sink, RetryPolicy(retry=3, delay=0.001))
    lane.put([answers.delivery(make_event(n, source=f"/{n}")) for n in range(20)])
    await answers.count(20)
    await rig.empty()
    assert sorted(map(int, ids(sink.taken))) == list(range(1, 20))
    (letter,) = (await rig.letters.page(Filter())).letters
    assert (letter.event_id, letter.attempts) == ("0", 4)


async def test_a_record_that_holds_no_event_is_passed_over(rig):
    await rig.open(ScriptedSink(), LATER)
    await rig.close()
    spool = Spool(rig.folder / "spool", max_bytes=2**26)
    spool.open()
    stored = asyncio.Event()
    spool.append([b"?", stored_event.encode(make_event(2), "web")], lambda *_: stored.set())
    await stored.wait()
    spool.close()
    sink = ScriptedSink()
    lane = await rig.open(sink)
    await rig.empty()
    assert ids(sink.taken) == ["2"]
    assert lane.spooling.damaged == 1


async def test_a_shutdown_leaves_in_the_spool_what_is_not_under_way(rig):
    sink, answers = ScriptedSink(), Answers()
    sink.gate.clear()
    lane = await rig.open(sink, always=True)
    lane.put([answers.delivery(make_event(n)) for n in range(3)])
    await answers.count(3)
    await until(lambda: sink.lists)
    lane.put([answers.delivery(make_event(n)) for n in range(3, 6)])
    await answers.count(6)
    loop = asyncio.get_running_loop()
    lane.hurry(loop.time() + 5)
    quiet = asyncio.ensure_future(lane.quiet())
    sink.gate.set()
    await quiet
    await rig.close()
    assert ids(sink.taken) == ["0", "1", "2"]
    sink = ScriptedSink()
    await rig.open(sink)
    await rig.empty()
    assert ids(sink.taken) == ["3", "4", "5"]


async def test_a_backlog_is_fetched_at_its_rate(rig):
    answers = Answers()
    lane = await rig.open(ScriptedSink(lambda _: DOWN), LATER)
    lane.put([answers.delivery(make_event(n)) for n in range(30)])
    await answers.count(30)
    await rig.close()
    sink = ScriptedSink()
    lane = await rig.open(sink, rate=100.0)
    await rig.empty()
    assert ids(sink.taken) == [str(n) for n in range(30)]
    assert max(len(events) for events in sink.lists) <= 10


async def test_what_a_start_has_read_is_no_reason_to_read_what_is_being_stored(rig):
    answers = Answers()
    lane = await rig.open(ScriptedSink(lambda _: DOWN), LATER)
    lane.put([answers.delivery(make_event(n, source=f"/{n}")) for n in range(4)])
    await answers.count(4)
    await rig.close()
    sink = ScriptedSink()
    lane = await rig.open(sink, window=4)  # the backlog is exactly a window
    await rig.empty()
    sink.gate.clear()
    lane.put([answers.delivery(make_event(n, source=f"/{n}")) for n in range(4, 8)])
    await until(lambda: len(sink.lists) == 2)
    lane.spooling.divert("a test")
    while rig.spool.pending < 4:  # in the writer's thread, without a turn of the loop
        pass
    lane.spooling._go_on()
    sink.gate.set()
    await answers.count(8)
    await rig.empty()
    assert sorted(ids(sink.taken)) == [str(n) for n in range(8)]


async def test_events_that_break_the_sink_end_as_dead_letters_though_they_fill_the_window(rig):
    broken = Failure(0, Outcome.RELEASED, Reason.SINK_DOWN, status=500)
    sink = ScriptedSink(lambda event: broken if int(event.id) < 20 else None)
    answers = Answers()
    lane = await rig.open(sink, RetryPolicy(retry=2, delay=0.001), window=20)
    lane.put([answers.delivery(make_event(n, source=f"/{n}")) for n in range(25)])
    await answers.count(25)
    circuit = lane._dispatcher._circuit
    async with asyncio.timeout(20):
        while rig.spool.pending:
            circuit.resume(asyncio.get_running_loop().time())
            await asyncio.sleep(0)
    assert sorted(ids(sink.taken)) == ["20", "21", "22", "23", "24"]
    letters = (await rig.letters.page(Filter())).letters
    assert {(letter.attempts, letter.status) for letter in letters} == {(3, 500)}
    assert len(letters) == 20


async def test_a_key_that_fails_waits_on_disk_and_leaves_the_window_to_others(rig):
    down = [True]
    sink = ScriptedSink(lambda event: DOWN if event.source == "/stuck" and down[0] else None)
    answers = Answers()
    lane = await rig.open(
        sink, RetryPolicy(retry=1000, delay=0.001, cap=0.01), always=True, window=100
    )
    for n in range(0, 1000, 10):
        lane.put([answers.delivery(make_event(n + i, source="/stuck")) for i in range(5)])
        lane.put([answers.delivery(make_event(n + 5 + i, source=f"/{i}")) for i in range(5)])
        await answers.count(n + 10)
    await until(lambda: sum(event.source != "/stuck" for event in sink.taken) == 500)
    assert len(lane._dispatcher.unfinished()) < 100
    down[0] = False
    await rig.empty()
    stuck = [int(event.id) for event in sink.taken if event.source == "/stuck"]
    assert stuck == sorted(stuck)
    assert len(sink.taken) == 1000
