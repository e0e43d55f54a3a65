"""When a stream is told what, word by word; with a real server: tests/e2e, same name."""

import asyncio
import json

import pytest

from bindings.binding import Message
from gateway.delivery import ACCEPTED, Outcome, Reason, Settlement
from gateway.errors import GatewayError
from gateway.sources.nats import NatsSource, NatsSourceConfig
from gateway.sources.nats.feed import RAW_HEADER
from gateway.spool import StoreError
from tests.gateway.scripted_jetstream import ACK_9, EVENT, JetStreamScript
from tests.gateway.scripted_nats import ScriptedNats
from tests.helpers import RecordingIntake

DELETED = b"409 Consumer Deleted"
BAD = b'{"specversion":"1.0","id":"1","source":"/s"}'
NO_ROOM = StoreError("no room", full=True)
REJECTED = Settlement(Outcome.REJECTED, Reason.SINK_REFUSED)


def token(sequence, delivered=1):
    return ACK_9.format(delivered=delivered, sequence=sequence)


@pytest.fixture
async def server():
    async with ScriptedNats() as scripted:
        yield scripted


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("gateway.sources.keeper.FIRST_DELAY", 0.01)


def answers(server):
    """Return address and text of each acknowledgement; the one that asks for an answer as well."""
    lines = server.lines
    return [
        (line.split()[1].decode(), lines[position + 1].strip())
        for position, line in enumerate(lines[:-1])
        if line.startswith(b"PUB $JS.ACK.")
    ]


async def written(script):
    """Return when the server has all that the source has written."""
    await asyncio.sleep(0)
    await script.source._way._connection.flush()


async def hang_up(script):
    script.server.hang_up()
    while script.source._way._connection.is_up:
        await asyncio.sleep(0)
    script.server.lines.clear()
    script.infos = 0


@pytest.mark.parametrize(
    ("created", "is_same"), [("2026-01-01T00:00:00Z", True), ("2026-01-02T00:00:00Z", False)]
)
async def test_no_answer_leaves_before_it_is_known_that_the_consumer_is_the_same(
    server, created, is_same
):
    """A connection is up before its consumer is: there may be a new one with the same numbers."""
    intake = RecordingIntake(lambda _: None)
    async with JetStreamScript(server, intake) as script:
        script.deliver(token(1))
        await intake.wait_for(lambda i: i.deliveries)
        await hang_up(script)
        await server.heard(b"PUB $JS.API.CONSUMER.INFO.")
        intake.deliveries[0].settle(ACCEPTED)  # connected, and nothing is known yet
        await written(script)
        assert answers(server) == []
        await script.answer_info(created=created)
        await script.request(1)
        await written(script)
        assert answers(server) == ([(token(1), b"+ACK")] if is_same else [])


@pytest.mark.parametrize(
    ("created", "is_same"), [("2026-01-01T00:00:00Z", True), ("2026-01-02T00:00:00Z", False)]
)
async def test_no_answer_leaves_after_the_end_of_the_consumer(server, created, is_same):
    intake = RecordingIntake(lambda _: None)
    async with JetStreamScript(server, intake) as script:
        reply, _ = await script.request(1)
        script.deliver(token(1))
        script.status(reply, DELETED)
        await server.heard(b"PUB $JS.API.CONSUMER.INFO.", 2)
        intake.deliveries[0].settle(ACCEPTED)
        await written(script)
        assert answers(server) == []
        await script.answer_info(created=created)
        await script.request(2)
        await written(script)
        assert answers(server) == ([(token(1), b"+ACK")] if is_same else [])


async def test_a_request_stays_open_while_the_window_is_full(server):
    intake = RecordingIntake(lambda _: None)
    async with JetStreamScript(server, intake, max_ack_pending=2) as script:
        assert (await script.request(1))[1]["batch"] == 2
        script.deliver(token(1))
        script.deliver(token(2))
        reply, body = await script.request(2)
        assert body["batch"] == 1
        # Its end is what the server says of a full window, and no trouble.
        script.status(reply, b"408 Request Timeout", b"Nats-Pending-Messages: 1")
        assert (await script.request(3))[1]["batch"] == 1
        # A consumer with a larger window than ours gives one more, and then no more.
        script.deliver(token(3))
        await intake.wait_for(lambda i: len(i.deliveries) == 3)
        await written(script)
        assert len([x for x in server.lines if b"MSG.NEXT" in x]) == 3
        for delivery in intake.deliveries:
            delivery.settle(ACCEPTED)
        assert (await script.request(4))[1]["batch"] > 0


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"max_deliver": 2}, "after 2 deliveries.*nats consumer edit S gw --max-deliver=-1"),
        ({"ack_policy": "all"}, "explicit acknowledgement: delete it"),
        ({"deliver_subject": "push.here"}, "must be a pull consumer"),
        ({"headers_only": True}, "headers_only.*delete it"),
    ],
)
async def test_a_consumer_that_may_lose_messages_is_refused_with_what_to_do(server, config, words):
    source = NatsSource(
        NatsSourceConfig(name="bus", protocol="nats", url=server.url, stream="S", durable="gw")
    )
    opening = asyncio.ensure_future(source.open(RecordingIntake()))
    await JetStreamScript(server, RecordingIntake()).answer_info(**config)
    with pytest.raises(GatewayError, match=words):
        await opening
    await source.close()


