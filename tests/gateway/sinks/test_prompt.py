"""Waiting for a sink that tells of the end of a list by itself."""

import asyncio

import pytest

from gateway.delivery import Failure, Outcome, Reason
from gateway.sinks import prompt
from tests.helpers import make_event

FAILURES = [Failure(0, Outcome.RELEASED, Reason.SINK_DOWN)]


class Sink:
    def __init__(self):
        self.is_cut_off = False

    def start_sending(self, events, timeout, on_ended, on_accepted):
        self.given = (events, timeout, on_accepted)
        self.on_ended = on_ended
        return self

    def cancel(self):
        self.is_cut_off = True


@pytest.fixture
async def sending():
    sink = Sink()
    sink.task = asyncio.ensure_future(prompt.send(sink, [make_event()], 2.5))
    await asyncio.sleep(0)
    return sink


async def test_what_the_sink_tells_of_the_end_is_returned(sending):
    assert sending.given == ([make_event()], 2.5, None)
    assert not sending.task.done()
    sending.on_ended(FAILURES)
    assert await sending.task == FAILURES
    assert not sending.is_cut_off


async def test_who_is_cancelled_cuts_the_list_off(sending):
    sending.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending.task
    assert sending.is_cut_off


async def test_an_end_in_the_turn_of_the_cancellation_is_nobodys(sending):
    sending.task.cancel()
    sending.on_ended(FAILURES)
    with pytest.raises(asyncio.CancelledError):
        await sending.task
