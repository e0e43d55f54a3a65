"""Runs the real gateway over a disk that is watched and a clock that can be set.

    python -m tests.faults.launcher ORDERS JOURNAL ATTIC SEGMENT_BYTES run gateway.yaml

The product knows nothing of it: what it calls of the system is replaced before it starts.
"""

import contextlib
import datetime
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.orders import Orders


def main() -> None:
    orders, journal, attic, segment_bytes, *arguments = sys.argv[1:]
    read = Orders(Path(orders))
    _replace_clock(read)  # before anybody has its own name for it
    watch = _replace_disk(read, Path(journal), Path(attic) if attic != "-" else None)
    _make_segments_small(int(segment_bytes))
    _name_points(watch)
    sys.argv = ["ce-gateway", *arguments]
    from gateway.__main__ import main as run

    run()


def _replace_clock(orders: Orders) -> None:
    """Have the time of day be wrong by as many seconds as the orders say; nothing else."""
    real_time, real_datetime = time.time, datetime.datetime

    def offset() -> float:
        return float(orders.get().get("clock", 0.0))

    class Datetime(real_datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real_datetime.fromtimestamp(real_time() + offset(), tz)

    time.time = lambda: real_time() + offset()
    time.time_ns = lambda: int((real_time() + offset()) * 1_000_000_000)
    datetime.datetime = Datetime


def _replace_disk(orders: Orders, journal: Path, attic: Path | None) -> Any:
    from gateway.spool.disk import REAL_DISK
    from tests.faults.watched_disk import Watch, WatchedDisk

    REAL_DISK.__class__ = WatchedDisk
    REAL_DISK.watch = Watch(orders, journal, attic)
    return REAL_DISK.watch


def _make_segments_small(size: int) -> None:
    """Have the log roll and trim all the time."""
    from gateway.spool import Spool

    if size:
        Spool.__init__.__kwdefaults__["segment_bytes"] = size


def _name_points(watch: Any) -> None:
    """Put names to what happens between the disk's calls."""
    from gateway.dead_letters import database
    from gateway.spool import Spool

    real_append, real_done, real_transaction = Spool.append, Spool.done, database.transaction

    def append(self: Any, records: Any, on_stored: Any) -> None:
        def stored(first: Any, error: Any) -> None:
            if error is None:
                watch.program_at("before_ack")
            on_stored(first, error)

        real_append(self, records, stored)

    def done(self: Any, sequences: Any) -> None:
        sequences = list(sequences)
        if sequences:
            watch.program_at("after_sink_ok")
        real_done(self, sequences)

    @contextlib.contextmanager
    def transaction(connection: Any) -> Iterator[None]:
        with real_transaction(connection):
            yield
            watch.program_at("mid_dead_letter_inserted")
        watch.program_at("mid_dead_letter_committed")

    Spool.append = append
    Spool.done = done
    database.transaction = transaction


if __name__ == "__main__":
    main()
