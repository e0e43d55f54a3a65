"""What a connection owes its sender: each request that was read is answered, or it was not read.

Raw sockets, as a client library would hide which bytes were read and how a connection ended.
"""

import asyncio
import random
import re

import pytest

from gateway.config.records import LimitsConfig
from gateway.delivery import ACCEPTED, BUSY, Outcome, Reason, Settlement, settle_all
from gateway.sources.http import connection
from tests.gateway.raw_http import post, structured
from tests.helpers import RecordingIntake

CE_JSON = b"application/cloudevents+json"


def pending():
    """An intake that leaves every delivery to the test."""
    return RecordingIntake(lambda _: None)


async def draining(source):
    """Begin to drain; returns the task."""
    task = asyncio.ensure_future(source.drain())
    await asyncio.sleep(0)
    return task


class TestDrain:
    async def test_a_request_behind_one_that_is_under_way_is_refused_in_its_turn(
        self, start, connect
    ):
        source, intake = await start(pending())
        client = await connect(source)
        client.write(structured())
        await intake.wait_for(lambda i: i.deliveries)
        drain = await draining(source)
        client.write(structured())
        await intake.wait_for(lambda i: i.rejections)
        intake.deliveries[0].settle(ACCEPTED)
        first, second = await client.read(2)
        assert (first.status, second.status) == (202, 503)
        assert second.fields["connection"] == "close"
        assert second.fields["retry-after"] == "5"
        assert "connection" not in first.fields
        assert await client.closed() == b""
        client.writer.close()
        await drain
        assert len(intake.deliveries) == 1

    @pytest.mark.parametrize("size", [1, 20, -30, -1], ids=["P", "line", "body", "last byte"])
    async def test_what_has_begun_to_arrive_is_refused_and_not_dropped(self, start, connect, size):
        source, intake = await start()
        client = await connect(source)
        assert (await client.ask(structured())).status == 202
        whole = structured()
        client.write(whole[:size])
        (sender,) = source._listener._connections
        while sender._phase is connection.Phase.IDLE:  # it has not read it yet
            await asyncio.sleep(0)
        drain = await draining(source)
        answer = (await client.read())[0]
        assert (answer.status, answer.fields["connection"]) == (503, "close")
        client.write(whole[size:])  # it reads on, so that no reset overtakes the answer
        assert await client.closed() == b""
        client.writer.close()
        await drain
        assert len(intake.deliveries) == 1

    async def test_a_request_that_waits_for_100_continue_is_told_503_before_its_body(
        self, start, connect
    ):
        source, intake = await start(pending())
        client, other = await connect(source), await connect(source)
        other.write(structured())
        await intake.wait_for(lambda i: i.deliveries)
        drain = await draining(source)
        head, _, _ = structured(b"Expect: 100-continue").partition(b"\r\n\r\n")
        answer = await client.ask(head + b"\r\n\r\n")
        assert (answer.status, answer.fields["connection"]) == (503, "close")
        intake.deliveries[0].settle(ACCEPTED)
        assert (await other.read())[0].status == 202
        for each in (client, other):
            assert await each.closed() == b""
            each.writer.close()
        await drain

    async def test_the_end_waits_until_the_last_answer_was_read_but_not_for_ever(
        self, start, connect, monkeypatch
    ):
        monkeypatch.setattr(connection, "_LINGER_SECONDS", 0.1)
        source, intake = await start(pending(), keep_alive_timeout=0.4)
        silent, gone = await connect(source), await connect(source)
        for client in (silent, gone):
            client.write(structured())
        await intake.wait_for(lambda i: len(i.deliveries) == 2)
        drain = await draining(source)
        for delivery in intake.deliveries:
            delivery.settle(ACCEPTED)
        assert (await gone.read())[0].fields["connection"] == "close"
        gone.writer.close()
        # It closes nothing itself; the source ends it.
        assert (await silent.read())[0].status == 202
        await drain
        assert source._listener._connections == set()

    async def test_a_connection_that_was_closed_has_read_nothing_of_a_later_request(
        self, start, connect
    ):
        source, intake = await start(keep_alive_timeout=0.05)
        client = await connect(source)
        assert (await client.ask(structured())).status == 202
        assert await client.closed() == b""
        client.write(structured())
        assert await client.closed() == b""
        assert len(intake.deliveries) == 1


