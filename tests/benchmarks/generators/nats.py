"""A publisher to a real nats-server: to core subjects, or into a stream.

Core NATS acknowledges nothing, so the publisher keeps no more than `ahead` events ahead of what the
sink has. A stream is filled as fast as the server stores: the last one of a thousand asks for the
stream's acknowledgement, and the next thousand waits for that.
"""

import asyncio
from typing import Any

import nats
import uvloop

from tests.benchmarks.contender import STREAM, SUBJECT
from tests.benchmarks.frames import BLOCK, Frames, nats_publication
from tests.benchmarks.generators.load import Load
from tests.benchmarks.worker import options
from tests.e2e.servers import HOST

_INBOX = "_INBOX.bench"


class Publisher(asyncio.Protocol):
    """A connection with no session to speak of.

    Args:
        load: what to send.
        stored: whether a stream acknowledges.
    """

    def __init__(self, load: Load, *, stored: bool) -> None:
        self._load = load
        self._stored = stored
        self._frames = Frames(nats_publication)
        self._asking = Frames(lambda number: nats_publication(number, _INBOX))
        self._transport: Any = None
        self._paused = False
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
        self._transport.write(f"SUB {_INBOX} 1\r\nPING\r\n".encode())

    def data_received(self, data: bytes) -> None:
        if b"-ERR" in data or b'"error"' in data:
            raise RuntimeError(data.decode())
        if b"PONG" in data and not self.greeted.done():
            self.greeted.set_result(None)
        if b"PING" in data:
            self._transport.write(b"PONG\r\n")
        if b"MSG" in data:
            self._paused = False
            self.pump()

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
            last = load.next + count - 1
            frames = self._frames.take(load.next, count)
            if self._stored and (last + 1) % BLOCK == 0:
                frames = frames[: -self._frames.length] + self._asking.take(last, 1)
                self._paused = True
            load.sent(count)
            self._transport.write(frames)


async def make_stream(port: int) -> None:
    """Make the stream, in memory."""
    connection = await nats.connect(f"nats://{HOST}:{port}")
    await connection.jetstream().add_stream(name=STREAM, subjects=[SUBJECT], storage="memory")
    await connection.close()


async def _publish(*, port: int, stream: bool = False, **load: Any) -> None:
    run = Load(**load)
    publisher = Publisher(run, stored=stream)
    await asyncio.get_running_loop().create_connection(lambda: publisher, HOST, port)
    await publisher.greeted
    await run.run(publisher.pump)


if __name__ == "__main__":
    uvloop.run(_publish(**options()))
