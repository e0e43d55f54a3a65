"""Who gets room on a listener, and what those are told who do not."""

import asyncio

import pytest

from gateway.sources.http import listener
from tests.gateway.raw_http import open_clients, running_sources, structured


@pytest.fixture
async def start():
    async with running_sources() as start:
        yield start


@pytest.fixture
async def connect():
    async with open_clients() as connect:
        yield connect


@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_address"])
async def test_a_flood_that_is_refused_takes_nobody_s_room(start, connect, limit):
    source, _ = await start(**{limit: 1})
    first = await connect(source)
    assert (await first.ask(structured())).status == 202
    (admitted,) = source._listener._connections
    flood = [await connect(source) for _ in range(20)]
    for client in flood:
        answer = (await client.read())[0]
        assert (answer.status, answer.fields["connection"]) == (503, "close")
        assert "retry-after" in answer.fields
    first.writer.close()
    await first.writer.wait_closed()
    while admitted in source._listener._connections:
        await asyncio.sleep(0)
    # The flood still holds its connections open.
    assert (await (await connect(source)).ask(structured())).status == 202


async def test_only_so_many_are_told_at_one_time(start, connect, monkeypatch):
    monkeypatch.setattr(listener, "_MAX_REFUSED", 2)
    source, _ = await start(max_connections=1)
    first = await connect(source)
    assert (await first.ask(structured())).status == 202
    told = [await connect(source) for _ in range(2)]
    for client in told:
        assert (await client.read())[0].status == 503
    assert await (await connect(source)).closed() == b""
    assert (await first.ask(structured())).status == 202
