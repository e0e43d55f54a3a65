"""The HTTP sink against a scripted server that speaks bytes."""

import asyncio
import base64
import json
import os
import re
import ssl
import time
from email.utils import formatdate

import msgspec
import pytest

from bindings.event import Event
from bindings.http import HTTP
from gateway.config.records import TlsConfig
from gateway.delivery import Outcome, Reason
from gateway.errors import GatewayError
from gateway.sinks.http import HttpSink, HttpSinkConfig
from gateway.sinks.http.knative import TokenFile, TrustedCertificates, overrides, sink_timeout
from gateway.sinks.http.target import Target
from tests.gateway.scripted_http import OK, Script, answer


@pytest.fixture
async def server():
    script = await Script().start()
    yield script
    await script.close()


@pytest.fixture
async def start():
    running = []

    async def start(url, **config):
        sink = HttpSink(HttpSinkConfig(name="out", url=getattr(url, "url", url), **config))
        await sink.open()
        running.append(sink)
        return sink

    yield start
    for sink in running:
        await sink.close()


def event(number, source="/s", **attributes):
    attributes.setdefault("data", b'{"a":1}')
    attributes.setdefault("datacontenttype", "application/json")
    return Event(id=str(number), source=source, type="t", **attributes)


async def test_structured_request_is_this_to_the_byte(server, start):
    sink = await start(server)
    assert await sink.send([event(1, time="2024-01-01T00:00:00Z")]) == []
    (request,) = server.requests
    assert request.line == "POST /path?query=1 HTTP/1.1"
    assert request.lines[0] == f"Host: 127.0.0.1:{server.port}"
    assert request.lines[1].startswith("User-Agent: cloudevents-gateway/0.")
    assert request.lines[2:] == [
        "Content-Type: application/cloudevents+json",
        f"Content-Length: {len(request.body)}",
    ]
    assert json.loads(request.body) == {
        "specversion": "1.0",
        "id": "1",
        "source": "/s",
        "type": "t",
        "time": "2024-01-01T00:00:00Z",
        "datacontenttype": "application/json",
        "data": {"a": 1},
    }


async def test_binary_request_carries_data_and_percent_encoded_headers(server, start):
    sink = await start(server, mode="binary")
    sent = event(1, subject="Euro € 😀", data=b"\x00\xff", datacontenttype="image/png")
    assert await sink.send([sent]) == []
    (request,) = server.requests
    assert request.body == b"\x00\xff"
    assert request.lines[2:] == [
        "Content-Type: image/png",
        "ce-specversion: 1.0",
        "ce-id: 1",
        "ce-source: /s",
        "ce-type: t",
        "ce-subject: Euro%20%E2%82%AC%20%F0%9F%98%80",
        "Content-Length: 2",
    ]


async def test_event_without_data_has_no_content_type_in_binary_mode(server, start):
    sink = await start(server, mode="binary")
    assert await sink.send([event(1, data=None, datacontenttype=None)]) == []
    assert server.requests[0].fields["content-length"] == "0"
    assert "content-type" not in server.requests[0].fields


async def test_header_injection_is_impossible(server, start):
    sink = await start(server, mode="binary")
    hostile = 'a/b; x="%0d%0aX-Evil: 1"'
    sent = event("1%0d%0aX: y", subject="a\u2028b", data=b"x", datacontenttype=hostile)
    assert await sink.send([sent]) == []
    assert not [line for line in server.requests[0].lines if line.startswith("X")]
    assert server.requests[0].fields["ce-id"] == "1%250d%250aX:%20y"


async def test_configured_headers_are_sent(server, start):
    sink = await start(server, headers={"X-Tenant": "a b"})
    assert await sink.send([event(1)]) == []
    assert server.requests[0].fields["x-tenant"] == "a b"


@pytest.mark.parametrize(
    "headers",
    [{"X": "a\r\nY: b"}, {"X\r\nY": "b"}, {"Host": "h"}, {"ce-id": "1"}, {"Content-Length": "1"}],
)
def test_configured_headers_that_would_break_the_request_are_refused(headers):
    with pytest.raises(ValueError, match=r"header|set by the gateway"):
        HttpSinkConfig(url="http://h/", headers=headers)


STATUS = [
    *[(code, None, None) for code in (200, 201, 202, 203, 204, 206, 299)],
    *[
        (code, Outcome.REJECTED, Reason.SINK_REFUSED)
        for code in (300, 301, 302, 303, 304, 307, 308)
    ],
    *[(code, Outcome.REJECTED, Reason.SINK_REFUSED) for code in (400, 401, 402, 403, 405, 406)],
    *[(code, Outcome.REJECTED, Reason.SINK_REFUSED) for code in (410, 411, 413, 415, 418, 422)],
    *[
        (code, Outcome.REJECTED, Reason.SINK_REFUSED)
        for code in (423, 424, 425, 426, 431, 451, 499)
    ],
    *[(code, Outcome.RELEASED, Reason.SINK_DOWN) for code in (404, 408, 409)],
    (429, Outcome.RELEASED, Reason.SINK_BUSY),
    *[(code, Outcome.RELEASED, Reason.SINK_DOWN) for code in (500, 501, 502, 503, 504, 505, 599)],
    *[(code, Outcome.RELEASED, Reason.SINK_DOWN) for code in (600, 999)],
    (101, Outcome.REJECTED, Reason.SINK_REFUSED),
]


