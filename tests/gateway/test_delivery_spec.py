"""Knative's delivery spec, from the keys of the configuration to the requests that a sink gets.

A pipeline with the HTTP sink, against scripted servers. The table of statuses is that of Knative's
data-plane.md; `wait` is recorded and answered with 0, so that no test waits for a back-off.
"""

import asyncio
import base64
import collections
import contextlib
import json
import time
from email.utils import formatdate

import pytest

from gateway import assembly
from gateway.config.loader import load
from gateway.delivery import Outcome, Reason
from gateway.lane import Target
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.retry import RetryPolicy
from tests.gateway.scripted_http import OK, Script, answer
from tests.gateway.stepped import HurriedLoop
from tests.helpers import Answers, make_event

RETRY = 2


class Bench:
    """A gateway from its configuration on, without a source: its sink, its dead-letter sink."""

    def __init__(self, folder):
        self._folder = folder
        self._sinks = {}
        self._submitted = 0
        self.policy = self.pipeline = None
        self.metrics = Metrics()
        self.answers = Answers()
        self.sink, self.dead = Script(), Script()

    async def listen(self):
        await self.sink.start()
        await self.dead.start()
        return self

    async def start(self, sink=None, **delivery):
        """Start with a `delivery` table, without the keys that are None."""
        delivery = {
            "retry": RETRY,
            "backoffDelay": "PT0S",
            "spool": "off",
            "dead_letters": "off",
            "deadLetterSink": self.dead.url,
            **delivery,
        }
        delivery = {key: value for key, value in delivery.items() if value is not None}
        config = {
            "sources": {"web": {"protocol": "http", "listen": "127.0.0.1:0"}},
            "sinks": {"out": {"protocol": "http", "url": self.sink.url, **(sink or {})}},
            "routes": [{"to": ["out"], "delivery": delivery}],
        }
        path = self._folder / "gateway.yaml"
        path.write_text(json.dumps(config))
        loaded = load(path, {})
        self._sinks = assembly.make_sinks(loaded)
        for opened in self._sinks.values():
            await opened.open()
        targets = {
            name: Target(
                name=name, sink=each, address=assembly.address_of(name, loaded.sinks[name])
            )
            for name, each in self._sinks.items()
        }
        routes = assembly.make_routes(loaded)
        self.policy = routes[0].policy
        self.pipeline = Pipeline(routes, targets, self.metrics)
        self.pipeline.start()

    async def submit(self, *events):
        self._submitted += len(events)
        deliveries = [self.answers.delivery(event) for event in events]
        await self.pipeline.intake("web").submit(deliveries)

    async def deliver(self, *events):
        """Return the settlements of events, when all that were ever submitted have one."""
        await self.submit(*events)
        await self.answers.count(self._submitted, seconds=10_000)
        return [self.answers.by_id[event.id] for event in events]

    def attempts(self):
        """Return the number of requests by event id."""
        return dict(collections.Counter(request.id for request in self.sink.requests))

    def letters(self):
        """Return the dead letters by event id, in Knative's words only."""
        return {
            request.id: {
                name.removeprefix("knativeerror"): value
                for name, value in json.loads(request.body).items()
                if name.startswith("knativeerror")
            }
            for request in self.dead.requests
        }

    async def close(self):
        if self.pipeline is not None:
            await self.pipeline.close()
        for sink in self._sinks.values():
            await sink.close()
        await self.sink.close()
        await self.dead.close()


@pytest.fixture
async def bench(tmp_path):
    made = await Bench(tmp_path).listen()
    yield made
    await made.close()


@pytest.fixture
def waits(monkeypatch, bench):
    """What the route's `RetryPolicy.wait` was asked and has said; the lane hears 0."""
    recorded = []
    right = RetryPolicy.wait

    def wait(self, n, retry_after=None):
        seconds = right(self, n, retry_after)
        if self is not bench.policy:  # the circuit's own
            return seconds
        recorded.append((n, seconds))
        return 0.0

    monkeypatch.setattr(RetryPolicy, "wait", wait)
    return recorded


def keyed(number, **changes):
    """An event with a key of its own."""
    return make_event(number, source=f"/{number}", **changes)


# --- which answers are tried again -----------------------------------------------------------

