"""A publisher to a real nats-server: to core subjects, or into a stream before the run begins.

Core NATS acknowledges nothing, so the publisher keeps no more than `ahead` events ahead of what the
sink has. A stream is filled as fast as the server takes it, and the run is then the consumer's.
"""

import asyncio
from typing import Any

import nats
import uvloop

from tests.benchmarks.contender import DURABLE, STREAM, SUBJECT
from tests.benchmarks.frames import BLOCK, Frames, nats_publication
from tests.benchmarks.generators.load import Load
from tests.benchmarks.worker import options
from tests.e2e.servers import HOST


class Publisher(asyncio.Protocol):
    """A connection with no session to speak of."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._frames = Frames(nats_publication)
        self._transport: Any = None
        self._paused = False
        self._answers = 0
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(b'CONNECT {"verbose":false,"headers":true}\r\nPING\r\n')

    def data_received(self, data: bytes) -> None:
        if b"-ERR" in data:
            raise RuntimeError(data.decode())
        if b"PONG" in data and not self.greeted.done():
            self.greeted.set_result(None)
        elif b"PING" in data:
            self._transport.write(b"PONG\r\n")

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.pump()

    def pump(self) -> None:
        """Send what may be sent."""
        load = self._load
        while not self._paused:
            count = min(load.room(), BLOCK - load.next % BLOCK)
            if count <= 0:
                return
            self._transport.write(self._frames.take(load.next, count))
            load.sent(count)


async def _publish(*, port: int, stream: bool = False, **load: Any) -> None:
    run = Load(**load)
    publisher = Publisher(run)
    await asyncio.get_running_loop().create_connection(lambda: publisher, HOST, port)
    await publisher.greeted
    if stream:
        await _fill(publisher, port, run.count)
    await run.run(publisher.pump)


async def _fill(publisher: Publisher, port: int, count: int) -> None:
    connection = await nats.connect(f"nats://{HOST}:{port}")
    streams = connection.jetstream()
    await streams.add_stream(name=STREAM, subjects=[SUBJECT], storage="memory")
    publisher.pump()
    async with asyncio.timeout(60):
        while (await streams.stream_info(STREAM)).state.messages < count:
            await asyncio.sleep(0.02)
    await connection.close()


async def acknowledged(port: int) -> int:
    """Return how many messages of the stream the consumer has acknowledged."""
    connection = await nats.connect(f"nats://{HOST}:{port}")
    info = await connection.jetstream().consumer_info(STREAM, DURABLE)
    await connection.close()
    assert info.ack_floor is not None
    return info.ack_floor.stream_seq


if __name__ == "__main__":
    uvloop.run(_publish(**options()))
