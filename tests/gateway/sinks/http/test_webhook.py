"""The HTTP sink as a webhook's sender, against a scripted receiver (http-webhook.md).

The names in capitals are the requirements' in conformance/requirements.
"""

import asyncio
import json
import logging
import re
import ssl
import time
from email.utils import formatdate

import pytest

from bindings.event import Event
from gateway.config.records import TlsConfig
from gateway.delivery import Outcome, Reason
from gateway.errors import GatewayError
from gateway.sinks.http import HttpSink, HttpSinkConfig
from gateway.sinks.http.webhook import parse_rate
from tests.gateway.scripted_http import OK, Script, answer

ORIGIN = b"WebHook-Allowed-Origin: gw.example.com"
RATE = b"WebHook-Allowed-Rate: *"
CONSENT = answer(200, b"Allow: POST", ORIGIN, RATE)
NO_CONSENT = answer(200, b"Allow: POST")


class Receiver(Script):
    """Answers OPTIONS with `validation` and POST with `delivery`, bytes or a function."""

    def __init__(self):
        super().__init__()
        self.validation = CONSENT
        self.delivery = OK
        self.times = []
        self.reply = self._reply

    def _reply(self, request):
        if request.line.startswith("OPTIONS"):
            script = self.validation
        else:
            script = self.delivery
            self.times.append(time.monotonic())
        return script(request) if callable(script) else script

    @property
    def validations(self):
        return [request for request in self.requests if request.line.startswith("OPTIONS")]

    @property
    def deliveries(self):
        return [request for request in self.requests if not request.line.startswith("OPTIONS")]


@pytest.fixture
async def receiver():
    script = await Receiver().start()
    yield script
    await script.close()


@pytest.fixture
async def start():
    running = []

    async def start(url, *, token="t0k3n", webhook=None, **config):
        table = {"origin": "gw.example.com", **(webhook or {})}
        config = HttpSinkConfig(
            name="out", url=getattr(url, "url", url), token=token, webhook=table, **config
        )
        sink = HttpSink(config)
        running.append(sink)
        await sink.open()
        return sink

    yield start
    for sink in running:
        await sink.close()


def event(number, source="/s", **attributes):
    attributes.setdefault("data", b'{"a":1}')
    attributes.setdefault("datacontenttype", "application/json")
    return Event(id=str(number), source=source, type="t", **attributes)


def events(count):
    """Events of a key each."""
    return [event(number, f"/{number}") for number in range(count)]


