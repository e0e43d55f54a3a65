"""Messages that brought no event, and that their sender forgets once they are acknowledged.

The dead letters have to keep them first (`Intake.undecodable`). When that fails, one at a time is
handed in again, with back-off, and the others wait until one was kept.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Final

from bindings.binding import Message
from gateway.interfaces import Intake
from gateway.spool import StoreError

FIRST_DELAY: Final = 0.5
"""Seconds until what was not kept is handed in again; doubled up to `LAST_DELAY`."""
LAST_DELAY: Final = 30.0
_UNIT_BYTES: Final = 65536


class Undecodable:
    """One message that brought no event.

    Args:
        message: as it came.
        reason: as of `Intake.undecodable`.
        detail: as of `Intake.undecodable`.
        on_asked: called before it is handed in; False if nobody wants that any more.
        on_answered: called after each `on_asked` that was True, with whether it is kept.
    """

    __slots__ = ("detail", "message", "on_answered", "on_asked", "reason", "weight")

    def __init__(
        self,
        message: Message,
        reason: str,
        detail: str,
        on_asked: Callable[[], bool],
        on_answered: Callable[[bool], None],
    ) -> None:
        self.message = message
        self.reason = reason
        self.detail = detail
        self.on_asked = on_asked
        self.on_answered = on_answered
        # What is refused for its size is larger than what the limits of a source count on.
        self.weight = 1 + len(message.payload or b"") // _UNIT_BYTES


class Keeper:
    """Hands undecodable messages in until each is kept.

    Args:
        on_less: called when it holds less than before.

    Attributes:
        weight: how much it holds, in messages; one counts once more for each 64 KiB.
    """

    def __init__(self, on_less: Callable[[], None]) -> None:
        self.weight = 0
        self._on_less = on_less
        self._intake: Intake | None = None
        self._waiting: deque[Undecodable] = deque()
        self._failing = False
        self._attempt = 0
        self._timer: asyncio.TimerHandle | None = None

    def open(self, intake: Intake) -> None:
        """Begin."""
        self._intake = intake

    def close(self) -> None:
        """Hand nothing in any more; what is not kept stays unacknowledged."""
        self._intake = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def keep(self, item: Undecodable) -> None:
        """Hand a message in, now or when the others before it have been kept."""
        self.weight += item.weight
        self._hand_in(item)

    def _hand_in(self, item: Undecodable) -> None:
        if self._failing or self._intake is None:
            self._waiting.append(item)
        else:
            self._ask(item, self._intake)

    def _ask(self, item: Undecodable, intake: Intake) -> bool:
        """Hand a message in, unless nobody wants it any more; return whether it was wanted."""
        if not item.on_asked():
            self._forget(item)
            return False

        def on_kept(error: StoreError | None) -> None:
            is_kept = error is None
            if is_kept:
                self._failing, self._attempt = False, 0
                self._forget(item)
            else:
                self._failing = True
                self._waiting.append(item)
                self._set_timer()
            item.on_answered(is_kept)
            if is_kept and self._timer is None:
                self._hand_in_all()

        intake.undecodable(item.message, item.reason, item.detail, on_kept)
        return True

    def _forget(self, item: Undecodable) -> None:
        self.weight -= item.weight
        self._on_less()

    def _hand_in_all(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for item in waiting:
            self._hand_in(item)

    def _set_timer(self) -> None:
        if self._timer is not None or self._intake is None:
            return
        delay = min(FIRST_DELAY * 2 ** min(self._attempt, 16), LAST_DELAY)
        delay *= 1 + random.random() / 4  # noqa: S311 - no secret
        self._attempt += 1
        self._timer = asyncio.get_running_loop().call_later(delay, self._try_one)

    def _try_one(self) -> None:
        self._timer = None
        if not self._failing:  # one that was under way has been kept meanwhile
            self._hand_in_all()
            return
        while self._waiting and self._intake is not None:
            if self._ask(self._waiting.popleft(), self._intake):
                return
        self._failing = False  # nobody wants any of them
