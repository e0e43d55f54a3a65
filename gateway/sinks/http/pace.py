"""How fast requests may go: a rate per minute, kept over every window of a minute."""

from typing import Final

# A minute, with room for what the network does to the distance of two requests.
_PERIOD: Final = 60.5
_LATENESS: Final = 0.1
"""Seconds by which a request may be late without those after it being late, too."""


class Pace:
    """Spaces requests evenly; one more than the rate never falls into 60 seconds.

    Attributes:
        due: the loop's time at which the next request may go.
    """

    def __init__(self) -> None:
        self.due = float("-inf")
        self._interval = 0.0

    def limit(self, per_minute: int | None) -> None:
        """Set the rate; None is no limit."""
        self._interval = _PERIOD / per_minute if per_minute is not None else 0.0

    def room(self, wanted: int, now: float) -> int:
        """Return how many of `wanted` requests may go now."""
        if not self._interval:
            return wanted
        if now < self.due:
            return 0
        return min(wanted, 1 + int((now - max(self.due, now - _LATENESS)) / self._interval))

    def take(self, now: float) -> None:
        """Count a request that goes now."""
        self.due = max(self.due, now - _LATENESS) + self._interval