@pytest.mark.parametrize(("status", "outcome", "reason"), STATUS)
async def test_status_decides_the_outcome(server, start, status, outcome, reason):
    head_only = status in (204, 304)
    reply = b"HTTP/1.1 %d X\r\n\r\n" % status if head_only else answer(status, body=b"why")
    server.reply = lambda _: (reply, "close") if status == 101 else reply
    sink = await start(server)
    failures = await sink.send([event(1)])
    if outcome is None:
        assert failures == []
        return
    (failure,) = failures
    assert (failure.position, failure.outcome, failure.reason) == (0, outcome, reason)
    assert failure.status == status
    assert failure.detail.startswith(str(status))
    if not head_only and status != 101:
        assert failure.body == b"why"
    assert len(server.requests) == 1


async def test_redirect_is_not_followed(server, start):
    other = await Script().start()
    server.reply = lambda _: answer(307, b"Location: " + other.url.encode())
    sink = await start(server)
    (failure,) = await sink.send([event(1)])
    assert (failure.outcome, other.requests) == (Outcome.REJECTED, [])
    await other.close()


@pytest.mark.parametrize(
    ("status", "field", "low", "high"),
    [
        (429, b"7", 7, 7),
        (503, b" 120 ", 120, 120),
        (503, 1000, 900, 1000),  # a date so many seconds from now
        (503, -1000, 0, 0),
        (503, b"soon", None, None),
        (503, b"-1", None, None),
        (500, b"7", None, None),
        (404, b"7", None, None),
    ],
)
async def test_retry_after_is_read_on_429_and_503(server, start, status, field, low, high):
    if isinstance(field, int):
        field = formatdate(time.time() + field, usegmt=True).encode()
    server.reply = lambda _: answer(status, b"rEtRy-AfTeR: " + field)
    sink = await start(server)
    (failure,) = await sink.send([event(1)])
    assert failure.outcome is Outcome.RELEASED
    if low is None:
        assert failure.retry_after is None
    else:
        assert low <= failure.retry_after <= high
    # Only 429 speaks of how much was sent: CoAP's word for it is 4.29, for 503 it is 5.03.
    assert failure.reason is (Reason.SINK_BUSY if status == 429 else Reason.SINK_DOWN)


async def test_body_of_a_failure_is_cut_at_768_bytes(server, start):
    server.reply = lambda _: answer(400, body=b"x" * 5000)
    sink = await start(server)
    (failure,) = await sink.send([event(1)])
    assert failure.body == b"x" * 768


# KN-010: no reply is asked for, so whatever comes in a body is none; pitfall 93
@pytest.mark.parametrize("status", [200, 202])
async def test_an_event_in_the_answer_is_no_reply(server, start, status):
    reply = b'{"specversion":"1.0","id":"r","source":"/r","type":"t"}'
    server.reply = lambda _: answer(
        status, b"Content-Type: application/cloudevents+json", body=reply
    )
    sink = await start(server)
    assert await sink.send([event(1), event(2)]) == []
    assert [request.id for request in server.requests] == ["1", "2"]
    assert not [request for request in server.requests if "prefer" in request.fields]


# KN-009; pitfall 94: the trace of the first sender stays.
async def test_the_trace_of_an_event_is_left_alone(server, start):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    sink = await start(server, mode="binary")
    sent = event(1, extensions={"traceparent": trace, "tracestate": "a=b"})
    assert await sink.send([sent]) == []
    (request,) = server.requests
    assert (request.fields["ce-traceparent"], request.fields["ce-tracestate"]) == (trace, "a=b")
    assert "traceparent" not in request.fields