class TestValidation:
    # WH-VAL-001, WH-VAL-002, WH-VAL-004, WH-ABU-002
    async def test_the_first_request_is_options_to_the_same_resource(self, receiver, start):
        sink = await start(receiver)
        assert await sink.send([event(1), event(2)]) == []
        first, *others = receiver.requests
        assert first.line == "OPTIONS /path?query=1 HTTP/1.1"
        assert first.lines[0] == f"Host: 127.0.0.1:{receiver.port}"
        assert first.lines[2:] == [
            "WebHook-Request-Origin: gw.example.com",
            "Authorization: Bearer t0k3n",
            "Content-Length: 0",
        ]
        assert [request.line for request in others] == ["POST /path?query=1 HTTP/1.1"] * 2

    # WH-VAL-009
    async def test_a_rate_is_asked_for_when_one_is_configured(self, receiver, start):
        sink = await start(receiver, webhook={"rate": 120})
        assert await sink.send([event(1)]) == []
        assert receiver.requests[0].fields["webhook-request-rate"] == "120"

    # WH-DLV-004, WH-VAL-003
    async def test_each_delivery_repeats_the_origin(self, receiver, start):
        sink = await start(receiver)
        assert await sink.send(events(5)) == []
        origins = [request.fields["webhook-request-origin"] for request in receiver.requests]
        assert origins == ["gw.example.com"] * 6

    async def test_many_events_and_connections_wait_for_one_validation(self, receiver, start):
        validated = asyncio.Event()

        async def consent():
            await validated.wait()
            return CONSENT

        receiver.validation = lambda _: consent()
        sink = await start(receiver)
        async with asyncio.TaskGroup() as group:
            sending = [group.create_task(sink.send([event(n, f"/{n}")])) for n in range(40)]
            await receiver.wait_for(1)
            assert sink.ready() == 0
            assert len(receiver.requests) == 1
            validated.set()
        assert [task.result() for task in sending] == [[]] * 40
        assert len(receiver.validations) == 1
        assert len(receiver.deliveries) == 40

    # WH-ORG-002; pitfall 87: an origin is compared whole.
    @pytest.mark.parametrize(
        "granted", [b"gw.example.com", b"*", b"GW.Example.com", b"  gw.example.com  "]
    )
    async def test_the_own_origin_or_an_asterisk_is_consent(self, receiver, start, granted):
        receiver.validation = answer(204, b"wEbHoOk-AlLoWeD-oRiGiN: " + granted, RATE)
        receiver.validation = receiver.validation.replace(b"Content-Length: 0\r\n", b"")
        sink = await start(receiver)
        assert await sink.send([event(1)]) == []

    # WH-VRS-003, WH-ORG-002, WH-RAT-005; pitfall 87
    @pytest.mark.parametrize(
        ("reply", "why"),
        [
            (NO_CONSENT, "has no WebHook-Allowed-Origin"),
            (answer(204).replace(b"Content-Length: 0\r\n", b""), "no WebHook-Allowed-Origin"),
            (answer(200, RATE), "has no WebHook-Allowed-Origin"),
            (answer(200, ORIGIN), "has no WebHook-Allowed-Rate"),
            (answer(200, ORIGIN + b".evil.org", RATE), "is 'gw.example.com.evil.org'"),
            (answer(200, b"WebHook-Allowed-Origin: gw.example", RATE), "is 'gw.example', not"),
            (answer(200, b"WebHook-Allowed-Origin: example.com", RATE), "is 'example.com', not"),
            (answer(200, b"WebHook-Allowed-Origin: *.example.com", RATE), "is '*.example.com'"),
            (answer(200, b"WebHook-Allowed-Origin: ", RATE), "is '', not"),
            (answer(200, ORIGIN, ORIGIN, RATE), "is 'gw.example.com, gw.example.com', not"),
            (answer(200, ORIGIN, b"WebHook-Allowed-Rate: 0"), "Allowed-Rate is '0'"),
            (answer(200, ORIGIN, b"WebHook-Allowed-Rate: -5"), "Allowed-Rate is '-5'"),
            (answer(200, ORIGIN, b"WebHook-Allowed-Rate: abc"), "Allowed-Rate is 'abc'"),
            (answer(200, ORIGIN, b"WebHook-Allowed-Rate: 1.5"), "Allowed-Rate is '1.5'"),
            (answer(200, ORIGIN, b"WebHook-Allowed-Rate: 1", RATE), "Allowed-Rate is '1, *'"),
            (answer(405, b"Allow: POST"), "OPTIONS was answered 405"),
            (answer(401, ORIGIN, RATE), "OPTIONS was answered 401"),
            (answer(404, ORIGIN, RATE), "OPTIONS was answered 404"),
            (answer(307, b"Location: /x", ORIGIN, RATE), "OPTIONS was answered 307"),
            (
                b"HTTP/1.1 103 Early Hints\r\n"
                + ORIGIN
                + b"\r\n"
                + RATE
                + b"\r\n\r\n"
                + NO_CONSENT,
                "has no WebHook-Allowed-Origin",
            ),
        ],
    )
    async def test_anything_else_is_no_consent_and_says_why(
        self, receiver, start, caplog, reply, why
    ):
        caplog.set_level(logging.INFO, "gateway.sinks.http")
        receiver.validation = reply
        sink = await start(receiver, webhook={"rate": 60})
        failures = await sink.send([event(1), event(2), event(3, "/other")])
        assert [(f.position, f.outcome, f.reason) for f in failures] == [
            (0, Outcome.RELEASED, Reason.HELD),
            (1, Outcome.RELEASED, Reason.HELD),
            (2, Outcome.RELEASED, Reason.HELD),
        ]
        assert failures[0].detail.startswith("no consent: ")
        assert why in failures[0].detail
        assert 50 < failures[0].retry_after <= 60
        assert failures[1].retry_after is None  # it waits for the first of its key
        assert 50 < failures[2].retry_after <= 60
        assert await sink.send([event(4)]) != []
        assert [request.line[:7] for request in receiver.requests] == ["OPTIONS"]
        (line,) = [record.getMessage() for record in caplog.records]
        assert line.startswith("sink out has no consent: ")
        assert why in line

    # WH-RAT-001, WH-RAT-002: without a rate asked for, the answer need not name one.
    async def test_a_missing_rate_is_consent_when_none_was_asked_for(self, receiver, start):
        receiver.validation = answer(200, ORIGIN)
        sink = await start(receiver)
        assert await sink.send(events(20)) == []

    async def test_consent_is_asked_for_again_after_a_refusal(self, receiver, start, caplog):
        caplog.set_level(logging.INFO, "gateway.sinks.http")
        receiver.validation = NO_CONSENT
        sink = await start(receiver, webhook={"ask_again": 0.01})
        assert await sink.send([event(1)]) != []
        receiver.validation = CONSENT
        async with asyncio.timeout(10):
            while failures := await sink.send([event(1)]):
                await asyncio.sleep(failures[0].retry_after)
        assert len(receiver.deliveries) == 1
        assert [record.getMessage().split(":")[0] for record in caplog.records] == [
            "sink out has no consent",
            "sink out has consent to any number of requests a minute",
        ]

    async def test_consent_is_asked_for_again_when_its_time_is_over(self, receiver, start):
        sink = await start(receiver, webhook={"valid_for": 0.05})
        async with asyncio.timeout(10):
            while len(receiver.validations) < 3:
                assert await sink.send([event(1)]) == []
        assert len(receiver.deliveries) > 2

    @pytest.mark.parametrize(
        ("reply", "reason"),
        [
            (answer(503, b"Retry-After: 7"), Reason.SINK_DOWN),
            (answer(500, ORIGIN, RATE), Reason.SINK_DOWN),
            ((b"", "close"), Reason.SINK_DOWN),
            ((b"HTTP/1.1 2", "reset"), Reason.SINK_DOWN),
            (answer(429, b"Retry-After: 7"), Reason.SINK_BUSY),
        ],
    )
    async def test_a_receiver_in_trouble_is_asked_again_with_the_next_event(
        self, receiver, start, reply, reason
    ):
        receiver.validation = reply
        sink = await start(receiver)
        failures = await sink.send([event(1), event(2)])
        assert [f.reason for f in failures] == [reason, Reason.HELD]
        receiver.validation = CONSENT
        failures = await sink.send([event(1)])
        assert len(receiver.deliveries) == (0 if reason is Reason.SINK_BUSY else 1)
        assert len(failures) == (1 if reason is Reason.SINK_BUSY else 0)

    async def test_a_receiver_that_does_not_answer_options_is_given_up_in_time(
        self, receiver, start
    ):
        receiver.validation = (b"", "stall")
        sink = await start(receiver, timeout=0.1)
        (failure,) = await sink.send([event(1)])
        assert (failure.outcome, failure.reason) == (Outcome.RELEASED, Reason.TIMEOUT)
        assert receiver.deliveries == []

    async def test_the_time_of_an_attempt_counts_for_options_too(self, receiver, start):
        receiver.validation = (b"", "stall")
        sink = await start(receiver)
        async with asyncio.timeout(10):
            (failure,) = await sink.send([event(1)], timeout=0.1)
        assert (failure.outcome, failure.reason) == (Outcome.RELEASED, Reason.TIMEOUT)

    async def test_nothing_listens(self, receiver, start):
        url = receiver.url
        await receiver.close()
        sink = await start(url)
        (failure,) = await sink.send([event(1)])
        assert (failure.outcome, failure.reason) == (Outcome.RELEASED, Reason.SINK_DOWN)

    async def test_a_cancelled_caller_leaves_the_next_one_served(self, receiver, start):
        receiver.validation = (b"", "stall")
        sink = await start(receiver, timeout=0.2)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await sink.send([event(1)])
        receiver.validation = CONSENT
        async with asyncio.timeout(10):
            while await sink.send([event(2)]):
                pass
        assert [request.id for request in receiver.deliveries] == ["2"]


