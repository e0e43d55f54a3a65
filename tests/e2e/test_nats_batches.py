"""The NATS sink's atomic batches, and what it does when a real nats-server fails."""

import asyncio
import contextlib
import itertools
import json
import logging
import signal
from pathlib import Path

import nats
import pytest

from bindings.event import Event
from gateway.delivery import Outcome, Reason
from gateway.sinks.nats import NatsSink, NatsSinkConfig
from tests.e2e.servers import NatsServer

_numbers = itertools.count(1)


@pytest.fixture
async def client(nats_server):
    connection = await nats.connect(nats_server.url)
    yield connection
    await connection.close()


async def make_stream(client, **config):
    """Make a stream of its own that allows batches (nats-py knows no `allow_atomic`)."""
    name = f"B{next(_numbers)}"
    table = {
        "name": name, "subjects": [f"{name}.>"], "retention": "limits", "storage": "file",
        "num_replicas": 1, "max_consumers": -1, "max_msgs": -1, "max_bytes": 1 << 24,
        "max_age": 0, "discard": "new", "allow_atomic": True,
    }  # fmt: skip
    request = json.dumps(table | config).encode()
    answer = await client.request(f"$JS.API.STREAM.CREATE.{name}", request, timeout=10)
    assert "error" not in json.loads(answer.data), answer.data
    return name


async def ids_in(client, stream):
    """Return the ids in a stream, in order."""
    js = client.jetstream()
    state = (await js.stream_info(stream)).state
    found = [
        json.loads((await js.get_msg(stream, number)).data)["id"]
        for number in range(state.first_seq, state.last_seq + 1)
        if state.messages
    ]
    assert len(found) == state.messages
    return found


@contextlib.asynccontextmanager
async def sink(server, prefix, **options):
    options = {"url": server.url, "subject": f"{prefix}.{{type}}", **options}
    adapter = NatsSink(NatsSinkConfig(name="out", protocol="nats", **options))
    await adapter.open()
    try:
        yield adapter
    finally:
        await adapter.close()


def event(number, **attributes):
    return Event(**{"id": str(number), "source": "/s", "type": "t"} | attributes)


def ids(numbers):
    return [str(number) for number in numbers]


async def test_a_list_is_one_batch_in_its_order(nats_server, client):
    stream = await make_stream(client)
    async with sink(nats_server, stream, stream=stream) as out:
        assert await out.send([event(number) for number in range(512)]) == []
    assert await ids_in(client, stream) == ids(range(512))
    js = client.jetstream()
    first, last = await js.get_msg(stream, 1), await js.get_msg(stream, 512)
    assert first.headers["Nats-Batch-Id"] == last.headers["Nats-Batch-Id"]
    assert last.headers["Nats-Batch-Sequence"] == "512"


async def test_a_list_longer_than_a_batch_keeps_its_order(nats_server, client):
    stream = await make_stream(client)
    async with sink(nats_server, stream) as out:
        assert await out.send([event(number) for number in range(2001)]) == []
    assert await ids_in(client, stream) == ids(range(2001))


@pytest.mark.parametrize(("batch", "stored"), [("auto", []), ("off", ["0", "1", "2"])])
async def test_a_batch_that_does_not_fit_stores_nothing(nats_server, client, batch, stored):
    stream = await make_stream(client, max_msgs=3)
    async with sink(nats_server, stream, batch=batch) as out:
        failures = await out.send([event(number) for number in range(5)])
        assert {f.outcome for f in failures} == {Outcome.RELEASED}
        assert [str(f.position) for f in failures] == ids(range(len(stored), 5))
    assert await ids_in(client, stream) == stored


async def test_a_full_stream_that_gets_room_again_has_all_in_order(nats_server, client):
    # The large event does not fit and the small one behind it would: order is lost without batches.
    stream = await make_stream(client, max_bytes=3000)
    events = [event(0), event(1, data=b"x" * 3000), event(2)]
    async with sink(nats_server, stream) as out:
        assert [f.position for f in await out.send(events)] == [0, 1, 2]
        assert await ids_in(client, stream) == []
        js = client.jetstream()
        config = (await client.request(f"$JS.API.STREAM.INFO.{stream}", timeout=10)).data
        wider = json.loads(config)["config"] | {"max_bytes": 1 << 20}
        request = json.dumps(wider).encode()
        await client.request(f"$JS.API.STREAM.UPDATE.{stream}", request, timeout=10)
        assert await out.send(events) == []
        assert (await js.stream_info(stream)).state.messages == 3
    assert await ids_in(client, stream) == ids(range(3))


async def test_what_is_stored_already_is_not_stored_again(nats_server, client):
    stream = await make_stream(client)
    async with sink(nats_server, stream) as out:
        assert await out.send([event(1), event(2)]) == []
        assert await out.send([event(1), event(2)]) == []
        assert await out.send([event(2), event(3), event(3)]) == []
    assert await ids_in(client, stream) == ids([1, 2, 3])


