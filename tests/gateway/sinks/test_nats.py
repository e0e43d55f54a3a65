"""What a real server says too rarely; everything else is in tests/e2e/test_nats.py."""

import asyncio
import json

import pytest
from pydantic import ValidationError

from bindings.event import Event
from gateway.delivery import Failure, Outcome, Reason
from gateway.sinks.nats import NatsSink, NatsSinkConfig
from tests.gateway.scripted_nats import ScriptedNats


@pytest.fixture
async def server():
    async with ScriptedNats(max_payload=1000) as scripted:
        yield scripted


@pytest.fixture
async def sink(server):
    adapter = NatsSink(NatsSinkConfig(name="out", protocol="nats", url=server.url))
    await adapter.open()
    yield adapter
    await adapter.close()


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
    config = NatsSinkConfig(name="out", protocol="nats", url=server.url, subject=template)
    adapter = NatsSink(config)
    await adapter.open()
    sending = asyncio.ensure_future(adapter.send([event(1, **attributes)], timeout=60))
    assert (await server.heard(b"HPUB ")).split()[1].decode() == subject
    await adapter.close()
    await sending