class TestDelivery:
    # WH-DLV-002, WH-DLV-003; pitfall 47
    @pytest.mark.parametrize(
        ("attributes", "content_type"),
        [
            ({"data": None, "datacontenttype": None}, "application/cloudevents+json"),
            ({"data": None, "datacontenttype": "text/plain"}, "application/cloudevents+json"),
            ({"data": b"", "datacontenttype": "text/plain"}, "application/cloudevents+json"),
            ({"data": b"\x00", "datacontenttype": None}, "application/cloudevents+json"),
            ({"data": b"a", "datacontenttype": "text/plain"}, "text/plain"),
        ],
    )
    async def test_each_notification_has_a_payload_and_its_content_type(
        self, receiver, start, attributes, content_type
    ):
        sink = await start(receiver, mode="binary")
        assert await sink.send([event(1, **attributes)]) == []
        (request,) = receiver.deliveries
        assert request.line.startswith("POST ")
        assert request.fields["content-type"] == content_type
        assert request.body
        if content_type == "application/cloudevents+json":
            assert json.loads(request.body)["id"] == "1"
            assert not [name for name in request.fields if name.startswith("ce-")]

    async def test_batches_are_delivered_alike(self, receiver, start):
        sink = await start(receiver, batch=True)
        assert await sink.send(events(3)) == []
        (request,) = receiver.deliveries
        assert request.fields["webhook-request-origin"] == "gw.example.com"
        assert len(json.loads(request.body)) == 3

    # WH-RSP-003; pitfall 88
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_redirects_are_followed_neither_by_options_nor_by_post(
        self, receiver, start, status
    ):
        other = await Receiver().start()
        location = b"Location: " + other.url.encode()
        receiver.delivery = answer(status, location)
        sink = await start(receiver)
        (failure,) = await sink.send([event(1)])
        assert failure.outcome is Outcome.REJECTED
        receiver.validation = answer(status, location, ORIGIN, RATE)
        again = await start(receiver)
        (failure,) = await again.send([event(1)])
        assert failure.outcome is Outcome.RELEASED
        assert other.requests == []
        await other.close()

    # WH-RSP-001
    @pytest.mark.parametrize("body", [b"", b"{", b"\xff\x00", b"<html>" * 500])
    async def test_the_body_of_an_error_may_be_anything(self, receiver, start, body):
        receiver.delivery = answer(422, b"Content-Type: application/json", body=body)
        sink = await start(receiver)
        (failure,) = await sink.send([event(1)])
        assert (failure.outcome, failure.status) == (Outcome.REJECTED, 422)

    # WH-RSP-004, WH-RSP-006, WH-RSP-007: whatever the receiver says of processing, it has it.
    @pytest.mark.parametrize("status", [200, 201, 202, 204])
    async def test_success(self, receiver, start, status):
        body = b"done" if status == 200 else b""
        reply = answer(status, b"Content-Type: text/plain", body=body)
        receiver.delivery = reply.replace(b"Content-Length: 0\r\n", b"") if status == 204 else reply
        sink = await start(receiver)
        assert await sink.send([event(1)]) == []

    # WH-RSP-009
    @pytest.mark.parametrize("batch", [False, True])
    async def test_after_410_nothing_more_is_sent(self, receiver, start, caplog, batch):
        caplog.set_level(logging.WARNING, "gateway.sinks.http")
        receiver.delivery = answer(410)
        sink = await start(receiver, connections=1, batch=batch)
        failures = await sink.send([event(1), event(2), event(3, "/other")])
        assert [(f.outcome, f.status) for f in failures] == [(Outcome.REJECTED, 410)] * 3
        failures = await sink.send([event(4), event(5)])
        assert [(f.outcome, f.reason) for f in failures] == [
            (Outcome.REJECTED, Reason.SINK_REFUSED)
        ] * 2
        assert len(receiver.deliveries) == 1
        assert len(receiver.validations) == 1
        (record,) = caplog.records
        assert "410 Gone" in record.getMessage()

    async def test_410_to_options_is_no_consent_either(self, receiver, start):
        receiver.validation = answer(410, ORIGIN, RATE)
        sink = await start(receiver)
        for _ in range(2):
            (failure,) = await sink.send([event(1)])
            assert (failure.outcome, failure.status) == (Outcome.REJECTED, 410)
        assert len(receiver.requests) == 1

    async def test_a_retired_receiver_is_asked_again_in_time_before_anything_is_sent(
        self, receiver, start
    ):
        receiver.delivery = answer(410)
        sink = await start(receiver, webhook={"valid_for": 0.1})
        assert await sink.send([event(1)]) != []
        receiver.delivery = OK
        async with asyncio.timeout(10):
            while await sink.send([event(2)]):
                await asyncio.sleep(0.01)
        assert [request.line[:4] for request in receiver.requests[-2:]] == ["OPTI", "POST"]

    # WH-RSP-012; pitfall 90: for every event to this receiver, as seconds or as a date.
    @pytest.mark.parametrize("as_date", [False, True])
    async def test_retry_after_of_429_holds_everything_back(self, receiver, start, as_date):
        text = formatdate(time.time() + 100, usegmt=True) if as_date else "100"
        receiver.delivery = answer(429, b"Retry-After: " + text.encode())
        sink = await start(receiver, connections=1)
        failures = await sink.send([event(1), event(2), event(3, "/other")])
        # Only the first was sent: the others have used up none of their retries.
        assert [f.reason for f in failures] == [Reason.SINK_BUSY, Reason.HELD, Reason.HELD]
        assert 90 < failures[2].retry_after <= 100
        receiver.delivery = OK
        (failure,) = await sink.send([event(4, "/else")])
        assert (failure.outcome, failure.reason) == (Outcome.RELEASED, Reason.HELD)
        assert failure.detail == "429 Too Many Requests"
        assert 90 < failure.retry_after <= 100
        assert len(receiver.deliveries) == 1

    async def test_sending_goes_on_when_the_time_of_retry_after_has_come(self, receiver, start):
        receiver.delivery = answer(429, b"Retry-After: 1")
        sink = await start(receiver)
        assert await sink.send([event(1)]) != []
        limited = time.monotonic()
        receiver.delivery = OK
        async with asyncio.timeout(10):
            while failures := await sink.send([event(1)]):
                await asyncio.sleep(failures[0].retry_after)
        assert receiver.times[-1] - limited > 0.9
        assert len(receiver.deliveries) == 2

    async def test_a_retry_after_of_years_does_not_end_a_sink(self, receiver, start):
        receiver.delivery = answer(429, b"Retry-After: 999999999")
        sink = await start(receiver, webhook={"valid_for": 0.1})
        assert await sink.send([event(1)]) != []
        receiver.delivery = OK
        async with asyncio.timeout(10):
            while await sink.send([event(1)]):
                await asyncio.sleep(0.01)

    async def test_429_without_retry_after_is_released_and_holds_nothing_else(
        self, receiver, start
    ):
        receiver.delivery = answer(429)
        sink = await start(receiver)
        (failure,) = await sink.send([event(1)])
        assert (failure.outcome, failure.retry_after) == (Outcome.RELEASED, None)
        receiver.delivery = OK
        assert await sink.send([event(2)]) == []

    async def test_403_makes_old_consent_doubtful_and_the_event_is_not_lost(
        self, receiver, start, caplog
    ):
        caplog.set_level(logging.WARNING, "gateway.sinks.http")
        sink = await start(receiver, webhook={"ask_again": 0.05})
        assert await sink.send([event(1)]) == []
        await asyncio.sleep(0.06)
        receiver.delivery, receiver.validation = answer(403), NO_CONSENT
        failures = await sink.send([event(2), event(3)])
        assert [f.reason for f in failures] == [Reason.HELD, Reason.HELD]
        assert failures[0].outcome is Outcome.RELEASED
        assert failures[0].retry_after is not None
        assert [request.line[:4] for request in receiver.requests] == [
            *("OPTI", "POST"),
            *("POST", "OPTI"),
        ]
        assert "no consent" in caplog.text

    async def test_403_to_what_was_sent_before_the_newest_consent_is_no_refusal(
        self, receiver, start
    ):
        sink = await start(receiver, webhook={"ask_again": 0.05})
        assert await sink.send([event(0)]) == []
        await asyncio.sleep(0.06)
        refused, asked_again = set(), asyncio.Event()

        async def refuse_once(request):
            if request.id in refused:
                return OK
            refused.add(request.id)
            if request.id == "2":  # its answer comes late
                await asked_again.wait()
            return answer(403)

        receiver.delivery = refuse_once
        async with asyncio.TaskGroup() as group:
            late = group.create_task(sink.send([event(2, "/late")]))
            await receiver.wait_for(3)
            assert await sink.send([event(1)]) == []
            asked_again.set()
        assert late.result() == []
        assert len(receiver.validations) == 2

    async def test_403_for_the_event_itself_is_a_refusal(self, receiver, start):
        receiver.delivery = answer(403)
        sink = await start(receiver, webhook={"ask_again": 100})
        (failure,) = await sink.send([event(1)])
        assert failure.outcome is Outcome.REJECTED
        sink._webhook._granted_at -= 100  # as if so many seconds had passed
        (failure,) = await sink.send([event(2)])
        assert failure.outcome is Outcome.REJECTED
        assert [request.line[:4] for request in receiver.requests] == [
            *("OPTI", "POST"),
            *("POST", "OPTI", "POST"),
        ]