async def test_one_bad_event_of_a_batch_is_rejected_and_its_neighbours_are_not(nats_server, client):
    stream = await make_stream(client, max_msg_size=400)
    events = [event(0), event(1, data=b"x" * 1000), event(2), event(3, type="t" * 2000)]
    async with sink(nats_server, stream) as out:
        failures = await out.send(events)
    assert [(f.position, f.outcome, f.status) for f in failures] == [
        (1, Outcome.REJECTED, 10054),
        (3, Outcome.REJECTED, None),
    ]
    assert await ids_in(client, stream) == ids([0, 2])


async def test_a_batch_of_several_streams_goes_out_one_by_one(nats_server, client):
    first, second = await make_stream(client), await make_stream(client)
    events = [event(n, type=f"{(first, second)[n % 2]}.t") for n in range(4)]
    for batch in ("auto", "atomic"):
        async with sink(nats_server, "", subject="{type}", batch=batch) as out:
            assert await out.send(events) == []
    assert await ids_in(client, first) == ids([0, 2])
    assert await ids_in(client, second) == ids([1, 3])


async def test_a_stream_that_no_longer_allows_batches_is_served_one_by_one(nats_server, client):
    stream = await make_stream(client, allow_atomic=False)
    async with sink(nats_server, stream) as out:
        out._batches = True  # what it had seen before somebody changed the stream
        assert await out.send([event(1), event(2)]) == []
        assert await out.send([event(3), event(4)]) == []
    assert await ids_in(client, stream) == ids([1, 2, 3, 4])
    async with sink(nats_server, stream, batch="atomic") as out:
        failures = await out.send([event(5), event(6)])
        assert {(f.outcome, f.reason) for f in failures} == {(Outcome.RELEASED, Reason.SINK_DOWN)}
    assert await ids_in(client, stream) == ids([1, 2, 3, 4])


async def test_a_stream_that_comes_after_the_gateway_gets_batches_too(start, monkeypatch):
    monkeypatch.setattr("gateway.sinks.nats.sink._LOOK_SECONDS", -1)
    server = start(NatsServer)
    client = await nats.connect(server.url)
    async with sink(server, "later") as out:
        (failure,) = await out.send([event(0)])
        assert (failure.outcome, failure.status) == (Outcome.RELEASED, 503)
        stream = await make_stream(client, subjects=["later.>"])
        assert await out.send([event(0)]) == []
        async with asyncio.timeout(10):
            while not out._batches:
                await asyncio.sleep(0.01)
        assert await out.send([event(1), event(2)]) == []
    message = await client.jetstream().get_msg(stream, 3)
    await client.close()
    assert message.headers["Nats-Batch-Sequence"] == "2"


@pytest.mark.parametrize("batch", ["auto", "off"])
async def test_a_server_that_stalls_is_left_waiting_and_stores_nothing_twice(start, batch):
    server = start(NatsServer)
    client = await nats.connect(server.url)
    stream = await make_stream(client)
    events = [event(number) for number in range(50)]
    async with sink(server, stream, batch=batch) as out:
        assert await out.send([event("first")]) == []
        server.signal(signal.SIGSTOP)
        await _stopped(server.pid)
        try:
            failures = await out.send(events, timeout=0.3)
        finally:
            server.signal(signal.SIGCONT)
        assert [(f.position, f.reason) for f in failures] == [
            (number, Reason.TIMEOUT) for number in range(50)
        ]
        assert await out.send(events) == []  # the first ones have been stored meanwhile
    assert await ids_in(client, stream) == ["first", *ids(range(50))]
    await client.close()


@pytest.mark.parametrize("batch", ["auto", "off"])
async def test_a_killed_server_loses_nothing_that_it_acknowledged(start, batch):
    server = start(NatsServer)
    client = await nats.connect(server.url)
    stream = await make_stream(client, duplicate_window=int(120e9))
    await client.close()
    rounds = 10
    acknowledged = []
    async with sink(server, stream, batch=batch, timeout=1) as out:
        killer = asyncio.ensure_future(_kill_often(server, 3))
        for start_of in range(0, rounds * 400, 400):
            waiting = [event(number) for number in range(start_of, start_of + 400)]
            async with asyncio.timeout(30):
                while failures := await out.send(waiting):
                    failed = {failure.position for failure in failures}
                    acknowledged += [e.id for n, e in enumerate(waiting) if n not in failed]
                    waiting = [e for n, e in enumerate(waiting) if n in failed]
                    await asyncio.sleep(0.02)
            acknowledged += [e.id for e in waiting]
        await killer
    client = await nats.connect(server.url)
    stored = await ids_in(client, stream)
    await client.close()
    assert sorted(acknowledged, key=int) == ids(range(rounds * 400))
    assert stored == ids(range(rounds * 400))  # none lost, none twice, in order


async def _stopped(pid):
    """Wait until every thread of a process has stopped."""
    async with asyncio.timeout(10):
        while any(
            file.read_text().rpartition(")")[2].split()[0] != "T"
            for file in Path(f"/proc/{pid}/task").glob("*/stat")
        ):
            await asyncio.sleep(0.005)


async def _kill_often(server, times):
    for _ in range(times):
        await asyncio.sleep(0.05)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)


async def test_a_stream_that_may_lose_events_is_warned_about(nats_server, client, caplog):
    stream = await make_stream(client, discard="old")
    async with sink(nats_server, stream):
        pass
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert f"stream {stream} drops its oldest events" in warning
