"""The HTTP source, spoken to over raw sockets: what goes in and what comes back, byte for byte."""

import asyncio
import base64
import re
import ssl

import pytest

from gateway.config.records import EventTemplate, LimitsConfig, TlsConfig
from gateway.delivery import ACCEPTED, Outcome, Reason, Settlement
from gateway.errors import GatewayError
from gateway.sources.http import HttpSource, HttpSourceConfig
from tests.gateway.raw_http import STRUCTURED, post, structured
from tests.helpers import RecordingIntake

BINARY = (
    b"POST / HTTP/1.1\r\nHost: x\r\n"
    b"ce-specversion: 1.0\r\nCE-Type: com.example\r\nce-source: /s\r\nce-id: %b\r\n"
    b"Content-Type: application/json\r\nContent-Length: 7\r\n\r\n"
    b'{"a":1}'
)
CHUNKED = (
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/cloudevents+json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
    b"a;ext=1\r\n" + STRUCTURED[:10] + b"\r\n" + b"%x\r\n" % (len(STRUCTURED) - 10)
) + (STRUCTURED[10:] + b"\r\n0\r\nce-id: trailer\r\n\r\n")


async def refusal_of_what_never_ends(client):
    """Write more and more of the same; return the status that it is refused with."""
    for _ in range(100):
        client.write(b"y" * 10_000)
        try:
            await client.writer.drain()
        except ConnectionResetError:
            break
    return (await client.read())[0].status


async def test_binary_event_is_delivered_and_answered_202_without_a_body(start, connect):
    source, intake = await start()
    client = await connect(source)
    client.write(BINARY % b"1")
    data = await client.reader.readuntil(b"\r\n\r\n")
    assert re.fullmatch(
        rb"HTTP/1\.1 202 Accepted\r\n"
        rb"Date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n"
        rb"Content-Length: 0\r\n\r\n",
        data,
    )
    (event,) = intake.events
    assert (event.id, event.type, event.source) == ("1", "com.example", "/s")
    assert (event.datacontenttype, event.data) == ("application/json", b'{"a":1}')


async def test_structured_event_is_taken_by_its_content_type_alone(start, connect):
    source, intake = await start()
    client = await connect(source)
    request = post(
        STRUCTURED, b"ce-id: other", content_type=b"Application/CloudEvents+JSON; charset=utf-8"
    )
    assert (await client.ask(request)).status == 202
    assert intake.events[0].id == "s1"


async def test_structured_mode_may_be_cbor(start, connect):
    source, intake = await start()
    client = await connect(source)
    event = bytes.fromhex(
        "a5626964626331" "64747970656174" "66736f75726365622f73" "6b7370656376657273696f6e63312e30"
        "6464617461a1616101"
    )  # fmt: skip
    for body, media_type, status in (
        (event, b"application/cloudevents+cbor", 202),
        (event[:-1], b"application/cloudevents+cbor", 400),
        (b"\x81" + event, b"application/cloudevents-batch+cbor", 415),
    ):
        assert (await client.ask(post(body, content_type=media_type))).status == status
    (taken,) = intake.events
    assert (taken.id, taken.datacontenttype) == ("c1", "application/cbor")
    assert taken.data == bytes.fromhex("a1616101")


async def test_batch_is_one_delivery_with_all_its_events(start, connect):
    source, intake = await start()
    client = await connect(source)
    batch = b"[" + STRUCTURED + b"," + STRUCTURED.replace(b"s1", b"s2") + b"]"
    answer = await client.ask(post(batch, content_type=b"application/cloudevents-batch+json"))
    assert answer.status == 202
    assert [[event.id for event in delivery.events] for delivery in intake.deliveries] == [
        ["s1", "s2"]
    ]


async def test_empty_batch_is_accepted_without_a_delivery(start, connect):
    source, intake = await start()
    client = await connect(source)
    answer = await client.ask(post(b"[]", content_type=b"application/cloudevents-batch+json"))
    assert (answer.status, intake.deliveries) == (202, [])


