"""What a real server says too rarely; everything else is in tests/e2e/test_nats.py."""

import asyncio
import contextlib
import json
import logging

import pytest
from pydantic import ValidationError

from bindings.errors import InvalidEventError
from bindings.event import Event
from gateway.delivery import Failure, Outcome, Reason
from gateway.sinks.nats import NatsSink, NatsSinkConfig
from gateway.sinks.nats.sink import message_id
from gateway.sinks.nats.subject import SubjectTemplate
from tests.gateway.scripted_nats import ScriptedNats


@pytest.fixture
async def server():
    async with ScriptedNats(max_payload=1000) as scripted:
        yield scripted


@contextlib.asynccontextmanager
async def open_sink(server, look=b"", **options):
    """Open a sink, and answer its question about the stream; empty: nobody knows."""
    adapter = NatsSink(NatsSinkConfig(name="out", protocol="nats", url=server.url, **options))
    opening = asyncio.ensure_future(adapter.open())
    question = (await server.heard(b"PUB $JS.API.STREAM.")).split()
    sid = (await server.heard(b"SUB _INBOX", 2)).split()[-1]
    answer = look or b"NATS/1.0 503\r\n\r\n"
    kind, sizes = (b"MSG", b"") if look else (b"HMSG", b"%d " % len(answer))
    server.say(b"%b %b %b %b%d\r\n%b\r\n" % (kind, question[2], sid, sizes, len(answer), answer))
    await opening
    try:
        yield adapter
    finally:
        await adapter.close()


def look_of(**config):
    """Return the answer to the question about the stream, as nats-server 2.15.1 gives it."""
    found = {"name": "S", "max_bytes": 1 << 20, "max_msgs": -1, "discard": "new", "storage": "file"}
    return json.dumps({"total": 1, "streams": [{"config": found | config}]}).encode()


@pytest.fixture
async def sink(server):
    async with open_sink(server) as adapter:
        yield adapter


@pytest.fixture
async def batching(server):
    async with open_sink(server, look_of(allow_atomic=True)) as adapter:
        yield adapter


def event(number, **attributes):
    return Event(**{"id": str(number), "source": "/s", "type": "a.b"} | attributes)


async def respond(server, count, answer, *, header=False):
    """Answer the first `count` events with `answer`."""
    for number in range(1, count + 1):
        line = await server.heard(b"HPUB events.", number)
        sid = (await server.heard(b"SUB ")).split()[-1]
        size = len(answer)
        sizes = b"%d %d" % (size, size) if header else b"%d" % size
        kind = b"HMSG" if header else b"MSG"
        server.say(b"%b %b %b %b\r\n%b\r\n" % (kind, line.split()[2], sid, sizes, answer))


@pytest.mark.parametrize("stream", ["Töpfe", "a\r\nX: 1", "a\n"])
def test_a_stream_whose_name_fits_no_header_is_refused(stream):
    with pytest.raises(ValidationError, match="header"):
        NatsSinkConfig(protocol="nats", name="out", stream=stream)


@pytest.mark.parametrize(
    "subject",
    ["", "a b", "a..b", "a.*", "events.{Type}", "{data}", "{type", "a.{type}}", ".a", "a.>"],
)
def test_a_subject_that_can_not_be_is_refused(subject):
    with pytest.raises(ValidationError):
        NatsSinkConfig(name="out", protocol="nats", subject=subject)


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [  # as nats-server's errors.json has them
        ((400, 10054, "message size exceeds maximum allowed"), "REJECTED", "SINK_REFUSED"),
        ((400, 10060, "expected stream does not match"), "REJECTED", "SINK_REFUSED"),
        ((503, 10077, "maximum messages exceeded"), "RELEASED", "SINK_DOWN"),
        ((429, 10167, "too many requests"), "RELEASED", "SINK_BUSY"),
        ((404, 10059, "stream not found"), "RELEASED", "SINK_DOWN"),
        ((503, 10047, "insufficient storage resources available"), "RELEASED", "SINK_DOWN"),
        ((999, 1, "what nobody knows yet"), "RELEASED", "SINK_DOWN"),
    ],
)
async def test_an_error_of_jetstream_has_its_outcome(server, sink, error, outcome, reason):
    code, err_code, description = error
    body = {"code": code, "err_code": err_code, "description": description}
    sending = asyncio.ensure_future(sink.send([event(1)]))
    await respond(server, 1, json.dumps({"error": body, "stream": "S", "seq": 0}).encode())
    (failure,) = await sending
    assert failure == Failure(
        0, Outcome[outcome], Reason[reason], status=err_code, detail=description
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"{}",
        b'{"stream":"S","seq":0}',
        b'{"seq":1}',
        b"[1]",
        b"\xff",
        b"",
        b"+ACK",
        b'{"seq":"1"}',
        b'{"stream":"\xff"}',
        b'{"x":' + b"[" * 100_000,
    ],
)
async def test_an_answer_that_is_no_acknowledgement_is_released(server, sink, answer):
    sending = asyncio.ensure_future(sink.send([event(1)]))
    await respond(server, 1, answer)
    (failure,) = await sending
    assert (failure.outcome, failure.reason) == (Outcome.RELEASED, Reason.SINK_DOWN)
    assert "no JetStream acknowledgement" in failure.detail


