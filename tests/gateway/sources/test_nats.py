"""What a real server says too rarely; everything else is in tests/e2e/test_nats.py."""

import asyncio
import re

import pytest
from pydantic import ValidationError

from gateway.delivery import ACCEPTED
from gateway.errors import GatewayError
from gateway.sources.nats import NatsSource, NatsSourceConfig
from tests.gateway.scripted_jetstream import ACK_9, ACK_11, ACK_12, JetStreamScript
from tests.gateway.scripted_nats import ScriptedNats
from tests.helpers import RecordingIntake


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stream": "S"},
        {"durable": "gw"},
        {"stream": "S", "durable": "gw", "queue": "q"},
        {"stream": "a.b", "durable": "gw"},
        {"stream": "S", "durable": "g w"},
        {"subjects": ["a..b"]},
        {"subjects": ["a b"]},
        {"subjects": [""]},
        {"subjects": ["a"], "queue": "a b"},
        {"subjects": ["a"], "unknown": 1},
    ],
)
def test_a_configuration_that_can_not_be_is_refused(options):
    with pytest.raises(ValidationError):
        NatsSourceConfig(name="bus", protocol="nats", **options)


@pytest.fixture
async def server():
    async with ScriptedNats() as scripted:
        yield scripted


@pytest.mark.parametrize("form", [ACK_9, ACK_11, ACK_12])
async def test_every_form_of_acknowledgement_subject_is_understood(server, form):
    intake = RecordingIntake()
    event = {"type": "t", "source": "/s"}
    async with JetStreamScript(server, intake, event=event) as script:
        reply = form.format(delivered=1, sequence=42)
        script.deliver(reply, b"plain")
        assert await server.heard(b"PUB " + reply.encode()) == f"PUB {reply} 4\r\n".encode()
        await server.heard(b"+ACK")
    assert intake.events[0].id == "S-42"
    assert intake.events[0].time == "2023-11-14T22:13:20.123456Z"


async def test_a_request_asks_for_a_batch_within_the_window(server):
    async with JetStreamScript(server, RecordingIntake(), batch=60) as script:
        reply, body = await script.request(1)
        assert body["batch"] == 60
        assert body["expires"] > 2 * body["idle_heartbeat"] > 0  # the server demands it
        _, body = await script.request(1)
        # 408 says how many of the request did not come.
        script.status(reply, b"408 Request Timeout", b"Nats-Pending-Messages: 60")
        assert (await script.request(2))[1]["batch"] == 60


async def test_a_status_without_a_count_ends_the_whole_request(server):
    async with JetStreamScript(server, RecordingIntake()) as script:
        reply, body = await script.request(1)
        assert body["batch"] == 100  # the consumer's own limit is smaller than ours
        script.status(reply, b"408 Request Timeout")
        assert (await script.request(2))[1]["batch"] == 100


@pytest.mark.parametrize(
    ("suffix", "headers"),
    [
        (b"x", []),
        ("\u00b2".encode(), []),
        (b"\xff", []),
        (b"1" * 5000, []),
        (b"1", [b"Nats-Pending-Messages: " + b"1" * 5000]),
    ],
    ids=["letter", "superscript", "no UTF-8", "5000 digits", "count of 5000 digits"],
)
async def test_what_others_send_to_the_inbox_ends_nothing(server, suffix, headers):
    intake = RecordingIntake()
    async with JetStreamScript(server, intake) as script:
        reply, _ = await script.request(1)
        script.status(reply.rpartition(b".")[0] + b"." + suffix, b"408 Request Timeout", *headers)
        script.deliver("$JS.ACK.S.gw.1.2.3.x.0")  # no time
        script.deliver(ACK_9.format(delivered=1, sequence=7))
        assert await server.heard(b"PUB " + ACK_9.format(delivered=1, sequence=7).encode())


async def test_a_heartbeat_is_no_end(server):
    async with JetStreamScript(server, RecordingIntake()) as script:
        reply, _ = await script.request(1)
        script.status(reply, b"100 Idle Heartbeat", b"Nats-Last-Consumer: 1")
        script.deliver(ACK_9.format(delivered=1, sequence=1))
        await server.heard(b"+ACK")
        assert len([x for x in server.lines if b"MSG.NEXT" in x]) == 1