async def test_acknowledgement_waits_for_the_settlement(start, connect):
    source, intake = await start(RecordingIntake(lambda _: None))
    client = await connect(source)
    client.write(BINARY % b"1")
    await intake.wait_for(lambda i: i.deliveries)
    assert client.reader._buffer == b""
    intake.deliveries[0].settle(ACCEPTED)
    assert (await client.read())[0].status == 202


@pytest.mark.parametrize(
    ("settlement", "status", "retry_after"),
    [
        (Settlement(Outcome.ACCEPTED, Reason.FILTERED), 202, None),
        (Settlement(Outcome.ACCEPTED, Reason.DEAD_LETTERED), 202, None),
        (
            Settlement(Outcome.REJECTED, Reason.SINK_REFUSED, None, "403 from\r\nthe sink"),
            422,
            None,
        ),
        (Settlement(Outcome.RELEASED, Reason.SINK_DOWN), 503, "1"),
        (Settlement(Outcome.RELEASED, Reason.SINK_BUSY, 2.2), 429, "3"),
        (Settlement(Outcome.RELEASED, Reason.TIMEOUT, 0.0), 503, "1"),
        (Settlement(Outcome.RELEASED, Reason.SINK_BUSY, 1e12), 429, "86400"),
    ],
)
async def test_settlement_decides_the_answer(start, connect, settlement, status, retry_after):
    source, _ = await start(RecordingIntake(lambda _: settlement))
    client = await connect(source)
    answer = await client.ask(BINARY % b"1")
    assert answer.status == status
    assert answer.fields.get("retry-after") == retry_after
    assert "connection" not in answer.fields
    assert b"\r" not in answer.body
    assert (await client.ask(BINARY % b"2")).status == status


async def test_error_body_is_plain_text_of_at_most_768_bytes(start, connect):
    settlement = Settlement(Outcome.REJECTED, Reason.SINK_REFUSED, None, "€" * 1000)
    source, _ = await start(RecordingIntake(lambda _: settlement))
    client = await connect(source)
    answer = await client.ask(BINARY % b"1")
    assert 700 < len(answer.body) <= 768
    assert answer.body.decode() == "€" * 256
    assert answer.fields["content-type"] == "text/plain; charset=utf-8"


JSON = b"application/json"


@pytest.mark.parametrize(
    ("request_bytes", "status", "reason"),
    [
        (post(b"{}", content_type=JSON), 415, "not_an_event"),
        (post(b"x", content_type=b"application/cloudevents+avro"), 415, "unknown_encoding"),
        (post(b"x", content_type=b"application/cloudeventsfoo"), 415, "unknown_encoding"),
        (post(b"{", content_type=b"application/cloudevents+json"), 400, None),
        (post(b"{}", b"ce-id: 1", content_type=JSON), 400, "missing_attribute"),
        (post(b"", b"ce-specversion: 1.0", b"ce-id: 1", b"ce-id: 1"), 400, "duplicate_attribute"),
        (structured(b"Content-Encoding: gzip"), 415, "unknown_encoding"),
        (structured(b"Content-Type: text/plain"), 400, "malformed"),
        (structured(b"Host: y"), 400, "malformed"),
        (structured().replace(b"Host: x", b"Host: a b"), 400, "malformed"),
        (structured().replace(b"Host: x", b"Host: u@x"), 400, "malformed"),
        (structured().replace(b"Host: x", b"Host: x:y"), 400, "malformed"),
        (structured().replace(b"Host: x", b"Host: [::1"), 400, "malformed"),
        (structured().replace(b"Host: x", b"Host: " + b"x" * 1000), 400, "malformed"),
        (structured(target=b"/other"), 404, "not_found"),
        (post(method=b"GET"), 405, "method_not_allowed"),
        (post(method=b"PUT"), 405, "method_not_allowed"),
        (post(method=b"TRACE"), 405, "method_not_allowed"),
        (structured().replace(b"Host: x\r\n", b""), 400, "malformed"),
    ],
)
async def test_what_brings_no_event_is_refused_and_the_connection_goes_on(
    start, connect, request_bytes, status, reason
):
    source, intake = await start()
    client = await connect(source)
    answer = await client.ask(request_bytes)
    assert answer.status == status
    assert answer.fields["content-type"] == "text/plain; charset=utf-8"
    assert len(intake.rejections) == 1
    if reason:
        assert intake.rejections[0][0] == reason
    assert (await client.ask(BINARY % b"next")).status == 202
    assert [event.id for event in intake.events] == ["next"]


