"""What a source sees of the gateway: its routes, their windows, and who counts."""

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from bindings.binding import Message
from bindings.event import Event
from gateway.dead_letters import DeadLetter, LetterBox, utc_text
from gateway.delivery import ACCEPTED, DRAINING, Delivery, Outcome, Reason, Settlement, settle_all
from gateway.interfaces import OnKept
from gateway.metrics import SourceMetrics
from gateway.running_route import RunningRoute
from gateway.throttle import Throttle

_log = logging.getLogger(__name__)

_FILTERED: Final = Settlement(Outcome.ACCEPTED, Reason.FILTERED)


class SourceIntake:
    """The gateway as one source sees it (`gateway.interfaces.Intake`).

    Args:
        source: the source's name.
        routes: those that listen to it.
        metrics: its counters.
        protocol: what it speaks, for dead letters.
        letters: where messages are kept that can't be decoded; None is nowhere.

    Attributes:
        draining: whether everything is refused.
    """

    def __init__(
        self,
        source: str,
        routes: Sequence[RunningRoute],
        metrics: SourceMetrics,
        *,
        protocol: str = "",
        letters: LetterBox | None = None,
    ) -> None:
        self.draining = False
        self._protocol = protocol
        self._letters = letters
        self._source = source
        self._routes = routes
        self._metrics = metrics
        self._observer = self._settled  # one object: deliveries that are settled together share it
        self._throttle = Throttle()
        # The common case, for which nothing has to be asked per event.
        self._only = routes[0] if len(routes) == 1 and routes[0].matches is None else None

    async def submit(self, deliveries: Sequence[Delivery]) -> None:
        if self._refuse_when_draining(deliveries):
            return
        self._stamp(deliveries)
        position = 0
        while position < len(deliveries):
            position, full = self._take(deliveries, position)
            if full is not None:
                await full.room()
                if self._refuse_when_draining(deliveries[position:]):
                    return

    def try_submit(self, deliveries: Sequence[Delivery]) -> bool:
        if self.draining:
            return False
        only, count = self._only, len(deliveries)
        if only is not None and _end_of_plain(deliveries, 0, count) == count:
            if not only.fits(count):
                return False
            self._stamp(deliveries, count)
            only.put(deliveries)
            return True
        plan = [self._plan(delivery) for delivery in deliveries]
        if _full_route([place for places in plan for place in places], {}) is not None:
            return False
        self._stamp(deliveries)
        waiting: dict[RunningRoute, list[Delivery]] = {}
        for delivery, places in zip(deliveries, plan, strict=True):
            _place(delivery, places, waiting)
        for route, parts in waiting.items():
            route.put(parts)
        return True

    def rejected(self, reason: str, detail: str, count: int = 1) -> None:
        self._metrics.rejected[reason] += count
        more = self._throttle.pass_on(reason, count)
        if more is None:
            return
        _log.warning(
            "source %s rejected a message: %s: %s%s",
            self._source,
            reason,
            detail,
            more,
            extra={"source": self._source, "reason": reason},
        )

    def undecodable(self, message: Message, reason: str, detail: str, on_kept: OnKept) -> None:
        if self._letters is None:
            self.rejected(reason, detail)
            on_kept(None)
            return
        self.rejected(reason, f"{detail}; it is kept with the dead letters")
        now = utc_text(datetime.now(UTC))
        letter = DeadLetter(
            source=self._source,
            protocol=self._protocol,
            message=message,
            reason=reason,
            detail=detail,
            first_time=now,
            last_time=now,
        )
        self._letters.put([letter], on_kept)

    def _stamp(self, deliveries: Sequence[Delivery], events: int | None = None) -> None:
        now, observer, source = time.monotonic(), self._observer, self._source
        for delivery in deliveries:
            delivery.received_at = now
            delivery.observer = observer
            delivery.source = source
        self._metrics.received += _count_of(deliveries) if events is None else events

    def _settled(self, deliveries: Sequence[Delivery], settlement: Settlement) -> None:
        now, observe = time.monotonic(), self._metrics.ack_seconds.observe
        if len(deliveries) == 1:
            observe(now - deliveries[0].received_at)
            events = len(deliveries[0].events)
        else:
            times = [delivery.received_at for delivery in deliveries]
            if times.count(times[0]) == len(times):  # those of one list were received at once
                observe(now - times[0], len(times))
            else:
                for received_at in times:
                    observe(now - received_at)
            events = _count_of(deliveries)
        self._metrics.settled[settlement.outcome] += events
        if settlement.reason is Reason.FILTERED:
            self._metrics.filtered += events

    def _refuse_when_draining(self, deliveries: Sequence[Delivery]) -> bool:
        if not self.draining:
            return False
        settle_all(deliveries, DRAINING)
        return True

    def _take(
        self, deliveries: Sequence[Delivery], position: int
    ) -> tuple[int, RunningRoute | None]:
        """Take as many as there is room for; return where it stopped and which route is full."""
        only = self._only
        if only is not None:
            stop = min(len(deliveries), position + only.limit - only.used)
            start, position = position, _end_of_plain(deliveries, position, stop)
            only.put(deliveries[start:position])
        waiting: dict[RunningRoute, list[Delivery]] = {}
        full = None
        for delivery in deliveries[position:]:
            places = self._plan(delivery)
            full = _full_route(places, waiting)
            if full is not None:
                break
            _place(delivery, places, waiting)
            position += 1
        for route, parts in waiting.items():
            route.put(parts)
        return position, full

    def _plan(self, delivery: Delivery) -> "_Places":
        """Return each pair of route and event that the delivery needs."""
        only = self._only
        if only is not None:
            return [(only, event) for event in delivery.events]
        return [
            (route, event)
            for event in delivery.events
            for route in self._routes
            if route.matches is None or route.matches(event)
        ]


def _count_of(deliveries: Sequence[Delivery]) -> int:
    """Return how many events there are."""
    return sum([len(delivery.events) for delivery in deliveries])


def _end_of_plain(deliveries: Sequence[Delivery], start: int, stop: int) -> int:
    """Return where deliveries of one event each end: nothing has to be split of those."""
    for position in range(start, stop):
        if len(deliveries[position].events) != 1:
            return position
    return max(start, stop)


_Places = list[tuple[RunningRoute, Event]]


def _full_route(
    places: _Places, waiting: Mapping[RunningRoute, list[Delivery]]
) -> RunningRoute | None:
    """Return a route that has no room for its part of `places`, behind what is `waiting`."""
    counts: dict[RunningRoute, int] = {}
    for route, _ in places:
        counts[route] = counts.get(route, 0) + 1
    for route, count in counts.items():
        if not route.fits(count, len(waiting.get(route, ()))):
            return route
    return None


def _place(
    delivery: Delivery, places: _Places, waiting: dict[RunningRoute, list[Delivery]]
) -> None:
    """Queue a delivery, or its parts, for its routes."""
    if not places:
        delivery.settle(_FILTERED if delivery.events else ACCEPTED)
    elif len(places) == 1 and len(delivery.events) == 1:
        waiting.setdefault(places[0][0], []).append(delivery)
    else:
        parts = delivery.split([(event,) for _, event in places])
        for (route, _), part in zip(places, parts, strict=True):
            waiting.setdefault(route, []).append(part)