AGAIN = {
    "404 Not Found": [404],
    "408 Request Timeout": [408],
    "409 Conflict": [409],
    "429 Too Many Requests": [429],
    "500 to 599": range(500, 600),
    "600 to 999, which are no statuses of HTTP": [600, 799, 999],
}
FINAL = {
    "400 Bad Request": [400],
    "401 Unauthorized": [401],
    "403 Forbidden": [403],
    "other 4xx": sorted(set(range(400, 500)) - {400, 401, 403, 404, 408, 409, 429}),
    "3xx": range(300, 400),
    "101, the only final 1xx": [101],
}


def by_id(*fields, body=b"why"):
    """Answer each event with the status that is its id."""

    def reply(request):
        status = int(request.id)
        if status in {204, 304}:
            return b"HTTP/1.1 %d X\r\n\r\n" % status
        if status == 101:
            return b"HTTP/1.1 101 X\r\n\r\n", "close"
        return answer(status, *fields, body=body)

    return reply


def dead_after(bench, status, data=b"why"):
    letter = {"dest": bench.sink.url, "code": status}
    if data and status not in (304, 101):
        letter["data"] = base64.b64encode(data).decode()
    return letter


@pytest.mark.parametrize("statuses", AGAIN.values(), ids=AGAIN.keys())
async def test_is_tried_again_retry_times_and_then_dead_lettered(bench, statuses):
    bench.sink.reply = by_id()
    await bench.start()
    settlements = await bench.deliver(*[keyed(status) for status in statuses])
    assert {settlement.reason for settlement in settlements} == {Reason.DEAD_LETTERED}
    assert bench.attempts() == {str(status): RETRY + 1 for status in statuses}
    assert bench.letters() == {str(status): dead_after(bench, status) for status in statuses}


@pytest.mark.parametrize("statuses", FINAL.values(), ids=FINAL.keys())
async def test_is_dead_lettered_after_one_attempt_and_leads_nowhere_else(bench, statuses):
    elsewhere = await Script().start()
    bench.sink.reply = by_id(b"Location: " + elsewhere.url.encode())
    await bench.start()
    settlements = await bench.deliver(*[keyed(status) for status in statuses])
    assert {settlement.reason for settlement in settlements} == {Reason.DEAD_LETTERED}
    assert bench.attempts() == {str(status): 1 for status in statuses}
    assert bench.letters() == {str(status): dead_after(bench, status) for status in statuses}
    assert elsewhere.requests == []
    await elsewhere.close()


async def test_every_2xx_is_delivered(bench):
    bench.sink.reply = by_id()
    await bench.start()
    settlements = await bench.deliver(*[keyed(status) for status in range(200, 300)])
    assert {s.outcome for s in settlements} == {Outcome.ACCEPTED}
    assert {s.reason for s in settlements} == {Reason.NONE}
    assert bench.attempts() == {str(status): 1 for status in range(200, 300)}
    assert bench.dead.requests == []


# data-plane.md: a 200 may carry a reply, a 202 must not; we ask for none and read none.
@pytest.mark.parametrize("status", [200, 202])
async def test_an_event_in_the_answer_is_no_reply(bench, status):
    reply = b'{"specversion":"1.0","id":"reply","source":"/r","type":"t"}'
    field = b"Content-Type: application/cloudevents+json"
    bench.sink.reply = lambda _: answer(status, field, body=reply)
    await bench.start()
    (settlement,) = await bench.deliver(make_event(1))
    assert (settlement.outcome, settlement.reason) == (Outcome.ACCEPTED, Reason.NONE)
    assert [request.id for request in bench.sink.requests] == ["1"]
    assert "prefer" not in bench.sink.requests[0].fields
    assert bench.dead.requests == []


BROKEN = {
    "closed without an answer": (b"", "close"),
    "reset without an answer": (b"", "reset"),
    "closed in the status line": (b"HTTP/1.1 20", "close"),
    "reset in the status line": (b"HTTP/1.1 200 O", "reset"),
    "closed after 100 Continue": (b"HTTP/1.1 100 Continue\r\n\r\n", "close"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n", "close"),
}


@pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN.keys())
async def test_no_response_is_tried_again(bench, reply):
    bench.sink.reply = lambda _: reply
    await bench.start()
    (settlement,) = await bench.deliver(make_event(1))
    assert settlement.reason is Reason.DEAD_LETTERED
    assert bench.attempts() == {"1": RETRY + 1}
    assert bench.letters() == {"1": dead_after(bench, 500, data=b"")}
    assert bench.metrics.sinks["out"].failed == {"sink_down": RETRY + 1}


