"""Several requests under way on one connection, against receivers that answer well and badly."""

import asyncio
import contextlib
import json
import re
import socket
import struct

import pytest

from bindings.event import Event
from gateway.delivery import Outcome, Reason
from gateway.sinks.http import HttpSink, HttpSinkConfig
from tests.gateway.scripted_http import OK, Script, answer

CLOSING = answer(202, b"Connection: close")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


class Pipeline:
    """A server that reads requests ahead, and writes what `reply` says to those it has read.

    `reply(ids)` is called with all that is unanswered on a connection whenever some more was read;
    it returns None to read on, or bytes and whether the connection stays open.
    """

    def __init__(self, reply):
        self.reply = reply
        self.ids = []  # as they came, by connection
        self._writers = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        while self._writers:
            await asyncio.sleep(0)

    @property
    def all_ids(self):
        return [number for ids in self.ids for number in ids]

    async def _serve(self, reader, writer):
        self._writers.add(writer)
        mine, buffer, answered = [], b"", 0
        self.ids.append(mine)
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                buffer += data
                while found := re.match(rb".*?Content-Length: (\d+)\r\n\r\n", buffer, re.DOTALL):
                    end = found.end() + int(found[1])
                    if end > len(buffer):
                        break
                    mine.append(json.loads(buffer[found.end() : end])["id"])
                    buffer = buffer[end:]
                said = self.reply(mine[answered:])
                if said is not None:
                    answered = len(mine)
                    writer.write(said[0])
                    if not said[1]:
                        break
        writer.close()
        self._writers.discard(writer)


@pytest.fixture
async def start():
    running = []

    async def start(url, **config):
        config = {"pipelining": 8, "connections": 1, **config}
        sink = HttpSink(HttpSinkConfig(name="out", url=url, **config))
        await sink.open()
        running.append(sink)
        return sink

    yield start
    for sink in running:
        await sink.close()


def events(count, keys=1_000_000):
    return [Event(id=str(n), source=f"/{n % keys}", type="t") for n in range(count)]


def numbers(failures):
    return [failure.position for failure in failures]


async def test_as_many_requests_as_may_are_under_way_before_the_first_answer(start):
    async with Pipeline(lambda ids: (OK * 8, True) if len(ids) == 8 else None) as server:
        sink = await start(server.url)
        async with asyncio.timeout(10):
            assert await sink.send(events(24)) == []
        assert server.ids == [[str(n) for n in range(24)]]