async def test_405_says_what_is_allowed_and_head_is_answered_without_a_body(start, connect):
    source, _ = await start()
    client = await connect(source)
    assert (await client.ask(post(method=b"DELETE"))).fields["allow"] == "POST, OPTIONS"
    client.write(post(method=b"HEAD") + BINARY % b"1")
    async with asyncio.timeout(10):
        data = await client.reader.readuntil(b"202 Accepted")
    head, _, after = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert after == b"HTTP/1.1 202 Accepted"


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"FOO / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nX: a\r\n folded\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nX: \x00\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST / HTTP/1.1\nHost: x\n\n",
    ],
)
async def test_malformed_request_is_answered_400_after_its_neighbour_and_closes(
    start, connect, caplog, garbage
):
    source, intake = await start()
    client = await connect(source)
    client.write(BINARY % b"neighbour" + garbage)
    good, bad = await client.read(2)
    assert (good.status, bad.status) == (202, 400)
    assert bad.fields["connection"] == "close"
    assert await client.closed() == b""
    assert [event.id for event in intake.events] == ["neighbour"]
    assert [reason for reason, _ in intake.rejections] == ["malformed"]
    assert [record for record in caplog.records if record.levelname != "INFO"] == []


async def test_unknown_transfer_coding_and_version_are_refused(start, connect):
    source, _ = await start()
    client = await connect(source)
    coded = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
    assert (await client.ask(coded)).status == 415
    client = await connect(source)
    assert (await client.ask(b"POST / HTTP/2.0\r\nHost: x\r\n\r\n")).status == 505


async def test_chunked_body_is_joined_and_trailers_are_no_attributes(start, connect):
    source, intake = await start()
    client = await connect(source)
    head, _, body = (BINARY % b"1").partition(b"\r\n\r\n")
    head = head.replace(b"Content-Length: 7", b"Transfer-Encoding: chunked")
    chunks = b"3\r\n%b\r\n4;ext=1\r\n%b\r\n0\r\n" % (body[:3], body[3:])
    trailers = b"ce-id: trailer\r\nce-late: 1\r\n\r\n"
    assert (await client.ask(head + b"\r\n\r\n" + chunks + trailers)).status == 202
    (event,) = intake.events
    assert (event.id, event.data, event.extensions) == ("1", b'{"a":1}', {})


@pytest.mark.parametrize("size", [1, 2, 7, 64])
async def test_requests_cut_anywhere_are_put_together(start, connect, size):
    source, intake = await start()
    client = await connect(source)
    stream = BINARY % b"1" + CHUNKED + structured() + BINARY % b"2"
    for start_at in range(0, len(stream), size):
        client.write(stream[start_at : start_at + size])
        await client.writer.drain()
        await asyncio.sleep(0)
    answers = await client.read(4)
    assert [answer.status for answer in answers] == [202] * 4
    assert [event.id for event in intake.events] == ["1", "s1", "s1", "2"]


async def test_pipelined_requests_of_one_read_come_in_one_list_and_are_answered_in_order(
    start, connect
):
    lists = []

    class Intake(RecordingIntake):
        def try_submit(self, deliveries):
            lists.append(len(deliveries))
            return super().try_submit(deliveries)

    source, intake = await start(Intake(lambda _: None))
    client = await connect(source)
    client.write(b"".join(BINARY % b"%d" % n for n in range(50)) + post(b"{}", content_type=JSON))
    await intake.wait_for(lambda i: len(i.deliveries) == 50)
    assert lists == [50]
    refused = Settlement(Outcome.REJECTED, Reason.SINK_REFUSED)
    for number, delivery in reversed(list(enumerate(intake.deliveries))):
        delivery.settle(refused if number % 5 == 0 else ACCEPTED)
    answers = await client.read(51)
    expected = [422 if number % 5 == 0 else 202 for number in range(50)]
    assert [answer.status for answer in answers] == [*expected, 415]


