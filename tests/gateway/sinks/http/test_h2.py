"""The HTTP sink over HTTP/2, against a server made of the `h2` package."""

import asyncio
import json

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from bindings.event import Event
from gateway.delivery import Outcome, Reason
from gateway.sinks.http import HttpSink, HttpSinkConfig
from tests.gateway.scripted_http import Script
from tests.gateway.scripted_http2 import Http2Script


@pytest.fixture
async def server():
    script = await Http2Script().start()
    yield script
    await script.close()


@pytest.fixture
async def start():
    running = []

    async def start(url, **config):
        config.setdefault("http_version", "2")
        config.setdefault("connections", 1)
        sink = HttpSink(HttpSinkConfig(name="out", url=getattr(url, "url", url), **config))
        await sink.open()
        running.append(sink)
        return sink

    yield start
    for sink in running:
        await sink.close()


def event(number, source=None, **attributes):
    attributes.setdefault("data", b'{"a":1}')
    attributes.setdefault("datacontenttype", "application/json")
    return Event(id=str(number), source=source or f"/{number}", type="t", **attributes)


def events(count, **attributes):
    return [event(number, **attributes) for number in range(count)]


def outcomes(failures):
    return [(each.position, each.outcome, each.reason) for each in failures]


def pass_time(connection, seconds):
    """Have a connection of the sink act as if everything had happened that much earlier."""
    connection._heard -= seconds
    connection._pinged -= seconds
    for stream in connection._client.streams.values():
        stream.context.deadline -= seconds
    connection.expire()


async def test_structured_request_has_these_fields_and_this_body(server, start):
    sink = await start(server, headers={"X-Tenant": "a b", "Keep-Alive": "5"}, token="s3cret")
    assert await sink.send([event(1, "/s", time="2024-01-01T00:00:00Z")]) == []
    (request,) = server.requests
    agent = request.fields["user-agent"]
    assert agent.startswith("cloudevents-gateway/0.")
    assert request.headers == [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/path?query=1"),
        (":authority", f"127.0.0.1:{server.port}"),
        ("user-agent", agent),
        ("x-tenant", "a b"),
        ("authorization", "Bearer s3cret"),
        ("content-type", "application/cloudevents+json"),
        ("content-length", str(len(request.body))),
    ]
    assert json.loads(request.body)["time"] == "2024-01-01T00:00:00Z"


async def test_binary_request_carries_data_and_percent_encoded_headers(server, start):
    sink = await start(server, mode="binary")
    sent = event(1, "/s", subject="Euro €" * 40, data=b"\x00\xff", datacontenttype="image/png")
    assert await sink.send([sent]) == []
    (request,) = server.requests
    assert request.body == b"\x00\xff"
    assert request.headers[5:] == [
        ("content-type", "image/png"),
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("ce-subject", "Euro%20%E2%82%AC" * 40),
        ("content-length", "2"),
    ]


async def test_hundred_requests_are_under_way_on_one_connection(server, start):
    sink = await start(server)
    waiting = []
    server.on_request = waiting.append
    sending = asyncio.ensure_future(sink.send(events(150)))
    await server.until(lambda: len(waiting) == 100)
    for request in tuple(waiting):
        request.answer()
    await server.until(lambda: len(waiting) == 150)
    for request in waiting[100:]:
        request.answer()
    assert await sending == []
    assert len(server.connections) == 1
    assert sorted(server.ids(), key=int) == [str(number) for number in range(150)]


async def test_another_connection_is_added_when_all_are_full_and_slow(server, start):
    sink = await start(server, connections=3)
    server.settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 2}
    waiting = []
    server.on_request = waiting.append
    sending = asyncio.ensure_future(sink.send(events(7)))
    await server.until(lambda: len(waiting) == 6)
    assert len(server.connections) == 3
    server.on_request = lambda request: request.answer()
    for request in waiting:
        request.answer()
    assert await sending == []


async def test_server_that_allows_one_stream_gets_one_at_a_time(server, start):
    server.settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}
    sink = await start(server)
    assert await sink.send(events(20)) == []  # `h2` would refuse a second one
    assert len(server.requests) == 20
    assert len(server.connections) == 1


