"""The pipeline: deliveries in, lists out to the sinks, one answer back. Only this settles.

    source -> intake.submit([delivery, ...]) -> routes -> lanes -> sink.send([event, ...])
           <- delivery.settle(worst outcome of every route and sink)

Each route has a window of events under way. When it is full, `submit` waits and `try_submit` says
no, and the source passes that on in its protocol's words.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial

from bindings.binding import Message
from bindings.event import Event
from gateway.delivery import ACCEPTED, DRAINING, Delivery, Outcome, Reason, Settlement
from gateway.interfaces import OnKept
from gateway.lane import Lane, Target
from gateway.metrics import Metrics, SourceMetrics
from gateway.router import Route, routes_from
from gateway.throttle import Throttle

_log = logging.getLogger(__name__)

_FILTERED = Settlement(Outcome.ACCEPTED, Reason.FILTERED)


class Pipeline:
    """Everything between the sources and the sinks.

    Args:
        routes: where events go; an event takes every route that matches it.
        targets: the opened sinks, by name.
        metrics: the process' counters.
    """

    def __init__(
        self, routes: Sequence[Route], targets: Mapping[str, Target], metrics: Metrics
    ) -> None:
        self._metrics = metrics
        self._routes = [_RouteState(route, targets, metrics) for route in routes]
        self._intakes: list[_SourceIntake] = []

    def start(self) -> None:
        """Start the lanes' workers."""
        for route in self._routes:
            for lane in route.all_lanes:
                lane.start()

    def intake(self, source: str) -> "_SourceIntake":
        """Return what the source of that name is to see of the gateway."""
        positions = routes_from(source, [state.route for state in self._routes])
        intake = _SourceIntake(
            source,
            [self._routes[position] for position in positions],
            self._metrics.sources[source],
        )
        self._intakes.append(intake)
        return intake

    @property
    def inflight(self) -> int:
        """Events under way on all routes."""
        return sum(route.used for route in self._routes)

    async def drain(self, grace: float) -> None:
        """Let what is under way end within `grace` seconds; retries due later are released."""
        deadline = asyncio.get_running_loop().time() + grace
        self._refuse()
        for route in self._routes:
            for lane in route.all_lanes:
                lane.hurry(deadline)
        try:
            async with asyncio.timeout(grace):
                for route in self._routes:
                    await route.emptied()
        except TimeoutError:
            _log.warning(
                "%d events could not be delivered in time; they are released", self.inflight
            )

    async def close(self) -> None:
        """Stop; whatever is left is released, so that its sender keeps it."""
        self._refuse()
        for route in self._routes:
            for lane in route.all_lanes:
                await lane.close()

    def _refuse(self) -> None:
        """Take nothing more; sources that wait for room are told at once."""
        for intake in self._intakes:
            intake.draining = True
        for route in self._routes:
            route.wake()


