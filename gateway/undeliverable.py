"""What becomes of an event that its sink will not have."""

import asyncio
import base64
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final, Protocol

from bindings.event import Event
from bindings.json_format import encode_event
from gateway.dead_letters import DeadLetter, LetterBox, utc_text
from gateway.dedup_gate import REPLAY
from gateway.delivery import Delivery, Failure, Outcome, Reason, Settlement
from gateway.metrics import RouteMetrics
from gateway.spool import StoreError
from gateway.target import Target
from gateway.throttle import Throttle

_log = logging.getLogger(__name__)

MAX_ERROR_DATA: Final = 768
"""Bytes of a refusal's body kept: 1024 characters of Base64, Knative's own limit."""
STORE_AGAIN_SECONDS: Final = 5.0
"""Until a dead letter that could not be stored is tried again, if it must not be lost."""
_NO_ANSWER: Final = 500  # as Knative's Go dispatcher writes
_DEAD_LETTERED: Final = Settlement(Outcome.ACCEPTED, Reason.DEAD_LETTERED)


class Owner(Protocol):
    """The lane, which alone settles."""

    @property
    def is_diverting(self) -> bool:
        """Whether what has not been answered for may be in the spool in a moment."""

    def ended(self, delivery: Delivery, settlement: Settlement) -> None:
        """It has its place, with ACCEPTED, or has none."""

    def given_up(self, deliveries: Sequence[Delivery]) -> None:
        """The process ends before they have a place; those in the spool stay there."""


class DeadLetterSink(Protocol):
    """The lane to the route's dead-letter sink."""

    def put(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries of one event each."""


class Undeliverable:
    """Finds a place for events that one sink will not have.

    Args:
        route: the route's name.
        target: the sink.
        sink: the route's dead-letter sink, asked first; None is none.
        letters: the local dead letters, asked then; None keeps none.
        metrics: the route's counters.
        owner: who is told what became of each.
    """

    def __init__(
        self,
        route: str,
        target: Target,
        *,
        sink: DeadLetterSink | None,
        letters: LetterBox | None,
        metrics: RouteMetrics,
        owner: Owner,
    ) -> None:
        self._route = route
        self._target = target
        self._sink = sink
        self._letters = letters
        self._metrics = metrics
        self._owner = owner
        self._unstored: list[tuple[Delivery, Failure]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._is_ending = False
        self._lines = Throttle()
        self.pending = 0

    def take(self, delivery: Delivery, failure: Failure) -> None:
        """Find a place for an event that is not tried again."""
        self.pending += 1
        if self._sink is None:
            self._keep(delivery, failure, _verdict(failure))
            return
        event = with_error(delivery.events[0], failure, self._target.address)
        part = Delivery((event,), partial(self._sink_settled, delivery, failure))
        part.received_at = delivery.received_at
        self._sink.put([part])

    def hurry(self) -> None:
        """Before a shutdown: what could not be stored is not tried again."""
        self._is_ending = True
        if self._timer is not None:
            self._timer.cancel()
        unstored, self._unstored = self._unstored, []
        self._give_up([delivery for delivery, _ in unstored])

    def _sink_settled(self, delivery: Delivery, failure: Failure, settlement: Settlement) -> None:
        if settlement.outcome is Outcome.ACCEPTED:
            self._metrics.dead_lettered += 1
            self._end(delivery, _DEAD_LETTERED)
        else:
            # A dead-letter sink that is down may yet take it: that is no refusal for good.
            self._keep(delivery, failure, max(_verdict(failure), settlement, key=_badness))

    def _keep(self, delivery: Delivery, failure: Failure, verdict: Settlement) -> None:
        is_stored = delivery.sequence or self._owner.is_diverting
        if self._letters is None or (delivery.source == REPLAY and not is_stored):
            self._end(delivery, verdict)  # what is replayed is a dead letter still
            return
        letter = letter_of(delivery, failure, self._route, self._target)
        self._letters.put([letter], partial(self._kept, delivery, failure))

    def _kept(self, delivery: Delivery, failure: Failure, error: StoreError | None) -> None:
        if error is None:
            self._tell(delivery, failure)
            self._metrics.dead_lettered += 1
            self._end(delivery, _DEAD_LETTERED)
        elif not (delivery.settled or self._owner.is_diverting):
            self._end(delivery, Settlement(Outcome.RELEASED, Reason.NOT_STORED, 5.0, str(error)))
        elif self._is_ending:
            self._give_up([delivery])
        else:  # its sender has forgotten it, or is about to
            self._unstored.append((delivery, failure))
            if self._timer is None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(STORE_AGAIN_SECONDS, self._store_again)

    def _tell(self, delivery: Delivery, failure: Failure) -> None:
        more = self._lines.pass_on(failure.reason.value)
        if more is None:
            return
        event = delivery.events[0]
        _log.warning(
            "route %s: event %s of %s is a dead letter, after %d attempt%s at sink %s: %s%s",
            self._route,
            event.id,
            event.source,
            delivery.attempts,
            "" if delivery.attempts == 1 else "s",
            self._target.name,
            failure.cause,
            more,
            extra={"route": self._route, "sink": self._target.name},
        )

    def _store_again(self) -> None:
        self._timer = None
        unstored, self._unstored = self._unstored, []
        for delivery, failure in unstored:
            self._keep(delivery, failure, _verdict(failure))

    def _end(self, delivery: Delivery, settlement: Settlement) -> None:
        self.pending -= 1
        self._owner.ended(delivery, settlement)

    def _give_up(self, deliveries: Sequence[Delivery]) -> None:
        self.pending -= len(deliveries)
        self._owner.given_up(deliveries)


def _verdict(failure: Failure) -> Settlement:
    return Settlement(failure.outcome, failure.reason, failure.retry_after, failure.detail)


def _badness(settlement: Settlement) -> Outcome:
    return settlement.outcome


def letter_of(delivery: Delivery, failure: Failure, route: str, target: Target) -> DeadLetter:
    """Return what is kept of an event that was not delivered, as it is at this moment."""
    first = delivery.failed_first_at or time.time()
    return DeadLetter(
        route=route,
        source=delivery.source,
        sink=target.name,
        sequence=delivery.sequence or None,
        event=encode_event(delivery.events[0]),
        reason=failure.reason.value,
        detail=failure.detail,
        status=failure.status,
        attempts=delivery.attempts,
        first_time=utc_text(datetime.fromtimestamp(first, UTC)),
        last_time=utc_text(datetime.now(UTC)),
        error_dest=target.address,
        error_code=failure.status or _NO_ANSWER,
        error_data=_error_data(failure),
    )


def with_error(event: Event, failure: Failure, address: str) -> Event:
    """Return a dead letter: the event with Knative's error extensions, older ones replaced."""
    extensions = {
        **event.extensions,
        "knativeerrordest": address,
        "knativeerrorcode": failure.status or _NO_ANSWER,
    }
    if failure.body:
        extensions["knativeerrordata"] = _error_data(failure)
    else:
        extensions.pop("knativeerrordata", None)
    return event.replace(extensions=extensions)


def _error_data(failure: Failure) -> str:
    return base64.b64encode(failure.body[:MAX_ERROR_DATA]).decode("ascii")