async def test_events_of_one_key_go_one_after_the_other(server, start):
    sink = await start(server)
    under_way, most = set(), []

    def on_request(request):
        under_way.add(request)
        most.append(len(under_way))
        asyncio.get_running_loop().call_soon(finish, request)

    def finish(request):
        under_way.discard(request)
        request.answer()

    server.on_request = on_request
    assert await sink.send(events(20, source="/same")) == []
    assert server.ids() == [str(number) for number in range(20)]
    assert max(most) == 1


async def test_answers_mean_what_they_mean_over_http1(server, start):
    sink = await start(server)
    answers = {
        "0": (200, (), b"kept?"),
        "1": (429, [("retry-after", "7")], b""),
        "2": (503, [("retry-after", "2"), ("retry-after", "x")], b"busy"),
        "3": (400, (), b"why" * 1000),
        "4": (404, (), b""),
    }
    server.on_request = lambda request: request.answer(*answers[request.id])
    busy, down, refused, missing = await sink.send(events(5))
    assert (busy.outcome, busy.reason, busy.status) == (Outcome.RELEASED, Reason.SINK_BUSY, 429)
    assert busy.retry_after == 7
    assert (down.outcome, down.reason, down.retry_after) == (
        Outcome.RELEASED,
        Reason.SINK_DOWN,
        None,  # "2, x" is no Retry-After
    )
    assert down.body == b"busy"
    assert (refused.outcome, refused.status) == (Outcome.REJECTED, 400)
    assert refused.body == (b"why" * 1000)[:768]
    assert missing.detail == "404 Not Found"


async def test_informational_answers_and_trailers_are_passed_over(server, start):
    sink = await start(server)

    def on_request(request):
        h2, stream_id = request.connection.h2, request.stream_id
        h2.send_headers(stream_id, [(":status", "103"), ("link", "</a>")])
        h2.send_headers(stream_id, [(":status", "500")])
        h2.send_data(stream_id, b"oh", pad_length=40)
        h2.send_headers(stream_id, [("retry-after", "9")], end_stream=True)
        request.connection.flush()

    server.on_request = on_request
    (failure,) = await sink.send([event(1)])
    assert (failure.status, failure.body, failure.retry_after) == (500, b"oh", None)


async def test_body_larger_than_all_windows_arrives_whole(server, start):
    sink = await start(server)
    data = json.dumps("x" * 1_000_000).encode()
    assert await sink.send([event(1, data=data), event(2)]) == []
    large, small = sorted(server.requests, key=lambda request: request.id)
    assert json.loads(large.body)["data"] == "x" * 1_000_000
    assert json.loads(small.body)["data"] == {"a": 1}


async def test_window_of_zero_is_waited_for(server, start):
    server.settings = {SettingCodes.INITIAL_WINDOW_SIZE: 0}
    sink = await start(server)
    sending = asyncio.ensure_future(sink.send(events(3)))
    await server.until(lambda: server.connections and len(server.connections[0].open) == 3)
    (connection,) = server.connections
    assert [request.body for request in connection.open.values()] == [b"", b"", b""]
    connection.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
    connection.flush()
    await server.until(lambda: all(len(each.body) == 10 for each in connection.open.values()))
    for stream_id in connection.open:
        connection.h2.increment_flow_control_window(100_000, stream_id)
    connection.flush()
    assert await sending == []
    assert sorted(server.ids()) == ["0", "1", "2"]


async def test_answer_before_the_end_of_the_body_stands_and_the_rest_is_not_sent(server, start):
    server.opens_windows = False
    sink = await start(server)
    sending = asyncio.ensure_future(sink.send([event(1, data=json.dumps("x" * 100_000).encode())]))
    await server.until(lambda: server.connections and 1 in server.connections[0].open)
    (connection,) = server.connections
    connection.answer(1, 413)
    (failure,) = await sending
    assert failure.status == 413
    await server.until(lambda: connection.resets == [(1, ErrorCodes.CANCEL)])


