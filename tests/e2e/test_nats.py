"""The NATS source and sink against a real nats-server; nats-py and raw sockets are the others."""

import asyncio
import base64
import contextlib
import itertools
import json
import socket

import nats
import nats.js.errors
import pytest

from bindings.event import Event
from gateway.cli.senders import SendOptions
from gateway.cli.senders.nats import NatsSender
from gateway.config.records import EventTemplate, LimitsConfig, TlsConfig
from gateway.delivery import ACCEPTED, Outcome, Reason, Settlement
from gateway.sinks.nats import NatsSink, NatsSinkConfig
from gateway.sources.nats import NatsSource, NatsSourceConfig
from tests.e2e.servers import Gateway, NatsServer
from tests.helpers import RecordingIntake

HEADERS = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
STRUCTURED = b'{"specversion":"1.0","id":"2","source":"/s","type":"t","data":{"a": 1}}'
RELEASED = Settlement(Outcome.RELEASED, Reason.SINK_DOWN, 0.1, "not now")
REJECTED = Settlement(Outcome.REJECTED, Reason.SINK_REFUSED, None, "never")
_numbers = itertools.count(1)


@pytest.fixture
async def client(nats_server):
    connection = await nats.connect(nats_server.url)
    yield connection
    await connection.close()


@pytest.fixture
async def stream(client):
    """A stream of its own: its name, which is also the first word of its subjects."""
    name = f"S{next(_numbers)}"
    await client.jetstream().add_stream(name=name, subjects=[f"{name}.>"])
    return name


@contextlib.asynccontextmanager
async def source(server, intake, **options):
    adapter = NatsSource(
        NatsSourceConfig(name="bus", protocol="nats", **{"url": server.url, **options})
    )
    async with asyncio.timeout(20):
        await adapter.open(intake)
    try:
        yield adapter
    finally:
        await adapter.drain()
        await adapter.close()


@contextlib.asynccontextmanager
async def sink(server, **options):
    adapter = NatsSink(
        NatsSinkConfig(name="out", protocol="nats", **{"url": server.url, **options})
    )
    await adapter.open()
    try:
        yield adapter
    finally:
        await adapter.close()


async def until_up(out):
    """Wait until a sink that may connect does: its `open` gives up waiting rather soon."""
    async with asyncio.timeout(20):
        await out._connection.opened()


async def until_logged(caplog, text):
    """Wait until the log says this, in small or large letters: why there is no connection."""
    async with asyncio.timeout(20):
        while text not in caplog.text.lower():
            await asyncio.sleep(0.01)


def event(number, **attributes):
    return Event(**{"id": str(number), "source": "/s", "type": "com.acme.t"} | attributes)


async def until_settled(client, stream, durable="gw"):
    """Wait until the consumer has nothing unacknowledged and nothing left."""
    async with asyncio.timeout(10):
        while True:
            info = await client.jetstream().consumer_info(stream, durable)
            if info.num_ack_pending == 0 and info.num_pending == 0:
                return info


def publish_raw(server, subject, header_lines, payload=b""):
    """Publish a header block byte for byte, and wait until the server has taken it."""
    block = b"NATS/1.0\r\n" + b"".join(line + b"\r\n" for line in header_lines) + b"\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as peer:
        lines = peer.makefile("rb")
        assert lines.readline().startswith(b"INFO")
        peer.sendall(
            b'CONNECT {"verbose":false,"headers":true}\r\n'
            + b"HPUB %b %d %d\r\n" % (subject.encode(), len(block), len(block) + len(payload))
            + block
            + payload
            + b"\r\nPING\r\n"
        )
        assert lines.readline() == b"PONG\r\n"
        lines.close()


# Core NATS.


async def test_a_binary_event_is_answered_with_ack_once_it_is_accepted(nats_server, client):
    intake = RecordingIntake(lambda _: None)
    async with source(nats_server, intake, subjects=["a.>"]):
        request = asyncio.ensure_future(client.request("a.b", b"hi", timeout=5, headers=HEADERS))
        await intake.wait_for(lambda i: i.deliveries)
        assert not request.done()
        intake.deliveries[0].settle(ACCEPTED)
        assert (await request).data == b"+ACK"
    assert intake.events == [Event(id="1", source="/s", type="t", data=b"hi")]


async def test_a_structured_event_is_taken_with_and_without_content_type(nats_server, client):
    intake = RecordingIntake()
    async with source(nats_server, intake, subjects=["b"]):
        structured = {"Content-Type": "application/cloudevents+json"}
        for headers in (structured, None):
            answer = await client.request("b", STRUCTURED, timeout=10, headers=headers)
            assert answer.data == b"+ACK"
    assert [e.data for e in intake.events] == [b'{"a": 1}'] * 2


@pytest.mark.parametrize("settlement", [RELEASED, REJECTED])
async def test_a_request_that_is_not_accepted_is_answered_with_err(nats_server, client, settlement):
    intake = RecordingIntake(lambda _: settlement)
    async with source(nats_server, intake, subjects=["c"]):
        answer = (await client.request("c", b"", timeout=10, headers=HEADERS)).data
    assert answer.startswith(b"-ERR " + settlement.reason.value.encode())
    assert len(intake.deliveries) == 1


