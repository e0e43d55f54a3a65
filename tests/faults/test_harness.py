"""Senders, sink and checker together find what a bad gateway does: one defect at a time."""

import asyncio
import contextlib
import random
import socket

import pytest

from tests.e2e.servers import HOST
from tests.faults.figures import HEADER, Figures
from tests.faults.ledger import Ledger
from tests.faults.producers.http import HttpProducer
from tests.faults.row import find_rows
from tests.faults.sample import Sample
from tests.faults.sink import FaultySink, RandomFaults

EVERY = 10  # the defect hits one event of ten


class ToyGateway:
    """Passes requests on to the sink, byte for byte, but for its defect.

    Args:
        sink_port: where they go.
        defect: `none`, `early` (acknowledges and forgets), `twice` (delivers twice), `late` (keeps
            one back until the next of its key is delivered), `changed` (changes a byte).
    """

    def __init__(self, sink_port, defect):
        self._sink_port = sink_port
        self._defect = defect
        self._count = 0
        self._tasks = set()

    async def open(self):
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self):
        self._server.close()
        # The producer has gone; what is kept back for its connections still has to be delivered.
        await asyncio.gather(*self._tasks)
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        kept = None
        try:
            while True:
                request = await _read_request(reader)
                self._count += 1
                defect = self._defect if self._count % EVERY == 0 else "none"
                if defect == "late" and kept is None:
                    kept = request
                elif defect != "early":
                    if defect == "changed":
                        request = request[:-20] + b"#" + request[-19:]
                    for _ in range(2 if defect == "twice" else 1):
                        while not await self._deliver(request):
                            await asyncio.sleep(0)
                    if kept is not None:
                        await self._deliver(kept)
                        kept = None
                writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        except asyncio.IncompleteReadError:
            if kept is not None:
                await self._deliver(kept)
        finally:
            writer.close()

    async def _deliver(self, request):
        """Whether the sink says that it has it."""
        reader, writer = await asyncio.open_connection(HOST, self._sink_port)
        writer.write(request)
        with contextlib.suppress(OSError):
            line = await reader.readline()
            writer.close()
            return line.startswith(b"HTTP/1.1 2") and line.endswith(b"\n")
        return False


async def _read_request(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
    return head + await reader.readexactly(int(length.split(b":")[1]))


async def run(folder, defect="none", shares=None):
    sample, ledger = Sample(1), Ledger(folder / "ledger")
    sink = FaultySink(sample, ledger)
    sink.choose = RandomFaults(random.Random(1), shares or {})
    await sink.open()
    gateway = ToyGateway(sink.port, defect)
    await gateway.open()
    producer = HttpProducer(gateway.port, sample, ledger, rate=100000, keys=4)
    producer.start()
    async with asyncio.timeout(20):
        while ledger.account.acked < 200:
            await asyncio.sleep(0.01)
    await producer.stop()
    await gateway.close()
    await sink.close()
    ledger.close()
    figures = Figures()
    figures.take(ledger.account)
    return figures


async def test_a_good_gateway_passes(tmp_path):
    figures = await run(tmp_path)
    assert figures.problems == []
    assert figures.events >= 200
    assert figures.own_duplicates == figures.provoked == 0


async def test_what_the_sink_provokes_is_not_blamed_on_the_gateway(tmp_path):
    shares = {"503": 0.05, "drop": 0.05, "reset": 0.05, "truncate": 0.05, "stored 503": 0.05}
    figures = await run(tmp_path, shares={**shares, "unstored reset": 0.05, "404": 0.05})
    assert figures.problems == []
    assert figures.own_duplicates == 0
    assert figures.provoked > 0


@pytest.mark.parametrize(
    ("defect", "found"),
    [("early", "LOST"), ("late", "REORDERED"), ("changed", "CORRUPTED")],
)
async def test_each_defect_is_found(tmp_path, defect, found):
    figures = await run(tmp_path, defect)
    assert [problem.split()[0] for problem in figures.problems] == [found]
    assert figures.verdict == "FAIL"


async def test_duplicates_of_the_gateway_are_counted(tmp_path):
    figures = await run(tmp_path, "twice")
    assert figures.problems == []  # a row says how many there may be
    assert figures.own_duplicates >= 200 // EVERY


async def test_a_frozen_sink_reads_nothing_of_a_new_connection_either(tmp_path):
    class Telling(FaultySink):
        def unreadable(self, text):
            readers.append(self)

    async def wait_for(*sinks):
        async with asyncio.timeout(20):
            while len(readers) < len(sinks):
                await asyncio.sleep(0.01)
        assert readers == [*sinks]

    readers = []
    async with contextlib.AsyncExitStack() as stack:
        ledger = Ledger(tmp_path / "ledger")
        stack.callback(ledger.close)
        frozen, other = (Telling(Sample(1), ledger) for _ in range(2))
        frozen.freeze()
        for sink in (frozen, other):
            await sink.open()
            stack.push_async_callback(sink.close)
        for sink in (frozen, other):  # what is sent last would be read last
            peer = stack.enter_context(socket.create_connection((HOST, sink.port), timeout=20))
            peer.sendall(b"no HTTP")  # there when the sink's loop accepts
        await wait_for(other)
        frozen.thaw()
        await wait_for(other, frozen)


def test_every_row_can_be_run_and_has_a_number_of_its_own():
    rows = find_rows()
    assert len({row.number for row in rows}) == len(rows) >= 16
    for row in rows:
        assert row.name
        assert row.bound
        assert 0 < row.short_seconds <= row.seconds
        assert len(Figures().cells(row.number, row.name, row.bound)) == len(HEADER)
