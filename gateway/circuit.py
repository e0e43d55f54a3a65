"""Whether a sink is asked at the moment; one circuit for each sink, shared by all routes to it.

It is closed as long as the sink answers. When attempts fail in a row, it opens: nobody asks the
sink until a while has passed, and then one event is sent as a probe. A probe that the sink takes
closes the circuit, one that fails doubles the wait. So a sink that is down costs one attempt now
and then, however many routes and events wait for it, and no route waits on another sink's account.

Every time here is the event loop's clock. Nothing here is thread-safe.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from gateway.delivery import Failure, Outcome, Reason
from gateway.retry import RetryPolicy
from gateway.throttle import Throttle

_log = logging.getLogger(__name__)

THRESHOLD: Final = 5
"""Attempts that fail without a success in between before the circuit opens."""
PROBE_DELAY: Final = 0.5
"""Seconds until the first probe; each one that fails doubles them."""
PROBE_CAP: Final = 30.0
"""Most seconds between two probes, unless the sink asked for more."""
RETRY_AFTER_MAX: Final = 600.0
"""Most seconds of a sink's `Retry-After` that are honoured."""

# `wait(1)` is twice the policy's delay.
_PROBES: Final = RetryPolicy(delay=PROBE_DELAY / 2, cap=PROBE_CAP, retry_after_max=RETRY_AFTER_MAX)
_DOWN: Final = frozenset({Reason.SINK_DOWN, Reason.TIMEOUT, Reason.SINK_BUSY})
# These speak of one event or path, not of the sink; Knative retries them all the same.
_OF_ONE_EVENT: Final = frozenset({404, 409})


class Timer(Protocol):
    """What `call_at` returns; asyncio's `TimerHandle` is one."""

    def cancel(self) -> None:
        """Do not call."""


CallAt = Callable[[float, Callable[[], None]], Timer]


