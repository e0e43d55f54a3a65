"""What waits to be sent, in order per key: one key's trouble holds back nobody else."""

import heapq
import math
from collections import deque
from collections.abc import Callable, Collection, Sequence

from gateway.delivery import Delivery


class KeyQueue:
    """Deliveries of one event each, in order of `Event.key`.

    A key that was taken is under way until `end_turn` or `park`: its later deliveries wait behind
    it. Times are the event loop's.
    """

    def __init__(self) -> None:
        self._ready: deque[Delivery] = deque()
        self._busy: set[str] = set()  # the keys under way or parked
        # By key, of those behind which something waits for its turn.
        self._behind: dict[str, list[Delivery]] = {}
        # A heap of (due, serial, key, not before).
        self._parked: list[tuple[float, int, str, float]] = []
        self._serial = 0

    @property
    def has_ready(self) -> bool:
        """Whether `take` may find something."""
        return bool(self._ready)

    @property
    def has_any(self) -> bool:
        """Whether `take_one` may find something."""
        return bool(self._ready or self._parked)

    @property
    def next_due(self) -> float:
        """When the first parked key is due; infinity if none is parked."""
        return self._parked[0][0] if self._parked else math.inf

    def put(self, deliveries: Sequence[Delivery]) -> None:
        """Queue deliveries behind what is there."""
        self._ready.extend(deliveries)

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        """Queue deliveries before what is there."""
        self._ready.extendleft(reversed(deliveries))

    def take(self, limit: int) -> tuple[list[Delivery], set[str]]:
        """Return what may go now and its keys, which are under way from here on."""
        ready, busy = self._ready, self._busy
        if not ready:
            return [], set()
        if len(ready) == 1:  # a lone event, for which the ways of lists cost more than they save
            delivery = ready.popleft()
            key = delivery.events[0].key
            if key in busy:
                self._wait_behind(key, delivery)
                return [], set()
            busy.add(key)
            return [delivery], {key}
        if len(ready) <= limit:
            taken = list(ready)
            ready.clear()
        else:
            taken = [ready.popleft() for _ in range(limit)]
        order = [delivery.events[0].key for delivery in taken]
        keys = set(order)
        if not busy.isdisjoint(keys):
            keys -= busy
            taken = self._free(taken, order, keys)
            while ready and len(taken) < limit:  # others may go in the place of those
                delivery = ready.popleft()
                key = delivery.events[0].key
                if key in keys or key not in busy:
                    keys.add(key)
                    taken.append(delivery)
                else:
                    self._wait_behind(key, delivery)
        busy |= keys
        return taken, keys

    def _free(
        self, deliveries: Sequence[Delivery], order: Sequence[str], keys: set[str]
    ) -> list[Delivery]:
        """Return those of `keys`; the others wait behind theirs."""
        free: list[Delivery] = []
        for delivery, key in zip(deliveries, order, strict=True):
            if key in keys:
                free.append(delivery)
            else:
                self._wait_behind(key, delivery)
        return free

    def _wait_behind(self, key: str, delivery: Delivery) -> None:
        waiting = self._behind.get(key)
        if waiting is None:
            self._behind[key] = [delivery]
        else:
            waiting.append(delivery)

    def take_one(self, now: float) -> tuple[list[Delivery], set[str]]:
        """Return one delivery: one that has not failed before, else of a key that is not parked.

        A parked key may end its wait early for this, but never before `park` allowed.
        """
        passed: set[str] = set()
        for position, delivery in enumerate(self._ready):
            key = delivery.events[0].key
            if not (delivery.attempts or key in passed or key in self._busy):
                del self._ready[position]
                self._busy.add(key)
                return [delivery], {key}
            passed.add(key)
        while self._ready:
            taken = self.take(1)
            if taken[0]:
                return taken
        for entry in sorted(self._parked):
            if entry[3] > now:
                continue
            self._parked.remove(entry)
            heapq.heapify(self._parked)
            key = entry[2]
            waiting = self._behind.get(key)
            if waiting:
                return [waiting.pop(0)], {key}
            self._busy.discard(key)
        return [], set()

    def again(self, key: str, deliveries: Sequence[Delivery]) -> None:
        """Put deliveries of a key under way before those that wait behind it."""
        self._behind[key] = [*deliveries, *self._behind.get(key, ())]

    def waiting_behind(self, key: str) -> int:
        """Return how many deliveries wait behind a key that is under way or parked."""
        return len(self._behind.get(key, ()))

    def end_turn(self, keys: Collection[str]) -> None:
        """Let what waits behind keys under way go next."""
        self._busy.difference_update(keys)
        if self._behind:
            for key in keys:
                waiting = self._behind.pop(key, None)
                if waiting:
                    self.put_back(waiting)

    @property
    def next_allowed(self) -> float:
        """When the first parked key may end its wait early; 0 if none is parked."""
        return min((entry[3] for entry in self._parked), default=0.0)

    def park(self, key: str, due: float, not_before: float = 0.0) -> None:
        """Let a key under way wait, with all that is behind it.

        Args:
            key: which.
            due: when its wait ends by itself.
            not_before: no part of it goes earlier, whatever happens.
        """
        self._serial += 1
        heapq.heappush(self._parked, (due, self._serial, key, not_before))

    def hasten(self, now: float) -> None:
        """End every wait that may end early; the others end as soon as they may."""
        parked, self._parked = sorted(self._parked), []
        for _, serial, key, not_before in parked:
            if not_before > now:
                heapq.heappush(self._parked, (not_before, serial, key, not_before))
            else:
                self.end_turn((key,))

    def unpark(self, now: float) -> None:
        """End the waits that are due."""
        while self._parked and self._parked[0][0] <= now:
            self.end_turn((heapq.heappop(self._parked)[2],))

    def remove_key(self, key: str) -> Sequence[Delivery]:
        """Return what waits behind a key under way; it ends its turn."""
        self._busy.discard(key)
        return self._behind.pop(key, ())

    def remove_late(self, deadline: float) -> list[Delivery]:
        """Return what waits for a moment after `deadline`; it is here no more."""
        late = [entry for entry in self._parked if entry[0] > deadline]
        self._parked = [entry for entry in self._parked if entry[0] <= deadline]
        heapq.heapify(self._parked)
        return [delivery for entry in late for delivery in self.remove_key(entry[2])]

    def remove(self, wanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Return every delivery here that is wanted; it is here no more."""
        removed = [delivery for delivery in self.all() if wanted(delivery)]
        self._ready = deque(delivery for delivery in self._ready if not wanted(delivery))
        for key, waiting in self._behind.items():
            self._behind[key] = [delivery for delivery in waiting if not wanted(delivery)]
        return removed

    def remove_from(self, wanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Return every delivery here that is wanted, and what waits behind it; as `remove`."""
        keys: set[str] = set()
        found: set[Delivery] = set()
        for delivery in self.all():
            key = delivery.events[0].key
            if wanted(delivery):
                keys.add(key)
            if key in keys:
                found.add(delivery)
        return self.remove(found.__contains__)

    def all(self) -> list[Delivery]:
        """Return everything that waits, each key's in order."""
        waiting = [delivery for behind in self._behind.values() for delivery in behind]
        return [*waiting, *self._ready]