class TestKeepAlive:
    async def test_connection_is_used_again(self, server, start):
        sink = await start(server)
        for number in range(5):
            assert await sink.send([event(number)]) == []
        assert server.connections == 1

    @pytest.mark.parametrize(
        "reply",
        [
            b"HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
        ],
    )
    async def test_answer_that_closes_is_followed_by_a_new_connection(self, server, start, reply):
        server.reply = lambda _: (reply, "close")
        sink = await start(server)
        assert await sink.send([event(1), event(2), event(3)]) == []
        assert server.connections == 3
        assert len(server.requests) == 3

    async def test_stale_connection_is_replaced_and_the_request_repeated_once(self, server, start):
        sink = await start(server)
        assert await sink.send([event(1)]) == []

        def reply(request):
            return (b"", "close") if request.connection == 1 else OK

        server.reply = reply
        assert await sink.send([event(2)]) == []
        assert [(r.id, r.connection) for r in server.requests] == [("1", 1), ("2", 1), ("2", 2)]

    async def test_request_is_repeated_once_only(self, server, start):
        sink = await start(server)
        assert await sink.send([event(1)]) == []
        server.reply = lambda _: (b"", "reset")
        (failure,) = await sink.send([event(2)])
        assert (failure.outcome, failure.reason) == (Outcome.RELEASED, Reason.SINK_DOWN)
        assert len(server.requests) == 3

    async def test_request_on_a_new_connection_is_not_repeated(self, server, start):
        server.reply = lambda _: (b"", "close")
        sink = await start(server)
        (failure,) = await sink.send([event(1)])
        assert failure.outcome is Outcome.RELEASED
        assert len(server.requests) == 1

    async def test_request_is_not_repeated_when_an_answer_had_begun(self, server, start):
        sink = await start(server)
        assert await sink.send([event(1)]) == []
        server.reply = lambda _: (b"HTTP/1.1 5", "close")
        (failure,) = await sink.send([event(2)])
        assert (failure.outcome, failure.status) == (Outcome.RELEASED, None)
        assert len(server.requests) == 2

    async def test_request_on_a_connection_that_was_not_idle_is_not_repeated(self, server, start):
        server.reply = lambda request: (b"", "reset") if request.id == "2" else OK
        sink = await start(server)
        failures = await sink.send([event(1), event(2), event(3)])
        assert [(f.position, f.reason) for f in failures] == [
            (1, Reason.SINK_DOWN),
            (2, Reason.HELD),
        ]
        assert [request.id for request in server.requests] == ["1", "2"]

    async def test_repetition_is_part_of_the_time_of_its_attempt(self, server, start):
        sink = await start(server)
        assert await sink.send([event(1)]) == []
        loop, asked_at = asyncio.get_running_loop(), []

        def reply(request):
            if request.connection == 2:
                return b"", "stall"
            asked_at.append(loop.time())
            time.sleep(0.02)  # the loop's clock goes on
            return b"", "close"

        server.reply = reply
        sending = asyncio.ensure_future(sink.send([event(2)], timeout=100))
        await server.wait_for(3)
        (connection,) = sink._pool._connections
        assert connection.deadline <= asked_at[0] + 100
        sending.cancel()

    async def test_server_restart_between_two_lists_loses_nothing(self, server, start):
        sink = await start(server)
        events = [event(n, f"/{n}") for n in range(20)]
        assert await sink.send(events) == []
        port = server.port
        await server.close()
        again = await Script().start(port=port)
        assert await sink.send(events) == []
        assert sorted(r.id for r in again.requests) == sorted(e.id for e in events)
        await again.close()

    async def test_idle_connections_are_closed(self, server, start):
        sink = await start(server, idle_timeout=0.05)
        assert await sink.send([event(1)]) == []
        async with asyncio.timeout(10):
            while server._writers:
                await asyncio.sleep(0.01)
        assert await sink.send([event(2)]) == []
        assert server.connections == 2

    async def test_answer_to_nothing_closes_the_idle_connection(self, server, start):
        sink = await start(server)
        server.reply = lambda _: OK + b"HTTP/1.1 408 Request Timeout\r\n"
        assert await sink.send([event(1)]) == []
        server.reply = lambda _: answer(500)
        (failure,) = await sink.send([event(2)])
        assert failure.status == 500
        assert server.connections == 2

    async def test_second_answer_is_never_taken_for_the_next_request(self, server, start):
        server.reply = lambda request: OK + OK if request.id == "1" else answer(400)
        sink = await start(server)
        (failure,) = await sink.send([event(1), event(2)])
        assert (failure.position, failure.status) == (1, 400)


class TestAnswersInPieces:
    @pytest.mark.parametrize(
        "reply",
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
            b"HTTP/1.1 204\r\n\r\n",
            answer(200, body=b"x" * 1000),
        ],
    )
    async def test_every_byte_may_come_alone(self, server, start, reply):
        async def drip(_):
            (writer,) = server._writers
            for byte in reply[:-1]:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            return reply[-1:]

        server.reply = drip
        sink = await start(server)
        assert await sink.send([event(1)]) == []
        server.reply = lambda _: OK
        assert await sink.send([event(2)]) == []
        assert server.connections == 1

    @pytest.mark.parametrize("then", ["close", "reset", "stall"])
    @pytest.mark.parametrize(
        ("reply", "status"),
        [
            (b"HTTP/1.1 202 Accepted\r\n", 202),
            (b"HTTP/1.1 200\r\n", 200),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nX: ", 202),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", 200),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", 200),
            (b"HTTP/1.1 400 Bad\r\nContent-Length: 10\r\n\r\nabc", 400),
            (b"HTTP/1.1 202 Accepted", None),
            (b"HTTP/1.1 20", None),
            (b"HTTP/1.1 100 Continue\r\n\r\n", None),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Acc", None),
            (b"", None),
        ],
    )
    async def test_complete_status_line_stands_whatever_follows(
        self, server, start, reply, status, then
    ):
        server.reply = lambda _: (reply, then)
        sink = await start(server)
        sending = asyncio.ensure_future(sink.send([event(1)], timeout=100))
        await server.wait_for(1)
        async with asyncio.timeout(10):
            if then == "stall":
                (connection,) = sink._pool._connections
                while connection._received != reply:
                    await asyncio.sleep(0)
                connection.expire()  # as the pool does when the time is up
            failures = await sending
        if status in (200, 202):
            assert failures == []
        else:
            (failure,) = failures
            assert failure.status == status
            expected = Outcome.REJECTED if status else Outcome.RELEASED
            assert failure.outcome is expected
            if then == "stall" and status is None:
                assert failure.reason is Reason.TIMEOUT

    @pytest.mark.parametrize(
        "reply",
        [
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"HTTP/1.1 abc OK\r\n\r\n",
            b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
            b"\x15\x03\x01\x00\x02\x02\x46",
        ],
    )
    async def test_what_is_no_answer_is_released(self, server, start, caplog, reply):
        server.reply = lambda _: (reply, "stall")
        sink = await start(server)
        failures = await sink.send([event(1)], timeout=0.5 if b" 099 " in reply else 5)
        if b"200 OK" in reply:
            assert failures == []
        else:
            assert [failure.outcome for failure in failures] == [Outcome.RELEASED]
        assert [record for record in caplog.records if record.exc_info] == []

    async def test_the_fields_and_the_body_of_a_long_answer_in_one_piece_are_kept(
        self, server, start
    ):
        server.reply = lambda _: answer(503, b"Retry-After: 7", body=b"x" * 200_000)
        sink = await start(server)
        (failure,) = await sink.send([event(1)])
        assert (failure.status, failure.retry_after) == (503, 7)
        assert failure.body == b"x" * 768

    async def test_endless_body_does_not_hold_the_answer(self, server, start):
        server.reply = lambda _: (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000, "stall")
        sink = await start(server)
        async with asyncio.timeout(5):
            assert await sink.send([event(1)], timeout=60) == []


