"""An HTTP sink in a process of its own that counts what arrives of `numbered` events.

It takes structured mode and batches, answers 202 to everything, looks into each 64th event, and
prints its figures at SIGTERM.
"""

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypedDict

import httptools
import uvloop

from tests.benchmarks import numbered
from tests.e2e.servers import HOST, free_port

_ACCEPTED: Final = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
_SAMPLE: Final = 64
_MOST: Final = 255


class Arrivals(TypedDict):
    """What the process prints.

    Attributes:
        arrived: events, with repetitions.
        duplicates: the repetitions.
        reordered: first arrivals after a later event of their key.
        corrupted: those of the sample that are not as they were sent.
        sampled: how many were looked into.
    """

    arrived: int
    duplicates: int
    reordered: int
    corrupted: int
    sampled: int


class CountingSink:
    """The process; `arrivals` and the file of counts are there after `stop`."""

    def __init__(self, counts: Path) -> None:
        self.port = free_port()
        self.arrivals: Arrivals | None = None
        self._counts = counts
        command = [sys.executable, "-m", __name__, str(self.port), str(counts)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)

    def wait(self) -> None:
        """Return when it listens."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1):
                return
            time.sleep(0.01)
        raise TimeoutError("the sink does not listen")

    def stop(self) -> tuple[Arrivals, bytes]:
        """End it; returns its figures, and for each number how often it came, up to 255."""
        self._process.send_signal(signal.SIGTERM)
        printed, _ = self._process.communicate(timeout=30)
        arrivals: Arrivals = json.loads(printed)
        return arrivals, self._counts.read_bytes()

    def kill(self) -> None:
        """End it if it runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@contextlib.contextmanager
def counting_sink(folder: Path) -> Iterator[CountingSink]:
    """Run a sink until the end of the block, or until it is stopped."""
    sink = CountingSink(folder / "counts")
    try:
        sink.wait()
        yield sink
    finally:
        sink.kill()


class _Counter:
    def __init__(self) -> None:
        self.counts = bytearray()
        self.figures = Arrivals(arrived=0, duplicates=0, reordered=0, corrupted=0, sampled=0)
        self._last = [-1] * numbered.KEYS

    def take(self, body: bytes) -> None:
        figures, counts = self.figures, self.counts
        for digits in numbered.ID.findall(body):
            number = int(digits)
            if number >= len(counts):
                counts.extend(bytes(number + 100_000 - len(counts)))
            before = counts[number]
            counts[number] = min(before + 1, _MOST)
            figures["arrived"] += 1
            if before:
                figures["duplicates"] += 1
                continue
            key = number % numbered.KEYS
            if number < self._last[key]:
                figures["reordered"] += 1
            self._last[key] = max(number, self._last[key])
            if number % _SAMPLE == 0:
                self._look(body, f"load-{number:08d}")

    def _look(self, body: bytes, event_id: str) -> None:
        self.figures["sampled"] += 1
        found = json.loads(body)
        events: list[dict[str, Any]] = found if isinstance(found, list) else [found]
        if not all(numbered.is_as_sent(event) for event in events if event["id"] == event_id):
            self.figures["corrupted"] += 1


class _Connection(asyncio.Protocol):
    def __init__(self, counter: _Counter) -> None:
        self._counter = counter
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body, self._body = b"".join(self._body), []
        self._counter.take(body)
        self._transport.write(_ACCEPTED)


async def _listen(port: int, counts: Path) -> None:
    loop, counter = asyncio.get_running_loop(), _Counter()
    ended = loop.create_future()
    loop.add_signal_handler(signal.SIGTERM, ended.set_result, None)
    server = await loop.create_server(lambda: _Connection(counter), HOST, port, backlog=1000)
    await ended
    server.close()
    counts.write_bytes(counter.counts)
    print(json.dumps(counter.figures))


if __name__ == "__main__":
    uvloop.run(_listen(int(sys.argv[1]), Path(sys.argv[2])))
