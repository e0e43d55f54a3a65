"""Hold and repeat: what a source does with a message that was released.

A protocol that has no "not now" keeps its message open meanwhile: to MQTT a negative answer would
be the end of it, and JetStream's changes the order. Of each key the first message is submitted
alone, with back-off, to see how it fares; the later ones wait behind it, and those of other keys do
not. What is held is never forgotten; when it is too much, the source stops reading (`Gate`).
"""

import asyncio
import heapq
import itertools
import math
import random
from bisect import insort
from collections.abc import Callable, Sequence
from typing import Final

from gateway.delivery import Delivery
from gateway.interfaces import Intake
from gateway.sources.keeper import Keeper
from gateway.tasks import Tasks

FIRST_DELAY: Final = 0.5
"""Seconds until what was released is submitted again; doubled up to `LAST_DELAY`."""
LAST_DELAY: Final = 30.0
LONGEST_WAIT: Final = 600.0
"""Most seconds of a sink's `Retry-After` that are honoured, as in `retry_after_max`."""

Again = Callable[[], Delivery | None]
"""Makes a delivery anew, or None if nobody wants it any more."""


class _Held:
    """What waits of one key; `probe` is the number of its first message while that is tried."""

    __slots__ = ("attempt", "is_through", "messages", "probe", "serial")

    def __init__(self) -> None:
        self.attempt = 0
        self.serial = -1  # of its valid entry among the parked
        self.is_through = False
        self.messages: list[tuple[int, Again]] = []
        self.probe: int | None = None


class Backlog:
    """What was released on a source's sessions.

    Args:
        tasks: the source's.
        limit: messages; `is_full` from there on. None if the source counts in its own way.

    Attributes:
        keeper: what brought no event and is not kept yet; it counts as well.
    """

    def __init__(self, tasks: Tasks, limit: int | None) -> None:
        self._tasks = tasks
        self._limit = math.inf if limit is None else limit
        self._intake: Intake | None = None
        self._held: dict[str, _Held] = {}
        self._count = 0
        self._parked: list[tuple[float, int, str]] = []  # heap of (due, serial, key)
        self._serials = itertools.count()
        self._next_number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._flushing = False
        self._room = asyncio.Event()
        self.keeper = Keeper(self._taken)

    def __len__(self) -> int:
        return self._count

    @property
    def holds_any(self) -> bool:
        """Whether `holds` and `passed` need to be asked at all."""
        return bool(self._held)

    @property
    def is_full(self) -> bool:
        """Whether the source should read no more; what is held already stays."""
        return self._count + self.keeper.weight >= self._limit

    def open(self, intake: Intake) -> None:
        """Begin."""
        self._intake = intake
        self.keeper.open(intake)

    def close(self) -> None:
        """Submit nothing any more; what is held stays unacknowledged."""
        self._intake = None
        self.keeper.close()
        self._room.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def room(self) -> None:
        """Return when it is not full, or closed."""
        while self.is_full and self._intake is not None:
            self._room.clear()
            await self._room.wait()

    def next_number(self, count: int = 1) -> int:
        """Return the number of a message that arrives now, for `hold` and `passed`.

        Args:
            count: how many arrive; the others have the numbers that follow.
        """
        number = self._next_number
        self._next_number += count
        return number

    def holds(self, key: str) -> bool:
        """Whether a message of that key has to wait behind an earlier one."""
        return key in self._held

    def hold(self, key: str, number: int, again: Again, retry_after: float | None = None) -> None:
        """Keep a message that was released until its time has come.

        Args:
            key: `Event.key`; those of one key are submitted one after the other.
            number: their order.
            again: what to submit.
            retry_after: seconds, when the sink said so.
        """
        held = self._held.get(key)
        is_first = held is None or held.is_through or held.probe == number
        if held is None:
            held = self._held[key] = _Held()
        self._insert(held, number, again)
        if is_first:
            held.is_through, held.probe = False, None
            delay = min(FIRST_DELAY * 2 ** min(held.attempt, 16), LAST_DELAY)
            delay *= 1 + random.random() / 4  # noqa: S311 - no secret
            held.attempt += 1
            self._park(key, held, max(delay, min(retry_after or 0.0, LONGEST_WAIT)))

    def follow(self, key: str, number: int, again: Again) -> None:
        """Keep a new message behind the one of its key that `holds` told of."""
        self._insert(self._held[key], number, again)

    def passed(self, key: str, number: int) -> None:
        """Take note that a message was settled for good; if it was the first, all may follow."""
        held = self._held.get(key)
        if held is not None and held.probe == number:
            held.probe, held.is_through, held.attempt = None, True, 0
            self._park(key, held, 0.0)

    def _insert(self, held: _Held, number: int, again: Again) -> None:
        self._count += 1
        insort(held.messages, (number, again), key=_number)

    def _park(self, key: str, held: _Held, delay: float) -> None:
        held.serial = next(self._serials)
        due = asyncio.get_running_loop().time() + delay
        heapq.heappush(self._parked, (due, held.serial, key))
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._parked and self._intake is not None and not self._flushing:
            self._timer = asyncio.get_running_loop().call_at(self._parked[0][0], self._start)

    def _start(self) -> None:
        self._timer = None
        self._flushing = True
        self._tasks.start(self._flush(), "submit again")

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._intake is not None and self._parked and self._parked[0][0] <= loop.time():
            _, serial, key = heapq.heappop(self._parked)
            held = self._held.get(key)
            if held is None or held.serial != serial:
                continue  # it was parked anew
            if held.is_through:
                await self._submit(self._take_all(held))
                self._forget_if_empty(key, held)
            elif probe := self._take_first(held):
                await self._submit([probe])
            else:
                del self._held[key]
        self._flushing = False
        self._set_timer()

    def _forget_if_empty(self, key: str, held: _Held) -> None:
        if not held.is_through:
            return  # one of them was released, and so parked
        if held.messages:
            self._park(key, held, 0.0)  # more have come in behind them meanwhile
        else:
            del self._held[key]

    def _take_first(self, held: _Held) -> Delivery | None:
        while held.messages:
            number, again = held.messages.pop(0)
            self._taken(1)
            delivery = again()
            if delivery is not None:
                held.probe = number
                return delivery
        return None

    def _take_all(self, held: _Held) -> list[Delivery]:
        messages, held.messages = held.messages, []
        self._taken(len(messages))
        return [delivery for _, again in messages if (delivery := again()) is not None]

    def _taken(self, count: int = 0) -> None:
        self._count -= count
        if not self.is_full:
            self._room.set()

    async def _submit(self, deliveries: list[Delivery]) -> None:
        if deliveries and self._intake is not None:
            await self._intake.submit(deliveries)