class TestLists:
    async def test_events_of_one_key_go_one_after_the_other(self, server, start):
        sink = await start(server)
        events = [event(n, f"/{n % 7}") for n in range(210)]
        assert await sink.send(events) == []
        for source in range(7):
            ids = [int(r.id) for r in server.requests if int(r.id) % 7 == source]
            assert ids == list(range(source, 210, 7))
        assert server.most_under_way <= 7

    async def test_partitionkey_is_the_key_when_there_is_one(self, server, start):
        gate = asyncio.Event()

        async def reply(_):
            await gate.wait()
            return OK

        server.reply = reply
        sink = await start(server)
        keys = [
            event(1, extensions={"partitionkey": "a"}),
            event(2, "/x", extensions={"partitionkey": "a"}),
        ]
        sending = asyncio.ensure_future(sink.send(keys))
        await server.wait_for(1)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(server.requests) == 1
        gate.set()
        assert await sending == []

    async def test_unordered_sends_one_key_at_once(self, server, start):
        gate = asyncio.Event()

        async def reply(_):
            await gate.wait()
            return OK

        server.reply = reply
        sink = await start(server, ordered=False)
        sending = asyncio.ensure_future(sink.send([event(n) for n in range(5)]))
        await server.wait_for(5)
        gate.set()
        assert await sending == []

    async def test_no_more_connections_than_configured(self, server, start):
        sink = await start(server, connections=3)
        assert await sink.send([event(n, f"/{n}") for n in range(100)]) == []
        assert server.connections == 3
        assert server.most_under_way <= 3

    async def test_released_event_holds_the_rest_of_its_key_and_no_other(self, server, start):
        server.reply = lambda request: answer(503) if request.id == "2" else OK
        sink = await start(server)
        events = [
            event(0, "/a"),
            event(1, "/b"),
            event(2, "/a"),
            event(3, "/b"),
            event(4, "/a"),
            event(5, "/a"),
        ]
        failures = await sink.send(events)
        assert [(f.position, f.outcome, f.reason) for f in failures] == [
            (2, Outcome.RELEASED, Reason.SINK_DOWN),
            (4, Outcome.RELEASED, Reason.HELD),
            (5, Outcome.RELEASED, Reason.HELD),
        ]
        assert sorted(r.id for r in server.requests) == ["0", "1", "2", "3"]

    async def test_rejected_event_does_not_hold_the_rest_of_its_key(self, server, start):
        server.reply = lambda request: answer(400) if request.id == "1" else OK
        sink = await start(server)
        failures = await sink.send([event(0), event(1), event(2)])
        assert [(f.position, f.outcome) for f in failures] == [(1, Outcome.REJECTED)]
        assert [r.id for r in server.requests] == ["0", "1", "2"]

    async def test_several_lists_at_once(self, server, start):
        sink = await start(server, connections=4)
        lists = [[event(f"{n}-{m}", f"/{n}/{m % 5}") for m in range(50)] for n in range(8)]
        assert await asyncio.gather(*(sink.send(events) for events in lists)) == [[]] * 8
        assert len(server.requests) == 400
        assert server.connections == 4

    async def test_cancelled_call_leaves_the_sink_usable(self, server, start):
        gate = asyncio.Event()

        async def reply(_):
            await gate.wait()
            return OK

        server.reply = reply
        sink = await start(server, connections=2)
        events = [event(n, f"/{n % 5}") for n in range(20)]
        sending = asyncio.ensure_future(sink.send(events, timeout=100))
        await server.wait_for(2)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        gate.set()
        async with asyncio.timeout(10):
            assert await sink.send([event("next")], timeout=100) == []
        assert sum(request.id != "next" for request in server.requests) == 2