async def test_reading_stops_when_too_many_pipelined_requests_are_open(start, connect):
    source, intake = await start(RecordingIntake(lambda _: None))
    client = await connect(source)
    total = 20_000  # far more than the socket buffers of both sides hold
    client.write(b"".join(BINARY % b"%d" % n for n in range(total)))
    await intake.wait_for(lambda i: len(i.deliveries) > 256)
    for _ in range(50):
        await asyncio.sleep(0)
    taken = len(intake.deliveries)
    assert taken < total
    intake.answer = lambda _: ACCEPTED
    for delivery in intake.deliveries[:taken]:
        delivery.settle(ACCEPTED)
    answers = await client.read(total)
    assert {answer.status for answer in answers} == {202}
    assert [event.id for event in intake.events] == [str(n) for n in range(total)]


async def test_busy_gateway_answers_503_with_retry_after(start, connect):
    source, intake = await start()
    intake.room.clear()
    client = await connect(source)
    answer = await client.ask(BINARY % b"1")
    assert (answer.status, answer.fields["retry-after"]) == (503, "1")
    intake.room.set()
    assert (await client.ask(BINARY % b"1")).status == 202


async def test_expect_100_continue_is_answered_before_the_body(start, connect):
    source, _intake = await start()
    client = await connect(source)
    head, _, body = structured(b"Expect: 100-Continue").partition(b"\r\n\r\n")
    answer = await client.ask(head + b"\r\n\r\n")
    assert answer.status == 100
    assert (await client.ask(body)).status == 202


async def test_100_continue_comes_after_the_answers_before_it(start, connect):
    source, intake = await start(RecordingIntake(lambda _: None))
    client = await connect(source)
    head, _, body = structured(b"Expect: 100-continue").partition(b"\r\n\r\n")
    client.write(BINARY % b"1" + head + b"\r\n\r\n")
    await intake.wait_for(lambda i: i.deliveries)
    intake.deliveries[0].settle(ACCEPTED)
    assert [answer.status for answer in await client.read(2)] == [202, 100]
    client.write(body)
    await intake.wait_for(lambda i: len(i.deliveries) == 2)
    intake.deliveries[1].settle(ACCEPTED)
    assert (await client.read())[0].status == 202


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ((b"Expect: 100-continue", b"Content-Encoding: br"), 415),
        ((b"Expect: the-spanish-inquisition",), 417),
    ],
)
async def test_refused_expectation_closes_the_connection(start, connect, fields, status):
    source, _ = await start()
    client = await connect(source)
    head, _, _ = structured(*fields).partition(b"\r\n\r\n")
    answer = await client.ask(head + b"\r\n\r\n")
    assert (answer.status, answer.fields["connection"]) == (status, "close")
    assert await client.closed() == b""


async def test_http_1_0_closes_after_the_answer_and_may_ask_not_to(start, connect):
    source, intake = await start()
    client = await connect(source)
    old = structured().replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Host: x\r\n", b"")
    keep = old.replace(b"\r\n", b"\r\nConnection: keep-alive\r\n", 1)
    answer = await client.ask(keep)
    assert (answer.status, answer.fields["connection"]) == (202, "keep-alive")
    answer = await client.ask(old)
    assert (answer.status, answer.fields["connection"]) == (202, "close")
    assert await client.closed() == b""
    assert len(intake.events) == 2


async def test_connection_close_is_obeyed_and_what_follows_is_dropped(start, connect):
    source, intake = await start()
    client = await connect(source)
    answer = await client.ask(structured(b"Connection: close") + BINARY % b"late")
    assert (answer.status, answer.fields["connection"]) == (202, "close")
    assert await client.closed() == b""
    assert [event.id for event in intake.events] == ["s1"]
    assert intake.rejections == []


