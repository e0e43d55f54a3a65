"""The dispatcher of a lane: lists to the sink, order per key, and retries.

Deliveries come in as lists, each with one event. The sink gets a list at once if it has none, and
more of what has gathered, a few at a time once much is under way, so that lists grow under load and
are short when idle.
While a key is under way or waits for its retry, later events of that key wait behind it and no
other key does. What becomes of each delivery is told to the lane (`Ends`), which alone settles.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from gateway.batch import Batch, Ends
from gateway.delivery import Delivery, Failure, Outcome, Reason
from gateway.interfaces import PromptSink, ResumingSink
from gateway.key_queue import KeyQueue
from gateway.metrics import SinkMetrics
from gateway.retry import RetryPolicy
from gateway.senders import Senders
from gateway.sink_health import SinkHealth
from gateway.target import Target

LISTS: Final = 4
"""Lists under way at once: more would only make them shorter."""
FEW: Final = 32
"""Events under way below which none waits to become part of a longer list, at a sink that is given
lists in a call: so much of it is idle, and one that takes long would keep them waiting."""
MAX_STRAGGLERS: Final = 60
"""Further lists, of which the sink keeps us waiting for the lesser part."""
MAX_LIST: Final = 512
"""Events in one list: beyond this a longer list saves nothing more."""
STUCK: Final = 32
"""Deliveries that wait behind a key that fails, from which on its others are put off."""
_NOBODY_THERE: Final = frozenset({None, 408, 429, 502, 503, 504})
"""No answer, or one that is given for a sink that is away: a probe that meets it uses up no retry.
Any other answer may be about the event itself, and enough of those would be probes for ever."""
_LEAST_WAIT: Final = 0.01  # a sink that holds back and says "now" must not make us spin


class Dispatcher:
    """Gives a lane's deliveries to its sink.

    Args:
        target: the sink.
        policy: when to try again.
        timeout: seconds for one attempt; None is the sink's own default.
        metrics: the sink's counters.
        ends: who is told.
        waits: whether it waits while the sink's circuit is open, and sends single probes only.
            Those do not use up `retry`.
    """

    def __init__(
        self,
        target: Target,
        policy: RetryPolicy,
        *,
        timeout: float | None,
        metrics: SinkMetrics,
        ends: Ends,
        waits: bool,
    ) -> None:
        self._target = target
        self._circuit = target.circuit
        self._policy = policy
        self._metrics = metrics
        self._ends = ends
        self._waits = waits
        self._senders = Senders(target.name, target.sink, timeout)
        self._queue = KeyQueue()
        self._failing: set[str] = set()
        self._under_way: list[Batch] = []
        self._events = 0  # of those
        self._few = FEW if isinstance(target.sink, PromptSink) else 0
        self._straggling: set[Batch] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = math.inf
        self._health = SinkHealth(target.name)
        self._resumed = 0
        self._leaves_stored = False
        self._is_woken = False  # `_on_turn` is to come
        self._is_busy = False  # a list begins or ends
        self._closed = False

    @property
    def has_failing(self) -> bool:
        """Whether any key's latest event could not be delivered."""
        return bool(self._failing)

    def count_of(self, key: str) -> int:
        """Return how many deliveries of a key have not ended."""
        return sum(delivery.events[0].key == key for delivery in self.unfinished())

    def is_stuck(self, key: str) -> bool:
        """Whether a key fails though its sink takes others, and much of it waits already."""
        if key not in self._failing or self._circuit.is_open:
            return False
        return self._queue.waiting_behind(key) >= STUCK

    @property
    def is_sending(self) -> bool:
        """Whether a list is under way."""
        return bool(self._under_way)

    @property
    def is_held_up(self) -> bool:
        """Whether something waits here for a sink that is down, and asks whether it is back."""
        return self._circuit.is_open and (self.is_sending or self._queue.has_any)

    @property
    def _has_room(self) -> bool:
        """Whether another list may be under way."""
        if self._events < self._few:
            return True
        return len(self._under_way) - len(self._straggling) < LISTS

    def start(self) -> None:
        """Listen to the sink and its circuit."""
        if isinstance(self._target.sink, ResumingSink):
            self._target.sink.on_resumed(self._resume)
        if self._waits:
            self._unsubscribe = self._circuit.subscribe(self._on_circuit)

    def put(self, deliveries: Sequence[Delivery]) -> None:
        """Queue deliveries of one event each, in order."""
        if self._closed:
            self._ends.given_up(deliveries)
            return
        self._queue.put(deliveries)
        if self._under_way or self._is_busy:
            self._wake()
        else:  # nothing is gained by waiting for more
            self._begin()

    def unfinished(self) -> list[Delivery]:
        """Return every delivery that has not ended, in the order of arrival."""
        found = [delivery for batch in self._under_way for delivery in batch.deliveries]
        found += self._queue.all()
        # Of one key they are in order already, and `sort` is stable.
        found.sort(key=_received_at)
        return found

    def hurry(self, deadline: float) -> None:
        """Before a shutdown: give up waits that end after `deadline` (the loop's clock)."""
        self._deadline = deadline
        self._ends.given_up(self._queue.remove_late(deadline))

    def give_up_stored(self) -> None:
        """Forget what is in the spool, now or when it is no longer under way.

        The next life delivers it, so what waits behind it must not go before.
        """
        self._leaves_stored = True
        self._ends.given_up(self._queue.remove_from(lambda delivery: delivery.sequence > 0))

    async def stop(self) -> None:
        """Send nothing more; a list that is under way is cut off."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._waits:
            self._unsubscribe()
        for batch in tuple(self._under_way):
            if batch.sending is not None:
                batch.sending.cancel()
        await self._senders.close()
        for batch in self._under_way:
            self._queue.put_back(batch.deliveries)  # for `give_up`
            if batch.is_probe:
                self._circuit.return_probe()
        self._under_way.clear()
        self._straggling.clear()

    def give_up(self) -> None:
        """Forget everything, after `stop`."""
        self._ends.given_up(self._queue.remove(lambda _: True))

    def _begin(self) -> None:
        """Give the sink a list, if there is one and it may have another."""
        if self._closed or not (self._queue.has_ready or self._circuit.is_open):
            return
        if not self._has_room:
            return
        batch = self._take()
        if batch is None:
            return
        self._under_way.append(batch)
        self._events += len(batch.deliveries)
        batch.started, batch.resumed = time.monotonic(), self._resumed
        self._is_busy = True
        try:
            batch.sending = self._senders.send(
                [delivery.events[0] for delivery in batch.deliveries],
                partial(self._ended, batch),
                partial(self._accepted, batch),
            )
        finally:
            self._is_busy = False
        self._wake()  # what is left is another list's

    def _ended(self, batch: Batch, failures: Sequence[Failure]) -> None:
        """Go on after what the sink says of a list."""
        if self._is_busy:  # it answers while it is being called, or while another list ends
            asyncio.get_running_loop().call_soon(self._ended, batch, failures)
            return
        if batch not in self._under_way:
            return
        self._under_way.remove(batch)
        self._events -= len(batch.deliveries)
        batch.sending = None  # which refers to the batch: both would wait for the collector
        self._straggling.discard(batch)
        self._metrics.seconds.observe(time.monotonic() - batch.started, len(batch.deliveries))
        self._is_busy = True
        try:
            self._settle(batch, batch.remaining(failures))
            if batch.resumed != self._resumed:  # after these were released
                self._unpark(math.inf)
        except Exception as error:  # noqa: BLE001 - no sink's business, nor its connection's
            self._senders.died(error)
        finally:
            self._is_busy = False
        self._begin()

    def _take(self) -> Batch | None:
        if not (self._waits and self._circuit.is_open):
            deliveries, keys = self._queue.take(MAX_LIST)
            return Batch(deliveries, keys, is_probe=False) if deliveries else None
        # One event asks whether the sink is back; each time another key's, for what fails again
        # and again may be to blame itself.
        now = asyncio.get_running_loop().time()
        if self._queue.has_any and self._circuit.take_probe(now):
            batch = Batch(*self._queue.take_one(now), is_probe=True)
            if batch.deliveries:
                return batch
            self._circuit.return_probe(self._queue.next_allowed)
        return None

    def _accepted(self, batch: Batch, positions: Sequence[int]) -> None:
        """End what the sink has, though it is not through with its list."""
        if batch not in self._under_way:
            return
        ended, keys = batch.end(positions)
        if not ended:
            return
        self._events -= len(ended)
        self._metrics.seconds.observe(time.monotonic() - batch.started, len(ended))
        self._health.note(len(ended), ())
        self._failing.difference_update(keys)
        self._metrics.sent += len(ended)
        self._circuit.succeeded()
        try:
            self._ends.delivered(ended)
        except Exception as error:  # noqa: BLE001 - as in `_ended`
            self._senders.died(error)
        self._queue.end_turn(keys)
        if (
            batch.is_straggling
            and not self._closed
            and batch not in self._straggling
            and len(self._straggling) < MAX_STRAGGLERS
        ):
            self._straggling.add(batch)
        self._wake()

    def _settle(self, batch: Batch, failures: Sequence[Failure]) -> None:
        self._health.note(len(batch.deliveries), failures)
        if self._failing:
            self._failing.difference_update(batch.keys)
        if not failures:
            self._metrics.sent += len(batch.deliveries)
            self._circuit.succeeded()
            self._ends.delivered(batch.deliveries)
        else:
            if len(failures) < len(batch.deliveries):
                self._circuit.succeeded()
            elif batch.is_whole:  # of any other the sink has taken something
                self._circuit.failed(failures, asyncio.get_running_loop().time())
            self._settle_some(batch, failures)
        self._queue.end_turn(batch.keys)
        if self._leaves_stored:
            self.give_up_stored()
        if failures and any(failure.outcome is Outcome.RELEASED for failure in failures):
            self._ends.troubled()

    def _settle_some(self, batch: Batch, failures: Sequence[Failure]) -> None:
        """End what is done; keep the rest of each failed key, in order, until its retry."""
        failed = {failure.position: failure for failure in failures}
        retries: dict[str, tuple[float, list[Delivery]]] = {}
        failed_keys: set[str] = set()
        asked: dict[str, float] = {}  # the sink's own Retry-After
        delivered: list[Delivery] = []
        for position, delivery in enumerate(batch.deliveries):
            failure = failed.get(position)
            if failure is None:
                delivered.append(delivery)
                continue
            key = delivery.events[0].key
            if failure.reason is Reason.HELD and key in failed_keys:
                wait: float | None = 0.0
            else:
                failed_keys.add(key)
                wait = self._judge(delivery, failure, is_probe=batch.is_probe)
                asked[key] = min(failure.retry_after or 0.0, self._policy.retry_after_max)
            if wait is not None:
                due, again = retries.setdefault(key, (wait, []))
                again.append(delivery)
                retries[key] = (max(due, wait), again)
        if delivered:
            self._metrics.sent += len(delivered)
            self._ends.delivered(delivered)
        self._failing.update(retries)
        for key, (wait, again) in retries.items():
            self._queue.again(key, again)
            if wait > 0:
                batch.keys.discard(key)
                now = asyncio.get_running_loop().time()
                self._park(key, now + wait, now + asked.get(key, 0.0))
        self._set_timer()

    def _park(self, key: str, due: float, not_before: float) -> None:
        """Let a key wait, or give it up if that would be after the end of a drain."""
        if due > self._deadline:
            self._ends.given_up(self._queue.remove_key(key))
        else:
            self._queue.park(key, due, not_before)

    def _judge(self, delivery: Delivery, failure: Failure, *, is_probe: bool) -> float | None:
        """Return the seconds to wait before a retry, or None when the delivery has ended."""
        policy = self._policy
        if failure.reason is Reason.HELD and failure.retry_after is not None:
            return max(failure.retry_after, _LEAST_WAIT)
        self._metrics.failed[failure.reason.value] += 1
        delivery.failed_first_at = delivery.failed_first_at or time.time()
        if not is_probe or failure.status not in _NOBODY_THERE:
            delivery.attempts += 1
        if failure.outcome is Outcome.RELEASED and delivery.attempts <= policy.retry:
            self._metrics.retried += 1
            if is_probe and self._circuit.is_open:
                return math.inf  # all others ask before it asks again; it goes when one was taken
            return policy.wait(max(delivery.attempts, 1), failure.retry_after)
        self._ends.failed(delivery, failure)
        return None

    def _wake(self) -> None:
        """Send what is ready in the event loop's next turn: until then more may come."""
        if self._queue.has_ready and self._has_room:
            self._wake_anyway()

    def _wake_anyway(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            asyncio.get_running_loop().call_soon(self._on_turn)

    def _on_turn(self) -> None:
        self._is_woken = False
        self._begin()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._queue.next_due
        if due < math.inf and not self._closed:
            self._timer = asyncio.get_running_loop().call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._unpark(asyncio.get_running_loop().time() + 0.001)

    def _on_circuit(self) -> None:
        """Go on: the circuit has closed, or it is time for a probe."""
        if self._circuit.is_open:
            self._wake_anyway()
        else:
            self._queue.hasten(asyncio.get_running_loop().time())
            self._set_timer()
            self._wake()

    def _resume(self) -> None:
        """Try again what waits for its retry: the sink says that it can take it."""
        self._resumed += 1
        self._circuit.resume(asyncio.get_running_loop().time())
        self._unpark(math.inf)

    def _unpark(self, now: float) -> None:
        """End the waits that are due."""
        self._queue.unpark(now)
        self._set_timer()
        self._wake()


def _received_at(delivery: Delivery) -> float:
    return delivery.received_at