class TestUnreachable:
    async def test_refused_connection_releases_the_whole_list(self, server, start, caplog):
        url = server.url
        await server.close()
        sink = await start(url)
        events = [event(n, f"/{n % 3}") for n in range(100)]
        failures = await sink.send(events)
        assert [f.position for f in failures] == list(range(100))
        assert {f.outcome for f in failures} == {Outcome.RELEASED}
        assert [f.reason for f in failures] == [Reason.SINK_DOWN] * 3 + [Reason.HELD] * 97
        assert "connection" in failures[0].detail
        assert await sink.send(events) != []
        assert len([r for r in caplog.records if "does not answer" in r.message]) == 1

    async def test_recovery_is_logged_once(self, server, start, caplog):
        url, port = server.url, server.port
        await server.close()
        sink = await start(url)
        assert await sink.send([event(1)]) != []
        again = await Script().start(port=port)
        assert await sink.send([event(1), event(2)]) == []
        assert len([r for r in caplog.records if "answers again" in r.message]) == 1
        await again.close()

    async def test_receiver_that_goes_up_and_down_is_not_logged_each_time(
        self, server, start, caplog
    ):
        server.reply = lambda request: (b"", "close") if int(request.id) % 2 else OK
        sink = await start(server)
        await sink.send([event(n, f"/{n}") for n in range(40)])
        assert len(caplog.records) <= 2

    async def test_server_that_hangs_up_at_once_is_tried_a_bounded_number_of_times(self, start):
        accepted = []

        async def hang_up(_, writer):
            accepted.append(1)
            writer.transport.abort()

        hanging_up = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = hanging_up.sockets[0].getsockname()[1]
        sink = await start(f"http://127.0.0.1:{port}/")
        failures = await sink.send([event(n, f"/{n}") for n in range(10)])
        assert {failure.outcome for failure in failures} == {Outcome.RELEASED}
        assert len(failures) == 10
        assert len(accepted) <= 40
        hanging_up.close()

    async def test_the_time_of_one_list_does_not_make_another_wait_for_a_connection(
        self, server, start
    ):
        # The server does not speak TLS, and waits for more.
        sink = await start(f"https://127.0.0.1:{server.port}/")
        hasty = asyncio.ensure_future(sink.send([event(1)], timeout=0.1))
        patient = asyncio.ensure_future(sink.send([event(2, "/2")], timeout=100))
        async with asyncio.timeout(10):
            (failure,) = await hasty
        assert (failure.outcome, failure.reason) == (Outcome.RELEASED, Reason.TIMEOUT)
        patient.cancel()

    async def test_unknown_host_is_released(self, start):
        sink = await start("http://no-such-host.invalid/")
        (failure,) = await sink.send([event(1)])
        assert (failure.outcome, failure.reason) == (Outcome.RELEASED, Reason.SINK_DOWN)

    async def test_every_address_of_the_host_is_tried(self, server, start):
        sink = await start(f"http://localhost:{server.port}/")  # ::1 may come first
        assert await sink.send([event(1)]) == []
        assert server.requests[0].fields["host"] == f"localhost:{server.port}"

    async def test_attempt_that_takes_too_long_costs_the_connection(self, server, start):
        server.reply = lambda request: (b"", "stall") if request.id == "1" else OK
        sink = await start(server)
        began = time.monotonic()
        (failure,) = await sink.send([event(1)], timeout=0.2)
        assert (failure.outcome, failure.reason) == (Outcome.RELEASED, Reason.TIMEOUT)
        assert time.monotonic() - began > 0.15  # the clock of the loop is in milliseconds
        assert await sink.send([event(2)]) == []
        assert server.connections == 2

    async def test_close_releases_what_is_under_way(self, server, start):
        server.reply = lambda _: (b"", "stall")
        sink = await start(server, connections=1)
        sending = asyncio.ensure_future(sink.send([event(n, f"/{n}") for n in range(3)]))
        await server.wait_for(1)
        await sink.close()
        assert {failure.outcome for failure in await sending} == {Outcome.RELEASED}