class TestRate:
    # WH-RAT-005, WH-RAT-006
    async def test_deliveries_keep_to_the_granted_rate(self, receiver, start):
        consented = []

        def consent(_):
            consented.append(time.monotonic())
            return answer(200, ORIGIN, b"WebHook-Allowed-Rate: 1200")  # one in 50 ms

        receiver.validation = consent
        sink = await start(receiver)
        async with asyncio.timeout(20):
            assert await sink.send(events(8)) == []
        # The first can't be sent before there is consent; 0.1 s is what it may be late.
        assert receiver.times[-1] - consented[0] > 7 * 0.05 - 0.11
        assert len(receiver.deliveries) == 8

    async def test_what_has_no_turn_within_its_timeout_is_released_until_it_has(
        self, receiver, start
    ):
        receiver.validation = answer(200, ORIGIN, b"WebHook-Allowed-Rate: 1")
        sink = await start(receiver)
        listed = [event(1), event(2), event(3), event(4, "/other")]
        sending = asyncio.ensure_future(sink.send(listed, timeout=100))
        await receiver.wait_for(2)
        (job,) = sink._jobs
        job.deadline = 0.0  # as if the 100 s had passed
        sink.wake()
        async with asyncio.timeout(10):
            failures = await sending
        assert [(f.position, f.reason) for f in failures] == [
            (1, Reason.HELD),
            (2, Reason.HELD),
            (3, Reason.HELD),
        ]
        assert failures[0].outcome is Outcome.RELEASED
        assert 55 < failures[0].retry_after <= 61
        assert len(receiver.deliveries) == 1

    async def test_a_list_with_time_goes_on_after_one_that_gave_up(self, receiver, start):
        receiver.validation = answer(200, ORIGIN, b"WebHook-Allowed-Rate: 240")
        sink = await start(receiver)
        assert await sink.send([event(7, "/7")]) == []  # else `hasty` might get no connection
        async with asyncio.TaskGroup() as group:
            patient = group.create_task(sink.send(events(3)))
            hasty = group.create_task(sink.send([event(8, "/8"), event(9, "/9")], timeout=0.1))
        assert patient.result() == []
        assert [f.reason for f in hasty.result()] == [Reason.HELD] * 2
        assert sorted(request.id for request in receiver.deliveries) == ["0", "1", "2", "7"]

    async def test_a_list_that_is_started_while_others_give_up_ends_nothing_twice(
        self, receiver, start
    ):
        receiver.validation = answer(200, ORIGIN, b"WebHook-Allowed-Rate: 1")
        sink = await start(receiver)
        await sink.send([event(0)])  # the only turn in a minute
        ended, errors = [], []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: errors.append(context))
        all_ended = loop.create_future()

        def on_ended(failures):
            ended.append(failures)
            if len(ended) == 1:  # as a dispatcher does, with what has gathered
                sink.start_sending([event(3, "/3")], 0.1, on_ended, lambda _: None)
            if len(ended) == 3:
                all_ended.set_result(None)

        for number in (1, 2):
            sink.start_sending([event(number, f"/{number}")], 0.1, on_ended, lambda _: None)
        async with asyncio.timeout(10):
            await all_ended
        assert [failures[0].reason for failures in ended] == [Reason.HELD] * 3
        assert errors == []
        assert len(receiver.deliveries) == 1

    async def test_closing_releases_what_waits_for_its_turn(self, receiver, start):
        receiver.validation = answer(200, ORIGIN, b"WebHook-Allowed-Rate: 1")
        sink = await start(receiver)
        sending = asyncio.ensure_future(sink.send(events(3)))
        await receiver.wait_for(2)
        await asyncio.sleep(0)
        await sink.close()
        failures = await sending
        assert len(failures) >= 2
        assert {f.outcome for f in failures} == {Outcome.RELEASED}

    # WH-RAT-005
    @pytest.mark.parametrize(("text", "rate"), [("*", None), ("1", 1), ("120", 120), ("007", 7)])
    def test_a_rate_is_an_asterisk_or_a_positive_integer(self, text, rate):
        assert parse_rate(text) == rate

    @pytest.mark.parametrize(
        "text", ["", "0", "000", "-1", "+1", "1.5", "1e3", "٣", "* ", "9" * 30]
    )
    def test_anything_else_is_no_rate(self, text):
        with pytest.raises(ValueError, match="no rate"):
            parse_rate(text)