async def test_signs_of_life_follow_the_consumer_s_own_times(server):
    """`backoff` replaces `ack_wait`; a quarter of what is said here would be 15 s."""
    intake = RecordingIntake(lambda _: None)
    script = JetStreamScript(server, intake)
    opening = asyncio.ensure_future(script.source.open(intake))
    await script.answer_info(ack_wait=60 * 10**9, backoff=[10 * 10**9, 20_000_000])
    await opening
    script.inbox_sid = (await server.heard(b"SUB ", 2)).split()[-1]
    script.deliver(token(1))
    await server.heard(b"+WPI", 2)
    assert answers(server)[0] == (token(1), b"+WPI")
    await script.source.close()


async def test_the_end_waits_until_the_server_has_worked_off_the_last_answer(server):
    intake = RecordingIntake(lambda _: None)
    async with JetStreamScript(server, intake) as script:
        for number in (1, 2, 3):
            script.deliver(token(number))
        await intake.wait_for(lambda i: len(i.deliveries) == 3)
        await script.source.drain()
        intake.deliveries[1].settle(ACCEPTED)
        intake.deliveries[0].settle(ACCEPTED)
    # In their order; the third stays with the server, which gives it to another process.
    assert answers(server) == [(token(2), b"+ACK"), (token(1), b"+ACK"), (token(1), b"+ACK")]
    assert server.confirmed == 1


async def test_a_server_that_says_nothing_does_not_hold_up_the_end(server, monkeypatch, caplog):
    monkeypatch.setattr("gateway.sources.nats.jetstream._CONFIRM_SECONDS", 0.05)
    caplog.set_level("INFO")
    intake = RecordingIntake()
    async with JetStreamScript(server, intake) as script:
        script.deliver(token(1))
        await server.heard(b"PUB $JS.ACK.")
        monkeypatch.setattr(server, "_confirm", lambda _: None)
    assert "the last messages may come again" in caplog.text


@pytest.mark.parametrize("settlement", [REJECTED, ACCEPTED])
async def test_nothing_is_ever_given_back(server, settlement):
    """`-NAK` changes the order."""
    released = Settlement(Outcome.RELEASED, Reason.SINK_DOWN)
    intake = RecordingIntake(lambda _: released if len(intake.deliveries) < 3 else settlement)
    async with JetStreamScript(server, intake) as script:
        script.deliver(token(1))
        script.deliver(token(2))
        await intake.wait_for(lambda i: len(i.deliveries) == 4)
        await written(script)
    assert {text for _, text in answers(server)} <= {b"+ACK", b"+TERM", b"+WPI"}
    assert [reply for reply, _ in answers(server)][:2] == [token(1), token(2)]


# Messages that bring no event.


async def test_what_brings_no_event_is_ended_once_it_is_kept(server, quick):
    intake = RecordingIntake()
    intake.keep_error = NO_ROOM
    async with JetStreamScript(server, intake) as script:
        script.deliver(token(1), BAD)
        script.deliver(token(2), EVENT)  # its neighbour
        await server.heard(b"+ACK")
        await intake.wait_for(lambda i: len(i.rejections) > 2)
        script.deliver(token(1, delivered=2), BAD)  # the server lost patience
        await written(script)
        assert answers(server) == [(token(2), b"+ACK")]
        intake.keep_error = None
        await server.heard(b"+TERM")
    assert answers(server)[1] == (token(1, delivered=2), b"+TERM")
    # No event format has it, and no way of ours to read it: the bytes as they came.
    assert intake.kept == [Message(BAD, "", [], "s.a")]