class TestBatch:
    async def test_events_travel_together(self, server, start):
        sink = await start(server, batch=True, batch_events=40)
        assert await sink.send([event(n) for n in range(100)]) == []
        bodies = [json.loads(request.body) for request in server.requests]
        assert [len(body) for body in bodies] == [40, 40, 20]
        assert [e["id"] for body in bodies for e in body] == [str(n) for n in range(100)]
        fields = server.requests[0].fields
        assert fields["content-type"] == "application/cloudevents-batch+json"

    async def test_batch_is_bounded_in_bytes_and_a_large_event_goes_alone(self, server, start):
        sink = await start(server, batch=True, batch_bytes=1000)
        events = [event(n, data=b'"' + b"x" * (2000 if n == 2 else 200) + b'"') for n in range(5)]
        assert await sink.send(events) == []
        assert [[e["id"] for e in json.loads(r.body)] for r in server.requests] == [
            ["0", "1"],
            ["2"],
            ["3", "4"],
        ]
        assert all(len(r.body) <= 1000 for r in server.requests if len(json.loads(r.body)) > 1)

    async def test_released_batch_holds_later_events_of_its_keys_only(self, server, start):
        sink = await start(server, batch=True, batch_events=2)
        server.reply = lambda r: answer(503) if json.loads(r.body)[0]["id"] == "0" else OK
        events = [event(0, "/a"), event(1, "/b"), event(2, "/a"), event(3, "/c")]
        failures = await sink.send(events)
        assert [(f.position, f.reason) for f in failures] == [
            (0, Reason.SINK_DOWN),
            (1, Reason.SINK_DOWN),
            (2, Reason.HELD),
        ]
        assert [[e["id"] for e in json.loads(r.body)] for r in server.requests] == [
            ["0", "1"],
            ["3"],
        ]

    async def test_refused_batch_is_sent_again_one_by_one_to_find_the_culprit(self, server, start):
        sink = await start(server, batch=True, batch_events=3)
        server.reply = lambda r: answer(400) if b'"id":"1"' in r.body else OK
        failures = await sink.send([event(n) for n in range(5)])
        assert [(f.position, f.outcome) for f in failures] == [(1, Outcome.REJECTED)]
        assert [[e["id"] for e in json.loads(r.body)] for r in server.requests] == [
            ["0", "1", "2"],
            ["0"],
            ["1"],
            ["2"],
            ["3", "4"],
        ]

    async def test_unreachable_receiver_releases_everything(self, server, start):
        url = server.url
        await server.close()
        sink = await start(url, batch=True, batch_events=2)
        failures = await sink.send([event(n, f"/{n % 3}") for n in range(9)])
        assert [f.position for f in failures] == list(range(9))


class TestCredentials:
    async def test_basic_from_the_configuration_and_from_the_url(self, server, start):
        sink = await start(server, username="u", password="p:é")
        assert await sink.send([event(1)]) == []
        other = await start(server.url.replace("//", "//u:p%3A%C3%A9@"))
        assert await other.send([event(2)]) == []
        expected = "Basic " + base64.b64encode("u:p:é".encode()).decode()
        assert [r.fields["authorization"] for r in server.requests] == [expected] * 2
        assert server.requests[1].fields["host"] == f"127.0.0.1:{server.port}"

    async def test_bearer_token(self, server, start):
        sink = await start(server, token="abc")
        assert await sink.send([event(1)]) == []
        assert server.requests[0].fields["authorization"] == "Bearer abc"

    async def test_401_with_a_fixed_token_is_final(self, server, start):
        server.reply = lambda _: answer(401)
        sink = await start(server, token="abc")
        (failure,) = await sink.send([event(1)])
        assert (failure.outcome, len(server.requests)) == (Outcome.REJECTED, 1)

    async def test_token_file_is_read_again_after_a_401(self, server, start, tmp_path):
        path = tmp_path / "token"
        path.write_text("one\n")
        sink = await start(server, token_file=path)
        assert await sink.send([event(1)]) == []
        before = path.stat()
        path.write_text("two\n")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # same date, size and inode
        server.reply = lambda r: OK if r.fields["authorization"] == "Bearer two" else answer(401)
        assert await sink.send([event(2), event(3)]) == []
        assert [(r.id, r.fields["authorization"]) for r in server.requests] == [
            ("1", "Bearer one"),
            ("2", "Bearer one"),
            ("2", "Bearer two"),
            ("3", "Bearer two"),
        ]

    async def test_second_401_is_released(self, server, start, tmp_path):
        path = tmp_path / "token"
        path.write_text("old")
        server.reply = lambda _: answer(401)
        sink = await start(server, token_file=path)
        failures = await sink.send([event(1), event(2)])
        assert [(f.outcome, f.reason) for f in failures] == [
            (Outcome.RELEASED, Reason.SINK_DOWN),
            (Outcome.RELEASED, Reason.HELD),
        ]
        assert len(server.requests) == 2

    async def test_missing_token_file_means_no_token_and_401_is_released(
        self, server, start, tmp_path
    ):
        server.reply = lambda _: answer(401)
        sink = await start(server, token_file=tmp_path / "none")
        (failure,) = await sink.send([event(1)])
        assert failure.outcome is Outcome.RELEASED
        assert "authorization" not in server.requests[0].fields
        assert len(server.requests) == 1

    def test_token_file_is_read_again_when_it_changes(self, tmp_path):
        path = tmp_path / "token"
        file = TokenFile(path)
        assert file.token(0.0) == ""
        path.write_text("one")
        assert file.token(0.5) == ""
        assert file.token(1.5) == "one"
        path.write_text("second")
        assert file.token(3.0) == "second"
        path.write_text("evil\r\nX: 1")
        assert file.token(5.0) == ""
        path.unlink()
        assert file.token(7.0) == ""

    async def test_the_token_of_knative_is_for_its_own_sink_only(self, server, tmp_path):
        (tmp_path / "token").write_text("abc.def")
        message = HTTP.encode(event(1), "structured")
        for is_k_sink in (True, False):
            config = HttpSinkConfig(url=server.url, is_k_sink=is_k_sink)
            target = Target(config, {}, token_file=tmp_path / "token")
            shown = b"\r\nAuthorization: Bearer abc.def\r\n" in target.request(message)
            assert shown is target.token_may_change is is_k_sink

    def test_two_kinds_of_credentials_are_refused(self):
        with pytest.raises(ValueError, match="one of these"):
            HttpSinkConfig(url="http://h/", token="a", username="b")