async def test_nobody_listens_is_released(server, sink):
    sending = asyncio.ensure_future(sink.send([event(1)]))
    await respond(server, 1, b"NATS/1.0 503\r\n\r\n", header=True)
    (failure,) = await sending
    assert (failure.outcome, failure.status) == (Outcome.RELEASED, 503)


async def test_an_acknowledgement_is_a_success_with_or_without_duplicate(server, sink):
    for answer in (b'{"stream":"S","seq":1}', b'{"stream":"S", "seq":1,"duplicate": true}'):
        server.lines[:] = [line for line in server.lines if not line.startswith(b"HPUB")]
        sending = asyncio.ensure_future(sink.send([event(1), event(2)]))
        await respond(server, 2, answer)
        assert list(await sending) == []


async def test_an_answer_twice_or_to_nobody_does_no_harm(server, sink):
    sending = asyncio.ensure_future(sink.send([event(1), event(2)]))
    line = await server.heard(b"HPUB events.")
    sid = (await server.heard(b"SUB ")).split()[-1]
    inbox = line.split()[2].rsplit(b".", 2)[0]
    ack = b'{"stream":"S","seq":1}'
    strange = (b"x.0", b"1.x", b"+1.0", "1.\u00b2".encode(), b"\xff.0", b"1." + b"1" * 5000)
    for token in (b"1.0", b"1.0", b"1.9", b"99.0", *strange, b"1.1"):
        server.say(b"MSG %b.%b %b %d\r\n%b\r\n" % (inbox, token, sid, len(ack), ack))
    assert list(await sending) == []


async def test_a_connection_lost_releases_all_that_waits_at_once(server, sink):
    sending = asyncio.ensure_future(sink.send([event(1), event(2)], timeout=60))
    await server.heard(b"HPUB", 2)
    server.hang_up()
    async with asyncio.timeout(5):
        failures = await sending
    assert [(f.position, f.outcome, f.reason) for f in failures] == [
        (0, Outcome.RELEASED, Reason.SINK_DOWN),
        (1, Outcome.RELEASED, Reason.SINK_DOWN),
    ]


async def test_closing_releases_what_waits(server, sink):
    sending = asyncio.ensure_future(sink.send([event(1)], timeout=60))
    await server.heard(b"HPUB")
    await sink.close()
    async with asyncio.timeout(5):
        (failure,) = await sending
    assert failure.outcome is Outcome.RELEASED


async def test_what_is_too_large_for_the_server_is_never_sent(server, sink):
    sending = asyncio.ensure_future(sink.send([event(1, data=b"x" * 1000), event(2)]))
    await respond(server, 1, b'{"stream":"S","seq":1}')
    (failure,) = await sending
    assert (failure.position, failure.outcome) == (0, Outcome.REJECTED)
    assert "1000 is the server's limit" in failure.detail


async def test_a_sink_without_a_server_opens_and_releases():
    async with ScriptedNats() as gone:
        url = gone.url
    adapter = NatsSink(NatsSinkConfig(name="out", protocol="nats", url=url))
    async with asyncio.timeout(5):
        await adapter.open()
    (failure,) = await adapter.send([event(1)])
    assert (failure.outcome, failure.reason) == (Outcome.RELEASED, Reason.SINK_DOWN)
    await adapter.close()


