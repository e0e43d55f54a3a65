"""The HTTP sink tells what the receiver has while it waits for the rest."""

import asyncio

import pytest

from gateway.sinks.http import HttpSink, HttpSinkConfig
from tests.gateway.scripted_http import OK, Script, answer
from tests.helpers import make_event


class Reports(list):
    def __init__(self):
        super().__init__()
        self._changed = asyncio.Event()

    def __call__(self, positions):
        self.extend(positions)
        self._changed.set()

    async def wait_for(self, count):
        async with asyncio.timeout(10):
            while len(self) < count:
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
async def server():
    script = await Script().start()
    yield script
    await script.close()


@pytest.fixture
async def sink(server):
    sink = HttpSink(HttpSinkConfig(name="out", url=server.url, connections=4))
    await sink.open()
    yield sink
    await sink.close()


async def test_what_the_receiver_has_is_told_while_one_event_stalls(server, sink):
    go_on = asyncio.Event()

    async def reply(request):
        if request.id == "2":
            await go_on.wait()
            return answer(503)
        return answer(400) if request.id == "4" else OK

    server.reply = reply
    reports = Reports()
    events = [make_event(number, source=f"/{number}") for number in range(6)]
    sending = asyncio.ensure_future(sink.send_reporting(events, None, reports))
    await reports.wait_for(4)
    assert sorted(reports) == [0, 1, 3, 5]
    assert not sending.done()
    go_on.set()
    assert [failure.position for failure in await sending] == [2, 4]
    assert len(reports) == 4


async def test_events_of_one_key_are_told_as_they_get_there(server, sink):
    go_on = asyncio.Event()

    async def reply(request):
        if request.id == "2":
            await go_on.wait()
        return OK

    server.reply = reply
    reports = Reports()
    events = [make_event(number, source="/same") for number in range(3)]
    sending = asyncio.ensure_future(sink.send_reporting(events, None, reports))
    await reports.wait_for(2)
    assert reports == [0, 1]
    go_on.set()
    assert await sending == []
    assert reports == [0, 1]


async def test_who_was_cancelled_is_told_nothing_more(server, sink):
    server.reply = lambda _: (b"", "stall")
    reports = Reports()
    events = [make_event(number, source=f"/{number}") for number in range(2)]
    sending = asyncio.ensure_future(sink.send_reporting(events, None, reports))
    await server.wait_for(2)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert reports == []