STALLED = {
    "no answer at all": b"",
    "half a status line": b"HTTP/1.1 202 Acc",
    "100 Continue": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@pytest.mark.parametrize("beginning", STALLED.values(), ids=STALLED.keys())
@pytest.mark.loop(factory=HurriedLoop)
async def test_a_timeout_is_tried_again_and_counts_for_each_attempt(bench, beginning):
    bench.sink.reply = lambda _: (beginning, "stall")
    await bench.start(timeout="PT10S")
    (settlement,) = await bench.deliver(make_event(1))
    assert settlement.reason is Reason.DEAD_LETTERED
    assert bench.attempts() == {"1": RETRY + 1}
    assert bench.letters() == {"1": dead_after(bench, 500, data=b"")}
    assert bench.metrics.sinks["out"].failed == {"timeout": RETRY + 1}


async def test_a_connection_that_is_refused_is_tried_again(bench):
    await bench.sink.close()
    await bench.start()
    (settlement,) = await bench.deliver(make_event(1))
    assert settlement.reason is Reason.DEAD_LETTERED
    assert bench.metrics.sinks["out"].failed == {"sink_down": RETRY + 1}
    assert bench.letters() == {"1": dead_after(bench, 500, data=b"")}


async def test_a_connection_that_is_not_made_in_time_is_tried_again(bench):
    # TLS to a server that never answers its first message: connected, and yet no connection.
    await bench.start(sink={"url": bench.sink.url.replace("http:", "https:")}, timeout="PT0.05S")
    (settlement,) = await bench.deliver(make_event(1))
    assert settlement.reason is Reason.DEAD_LETTERED
    assert bench.metrics.sinks["out"].failed == {"timeout": RETRY + 1}


# --- retry -----------------------------------------------------------------------------------


@pytest.mark.parametrize("retry", [0, 1, 7])
async def test_retry_is_the_number_of_attempts_after_the_first(bench, retry):
    bench.sink.reply = lambda _: answer(503)
    await bench.start(retry=retry)
    await bench.deliver(make_event(1))
    assert bench.attempts() == {"1": retry + 1}


async def test_without_retry_there_are_ten_like_those_of_knatives_broker(bench):
    bench.sink.reply = lambda _: answer(503)
    await bench.start(retry=None)
    await bench.deliver(make_event(1))
    assert bench.attempts() == {"1": 11}


async def test_attempts_end_with_the_first_that_the_sink_takes(bench):
    replies = [answer(503), (b"", "reset"), answer(202), answer(503)]
    bench.sink.reply = lambda _: replies.pop(0)
    await bench.start()
    (settlement,) = await bench.deliver(make_event(1))
    assert (settlement.outcome, settlement.reason) == (Outcome.ACCEPTED, Reason.NONE)
    assert (bench.attempts(), bench.dead.requests) == ({"1": 3}, [])


async def test_without_a_dead_letter_sink_the_sender_is_told(bench):
    bench.sink.reply = by_id()
    await bench.start(deadLetterSink=None)
    never, later = await bench.deliver(keyed(400), keyed(503))
    assert never.outcome is Outcome.REJECTED
    assert later.outcome is Outcome.RELEASED
    assert bench.attempts() == {"400": 1, "503": RETRY + 1}


# --- back-off --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delivery", "seconds"),
    [
        ({}, [0.4, 0.8, 1.6, 3.2]),
        ({"backoffPolicy": "linear"}, [0.2, 0.4, 0.6, 0.8]),
        ({"backoffPolicy": "exponential"}, [0.4, 0.8, 1.6, 3.2]),
        # One of both is enough: the other has its default, where Knative would not wait at all.
        ({"backoffDelay": "PT1S"}, [2, 4, 8, 16]),
        ({"backoffPolicy": "linear", "backoffDelay": "PT1.5S"}, [1.5, 3, 4.5, 6]),
        ({"backoffPolicy": "exponential", "backoffDelay": "PT0.05S"}, [0.1, 0.2, 0.4, 0.8]),
        ({"backoffDelay": "PT0S"}, [0, 0, 0, 0]),
        ({"backoffDelay": "P1W", "backoffCap": "P2D"}, [172_800] * 4),
        ({"backoffDelay": "PT1M", "backoffCap": "PT5M"}, [120, 240, 300, 300]),
    ],
)
async def test_each_wait_is_that_of_the_policy_with_n_from_1(bench, waits, delivery, seconds):
    bench.sink.reply = lambda _: answer(503)
    await bench.start(**{"retry": 4, "backoffDelay": None, **delivery})
    await bench.deliver(make_event(1))
    assert [n for n, _ in waits] == [1, 2, 3, 4]
    assert [wait for _, wait in waits] == pytest.approx(seconds)