@pytest.mark.parametrize(
    ("template", "attributes", "subject"),
    [
        ("events.{type}", {"type": "com.acme.temp"}, "events.com.acme.temp"),
        ("e.{subject}.{type}", {}, "e._.a.b"),
        ("e.{partitionkey}", {"extensions": {"partitionkey": "a b"}}, "e.a_b"),
        ("e.{n}", {"extensions": {"n": 5}}, "e.5"),
        ("e.{b}", {"extensions": {"b": True}}, "e.true"),
        ("e.{type}", {"type": "a..b."}, "e.a._.b._"),
        ("e.{type}", {"type": "*"}, "e._"),
        ("e.{type}", {"type": ">"}, "e._"),
        ("{type}", {"type": "$SYS.REQ"}, "_$SYS.REQ"),
        ("{type}", {"type": "_INBOX.x"}, "__INBOX.x"),
        ("pre{type}", {"type": "$x"}, "pre$x"),
        ("fixed", {}, "fixed"),
    ],
)
async def test_the_subject_is_made_of_attributes_and_safe(server, template, attributes, subject):
    async with open_sink(server, subject=template) as adapter:
        sending = asyncio.ensure_future(adapter.send([event(1, **attributes)], timeout=60))
        assert (await server.heard(b"HPUB ")).split()[1].decode() == subject
    await sending


@pytest.mark.parametrize(
    ("template", "pattern"),
    [
        ("a.b", "a.b"),
        ("events.{type}", "events.>"),
        ("events.all.x{type}.y", "events.all.>"),
        ("{type}", ">"),
        ("pre{type}", ">"),
    ],
)
def test_the_pattern_of_a_template_covers_its_subjects(template, pattern):
    assert SubjectTemplate(template).pattern == pattern


@pytest.mark.parametrize(
    ("source", "number", "expected"),
    [
        ("/s", "1", "/s|1"),
        ("/s", "a|b", "/s|a|b"),
        ("/s%7Ca", "b", "/s%257Ca|b"),
        ("/s", "é 1", "/s|%C3%A9%201"),
    ],
)
def test_no_two_events_share_a_message_id(source, number, expected):
    assert message_id(event(number, source=source)) == expected
    with pytest.raises(InvalidEventError):  # else "/s|a" and "b" would be "/s" and "a|b"
        event("b", source="/s|a")


# Atomic batches: what is said, and what comes back (ADR-50; the errors as nats-server 2.15.1 says).

ACK = b'{"stream":"S","seq":3,"batch":"b","count":3}'
DUPLICATE = {"code": 400, "err_code": 10201, "description": "batch contains duplicate message id"}
INCOMPLETE = {"code": 400, "err_code": 10176, "description": "atomic publish batch is incomplete"}
DISABLED = {"code": 400, "err_code": 10174, "description": "atomic publish is disabled"}
TOO_MANY = {"code": 429, "err_code": 10210, "description": "atomic publish too many inflight"}
FULL = {"code": 503, "err_code": 10077, "description": "maximum messages exceeded"}


def error(fields):
    return json.dumps({"error": fields, "stream": "S", "seq": 0}).encode()


async def say(server, publish, answer):
    """Answer the `publish`th HPUB line."""
    reply = (await server.heard(b"HPUB ", publish)).split()[2]
    sid = (await server.heard(b"SUB ")).split()[-1]
    server.say(b"MSG %b %b %d\r\n%b\r\n" % (reply, sid, len(answer), answer))


def headers_of(server, name):
    return [line.split()[1] for line in server.lines if line.startswith(name + b":")]


async def test_a_batch_is_numbered_committed_and_acknowledged_once(server, batching):
    sending = asyncio.ensure_future(batching.send([event(1), event(2), event(3)]))
    await server.heard(b"Nats-Batch-Commit:")
    await server.heard(b"HPUB ", 3)
    await say(server, 1, b"")
    assert not sending.done()
    await say(server, 3, ACK)
    assert list(await sending) == []
    lines = [line.split() for line in server.lines if line.startswith(b"HPUB ")]
    assert [len(words) for words in lines] == [5, 4, 5]  # the second asks for no answer
    assert len(set(headers_of(server, b"Nats-Batch-Id"))) == 1
    assert headers_of(server, b"Nats-Batch-Sequence") == [b"1", b"2", b"3"]
    assert headers_of(server, b"Nats-Batch-Commit") == [b"1"]
    assert headers_of(server, b"Nats-Msg-Id") == [b"/s|1", b"/s|2", b"/s|3"]


async def test_one_event_is_no_batch(server, batching):
    sending = asyncio.ensure_future(batching.send([event(1)]))
    await say(server, 1, b'{"stream":"S","seq":1}')
    assert list(await sending) == []
    assert headers_of(server, b"Nats-Batch-Id") == []