class TestAuthorization:
    # WH-AUT-003, WH-AUT-005, WH-AUT-010
    async def test_the_token_is_in_the_header_by_default(self, receiver, start):
        sink = await start(receiver, token="a+b/c=~ x&y")
        assert await sink.send([event(1)]) == []
        assert {request.fields["authorization"] for request in receiver.requests} == {
            "Bearer a+b/c=~ x&y"
        }
        assert "access_token" not in receiver.requests[1].line

    # WH-AUT-006, WH-AUT-007, WH-AUT-008
    async def test_the_token_may_be_in_the_query(self, receiver, start):
        sink = await start(receiver, token="a b&c=d", webhook={"query_token": True})
        assert await sink.send([event(1)]) == []
        resource = "/path?query=1&access_token=a%20b%26c%3Dd HTTP/1.1"
        assert [r.line for r in receiver.requests] == [f"OPTIONS {resource}", f"POST {resource}"]
        assert {r.fields["cache-control"] for r in receiver.requests} == {"no-store"}
        assert not [r for r in receiver.requests if "authorization" in r.fields]

    async def test_a_url_without_a_query_gets_one(self, receiver, start):
        url = f"http://127.0.0.1:{receiver.port}"
        sink = await start(url, webhook={"query_token": True})
        assert await sink.send([event(1)]) == []
        assert receiver.deliveries[0].line == "POST /?access_token=t0k3n HTTP/1.1"

    async def test_a_token_from_a_file_is_shown_in_the_query_as_it_changes(
        self, receiver, start, tmp_path
    ):
        file = tmp_path / "token"
        file.write_text("one")
        sink = await start(receiver, token=None, token_file=file, webhook={"query_token": True})
        assert await sink.send([event(1)]) == []
        file.write_text("second")
        receiver.delivery = lambda r: OK if "second" in r.line else answer(401)
        assert await sink.send([event(2)]) == []
        assert [r.line.split("=")[-1].split()[0] for r in receiver.deliveries] == [
            *("one", "one", "second"),
        ]

    # WH-AUT-004
    @pytest.mark.parametrize("scheme", [b"Digest", b"NTLM", b"Negotiate", b"Basic"])
    async def test_a_challenge_is_not_answered(self, receiver, start, scheme):
        receiver.delivery = answer(401, b"WWW-Authenticate: " + scheme + b' realm="a", nonce="b"')
        sink = await start(receiver)
        (failure,) = await sink.send([event(1)])
        assert failure.outcome is Outcome.REJECTED
        assert len(receiver.requests) == 2

    async def test_the_token_is_never_logged(self, receiver, start, caplog):
        caplog.set_level(logging.DEBUG)
        receiver.validation = NO_CONSENT
        sink = await start(receiver, webhook={"query_token": True, "ask_again": 0.001})
        failures = [*await sink.send([event(1)])]
        receiver.validation, receiver.delivery = CONSENT, answer(410)
        async with asyncio.timeout(10):
            while not receiver.deliveries:
                failures += await sink.send([event(1)])
        assert "t0k3n" not in caplog.text
        assert "t0k3n" not in repr(failures)

    # WH-DLV-001
    async def test_tls(self, start, certificates):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.server_cert, certificates.server_key)
        receiver = await Receiver().start(context)
        url = f"https://localhost:{receiver.port}/hook"
        sink = await start(url, tls=TlsConfig(ca=certificates.ca))
        assert await sink.send([event(1)]) == []
        assert [r.line for r in receiver.requests] == [
            "OPTIONS /hook HTTP/1.1",
            "POST /hook HTTP/1.1",
        ]
        await sink.close()
        await receiver.close()