@pytest.mark.parametrize("size", [1, 1000])
async def test_upgrade_is_ignored_and_the_body_is_read(start, connect, size):
    source, intake = await start()
    client = await connect(source)
    upgrade = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMA")
    chunked = CHUNKED.replace(b"\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", 1)
    stream = structured(*upgrade) + chunked + BINARY % b"2"
    for start_at in range(0, len(stream), size):
        client.write(stream[start_at : start_at + size])
        await client.writer.drain()
    assert [answer.status for answer in await client.read(3)] == [202] * 3
    assert [event.id for event in intake.events] == ["s1", "s1", "2"]


async def test_absolute_target_and_query_are_understood(start, connect):
    source, intake = await start(path="/in/events")
    client = await connect(source)
    assert (await client.ask(structured(target=b"http://h:1/in/events?x=1"))).status == 202
    assert (await client.ask(structured(target=b"/in/events?"))).status == 202
    assert (await client.ask(structured(target=b"/in/events/"))).status == 404
    assert len(intake.events) == 2


async def test_a_source_of_every_path_takes_each_and_names_it_in_what_it_wraps(start, connect):
    template = EventTemplate(type="t", source="/hooks{path}")
    source, intake = await start(path="*", event=template)
    client = await connect(source)
    for target in (b"/", b"/a/7?x=1", b"http://h:1/b", b"/%C3%A9"):
        assert (await client.ask(post(b"x", target=target))).status == 202
    assert (await client.ask(structured(target=b"/c"))).status == 202
    assert [event.source for event in intake.events[:4]] == [
        "/hooks/",
        "/hooks/a/7",
        "/hooks/b",
        "/hooks/%C3%A9",
    ]
    assert len(intake.events) == 5
    assert (await client.ask(post(b"x", target=b"/\xff"))).status in {202, 400}


class TestLimits:
    async def test_declared_body_above_the_limit_is_refused_without_reading_it(
        self, start, connect
    ):
        source, intake = await start(limits=LimitsConfig(max_event_bytes=100))
        client = await connect(source)
        client.write(post(b"x" * 101)[:-50])
        answer = (await client.read())[0]
        assert (answer.status, answer.fields["connection"]) == (413, "close")
        assert b"100 bytes" in answer.body
        assert intake.rejections[0][0] == "too_large"

    async def test_answer_survives_although_the_sender_goes_on_writing(self, start, connect):
        source, _ = await start(limits=LimitsConfig(max_event_bytes=100))
        client = await connect(source)
        client.write(post(b"x" * 5_000_000))
        assert (await client.read())[0].status == 413

    async def test_chunked_body_above_the_limit_is_refused(self, start, connect):
        source, _ = await start(limits=LimitsConfig(max_event_bytes=100))
        client = await connect(source)
        head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = await client.ask(head + b"3c\r\n" + b"x" * 60 + b"\r\n3c\r\n" + b"x" * 60)
        assert answer.status == 413

    async def test_body_of_exactly_the_limit_is_taken(self, start, connect):
        source, _intake = await start(limits=LimitsConfig(max_event_bytes=len(STRUCTURED)))
        client = await connect(source)
        assert (await client.ask(structured())).status == 202

    async def test_batch_of_more_events_than_the_limit_is_refused(self, start, connect):
        source, intake = await start(limits=LimitsConfig(max_batch_events=2))
        client = await connect(source)
        media_type = b"application/cloudevents-batch+json"
        for count, status in ((3, 413), (2, 202)):
            batch = b"[" + b",".join([STRUCTURED] * count) + b"]"
            answer = await client.ask(post(batch, content_type=media_type))
            assert answer.status == status
            if status == 413:
                assert answer.body == b"more than 2 events in a batch\n"
        assert intake.rejections == [("too_large", "more than 2 events in a batch")]
        assert len(intake.events) == 2

    @pytest.mark.parametrize("chunk", [1_000_000, 1000])
    async def test_head_above_64_kib_is_refused(self, start, connect, chunk):
        source, _ = await start()
        client = await connect(source)
        request = post(b"", *[b"X-%d: " % n + b"y" * 1000 for n in range(70)])
        for start_at in range(0, len(request), chunk):
            client.write(request[start_at : start_at + chunk])
            await client.writer.drain()
        assert (await client.read())[0].status == 431

    async def test_one_endless_header_is_refused(self, start, connect):
        source, _ = await start()
        client = await connect(source)
        client.write(b"POST / HTTP/1.1\r\nHost: x\r\nX: ")
        assert await refusal_of_what_never_ends(client) == 431

    async def test_endless_chunk_extension_or_trailer_is_refused(self, start, connect):
        source, _ = await start(limits=LimitsConfig(max_event_bytes=100))
        client = await connect(source)
        client.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ")
        assert await refusal_of_what_never_ends(client) == 413

    async def test_connections_above_the_limit_are_answered_503(self, start, connect):
        source, _ = await start(max_connections=1)
        first = await connect(source)
        assert (await first.ask(BINARY % b"1")).status == 202
        second = await connect(source)
        assert (await second.read())[0].status == 503
        assert (await first.ask(BINARY % b"2")).status == 202

    async def test_connections_of_one_address_are_limited_and_counted_down(self, start, connect):
        source, _ = await start(max_connections_per_address=1)
        first = await connect(source)
        assert (await first.ask(structured(b"Connection: close"))).status == 202
        first.writer.close()
        await first.writer.wait_closed()
        async with asyncio.timeout(10):
            while (await (await connect(source)).ask(BINARY % b"2")).status != 202:
                pass


