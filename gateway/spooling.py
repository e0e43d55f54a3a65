"""How a lane uses its spool: when events go through it, and how they come back.

Everything here happens in the event loop's thread, so each change of state is one step. A delivery
that has a `sequence` is in the spool and has been answered for; it is done when it has ended.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bindings.errors import CloudEventError
from gateway import stored_event
from gateway.allowance import Allowance
from gateway.deferred import Deferred
from gateway.delivery import ACCEPTED, DRAINING, Delivery, Outcome, Reason, Settlement, settle_all
from gateway.dispatcher import Dispatcher
from gateway.spool import Spool, StoreError
from gateway.throttle import Throttle

_log = logging.getLogger(__name__)

READ_BYTES: Final = 4 * 1024 * 1024
"""Bytes of records fetched from the spool at a time."""
_READ_AGAIN_SECONDS: Final = 1.0
_NO_END: Final = 1 << 63
DIVERT_AGAIN_SECONDS: Final = 1.0
"""Until the disk is asked again that would not store what waits for a sink."""
_FETCHES_PER_SECOND: Final = 10
"""How often events are fetched when there is a rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolUse:
    """A spool, and what it is used for.

    Attributes:
        spool: open.
        always: whether an answer is given as soon as an event is stored (`ack: stored`).
        after: seconds after which an event that the sink has not taken yet goes to the spool.
        rate: events per second fetched from a backlog; None is as many as the sink takes.
        window: most stored events in memory.
    """

    spool: Spool
    always: bool
    after: float
    rate: float | None
    window: int