class _RouteState:
    """A route at work: its lanes and its window."""

    def __init__(self, route: Route, targets: Mapping[str, Target], metrics: Metrics) -> None:
        self.route = route
        self.matches = route.matches
        self.limit = route.inflight
        # A waiter wakes to a quarter of the window, not to a single place: lists stay long.
        self._low = self.limit - (self.limit >> 2)
        self.metrics = metrics.routes[route.name]
        self._waiters: list[asyncio.Future[None]] = []
        fan_out = len(route.sinks) > 1
        dead_letters = None
        if route.dead_letter_sink is not None:
            dead_letters = self._lane(targets[route.dead_letter_sink], metrics, None, counts=False)
        self.lanes = [
            self._lane(targets[name], metrics, dead_letters, counts=not fan_out)
            for name in route.sinks
        ]
        self.all_lanes = [*self.lanes, *([dead_letters] if dead_letters else [])]

    def _lane(
        self, target: Target, metrics: Metrics, dead_letters: Lane | None, *, counts: bool
    ) -> Lane:
        return Lane(
            target,
            self.route.policy,
            timeout=self.route.timeout,
            dead_letters=dead_letters,
            metrics=(metrics.sinks[target.name], self.metrics),
            on_done=self.release if counts else _nothing,
        )

    @property
    def used(self) -> int:
        return self.metrics.inflight

    def fits(self, count: int, queued: int = 0) -> bool:
        """Whether `count` more events may come in behind `queued` others.

        What is larger than the window goes in alone.
        """
        load = self.used + queued
        return load + count <= self.limit or load == 0

    def put(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries of one event each."""
        self.metrics.inflight += len(deliveries)
        if len(self.lanes) == 1:
            self.lanes[0].put(deliveries)
            return
        copies: list[list[Delivery]] = [[] for _ in self.lanes]
        for delivery in deliveries:
            whole = Delivery(delivery.events, partial(self._settle_whole, delivery))
            for copy, part in zip(
                copies, whole.split([delivery.events] * len(copies)), strict=True
            ):
                copy.append(part)
        for lane, copy in zip(self.lanes, copies, strict=True):
            lane.put(copy)

    async def room(self) -> None:
        """Return when the window has become emptier."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    async def emptied(self) -> None:
        """Return when nothing is under way."""
        while self.used:
            await self.room()

    def wake(self) -> None:
        """Let all that wait for room look again."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def release(self, count: int) -> None:
        """Make room for as many events."""
        self.metrics.inflight = used = self.metrics.inflight - count
        if self._waiters and used <= self._low:
            self.wake()

    def _settle_whole(self, delivery: Delivery, settlement: Settlement) -> None:
        self.release(1)
        delivery.settle(settlement)


def _nothing(_count: int) -> None:
    """A lane of several: the window counts the whole event, not its copies."""


class _SourceIntake:
    """The gateway as one source sees it (`gateway.interfaces.Intake`)."""

    def __init__(self, source: str, routes: Sequence[_RouteState], metrics: SourceMetrics) -> None:
        self.draining = False
        self._source = source
        self._routes = routes
        self._metrics = metrics
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
            self._stamp(deliveries)
            only.put(deliveries)
            return True
        plan = [self._plan(delivery) for delivery in deliveries]
        if _full_route([place for places in plan for place in places], {}) is not None:
            return False
        self._stamp(deliveries)
        waiting: dict[_RouteState, list[Delivery]] = {}
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

    def undecodable(self, _message: Message, reason: str, detail: str, on_kept: OnKept) -> None:
        self.rejected(reason, detail)
        on_kept(None)  # until routes keep dead letters

    def _stamp(self, deliveries: Sequence[Delivery]) -> None:
        now, observer = time.monotonic(), self._settled
        received = 0
        for delivery in deliveries:
            delivery.received_at = now
            delivery.observer = observer
            received += len(delivery.events)
        self._metrics.received += received

    def _settled(self, delivery: Delivery, settlement: Settlement) -> None:
        count = len(delivery.events)
        self._metrics.settled[settlement.outcome] += count
        if settlement.reason is Reason.FILTERED:
            self._metrics.filtered += count
        self._metrics.ack_seconds.observe(time.monotonic() - delivery.received_at)

    def _refuse_when_draining(self, deliveries: Sequence[Delivery]) -> bool:
        if not self.draining:
            return False
        for delivery in deliveries:
            delivery.settle(DRAINING)
        return True

    def _take(
        self, deliveries: Sequence[Delivery], position: int
    ) -> tuple[int, _RouteState | None]:
        """Take as many as there is room for; return where it stopped and which route is full."""
        only = self._only
        if only is not None:
            stop = min(len(deliveries), position + only.limit - only.used)
            start, position = position, _end_of_plain(deliveries, position, stop)
            only.put(deliveries[start:position])
        waiting: dict[_RouteState, list[Delivery]] = {}
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


def _end_of_plain(deliveries: Sequence[Delivery], start: int, stop: int) -> int:
    """Return where deliveries of one event each end: nothing has to be split of those."""
    while start < stop and len(deliveries[start].events) == 1:
        start += 1
    return start


_Places = list[tuple[_RouteState, Event]]


def _full_route(
    places: _Places, waiting: Mapping[_RouteState, list[Delivery]]
) -> _RouteState | None:
    """Return a route that has no room for its part of `places`, behind what is `waiting`."""
    counts: dict[_RouteState, int] = {}
    for route, _ in places:
        counts[route] = counts.get(route, 0) + 1
    for route, count in counts.items():
        if not route.fits(count, len(waiting.get(route, ()))):
            return route
    return None


def _place(delivery: Delivery, places: _Places, waiting: dict[_RouteState, list[Delivery]]) -> None:
    """Queue a delivery, or its parts, for its routes."""
    if not places:
        delivery.settle(_FILTERED if delivery.events else ACCEPTED)
    elif len(places) == 1 and len(delivery.events) == 1:
        waiting.setdefault(places[0][0], []).append(delivery)
    else:
        parts = delivery.split([(event,) for _, event in places])
        for (route, _), part in zip(places, parts, strict=True):
            waiting.setdefault(route, []).append(part)