@pytest.mark.parametrize("failed", [DUPLICATE, INCOMPLETE, DISABLED])
async def test_a_batch_refused_for_one_message_goes_out_message_by_message(
    server, batching, failed
):
    sending = asyncio.ensure_future(batching.send([event(1), event(2), event(3)]))
    await server.heard(b"HPUB ", 3)
    await say(server, 3, error(failed))
    for publish, answer in ((4, b'{"stream":"S","seq":1,"duplicate":true}'),
                            (5, error({"code": 400, "err_code": 10054, "description": "size"})),
                            (6, b'{"stream":"S","seq":2}')):  # fmt: skip
        await say(server, publish, answer)
    assert [(f.position, f.outcome, f.status) for f in await sending] == [
        (1, Outcome.REJECTED, 10054)
    ]
    assert headers_of(server, b"Nats-Msg-Id") == [b"/s|1", b"/s|2", b"/s|3"] * 2
    assert len(headers_of(server, b"Nats-Batch-Id")) == 3
    again = asyncio.ensure_future(batching.send([event(4), event(5)], timeout=60))
    await server.heard(b"HPUB ", 8)
    # A stream that no longer allows batches is not asked again.
    assert len(headers_of(server, b"Nats-Batch-Id")) == (3 if failed is DISABLED else 5)
    again.cancel()


@pytest.mark.parametrize(
    ("publish", "failed", "reason"), [(1, TOO_MANY, Reason.SINK_BUSY), (3, FULL, Reason.SINK_DOWN)]
)
async def test_a_batch_that_failed_releases_all_of_its_events(
    server, batching, publish, failed, reason
):
    sending = asyncio.ensure_future(batching.send([event(1), event(2), event(3)]))
    await server.heard(b"HPUB ", 3)
    await say(server, publish, error(failed))
    assert list(await sending) == [
        Failure(n, Outcome.RELEASED, reason, failed["err_code"], detail=failed["description"])
        for n in range(3)
    ]


@pytest.mark.parametrize(
    "answer", [b'{"stream":"S","seq":1}', b'{"stream":"S","seq":2,"batch":"b","count":2}', b"{}"]
)
@pytest.mark.parametrize("publish", [1, 3])
async def test_only_the_acknowledgement_of_the_whole_batch_counts(
    server, batching, publish, answer
):
    # What a server before 2.12 says: it stores each message and knows no batch.
    sending = asyncio.ensure_future(batching.send([event(1), event(2), event(3)]))
    await server.heard(b"HPUB ", 3)
    await say(server, publish, answer)
    assert {(f.outcome, f.reason) for f in await sending} == {(Outcome.RELEASED, Reason.SINK_DOWN)}


async def test_a_batch_without_an_answer_is_released_and_sent_again_as_it_was(server, batching):
    events = [event(1), event(2)]
    assert [f.reason for f in await batching.send(events, timeout=0.05)] == [Reason.TIMEOUT] * 2
    sending = asyncio.ensure_future(batching.send(events))
    await server.heard(b"HPUB ", 4)
    await say(server, 4, b'{"stream":"S","seq":2,"batch":"b","count":2}')
    assert list(await sending) == []
    assert headers_of(server, b"Nats-Msg-Id") == [b"/s|1", b"/s|2"] * 2
    assert len(set(headers_of(server, b"Nats-Batch-Id"))) == 2


async def test_a_connection_lost_releases_a_batch_at_once(server, batching):
    sending = asyncio.ensure_future(batching.send([event(1), event(2)], timeout=60))
    await server.heard(b"HPUB", 2)
    server.hang_up()
    async with asyncio.timeout(5):
        assert {f.reason for f in await sending} == {Reason.SINK_DOWN}


async def test_more_than_a_batch_holds_goes_out_one_batch_after_the_other(server, batching):
    events = [event(number) for number in range(1001)]
    sending = asyncio.ensure_future(batching.send([*events, event(1001)]))
    await say(server, 1000, b'{"stream":"S","seq":1000,"batch":"b","count":1000}')
    await server.heard(b"HPUB ", 1002)
    await say(server, 1002, error(FULL))
    assert [f.position for f in await sending] == [1000, 1001]


async def test_what_follows_a_failed_batch_is_not_sent(server, batching):
    sending = asyncio.ensure_future(batching.send([event(number) for number in range(1002)]))
    await say(server, 1000, error(FULL))
    assert [f.position for f in await sending] == list(range(1002))
    assert len([line for line in server.lines if line.startswith(b"HPUB ")]) == 1000


async def test_headers_of_the_batch_count_for_the_servers_limit(server, batching):
    def size(sent):
        return sum(map(len, batching._message(sent)))

    # As a batch this would be beyond the server's 1000 bytes, and it would close the connection.
    empty = event(1, datacontenttype="text/plain", data=b"")
    events = [empty.replace(data=b"x" * (990 - size(empty))), event(2)]
    assert size(events[0]) == 990
    sending = asyncio.ensure_future(batching.send(events))
    await respond(server, 2, b'{"stream":"S","seq":1}')
    assert list(await sending) == []
    assert headers_of(server, b"Nats-Batch-Id") == []


