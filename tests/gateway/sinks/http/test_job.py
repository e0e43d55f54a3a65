"""The HTTP sink tells what the receiver has while it waits for the rest."""

import asyncio
import json

import msgspec
import pytest

from gateway.delivery import Reason
from gateway.sinks.http import HttpSink, HttpSinkConfig
from gateway.sinks.http.connection import Answer
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


def hold_answers(server):
    """Let the server answer when the event that is returned is set."""
    go_on = asyncio.Event()

    async def reply(_):
        await go_on.wait()
        return OK

    server.reply = reply
    return go_on


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
    ended = asyncio.get_running_loop().create_future()
    sink.start_sending(events, None, ended.set_result, reports)
    await reports.wait_for(4)
    assert sorted(reports) == [0, 1, 3, 5]
    assert not ended.done()
    go_on.set()
    assert [failure.position for failure in await ended] == [2, 4]
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
    ended = asyncio.get_running_loop().create_future()
    sink.start_sending(events, None, ended.set_result, reports)
    await reports.wait_for(2)
    assert reports == [0, 1]
    go_on.set()
    assert await ended == []
    assert reports == [0, 1]


async def test_who_was_cancelled_is_told_nothing_more(server, sink):
    server.reply = lambda _: (b"", "stall")
    reports = Reports()
    events = [make_event(number, source=f"/{number}") for number in range(2)]
    ended = []
    sending = sink.start_sending(events, None, ended.append, reports)
    await server.wait_for(2)
    sending.cancel()
    await sink.close()  # what was under way fails
    assert reports == []
    assert ended == []


async def test_a_list_that_follows_from_an_answer_goes_on_the_connection_that_brought_it(
    server, sink
):
    told, done = [], asyncio.Event()

    def begin(number):
        event = make_event(number, source="/same")
        sink.start_sending([event], None, lambda failures: end(number, failures), told.append)

    def end(number, failures):
        told.append((number, failures))
        if number < 5:
            begin(number + 1)
        else:
            done.set()

    begin(0)
    async with asyncio.timeout(10):
        await done.wait()
    assert told == [(number, []) for number in range(6)]
    assert [request.id for request in server.requests] == list("012345")
    assert server.connections == 1


async def test_lists_that_follow_from_an_answer_use_all_connections(server, sink):
    failures, done = [], asyncio.Event()
    all_there = asyncio.Barrier(4)

    async def reply(request):
        if request.id != "0":
            await all_there.wait()
        return OK

    server.reply = reply

    def begin_more(_):
        for number in range(1, 5):
            event = make_event(number, source=f"/{number}")
            sink.start_sending([event], None, end, lambda _: None)

    def end(those):
        failures.append(those)
        if len(failures) == 4:
            done.set()

    sink.start_sending([make_event(0)], None, begin_more, lambda _: None)
    async with asyncio.timeout(10):
        await done.wait()
    assert failures == [[], [], [], []]
    assert server.connections == 4


async def test_of_a_list_that_was_cut_off_nobody_is_told_and_nothing_more_is_sent(server, sink):
    go_on = hold_answers(server)
    told = []
    same_key = [make_event(number, source="/same") for number in range(3)]
    sending = sink.start_sending(same_key, None, told.append, told.append)
    await server.wait_for(1)
    sending.cancel()
    go_on.set()
    assert await sink.send([make_event(9)]) == []
    assert told == []
    assert sorted(request.id for request in server.requests) == ["0", "9"]


async def test_of_a_call_that_was_cancelled_nothing_more_is_sent(server, sink):
    go_on = hold_answers(server)
    same_key = [make_event(number, source="/same") for number in range(3)]
    sending = asyncio.ensure_future(sink.send(same_key))
    await server.wait_for(1)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    go_on.set()
    assert await sink.send([make_event(9)]) == []
    assert sorted(request.id for request in server.requests) == ["0", "9"]


async def test_who_is_cancelled_in_the_turn_of_the_end_is_not_told(server):
    server.reply = lambda _: (b"", "stall")
    sink = HttpSink(HttpSinkConfig(name="out", url=server.url, connections=1))
    await sink.open()
    stalled = asyncio.ensure_future(sink.send([make_event(0)]))
    await server.wait_for(1)
    waiting = asyncio.ensure_future(sink.send([make_event(1)]))
    await asyncio.sleep(0)
    waiting.cancel()
    sink.fail(Answer(None, error="nobody there"))
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await sink.close()
    assert [failure.position for failure in await stalled] == [0]


def unsendable(number, source):
    event = make_event(number, source=source)
    msgspec.structs.force_setattr(event, "subject", "\ud800")  # as a bug elsewhere might
    return event


@pytest.mark.parametrize("options", [{"mode": "structured"}, {"batch": True}])
async def test_an_event_that_cannot_be_encoded_fails_and_no_other(server, options, caplog):
    sink = HttpSink(HttpSinkConfig(name="out", url=server.url, connections=1, **options))
    await sink.open()
    go_on = hold_answers(server)
    loop = asyncio.get_running_loop()
    first, broken, last = loop.create_future(), loop.create_future(), loop.create_future()
    mixed = [
        make_event(1, source="/good"),
        unsendable(2, "/bad"),
        make_event(3, source="/bad"),
        make_event(4, source="/good"),
    ]

    def begin_last(failures):
        broken.set_result(failures)
        sink.start_sending([make_event(9)], None, last.set_result, lambda _: None)

    sink.start_sending([make_event(0)], None, first.set_result, lambda _: None)
    sink.start_sending(mixed, None, begin_last, lambda _: None)
    await server.wait_for(1)
    go_on.set()
    async with asyncio.timeout(10):
        failures = await broken
        assert (await first, await last) == ([], [])
    await sink.close()
    assert [(failure.position, failure.reason) for failure in failures] == [
        (1, Reason.SINK_DOWN),
        (2, Reason.HELD),
    ]
    assert sorted(event["id"] for event in received_by(server)) == ["0", "1", "4", "9"]
    assert "can't be encoded" in caplog.text


def received_by(server):
    for request in server.requests:
        body = json.loads(request.body)
        yield from body if isinstance(body, list) else [body]


async def test_a_sink_that_closes_while_it_connects_again_ends_every_list(server):
    server.reply = lambda request: OK if request.id == "0" else (b"", "close")
    sink = HttpSink(HttpSinkConfig(name="out", url=server.url, connections=1))
    await sink.open()
    assert await sink.send([make_event(0)]) == []
    told, later = asyncio.get_running_loop().create_future(), []

    def end(failures):
        told.set_result(failures)
        sink.start_sending([make_event(2)], None, later.append, lambda _: None)

    sink.start_sending([make_event(1)], None, end, lambda _: None)
    async with asyncio.timeout(10):
        while not sink._pool._connecting:
            await asyncio.sleep(0)
        await sink.close()
        failures = await told
    assert [failure.detail for failure in failures] == ["the sink was closed"]
    assert [failure.detail for failures in later for failure in failures] == ["the sink was closed"]


@pytest.mark.parametrize("turns", range(12))
async def test_a_sink_that_closes_while_it_connects_ends(server, turns):
    """The connection may stand though the task that made it has been cancelled."""
    sink = HttpSink(HttpSinkConfig(name="out", url=server.url))
    await sink.open()
    sending = sink.start_sending([make_event(1)], None, lambda _: None, lambda _: None)
    for _ in range(turns):
        await asyncio.sleep(0)
    sending.cancel()
    async with asyncio.timeout(10):
        await sink.close()