@pytest.mark.parametrize("status", [b"503", b"409 Consumer Deleted", b"409 Leadership Change"])
async def test_trouble_is_waited_out_and_told_once(server, status, caplog):
    async with JetStreamScript(server, RecordingIntake()) as script:
        reply, _ = await script.request(1)
        script.status(reply, status)
        script.status(reply, status)
        await script.answer_info()
        await script.request(2)
        script.deliver(ACK_9.format(delivered=1, sequence=1))
        await server.heard(b"+ACK")
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert warnings == [f"bus: consumer gw: {status.decode()}{' ' if status == b'503' else ''}"]


async def test_requests_that_got_lost_are_noticed(server, monkeypatch, caplog):
    monkeypatch.setattr("gateway.sources.nats.jetstream.HEARTBEAT_SECONDS", 0.05)
    async with JetStreamScript(server, RecordingIntake()) as script:
        await script.request(1)
        await script.answer_info()
        await script.request(2)
    assert "no heartbeat" in caplog.text


async def test_a_redelivery_of_what_is_under_way_only_renews_the_address(server):
    intake = RecordingIntake(lambda _: None)
    async with JetStreamScript(server, intake) as script:
        script.deliver(ACK_9.format(delivered=1, sequence=7))
        script.deliver(ACK_9.format(delivered=2, sequence=7))
        script.deliver(ACK_9.format(delivered=1, sequence=8))
        await intake.wait_for(lambda i: len(i.deliveries) == 2)
        intake.deliveries[0].settle(ACCEPTED)
        line = await server.heard(b"PUB $JS.ACK")
        assert line.split()[1].decode() == ACK_9.format(delivered=2, sequence=7)
    assert len(intake.deliveries) == 2


async def test_an_acknowledgement_made_while_offline_goes_out_afterwards(server):
    intake = RecordingIntake(lambda _: None)
    async with JetStreamScript(server, intake) as script:
        reply = ACK_9.format(delivered=1, sequence=1)
        script.deliver(reply)
        await intake.wait_for(lambda i: i.deliveries)
        server.hang_up()
        while script.source._way._connection.is_up:
            await asyncio.sleep(0)
        intake.deliveries[0].settle(ACCEPTED)
        await asyncio.sleep(0)
        server.lines.clear()
        script.infos = 0
        await script.answer_info()
        await server.heard(b"PUB " + reply.encode())


async def test_a_long_outage_does_not_pile_up_signs_of_life(server, monkeypatch):
    monkeypatch.setattr("gateway.sources.nats.jetstream.HEARTBEAT_SECONDS", 0.1)
    intake = RecordingIntake(lambda _: None)
    async with JetStreamScript(server, intake) as script:
        script.source._way._ack_wait = 0.01
        script.deliver(ACK_9.format(delivered=1, sequence=1))
        await server.heard(b"+WPI")
        server._server.close()
        server.hang_up()
        connection = script.source._way._connection
        while connection.is_up:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)
        assert script.source._way._answers._waiting == []


