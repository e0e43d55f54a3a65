"""The pipeline: deliveries in, lists out to the sinks, one answer back. Only this settles.

    source -> intake.submit([delivery, ...]) -> routes -> lanes -> sink.send([event, ...])
           <- delivery.settle(worst outcome of every route and sink)

Each route has a window of events under way. When it is full, `submit` waits and `try_submit` says
no, and the source passes that on in its protocol's words.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from gateway.dedup_gate import REPLAY
from gateway.intake import SourceIntake
from gateway.interfaces import HurryingSink
from gateway.metrics import Metrics
from gateway.router import Route, routes_from
from gateway.running_route import RunningRoute
from gateway.state import State
from gateway.target import Target

_log = logging.getLogger(__name__)


class Pipeline:
    """Everything between the sources and the sinks.

    Args:
        routes: where events go; an event takes every route that matches it.
        targets: the opened sinks, by name.
        metrics: the process' counters.
        state: what outlives the process, open; None if no route has a spool or dead letters.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        targets: Mapping[str, Target],
        metrics: Metrics,
        state: State | None = None,
    ) -> None:
        self._metrics = metrics
        self._letters = None if state is None else state.letters
        self._targets = targets
        self._routes = [RunningRoute(route, targets, metrics, state) for route in routes]
        self._intakes: list[SourceIntake] = []
        self._replays: dict[str, SourceIntake] = {}

    def start(self) -> None:
        """Start the lanes."""
        for route in self._routes:
            route.start()

    def intake(self, source: str, protocol: str = "") -> SourceIntake:
        """Return what the source of that name is to see of the gateway."""
        positions = routes_from(source, [state.route for state in self._routes])
        return self._intake(source, protocol, [self._routes[position] for position in positions])

    def replay_intake(self, route: str) -> SourceIntake | None:
        """Return the intake of dead letters that leads to that route alone; None without one."""
        if route not in self._replays:
            routes = [state for state in self._routes if state.route.name == route]
            if not routes:
                return None
            self._replays[route] = self._intake(REPLAY, "", routes)
        return self._replays[route]

    def _intake(self, source: str, protocol: str, routes: Sequence[RunningRoute]) -> SourceIntake:
        keeps_letters = any(state.route.keeps_letters for state in routes)
        letters = self._letters if keeps_letters else None
        intake = SourceIntake(
            source, routes, self._metrics.sources[source], protocol=protocol, letters=letters
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
        for target in self._targets.values():
            if isinstance(target.sink, HurryingSink):
                target.sink.hurry(deadline)
        try:
            async with asyncio.timeout(grace):
                for route in self._routes:
                    await route.emptied()
                    for lane in route.all_lanes:
                        await lane.quiet()
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
        for target in self._targets.values():
            target.circuit.close()

    def _refuse(self) -> None:
        """Take nothing more; sources that wait for room are told at once."""
        for intake in self._intakes:
            intake.draining = True
        for route in self._routes:
            route.wake()