async def test_long_answer_is_not_read_to_its_end(server, start):
    sink = await start(server)

    def on_request(request):
        if request.id == "1":
            h2, stream_id = request.connection.h2, request.stream_id
            h2.send_headers(stream_id, [(":status", "500")])
            while h2.local_flow_control_window(stream_id) > 0:
                h2.send_data(stream_id, b"y" * min(16384, h2.local_flow_control_window(stream_id)))
            request.connection.flush()
        else:
            request.answer()

    server.on_request = on_request
    (failure,) = await sink.send(events(3))
    assert (failure.status, failure.body) == (500, b"y" * 768)
    (connection,) = server.connections
    await server.until(lambda: len(connection.resets) == 1)
    assert connection.resets[0][1] == ErrorCodes.CANCEL


async def test_connection_goes_on_after_megabytes_of_answers(server, start):
    sink = await start(server)
    server.on_request = lambda request: request.answer(200, (), b"z" * 20_000)
    for _ in range(5):
        assert await sink.send(events(100)) == []  # 10 MB; our window is 4
    assert len(server.connections) == 1


async def test_reset_stream_fails_and_its_neighbours_do_not(server, start):
    sink = await start(server)

    def on_request(request):
        if request.id == "1":
            request.reset()
        else:
            request.answer()

    server.on_request = on_request
    (failure,) = await sink.send(events(3))
    assert outcomes([failure]) == [(1, Outcome.RELEASED, Reason.SINK_DOWN)]
    assert failure.detail == "the stream was reset: INTERNAL_ERROR"
    assert len(server.requests) == 3


async def test_refused_stream_is_repeated_once_at_once(server, start):
    sink = await start(server)

    def on_request(request):
        refused = server.ids().count(request.id) == 1 or request.id == "2"
        if refused and request.id != "0":
            request.reset(ErrorCodes.REFUSED_STREAM)
        else:
            request.answer()

    server.on_request = on_request
    (failure,) = await sink.send(events(3))
    assert outcomes([failure]) == [(2, Outcome.RELEASED, Reason.SINK_DOWN)]
    assert failure.detail == "the stream was reset: REFUSED_STREAM"
    assert sorted(server.ids()) == ["0", "1", "1", "2", "2"]
    assert len(server.connections) == 1


async def test_what_is_above_the_last_stream_of_goaway_goes_again_and_the_rest_goes_on(
    server, start
):
    sink = await start(server)
    waiting = []
    server.on_request = waiting.append
    sending = asyncio.ensure_future(sink.send(events(6)))
    await server.until(lambda: len(waiting) == 6)
    (old,) = server.connections
    old.goaway(waiting[2].stream_id)
    await server.until(lambda: len(waiting) == 9)
    new = server.connections[1]
    assert [request.connection for request in waiting] == [old] * 6 + [new] * 3
    assert [request.id for request in waiting[6:]] == [request.id for request in waiting[3:6]]
    for request in waiting[:3] + waiting[6:]:
        request.answer()
    assert await sending == []
    await server.until(lambda: old.lost)
    assert not new.lost


async def test_streams_that_goaway_leaves_open_are_unknown_when_the_connection_is_lost(
    server, start
):
    sink = await start(server)
    waiting = []
    server.on_request = waiting.append
    sending = asyncio.ensure_future(sink.send(events(4)))
    await server.until(lambda: len(waiting) == 4)
    (old,) = server.connections
    old.goaway(waiting[1].stream_id, ErrorCodes.ENHANCE_YOUR_CALM)
    old.transport.close()
    await server.until(lambda: len(waiting) == 6)
    for request in waiting[4:]:
        request.answer()
    failures = await sending
    assert outcomes(failures) == [
        (0, Outcome.RELEASED, Reason.SINK_DOWN),
        (1, Outcome.RELEASED, Reason.SINK_DOWN),
    ]
    assert failures[0].detail == "connection lost: GOAWAY ENHANCE_YOUR_CALM"