async def test_jitter_spreads_a_wait_both_ways(bench, waits):
    bench.sink.reply = lambda _: answer(503)
    delivery = {"retry": 1, "backoffPolicy": "linear", "backoffDelay": "PT10S", "jitter": 0.2}
    await bench.start(**delivery)
    await bench.deliver(*[keyed(number) for number in range(40)])
    seconds = {wait for _, wait in waits}
    assert len(seconds) > 1
    assert all(8 <= wait <= 12 for wait in seconds)


async def test_waits_of_one_event_say_nothing_of_another(bench, waits):
    bench.sink.reply = lambda request: answer(503) if request.id == "1" else OK
    await bench.start(retry=3, backoffDelay="PT1S", backoffPolicy="linear")
    await bench.deliver(keyed(1), keyed(2))
    assert [wait for _, wait in waits] == [1, 2, 3]
    assert bench.attempts() == {"1": 4, "2": 1}


# --- Retry-After -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "field", "delivery", "seconds"),
    [
        (429, b"7", {}, 7),
        (503, b"7", {}, 7),
        (503, 100, {}, 100),  # the date so many seconds from now
        (429, 100, {}, 100),
        (503, -100, {}, 2),
        (503, b"1", {}, 2),  # the back-off is longer
        (503, b"7200", {}, 600),  # honoured by default, up to ten minutes
        (503, b"7200", {"retryAfterMax": "PT30S"}, 30),
        (503, 7200, {"retryAfterMax": "PT30S"}, 30),
        (429, b"7", {"retryAfterMax": "PT1S"}, 2),
        (429, b"7", {"retryAfterMax": "PT0S"}, 2),
        (503, b"7", {"backoffCap": "PT1S"}, 7),  # the cap is the back-off's
        (503, b"soon", {}, 2),
        (503, b"-7", {}, 2),
        (503, b"1.5", {}, 2),
        (500, b"7", {}, 2),
        (502, b"7", {}, 2),
        (404, b"7", {}, 2),
        (408, b"7", {}, 2),
    ],
)
async def test_retry_after_counts_on_429_and_503_where_it_is_longer_than_the_back_off(
    bench, waits, status, field, delivery, seconds
):
    text = field
    if isinstance(field, int):
        text = formatdate(time.time() + field, usegmt=True).encode()
    bench.sink.reply = lambda _: answer(status, b"Retry-After: " + text)
    await bench.start(**{"retry": 1, "backoffDelay": "PT1S", **delivery})
    await bench.deliver(make_event(1))
    ((_, wait),) = waits
    # A date is in whole seconds, and time passes until it is read.
    assert seconds - 10 <= wait <= seconds if isinstance(field, int) else wait == seconds


# --- the dead-letter sink --------------------------------------------------------------------


@pytest.mark.parametrize("retry", [0, 3])
async def test_the_request_to_the_dead_letter_sink_is_tried_again_by_the_same_spec(
    bench, waits, retry
):
    bench.sink.reply = lambda _: answer(400)
    bench.dead.reply = lambda _: answer(503)
    await bench.start(retry=retry, backoffDelay="PT1S")
    (settlement,) = await bench.deliver(make_event(1))
    assert len(bench.dead.requests) == retry + 1
    assert [wait for _, wait in waits] == [2, 4, 8][:retry]
    assert settlement.outcome is Outcome.RELEASED  # it may yet succeed: the sender keeps it


async def test_a_dead_letter_that_arrives_late_is_accepted(bench):
    bench.sink.reply = lambda _: answer(400)
    replies = [answer(503), answer(429), OK]
    bench.dead.reply = lambda _: replies.pop(0)
    await bench.start()
    (settlement,) = await bench.deliver(make_event(1))
    assert settlement.reason is Reason.DEAD_LETTERED
    assert len(bench.sink.requests) == 1