class TestDeadlines:
    async def test_slow_head_is_answered_408_and_closed(self, start, connect):
        source, intake = await start(header_timeout=0.1)
        client = await connect(source)
        client.write(b"POST / HTTP/1.1\r\nHost: x\r\n")
        answer = (await client.read())[0]
        assert (answer.status, answer.fields["connection"]) == (408, "close")
        assert await client.closed() == b""
        assert intake.rejections[0][0] == "timeout"

    async def test_bytes_that_trickle_do_not_move_the_deadline(self, start, connect):
        source, _ = await start(header_timeout=0.2)
        client = await connect(source)
        client.write(b"POST / HTTP/1.1\r\nX: ")

        async def trickle():
            while True:
                client.write(b"y")
                await asyncio.sleep(0.02)

        trickling = asyncio.ensure_future(trickle())
        try:
            assert (await client.read())[0].status == 408
        finally:
            trickling.cancel()

    async def test_slow_body_is_answered_408(self, start, connect):
        source, _ = await start(body_timeout=0.1)
        client = await connect(source)
        client.write(structured()[:-1])
        assert (await client.read())[0].status == 408

    async def test_idle_connection_is_closed_without_a_word(self, start, connect):
        source, _ = await start(keep_alive_timeout=0.1)
        used = await connect(source)
        assert (await used.ask(BINARY % b"1")).status == 202
        assert await used.closed() == b""

    async def test_connection_that_never_sends_is_closed_without_a_word(self, start, connect):
        source, _ = await start(header_timeout=0.1)
        silent = await connect(source)
        assert await silent.closed() == b""

    async def test_sender_is_told_504_when_nobody_settles_and_a_late_settlement_is_ignored(
        self, start, connect
    ):
        source, intake = await start(RecordingIntake(lambda _: None), ack_timeout=0.1)
        client = await connect(source)
        client.write(BINARY % b"1" + BINARY % b"2")
        answers = await client.read(2)
        assert [answer.status for answer in answers] == [504, 504]
        assert answers[0].fields["retry-after"] == "1"
        for delivery in intake.deliveries:
            delivery.settle(ACCEPTED)
        intake.answer = lambda _: ACCEPTED
        assert (await client.ask(BINARY % b"3")).status == 202

    async def test_waiting_for_a_settlement_is_not_idle(self, start, connect):
        source, intake = await start(RecordingIntake(lambda _: None), keep_alive_timeout=0.05)
        client = await connect(source)
        client.write(BINARY % b"1")
        await intake.wait_for(lambda i: i.deliveries)
        await asyncio.sleep(0.3)
        intake.deliveries[0].settle(ACCEPTED)
        assert (await client.read())[0].status == 202


