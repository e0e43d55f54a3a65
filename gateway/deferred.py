"""Events of keys that fail again and again: they wait on disk, not in memory, for their turn.

Otherwise a few keys whose events the sink never takes would fill the window of stored events, and
all other keys would wait with them. Of each such key some are in memory; of the others only the
sequence numbers are.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from bindings.errors import CloudEventError
from gateway import stored_event
from gateway.delivery import Delivery
from gateway.dispatcher import Dispatcher
from gateway.spool import Spool

_log = logging.getLogger(__name__)

FETCH: Final = 32
"""How many events of a key are fetched at a time."""
_AGAIN_SECONDS: Final = 1.0


class Deferred:
    """What has been put off, by key.

    Args:
        spool: where the events are.
        dispatcher: knows which keys fail.
        hand_over: takes what is fetched, if nothing has ended that it follows.
    """

    def __init__(
        self,
        spool: Spool,
        dispatcher: Dispatcher,
        hand_over: Callable[[Sequence[Delivery]], None],
    ) -> None:
        self._hand_over = hand_over
        self._spool = spool
        self._dispatcher = dispatcher
        self._sequences: dict[str, deque[int]] = {}
        self._inside: dict[str, int] = {}  # of the same keys: how many the dispatcher has
        self._timer: asyncio.TimerHandle | None = None

    def sift(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Return those whose turn it is; the others wait on disk behind those of their key."""
        if not (self._sequences or self._dispatcher.has_failing):
            return deliveries
        now: list[Delivery] = []
        for delivery in deliveries:
            key = delivery.events[0].key
            if key in self._sequences:
                self._sequences[key].append(delivery.sequence)
            elif self._dispatcher.is_stuck(key):
                self._sequences[key] = deque((delivery.sequence,))
                self._inside[key] = self._dispatcher.count_of(key)
            else:
                now.append(delivery)
        return now

    def due(self, ended: Iterable[Delivery]) -> list[Delivery]:
        """Return what is to follow deliveries that have ended."""
        if not self._sequences:
            return []
        keys = set()
        for delivery in ended:
            key = delivery.events[0].key
            if key in self._inside:
                self._inside[key] -= 1
                keys.add(key)
        return self._fetch(keys)

    def close(self) -> None:
        """Fetch no more; all of it is in the spool."""
        self._sequences.clear()
        self._inside.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _fetch(self, keys: Iterable[str]) -> list[Delivery]:
        found: list[Delivery] = []
        for key in keys:
            if self._inside[key] < FETCH // 2:
                found += self._fetch_key(key)
        return found

    def _fetch_key(self, key: str) -> list[Delivery]:
        waiting = self._sequences[key]
        wanted = [waiting[position] for position in range(min(FETCH, len(waiting)))]
        records = self._spool.fetch(wanted)
        if records is None:  # the disk can't be read at the moment
            if self._timer is None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(_AGAIN_SECONDS, self._fetch_again)
            return []
        for _ in wanted:
            waiting.popleft()
        found = self._deliveries_of(records)
        self._inside[key] += len(found)
        if not waiting:
            del self._sequences[key], self._inside[key]
        return found

    def _deliveries_of(self, records: Sequence[tuple[int, bytes]]) -> list[Delivery]:
        found = []
        for sequence, record in records:
            try:
                found.append(stored_event.delivery_of(record, sequence))
            except CloudEventError as error:  # it was read before
                _log.error("record %d holds no event any more: %s", sequence, error)
                self._spool.done((sequence,))
        return found

    def _fetch_again(self) -> None:
        self._timer = None
        self._hand_over(self._fetch(list(self._sequences)))