@pytest.mark.parametrize("size", [1, 7, 40, 1000])
async def test_answers_belong_to_the_requests_in_their_order_however_they_are_cut(start, size):
    said = b"".join([
        OK, answer(400, body=b"no"), CHUNKED, INTERIM + OK, answer(503, b"Retry-After: 7"),
        answer(202, body=b"x" * 900), OK, answer(429),
    ])  # fmt: skip

    async def serve(reader, writer):
        await reader.readexactly(8)  # all of them come in one write
        await reader.read(65536)
        for at in range(0, len(said), size):
            writer.write(said[at : at + size])
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sink = await start(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    async with asyncio.timeout(10):
        failures = await sink.send(events(8))
    assert [(f.position, f.status, f.retry_after) for f in failures] == [
        (1, 400, None),
        (4, 503, 7.0),
        (7, 429, None),
    ]
    assert failures[0].body == b"no"
    await sink.close()
    server.close()


async def test_events_of_one_key_never_share_the_connection(start):
    script = await Script().start()
    sink = await start(script.url, pipelining=64)
    sent = events(60, keys=3)
    script.reply = lambda request: answer(503) if request.id == "5" else OK
    async with asyncio.timeout(10):
        failures = await sink.send(sent)
    # Its key waits, and nothing of it has overtaken.
    of_key = [n for n in range(60) if n % 3 == 2]
    assert numbers(failures) == [n for n in of_key if n >= 5]
    assert {f.reason for f in failures[1:]} == {Reason.HELD}
    for key in range(3):
        ids = [int(r.id) for r in script.requests if int(r.id) % 3 == key]
        assert ids == [n for n in range(60) if n % 3 == key and (key != 2 or n <= 5)]
    await script.close()


@pytest.mark.parametrize("connections", [1, 3])
@pytest.mark.parametrize("said", [CLOSING, CLOSING + OK], ids=["announced", "and goes on"])
async def test_receiver_that_closes_after_one_answer_gets_the_rest_once_more(
    start, said, connections
):
    async with Pipeline(lambda _: (said, False)) as server:
        sink = await start(server.url, connections=connections)
        async with asyncio.timeout(10):
            assert await sink.send(events(20)) == []
        ids = server.all_ids
        assert set(ids) == {str(n) for n in range(20)}
        assert max(ids.count(n) for n in ids) <= 2


async def test_receiver_that_closes_without_saying_so_gets_nothing_three_times(start):
    async with Pipeline(lambda _: (OK, False)) as server:
        sink = await start(server.url)
        async with asyncio.timeout(10):
            failures = await sink.send(events(20))
        assert len(failures) < 20
        # It may have read them or not, as with a connection that is lost at any other time.
        assert {(f.outcome, f.reason) for f in failures} <= {(Outcome.RELEASED, Reason.SINK_DOWN)}
        assert max(server.all_ids.count(n) for n in server.all_ids) <= 2


async def test_what_was_sent_once_more_has_nothing_behind_it(start):
    seen = []

    def reply(ids):
        seen.append(list(ids))
        return (CLOSING, False) if len(seen) == 1 else (OK * len(ids), True)

    async with Pipeline(reply) as server:
        sink = await start(server.url, pipelining=4)
        async with asyncio.timeout(10):
            assert await sink.send(events(6)) == []
    assert seen == [["0", "1", "2", "3"], ["1"], ["2"], ["3"], ["4", "5"]]


async def test_receiver_that_never_answers_gets_each_request_twice_and_they_are_released(start):
    async with Pipeline(lambda _: (b"", False)) as server:
        sink = await start(server.url, pipelining=3)
        async with asyncio.timeout(10):
            failures = await sink.send(events(3))
        assert numbers(failures) == [0, 1, 2]
        assert {f.outcome for f in failures} == {Outcome.RELEASED}
        assert {f.reason for f in failures} == {Reason.SINK_DOWN}
        assert sorted(server.all_ids) == ["0", "0", "1", "1", "2", "2"]


async def test_connection_that_was_idle_and_is_dead_costs_nobody_an_attempt(start):
    script = await Script().start()
    sink = await start(script.url)
    assert await sink.send(events(1)) == []
    script.drop_connections()
    async with asyncio.timeout(10):
        assert await sink.send(events(8)) == []
    await script.close()


async def test_status_that_came_stands_and_the_others_are_sent_once_more(start):
    calls = []

    def reply(ids):
        calls.append(ids)
        if len(calls) == 1:
            return OK + b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123", False
        return OK, True

    async with Pipeline(reply) as server:
        sink = await start(server.url, pipelining=4)
        async with asyncio.timeout(10):
            assert await sink.send(events(4)) == []
        assert server.ids == [["0", "1", "2", "3"], ["2", "3"]]


@pytest.mark.parametrize(
    "said",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\nContent-Le",
    ],
)
async def test_what_is_no_answer_ends_the_connection_and_the_rest_is_sent_once_more(start, said):
    calls = []

    def reply(ids):
        calls.append(ids)
        return (OK + said, False) if len(calls) == 1 else (OK, True)

    async with Pipeline(reply) as server:
        sink = await start(server.url, pipelining=4)
        async with asyncio.timeout(10):
            assert await sink.send(events(4)) == []
        assert server.ids == [["0", "1", "2", "3"], ["1", "2", "3"]]


async def test_more_answers_than_requests_cost_the_connection(start):
    async with Pipeline(lambda ids: (OK * (len(ids) + 1), True)) as server:
        sink = await start(server.url)
        for _ in range(3):
            async with asyncio.timeout(10):
                assert await sink.send(events(4)) == []
        assert len(server.ids) == 3


async def test_answer_that_nobody_waits_for_costs_the_connection(start):
    script = await Script().start()
    sink = await start(script.url)
    script.reply = lambda _: OK
    assert await sink.send(events(1)) == []
    for writer in tuple(script._writers):
        writer.write(answer(408))
        await writer.drain()
    async with asyncio.timeout(10):
        while sink._pool._connections:
            await asyncio.sleep(0)
        assert await sink.send(events(2)) == []
    await script.close()


async def test_answer_that_takes_too_long_is_a_timeout_for_all_that_waited_as_long(start):
    def reply(ids):
        return (OK, True) if len(ids) == 4 or ids == ["first"] else None

    async with Pipeline(reply) as server:
        sink = await start(server.url, pipelining=4)
        first = Event(id="first", source="/first", type="t")
        assert await sink.send([first]) == []  # connecting is no part of the short time
        failures = await sink.send(events(4), 1)
        assert len(server.ids) == 1
        assert numbers(failures) == [1, 2, 3]
        assert {(f.outcome, f.reason) for f in failures} == {(Outcome.RELEASED, Reason.TIMEOUT)}