async def test_server_that_only_says_goaway_is_not_asked_for_ever(server, start):
    sink = await start(server)
    server.on_request = lambda request: request.connection.goaway(0)
    failures = await sink.send(events(3))
    assert outcomes(failures) == [
        (position, Outcome.RELEASED, Reason.SINK_DOWN) for position in range(3)
    ]
    assert len(server.requests) <= 6


async def test_stalled_stream_times_out_and_its_neighbours_do_not(server, start):
    sink = await start(server, timeout=100)
    server.on_request = lambda request: request.id == "0" and request.answer()
    stalled = asyncio.ensure_future(sink.send([event(1)]))
    await server.until(lambda: server.requests)
    neighbour = asyncio.ensure_future(sink.send([event(2)], 1000))
    await server.until(lambda: len(server.requests) == 2)
    assert await sink.send(events(1)) == []
    assert not stalled.done()
    pass_time(*sink._pool._connections, 100)
    async with asyncio.timeout(20):
        (failure,) = await stalled
    assert outcomes([failure]) == [(0, Outcome.RELEASED, Reason.TIMEOUT)]
    (connection,) = server.connections
    await server.until(lambda: connection.resets == [(1, ErrorCodes.CANCEL)])
    server.requests[1].answer()
    assert await neighbour == []
    server.on_request = lambda request: request.answer()
    assert await sink.send([event(2)]) == []
    assert len(server.connections) == 1


async def test_connection_whose_ping_is_answered_outlives_a_timeout(server, start):
    sink = await start(server, timeout=3)
    server.on_request = lambda _: None
    (failure,) = await sink.send([event(1)])
    assert failure.reason is Reason.TIMEOUT
    (connection,) = server.connections
    await server.until(lambda: connection.resets)
    assert connection.pings == 1
    server.on_request = lambda request: request.answer()
    assert await sink.send([event(2)]) == []
    assert len(server.connections) == 1


async def test_connection_that_answers_no_ping_is_given_up(server, start):
    sink = await start(server, timeout=100)
    assert await sink.send([event(0)]) == []

    def fall_silent(request):
        request.connection.answers_pings = False

    server.on_request = fall_silent
    sending = asyncio.ensure_future(sink.send(events(3)))
    await server.until(lambda: len(server.requests) == 4)
    (connection,) = sink._pool._connections
    pass_time(connection, 60)
    (silent,) = server.connections
    await server.until(lambda: silent.pings == 1)
    assert not sending.done()
    pass_time(connection, 60)
    async with asyncio.timeout(10):
        failures = await sending
    assert [failure.reason for failure in failures] == [Reason.TIMEOUT] * 3
    await server.until(lambda: silent.lost)
    server.on_request = lambda request: request.answer()
    assert await sink.send([event(4)]) == []
    assert len(server.connections) == 2


async def test_connection_whose_window_stays_shut_gets_nothing_more_after_a_timeout(server, start):
    server.opens_windows = False
    sink = await start(server, timeout=100)
    large = event(1, data=json.dumps("x" * 100_000).encode())
    sending = asyncio.ensure_future(sink.send([large]))
    await server.until(lambda: server.connections and server.connections[0].open)
    pass_time(*sink._pool._connections, 100)
    async with asyncio.timeout(20):
        (failure,) = await sending
    assert failure.reason is Reason.TIMEOUT
    server.opens_windows = True
    assert await sink.send([event(2)]) == []
    assert len(server.connections) == 2


async def test_what_goaway_turned_away_fails_when_there_is_no_other_connection(server, start):
    sink = await start(server)
    waiting = []
    server.on_request = waiting.append
    sending = asyncio.ensure_future(sink.send(events(3)))
    await server.until(lambda: len(waiting) == 3)
    server.stop_listening()
    server.connections[0].goaway(waiting[0].stream_id)
    waiting[0].answer()
    failures = await sending
    assert [each.position for each in failures] == [1, 2]
    assert all(each.detail.startswith("no connection: ") for each in failures)