@pytest.mark.loop(factory=HurriedLoop)
async def test_each_attempt_for_a_dead_letter_has_the_same_time(bench):
    bench.sink.reply = lambda _: answer(400)
    bench.dead.reply = lambda _: (b"", "stall")
    await bench.start(timeout="PT10S")
    (settlement,) = await bench.deliver(make_event(1))
    assert len(bench.dead.requests) == RETRY + 1
    assert (settlement.outcome, settlement.reason) == (Outcome.RELEASED, Reason.TIMEOUT)


async def test_a_dead_letter_that_is_refused_too_is_refused(bench):
    bench.sink.reply = lambda _: answer(400)
    bench.dead.reply = lambda _: answer(403)
    await bench.start()
    (settlement,) = await bench.deliver(make_event(1))
    assert settlement.outcome is Outcome.REJECTED
    assert len(bench.dead.requests) == 1


async def test_a_dead_letter_is_the_event_with_three_more_attributes(bench):
    bench.sink.reply = lambda _: answer(400, body=b"\x00\xff<why>")
    await bench.start()
    event = make_event(
        1,
        subject="s",
        time="2026-01-02T03:04:05Z",
        datacontenttype="application/json",
        data=b'{"a": 1.50}',
        extensions={"mine": "x"},
    )
    await bench.deliver(event)
    (request,) = bench.dead.requests
    assert json.loads(request.body) == {
        "specversion": "1.0",
        "id": "1",
        "source": "/devices/dev1",
        "type": "com.example.test",
        "subject": "s",
        "time": "2026-01-02T03:04:05Z",
        "datacontenttype": "application/json",
        "mine": "x",
        "data": {"a": 1.5},
        "knativeerrordest": bench.sink.url,
        "knativeerrorcode": 400,
        "knativeerrordata": "AP88d2h5Pg==",
    }
    assert b'{"a": 1.50}' in request.body
    assert "prefer" not in request.fields


@pytest.mark.parametrize("length", [1, 767, 768, 769, 100_000])
async def test_error_data_is_base64_of_at_most_768_bytes(bench, length):
    body = bytes(n % 251 for n in range(length))
    bench.sink.reply = lambda _: answer(400, body=body)
    await bench.start()
    await bench.deliver(make_event(1))
    data = bench.letters()["1"]["data"]
    assert base64.b64decode(data, validate=True) == body[:768]
    assert len(data) <= 1024


OLD = {"knativeerrordest": "old", "knativeerrorcode": 418, "knativeerrordata": "b2xk"}


async def test_what_an_earlier_failure_left_on_the_event_is_replaced(bench):
    bench.sink.reply = lambda _: answer(400, body=b"new")
    await bench.start()
    await bench.deliver(make_event(1, extensions=OLD))
    assert bench.letters() == {"1": dead_after(bench, 400, data=b"new")}


async def test_an_answer_without_a_body_leaves_no_error_data_of_an_earlier_failure(bench):
    bench.sink.reply = lambda _: answer(400)
    await bench.start()
    await bench.deliver(make_event(1, extensions=OLD))
    assert bench.letters() == {"1": dead_after(bench, 400, data=b"")}


async def test_the_last_failure_is_the_one_that_the_dead_letter_tells(bench):
    replies = [answer(503, body=b"first"), answer(500, body=b"second"), answer(404, body=b"last")]
    bench.sink.reply = lambda _: replies.pop(0)
    await bench.start()
    await bench.deliver(make_event(1))
    assert bench.letters() == {"1": dead_after(bench, 404, data=b"last")}


async def test_the_credentials_of_the_sink_are_in_no_dead_letter(bench):
    bench.sink.reply = lambda _: answer(400)
    await bench.start(sink={"url": bench.sink.url.replace("//", "//user:secret@")})
    await bench.deliver(make_event(1))
    assert b"secret" not in bench.dead.requests[0].body
    assert bench.letters()["1"]["dest"] == bench.sink.url


# --- traps -----------------------------------------------------------------------------------


async def test_a_request_on_a_stale_connection_is_repeated_at_once_and_is_no_attempt(bench, waits):
    await bench.start(retry=0)
    await bench.deliver(make_event(1))
    bench.sink.reply = lambda request: (b"", "close") if request.connection == 1 else OK
    (settlement,) = await bench.deliver(make_event(2))
    assert (settlement.outcome, settlement.reason) == (Outcome.ACCEPTED, Reason.NONE)
    assert [(r.id, r.connection) for r in bench.sink.requests] == [("1", 1), ("2", 1), ("2", 2)]
    assert (waits, bench.metrics.sinks["out"].failed) == ([], {})


