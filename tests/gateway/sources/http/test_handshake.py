"""The HTTP source as a webhook's receiver, over raw sockets (http-webhook.md).

The names in capitals are the requirements' in conformance/requirements.
"""

import logging

import pytest

from gateway.delivery import Outcome, Reason, Settlement
from tests.gateway.raw_http import post, structured
from tests.helpers import RecordingIntake


def options(*fields, target=b"/"):
    lines = [b"OPTIONS " + target + b" HTTP/1.1", b"Host: x", *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


# WH-ABU-001, WH-VRS-005, WH-VRS-006, WH-ORG-001, WH-RAT-002
async def test_anyone_has_consent_by_default(start, connect):
    source, _ = await start()
    client = await connect(source)
    answer = await client.ask(options(b"WebHook-Request-Origin: events.example.com"))
    assert (answer.status, answer.body) == (200, b"")
    assert answer.fields["webhook-allowed-origin"] == "*"
    assert answer.fields["webhook-allowed-rate"] == "*"
    assert answer.fields["allow"] == "POST, OPTIONS"


# WH-VRS-001, WH-ORG-002, WH-VRS-003; pitfall 87
@pytest.mark.parametrize(
    ("origin", "granted"),
    [
        (b"good.example.com", "good.example.com"),
        (b"Good.Example.COM", "Good.Example.COM"),
        (b"good.example.com.evil.org", None),
        (b"sub.good.example.com", None),
        (b"good.example", None),
        (b"*", None),
    ],
)
async def test_origin_is_compared_whole(start, connect, origin, granted):
    source, _ = await start(allowed_origins=["good.example.com"], allowed_rate=120)
    client = await connect(source)
    answer = await client.ask(options(b"WebHook-Request-Origin: " + origin))
    assert answer.status == 200
    assert answer.fields.get("webhook-allowed-origin") == granted
    assert answer.fields.get("webhook-allowed-rate") == (granted and "120")


# WH-RAT-001, WH-RAT-005, WH-VAL-009
@pytest.mark.parametrize(
    ("allowed", "wanted", "granted"),
    [
        (120, b"60", "60"),
        (120, b"500", "120"),
        (120, b"0", "120"),
        (120, b"-1", "120"),
        (120, b"1.5", "120"),
        (120, b"*", "120"),
        ("*", b"60", "*"),
    ],
)
async def test_rate(start, connect, allowed, wanted, granted):
    source, _ = await start(allowed_rate=allowed)
    client = await connect(source)
    fields = (b"WebHook-Request-Origin: a", b"WebHook-Request-Rate: " + wanted)
    answer = await client.ask(options(*fields))
    assert answer.fields["webhook-allowed-rate"] == granted


# WH-VAL-002; pitfall 91: a preflight request of a browser is none.
async def test_options_without_an_origin_is_no_handshake(start, connect):
    source, _ = await start()
    client = await connect(source)
    preflight = (b"Origin: https://a", b"Access-Control-Request-Method: POST")
    for fields in [(), preflight, (b"WebHook-Request-Callback: https://a/confirm",)]:
        answer = await client.ask(options(*fields))
        assert answer.status == 200
        assert answer.fields["allow"] == "POST, OPTIONS"
        assert not [name for name in answer.fields if name.startswith("webhook-allowed")]


async def test_handshake_needs_no_credentials_and_is_for_the_path_alone(start, connect):
    source, _ = await start(token="t", path="/hook")
    client = await connect(source)
    origin = b"WebHook-Request-Origin: a"
    answer = await client.ask(options(origin, target=b"/hook?access_token=1"))
    assert answer.fields["webhook-allowed-origin"] == "*"
    assert (await client.ask(options(origin))).status == 404


# WH-VAL-003
async def test_delivery_with_an_origin_without_consent_is_refused(start, connect):
    source, _intake = await start(allowed_origins=["good.example.com"])
    client = await connect(source)
    assert (await client.ask(structured(b"WebHook-Request-Origin: evil"))).status == 403
    good = structured(b"WebHook-Request-Origin: good.example.com")
    assert (await client.ask(good)).status == 202
    assert (await client.ask(structured())).status == 202


async def test_a_sender_without_consent_is_named_in_the_log_once(start, connect, caplog):
    caplog.set_level(logging.INFO, "gateway.sources.http.handshake")
    source, _ = await start(allowed_origins=["good.example.com"])
    client = await connect(source)
    for _ in range(3):
        await client.ask(options(b"WebHook-Request-Origin: evil\xff"))
    (record,) = caplog.records
    assert "'evilÿ' asks for consent" in record.getMessage()


# WH-VRS-004
async def test_without_any_webhook_sender_options_is_not_supported(start, connect):
    source, _ = await start(allowed_origins=[])
    client = await connect(source)
    for fields in [(), (b"WebHook-Request-Origin: a",)]:
        answer = await client.ask(options(*fields))
        assert (answer.status, answer.fields["allow"]) == (405, "POST")
        assert not [name for name in answer.fields if name.startswith("webhook")]
    assert (await client.ask(structured())).status == 202


# WH-DLV-004: where protection is required, a delivery names its origin.
async def test_delivery_without_an_origin_is_refused_where_one_is_required(start, connect):
    source, intake = await start(require_origin=True)
    client = await connect(source)
    for fields in [(), (b"WebHook-Request-Origin: ",), (b"Origin: https://a",)]:
        answer = await client.ask(structured(*fields))
        assert (answer.status, b"WebHook-Request-Origin" in answer.body) == (403, True)
    assert intake.events == []
    assert (await client.ask(structured(b"WebHook-Request-Origin: a"))).status == 202


async def test_two_origins_are_malformed(start, connect):
    source, _ = await start()
    client = await connect(source)
    twice = (b"WebHook-Request-Origin: a", b"WebHook-Request-Origin: b")
    assert (await client.ask(options(*twice))).status == 400
    assert (await client.ask(structured(*twice))).status == 400


# WH-RSP-008
async def test_a_retired_address_answers_410_to_everything(start, connect):
    source, intake = await start(retired=True, path="/hook", token="t")
    client = await connect(source)
    answer = await client.ask(structured(target=b"/hook"))
    assert (answer.status, answer.fields["content-type"]) == (410, "text/plain; charset=utf-8")
    asked = await client.ask(options(b"WebHook-Request-Origin: a", target=b"/hook"))
    assert asked.status == 410
    assert "webhook-allowed-origin" not in asked.fields
    assert (await client.ask(structured())).status == 404
    assert intake.events == []


# WH-RSP-010, WH-RSP-011; pitfall 90
class TestRate:
    async def test_a_sender_above_its_rate_is_told_when_to_come_back(self, start, connect):
        source, intake = await start(allowed_rate=3)
        client = await connect(source)
        fast = structured(b"WebHook-Request-Origin: fast.example.com")
        assert [(await client.ask(fast)).status for _ in range(5)] == [202, 202, 202, 429, 429]
        answer = await client.ask(fast)
        assert answer.fields["retry-after"] == "20"
        assert answer.fields["content-type"] == "text/plain; charset=utf-8"
        other = structured(b"WebHook-Request-Origin: other.example.com")
        assert (await client.ask(other)).status == 202
        shouting = structured(b"WebHook-Request-Origin: FAST.example.com")
        assert (await client.ask(shouting)).status == 429
        assert (await client.ask(structured())).status == 202
        assert len(intake.events) == 5
        assert [reason for reason, _ in intake.rejections] == ["too_many_requests"] * 4

    async def test_a_request_that_is_refused_does_not_count(self, start, connect):
        source, _ = await start(allowed_rate=1, token="t")
        client = await connect(source)
        origin = b"WebHook-Request-Origin: a"
        assert (await client.ask(structured(origin))).status == 401
        right = structured(origin, b"Authorization: Bearer t")
        assert [(await client.ask(right)).status for _ in range(2)] == [202, 429]

    async def test_a_sink_that_was_sent_too_much_is_429_too(self, start, connect):
        busy = Settlement(Outcome.RELEASED, Reason.SINK_BUSY, 7.0)
        source, _ = await start(RecordingIntake(lambda _: busy))
        answer = await (await connect(source)).ask(structured())
        assert (answer.status, answer.fields["retry-after"]) == (429, "7")


class TestAnswers:
    # WH-RSP-002: no path, method or slash leads to a redirect.
    @pytest.mark.parametrize(
        "target", [b"/hook/", b"/HOOK", b"//hook", b"/", b"/hook%2f", b"/a/.."]
    )
    @pytest.mark.parametrize("method", [b"POST", b"GET", b"OPTIONS", b"PUT", b"HEAD"])
    async def test_nothing_is_redirected(self, start, connect, method, target):
        source, _ = await start(path="/hook")
        client = await connect(source)
        client.write(post(method=method, target=target, content_type=b"text/plain"))
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 405 "))
        assert b"\r\nLocation:" not in head

    # WH-RSP-005, WH-RSP-006, WH-RSP-007: what becomes of an event is not known, so no 200 without
    # a body and no claim that it was processed.
    async def test_success_is_202_without_a_body(self, start, connect):
        source, _ = await start()
        answer = await (await connect(source)).ask(structured())
        assert (answer.status, answer.body) == (202, b"")
        assert "content-type" not in answer.fields

    # WH-RSP-013
    @pytest.mark.parametrize(
        "content_type",
        [b"application/cloudevents+unknown", b"application/cloudevents", b"text/plain", None],
    )
    async def test_a_format_that_is_not_understood_is_415(self, start, connect, content_type):
        source, _ = await start()
        answer = await (await connect(source)).ask(post(b"x", content_type=content_type))
        assert (answer.status, answer.fields["content-type"]) == (
            *(415, "text/plain; charset=utf-8"),
        )

    # WH-DLV-002
    @pytest.mark.parametrize("method", [b"PUT", b"PATCH", b"GET", b"DELETE"])
    async def test_only_post_delivers(self, start, connect, method):
        source, intake = await start()
        request = structured().replace(b"POST", method, 1)
        answer = await (await connect(source)).ask(request)
        assert (answer.status, answer.fields["allow"]) == (405, "POST, OPTIONS")
        assert intake.events == []


class TestAuthorization:
    # WH-AUT-002, WH-AUT-005, WH-AUT-006, WH-AUT-009
    @pytest.mark.parametrize(
        ("target", "fields"),
        [
            (b"/", (b"Authorization: Bearer s3cret/+=~",)),
            (b"/", (b"AUTHORIZATION: bearer s3cret/+=~",)),
            (b"/?access_token=s3cret/%2B%3D~", ()),
            (b"/?a=b&access_token=s3cret%2F%2b%3d%7E&c=d", ()),
        ],
    )
    async def test_both_methods_are_understood(self, start, connect, target, fields):
        source, intake = await start(token="s3cret/+=~")
        answer = await (await connect(source)).ask(structured(*fields, target=target))
        assert answer.status == 202
        assert answer.fields.get("cache-control") == (None if fields else "private")
        assert len(intake.events) == 1

    # RFC 6750 2 and 3.1: one method in one request, else 400.
    @pytest.mark.parametrize("field", [b"Bearer s3cret", b"Bearer x", b"Basic eDp5"])
    async def test_both_at_once_are_malformed(self, start, connect, field):
        source, intake = await start(token="s3cret")
        request = structured(b"Authorization: " + field, target=b"/?access_token=s3cret")
        assert (await (await connect(source)).ask(request)).status == 400
        assert intake.events == []

    async def test_access_token_means_nothing_where_no_token_is_configured(self, start, connect):
        source, _ = await start(username="u", password="p")
        request = structured(b"Authorization: Basic dTpw", target=b"/?access_token=x")
        assert (await (await connect(source)).ask(request)).status == 202

    # WH-AUT-004
    async def test_no_scheme_of_challenge_and_response_is_offered(self, start, connect):
        source, _ = await start(token="t", username="u", password="p")
        client = await connect(source)
        client.write(structured())
        head = await client.reader.readuntil(b"\r\n\r\n")
        offered = [line for line in head.split(b"\r\n") if line.startswith(b"WWW-Auth")]
        assert offered == [
            b'WWW-Authenticate: Basic realm="events"',
            b'WWW-Authenticate: Bearer realm="events"',
        ]

    # WH-AUT-010
    async def test_a_token_in_the_query_is_neither_logged_nor_counted(self, start, connect, caplog):
        caplog.set_level(logging.DEBUG)
        source, intake = await start(token="s3cret", path="/hook")
        client = await connect(source)
        for target in (b"/hook?access_token=s3cretx", b"/x?access_token=s3cret"):
            answer = await client.ask(structured(target=target))
            assert b"s3cret" not in answer.body
        assert "s3cret" not in caplog.text
        assert "s3cret" not in repr(intake.rejections)
