"""Counters in shared memory, so that nobody has to ask: a file that all processes of a run map."""

import mmap
from pathlib import Path
from typing import Final

SENT: Final = 0
"""Events that left the load."""
ACKED: Final = 1
"""Events that the load was acknowledged."""
ARRIVED: Final = 2
"""Events that the sink has, with repetitions."""
STOP: Final = 3
"""1: the load sends nothing more."""
_SLOTS: Final = 8


def make_board(path: Path) -> memoryview:
    """Make the file, all zero, and return its counters."""
    path.write_bytes(bytes(8 * _SLOTS))
    return open_board(path)


def open_board(path: Path) -> memoryview:
    """Return the counters; each is read and written whole, by one process."""
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 8 * _SLOTS)).cast("Q")