class TestKnative:
    async def test_overrides_replace_extensions_of_every_event(self, server, start, monkeypatch):
        monkeypatch.setenv("K_CE_OVERRIDES", '{"extensions":{"region":"eu","extra":"1"}}')
        monkeypatch.setenv("NAMESPACE", "team-a")
        sink = await start(server, is_k_sink=True)
        assert await sink.send([event(1, extensions={"region": "us", "kept": "x"})]) == []
        body = json.loads(server.requests[0].body)
        assert (body["region"], body["extra"], body["kept"]) == ("eu", "1", "x")
        assert server.requests[0].fields["kn-namespace"] == "team-a"
        assert "prefer" not in server.requests[0].fields

    async def test_another_sink_is_left_alone(self, server, start, monkeypatch):
        monkeypatch.setenv("K_CE_OVERRIDES", "not json")
        monkeypatch.setenv("K_CA_CERTS", "no certificate")
        monkeypatch.setenv("NAMESPACE", "team-a")
        sink = await start(server)
        assert await sink.send([event(1)]) == []
        assert "kn-namespace" not in server.requests[0].fields

    async def test_401_is_released_as_oidc_may_just_have_been_turned_on(self, server, start):
        server.reply = lambda _: answer(401)
        sink = await start(server, is_k_sink=True)
        (failure,) = await sink.send([event(1)])
        assert failure.outcome is Outcome.RELEASED

    @pytest.mark.parametrize("text", ["", " ", "{}", '{"extensions":{}}', '{"extensions":null}'])
    def test_overrides_may_be_empty(self, text):
        assert overrides(text) == {}

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("{", "JSON"),
            ("[]", "expected"),
            ('{"extensions":[]}', "expected"),
            ('{"extensions":{"id":"x"}}', "'id' is a required attribute"),
            ('{"extensions":{"specversion":"1.0"}}', "'specversion' is a required attribute"),
            ('{"extensions":{"subject":"x"}}', "'subject' is no name"),
            ('{"extensions":{"Upper":"x"}}', "'Upper' is no name"),
            ('{"extensions":{"data":"x"}}', "'data' is no name"),
            ('{"extensions":{"n":1}}', "must be a string"),
            ('{"extensions":{"n":"a\\u0000"}}', "control character"),
        ],
    )
    async def test_wrong_overrides_stop_the_start(self, server, monkeypatch, text, said):
        monkeypatch.setenv("K_CE_OVERRIDES", text)
        sink = HttpSink(HttpSinkConfig(url=server.url, is_k_sink=True))
        with pytest.raises(GatewayError, match=f"K_CE_OVERRIDES.*{said}"):
            await sink.open()

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("30", 30.0), ("0", None), ("-1", None), ("1.5", None), ("x", None), ("", None)],
    )
    def test_k_sink_timeout(self, text, seconds):
        assert sink_timeout({"K_SINK_TIMEOUT": text}) == seconds

    async def test_k_sink_timeout_is_the_default_of_an_attempt(self, server):
        config = HttpSinkConfig(url=server.url, is_k_sink=True, timeout=5)
        assert Target(config, {"K_SINK_TIMEOUT": "7"}).timeout == 7
        assert Target(config, {}).timeout == 5


def test_a_timeout_of_nothing_is_refused():
    with pytest.raises(ValueError, match="greater than 0"):
        HttpSinkConfig(url="http://h/", timeout="PT0S")


# Knative's data-plane.md: only who handles replies asks for them.
@pytest.mark.parametrize("value", ["reply", "respond-async, Reply"])
def test_nobody_can_ask_for_replies(value):
    with pytest.raises(ValueError, match="asks for replies"):
        HttpSinkConfig(url="http://h/", headers={"prefer": value})