async def test_a_message_without_reply_is_held_and_submitted_again(nats_server, client):
    answers = iter([RELEASED, ACCEPTED, ACCEPTED, ACCEPTED])
    intake = RecordingIntake(lambda _: next(answers))
    async with source(nats_server, intake, subjects=["d"]):
        await client.publish("d", b"first", headers=HEADERS)
        await intake.wait_for(lambda i: i.deliveries)
        await client.publish("d", b"behind it, of the same key", headers=HEADERS)
        await client.publish("d", b"beside it", headers={**HEADERS, "ce-source": "/other"})
        await intake.wait_for(lambda i: len(i.deliveries) == 4)
    assert [e.data for e in intake.events] == [
        b"first",
        b"beside it",
        b"first",
        b"behind it, of the same key",
    ]


async def test_a_queue_group_gives_each_message_to_one_source(nats_server, client):
    one, two = RecordingIntake(), RecordingIntake()
    async with (
        source(nats_server, one, subjects=["e"], queue="group"),
        source(nats_server, two, subjects=["e"], queue="group"),
    ):
        for number in range(200):
            await client.publish("e", b"", headers={**HEADERS, "ce-id": str(number)})
        await client.flush()
        async with asyncio.timeout(10):
            while len(one.events) + len(two.events) < 200:
                await asyncio.sleep(0)
    assert sorted(int(e.id) for e in one.events + two.events) == list(range(200))
    assert one.events
    assert two.events


