"""When to try again: the delivery spec of Knative Eventing, as numbers.

Knative's documents disagree on where counting starts. We follow its API documentation and its Java
broker: the n-th retry, n from 1, waits `delay * n` (linear) or `delay * 2**n` (exponential). A cap
and jitter are our own options.
"""

import random
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and after how many seconds an event is offered to a sink again.

    Attributes:
        retry: retries after the first attempt; 0 means one attempt.
        policy: linear or exponential back-off.
        delay: seconds that the policy multiplies.
        cap: longest wait in seconds.
        jitter: 0 to 1: each wait is changed at random by up to this part of it, either way.
        retry_after_max: most seconds of a `Retry-After` that are honoured; 0 ignores the header.
    """

    retry: int = 10
    policy: Literal["linear", "exponential"] = "exponential"
    delay: float = 0.2
    cap: float = 600.0
    jitter: float = 0.0
    retry_after_max: float = 600.0

    def wait(self, n: int, retry_after: float | None = None) -> float:
        """Return the seconds before the n-th retry, n from 1.

        Args:
            n: which retry.
            retry_after: what the sink asked for; the longer of both waits counts.
        """
        # 2**n of a large n is no float; 64 doublings of any delay are beyond every cap.
        factor = n if self.policy == "linear" else 2 ** min(n, 64)
        seconds = self.delay * factor
        if self.jitter:
            seconds = min(seconds, self.cap)  # else a wait far beyond it would not be spread
            seconds *= 1 + self.jitter * random.uniform(-1, 1)  # noqa: S311 - no secret
        seconds = min(seconds, self.cap)
        if retry_after is not None:
            seconds = max(seconds, min(retry_after, self.retry_after_max))
        return seconds