async def test_a_stream_that_began_anew_is_not_taken_for_the_old_one(server):
    """Its sequence counts from 1 again: old tokens would acknowledge what is new."""
    intake = RecordingIntake(lambda _: None)
    async with JetStreamScript(server, intake, event={"type": "t", "source": "/s"}) as script:
        old = ACK_9.format(delivered=1, sequence=1)
        script.deliver(old)
        script.deliver(ACK_9.format(delivered=1, sequence=2))
        await intake.wait_for(lambda i: len(i.deliveries) == 2)
        server.hang_up()
        while script.source._way._connection.is_up:
            await asyncio.sleep(0)
        intake.deliveries[1].settle(ACCEPTED)  # while there is no connection
        await asyncio.sleep(0)
        server.lines.clear()
        script.infos = 0
        await script.answer_info(created="2026-01-02T00:00:00Z")
        script.inbox_sid = (await server.heard(b"SUB ", 2)).split()[-1]
        new = old.replace("1700000000", "1800000000")
        script.deliver(new, b"new")
        await intake.wait_for(lambda i: len(i.deliveries) == 3)
        intake.deliveries[0].settle(ACCEPTED)
        intake.deliveries[2].settle(ACCEPTED)
        assert (await server.heard(b"PUB $JS.ACK")).split()[1].decode() == new
    assert {line.split()[1].decode() for line in server.lines if b"PUB $JS.ACK" in line} == {new}


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.S.gw.1.x.3.1700000000123456789.0",
        "$JS.ACK.S.gw.1.1.3.x.0",
        "$JS.ACK.S.gw.1.1.3.99999999999999999999999.0",
        "$JS.ACK.S.gw",
        "strange",
    ],
)
async def test_what_a_stranger_sends_to_our_inbox_does_no_harm(server, reply, caplog):
    intake = RecordingIntake()
    async with JetStreamScript(server, intake, event={"type": "t", "source": "/s"}) as script:
        first, _ = await script.request(1)
        script.deliver(reply, b"strange")
        script.status(first.rpartition(b".")[0] + b".x", b"408 Request Timeout")
        script.deliver(ACK_9.format(delivered=1, sequence=1), b"good")
        await intake.wait_for(lambda i: i.deliveries)
    assert [event.data for event in intake.events] == [b"good"]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_acknowledgements_that_the_server_refuses_are_told_once(server, caplog):
    async with JetStreamScript(server, RecordingIntake()) as script:
        for number in (1, 2):
            script.deliver(ACK_9.format(delivered=1, sequence=number))
            await server.heard(b"+ACK", number)
            server.say(b"-ERR 'Permissions Violation for Publish to \"$JS.ACK.S.gw.1\"'\r\n")
        script.deliver(ACK_9.format(delivered=1, sequence=3))
        await server.heard(b"+ACK", 3)
    assert caplog.text.count("Permissions Violation") == 1


@pytest.mark.parametrize("options", [{"subjects": ["a"]}, {"stream": "S", "durable": "gw"}])
async def test_a_source_that_never_was_connected_can_be_drained(options):
    source = NatsSource(NatsSourceConfig(url="nats://127.0.0.1:1", protocol="nats", **options))
    opening = asyncio.ensure_future(source.open(RecordingIntake()))
    await asyncio.sleep(0)
    await source.drain()
    opening.cancel()
    await source.close()


async def test_answers_of_one_turn_leave_in_one_write(server):
    intake = RecordingIntake(lambda _: None)
    async with JetStreamScript(server, intake) as script:
        replies = [ACK_9.format(delivered=1, sequence=number) for number in range(1, 51)]
        for reply in replies:
            script.deliver(reply)
        await intake.wait_for(lambda i: len(i.deliveries) == 50)
        written = []
        client = script.source._way._connection._client
        monkey = client.write
        client.write = lambda data: (written.append(data), monkey(data))
        for delivery in intake.deliveries:
            delivery.settle(ACCEPTED)
        await server.heard(b"+ACK", 50)
        acks = [data for data in written if b"$JS.ACK" in data]
        assert len(acks) == 1
        assert re.findall(rb"\d+(?=\.3\.17)", acks[0]) == [b"%d" % n for n in range(1, 51)]


async def test_a_consumer_of_another_kind_is_refused(server):
    source = NatsSource(
        NatsSourceConfig(name="bus", protocol="nats", url=server.url, stream="S", durable="gw")
    )
    script = JetStreamScript(server, RecordingIntake())
    opening = asyncio.ensure_future(source.open(RecordingIntake()))
    await script.answer_info(ack_policy="none")
    with pytest.raises(GatewayError, match="explicit acknowledgement"):
        await opening
    await source.close()


@pytest.mark.parametrize(
    ("options", "error", "missing"),
    [
        ({}, (10059, "stream not found"), "stream S"),
        ({"create": False}, (10059, "stream not found"), "stream S"),
        ({"create": False}, (10014, "consumer not found"), "consumer gw of stream S"),
    ],
)
async def test_what_is_not_there_yet_is_named_and_is_no_matter_of_the_connection(
    server, caplog, monkeypatch, options, error, missing
):
    monkeypatch.setattr("gateway.nats_connection.BACKOFF_SECONDS", (0.001, 10.0))
    script = JetStreamScript(server, RecordingIntake(), **options)
    opening = asyncio.ensure_future(script.source.open(RecordingIntake()))
    body = {"error": {"code": 404, "err_code": error[0], "description": error[1]}}
    await script.answer_info_with(body)
    await script.answer_info()  # by now it is there
    await opening
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert warnings == [
        f"bus: {missing} is not there yet; it is looked for again, at the latest after 10 s"
    ]
    await script.source.close()