async def test_what_was_turned_away_is_not_sent_again_after_its_time(server, start):
    sink = await start(server, timeout=100)
    waiting = []
    server.on_request = waiting.append
    sending = asyncio.ensure_future(sink.send(events(2)))
    await server.until(lambda: len(waiting) == 2)
    server.settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}
    server.connections[0].goaway(0)  # one of them finds room on the next connection, and stalls
    await server.until(lambda: len(waiting) == 3)
    (other,) = sink._pool._again
    other.deadline -= 100
    (connection,) = sink._pool._shared
    pass_time(connection, 100)
    async with asyncio.timeout(10):
        failures = await sending
    assert [failure.reason for failure in failures] == [Reason.TIMEOUT] * 2
    await server.until(lambda: server.connections[1].resets)
    assert len(waiting) == 3


async def test_lost_connection_fails_what_is_under_way(server, start):
    sink = await start(server)
    assert await sink.send([event(0)]) == []
    waiting = []
    server.on_request = waiting.append
    sending = asyncio.ensure_future(sink.send(events(3)))
    await server.until(lambda: len(waiting) == 3)
    (connection,) = server.connections
    connection.raw(4, 0, 0)  # a sign of life: it has read something
    waiting[1].answer()
    connection.transport.close()
    failures = await sending
    assert [each.position for each in failures] == [0, 2]
    assert all(each.detail.startswith("connection lost: ") for each in failures)


async def test_requests_on_an_idle_connection_that_dies_are_repeated_once(server, start):
    sink = await start(server)
    assert await sink.send([event(0)]) == []
    server.on_request = lambda request: request.connection.transport.abort()
    failures = await sink.send(events(3))
    assert all(each.detail.startswith("connection lost: ") for each in failures)
    assert len(failures) == 3
    assert len(server.connections) == 2
    server.on_request = lambda request: request.answer()
    assert await sink.send(events(3)) == []


async def test_status_stands_when_the_rest_of_the_answer_never_comes(server, start):
    sink = await start(server)

    def on_request(request):
        request.connection.h2.send_headers(request.stream_id, [(":status", "201")])
        request.connection.flush()
        request.connection.transport.close()

    server.on_request = on_request
    assert await sink.send([event(1)]) == []


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ((0, 0, 99, b"x"), ErrorCodes.PROTOCOL_ERROR),  # DATA of a stream that never was
        ((5, 4, 1, b"\0\0\0\2\x88"), ErrorCodes.PROTOCOL_ERROR),  # PUSH_PROMISE
        ((4, 0, 0, b"12345"), ErrorCodes.FRAME_SIZE_ERROR),  # SETTINGS
        ((8, 0, 0, b"\0\0\0\0"), ErrorCodes.PROTOCOL_ERROR),  # WINDOW_UPDATE
        ((8, 0, 0, b"\x7f\xff\xff\xff"), ErrorCodes.FLOW_CONTROL_ERROR),
        ((1, 5, 1, b"\xff\xff\xff\xff\xff\xff"), ErrorCodes.COMPRESSION_ERROR),
        ((6, 0, 0, b"x" * 16385), ErrorCodes.FRAME_SIZE_ERROR),
    ],
)
async def test_bad_frame_ends_the_connection_with_its_code_and_one_log_line(
    server, start, caplog, frame, code
):
    sink = await start(server)
    server.on_request = lambda request: request.connection.raw(*frame)
    failures = await sink.send(events(3))
    assert outcomes(failures) == [
        (position, Outcome.RELEASED, Reason.SINK_DOWN) for position in range(3)
    ]
    assert code.name in failures[0].detail
    (connection,) = server.connections
    await server.until(lambda: connection.lost)
    assert connection.goaways == [code]
    assert len(caplog.records) == 1
    server.on_request = lambda request: request.answer()
    assert await sink.send(events(3)) == []


@pytest.mark.parametrize("kind", [6, 4])
async def test_flood_of_pings_or_settings_ends_the_connection(server, start, kind):
    sink = await start(server)

    def flood(request):
        for _ in range(1100):
            request.connection.raw(kind, 0, 0, b"12345678" if kind == 6 else b"")

    server.on_request = flood
    (failure,) = await sink.send([event(1)])
    assert "ENHANCE_YOUR_CALM" in failure.detail


