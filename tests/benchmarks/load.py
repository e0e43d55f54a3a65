"""A sender at an even rate, in a process of its own and cheap: `python -m tests.benchmarks.load`.

It sends what is due once a millisecond. An acknowledgement's latency counts from the moment at
which the sender was ready to send the event, also when its connection was not.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from array import array
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypedDict

import httptools
import uvloop

from tests.benchmarks import numbered
from tests.faults.producers.mqtt import text, varint

WINDOW: Final = 256
"""Messages under way on one MQTT connection."""
_TICK: Final = 0.001
_PATIENCE: Final = 20.0
_BATCH: Final = "application/cloudevents-batch+json"


class Report(TypedDict):
    """What the process prints.

    Attributes:
        sent: events.
        acked: those acknowledged.
        rate: acknowledged events per second, from the first event to the last acknowledgement.
        p50, p99, p999, longest: milliseconds until an acknowledgement.
        late: 99th percentile of the milliseconds by which the sender itself was late.
        cpu: the sender's own microseconds per event.
    """

    sent: int
    acked: int
    rate: float
    p50: float
    p99: float
    p999: float
    longest: float
    late: float
    cpu: float


def run_load(
    kind: str, port: int, *, rate: int, seconds: float, connections: int, burst: int = 1,
    acked: Path | None = None,
) -> Report:  # fmt: skip
    """Run the sender to its end.

    Args:
        kind: `http` or `mqtt`.
        port: of the gateway's source.
        rate: events per second.
        seconds: how long.
        connections: they divide `numbered.KEYS`, so that each key has one.
        burst: events that are sent together, over HTTP as one batch; the order of keys then isn't
            kept.
        acked: gets a byte for each event, 1 if it was acknowledged.
    """
    command = [sys.executable, "-m", __name__, kind, str(port), str(rate), str(seconds)]
    command += [str(connections), str(burst), *([str(acked)] if acked else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    report: Report = json.loads(done.stdout)
    return report


class Sender:
    """All connections, and when each event was due and acknowledged."""

    def __init__(self, count: int, rate: int, burst: int) -> None:
        self.acked = bytearray(count)
        self.latencies = array("d")
        self.finished = asyncio.get_running_loop().create_future()
        self._count = count
        self._rate = rate
        self._burst = burst
        self._due = array("d", bytes(8 * count))
        self._late = array("d")
        self._sent = self._answered = 0
        self._started = self._ended = 0.0
        self._connections: Sequence[_Connection] = ()

    def start(self, connections: "Sequence[_Connection]") -> None:
        self._connections = connections
        self._started = time.perf_counter()
        self._tick()

    def answered(self, numbers: Sequence[int], *, accepted: bool) -> None:
        now = time.perf_counter()
        self._answered += len(numbers)
        if accepted:
            for number in numbers:
                self.acked[number] = 1
                self.latencies.append(now - self._due[number])
        if self._answered >= self._count and not self.finished.done():
            self._ended = now
            self.finished.set_result(None)

    def report(self) -> Report:
        waits, late = sorted(self.latencies), sorted(self._late)
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = (self._ended or time.perf_counter()) - self._started

        def at(values: Sequence[float], share: float) -> float:
            return values[min(int(len(values) * share), len(values) - 1)] * 1e3 if values else 0.0

        return Report(
            sent=self._sent,
            acked=sum(self.acked),
            rate=len(waits) / seconds,
            p50=at(waits, 0.5),
            p99=at(waits, 0.99),
            p999=at(waits, 0.999),
            longest=at(waits, 1.0),
            late=at(late, 0.99),
            cpu=(used.ru_utime + used.ru_stime) / self._count * 1e6,
        )

    def _tick(self) -> None:
        now, first = time.perf_counter(), self._sent
        due = min(int((now - self._started) * self._rate), self._count)
        connections, burst = self._connections, self._burst
        while self._sent + burst <= due:
            numbers = range(self._sent, self._sent + burst)
            self._sent += burst
            self._due[numbers[0] : numbers[-1] + 1] = array("d", [now]) * burst
            connections[numbers[0] // burst % len(connections)].send(numbers)
        if self._sent > first:
            self._late.append(now - self._started - (first + burst) / self._rate)
        if self._sent + burst <= self._count:
            asyncio.get_running_loop().call_later(_TICK, self._tick)


class _Connection(asyncio.Protocol):
    """A connection that is ready once `ready` is done."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._transport: Any = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._sender.finished.done():
            self._sender.finished.set_exception(ConnectionResetError())

    def send(self, numbers: Sequence[int]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._transport.abort()


class _Http(_Connection):
    """Keep-alive, a request at a time: an event in binary mode, or a batch."""

    def __init__(self, sender: Sender) -> None:
        super().__init__(sender)
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: deque[Sequence[int]] = deque()
        self._under_way: Sequence[int] = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.ready.set_result(None)

    def send(self, numbers: Sequence[int]) -> None:
        if self._under_way:
            self._waiting.append(numbers)
        else:
            self._under_way = numbers
            self._transport.write(_request(numbers))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        done, self._under_way = self._under_way, ()
        accepted = 200 <= self._parser.get_status_code() < 300
        self._parser = httptools.HttpResponseParser(self)
        if self._waiting:
            self.send(self._waiting.popleft())
        self._sender.answered(done, accepted=accepted)


class _Mqtt(_Connection):
    """MQTT 5, QoS 1, binary mode, up to `WINDOW` messages under way."""

    def __init__(self, sender: Sender, name: str) -> None:
        super().__init__(sender)
        self._name = name
        self._buffer = b""
        self._waiting: deque[int] = deque()
        self._under_way: dict[int, int] = {}  # number by packet identifier

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # Clean Start, no keep-alive
        body = text("MQTT") + b"\x05\x02\x00\x00\x00" + text(self._name)
        self._transport.write(b"\x10" + varint(len(body)) + body)

    def send(self, numbers: Sequence[int]) -> None:
        self._waiting.extend(numbers)
        self._write()

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        at, done, failed = 0, [], []
        while at + 2 <= len(data) and at + 2 + data[at + 1] <= len(data):
            length = data[at + 1]  # of what a gateway sends, never 128 or more
            if data[at] == 0x40:
                number = self._under_way.pop(data[at + 2] << 8 | data[at + 3])
                (done if length == 2 or data[at + 4] < 128 else failed).append(number)
            elif data[at] == 0x20:
                self.ready.set_result(None)
            at += 2 + length
        self._buffer = data[at:]
        self._write()
        if failed:
            self._sender.answered(failed, accepted=False)
        self._sender.answered(done, accepted=True)

    def _write(self) -> None:
        waiting, under_way = self._waiting, self._under_way
        packets = []
        while waiting and len(under_way) < WINDOW:
            number = waiting.popleft()
            packet_id = number % 0xFFFF + 1
            under_way[packet_id] = number
            packets.append(_publish(number, packet_id))
        if packets:
            self._transport.write(b"".join(packets))


def _filled(number: int, parts: Sequence[bytes]) -> bytes:
    """Return a template's parts with an event's id, time and data between them."""
    before, between, behind = parts
    time = numbered.time(number).encode()
    return b"%bload-%08d%b%b%b" % (before, number, between, time, behind)


def _template(whole: bytes, key: int) -> Sequence[bytes]:
    """Cut what was made of the event `key` where another one of its key differs."""
    before, _, rest = whole.partition(b"load-%08d" % key)
    between, _, behind = rest.partition(numbered.time(key).encode())
    return before, between, behind


def _head(key: int) -> bytes:
    lines = [f"ce-{name}: {value}" for name, value in numbered.attributes(key).items()]
    lines += ["ce-specversion: 1.0", "content-type: application/json", "content-length: 200"]
    return "\r\n".join(["POST / HTTP/1.1", "host: load", *lines, "", ""]).encode()


def _properties(key: int) -> bytes:
    found = b"\x03" + text("application/json")
    for name, value in {"specversion": "1.0", **numbered.attributes(key)}.items():
        found += b"\x26" + text(name) + text(value)
    return varint(len(found)) + found


_HEADS: Final = [_template(_head(key), key) for key in range(numbered.KEYS)]
_PROPERTIES: Final = [_template(_properties(key), key) for key in range(numbered.KEYS)]


def _request(numbers: Sequence[int]) -> bytes:
    if len(numbers) == 1:
        return _filled(numbers[0], _HEADS[numbers[0] % numbered.KEYS]) + numbered.data(numbers[0])
    body = b"[%b]" % b",".join(map(numbered.structured, numbers))
    head = "POST / HTTP/1.1\r\nhost: load\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n"
    return (head % (_BATCH, len(body))).encode() + body


def _publish(number: int, packet_id: int) -> bytes:
    key = number % numbered.KEYS
    body = text(f"load/dev{key:03d}") + packet_id.to_bytes(2, "big")
    body += _filled(number, _PROPERTIES[key]) + numbered.data(number)
    return b"\x32" + varint(len(body)) + body


async def _send(options: argparse.Namespace) -> Report:
    count = int(options.rate * options.seconds) // options.burst * options.burst
    sender = Sender(count, options.rate, options.burst)
    loop = asyncio.get_running_loop()
    connections: list[_Connection] = []
    for position in range(options.connections):

        def make(position: int = position) -> _Connection:
            return _Http(sender) if options.kind == "http" else _Mqtt(sender, f"load-{position}")

        connections.append((await loop.create_connection(make, "127.0.0.1", options.port))[1])
    for connection in connections:
        await connection.ready
    sender.start(connections)
    async with asyncio.timeout(options.seconds + _PATIENCE):
        await sender.finished
    for connection in connections:
        connection.close()
    if options.acked:
        options.acked.write_bytes(sender.acked)
    return sender.report()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["http", "mqtt"])
    parser.add_argument("port", type=int)
    parser.add_argument("rate", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("connections", type=int)
    parser.add_argument("burst", type=int)
    parser.add_argument("acked", type=Path, nargs="?")
    print(json.dumps(uvloop.run(_send(parser.parse_args()))))


if __name__ == "__main__":
    main()