class TestTls:
    @pytest.fixture
    async def secure(self, certificates):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.server_cert, certificates.server_key)
        script = await Script().start(context)
        yield script
        await script.close()

    async def test_own_ca(self, secure, start, certificates):
        url = f"https://localhost:{secure.port}/"
        sink = await start(url, tls=TlsConfig(ca=certificates.ca))
        assert await sink.send([event(n) for n in range(10)]) == []
        assert secure.connections == 1

    async def test_connecting_is_part_of_the_time_of_an_attempt(self, secure, start, certificates):
        url = f"https://localhost:{secure.port}/"
        sink = await start(url, tls=TlsConfig(ca=certificates.ca))
        secure.reply = lambda _: (b"", "stall")
        loop, connecting_at = asyncio.get_running_loop(), []
        endpoint = sink._pool.endpoint

        def tls():
            connecting_at.append(loop.time())
            time.sleep(0.02)  # the loop's clock goes on
            return endpoint.tls()

        sink._pool.endpoint = msgspec.structs.replace(endpoint, tls=tls)
        sending = asyncio.ensure_future(sink.send([event(1)], timeout=100))
        await secure.wait_for(1)
        (connection,) = sink._pool._connections
        assert connection.deadline <= connecting_at[0] + 100
        sending.cancel()

    async def test_certificate_of_another_ca_is_released(self, secure, start):
        sink = await start(f"https://localhost:{secure.port}/")
        (failure,) = await sink.send([event(1)])
        assert (failure.outcome, failure.reason) == (Outcome.RELEASED, Reason.SINK_DOWN)
        assert "certificate" in failure.detail.lower()

    async def test_certificate_for_another_name_is_released(self, secure, start, certificates):
        sink = await start(f"https://127.0.0.2:{secure.port}/", tls=TlsConfig(ca=certificates.ca))
        (failure,) = await sink.send([event(1)])
        assert failure.outcome is Outcome.RELEASED
        assert secure.requests == []

    async def test_client_certificate(self, start, certificates):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates.ca)
        context.load_cert_chain(certificates.server_cert, certificates.server_key)
        context.verify_mode = ssl.CERT_REQUIRED
        script = await Script().start(context)
        url = f"https://localhost:{script.port}/"
        without = await start(url, tls=TlsConfig(ca=certificates.ca))
        (failure,) = await without.send([event(1)])
        assert failure.outcome is Outcome.RELEASED
        tls = TlsConfig(
            ca=certificates.ca, cert=certificates.client_cert, key=certificates.client_key
        )
        sink = await start(url, tls=tls)
        assert await sink.send([event(2)]) == []
        assert [request.id for request in script.requests] == ["2"]
        await script.close()

    async def test_k_ca_certs_is_trusted(self, secure, start, certificates, monkeypatch):
        monkeypatch.setenv("K_CA_CERTS", certificates.ca.read_text())
        sink = await start(f"https://localhost:{secure.port}/", is_k_sink=True)
        assert await sink.send([event(1)]) == []

    async def test_wrong_k_ca_certs_stops_the_start(self, monkeypatch):
        text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        monkeypatch.setenv("K_CA_CERTS", text)
        sink = HttpSink(HttpSinkConfig(url="https://localhost/", is_k_sink=True))
        with pytest.raises(GatewayError, match="K_CA_CERTS"):
            await sink.open()

    async def test_custom_certificates_are_read_again_when_they_change(
        self, secure, certificates, tmp_path
    ):
        config = HttpSinkConfig(url=f"https://localhost:{secure.port}/", is_k_sink=True)
        target = Target(config, {}, certificates_folder=tmp_path)

        async def connect():
            _, writer = await asyncio.open_connection(
                "localhost", secure.port, ssl=target.endpoint.tls()
            )
            writer.close()
            await writer.wait_closed()

        with pytest.raises(ssl.SSLCertVerificationError):
            await connect()
        (tmp_path / "bundle.pem").write_text(certificates.ca.read_text())
        await connect()
        context = target.endpoint.tls()
        assert target.endpoint.tls() is context
        (tmp_path / "bundle.pem").write_text("")
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect()

    def test_certificates_lie_anywhere_in_the_folder_and_other_files_are_left_alone(self, tmp_path):
        for name in ("bundle.pem", "a-configmap/ca.crt"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(f"-----BEGIN CERTIFICATE-----\n{name}\n")
        (tmp_path / "README").write_text("none of ours")
        text = TrustedCertificates({"K_CA_CERTS": " "}, tmp_path).text()
        assert [line for line in text.split() if "." in line] == [
            "a-configmap/ca.crt",
            "bundle.pem",
        ]
        assert "README" not in text
        assert "none of ours" not in text

    def test_certificates_of_a_missing_folder_are_none(self, tmp_path):
        certificates = TrustedCertificates({"K_CA_CERTS": "x"}, tmp_path / "none")
        assert (certificates.state(), certificates.text()) == ((), "x")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:80",
        "ftp://h/",
        "http://",
        "http:///path",
        "http://h:99999/",
        "http://h:0/",
        "http://h/a b",
        "http://h/\r\nX: 1",
        "http://h/é",
        "http://" + "a" * 70 + "/",
    ],
)
def test_a_wrong_url_is_refused_with_the_configuration(url):
    with pytest.raises(ValueError, match="expected a URL"):
        HttpSinkConfig(url=url)
    if url:
        with pytest.raises(ValueError, match="expected a URL"):
            HttpSinkConfig(url=url, is_k_sink=True)


async def test_a_k_sink_without_a_value_stops_the_start():
    with pytest.raises(GatewayError, match="expected a URL"):
        await HttpSink(HttpSinkConfig(url="", is_k_sink=True)).open()


async def test_chunked_answer_in_pieces_is_not_taken_for_a_whole_one_later(start):
    ids = []

    async def serve(reader, writer):
        for _ in range(3):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"Content-Length: (\d+)\r\n", head)[1])
            ids.append(json.loads(await reader.readexactly(length))["id"])
            # The first piece has as many bytes behind its head as the whole body.
            writer.write(b"HTTP/1.1 200 In Pieces\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n")
            (connection,) = sink._pool._connections
            async with asyncio.timeout(10):
                while not connection._head_done:
                    await asyncio.sleep(0)
            writer.write(b"abc\r\n0\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    sink = await start(url, connections=1, timeout=5)
    sent = [Event(id=str(number), source="/s", type="t") for number in range(3)]
    assert await sink.send(sent) == []
    assert ids == ["0", "1", "2"]
    await sink.close()
    server.close()
    await server.wait_closed()