class TestConfig:
    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"url": "http://example.com/"}, "must be https"),  # WH-DLV-001
            ({"url": "http://127.example.com/"}, "must be https"),
            ({"token": None}, "a token is required"),  # WH-AUT-001
            ({"token": ""}, "a token is required"),
            ({"token": None, "username": "u"}, "tokens are shown"),
            ({"token": None, "url": "https://u:p@example.com/"}, "tokens are shown"),
            ({"url": "https://example.com/?access_token=x"}, "give access_token as"),
            ({"token": None, "webhook": {"query_token": True}}, "needs token"),
            ({"headers": {"webhook-request-origin": "x"}}, "set by `webhook`"),
            ({"is_k_sink": True}, "without asking"),
            # WH-VAL-002: a DNS name, no URL
            ({"webhook": {"origin": "https://gw.example.com"}}, "origin"),
            ({"webhook": {"origin": "gw.example.com\r\nX: y"}}, "origin"),
            ({"webhook": {"origin": "*"}}, "origin"),
            ({"webhook": {"origin": ""}}, "origin"),
            # WH-VAL-009
            ({"webhook": {"rate": 0}}, "rate"),
            ({"webhook": {"ask_again": 0}}, "above 0"),
            # WH-VAL-004
            ({"webhook": {"callback": {"url": "http://a/", "listen": ":0"}}}, "https URL"),
            ({"webhook": {"callback": {"url": "https:///", "listen": ":0"}}}, "https URL"),
            ({"webhook": {"callback": {"url": "https://a/#f", "listen": ":0"}}}, "https URL"),
            ({"webhook": {"callback": {"url": "https://a:x/", "listen": ":0"}}}, "https URL"),
            ({"webhook": {"callback": {"url": "https://a/ b", "listen": ":0"}}}, "expected"),
        ],
    )
    def test_what_the_specification_forbids_is_an_error(self, config, message):
        webhook = {"origin": "gw.example.com", **config.pop("webhook", {})}
        config = {"url": "https://example.com/hook", "token": "t", "webhook": webhook, **config}
        with pytest.raises(ValueError, match=re.escape(message)):
            HttpSinkConfig(**config)

    @pytest.mark.parametrize(
        "config",
        [
            {},
            {"url": "http://127.0.0.1:1/"},
            {"url": "http://[::1]:1/", "token": None},
            {"url": "http://localhost/", "token": None},
            {"token": None, "headers": {"Authorization": "SharedKey abc"}},  # WH-AUT-003
            {"token": None, "token_file": "/token"},
        ],
    )
    def test_what_it_allows_is_not(self, config):
        webhook = {"origin": "events.example.com"}
        config = {"url": "https://example.com/hook", "token": "t", "webhook": webhook, **config}
        assert HttpSinkConfig(**config).webhook.origin == "events.example.com"

    async def test_a_callback_port_that_is_taken_is_an_error(self, receiver, start):
        callback = {"url": "https://gw.example.com/", "listen": f"127.0.0.1:{receiver.port}"}
        with pytest.raises(GatewayError, match="can't listen"):
            await start(receiver, webhook={"callback": callback})