class TestBusy:
    async def test_100_continue_promises_no_room_and_the_connection_goes_on(self, start, connect):
        source, intake = await start()
        intake.room.clear()
        client = await connect(source)
        head, _, body = structured(b"Expect: 100-continue").partition(b"\r\n\r\n")
        assert (await client.ask(head + b"\r\n\r\n")).status == 100
        refused = await client.ask(body)
        assert (refused.status, refused.fields["retry-after"]) == (503, "1")
        assert "connection" not in refused.fields
        intake.room.set()
        assert (await client.ask(structured())).status == 202

    async def test_of_a_pipeline_each_request_that_found_no_room_is_told_so(self, start, connect):
        source, intake = await start()
        intake.room.clear()
        client = await connect(source)
        client.write(structured() * 3)
        assert [answer.status for answer in await client.read(3)] == [503] * 3
        assert intake.deliveries == []


async def test_who_reads_no_answers_is_dropped(start, connect, monkeypatch):
    """Its answers fill the buffers of both sides; nobody will ever take what is left."""
    monkeypatch.setattr(connection, "_LINGER_SECONDS", 0.1)
    refused = post(b"", target=b"/nowhere") * 1000
    for seconds in (0.2, 3, 30):  # one that ends before the buffers are full was too short
        source, _ = await start(keep_alive_timeout=seconds)
        client = await connect(source)
        client.reader._transport.pause_reading()
        (sender,) = source._listener._connections
        while sender._writable and source._listener._connections:
            client.write(refused)
            await asyncio.sleep(0.001)
        if not sender._writable:
            break
    assert not sender._writable
    async with asyncio.timeout(seconds + 10):
        while source._listener._connections:
            await asyncio.sleep(0.01)


LONG = b"x" * 5000
EURO = "€".encode() * 2000


def _json(text):
    return post(text, content_type=CE_JSON)


REFUSED = {
    "path": post(target=b"/" + LONG),
    "method": post(method=b"PUT"),
    "host": structured().replace(b"Host: x", b"Host: " + LONG),
    "version": structured().replace(b"HTTP/1.1", b"HTTP/1.9"),
    "malformed": b"BREW / HTTP/1.1\r\n" + LONG + b"\r\n\r\n",
    "head": structured(b"x: " + b"y" * 70_000),
    "length": post(b"").replace(b"Content-Length: 0", b"Content-Length: " + b"9" * 15),
    "body": post(b"x" * 3000, content_type=CE_JSON),
    "coding": structured(b"Content-Encoding: " + LONG),
    "transfer": structured(b"Transfer-Encoding: " + LONG),
    "expectation": structured(b"Expect: " + LONG),
    "token": structured(b"Authorization: Bearer " + LONG, target=b"/?access_token=" + LONG),
    "content type": post(b"x", content_type=b"application/" + LONG),
    "format": post(b"x", content_type=b"application/cloudevents+" + LONG),
    "charset": post(b"x", content_type=CE_JSON + b"; charset=" + LONG),
    "json": _json(b'{"' + LONG[:1900]),
    "name": _json(
        b'{"specversion":"1.0","id":"1","source":"/","type":"t","' + b"X" * 1800 + b'":1}'
    ),
    "value": _json(b'{"specversion":"1.0","id":"1","source":"' + EURO[:1500] + b'","type":"t"}'),
    "version of the event": _json(b'{"specversion":"' + LONG[:1900] + b'"}'),
    "attribute twice": _json(b'{"a":1,"a":2}'),
    "name of a header": post(b"", b"ce-specversion: 1.0", b"ce-" + LONG + b": 1"),
    "value of a header": post(b"", b"ce-specversion: 1.0", b"ce-id: 1", b"ce-time: " + EURO),
    "batch": post(
        b"[" + b",".join([b"{}"] * 9) + b"]", content_type=b"application/cloudevents-batch+json"
    ),
}


@pytest.mark.parametrize("request_bytes", REFUSED.values(), ids=REFUSED)
async def test_every_refusal_fits_into_768_bytes(start, connect, request_bytes):
    """Knative's dispatcher puts the base64 of it into 1024 bytes, and panics at 769."""
    limits = LimitsConfig(max_event_bytes=2000, max_batch_events=8)
    source, intake = await start(limits=limits, token="right")
    client = await connect(source)
    if b"Authorization" not in request_bytes:
        request_bytes = request_bytes.replace(b"\r\n", b"\r\nAuthorization: Bearer right\r\n", 1)
    client.write(request_bytes)
    answer = (await client.read())[0]
    assert 400 <= answer.status < 600
    assert 0 < len(answer.body) <= 768
    assert int(answer.fields["content-length"]) == len(answer.body)
    answer.body.decode()
    assert b"yyy" not in answer.body
    assert intake.events == []


