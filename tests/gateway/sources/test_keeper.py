"""What nobody could decode, with dead letters that take it, refuse it, or take their time."""

import asyncio
from functools import partial

import pytest

from bindings.binding import Message
from gateway.sources import keeper as module
from gateway.sources.keeper import Keeper, Undecodable
from gateway.spool import StoreError
from tests.helpers import RecordingIntake

FULL = StoreError("no room", full=True)


class Bench:
    def __init__(self):
        self.intake = RecordingIntake()
        self.less = 0
        self.asked = []
        self.answers = []
        self.unwanted = set()
        self.keeper = Keeper(self._less)
        self.keeper.open(self.intake)

    def _less(self):
        self.less += 1

    def keep(self, *payloads):
        for payload in payloads:
            self.keeper.keep(
                Undecodable(
                    Message(payload), "bad", "detail",
                    partial(self._ask, payload),
                    partial(self._answer, payload),
                )
            )  # fmt: skip

    def _ask(self, payload):
        if payload not in self.unwanted:
            self.asked.append(payload)
        return payload not in self.unwanted

    def _answer(self, payload, is_kept):
        self.answers.append((payload, is_kept))

    @property
    def kept(self):
        return [message.payload for message in self.intake.kept]


@pytest.fixture
async def bench(monkeypatch):
    monkeypatch.setattr(module, "FIRST_DELAY", 0.01)
    bench = Bench()
    yield bench
    bench.keeper.close()
    await bench.intake.wait_for(lambda _: True)  # its own notifications


async def test_what_is_kept_at_once_is_done(bench):
    bench.keep(b"1", b"2")
    assert bench.answers == [(b"1", True), (b"2", True)]
    assert bench.kept == [b"1", b"2"]
    assert bench.intake.rejections == [("bad", "detail")] * 2
    assert (bench.keeper.weight, bench.less) == (0, 2)


async def test_what_is_not_kept_is_handed_in_again_alone_and_then_the_others(bench):
    bench.intake.keep_error = FULL
    bench.keep(b"1", b"2", b"3")
    assert bench.asked == [b"1"]  # the others need not ask a store that is full
    await bench.intake.wait_for(lambda i: len(i.rejections) == 3)
    assert bench.asked == [b"1", b"1", b"2"]  # one each time, in turn
    assert bench.kept == []
    assert bench.keeper.weight == 3
    bench.intake.keep_error = None
    await bench.intake.wait_for(lambda i: len(i.kept) == 3)
    assert sorted(bench.kept) == [b"1", b"2", b"3"]
    assert bench.answers[3:] == [(payload, True) for payload in bench.kept]
    assert bench.keeper.weight == 0
    bench.keep(b"4")
    assert bench.kept[3:] == [b"4"]


async def test_each_failure_doubles_the_wait(bench, monkeypatch):
    delays = []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def record(delay, *args):
        delays.append(delay)
        return call_later(0, *args)

    monkeypatch.setattr(module.random, "random", lambda: 0.0)
    monkeypatch.setattr(module, "asyncio", _Loop(record))
    bench.intake.keep_error = FULL
    bench.keep(b"1")
    await bench.intake.wait_for(lambda i: len(i.rejections) == 14)
    bench.intake.keep_error = None
    await bench.intake.wait_for(lambda i: i.kept)
    bench.intake.keep_error = FULL
    bench.keep(b"2")
    assert delays[:4] == [0.01, 0.02, 0.04, 0.08]
    assert delays[12:14] == [30.0, 30.0]
    assert delays[14] == 0.01


class _Loop:
    """Stands for the module asyncio; its loop has another `call_later`."""

    def __init__(self, call_later):
        self.call_later = call_later

    def get_running_loop(self):
        return self


async def test_one_that_is_never_kept_holds_no_other_back(bench):
    bench.intake.keeping = []
    bench.keep(b"too large", b"1")
    first, second = bench.intake.keeping
    first(FULL)
    second(None)
    assert bench.answers == [(b"too large", False), (b"1", True)]
    bench.keep(b"2")
    bench.intake.keeping[2](None)
    assert bench.answers[2:] == [(b"2", True)]
    await bench.intake.wait_for(lambda i: len(i.keeping) == 4)
    assert bench.asked == [b"too large", b"1", b"2", b"too large"]


async def test_what_nobody_wants_any_more_is_not_handed_in_again(bench):
    bench.intake.keep_error = FULL
    bench.keep(b"1", b"2")
    bench.unwanted = {b"1", b"2"}
    async with asyncio.timeout(5):
        while bench.keeper.weight:
            await asyncio.sleep(0.001)
    bench.intake.keep_error = None
    bench.keep(b"3")
    assert bench.asked == [b"1", b"3"]


async def test_a_closed_one_hands_nothing_in_and_still_passes_answers_on(bench):
    bench.intake.keeping = []
    bench.keep(b"1", b"2")
    bench.keeper.close()
    bench.keep(b"3")
    bench.intake.keeping[0](FULL)
    bench.intake.keeping[1](None)
    assert bench.answers == [(b"1", False), (b"2", True)]
    assert bench.asked == [b"1", b"2"]
    assert bench.keeper.weight == 2


@pytest.mark.parametrize(("size", "weight"), [(0, 1), (65535, 1), (65536, 2), (16 * 2**20, 257)])
async def test_a_large_message_weighs_more(bench, size, weight):
    bench.intake.keeping = []
    bench.keep(bytes(size))
    assert bench.keeper.weight == weight
    bench.intake.keeping[0](None)
    assert bench.keeper.weight == 0