async def test_a_connection_that_the_sink_closed_while_it_was_idle_costs_no_attempt(bench):
    await bench.start(retry=0)
    await bench.deliver(make_event(1))
    bench.sink.drop_connections()
    (settlement,) = await bench.deliver(make_event(2))
    assert settlement.reason is Reason.NONE
    assert bench.attempts() == {"1": 1, "2": 1}
    assert bench.metrics.sinks["out"].failed == {}


async def test_the_repetition_is_an_attempt_when_it_fails_too(bench):
    await bench.start()
    await bench.deliver(make_event(1))
    bench.sink.reply = lambda _: (b"", "reset")
    await bench.deliver(make_event(2))
    assert bench.attempts() == {"1": 1, "2": 1 + RETRY + 1}
    assert bench.metrics.sinks["out"].failed == {"sink_down": RETRY + 1}


async def test_a_byte_of_an_answer_on_an_idle_connection_makes_it_an_attempt(bench):
    await bench.start(retry=0)
    await bench.deliver(make_event(1))
    bench.sink.reply = lambda _: (b"H", "close")
    (settlement,) = await bench.deliver(make_event(2))
    assert settlement.reason is Reason.DEAD_LETTERED
    assert bench.attempts() == {"1": 1, "2": 1}


async def test_a_connection_that_breaks_under_load_makes_it_an_attempt(bench):
    # 2 follows 1 at once: the connection was not idle, so the sink has most likely read it.
    bench.sink.reply = lambda request: (b"", "reset") if request.id == "2" else OK
    await bench.start(retry=0)
    settlements = await bench.deliver(make_event(1), make_event(2), make_event(3))
    assert [s.reason for s in settlements] == [Reason.NONE, Reason.DEAD_LETTERED, Reason.NONE]
    assert bench.attempts() == {"1": 1, "2": 1, "3": 1}


DELIVERED = {
    "body stalls": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "stall"),
    "body is cut": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "close"),
    "body is cut by a reset": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "reset"),
    "chunk is cut": (b"HTTP/1.1 202 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\na", "close"),
    "head stalls": (b"HTTP/1.1 202 Accepted\r\nContent-Le", "stall"),
    "head is cut": (b"HTTP/1.1 202 Accepted\r\nContent-Le", "close"),
    "after 100 Continue": b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    "after 102 and 103": b"HTTP/1.1 102 X\r\n\r\nHTTP/1.1 103 X\r\nLink: y\r\n\r\n" + OK,
}


@pytest.mark.parametrize("reply", DELIVERED.values(), ids=DELIVERED.keys())
@pytest.mark.loop(factory=HurriedLoop)
async def test_a_complete_status_line_of_2xx_is_delivered_once(bench, reply):
    bench.sink.reply = lambda _: reply
    await bench.start(timeout="PT10S")
    (settlement,) = await bench.deliver(make_event(1))
    assert (settlement.outcome, settlement.reason) == (Outcome.ACCEPTED, Reason.NONE)
    assert bench.attempts() == {"1": 1}


async def test_a_refusal_whose_body_is_cut_is_final_and_keeps_what_came_of_it(bench):
    reply = b"HTTP/1.1 400 Bad\r\nContent-Length: 10\r\n\r\nabc"
    bench.sink.reply = lambda _: (reply, "close")
    await bench.start()
    await bench.deliver(make_event(1))
    assert bench.attempts() == {"1": 1}
    assert bench.letters() == {"1": dead_after(bench, 400, data=b"abc")}


