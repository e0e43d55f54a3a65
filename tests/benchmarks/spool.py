"""CPU time of the spool: append, read and done, both threads counted, on the disk of /var/tmp."""

import asyncio
import tempfile
import time
from pathlib import Path

import uvloop

from gateway.spool import Spool
from tests.benchmarks.machine import spread, table

ROUNDS = 5
EVENTS = 64 * 1024
RECORD_BYTES = 500
BATCHES = (16, 256, 1024)


class Measured:
    """One batch size: CPU microseconds per event by step, seconds by commit, events a second."""

    def __init__(self) -> None:
        self.append: list[float] = []
        self.read: list[float] = []
        self.done: list[float] = []
        self.commits: list[float] = []
        self.rate: list[float] = []

    @property
    def total(self) -> list[float]:
        """The three steps together, round by round."""
        return [sum(steps) for steps in zip(self.append, self.read, self.done, strict=True)]


async def measure(folder: Path, batch: int, measured: Measured) -> None:
    """Append, read and finish `EVENTS` records in lists of `batch`, one list at a time."""
    events = min(EVENTS, batch * 256)
    records = [bytes([number % 256]) * RECORD_BYTES for number in range(batch)]
    spool = Spool(folder, max_bytes=1 << 30, min_free_share=0.0)
    spool.open()
    stored = asyncio.Event()
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(events // batch):
        started = time.perf_counter()
        spool.append(records, lambda _first, error: stored.set() if error is None else None)
        await stored.wait()
        stored.clear()
        measured.commits.append(time.perf_counter() - started)
    measured.rate.append(events / (time.perf_counter() - wall))
    measured.append.append((time.process_time() - cpu) / events * 1e6)

    cpu = time.process_time()
    lists = []
    while found := spool.read(batch, 1 << 30):
        lists.append([sequence for sequence, _ in found])
    measured.read.append((time.process_time() - cpu) / events * 1e6)
    assert sum(map(len, lists)) == events

    cpu = time.process_time()
    for sequences in lists:
        spool.done(sequences)
    spool.close()  # with the cursor and the trimming
    measured.done.append((time.process_time() - cpu) / events * 1e6)


def run() -> None:
    """Print the table."""
    rows = []
    for batch in BATCHES:
        measured = Measured()
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
                uvloop.run(measure(Path(folder) / "lane", batch, measured))
        commits = sorted(seconds * 1e3 for seconds in measured.commits)
        p50, p99 = commits[len(commits) // 2], commits[len(commits) * 99 // 100]
        rows.append(
            [
                str(batch),
                *(
                    spread(steps, 2)
                    for steps in (measured.append, measured.read, measured.done, measured.total)
                ),
                f"{p50:.2f} / {p99:.2f}",
                spread([rate / 1e3 for rate in measured.rate], 0),
            ]
        )
    table(
        [
            f"spool, {RECORD_BYTES} B, batch",
            "append, us CPU",
            "read",
            "done",
            "together",
            "commit p50 / p99, ms",
            "stored, 1000/s",
        ],
        rows,
    )


if __name__ == "__main__":
    run()