class TestSettledTogether:
    async def test_each_connection_has_its_own_answer(self, start, connect):
        source, intake = await start(pending())
        stays, closes = await connect(source), await connect(source)
        stays.write(structured() * 2)
        closes.write(structured(b"Connection: close"))
        await intake.wait_for(lambda i: len(i.deliveries) == 3)
        settle_all(intake.deliveries, ACCEPTED)
        assert [answer.status for answer in await stays.read(2)] == [202, 202]
        (last,) = await closes.read()
        assert (last.status, last.fields["connection"]) == (202, "close")
        assert await closes.closed() == b""

    async def test_a_refusal_is_told_to_all_of_them(self, start, connect):
        source, intake = await start(pending())
        clients = [await connect(source) for _ in range(3)]
        for client in clients:
            client.write(structured())
        await intake.wait_for(lambda i: len(i.deliveries) == 3)
        settle_all(intake.deliveries, BUSY)
        for client in clients:
            (answer,) = await client.read()
            assert (answer.status, answer.fields["retry-after"]) == (503, "1")


@pytest.mark.parametrize("body", [b"x\r\n", b"999999\r\n" + b"x" * 100_000])
async def test_an_awaited_continue_is_not_sent_after_the_refusal_of_its_body(start, connect, body):
    """It would come after the end of what is sent."""
    failed = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
    source, intake = await start(pending(), limits=LimitsConfig(max_event_bytes=1000))
    client, other = await connect(source), await connect(source)
    head = structured(b"Expect: 100-continue", b"Transfer-Encoding: chunked").partition(
        b"\r\n\r\n"
    )[0]
    head = re.sub(rb"\r\nContent-Length: \d+", b"", head)
    client.write(structured() + head + b"\r\n\r\n")
    await intake.wait_for(lambda i: i.deliveries)
    other.write(structured())
    await intake.wait_for(lambda i: len(i.deliveries) == 2)
    client.write(body)
    await intake.wait_for(lambda i: i.rejections)
    settle_all(intake.deliveries, ACCEPTED)
    first, second = await client.read(2)
    assert (first.status, second.status) == (202, 400 if body == b"x\r\n" else 413)
    assert (await other.read())[0].status == 202
    assert await client.closed() == b""
    assert failed == []


@pytest.mark.parametrize("seed", range(3))
async def test_answers_of_a_pipeline_keep_their_order_however_they_are_settled(
    start, connect, seed
):
    rng = random.Random(seed)
    source, intake = await start(pending())
    clients = [await connect(source) for _ in range(6)]
    count = 8
    for number, client in enumerate(clients):
        for index in range(count):
            client.write(structured().replace(b'"s1"', b'"%d%d"' % (number, index)))
    await intake.wait_for(lambda i: len(i.deliveries) == len(clients) * count)
    gone = set(rng.sample(range(len(clients)), 2))
    rest = list(intake.deliveries)
    rng.shuffle(rest)
    refused = set()
    while rest:
        size = rng.randint(1, 12)
        some, rest = rest[:size], rest[size:]
        if rng.random() < 0.3:
            for delivery in some:
                identity = delivery.events[0].id
                refused.add(identity)
                delivery.settle(Settlement(Outcome.REJECTED, Reason.SINK_REFUSED, detail=identity))
        else:
            settle_all(some, ACCEPTED)
        if rng.random() < 0.5:
            await asyncio.sleep(0)
        if len(rest) < len(clients) * count / 2:
            for number in gone:  # while some of their answers are still to come
                clients[number].writer.transport.abort()
    for number, client in enumerate(clients):
        if number not in gone:
            told = [(answer.status, answer.body.strip()) for answer in await client.read(count)]
            ids = [f"{number}{index}" for index in range(count)]
            assert told == [(422, i.encode()) if i in refused else (202, b"") for i in ids]
            intake.answer = lambda _: ACCEPTED
            assert (await client.ask(structured())).status == 202  # it goes on