class Spooling:
    """The spool at work in a lane.

    Args:
        name: the lane's, for logs.
        use: the spool and how it is used.
        dispatcher: the lane's.
        on_done: called with the number of deliveries that leave the route's window.
        on_stored: called when the disk has said what became of a list.

    Attributes:
        is_on: whether events go through the spool at the moment.
        is_diverting: whether the disk has yet to say whether it stores what the dispatcher has.
            Nothing that is given up is released before: it may be in the spool, and a copy that
            comes to the next life would be taken for a duplicate of it.
    """

    def __init__(
        self,
        name: str,
        use: SpoolUse,
        dispatcher: Dispatcher,
        *,
        on_done: Callable[[int], None],
        on_stored: Callable[[], None],
    ) -> None:
        self._name = name
        self._use = use
        self._spool = use.spool
        self._dispatcher = dispatcher
        self._on_done = on_done
        self._on_stored = on_stored
        self._low = use.window - max(use.window >> 2, 1)
        self._fed = 0  # stored events in the dispatcher
        self._left_until = 0  # events before it, from the spool's position on, are on disk only
        self._allowance = Allowance(use.rate, 1 / _FETCHES_PER_SECOND)
        self._fetch_timer: asyncio.TimerHandle | None = None
        self._watch_timer: asyncio.TimerHandle | None = None
        self._divert_at = 0.0
        self._is_ending = False
        self._deadline = math.inf
        self._unanswered: list[int] = []  # the numbers of lists
        self._appended = 0
        self._given_up: list[Delivery] = []  # while diverting
        self._unreadable = 0
        self._lines = Throttle()
        self._why = ""  # it is on
        self._is_told = False  # that it is on
        self._deferred = Deferred(use.spool, dispatcher, self._hand_over)
        self._is_refusal_told = False
        self.is_on = use.always
        self.is_diverting = False

    @property
    def appending(self) -> int:
        """Lists of which the disk has not said whether they are stored."""
        return len(self._unanswered)

    @property
    def spool(self) -> Spool:
        """The spool itself."""
        return self._spool

    @property
    def damaged(self) -> int:
        """Events that were lost to damage since the start."""
        return self._spool.damaged + self._unreadable

    @property
    def _exposed(self) -> int:
        """Events that would be delivered twice if the process were killed now."""
        return self._fed + self._spool.unsaved

    def start(self) -> None:
        """Begin with what an earlier life has left."""
        if self._spool.pending:
            self.is_on = self._is_told = True
            self._left_until = _NO_END
            self._fetch()

    def put(self, deliveries: Sequence[Delivery]) -> None:
        """Take new deliveries."""
        if self.is_on:
            self._append(deliveries, self._stored, self._not_stored)
            return
        self._dispatcher.put(deliveries)
        if self._watch_timer is None:
            self._watch_in(self._use.after)

    def divert(self, why: str) -> None:
        """Put everything that has not ended into the spool, and what comes from now on, too."""
        if self.is_on or self._is_ending or time.monotonic() < self._divert_at:
            return
        unfinished = self._dispatcher.unfinished()
        if not unfinished:
            return
        self._why = why
        self.is_on = self.is_diverting = True
        # The spool is empty; what is appended now comes from memory.
        self._left_until = self._spool.position
        self._append(unfinished, self._diverted, self._not_diverted)

    def ended(self, deliveries: Sequence[Delivery], settlement: Settlement) -> None:
        """Settle deliveries that the sink or the dead letters have, or that nobody wants."""
        stored, unstored = _parted(deliveries)
        if stored:
            self._fed -= len(stored)
            self._spool.done(delivery.sequence for delivery in stored)
            self._hand_over(self._deferred.due(stored))
        if unstored:
            self._settle(unstored, settlement)
        self._go_on()

    def given_up(self, deliveries: Sequence[Delivery]) -> None:
        """Release deliveries; those in the spool stay there."""
        stored, unstored = _parted(deliveries)
        self._fed -= len(stored)
        if self.is_diverting:
            self._given_up += unstored
        else:
            self._settle(unstored, DRAINING)

    def hurry(self, deadline: float) -> None:
        """Leave to the next life what is in the spool; new events are still stored.

        What would end after `deadline` (the loop's clock) is given up, unless it is being stored.
        """
        self._deadline = deadline
        self._stop_fetching()
        self._leave()

    def _leave(self) -> None:
        """Give up what was given up, now that it is known what is stored."""
        if self.is_diverting:
            return
        given_up, self._given_up = self._given_up, []
        self._settle([delivery for delivery in given_up if not delivery.settled], DRAINING)
        if self._is_ending:
            self._dispatcher.give_up_stored()
            self._dispatcher.hurry(self._deadline)

    def _stop_fetching(self) -> None:
        self._is_ending = True
        self._deferred.close()
        for timer in (self._fetch_timer, self._watch_timer):
            if timer is not None:
                timer.cancel()

    def close(self) -> None:
        """Store what is queued and give the answers; it waits for the disk."""
        self._stop_fetching()
        self._spool.close()

    def _append(
        self,
        deliveries: Sequence[Delivery],
        on_stored: Callable[[Sequence[Delivery], int], None],
        on_refused: Callable[[Sequence[Delivery], StoreError | None, int], None],
    ) -> None:
        """Append; the answer comes with the first sequence number, or with the error.

        An error also comes with how many earlier lists still wait for theirs: what finds no room
        is refused at once.
        """
        records = [
            stored_event.encode(delivery.events[0], delivery.source) for delivery in deliveries
        ]
        self._appended += 1
        number = self._appended

        def answered(first: int | None, error: StoreError | None) -> None:
            earlier = self._unanswered.index(number)
            del self._unanswered[earlier]
            if first is None:
                on_refused(deliveries, error, earlier)
            else:
                on_stored(deliveries, first)
            self._go_on()
            self._on_stored()

        self._unanswered.append(number)
        self._spool.append(records, answered)

    def _stored(self, deliveries: Sequence[Delivery], first: int) -> None:
        """Answer for new deliveries, and hand them over from memory if nothing is before them."""
        end = first + len(deliveries)
        hand_over = (
            self._spool.position == first
            and self._exposed + len(deliveries) <= self._use.window
            and not self._is_ending
        )
        for sequence, delivery in enumerate(deliveries, first):
            delivery.sequence = sequence
        if hand_over:
            self._spool.skip(end)
        else:
            self._left_until = end
        self._settle(deliveries, ACCEPTED)
        if hand_over:
            self._hand_over(self._deferred.sift(deliveries))

    def _not_stored(
        self, deliveries: Sequence[Delivery], error: StoreError | None, earlier: int
    ) -> None:
        """Go on without the disk as far as the order of keys allows it.

        Not if the sink is down: the window would be full of what nobody stores when the disk can.
        """
        is_next = not earlier and self._spool.position >= self._left_until
        if self._is_ending and self._spool.pending:
            is_next = False  # some of that stays there
        if is_next and not self._dispatcher.is_held_up:
            self._dispatcher.put(deliveries)
            return
        refused = Settlement(Outcome.RELEASED, Reason.NOT_STORED, 1.0, str(error))
        self._settle(deliveries, refused)

    def _diverted(self, deliveries: Sequence[Delivery], first: int) -> None:
        """Answer for what the dispatcher has, as far as it has not ended meanwhile."""
        self.is_diverting = self._is_refusal_told = False
        more = self._lines.pass_on("on")
        self._is_told = more is not None
        if more is not None:
            _log.info("%s: events go through the spool: %s%s", self._name, self._why, more)
        self._spool.skip(first + len(deliveries))
        ended: list[int] = []
        stored: list[Delivery] = []
        for sequence, delivery in enumerate(deliveries, first):
            if delivery.settled:
                ended.append(sequence)
            else:
                delivery.sequence = sequence
                stored.append(delivery)
        self._fed += len(stored)
        self._spool.done(ended)
        self._settle(stored, ACCEPTED)
        self._leave()

    def _not_diverted(
        self, _deliveries: Sequence[Delivery], error: StoreError | None, _earlier: int
    ) -> None:
        """Let the senders wait for the sink, and ask the disk again later."""
        self.is_diverting = False
        self._leave()
        # The spool itself tells that it is full or fails, but not that one list is too large.
        is_too_large = error is not None and error.full and not self._spool.is_full
        if is_too_large and not self._is_refusal_told:
            self._is_refusal_told = True
            _log.warning("%s: %s; senders wait for the sink", self._name, error)
        self._divert_at = time.monotonic() + DIVERT_AGAIN_SECONDS

    def _hand_over(self, deliveries: Sequence[Delivery]) -> None:
        """Give stored events to the dispatcher."""
        self._fed += len(deliveries)
        self._dispatcher.put(deliveries)

    def _settle(self, deliveries: Sequence[Delivery], settlement: Settlement) -> None:
        self._on_done(len(deliveries))
        settle_all(deliveries, settlement)

    def _go_on(self) -> None:
        """Fetch more, or leave the spool when it is empty."""
        if not self.is_on:
            return
        if self.appending or self._spool.pending or self._use.always:
            self._fetch()
            return
        self.is_on = False
        if self._is_told:
            _log.info("%s: the spool is empty", self._name)
        if self._watch_timer is None:  # what could not be stored waits for the sink
            self._watch_in(self._use.after)

    def _fetch(self) -> None:
        """Hand over what is on disk only, as far as there is room for it in memory."""
        left = self._left_until - self._spool.position
        if left <= 0 or self._is_ending or self._fetch_timer is not None:
            return
        if self._exposed > self._low:
            if self._fed <= self._low:  # else whatever ends comes here again
                self._spool.save(self._go_on)
            return
        room = self._allowance.of(min(left, self._use.window - self._exposed))
        if room <= 0:
            self._fetch_in(1 / _FETCHES_PER_SECOND)
            return
        records = self._spool.read(room, READ_BYTES)
        self._allowance.spend(len(records))
        deliveries = [
            delivery
            for sequence, record in records
            if (delivery := self._delivery_of(sequence, record)) is not None
        ]
        now = self._deferred.sift(deliveries)
        self._hand_over(now)
        if records and len(now) < room:  # large ones, damage, or put off
            self._fetch_in(0.0)
        elif not records and self._spool.unread:  # the disk can't be read at the moment
            self._fetch_in(_READ_AGAIN_SECONDS)
        elif not records:
            self._left_until = self._spool.position

    def _fetch_in(self, seconds: float) -> None:
        def fetch() -> None:
            self._fetch_timer = None
            self._go_on()

        self._fetch_timer = asyncio.get_running_loop().call_later(seconds, fetch)

    def _delivery_of(self, sequence: int, record: bytes) -> Delivery | None:
        try:
            return stored_event.delivery_of(record, sequence)
        except CloudEventError as error:
            _log.error("%s: record %d holds no event: %s", self._name, sequence, error)
            self._unreadable += 1
            self._spool.done((sequence,))
            return None

    def _watch_in(self, seconds: float) -> None:
        self._watch_timer = asyncio.get_running_loop().call_later(seconds, self._watch)

    def _watch(self) -> None:
        """Look whether the sink lets something wait for too long."""
        self._watch_timer = None
        unfinished = [] if self.is_on else self._dispatcher.unfinished()
        if not unfinished:
            return  # `put` watches again
        now = time.monotonic()
        due = max(unfinished[0].received_at + self._use.after, self._divert_at)
        if now < due:
            self._watch_in(due - now)
        else:
            self.divert("the sink is slow")


def _parted(deliveries: Sequence[Delivery]) -> tuple[list[Delivery], list[Delivery]]:
    """Return those that are in the spool, and the others."""
    stored = [delivery for delivery in deliveries if delivery.sequence]
    if len(stored) == len(deliveries):
        return stored, []
    return stored, [delivery for delivery in deliveries if not delivery.sequence]
