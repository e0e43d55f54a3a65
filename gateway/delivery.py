"""Delivery and settlement: what one protocol message brought, and how it was answered.

A source makes a `Delivery` for each message and forgets about it until `on_settled` is called,
exactly once, with the worst that became of any of its events. Only the pipeline settles.
"""

from collections.abc import Callable, Sequence
from enum import Enum, IntEnum
from typing import ClassVar, Final

import msgspec

from bindings.event import Event


class Outcome(IntEnum):
    """AMQP 1.0's words, from best to worst; the worst part of a message wins.

    RELEASED is worse than REJECTED: a message with one part that may yet succeed is repeated whole.
    """

    ACCEPTED = 0
    """Every sink of the route has it."""
    REJECTED = 1
    """Never will be: the same message would fail again."""
    RELEASED = 2
    """Not now: the sender should repeat it."""


class Reason(Enum):
    """Why a settlement is not a plain success. The values are metric labels."""

    NONE = "none"
    FILTERED = "filtered"
    """No route wanted it; that is a success."""
    DEAD_LETTERED = "dead_lettered"
    """A dead-letter sink has it; that is a success."""
    DUPLICATE = "duplicate"
    """It is safe since it came before (`dedup`); that is a success."""
    SINK_REFUSED = "sink_refused"
    """The sink said that it never will be (400, 401, 403, too large for the broker...)."""
    SINK_DOWN = "sink_down"
    """No answer, no connection, 5xx."""
    SINK_BUSY = "sink_busy"
    """Too much was sent: 429, a quota."""
    TIMEOUT = "timeout"
    """An attempt took longer than `timeout`; the outcome at the sink is unknown."""
    BUSY = "busy"
    """The gateway has no room (`limits.inflight`)."""
    NOT_STORED = "not_stored"
    """It had to be kept on disk, and the disk is full or fails."""
    DRAINING = "draining"
    """The gateway is shutting down."""
    INVALID = "invalid"
    """The message brought no valid event."""
    HELD = "held"
    """Not attempted, because an earlier event of the same key failed. Only in `Failure`."""


class Settlement(msgspec.Struct, frozen=True):
    """The answer to one message.

    Attributes:
        outcome: accepted, rejected or released.
        reason: why.
        retry_after: seconds after which a repetition has a chance, when somebody said so.
        detail: one line for the sender's diagnostic, never event data.
    """

    outcome: Outcome
    reason: Reason = Reason.NONE
    retry_after: float | None = None
    detail: str = ""


ACCEPTED: Final = Settlement(Outcome.ACCEPTED)
BUSY: Final = Settlement(Outcome.RELEASED, Reason.BUSY, 1.0, "no room for more events")
DRAINING: Final = Settlement(Outcome.RELEASED, Reason.DRAINING, 5.0, "shutting down")


class Failure(msgspec.Struct, frozen=True):
    """What a sink says of one event of its list; events it does not name were accepted.

    Attributes:
        position: index into the list that was sent.
        outcome: REJECTED (will never be) or RELEASED (may be, later).
        reason: why; HELD for an event not attempted since an earlier one of its key failed.
        status: HTTP status or the sink protocol's error number, when there was an answer.
        retry_after: seconds, when the sink said so.
        detail: one line for logs and dead letters.
        body: the first bytes of the answer's body, for `knativeerrordata`.
    """

    position: int
    outcome: Outcome
    reason: Reason
    status: int | None = None
    retry_after: float | None = None
    detail: str = ""
    body: bytes = b""

    @property
    def cause(self) -> str:
        """Reason and, if there is one, detail, for people."""
        return f"{self.reason.value}: {self.detail}" if self.detail else self.reason.value