def _on_loop(when: float, callback: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_at(when, callback)


class Circuit:
    """Tells the lanes of one sink when to ask it.

    A lane tells the outcome of each list: `succeeded` if the sink took any event of it, else
    `failed`. While `is_open`, it sends nothing except when `take_probe` lets it, and then one
    event, whose outcome it tells in the same way, or `return_probe` if there is none. It asks for
    the probe when its subscribed callback is called and when new events come in.

    Args:
        name: the sink's, for logs.
        call_at: sets a timer as the event loop does, which is used by default.

    Attributes:
        is_open: whether the sink is left alone but for probes.
        opened_since: when it opened; None while it is closed.
        probe_at: from when on a probe may be taken; of no meaning while it is closed.
    """

    def __init__(self, name: str, call_at: CallAt = _on_loop) -> None:
        self.is_open = False
        self.opened_since: float | None = None
        self.probe_at = 0.0
        self._name = name
        self._call_at = call_at
        self._callbacks: dict[object, Callable[[], None]] = {}
        self._failed = 0  # attempts in a row
        self._failed_probes = 0
        self._due = False  # the timer has its own idea of "now", which may be a little early
        self._probing = False
        self._resumed = False
        self._timer: Timer | None = None
        self._lines = Throttle()
        self._logged = False

    def succeeded(self) -> None:
        """Note that the sink took at least one event of a list."""
        self._failed = 0
        if self.is_open:
            self._close()

    def failed(self, failures: Sequence[Failure], now: float) -> None:
        """Note the failures of a list of which the sink took nothing."""
        down = [failure for failure in failures if _says_down(failure)]
        if not down:
            self._not_blamed(failures, now)
            return
        retry_after = max(failure.retry_after or 0.0 for failure in down)
        if not self.is_open:
            self._failed += len(down)
            if self._failed >= THRESHOLD:
                self._open(now, retry_after)
        elif self._probing:
            self._failed_probes += 1
            self._wait(now, retry_after)
        elif retry_after and now + retry_after > self.probe_at:
            # Of a list that was under way when the circuit opened.
            self._set_timer(now + min(retry_after, RETRY_AFTER_MAX))

    def take_probe(self, now: float) -> bool:
        """Whether the caller may send one event; True for one caller at a time."""
        if not self.is_open or self._probing or not (self._due or now >= self.probe_at):
            return False
        self._probing = True
        self._cancel_timer()
        return True

    def return_probe(self, not_before: float = 0.0) -> None:
        """Give a probe back that has no outcome, such as one that was cancelled.

        Another may be taken at once. Without a probe under way this does nothing.

        Args:
            not_before: when the callbacks are called again; sooner than now is at once.
        """
        if self._probing:
            probe_at = self.probe_at
            self._set_timer(max(probe_at, not_before))
            self.probe_at = probe_at  # what comes in meanwhile may ask

    def resume(self, now: float) -> None:
        """Let a probe be taken at once: the sink says that it can take events again.

        If a probe is under way and fails, it may have been too early, and is repeated at once.
        """
        if not self.is_open:
            return
        if self._probing:
            self._resumed = True
        else:
            self.probe_at = now
            self._on_timer()

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called when the circuit closes and when a probe may be taken.

        It is called in `succeeded`, `failed`, `resume` or by the loop, and may take the probe.
        When several want it, the one that had it last comes last.

        Returns:
            What ends the subscription; it may be called twice.
        """
        token = object()
        self._callbacks[token] = callback

        def unsubscribe() -> None:
            self._callbacks.pop(token, None)

        return unsubscribe

    def close(self) -> None:
        """Give up the timer, before the loop ends."""
        self._callbacks.clear()
        self._cancel_timer()

    def _not_blamed(self, failures: Sequence[Failure], now: float) -> None:
        """Note failures that say nothing against the sink; they may be a probe's outcome."""
        if not self._probing:
            return
        held = [failure for failure in failures if failure.reason is Reason.HELD]
        if any(failure.status is not None for failure in failures if failure not in held):
            self._close()  # it does not want this event, but it answers
        elif held:
            # Nothing was sent, and another event would be held as well.
            wait = max(failure.retry_after or 0.0 for failure in held)
            wait = min(max(wait, PROBE_DELAY), RETRY_AFTER_MAX)
            self._set_timer(now if self._resumed else now + wait)
        else:
            self.return_probe()

    def _open(self, now: float, retry_after: float) -> None:
        self.is_open = True
        self.opened_since = now
        self._failed_probes = 0
        self._wait(now, retry_after)
        more = self._lines.pass_on("open")
        self._logged = more is not None
        if more is not None:
            _log.warning(
                "sink %s: %d attempts failed, asked again in %g s, one event at a time%s",
                self._name,
                self._failed,
                round(self.probe_at - now, 1),
                more,
                extra={"sink": self._name},
            )

    def _close(self) -> None:
        self.is_open = self._probing = self._due = self._resumed = False
        self.opened_since = None
        self._failed = 0
        self._cancel_timer()
        if self._logged:
            self._logged = False
            _log.info("sink %s answers again", self._name, extra={"sink": self._name})
        for token, callback in tuple(self._callbacks.items()):
            if token in self._callbacks and not self.is_open:
                callback()

    def _wait(self, now: float, retry_after: float) -> None:
        """Set the time of the next probe."""
        wait = 0.0 if self._resumed else _PROBES.wait(self._failed_probes + 1, retry_after)
        self._set_timer(now + wait)

    def _set_timer(self, probe_at: float) -> None:
        self._probing = self._due = self._resumed = False
        self.probe_at = probe_at
        self._cancel_timer()
        self._timer = self._call_at(probe_at, self._on_timer)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._cancel_timer()
        self._due = True
        for token, callback in tuple(self._callbacks.items()):
            if token not in self._callbacks:
                continue
            callback()
            if self._probing:
                # An event that always fails must not be everybody's probe for ever.
                if token in self._callbacks:
                    self._come_last(token)
                return
        if self._callbacks:  # who was called first may take it in a moment
            self._come_last(next(iter(self._callbacks)))

    def _come_last(self, token: object) -> None:
        self._callbacks[token] = self._callbacks.pop(token)


def _says_down(failure: Failure) -> bool:
    return (
        failure.outcome is Outcome.RELEASED
        and failure.reason in _DOWN
        and failure.status not in _OF_ONE_EVENT
    )