def _number(message: tuple[int, Again]) -> int:
    return message[0]


class Gate:
    """Hands lists in, in order, and says when the source must stop reading.

    Args:
        intake: the gateway.
        backlog: the source's; while it is full, nothing is handed in.
        tasks: the source's.
    """

    def __init__(self, intake: Intake, backlog: Backlog, tasks: Tasks) -> None:
        self._intake = intake
        self._backlog = backlog
        self._tasks = tasks
        self._waiting: list[Delivery] = []
        self._callbacks: list[Callable[[], None]] = []
        self._open = asyncio.Event()
        self._open.set()

    @property
    def is_shut(self) -> bool:
        """Whether something still waits for room, and so reading has to stop."""
        return not self._open.is_set()

    async def opened(self) -> None:
        """Return when nothing waits for room."""
        await self._open.wait()

    def submit(self, deliveries: Sequence[Delivery], on_room: Callable[[], None]) -> None:
        """Submit at once, or be shut until there was room; then `on_room` is called."""
        if not self.is_shut:
            if not deliveries and not self._backlog.keeper.weight:
                return
            if not self._backlog.is_full and (
                not deliveries or self._intake.try_submit(deliveries)
            ):
                return
            self._open.clear()
            self._tasks.start(self._wait(), "wait for room")
        self._waiting.extend(deliveries)
        self._callbacks.append(on_room)

    async def _wait(self) -> None:
        while True:
            await self._backlog.room()
            waiting, self._waiting = self._waiting, []
            await self._intake.submit(waiting)
            if not self._waiting:
                break
        self._open.set()
        callbacks, self._callbacks = self._callbacks, []
        for on_room in callbacks:
            on_room()