class Delivery(msgspec.Struct, eq=False, gc=False):
    """What one protocol message brought, and how to answer it.

    The garbage collector need not look at it: settling takes its way back to the source away, and
    with that the only cycle that it can be part of.

    Attributes:
        events: one or more, in the order of the message; empty for an empty batch.
        received_at: monotonic seconds of `submit`, set by the pipeline.
        source: name of the source it came by, set by the pipeline.
        attempts: attempts that count, made by the lane that has it.
        failed_first_at: Unix seconds of the first failure; 0 before one.
        sequence: its number in the lane's spool; 0 if it isn't there.
        observer: called before the sources' answers with all deliveries that are settled alike,
            set by the pipeline for its counters.
    """

    is_listed: ClassVar[bool] = False
    """Whether its callback takes a list (`ListedDelivery`)."""

    events: Sequence[Event]
    _on_settled: Callable[..., None] | None
    received_at: float = 0.0
    source: str = ""
    attempts: int = 0
    failed_first_at: float = 0.0
    sequence: int = 0
    observer: Callable[[Sequence["Delivery"], Settlement], None] | None = None
    _pending: int = 0
    _worst: Settlement = ACCEPTED

    @property
    def settled(self) -> bool:
        """Whether the source has had its answer."""
        return self._on_settled is None

    def split(self, groups: Sequence[Sequence[Event]]) -> list["Delivery"]:
        """Return a part for each of one or more groups; this settles when the last part has.

        A delivery is split once at most, and then no longer settled directly.
        """
        self._pending = len(groups)
        parts = [Delivery(group, self._part_settled) for group in groups]
        for part in parts:
            part.received_at = self.received_at
            part.source = self.source
        return parts

    def behind(self, on_settled: Callable[[Settlement], None]) -> "Delivery":
        """Return a delivery of the same events; who makes it settles this one."""
        other = Delivery(self.events, on_settled)
        other.received_at = self.received_at
        other.source = self.source
        return other

    def settle(self, settlement: Settlement) -> None:
        """Answer the message.

        Raises:
            RuntimeError: it was settled before, which is a bug in the pipeline.
        """
        on_settled = self._on_settled
        if on_settled is None:
            raise RuntimeError("a delivery settles exactly once")
        self._on_settled = None
        if self.observer is not None:
            self.observer((self,), settlement)
        if self.is_listed:
            on_settled((self,), settlement)
        else:
            on_settled(settlement)

    def _part_settled(self, settlement: Settlement) -> None:
        if settlement.outcome > self._worst.outcome or self._worst is ACCEPTED:
            self._worst = settlement
        self._pending -= 1
        if self._pending == 0:
            self.settle(self._worst)


class ListedDelivery(Delivery, eq=False, gc=False):
    """A delivery whose source is told of all that are settled alike in one call.

    Its callback takes those deliveries, in order, and the settlement. It has to be one object for
    all of them; a method that is looked up each time is another one each time.
    """

    is_listed: ClassVar[bool] = True


def settle_all(deliveries: Sequence[Delivery], settlement: Settlement) -> None:
    """Answer messages alike; observers and sources that take lists are told in one go.

    Raises:
        RuntimeError: one was settled before, which is a bug in the pipeline.
    """
    if len(deliveries) == 1:
        deliveries[0].settle(settlement)
    else:
        _settle_runs(deliveries, settlement)


def _settle_runs(deliveries: Sequence[Delivery], settlement: Settlement) -> None:
    """Answer messages alike, in runs of those that one call tells of."""
    runs: list[tuple[int, Callable[..., None]]] = []
    told: Callable[..., None] | None = None  # who takes lists, and is told of the latest
    observer, first = None, 0
    for position, delivery in enumerate(deliveries):
        on_settled = delivery._on_settled  # noqa: SLF001 - a method call each is what this saves
        if on_settled is None:
            raise RuntimeError("a delivery settles exactly once")
        delivery._on_settled = None  # noqa: SLF001 - as above
        if on_settled is not told:
            told = on_settled if delivery.is_listed else None
            runs.append((position, on_settled))
        if delivery.observer is not observer:
            if observer is not None:
                observer(deliveries[first:position], settlement)
            observer, first = delivery.observer, position
    if observer is not None:
        observer(deliveries[first:] if first else deliveries, settlement)
    last = len(runs) - 1
    for index, (start, on_settled) in enumerate(runs):
        if not deliveries[start].is_listed:
            on_settled(settlement)
        elif last:
            stop = runs[index + 1][0] if index < last else len(deliveries)
            on_settled(deliveries[start:stop], settlement)
        else:
            on_settled(deliveries, settlement)