@pytest.mark.parametrize(("status", "outcome"), [(202, Reason.NONE), (413, Reason.DEAD_LETTERED)])
async def test_an_answer_before_the_request_is_fully_sent_counts(bench, status, outcome):
    seen, closed = [], asyncio.Event()

    async def refuse_early(reader, writer):
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig" % status)
        writer.close()  # what was not read makes this a reset
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        closed.set()

    server = await asyncio.start_server(refuse_early, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await bench.start(sink={"url": f"http://127.0.0.1:{port}/"})
    large = make_event(1, datacontenttype="application/octet-stream", data=b"x" * 4_000_000)
    (settlement,) = await bench.deliver(large)
    assert (settlement.outcome, settlement.reason) == (Outcome.ACCEPTED, outcome)
    assert len(seen) == 1
    if status == 413:
        assert bench.letters()["1"]["code"] == 413
    await closed.wait()
    server.close()


@pytest.mark.loop(factory=HurriedLoop)
async def test_a_stalled_sink_holds_nothing_of_another_key_and_ends_in_time(bench):
    bench.sink.reply = lambda request: (b"", "stall") if request.id == "1" else OK
    await bench.start(timeout="PT10S", retry=1)
    settlements = await bench.deliver(keyed(1), *[keyed(number) for number in range(2, 30)])
    assert [s.reason for s in settlements] == [Reason.DEAD_LETTERED] + [Reason.NONE] * 28
    assert bench.attempts() == {"1": 2} | {str(number): 1 for number in range(2, 30)}


async def test_order_per_key_survives_retries(bench):
    failures = collections.Counter()
    taken = collections.defaultdict(list)
    troubles = [answer(503), answer(429), (b"", "reset"), (b"HTTP/1.1 5", "close"), answer(404)]

    def reply(request):
        number = int(request.id)
        if failures[number] < number % 4:
            failures[number] += 1
            return troubles[(number + failures[number]) % len(troubles)]
        taken[json.loads(request.body)["source"]].append(number)
        return OK

    bench.sink.reply = reply
    await bench.start(retry=5)
    events = [make_event(number, source=f"/{number % 7}") for number in range(280)]
    await bench.submit(*events[:140])
    settlements = await bench.deliver(*events[140:])
    assert {s.reason for s in settlements} == {Reason.NONE}
    assert taken == {f"/{key}": list(range(key, 280, 7)) for key in range(7)}
    assert bench.dead.requests == []


async def test_an_event_that_is_given_up_lets_the_next_of_its_key_go(bench):
    bench.sink.reply = lambda request: answer(503) if request.id == "1" else OK
    await bench.start()
    settlements = await bench.deliver(*[make_event(number) for number in (1, 2, 3)])
    assert [s.reason for s in settlements] == [Reason.DEAD_LETTERED, Reason.NONE, Reason.NONE]
    assert [r.id for r in bench.sink.requests] == ["1", "1", "1", "2", "3"]


# --- what the sink itself holds back is no attempt -------------------------------------------

HOOK = {"webhook": {"origin": "gw.example.com", "ask_again": "PT0.02S"}}


def consent(rate=b"*"):
    fields = b"WebHook-Allowed-Origin: *", b"WebHook-Allowed-Rate: " + rate
    return answer(200, *fields)


def deliveries(bench):
    return [request.id for request in bench.sink.requests if request.line.startswith("POST")]


async def test_waiting_for_consent_uses_up_no_retry(bench):
    validations = [answer(200)] * 5 + [consent()]
    bench.sink.reply = lambda r: validations.pop(0) if r.line.startswith("OPTIONS") else OK
    await bench.start(sink=HOOK, retry=1)
    settlements = await bench.deliver(make_event(1), make_event(2), keyed(3))
    assert {s.reason for s in settlements} == {Reason.NONE}
    assert sorted(deliveries(bench)) == ["1", "2", "3"]
    assert (validations, bench.metrics.sinks["out"].failed, bench.dead.requests) == ([], {}, [])


async def test_a_pause_that_the_receiver_asked_for_is_an_attempt_of_the_first_event_only(bench):
    replies = [answer(429, b"Retry-After: 1")]

    def reply(request):
        if request.line.startswith("OPTIONS"):
            return consent()
        return replies.pop() if replies else OK

    bench.sink.reply = reply
    await bench.start(sink={**HOOK, "connections": 1}, retry=1)
    settlements = await bench.deliver(*[keyed(number) for number in range(6)])
    assert {s.reason for s in settlements} == {Reason.NONE}
    assert collections.Counter(deliveries(bench)) == {"0": 2} | {str(n): 1 for n in range(1, 6)}
    assert bench.metrics.sinks["out"].failed == {"sink_busy": 1}


@pytest.mark.loop(factory=HurriedLoop)
async def test_waiting_for_a_turn_in_the_rate_uses_up_no_retry(bench):
    bench.sink.reply = lambda r: consent(b"60") if r.line.startswith("OPTIONS") else OK
    await bench.start(sink=HOOK, retry=0, timeout="PT2S")  # a turn a second
    settlements = await bench.deliver(*[keyed(number) for number in range(12)])
    assert {s.reason for s in settlements} == {Reason.NONE}
    assert len(deliveries(bench)) == 12
    assert bench.metrics.sinks["out"].failed == {}