class TestCredentials:
    async def test_basic(self, start, connect):
        source, intake = await start(username="dev", password="s:ecret é")
        client = await connect(source)
        answer = await client.ask(structured())
        assert (answer.status, answer.fields["www-authenticate"]) == (401, 'Basic realm="events"')
        right = base64.b64encode("dev:s:ecret é".encode())
        wrong = base64.b64encode(b"dev:secret")
        assert (await client.ask(structured(b"Authorization: Basic " + wrong))).status == 401
        assert (await client.ask(structured(b"Authorization: Bearer " + right))).status == 401
        assert (await client.ask(structured(b"authorization: bAsIc  " + right))).status == 202
        assert [reason for reason, _ in intake.rejections] == ["unauthorized"] * 3
        assert "secret" not in repr(intake.rejections)

    async def test_bearer_in_the_header(self, start, connect):
        source, _ = await start(token="tö ken==")
        client = await connect(source)
        answer = await client.ask(structured(b"Authorization: Bearer x"))
        assert (answer.status, answer.fields["www-authenticate"]) == (401, 'Bearer realm="events"')
        right = b"Authorization: bearer " + "tö ken==".encode()
        answer = await client.ask(structured(right))
        assert (answer.status, "cache-control" in answer.fields) == (202, False)

    async def test_bearer_in_the_query_is_answered_with_cache_control_private(self, start, connect):
        source, _ = await start(token="a b&c")
        client = await connect(source)
        answer = await client.ask(structured(target=b"/?x=1&access_token=a%20b%26c"))
        assert (answer.status, answer.fields["cache-control"]) == (202, "private")
        assert (await client.ask(structured(target=b"/?access_token=nope"))).status == 401
        twice = b"/?access_token=a%20b%26c&access_token=a%20b%26c"
        assert (await client.ask(structured(target=twice))).status == 401


class TestWrapping:
    async def test_plain_payload_becomes_an_event_with_an_id_of_its_own(self, start, connect):
        template = EventTemplate(type="com.acme.hook", source="/hooks{path}", subject="{path[0]}")
        source, intake = await start(event=template, path="/plant")
        client = await connect(source)
        plain = post(b"\xff\xfe", target=b"/plant")
        assert (await client.ask(plain)).status == 202
        assert (await client.ask(plain)).status == 202
        first, second = intake.events
        assert first.id != second.id
        assert (first.type, first.source, first.subject) == (
            "com.acme.hook",
            "/hooks/plant",
            "plant",
        )
        assert (first.data, first.datacontenttype) == (b"\xff\xfe", "application/octet-stream")

    async def test_content_type_of_the_request_is_that_of_the_data(self, start, connect):
        source, intake = await start(event=EventTemplate(type="t", source="/s"))
        client = await connect(source)
        assert (await client.ask(post(b"a,b", content_type=b"text/csv"))).status == 202
        assert intake.events[0].datacontenttype == "text/csv"

    async def test_broken_event_is_refused_and_not_wrapped(self, start, connect):
        source, intake = await start(event=EventTemplate(type="t", source="/s"))
        client = await connect(source)
        assert (await client.ask(post(b"{}", b"ce-id: 1"))).status == 400
        unknown = post(b"x", content_type=b"application/cloudevents+avro")
        assert (await client.ask(unknown)).status == 415
        assert intake.events == []