async def test_whoever_waits_longer_is_sent_once_more_when_another_s_time_is_up(start):
    calls = []

    def reply(ids):
        calls.append(list(ids))
        return None if len(server.ids) == 1 else (OK * len(ids), True)

    async with Pipeline(reply) as server:
        sink = await start(server.url, pipelining=4)
        patient = asyncio.ensure_future(sink.send(events(2), 30))
        await asyncio.sleep(0)
        hasty = asyncio.ensure_future(sink.send([Event(id="h", source="/h", type="t")], 0.2))
        async with asyncio.timeout(10):
            (failure,) = await hasty
            assert failure.reason is Reason.TIMEOUT
            assert await patient == []


async def test_idle_connection_is_closed_after_its_time(start):
    script = await Script().start()
    sink = await start(script.url, idle_timeout=0.05)
    assert await sink.send(events(3)) == []
    async with asyncio.timeout(10):
        while sink._pool._connections:
            await asyncio.sleep(0.01)
    assert await sink.send(events(3)) == []
    await script.close()


async def test_closing_the_sink_releases_what_is_under_way(start):
    async with Pipeline(lambda _: None) as server:
        sink = await start(server.url)
        sending = asyncio.ensure_future(sink.send(events(5)))
        async with asyncio.timeout(10):
            while len(server.all_ids) < 5:
                await asyncio.sleep(0)
            await sink.close()
            failures = await sending
        assert numbers(failures) == [0, 1, 2, 3, 4]
        assert {f.outcome for f in failures} == {Outcome.RELEASED}


async def test_another_connection_is_opened_where_one_is_not_enough(start):
    async with Pipeline(lambda ids: (OK * 2, True) if len(ids) == 2 else None) as server:
        sink = await start(server.url, pipelining=2, connections=4)
        async with asyncio.timeout(10):
            assert await sink.send(events(200)) == []
        assert 1 < len(server.ids) <= 4


def test_pipelining_is_a_thing_of_http_1():
    with pytest.raises(ValueError, match="pipelining"):
        HttpSinkConfig(url="http://h/", pipelining=2, http_version="2")


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize("linger", [None, struct.pack("ii", 1, 0)], ids=["close", "reset"])
async def test_receiver_that_closes_what_it_accepts_fails_everything(start, linger, connections):
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    accepted = []

    def accept():
        peer, _ = listener.accept()
        accepted.append(peer)
        if linger is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        peer.close()

    loop = asyncio.get_running_loop()
    loop.add_reader(listener.fileno(), accept)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    sink = await start(url, connections=connections)
    async with asyncio.timeout(20):
        failures = await sink.send(events(20))
    assert numbers(failures) == list(range(20))
    assert {f.outcome for f in failures} == {Outcome.RELEASED}
    assert len(accepted) < 100
    loop.remove_reader(listener.fileno())
    listener.close()


async def test_what_has_to_be_sent_once_more_is_not_overtaken_for_ever(start):
    came, dying = [], []  # ids in order; ids that came on the second connection
    writers = []

    async def serve(reader, writer):
        writers.append(writer)
        mine, buffer, answered, number = 0, b"", 0, len(writers)
        with contextlib.suppress(OSError):
            while True:
                try:
                    async with asyncio.timeout(1):
                        data = await reader.read(65536)
                except TimeoutError:  # nothing more comes: the last answer, too
                    if dying:
                        writer.write(OK * (mine - max(answered, 2)))
                        answered = mine
                    continue
                ids = [int(found) for found in re.findall(rb'"id":"(\d+)"', buffer + data)]
                buffer = b"" if data.endswith(b"}") else buffer + data
                if not data:
                    break
                if number == 2:
                    server.close()  # no third one
                    dying.extend(ids)
                    writers[0].write(OK * 2)
                    break
                assert not buffer
                came.extend(ids)
                mine += len(ids)
                if dying:  # one answer behind all the time
                    answered = max(answered, 2)
                    writer.write(OK * (mine - 1 - answered))
                    answered = mine - 1
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    sink = await start(url, pipelining=3, connections=2)
    async with asyncio.timeout(60):
        assert await sink.send(events(400)) == []
    assert dying
    assert all(came.index(number) < 200 for number in dying)
    await sink.close()
    for writer in writers:
        writer.transport.abort()
