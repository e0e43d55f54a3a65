"""A lane: the way of one route's events to one sink, with order per key, retries and dead letters.

Deliveries come in as lists, each with one event. A few workers take what has gathered and give it
to the sink as one list, so that lists grow under load and are short when idle. While a key is
under way or waits for its retry, later events of that key wait behind it and no other key does.
"""

import asyncio
import base64
import heapq
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from bindings.event import Event
from gateway.delivery import ACCEPTED, DRAINING, Delivery, Failure, Outcome, Reason, Settlement
from gateway.interfaces import ResumingSink, Sink
from gateway.metrics import RouteMetrics, SinkMetrics
from gateway.retry import RetryPolicy
from gateway.tasks import Tasks
from gateway.throttle import Throttle

_log = logging.getLogger(__name__)

WORKERS: Final = 4
"""Lists under way at once; a slow event then does not hold back the other keys."""
MAX_LIST: Final = 512
"""Events in one list: beyond this a longer list saves nothing more."""
MAX_ERROR_DATA: Final = 768
"""Bytes of a refusal's body kept: 1024 characters of Base64, Knative's own limit."""

_DEAD_LETTERED: Final = Settlement(Outcome.ACCEPTED, Reason.DEAD_LETTERED)


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A sink as a lane sees it.

    Attributes:
        name: its key in the configuration.
        sink: where lists are sent.
        address: what `knativeerrordest` says of it.
    """

    name: str
    sink: Sink
    address: str


class Lane:
    """One route's way to one sink.

    Args:
        target: the sink.
        policy: when to try again.
        timeout: seconds for one attempt; None is the sink's own default.
        dead_letters: the lane that takes what this one could not deliver; None is nobody.
        metrics: the sink's and the route's counters.
        on_done: called with the number of deliveries before they are settled.
    """

    def __init__(
        self,
        target: Target,
        policy: RetryPolicy,
        *,
        timeout: float | None,
        dead_letters: "Lane | None",
        metrics: tuple[SinkMetrics, RouteMetrics],
        on_done: Callable[[int], None],
    ) -> None:
        self._target = target
        self._policy = policy
        self._timeout = timeout
        self._dead_letters = dead_letters
        self._sink_metrics, self._route_metrics = metrics
        self._on_done = on_done
        self._tasks = Tasks(f"sink {target.name}")
        self._ready: deque[Delivery] = deque()
        # By key, for every key under way or parked: what waits for its turn.
        self._behind: dict[str, list[Delivery]] = {}
        self._parked: list[tuple[float, int, str]] = []  # heap of (due, serial, key)
        self._serial = 0
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = math.inf
        self._idle: deque[asyncio.Future[None]] = deque()
        self._healthy = True
        self._lines = Throttle()
        self._resumed = 0
        self._closed = False

    def start(self) -> None:
        """Start the workers."""
        if isinstance(self._target.sink, ResumingSink):
            self._target.sink.on_resumed(self._resume)
        for number in range(WORKERS):
            self._tasks.start(self._work(), f"worker {number}")

    def put(self, deliveries: Sequence[Delivery]) -> None:
        """Queue deliveries of one event each, in order."""
        if self._closed:
            for delivery in deliveries:
                self._finish(delivery, DRAINING)
            return
        self._ready.extend(deliveries)
        self._wake()

    def hurry(self, deadline: float) -> None:
        """Before a shutdown: give up waits that end after `deadline` (the loop's clock)."""
        self._deadline = deadline
        late = [key for due, _, key in self._parked if due > deadline]
        self._parked = [entry for entry in self._parked if entry[0] <= deadline]
        heapq.heapify(self._parked)
        for key in late:
            for delivery in self._behind.pop(key):
                self._finish(delivery, DRAINING)

    async def close(self) -> None:
        """Stop; what was not delivered is released."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.close()
        waiting = [delivery for behind in self._behind.values() for delivery in behind]
        left = [*self._ready, *waiting]
        self._ready.clear()
        self._behind.clear()
        self._parked.clear()
        for delivery in left:
            self._finish(delivery, DRAINING)

    async def _work(self) -> None:
        task = asyncio.current_task()
        # A sink may have swallowed the cancellation.
        while task is not None and not task.cancelling():
            batch, keys = self._take()
            if not batch:
                idle = asyncio.get_running_loop().create_future()
                self._idle.append(idle)
                await idle
                continue
            self._wake()  # what is left is another worker's
            started, resumed = time.monotonic(), self._resumed
            try:
                failures = await self._send([delivery.events[0] for delivery in batch])
            except asyncio.CancelledError:
                self._ready.extendleft(reversed(batch))  # for `close`, which releases it
                raise
            self._sink_metrics.seconds.observe(time.monotonic() - started, len(batch))
            self._settle(batch, keys, failures)
            if resumed != self._resumed:  # after these were released
                self._unpark(math.inf)

    def _take(self) -> tuple[list[Delivery], set[str]]:
        ready, behind = self._ready, self._behind
        batch: list[Delivery] = []
        keys: set[str] = set()
        while ready and len(batch) < MAX_LIST:
            delivery = ready.popleft()
            key = delivery.events[0].key
            if key not in keys:
                waiting = behind.get(key)
                if waiting is not None:
                    waiting.append(delivery)
                    continue
                behind[key] = []
                keys.add(key)
            batch.append(delivery)
        return batch, keys

    async def _send(self, events: list[Event]) -> Sequence[Failure]:
        try:
            return await self._target.sink.send(events, self._timeout)
        except (Exception, asyncio.CancelledError) as error:
            # A sink's bug must not lose events. It may also wait for something that was cancelled.
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            more = self._lines.pass_on(type(error).__name__)
            if more is not None:
                _log.exception("sink %s raised instead of reporting%s", self._target.name, more)
            return [
                Failure(position, Outcome.RELEASED, Reason.SINK_DOWN, detail=type(error).__name__)
                for position in range(len(events))
            ]

    def _settle(self, batch: list[Delivery], keys: set[str], failures: Sequence[Failure]) -> None:
        self._note_health(len(batch), failures)
        if not failures:
            self._sink_metrics.sent += len(batch)
            self._on_done(len(batch))
            for delivery in batch:
                delivery.settle(ACCEPTED)
        else:
            self._settle_some(batch, failures, keys)
        for key in keys:
            waiting = self._behind.pop(key)
            if waiting:
                self._ready.extendleft(reversed(waiting))
        self._wake()

    def _settle_some(
        self, batch: list[Delivery], failures: Sequence[Failure], keys: set[str]
    ) -> None:
        """Settle what is done; keep the rest of each failed key, in order, until its retry."""
        failed = {failure.position: failure for failure in failures}
        retries: dict[str, tuple[float, list[Delivery]]] = {}
        failed_keys: set[str] = set()
        for position, delivery in enumerate(batch):
            failure = failed.get(position)
            if failure is None:
                self._sink_metrics.sent += 1
                self._finish(delivery, ACCEPTED)
                continue
            key = delivery.events[0].key
            if failure.reason is Reason.HELD and key in failed_keys:
                wait: float | None = 0.0
            else:
                failed_keys.add(key)
                wait = self._judge(delivery, failure)
            if wait is not None:
                due, again = retries.setdefault(key, (wait, []))
                again.append(delivery)
                retries[key] = (max(due, wait), again)
        for key, (wait, again) in retries.items():
            self._behind[key][:0] = again
            if wait > 0:
                keys.discard(key)
                self._park(key, asyncio.get_running_loop().time() + wait)
        self._set_timer()

    def _park(self, key: str, due: float) -> None:
        """Let a key wait, or release it if that would be after the end of a drain."""
        if due > self._deadline:
            for delivery in self._behind.pop(key):
                self._finish(delivery, DRAINING)
            return
        self._serial += 1
        heapq.heappush(self._parked, (due, self._serial, key))

    def _judge(self, delivery: Delivery, failure: Failure) -> float | None:
        """Return the seconds to wait before a retry, or None when the event has left the lane."""
        self._sink_metrics.failed[failure.reason.value] += 1
        delivery.attempts += 1
        if failure.outcome is Outcome.RELEASED and delivery.attempts <= self._policy.retry:
            self._sink_metrics.retried += 1
            return self._policy.wait(delivery.attempts, failure.retry_after)
        verdict = Settlement(failure.outcome, failure.reason, failure.retry_after, failure.detail)
        if self._dead_letters is None:
            self._finish(delivery, verdict)
            return None

        def settled(settlement: Settlement) -> None:
            if settlement.outcome is Outcome.ACCEPTED:
                self._route_metrics.dead_lettered += 1
                self._finish(delivery, _DEAD_LETTERED)
            else:
                # A dead-letter sink that is down may yet take it: that is no refusal for good.
                self._finish(delivery, max(verdict, settlement, key=_badness))

        event = _with_error(delivery.events[0], failure, self._target.address)
        self._dead_letters.put([Delivery((event,), settled)])
        return None

    def _finish(self, delivery: Delivery, settlement: Settlement) -> None:
        self._on_done(1)
        delivery.settle(settlement)

    def _wake(self) -> None:
        while self._ready and self._idle:
            idle = self._idle.popleft()
            if not idle.done():
                idle.set_result(None)
                return

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._parked and not self._closed:
            self._timer = asyncio.get_running_loop().call_at(self._parked[0][0], self._on_timer)

    def _on_timer(self) -> None:
        self._unpark(asyncio.get_running_loop().time() + 0.001)

    def _resume(self) -> None:
        """Try again what waits for its retry: the sink says that it can take it."""
        self._resumed += 1
        self._unpark(math.inf)

    def _unpark(self, now: float) -> None:
        """End the waits that are due."""
        while self._parked and self._parked[0][0] <= now:
            key = heapq.heappop(self._parked)[2]
            self._ready.extendleft(reversed(self._behind.pop(key)))
        self._set_timer()
        self._wake()

    def _note_health(self, count: int, failures: Sequence[Failure]) -> None:
        """Log once when a sink stops taking events, and once when it takes them again.

        One that goes up and down all the time is logged now and then.
        """
        down = [failure for failure in failures if failure.outcome is Outcome.RELEASED]
        if self._healthy and len(down) == count:
            more = self._lines.pass_on("down")
            if more is None:
                return
            self._healthy = False
            _log.warning(
                "sink %s takes no events: %s %s%s",
                self._target.name,
                down[0].reason.value,
                down[0].detail,
                more,
                extra={"sink": self._target.name, "reason": down[0].reason.value},
            )
        elif not self._healthy and len(failures) < count:
            self._healthy = True
            _log.info(
                "sink %s takes events again", self._target.name, extra={"sink": self._target.name}
            )


def _is_cancelled() -> bool:
    """Whether somebody wants the current task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _badness(settlement: Settlement) -> Outcome:
    return settlement.outcome


def _with_error(event: Event, failure: Failure, address: str) -> Event:
    """Return a dead letter: the event with Knative's error extensions, older ones replaced."""
    extensions = {
        **event.extensions,
        "knativeerrordest": address,
        # Knative's Go dispatcher writes 500 where there was no answer.
        "knativeerrorcode": failure.status or 500,
    }
    if failure.body:
        body = failure.body[:MAX_ERROR_DATA]
        extensions["knativeerrordata"] = base64.b64encode(body).decode("ascii")
    else:
        extensions.pop("knativeerrordata", None)
    return event.replace(extensions=extensions)