class TestDrain:
    async def test_pending_is_answered_new_is_refused_and_the_port_is_closed(self, start, connect):
        source, intake = await start(RecordingIntake(lambda _: None))
        waiting, idle = await connect(source), await connect(source)
        waiting.write(BINARY % b"1" + BINARY % b"2")
        idle.write(BINARY % b"3")
        await intake.wait_for(lambda i: len(i.deliveries) == 3)
        intake.deliveries[2].settle(ACCEPTED)
        assert (await idle.read())[0].status == 202
        port = source.address.port
        draining = asyncio.ensure_future(source.drain())
        await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        refused = await idle.ask(BINARY % b"4")
        assert (refused.status, refused.fields["connection"]) == (503, "close")
        assert "retry-after" in refused.fields
        for delivery in intake.deliveries[:2]:
            delivery.settle(ACCEPTED)
        first, second = await waiting.read(2)
        assert (first.status, second.status) == (202, 202)
        assert "connection" not in first.fields
        assert second.fields["connection"] == "close"
        assert await waiting.closed() == b""
        idle.writer.close()
        waiting.writer.close()
        await draining

    async def test_close_drops_connections_and_later_settlements_do_no_harm(self, start, connect):
        source, intake = await start(RecordingIntake(lambda _: None))
        client = await connect(source)
        client.write(BINARY % b"1")
        await intake.wait_for(lambda i: i.deliveries)
        await source.close()
        assert await client.closed() == b""
        intake.deliveries[0].settle(ACCEPTED)

    async def test_sender_that_closes_its_half_still_reads_the_answer(self, start, connect):
        source, intake = await start(RecordingIntake(lambda _: None))
        client = await connect(source)
        client.write(BINARY % b"1")
        client.writer.write_eof()
        await intake.wait_for(lambda i: i.deliveries)
        intake.deliveries[0].settle(ACCEPTED)
        assert (await client.read())[0].status == 202
        assert await client.closed() == b""

    async def test_sender_that_goes_away_does_no_harm(self, start, connect):
        source, intake = await start(RecordingIntake(lambda _: None))
        client = await connect(source)
        client.write(BINARY % b"1" + BINARY % b"2")
        await intake.wait_for(lambda i: i.deliveries)
        client.writer.transport.abort()
        for delivery in intake.deliveries:
            delivery.settle(ACCEPTED)
        other = await connect(source)
        intake.answer = lambda _: ACCEPTED
        assert (await other.ask(BINARY % b"3")).status == 202


class TestTls:
    async def test_server_certificate(self, start, connect, certificates):
        tls = TlsConfig(cert=certificates.server_cert, key=certificates.server_key)
        source, intake = await start(tls=tls)
        context = ssl.create_default_context(cafile=certificates.ca)
        client = await connect(source, ssl=context)
        assert (await client.ask(BINARY % b"1")).status == 202
        answer = await client.ask(structured(b"Connection: close"))
        assert answer.status == 202
        assert len(intake.events) == 2

    async def test_client_certificate_is_demanded_when_a_ca_is_set(
        self, start, connect, certificates, caplog
    ):
        tls = TlsConfig(
            cert=certificates.server_cert, key=certificates.server_key, ca=certificates.ca
        )
        source, _ = await start(tls=tls)
        context = ssl.create_default_context(cafile=certificates.ca)
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            await (await connect(source, ssl=context)).ask(BINARY % b"1")
        context.load_cert_chain(certificates.client_cert, certificates.client_key)
        client = await connect(source, ssl=context)
        assert (await client.ask(BINARY % b"2")).status == 202
        assert [record for record in caplog.records if record.levelname != "INFO"] == []

    async def test_plain_http_on_the_tls_port_is_dropped_quietly(
        self, start, connect, certificates, caplog
    ):
        tls = TlsConfig(cert=certificates.server_cert, key=certificates.server_key)
        source, _ = await start(tls=tls)
        client = await connect(source)
        client.write(BINARY % b"1")
        await client.closed()
        assert [record for record in caplog.records if record.levelname != "INFO"] == []


async def test_port_in_use_is_an_error_that_names_it(start):
    source, _ = await start()
    other = HttpSource(HttpSourceConfig(name="twin", listen=source.address))
    with pytest.raises(GatewayError, match=f"{source.address}: Address already in use"):
        await other.open(RecordingIntake())
    await other.close()
