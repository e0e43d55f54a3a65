"""Keep-alive connections, each with one POST under way."""

import asyncio
from collections import deque
from typing import Any

import httptools
import uvloop

from tests.benchmarks.frames import Frames, http_request, structured_request
from tests.benchmarks.generators.load import Load
from tests.benchmarks.worker import options
from tests.e2e.servers import HOST


class Client:
    """The load, and the connections that have nothing to do."""

    def __init__(self, load: Load, *, structured: bool) -> None:
        self.load = load
        self.frames = Frames(structured_request if structured else http_request)
        self.idle: deque[Connection] = deque()
        self.again: deque[int] = deque()

    def pump(self) -> None:
        """Send what may be sent."""
        load, idle = self.load, self.idle
        while idle and load.room():
            idle.popleft().send(load.next)
            load.sent(1)


class Connection(asyncio.Protocol):
    """A connection; an answer like the one before is not parsed."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._load = client.load
        self._transport: Any = None
        self._number = -1
        self._whole = b""
        self._answer = b"-"
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._client.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._client.idle:
            self._client.idle.remove(self)
        if self._number >= 0:
            self._load.refused += 1

    def send(self, number: int) -> None:
        """Send a request."""
        self._number = number
        self._transport.write(self._client.frames.take(number, 1))

    def data_received(self, data: bytes) -> None:
        if data == self._answer and not self._whole:
            self._answered()
            return
        self._whole += data
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        status, keeps = self._parser.get_status_code(), self._parser.should_keep_alive()
        whole, self._whole = self._whole, b""
        self._parser = httptools.HttpResponseParser(self)
        if 200 <= status < 300:
            if keeps:
                self._answer = whole
            self._answered()
        else:
            self._load.refused += 1
            self._number = -1
            self._client.idle.append(self)
            self._client.pump()

    def _answered(self) -> None:
        load = self._load
        load.answered(self._number)
        if load.room() and not self._client.idle:
            self.send(load.next)
            load.sent(1)
        else:
            self._number = -1
            self._client.idle.append(self)
            self._client.pump()


async def _send(*, port: int, connections: int = 64, structured: bool = False, **load: Any) -> None:
    client = Client(Load(**load), structured=structured)
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: Connection(client), HOST, port)
    await client.load.run(client.pump)


if __name__ == "__main__":
    uvloop.run(_send(**options()))
