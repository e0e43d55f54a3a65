"""How many events may go at a rate."""

import time


class Allowance:
    """Grows with time, and is spent; nothing is saved up beyond a burst.

    Args:
        rate: events per second; None is no limit.
        burst: most events at once, in seconds of the rate; one is always allowed in the end.
    """

    def __init__(self, rate: float | None, burst: float) -> None:
        self._rate = rate
        self._most = 0.0 if rate is None else max(1.0, rate * burst)
        self._left = 0.0
        self._at = time.monotonic()

    def of(self, wanted: int) -> int:
        """Return how many of the wanted events may go now."""
        if self._rate is None:
            return wanted
        now = time.monotonic()
        self._left = min(self._left + (now - self._at) * self._rate, self._most)
        self._at = now
        return min(wanted, int(self._left))

    def spend(self, count: int) -> None:
        """Note that so many went."""
        self._left -= count