BAD_HEADERS = {
    "a duplicate": ([b"ce-id: 1", b"ce-id: 1"], "duplicate_attribute"),
    "a duplicate that differs in case": ([b"ce-id: 1", b"CE-ID: 2"], "duplicate_attribute"),
    "invalid UTF-8": ([b"ce-id: \xff\xfe"], None),
    "escaped invalid UTF-8": ([b"ce-id: %FF"], None),
    "no colon": ([b"ce-id 1"], "malformed_headers"),
    "a bare line feed": ([b"ce-id: 1\nce-subject: x"], "malformed_headers"),
    "a control character": ([b"ce-id: a\x00b"], None),
    "a blank before the colon": ([b"ce-id : 1"], "malformed_headers"),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
async def test_bad_headers_are_rejected_and_the_next_message_is_not(nats_server, client, name):
    lines, reason = BAD_HEADERS[name]
    intake = RecordingIntake()
    rest = [b"ce-specversion: 1.0", b"ce-source: /s", b"ce-type: t"]
    async with source(nats_server, intake, subjects=["f"]):
        await asyncio.to_thread(publish_raw, nats_server, "f", lines + rest)
        await asyncio.to_thread(publish_raw, nats_server, "f", [b"ce-id: good", *rest])
        await intake.wait_for(lambda i: i.events)
    assert [e.id for e in intake.events] == ["good"]
    assert len(intake.rejections) == 1
    assert reason is None or intake.rejections[0][0] == reason


async def test_raw_utf_8_in_a_header_is_taken_or_rejected_but_never_garbled(nats_server, client):
    intake = RecordingIntake()
    lines = [b"ce-specversion: 1.0", "ce-id: é".encode(), b"ce-source: /s", b"ce-type: t"]
    async with source(nats_server, intake, subjects=["g"]):
        await asyncio.to_thread(publish_raw, nats_server, "g", lines)
        await intake.wait_for(lambda i: i.events or i.rejections)
    assert [e.id for e in intake.events] in ([], ["é"])


async def test_a_strange_subject_does_no_harm(nats_server, client):
    intake = RecordingIntake()
    template = EventTemplate(type="t", source="/s", subject="{subject}")
    async with source(nats_server, intake, subjects=["h.>"], event=template):
        with socket.create_connection(("127.0.0.1", nats_server.port), timeout=5) as peer:
            lines = peer.makefile("rb")
            assert lines.readline().startswith(b"INFO")
            peer.sendall(b'CONNECT {"verbose":false}\r\nPUB h.\xff 1\r\nx\r\n')
            peer.sendall(b"PUB h.a\x0bb 1\r\nx\r\n")
            peer.sendall("PUB h.é 1\r\nx\r\nPING\r\n".encode())
            assert lines.readline() == b"PONG\r\n"
            lines.close()
        await intake.wait_for(lambda i: len(i.events) + len(i.rejections) == 3)
    assert [e.subject for e in intake.events] == ["h.é"]


async def test_a_message_beyond_the_limit_is_rejected(nats_server, client):
    intake = RecordingIntake()
    limits = LimitsConfig(max_event_bytes=100)
    async with source(nats_server, intake, subjects=["i"], limits=limits):
        answer = await client.request("i", b"x" * 101, timeout=10, headers=HEADERS)
        assert answer.data.startswith(b"-ERR too_large")
        assert (await client.request("i", b"x" * 100, timeout=10, headers=HEADERS)).data == b"+ACK"


async def test_a_full_source_stops_reading_then_refuses_then_recovers(
    nats_server, client, monkeypatch
):
    monkeypatch.setattr("gateway.sources.nats.core.PAUSE_SECONDS", 0.3)
    intake = RecordingIntake()
    intake.room.clear()
    async with source(nats_server, intake, subjects=["j"], max_pending_bytes=1000) as adapter:
        first = asyncio.ensure_future(client.request("j", b"x" * 2000, timeout=9, headers=HEADERS))
        while not adapter._way._feed.is_full:
            await asyncio.sleep(0.01)
        began = asyncio.get_running_loop().time()
        second = await client.request("j", b"", timeout=9, headers=HEADERS)
        assert second.data == b"-ERR busy: no room for more messages"
        assert asyncio.get_running_loop().time() - began > 0.2
        intake.room.set()
        assert (await first).data == b"+ACK"
        assert (await client.request("j", b"", timeout=9, headers=HEADERS)).data == b"+ACK"
    assert intake.rejections == [("busy", "no room for more messages")]


# JetStream.


async def test_a_message_is_acknowledged_after_it_is_accepted(nats_server, client, stream):
    intake = RecordingIntake(lambda _: None)
    async with source(nats_server, intake, stream=stream, durable="gw"):
        await client.jetstream().publish(f"{stream}.a", b"hi", headers=HEADERS)
        await intake.wait_for(lambda i: i.deliveries)
        info = await client.jetstream().consumer_info(stream, "gw")
        assert info.num_ack_pending == 1
        intake.deliveries[0].settle(ACCEPTED)
        await until_settled(client, stream)
    assert intake.events == [Event(id="1", source="/s", type="t", data=b"hi")]
    assert (info.config.ack_policy, info.config.max_deliver) == ("explicit", -1)


async def test_what_was_not_acknowledged_is_redelivered_with_the_same_id(
    nats_server, client, stream
):
    template = EventTemplate(type="t", source="/s", subject="{subject}")
    options = {"stream": stream, "durable": "gw", "event": template, "ack_wait": 3}
    first = RecordingIntake(lambda _: None)
    for number in range(3):
        await client.jetstream().publish(f"{stream}.{number}", b"x")
    async with source(nats_server, first, **options):
        await first.wait_for(lambda i: len(i.events) == 3)
    second = RecordingIntake()
    async with source(nats_server, second, **options):
        await second.wait_for(lambda i: len(i.events) == 3)
        await until_settled(client, stream)
    assert [e.id for e in first.events] == [f"{stream}-{number}" for number in (1, 2, 3)]
    assert second.events == first.events  # time and all


async def test_a_message_under_way_is_kept_by_in_progress(nats_server, client, stream):
    intake = RecordingIntake(lambda _: None)
    async with source(nats_server, intake, stream=stream, durable="gw", ack_wait=3):
        await client.jetstream().publish(f"{stream}.a", b"", headers=HEADERS)
        await intake.wait_for(lambda i: i.deliveries)
        # With no sign of life it would come again after 3 s, with one or two a second later.
        await asyncio.sleep(5)
        info = await client.jetstream().consumer_info(stream, "gw")
        assert (info.num_ack_pending, info.num_redelivered) == (1, 0)
        intake.deliveries[0].settle(ACCEPTED)
        await until_settled(client, stream)
    assert len(intake.deliveries) == 1


async def test_what_brings_no_event_is_terminated_and_counted(nats_server, client, stream):
    intake = RecordingIntake()
    async with source(nats_server, intake, stream=stream, durable="gw"):
        js = client.jetstream()
        await js.publish(f"{stream}.a", b"poison", headers={"ce-id": "1"})
        await js.publish(f"{stream}.a", b"plain")
        await js.publish(f"{stream}.a", b"good", headers=HEADERS)
        info = await until_settled(client, stream)
        await intake.wait_for(lambda i: i.events and len(i.rejections) == 2)
    assert [e.data for e in intake.events] == [b"good"]
    assert [reason for reason, _ in intake.rejections] == ["missing_attribute", "not_an_event"]
    assert info.num_redelivered == 0


async def test_a_rejected_message_is_terminated_and_counted(nats_server, client, stream):
    intake = RecordingIntake(lambda _: REJECTED)
    async with source(nats_server, intake, stream=stream, durable="gw"):
        await client.jetstream().publish(f"{stream}.a", b"", headers=HEADERS)
        await intake.wait_for(lambda i: i.rejections)
        await until_settled(client, stream)
    assert intake.rejections == [("sink_refused", "never")]
    assert len(intake.deliveries) == 1


async def test_a_released_message_is_held_and_never_redelivered(nats_server, client, stream):
    answers = iter([RELEASED, RELEASED, ACCEPTED, ACCEPTED])
    intake = RecordingIntake(lambda _: next(answers))
    async with source(nats_server, intake, stream=stream, durable="gw"):
        js = client.jetstream()
        await js.publish(f"{stream}.a", b"1", headers=HEADERS)
        await intake.wait_for(lambda i: i.deliveries)
        await js.publish(f"{stream}.a", b"2", headers=HEADERS)
        await intake.wait_for(lambda i: len(i.deliveries) == 4)
        info = await until_settled(client, stream)
    assert info.delivered.consumer_seq == 2  # the server gave each but once
    assert [e.data for e in intake.events][-2:] == [b"1", b"2"]


async def test_fetching_stops_at_the_window(nats_server, client, stream):
    intake = RecordingIntake(lambda _: None)
    js = client.jetstream()
    for number in range(30):
        await js.publish(f"{stream}.a", b"", headers={**HEADERS, "ce-id": str(number)})
    async with source(nats_server, intake, stream=stream, durable="gw", max_ack_pending=10):
        await intake.wait_for(lambda i: len(i.events) == 10)
        async with asyncio.timeout(10):
            # One request stays open: it tells of the consumer's end.
            while (await js.consumer_info(stream, "gw")).num_waiting != 1:
                await asyncio.sleep(0)
        assert (await js.consumer_info(stream, "gw")).num_ack_pending == 10
        assert len(intake.events) == 10
        intake.answer = lambda _: ACCEPTED
        for delivery in intake.deliveries[:10]:
            delivery.settle(ACCEPTED)
        await intake.wait_for(lambda i: len(i.events) == 30)
        await until_settled(client, stream)
    assert [int(e.id) for e in intake.events] == list(range(30))


async def test_two_replicas_share_a_durable(nats_server, client, stream):
    one, two = RecordingIntake(), RecordingIntake()
    options = {
        "stream": stream, "durable": "gw", "shared": True, "batch": 5, "max_ack_pending": 10,
    }  # fmt: skip
    async with source(nats_server, one, **options), source(nats_server, two, **options):
        for number in range(200):
            await client.jetstream().publish(
                f"{stream}.a", b"", headers={**HEADERS, "ce-id": str(number)}
            )
        await until_settled(client, stream)
    assert sorted(int(e.id) for e in one.events + two.events) == list(range(200))


@pytest.mark.parametrize("shared", [False, True])
async def test_what_another_process_left_comes_before_newer_ones_unless_the_durable_is_shared(
    nats_server, client, stream, shared
):
    jetstream = client.jetstream()
    left = RecordingIntake(lambda _: None)
    options = {"stream": stream, "durable": "gw"}
    async with source(nats_server, left, **options):
        for number in (1, 2):
            await jetstream.publish(f"{stream}.a", b"", headers={**HEADERS, "ce-id": str(number)})
        await left.wait_for(lambda i: len(i.events) == 2)
    await jetstream.publish(f"{stream}.a", b"", headers={**HEADERS, "ce-id": "3"})
    intake = RecordingIntake()
    async with source(nats_server, intake, shared=shared, **options):
        await intake.wait_for(lambda i: i.events and i.events[-1].id == "3")
    assert [event.id for event in intake.events] == (["3"] if shared else ["1", "2", "3"])


async def test_only_the_configured_subjects_are_consumed(nats_server, client, stream):
    intake = RecordingIntake()
    subjects = [f"{stream}.a.>", f"{stream}.b"]
    async with source(nats_server, intake, stream=stream, durable="gw", subjects=subjects):
        for subject in ("c", "a.1", "b", "a"):
            await client.jetstream().publish(
                f"{stream}.{subject}", b"", headers={**HEADERS, "ce-id": subject}
            )
        await until_settled(client, stream)
    assert [e.id for e in intake.events] == ["a.1", "b"]


async def test_a_missing_stream_is_waited_for(nats_server, client, caplog):
    name = f"LATER{next(_numbers)}"
    intake = RecordingIntake()
    adapter = NatsSource(
        NatsSourceConfig(
            name="bus", protocol="nats", url=nats_server.url, stream=name, durable="gw"
        )
    )
    opening = asyncio.ensure_future(adapter.open(intake))
    await asyncio.sleep(0.1)
    assert not opening.done()
    assert f"bus: stream {name} is not there yet" in caplog.text
    assert "no connection" not in caplog.text
    await client.jetstream().add_stream(name=name, subjects=[f"{name}.>"])
    await client.jetstream().publish(f"{name}.a", b"", headers=HEADERS)
    async with asyncio.timeout(10):
        await opening
    await intake.wait_for(lambda i: i.events)
    await adapter.drain()
    await adapter.close()


async def test_a_sink_whose_stream_is_missing_says_so_at_the_start(nats_server, client, caplog):
    name = f"MISSING{next(_numbers)}"
    async with sink(nats_server, subject=f"{name}.x", stream=name):
        assert f"there is no stream {name}: make it, with the subject {name}.x;" in caplog.text
    async with sink(nats_server, subject=f"{name}.x"):
        assert f"no stream has the subject {name}.x: make one; events wait" in caplog.text
    caplog.clear()
    await client.jetstream().add_stream(name=name, subjects=[f"{name}.>"])
    for options in ({}, {"stream": name}):
        async with sink(nats_server, subject=f"{name}.x", **options):
            assert "events wait" not in caplog.text


async def test_a_deleted_consumer_is_made_again(nats_server, client, stream):
    intake = RecordingIntake()
    async with source(nats_server, intake, stream=stream, durable="gw"):
        await client.jetstream().delete_consumer(stream, "gw")
        await client.jetstream().publish(f"{stream}.a", b"", headers=HEADERS)
        await intake.wait_for(lambda i: i.events)


async def test_after_drain_nothing_new_comes_and_answers_still_go(nats_server, client, stream):
    intake = RecordingIntake(lambda _: None)
    async with source(nats_server, intake, stream=stream, durable="gw") as adapter:
        await client.jetstream().publish(f"{stream}.a", b"", headers=HEADERS)
        await intake.wait_for(lambda i: i.deliveries)
        await adapter.drain()
        await client.jetstream().publish(f"{stream}.a", b"later", headers=HEADERS)
        intake.deliveries[0].settle(ACCEPTED)
    info = await client.jetstream().consumer_info(stream, "gw")
    assert len(intake.deliveries) == 1
    assert (info.num_ack_pending, info.num_pending) == (0, 1)


# Trouble.


async def test_source_and_sink_survive_a_killed_server(start, caplog):
    server = start(NatsServer)
    setup = await nats.connect(server.url)
    await setup.jetstream().add_stream(name="K", subjects=["k.>"])
    await setup.close()
    intake = RecordingIntake(lambda _: None)
    async with (
        source(server, intake, stream="K", durable="gw", ack_wait=2) as _,
        sink(server, subject="k.x") as out,
    ):
        assert await out.send([event(number) for number in range(20)]) == []
        await intake.wait_for(lambda i: len(i.events) == 20)
        await asyncio.to_thread(server.kill)
        failures = await out.send([event(20)])
        assert [(f.outcome, f.position) for f in failures] == [(Outcome.RELEASED, 0)]
        # Settled while there is no connection: the acknowledgements go out after it is back.
        intake.answer = lambda _: ACCEPTED
        for delivery in intake.deliveries:
            delivery.settle(ACCEPTED)
        await asyncio.to_thread(server.start)
        async with asyncio.timeout(20):
            while await out.send([event(20)]):
                await asyncio.sleep(0.1)
        await intake.wait_for(lambda i: "20" in {e.id for e in i.events})
        check = await nats.connect(server.url)
        await until_settled(check, "K")
        await check.close()
    assert {int(e.id) for e in intake.events} == set(range(21))
    lost = [r.getMessage() for r in caplog.records if "lost" in r.getMessage()]
    assert len(lost) == 2  # one line each, however many attempts it took
    assert not [r for r in caplog.records if r.levelname == "ERROR"]


async def test_core_subscriptions_are_back_after_a_restart(start):
    server = start(NatsServer)
    intake = RecordingIntake()
    async with source(server, intake, subjects=["a"]):
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        client = await nats.connect(server.url)
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(nats.errors.NoRespondersError):
                    answer = await client.request("a", b"", timeout=10, headers=HEADERS)
                    assert answer.data == b"+ACK"
                    break
                await asyncio.sleep(0.05)
        await client.close()


async def test_a_server_that_comes_late_is_waited_for(start, caplog):
    server = start(NatsServer)
    server.stop()
    intake = RecordingIntake()
    adapter = NatsSource(
        NatsSourceConfig(name="bus", protocol="nats", url=server.url, subjects=["a"])
    )
    opening = asyncio.ensure_future(adapter.open(intake))
    await asyncio.sleep(0.5)
    assert not opening.done()
    await asyncio.to_thread(server.start)
    async with asyncio.timeout(20):
        await opening
    await adapter.drain()
    await adapter.close()
    assert len([r for r in caplog.records if "no connection" in r.getMessage()]) == 1


# Who we are, and who they are.


async def test_tls_with_a_client_certificate(start, certificates):
    server = start(
        NatsServer,
        f'tls {{ cert_file: "{certificates.server_cert}", key_file: "{certificates.server_key}", '
        f'ca_file: "{certificates.ca}", verify: true }}',
    )
    tls = TlsConfig(ca=certificates.ca, cert=certificates.client_cert, key=certificates.client_key)
    url = server.url.replace("nats:", "tls:").replace("127.0.0.1", "localhost")
    intake = RecordingIntake()
    async with source(server, intake, url=url, subjects=["a"], tls=tls):
        async with sink(server, url=url, subject="a", tls=tls, timeout=0.2) as out:
            await until_up(out)
            await out.send([event(1)])
        await intake.wait_for(lambda i: i.events)
    assert intake.events == [event(1)]


async def test_a_certificate_of_a_strange_ca_is_no_connection(start, certificates, caplog):
    server = start(
        NatsServer,
        f'tls {{ cert_file: "{certificates.server_cert}", key_file: "{certificates.server_key}" }}',
    )
    async with sink(server, url=server.url.replace("nats:", "tls:")) as out:
        await until_logged(caplog, "certificate verify failed")
        (failure,) = await out.send([event(1)])
    assert failure.outcome is Outcome.RELEASED


async def test_tls_is_never_given_up_silently(nats_server, caplog):
    url = nats_server.url.replace("nats:", "tls:")
    async with sink(nats_server, url=url, username="u", password="secret") as out:
        await until_logged(caplog, "offers no tls")
        (failure,) = await out.send([event(1)])
    assert failure.outcome is Outcome.RELEASED
    assert "offers no TLS" in caplog.text
    assert "secret" not in nats_server.log


@pytest.mark.parametrize(
    ("config", "good", "bad"),
    [
        (
            'authorization { user: u, password: "p" }',
            {"username": "u", "password": "p"},
            {"username": "u", "password": "wrong"},
        ),
        ('authorization { token: "t" }', {"token": "t"}, {"token": "wrong"}),
    ],
)
async def test_user_and_token(start, config, good, bad, caplog):
    server = start(NatsServer, config)
    intake = RecordingIntake()
    async with source(server, intake, subjects=["a"], **good):
        async with sink(server, subject="a", timeout=0.2, **good) as out:
            await until_up(out)
            await out.send([event(1)])
        await intake.wait_for(lambda i: i.events)
        async with sink(server, subject="a", **bad) as out:
            await until_logged(caplog, "authorization violation")
            (failure,) = await out.send([event(2)])
    assert failure.outcome is Outcome.RELEASED
    assert "wrong" not in caplog.text


async def test_nkey(start, tmp_path):
    import nkeys
    from nacl.signing import SigningKey

    raw = SigningKey.generate()
    seed = nkeys.encode_seed(bytes(raw), nkeys.PREFIX_BYTE_USER)
    pair = nkeys.from_seed(bytearray(seed))
    (tmp_path / "user.nk").write_bytes(seed)
    server = start(
        NatsServer, f"authorization {{ users: [ {{ nkey: {pair.public_key.decode()} }} ] }}"
    )
    intake = RecordingIntake()
    async with source(server, intake, subjects=["a"], nkey=tmp_path / "user.nk"):
        pass


class Identity:
    """An nkey that signs JWTs as nsc does (JWT version 2, algorithm ed25519-nkey)."""

    def __init__(self, prefix):
        import nkeys
        from nacl.signing import SigningKey

        self.seed = nkeys.encode_seed(bytes(SigningKey.generate()), prefix)
        self._pair = nkeys.from_seed(bytearray(self.seed))
        self.public = self._pair.public_key.decode()

    def sign(self, subject, **claims):
        def part(content):
            text = content if isinstance(content, bytes) else json.dumps(content).encode()
            return base64.urlsafe_b64encode(text).rstrip(b"=")

        token = part({"typ": "JWT", "alg": "ed25519-nkey"}) + b"." + part({
            "jti": "x", "iat": 1700000000, "iss": self.public, "sub": subject.public, "name": "x",
            "nats": {**claims, "version": 2},
        })  # fmt: skip
        return (token + b"." + part(self._pair.sign(token))).decode()


@pytest.fixture
def operator(tmp_path):
    """The configuration of a server in operator mode, and credentials of a user and a stranger."""
    import nkeys

    operator = Identity(nkeys.PREFIX_BYTE_OPERATOR)
    accounts = [Identity(nkeys.PREFIX_BYTE_ACCOUNT) for _ in range(2)]
    limits = {"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "conn": -1}
    preload = [
        f"{each.public}: {operator.sign(each, type='account', limits=limits)}"
        for each in accounts
    ]  # fmt: skip
    config = (
        f"operator: {operator.sign(operator, type='operator')}\n"
        f"system_account: {accounts[1].public}\n"
        "resolver: MEMORY\nresolver_preload: {\n" + "\n".join(preload) + "\n}\n"
    )
    user = Identity(nkeys.PREFIX_BYTE_USER)
    paths = []
    for signer in (accounts[0], Identity(nkeys.PREFIX_BYTE_ACCOUNT)):
        token = signer.sign(user, type="user", subs=-1, data=-1, payload=-1)
        paths.append(tmp_path / f"{len(paths)}.creds")
        paths[-1].write_text(
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n"
            "------END USER NKEY SEED------\n"
        )
    return config, *paths


async def test_credentials_with_a_jwt(start, operator, caplog):
    config, good, strange = operator
    server = start(NatsServer, config)
    intake = RecordingIntake()
    async with source(server, intake, subjects=["a"], credentials=good):
        async with sink(server, subject="a", timeout=0.2, credentials=good) as out:
            await until_up(out)
            await out.send([event(1)])
        sender = NatsSender(f"{server.url}/a", SendOptions(credentials=good))
        await sender.open()
        assert await sender.send(event(2)) == "+ACK"
        await sender.close()
        async with sink(server, subject="a", credentials=strange) as out:
            await until_logged(caplog, "authorization violation")
            (failure,) = await out.send([event(3)])
    assert intake.events == [event(1), event(2)]
    assert failure.outcome is Outcome.RELEASED


async def test_a_stream_that_is_made_anew_is_not_taken_for_the_old_one(start):
    """With what the old one left under way: the sequence numbers are the same."""
    server = start(NatsServer)
    client = await nats.connect(server.url)
    js = client.jetstream()
    intake = RecordingIntake(lambda _: None)
    await js.add_stream(name="S", subjects=["s.>"])
    async with source(server, intake, stream="S", durable="gw") as adapter:
        for number in range(3):
            await js.publish("s.a", b"", headers={**HEADERS, "ce-id": f"old {number}"})
        await intake.wait_for(lambda i: len(i.deliveries) == 3)
        await js.delete_stream("S")
        await js.add_stream(name="S", subjects=["s.>"])
        for number in range(3):
            await js.publish("s.a", b"", headers={**HEADERS, "ce-id": f"new {number}"})
        await intake.wait_for(lambda i: len(i.deliveries) == 6)
        for delivery in intake.deliveries[:3]:
            delivery.settle(ACCEPTED)
        await asyncio.sleep(0)
        await adapter._way._connection.flush()  # the server has handled what answers there are
        info = await js.consumer_info("S", "gw")
        assert info.num_ack_pending == 3
        for delivery in intake.deliveries[3:]:
            delivery.settle(ACCEPTED)
        await until_settled(client, "S")
    await client.close()
    assert [e.id.split()[0] for e in intake.events] == ["old"] * 3 + ["new"] * 3


async def test_a_subscription_that_is_refused_is_no_success(start, caplog):
    server = start(
        NatsServer,
        'authorization { users: [ { user: u, password: p, permissions: { subscribe: ["ok", '
        '"_INBOX.>"], publish: ["ok", "$JS.>"] } } ] }',
    )
    adapter = NatsSource(
        NatsSourceConfig(
            name="bus", protocol="nats", url=server.url, subjects=["ok", "secret"],
            username="u", password="p",
        )
    )  # fmt: skip
    opening = asyncio.ensure_future(adapter.open(RecordingIntake()))
    async with asyncio.timeout(10):
        while "Permissions Violation" not in caplog.text:
            await asyncio.sleep(0.01)
    assert not opening.done()
    opening.cancel()
    await adapter.drain()
    await adapter.close()
    async with sink(server, subject="secret", username="u", password="p") as out:
        (failure,) = await out.send([event(1)])
    assert (failure.outcome, failure.reason) == (Outcome.REJECTED, Reason.SINK_REFUSED)


# The sink.


@pytest.mark.parametrize("mode", ["structured", "binary"])
async def test_nats_py_reads_what_the_sink_stored(nats_server, client, stream, mode):
    sent = event(
        "1 ü%", subject="é", datacontenttype="application/json", data=b'{"a": 1}',
        extensions={"partitionkey": "k"},
    )  # fmt: skip
    async with sink(nats_server, subject=f"{stream}.{{type}}", mode=mode) as out:
        assert await out.send([sent]) == []
    js = client.jetstream()
    message = await js.get_msg(stream, 1)
    assert message.subject == f"{stream}.com.acme.t"
    assert message.headers["Nats-Msg-Id"] == "/s|1%20%C3%BC%25"
    if mode == "structured":
        assert message.headers["Content-Type"] == "application/cloudevents+json"
        assert json.loads(message.data) == {
            "specversion": "1.0", "id": "1 ü%", "source": "/s", "type": "com.acme.t",
            "subject": "é", "datacontenttype": "application/json", "data": {"a": 1},
            "partitionkey": "k",
        }  # fmt: skip
    else:
        assert message.data == b'{"a": 1}'
        assert {k: v for k, v in message.headers.items() if k.startswith("ce-")} == {
            "ce-specversion": "1.0", "ce-id": "1%20%C3%BC%25", "ce-source": "/s",
            "ce-type": "com.acme.t", "ce-subject": "%C3%A9",
            "ce-datacontenttype": "application/json", "ce-partitionkey": "k",
        }  # fmt: skip


async def test_an_event_sent_twice_is_stored_once(nats_server, client, stream):
    async with sink(nats_server, subject=f"{stream}.a") as out:
        assert await out.send([event(1), event(2)]) == []
        assert await out.send([event(2), event(3)]) == []
    info = await client.jetstream().stream_info(stream)
    assert info.state.messages == 3


async def test_a_list_is_stored_in_its_order(nats_server, client, stream):
    async with sink(nats_server, subject=f"{stream}.a") as out:
        assert await out.send([event(number) for number in range(1000)]) == []
    js = client.jetstream()
    stored = [(await js.get_msg(stream, seq)).data for seq in (1, 500, 1000)]
    assert [json.loads(data)["id"] for data in stored] == ["0", "499", "999"]


async def test_each_event_of_a_list_has_its_own_outcome(nats_server, client, stream):
    js = client.jetstream()
    small = f"{stream}SMALL"
    await js.add_stream(name=small, subjects=[f"{small}.>"], max_msg_size=400)
    events = [
        event(1, type=f"{small}.a"),
        event(2, type=f"{small}.a", data=b"x" * 1000),
        event(3, type="nobody.listens"),
        event(4, type=f"{small}.a"),
        event(5, type="t", data=b"x" * (2 << 20)),
        event(6, type="x" * 2000),
    ]
    async with sink(nats_server, subject="{type}") as out:
        failures = await out.send(events)
    assert [(f.position, f.outcome, f.reason, f.status) for f in failures] == [
        (1, Outcome.REJECTED, Reason.SINK_REFUSED, 10054),  # JSStreamMessageExceedsMaximumErr
        (2, Outcome.RELEASED, Reason.SINK_DOWN, 503),
        (4, Outcome.REJECTED, Reason.SINK_REFUSED, None),
        (5, Outcome.REJECTED, Reason.SINK_REFUSED, None),
    ]
    assert (await js.stream_info(small)).state.messages == 2


async def test_a_full_stream_releases(nats_server, client, stream):
    full = f"{stream}FULL"
    await client.jetstream().add_stream(
        name=full, subjects=[f"{full}.>"], max_msgs=1, discard="new"
    )
    async with sink(nats_server, subject=f"{full}.a") as out:
        (failure,) = await out.send([event(1), event(2)])
    assert (failure.position, failure.outcome) == (1, Outcome.RELEASED)


async def test_the_expected_stream_is_insisted_on(nats_server, stream):
    async with sink(nats_server, subject=f"{stream}.a", stream="OTHER") as out:
        (failure,) = await out.send([event(1)])
    assert (failure.outcome, failure.status) == (Outcome.REJECTED, 10060)


async def test_a_subscriber_that_is_no_stream_does_not_count(nats_server, client):
    async def answer(message):
        await message.respond(b"+OK")

    await client.subscribe("plain.a", cb=answer)
    await client.flush()
    async with sink(nats_server, subject="plain.a") as out:
        (failure,) = await out.send([event(1)])
    assert failure.outcome is Outcome.RELEASED


async def test_no_event_chooses_its_subject_freely(nats_server, client, stream):
    async with sink(nats_server, subject="{type}", timeout=0.5) as out:
        (failure,) = await out.send([event(1, type=f"$JS.API.STREAM.DELETE.{stream}")])
    assert failure.outcome is Outcome.RELEASED
    assert (await client.jetstream().stream_info(stream)).state.messages == 0
    async with sink(nats_server, subject=f"{stream}.{{type}}") as out:
        assert await out.send([event(2, type="a *.>..b\u00e9")]) == []
    assert (await client.jetstream().get_msg(stream, 1)).subject == f"{stream}.a__._._.b_"


async def test_no_answer_in_time_is_released(nats_server, client):
    subscription = await client.subscribe("silent.a")
    await client.flush()
    async with sink(nats_server, subject="silent.a") as out:
        (failure,) = await out.send([event(1)], timeout=0.1)
        assert (failure.outcome, failure.reason) == (Outcome.RELEASED, Reason.TIMEOUT)
        late = await subscription.next_msg()
        await late.respond(b'{"stream":"S","seq":1}')  # nobody waits for it any more
        await client.flush()


# The whole process.


async def test_a_killed_gateway_loses_nothing_and_stores_nothing_twice(start):
    server = start(NatsServer)
    client = await nats.connect(server.url)
    js = client.jetstream()
    await js.add_stream(name="IN", subjects=["in.>"])
    room = {"name": "OUT", "subjects": ["out.>"], "discard": "new"}
    await js.add_stream(**room, max_msgs=1000)
    for number in range(3000):
        await client.publish("in.a", b"x", headers={**HEADERS, "ce-id": str(number)})
    await client.flush()
    config = {
        "sources": {
            "bus": {
                "protocol": "nats", "url": server.url, "stream": "IN", "durable": "gw",
                "ack_wait": 1, "max_ack_pending": 50, "batch": 20,
            }
        },
        "sinks": {"out": {"protocol": "nats", "url": server.url, "subject": "out.{type}"}},
        "routes": [{"from": ["bus"], "to": ["out"]}],
    }  # fmt: skip
    first = start(Gateway, config)
    async with asyncio.timeout(20):
        while (await js.stream_info("OUT")).state.messages < 1000:
            await asyncio.sleep(0.01)
    await asyncio.to_thread(first.kill)  # with some stored, some under way and some not yet taken
    await js.update_stream(**room, max_msgs=-1)
    first.start()  # with its own state folder: what OUT had no room for is in the spool
    async with asyncio.timeout(30):
        while (await js.stream_info("OUT")).state.messages < 3000:
            await asyncio.sleep(0.05)
    await until_settled(client, "IN")
    state = (await js.stream_info("OUT")).state
    stored = [json.loads((await js.get_msg("OUT", seq + 1)).data) for seq in range(3000)]
    await client.close()
    assert state.messages == 3000
    assert {int(one["id"]) for one in stored} == set(range(3000))
