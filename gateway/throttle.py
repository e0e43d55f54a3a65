"""Logs of what happens often: one line per cause and interval, with what was left out."""

import time
from typing import Final

INTERVAL: Final = 10.0
"""Seconds between two lines about the same cause."""


class Throttle:
    """Says when a cause may be logged again.

    The causes are words of a small set: they are kept for good.
    """

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._last: dict[str, tuple[float, int]] = {}

    def pass_on(self, cause: str, count: int = 1) -> str | None:
        """Count occurrences; returns None for silence, else what to add to the line (or "").

        Args:
            cause: what happened.
            count: how often.
        """
        now = time.monotonic()
        last, unsaid = self._last.get(cause, (-self._interval, 0))
        if now - last < self._interval:
            self._last[cause] = (last, unsaid + count)
            return None
        self._last[cause] = (now, 0)
        return f" ({unsaid} more since the last line)" if unsaid else ""
