"""A route at work: its window of events under way, and its lanes."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

from gateway.dedup import Dedup
from gateway.dedup_gate import DedupGate
from gateway.delivery import Delivery, Settlement
from gateway.lane import Lane, Way
from gateway.metrics import Metrics
from gateway.router import Route
from gateway.spooling import SpoolUse
from gateway.state import State
from gateway.target import Target


class RunningRoute:
    """A route at work: its lanes and its window."""

    def __init__(
        self,
        route: Route,
        targets: Mapping[str, Target],
        metrics: Metrics,
        state: State | None,
    ) -> None:
        self.route = route
        self._state = state
        self.matches = route.matches
        self.limit = route.inflight
        # A waiter wakes to a quarter of the window, not to a single place: lists stay long.
        self._low = self.limit - (self.limit >> 2)
        self.metrics = metrics.routes[route.name]
        self.metrics.limit = route.inflight
        self._waiters: list[asyncio.Future[None]] = []
        self._on_done = self.release if len(route.sinks) == 1 else _nothing
        dead_letters = None
        if route.dead_letter_sink is not None:
            dead_letters = self._dead_letter_lane(targets[route.dead_letter_sink], metrics)
        self.lanes = [self._lane(targets[name], metrics, dead_letters) for name in route.sinks]
        self._gate: DedupGate | None = None
        if route.dedup_window:
            dedup = Dedup(route.dedup_window, route.dedup_events)
            self._gate = DedupGate(dedup, self.metrics)
        self.all_lanes = [*self.lanes, *([dead_letters] if dead_letters else [])]

    def _dead_letter_lane(self, target: Target, metrics: Metrics) -> Lane:
        route = self.route
        return Lane(
            target,
            Way(route=route.name, policy=route.policy, timeout=route.timeout),
            metrics=(metrics.sinks[target.name], self.metrics),
            on_done=_nothing,
        )

    def _lane(self, target: Target, metrics: Metrics, dead_letters: Lane | None) -> Lane:
        route, state = self.route, self._state
        spool = None
        if state is not None and route.spool:
            spool = SpoolUse(
                spool=state.spool_of(route.name, target.name),
                always=route.stored,
                after=route.spool_after,
                rate=route.drain_rate,
                window=route.inflight,
            )
        way = Way(
            route=route.name,
            policy=route.policy,
            timeout=route.timeout,
            dead_letters=dead_letters,
            letters=state.letters if state is not None and route.keeps_letters else None,
            spool=spool,
        )
        counters = (metrics.sinks[target.name], self.metrics)
        lane = Lane(target, way, metrics=counters, on_done=self._on_done)
        if lane.spooling is not None:
            metrics.spools[route.name, target.name] = lane.spooling
            metrics.circuits[target.name] = target.circuit
        return lane

    def start(self) -> None:
        """Start the lanes; what their spools hold is known already."""
        if self._gate is not None and self._state is not None and self.route.spool:
            spools = [self._state.spool_of(self.route.name, sink) for sink in self.route.sinks]
            self._gate.restore([spool.retained() for spool in spools])
        for lane in self.all_lanes:
            lane.start()

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
        if self._gate is not None:
            deliveries = self._gate.passed(deliveries)
        if not deliveries:
            return
        self.metrics.inflight += len(deliveries)
        if len(self.lanes) == 1:
            self.lanes[0].put(deliveries)
            return
        copies: list[list[Delivery]] = [[] for _ in self.lanes]
        for delivery in deliveries:
            whole = delivery.behind(partial(self._settle_whole, delivery))
            for copy, part in zip(
                copies, whole.split([delivery.events] * len(copies)), strict=True
            ):
                copy.append(part)
        for lane, copy in zip(self.lanes, copies, strict=True):
            lane.put(copy)

    async def room(self) -> None:
        """Return when the window has become emptier, or at once if it is empty."""
        if not self.used:  # what was put may all have been duplicates
            return
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