async def test_atomic_never_goes_without_batches(server):
    async with open_sink(server, batch="atomic") as out:
        sending = asyncio.ensure_future(out.send([event(1), event(2)]))
        await server.heard(b"HPUB ", 2)
        await say(server, 2, error(DISABLED))
        assert {(f.outcome, f.status) for f in await sending} == {(Outcome.RELEASED, 10174)}
        assert len([line for line in server.lines if line.startswith(b"HPUB ")]) == 2


@pytest.mark.parametrize(
    ("look", "options"),
    [
        (b"", {}),
        (b"{}", {}),
        (b"[", {}),
        (look_of(), {}),
        (look_of(allow_atomic=True), {"batch": "off"}),
        (b'{"streams":[{"config":{"name":"A","allow_atomic":true}},{"config":{"name":"B"}}]}', {}),
        (b'{"error":{"code":404,"err_code":10059}}', {"stream": "S"}),
    ],
)
async def test_without_the_streams_consent_each_event_goes_by_itself(server, look, options):
    async with open_sink(server, look, **options) as out:
        sending = asyncio.ensure_future(out.send([event(1), event(2)]))
        await respond(server, 2, b'{"stream":"S","seq":1}')
        assert list(await sending) == []
    assert headers_of(server, b"Nats-Batch-Id") == []


async def test_a_stream_with_a_name_is_asked_by_its_name(server):
    look = json.dumps(json.loads(look_of(allow_atomic=True))["streams"][0]).encode()
    async with open_sink(server, look, stream="S") as out:
        assert (await server.heard(b"PUB ")).split()[1] == b"$JS.API.STREAM.INFO.S"
        sending = asyncio.ensure_future(out.send([event(1), event(2)]))
        await server.heard(b"Nats-Batch-Commit:")
        await say(server, 2, b'{"stream":"S","seq":2,"batch":"b","count":2}')
        assert list(await sending) == []
    assert headers_of(server, b"Nats-Expected-Stream") == [b"S", b"S"]


@pytest.mark.parametrize(
    ("config", "texts"),
    [
        ({}, []),
        ({"discard": "old"}, ["drops its oldest"]),
        ({"discard": "old", "max_bytes": -1, "max_msgs": 5}, ["drops its oldest", "disk is full"]),
        ({"discard": "old", "max_bytes": -1}, ["disk is full"]),
        ({"max_msgs_per_subject": 1, "discard": "old"}, ["drops its oldest"]),
        ({"storage": "memory"}, ["in memory"]),
        ({"persist_mode": "async"}, ["before it has written"]),
    ],
)
async def test_a_stream_that_may_lose_events_is_warned_about_once(server, caplog, config, texts):
    async with open_sink(server, look_of(**config)):
        pass
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == len(texts)
    for warning, text in zip(warnings, texts, strict=True):
        assert text in warning
        assert "stream S" in warning


# As nats-server 2.15.1 says it.
NO_STREAM = (
    b'{"type":"io.nats.jetstream.api.v1.stream_info_response","error":'
    b'{"code":404,"err_code":10059,"description":"stream not found"}}'
)
NO_STREAMS = (
    b'{"type":"io.nats.jetstream.api.v1.stream_list_response","total":0,"offset":0,"limit":256,'
    b'"streams":[]}'
)


@pytest.mark.parametrize(
    ("look", "options", "text"),
    [
        (
            NO_STREAM,
            {"stream": "S"},
            "sink out: there is no stream S: make it, with the subject a.>; events wait until then",
        ),
        (
            NO_STREAMS,
            {},
            "sink out: no stream has the subject a.>: make one; events wait until then",
        ),
    ],
)
async def test_a_stream_that_is_missing_is_told_at_the_start(server, caplog, look, options, text):
    async with open_sink(server, look, subject="a.{type}", **options):
        warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        assert warnings == [text]


@pytest.mark.parametrize(
    "look",
    [
        b"",
        b'{"error":{"code":503,"err_code":10008,"description":"system unavailable"}}',
        b'{"total":2,"streams":[{"config":{"name":"A"}},{"config":{"name":"B"}}]}',
        b"no JSON",
    ],
)
@pytest.mark.parametrize("stream", ["", "S"])
async def test_an_answer_that_does_not_say_that_a_stream_is_missing_is_no_warning(
    server, caplog, look, stream
):
    async with open_sink(server, look, stream=stream):
        pass
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