async def test_server_of_http1_fails_with_a_reason_and_gets_no_event(start):
    server = await Script().start()
    try:
        sink = await start(server)
        (failure,) = await sink.send([event(1)])
        assert failure.outcome is Outcome.RELEASED
        assert server.requests == []
    finally:
        await server.close()


async def test_server_that_never_speaks_is_given_up_in_time(server, start):
    server.speaks = False
    sink = await start(server, timeout=0.2)
    (failure,) = await sink.send([event(1)])
    assert (failure.reason, failure.detail) == (Reason.TIMEOUT, "no connection in time")
    await server.until(lambda: all(connection.lost for connection in server.connections))


async def test_server_that_allows_no_stream_fails_at_once(server, start):
    server.settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 0}
    sink = await start(server)
    (failure,) = await sink.send([event(1)])
    assert failure.detail == "no connection: the sink allows no streams"


async def test_idle_connection_is_closed_with_a_goodbye(server, start):
    sink = await start(server, idle_timeout=0.1)
    assert await sink.send([event(1)]) == []
    (connection,) = server.connections
    await server.until(lambda: connection.lost)
    assert connection.goaways == [ErrorCodes.NO_ERROR]
    assert await sink.send([event(2)]) == []
    assert len(server.connections) == 2


async def test_closing_the_sink_fails_what_is_under_way(server, start):
    sink = await start(server)
    server.on_request = lambda _: None
    sending = asyncio.ensure_future(sink.send(events(3)))
    await server.until(lambda: len(server.requests) == 3)
    await sink.close()
    assert [failure.outcome for failure in await sending] == [Outcome.RELEASED] * 3


async def test_server_that_comes_back_after_a_restart_gets_everything(server, start):
    sink = await start(server)
    assert await sink.send(events(10)) == []
    await server.close()
    assert len(await sink.send(events(3))) == 3
    again = await Http2Script().start(port=server.port)
    try:
        assert await sink.send(events(10)) == []
        assert len(again.requests) == 10
    finally:
        await again.close()


async def test_full_connection_whose_window_stays_shut_gets_nothing_more_either(server, start):
    server.opens_windows = False
    sink = await start(server, timeout=100)
    large = event("large", data=json.dumps("x" * 100_000).encode())
    sending = asyncio.ensure_future(sink.send([large]))
    await server.until(lambda: server.connections and server.connections[0].open)
    # They wait for the window, too, and fill the connection, so that the last one waits for room.
    others = asyncio.ensure_future(sink.send(events(100), 1000))
    (connection,) = server.connections
    await server.until(lambda: len(connection.open) == 100)
    pass_time(*sink._pool._connections, 100)
    async with asyncio.timeout(20):
        (failure,) = await sending
    assert failure.reason is Reason.TIMEOUT
    await server.until(lambda: connection.resets)
    await sink.close()
    assert len(await others) == 100
    assert len(connection.open) == 100


async def test_connection_that_is_closed_but_not_read_is_dropped(start):
    connections = []

    class Deaf(asyncio.Protocol):
        def connection_made(self, transport):
            connections.append(transport)
            asyncio.get_running_loop().call_soon(transport.pause_reading)
            # SETTINGS with INITIAL_WINDOW_SIZE, and WINDOW_UPDATE: there is room for everything.
            transport.write(bytes.fromhex("000006040000000000 0004 7fffffff"))
            transport.write(bytes.fromhex("000004080000000000 7fff0000"))

    server = await asyncio.get_running_loop().create_server(Deaf, "127.0.0.1", 0)
    sink = await start(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    large = json.dumps("x" * 1_000_000).encode()
    sending = asyncio.ensure_future(sink.send([event(n, data=large) for n in range(30)]))
    async with asyncio.timeout(30):
        while not sink._pool._shared or not sink._pool._shared[0]._client.streams:
            await asyncio.sleep(0)
        server.close()
        connections[0].write(bytes.fromhex("000008070000000000 00000000 00000000"))  # GOAWAY
        assert len(await sending) == 30
        while sink._pool._connections:
            await asyncio.sleep(0.01)
    connections[0].abort()
    await server.wait_closed()
