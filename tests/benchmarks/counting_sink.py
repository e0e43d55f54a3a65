"""An HTTP/1.1 sink in a process of its own that counts what arrives of `numbered` events.

It takes an event a request, and batches, pipelined or not, answers 202 to everything, looks into
each `sample`th event, and prints its figures at SIGTERM.
"""

import asyncio
import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypedDict

import httptools
import uvloop
from cloudevents.core.bindings.http import HTTPMessage, from_http_event

from tests.benchmarks import numbered
from tests.benchmarks.board import ARRIVED, make_board, open_board
from tests.e2e.servers import HOST, free_port

ACCEPTED: Final = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
EVENT: Final = "application/cloudevents+json"
_BATCH: Final = "application/cloudevents-batch+json"
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
        cpu: microseconds of the sink for each event.
    """

    arrived: int
    duplicates: int
    reordered: int
    corrupted: int
    sampled: int
    cpu: float


class CountingSink:
    """The process; `arrivals` and the file of counts are there after `stop`.

    Args:
        counts: the file that gets how often each number came.
        board: the counters of the run.
        form: `event`: what is sampled has to be an event as it was sent, and the official SDK has
            to read the same; `payload`: its data has to be in what came.
        sample: each such event is looked into.
        h2: speak HTTP/2 with prior knowledge.
        every: events of which one is lost and the next one counted twice, to try out the harness.
    """

    def __init__(
        self,
        counts: Path,
        board: Path | None = None,
        form: str = "event",
        sample: int = _SAMPLE,
        every: int = 0,
        *,
        h2: bool = False,
    ) -> None:
        self.port = free_port()
        self._counts = counts
        if board is None:
            board = counts.with_name("board")
            make_board(board)
        arguments = (self.port, counts, board, form, sample, every, int(h2))
        command = [sys.executable, "-m", __name__, *map(str, arguments)]
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
def counting_sink(folder: Path, **options: Any) -> Iterator[CountingSink]:
    """Run a sink until the end of the block, or until it is stopped."""
    sink = CountingSink(folder / "counts", **options)
    try:
        sink.wait()
        yield sink
    finally:
        sink.kill()


def is_as_sent(form: str, number: int, content_type: str, body: bytes) -> bool:
    """Whether what arrived is what its number stands for; for `event` the official SDK reads it."""
    if form == "payload":
        return numbered.data(number) in body or _holds_text(body, number)
    found = json.loads(body)
    batch = isinstance(found, list)
    wanted = f"load-{number:08d}"
    events: list[dict[str, Any]] = [
        event for event in (found if batch else [found]) if event.get("id") == wanted
    ]
    if not events or not all(map(numbered.is_as_sent, events)):
        return False
    if content_type.partition(";")[0] != (_BATCH if batch else EVENT):
        return False
    headers = {"content-type": EVENT}
    read = from_http_event(HTTPMessage(headers=headers, body=json.dumps(events[0]).encode()))
    return bool(read.get_id() == wanted and read.get_data() == events[0]["data"])


def _holds_text(body: bytes, number: int) -> bool:
    """Whether the data stands in a JSON document as a text."""
    return json.dumps(numbered.data(number).decode())[1:-1].encode() in body


class Counter:
    """What has arrived."""

    def __init__(self, board: memoryview, form: str, sample: int, every: int = 0) -> None:
        self.counts = bytearray()
        self.figures = Arrivals(
            arrived=0, duplicates=0, reordered=0, corrupted=0, sampled=0, cpu=0.0
        )
        self._board = board
        self._form = form
        self._sample = sample
        self._every = every
        self._last = [-1] * numbered.KEYS

    def take(self, body: bytes, content_type: Callable[[], str]) -> None:
        """Count what is in a message."""
        figures, counts, last = self.figures, self.counts, self._last
        for digits in numbered.NUMBER.findall(body):
            number = int(digits)
            if self._every and number % self._every == 0:
                continue
            if number >= len(counts):
                counts.extend(bytes(number + 100_000 - len(counts)))
            times = 2 if self._every and number % self._every == 1 else 1
            before = counts[number]
            counts[number] = min(before + times, _MOST)
            figures["arrived"] += times
            if before or times == 2:
                figures["duplicates"] += 1
                continue
            key = number % numbered.KEYS
            if number < last[key]:
                figures["reordered"] += 1
            else:
                last[key] = number
            if number % self._sample == 0:
                figures["sampled"] += 1
                if not is_as_sent(self._form, number, content_type(), body):
                    figures["corrupted"] += 1

    def tell(self) -> None:
        """Write the count on the board."""
        self._board[ARRIVED] = self.figures["arrived"]


class _Connection(asyncio.Protocol):
    """Requests whose length is told are cut out of what was read; others have a parser."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._transport: Any = None
        self._buffer = b""
        self._chunked: _Chunked | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._chunked is not None:
            self._chunked.feed(data)
            return
        if self._buffer:
            data = self._buffer + data
        at, answers, size = 0, 0, len(data)
        while at < size:
            head = data.find(b"\r\n\r\n", at)
            if head < 0:
                break
            length = _LENGTH.search(data, at, head)
            if length is None:
                self._chunked = _Chunked(self._counter, self._transport)
                self._chunked.feed(data[at:])
                at = size
                break
            end = head + 4 + int(length[1])
            if end > size:
                break
            self._counter.take(data[head + 4 : end], lambda a=at, h=head: _type(data[a:h]))
            answers += 1
            at = end
        self._buffer = data[at:]
        if answers:
            self._transport.write(ACCEPTED * answers)
            self._counter.tell()


def _type(head: bytes) -> str:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-type":
            return value.strip().decode()
    return ""


class _Chunked:
    """Bodies whose length the head does not tell."""

    def __init__(self, counter: Counter, transport: Any) -> None:
        self._counter = counter
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []
        self._type = ""
        self.feed = self._parser.feed_data

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self._type = value.decode()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body, self._body = b"".join(self._body), []
        self._counter.take(body, lambda: self._type)
        self._transport.write(ACCEPTED)
        self._counter.tell()


async def _listen(
    port: int, counts: Path, counter: Counter, kind: Callable[[Counter], asyncio.Protocol]
) -> None:
    loop = asyncio.get_running_loop()
    ended, begun = loop.create_future(), time.process_time()
    loop.add_signal_handler(signal.SIGTERM, ended.set_result, None)
    server = await loop.create_server(lambda: kind(counter), HOST, port, backlog=1000)
    await ended
    server.close()
    counts.write_bytes(counter.counts)
    used = time.process_time() - begun
    counter.figures["cpu"] = used * 1e6 / max(counter.figures["arrived"], 1)
    print(json.dumps(counter.figures))


def _main() -> None:
    from tests.benchmarks.h2_sink import H2Connection

    port, counts, board, form, sample, every, h2 = sys.argv[1:]
    counter = Counter(open_board(Path(board)), form, int(sample), int(every))
    kind = H2Connection if int(h2) else _Connection
    uvloop.run(_listen(int(port), Path(counts), counter, kind))


if __name__ == "__main__":
    _main()
