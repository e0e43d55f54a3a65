"""A ledger's face for those who send to a broker, which may forget its word when it is killed."""

import time
from pathlib import Path
from typing import Any

from tests.faults.ledger import Ledger


class Promises:
    """Does as the ledger does, but keeps acknowledgements back until they bind the broker.

    Args:
        ledger: which gets them then.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._made: list[tuple[int, str, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def ack(self, key: str, number: int) -> None:
        """Note what the broker said."""
        self._made.append((time.time_ns(), key, number))

    def bind(self, before: int | None = None) -> None:
        """Hold the broker to what it said; `before` a time in nanoseconds, or all of it."""
        kept = []
        for promise in self._made:
            moment, key, number = promise
            if before is None or moment < before:
                self._ledger.ack(key, number)
            else:
                kept.append(promise)
        self._made = kept

    def bind_saved(self, file: Path) -> None:
        """Hold it to what it said before a file was written that it replaces with all it has.

        It does nothing else meanwhile, so what it had said by the file's time is in it.
        """
        try:
            self.bind(file.stat().st_mtime_ns)
        except FileNotFoundError:
            return

    def forget(self) -> None:
        """Expect nothing of what it said and was not yet held to: it was killed."""
        self._made.clear()