async def test_what_is_not_kept_yet_is_kept_ours(server, monkeypatch):
    monkeypatch.setattr("gateway.sources.nats.jetstream.HEARTBEAT_SECONDS", 0.3)  # lost after three
    intake = RecordingIntake()
    intake.keep_error = NO_ROOM
    async with JetStreamScript(server, intake) as script:
        script.source._way._ack_wait = 0.01
        script.deliver(token(1), BAD)
        await server.heard(b"+WPI", 3)
    assert {text for _, text in answers(server)} == {b"+WPI"}
    assert intake.kept == []


async def test_what_is_not_kept_fills_the_window_and_no_more(server, quick):
    intake = RecordingIntake()
    intake.keep_error = NO_ROOM
    async with JetStreamScript(server, intake, max_ack_pending=2) as script:
        script.deliver(token(1), BAD)
        script.deliver(token(2), BAD)
        assert (await script.request(2))[1]["batch"] == 1
        script.deliver(token(3), BAD)
        await written(script)
        assert len([x for x in server.lines if b"MSG.NEXT" in x]) == 2
        intake.keep_error = None
        await server.heard(b"+TERM", 3)
        await script.request(3)
    assert [reply for reply, text in answers(server) if text == b"+TERM"] == [
        token(1), token(2), token(3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("block", "content_type", "headers"),
    [
        (
            b"NATS/1.0\r\nce-id: \xff\r\nContent-Type: text/plain\r\nce-specversion: 1.0\r\n\r\n",
            "text/plain",
            [("ce-id", "\xff"), ("Content-Type", "text/plain"), ("ce-specversion", "1.0")],
        ),
        (b"NATS/1.0\r\nno\xffcolon\r\n\r\n", "", [(RAW_HEADER, "NATS/1.0\r\nno\xffcolon\r\n\r\n")]),
    ],
)
async def test_what_is_kept_is_as_it_came(server, block, content_type, headers):
    intake = RecordingIntake()
    async with JetStreamScript(server, intake) as script:
        line = b"HMSG s.\xff %b %b %d %d\r\n" % (
            script.inbox_sid, token(1).encode(), len(block), len(block) + 2,
        )  # fmt: skip
        server.say(line + block + b"\x00\xff\r\n")
        await server.heard(b"+TERM")
    assert intake.kept == [Message(b"\x00\xff", content_type, headers, "s.\udcff")]


class CoreScript:
    """A source of core subjects, and the server's side of it."""

    def __init__(self, server, intake, **options):
        self.server = server
        self.source = NatsSource(
            NatsSourceConfig(
                name="bus", protocol="nats", url=server.url, subjects=["a.>"], **options
            )
        )
        self.intake = intake

    async def __aenter__(self):
        async with asyncio.timeout(10):
            await self.source.open(self.intake)
        self.sid = (await self.server.heard(b"SUB a.> ")).split()[-1]
        return self

    async def __aexit__(self, *_):
        await self.source.drain()
        await self.source.close()

    def deliver(self, payload, reply=b""):
        words = [b"MSG", b"a.b", self.sid, *([reply] if reply else []), b"%d" % len(payload)]
        self.server.say(b" ".join(words) + b"\r\n" + payload + b"\r\n")


async def test_who_asks_for_an_answer_is_told_and_what_nobody_is_told_of_is_kept(server):
    intake = RecordingIntake()
    async with CoreScript(server, intake) as script:
        script.deliver(BAD, b"inbox.1")
        script.deliver(b"nobody asks")
        await server.heard(b"PUB inbox.1")
        await intake.wait_for(lambda i: i.kept)
    assert intake.kept == [Message(b"nobody asks", "", [], "a.b")]
    assert [reason for reason, _ in intake.rejections] == ["missing_attribute", "not_an_event"]
    assert any(line.startswith(b"-ERR missing_attribute: ") for line in server.lines)


async def test_what_can_not_be_kept_takes_no_room_from_its_neighbours(server, monkeypatch):
    monkeypatch.setattr("gateway.sources.nats.core._MAX_UNKEPT", 3)
    intake = RecordingIntake()
    intake.keep_error = NO_ROOM
    async with CoreScript(server, intake, max_pending_bytes=2000) as script:
        for number in range(10):
            script.deliver(b"x" * 1000 + b"%d" % number)
            script.deliver(json.dumps(json.loads(EVENT) | {"id": str(number)}).encode(), b"in.1")
        await server.heard(b"+ACK", 10)
        assert len(intake.rejections) == 1 + 7  # handed in and not kept; given up
        assert script.source._way._feed.unkept == 3
