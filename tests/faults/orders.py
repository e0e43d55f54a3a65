"""What the harness tells a running gateway's disk and clock to do: a file that may be replaced.

    {"crash": {"point": "after_write", "hit": 3},
     "faults": [{"call": "fdatasync", "error": "EIO", "times": 1}],
     "clock": -3600.0}

The process looks at the file whenever it makes a call of interest; what it did is in the journal.
"""

import json
from pathlib import Path
from typing import Any


class Orders:
    """The process's side.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = (0, 0)
        self._orders: dict[str, Any] = {}

    def get(self) -> dict[str, Any]:
        """Return the orders of this moment: the same object until the file is another."""
        status = self._path.stat()
        seen = status.st_ino, status.st_mtime_ns
        if seen != self._seen:
            self._orders = json.loads(self._path.read_bytes())
            self._seen = seen
        return self._orders


def give(path: Path, orders: dict[str, Any]) -> None:
    """Replace the orders; the harness's side."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(orders))
    new.rename(path)
