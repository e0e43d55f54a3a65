"""How often each webhook sender may deliver: `allowed_rate`, held to (http-webhook.md 2.2)."""

import math
from typing import Final

_MAX_ORIGINS: Final = 1024
"""Origins that are remembered; with `allowed_origins: "*"` anyone can think of new ones."""
_MAX_NAME: Final = 253
"""Bytes of an origin that count: no name in DNS is longer."""


class RateLimit:
    """A bucket of requests per origin, filled anew within a minute.

    Args:
        per_minute: requests that fit into a bucket.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._per_second = per_minute / 60.0
        self._buckets: dict[bytes, tuple[float, float]] = {}  # what is in it, and since when

    def wait(self, origin: bytes, now: float) -> int:
        """Count a request; returns 0, or the seconds after which it may be repeated.

        Args:
            origin: who sends.
            now: monotonic seconds.
        """
        origin = origin[:_MAX_NAME]
        content, since = self._buckets.pop(origin, (float(self._per_minute), now))
        content = min(self._per_minute, content + (now - since) * self._per_second)
        wait = 0 if content >= 1 else max(1, math.ceil((1 - content) / self._per_second))
        if len(self._buckets) >= _MAX_ORIGINS:
            del self._buckets[next(iter(self._buckets))]  # the one that was heard longest ago
        self._buckets[origin] = (content if wait else content - 1, now)
        return wait
