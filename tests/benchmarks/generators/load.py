"""What all loads share: which event may go now, what was acknowledged, and when."""

import asyncio
import math
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.board import ACKED, ARRIVED, SENT, STOP, open_board
from tests.benchmarks.worker import own_cpu, say, told

WARM: Final = 0.1
"""The part of a run that is not counted."""
_TICK: Final = 0.001


class Load:
    """The events of a run, `numbered` from 0.

    Args:
        board: the counters of the run.
        count: how many events.
        rate: events per second, sent when they are due, or 0: as fast as they are acknowledged. An
            event's latency counts from when it was due, also if it could not be sent then.
        warm: seconds whose events have no latency.
        ahead: most events that the sink may be behind, where nothing is acknowledged; 0: any.
        acked: gets a byte for each event, 1 if it was acknowledged.
    """

    def __init__(
        self,
        board: str,
        count: int,
        acked: str,
        rate: float = 0.0,
        warm: float = 0.0,
        ahead: int = 0,
    ) -> None:
        self.count = count
        self.next = 0
        self.acked = bytearray(count)
        self.refused = 0
        self.board = open_board(Path(board))
        self._file = Path(acked)
        self._warm = int(warm * rate)
        self._rate = rate
        self._ahead = ahead
        self._answered = 0
        self._started = 0.0
        self._cpu = 0.0
        self._due = array("d")
        self._waits = array("d")
        self._late = 0.0

    def room(self) -> int:
        """Return how many events may be sent now."""
        if not self._started or self.board[STOP]:
            return 0
        last = self.count
        if self._rate:
            last = min(last, int((time.perf_counter() - self._started) * self._rate))
        if self._ahead:
            last = min(last, self.board[ARRIVED] + self._ahead)
        return max(last - self.next, 0)

    def sent(self, count: int) -> None:
        """Count what follows as sent."""
        if self._rate:
            due = self._started + (self.next + 1) / self._rate
            self._late = max(self._late, time.perf_counter() - due)
        self.next += count
        self.board[SENT] = self.next

    def answered(self, first: int, count: int = 1) -> None:
        """Count events that follow each other as acknowledged."""
        self._answered += count
        self.acked[first : first + count] = b"\x01" * count
        self.board[ACKED] = self._answered
        if self._rate:
            now, start, rate = time.perf_counter(), self._started, self._rate
            for number in range(max(first, self._warm) + 1, first + count + 1):
                self._waits.append(now - start - number / rate)

    async def run(self, pump: Callable[[], None], **facts: Any) -> None:
        """Say that it is ready, begin when told to, print the report when told again.

        Args:
            pump: sends what may be sent; called once, and every millisecond where a clock or the
                sink's count decides.
            facts: what to say, such as the port.
        """
        go = told()
        say(**facts)
        await go
        end = told()
        self._cpu, self._started = own_cpu(), time.perf_counter()
        pump()
        ticks = self._rate or self._ahead
        while not end.done():
            await asyncio.wait([end], timeout=_TICK if ticks else 0.1)
            if ticks and not end.done():
                pump()
        self._report()

    def _report(self) -> None:
        self._file.write_bytes(self.acked)
        waits = sorted(self._waits)
        say(
            sent=self.next,
            acked=self._answered,
            refused=self.refused,
            cpu=(own_cpu() - self._cpu) / max(self.next, 1) * 1e6,
            late=self._late * 1e3,
            latency={
                "p50": percentile(waits, 0.5),
                "p99": percentile(waits, 0.99),
                "p999": percentile(waits, 0.999),
                "longest": percentile(waits, 1.0),
            },
        )


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the milliseconds that this share of them does not exceed (nearest rank)."""
    if not ordered:
        return 0.0
    return ordered[max(math.ceil(len(ordered) * share) - 1, 0)] * 1e3
