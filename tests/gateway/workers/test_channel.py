"""The channel between two ends of a socket pair: whole messages, whatever the reads are."""

import asyncio
import socket

import msgspec
import pytest

from gateway.workers.channel import Channel
from gateway.workers.messages import FromWorker, Logged, Stop, Stored, ToWorker


class End:
    def __init__(self, kind):
        self.received = asyncio.Queue()
        self.lost = asyncio.Event()
        self.channel = Channel(kind, self.received.put_nowait, self.lost.set)

    async def get(self):
        async with asyncio.timeout(10):
            return await self.received.get()


@pytest.fixture
async def ends():
    ours, its = socket.socketpair()
    parent, worker = End(FromWorker), End(ToWorker)
    await parent.channel.open(ours)
    await worker.channel.open(its)
    yield parent, worker
    await parent.channel.close()
    await worker.channel.close()


async def test_messages_come_whole_and_in_order(ends):
    parent, worker = ends
    for number in range(100):
        assert parent.channel.send(Stored(number, "x" * number))
    assert parent.channel.send(Stop())
    for number in range(100):
        found = await worker.get()
        assert (found.call, found.error) == (number, "x" * number)
    assert isinstance(await worker.get(), Stop)


async def test_a_message_may_come_in_any_pieces():
    ours, its = socket.socketpair()
    end = End(ToWorker)
    await end.channel.open(its)
    try:
        ours.settimeout(0)
        for message in (["Stored", 1, "abc"], ["Stored", 2, ""]):
            data = msgspec.msgpack.encode(message)
            for byte in len(data).to_bytes(4, "big") + data:
                await asyncio.get_running_loop().sock_sendall(ours, bytes([byte]))
        assert [(await end.get()).call, (await end.get()).call] == [1, 2]
    finally:
        ours.close()
        await end.channel.close()


async def test_what_is_large_waits_until_the_other_end_reads(ends):
    parent, worker = ends
    events = [bytes(100_000)] * 40
    worker.channel.send(Logged("out", events))
    assert worker.channel.is_congested
    assert (await parent.get()).events == events
    async with asyncio.timeout(10):
        await worker.channel.flushed()
    assert not worker.channel.is_congested


async def test_both_hear_of_the_end(ends):
    parent, worker = ends
    worker.channel.send(Logged("out", [b"last"]))
    await worker.channel.close()
    assert (await parent.get()).events == [b"last"]
    async with asyncio.timeout(10):
        await parent.lost.wait()
        await parent.channel.ended()
    assert worker.lost.is_set()
    assert not parent.channel.send(Stop())
    assert not parent.channel.is_open
