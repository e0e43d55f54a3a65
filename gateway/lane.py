"""A lane: one route's way to one sink, with its spool and its dead letters.

    deliveries -> dispatcher -> sink                 while the sink takes them
    deliveries -> spool -> answer to the source      from the first trouble on, or always
                  spool -> dispatcher -> sink        until the spool is empty again

It changes from one to the other in one step of the event loop, and what has not ended goes into the
spool before what comes later: the order of each key is kept. An event leaves the spool when the
sink or the dead letters have it.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.dead_letters import LetterBox
from gateway.delivery import ACCEPTED, DRAINING, Delivery, Failure, Settlement, settle_all
from gateway.dispatcher import Dispatcher
from gateway.metrics import RouteMetrics, SinkMetrics
from gateway.retry import RetryPolicy
from gateway.spooling import Spooling, SpoolUse
from gateway.target import Target
from gateway.undeliverable import Undeliverable


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a route wants its events delivered to one sink.

    Attributes:
        route: the route's name.
        policy: when to try again.
        timeout: seconds for one attempt; None is the sink's own default.
        dead_letters: the lane that takes what could not be delivered; None is nobody.
        letters: where it is kept if nobody takes it; None is nowhere.
        spool: what is used in trouble, or always; None tells the sender of every trouble.
    """

    route: str
    policy: RetryPolicy
    timeout: float | None = None
    dead_letters: "Lane | None" = None
    letters: LetterBox | None = None
    spool: SpoolUse | None = None


class Lane:
    """One route's way to one sink.

    Args:
        target: the sink.
        way: how it gets the events.
        metrics: the sink's and the route's counters.
        on_done: called with the number of deliveries before they are settled.
    """

    def __init__(
        self,
        target: Target,
        way: Way,
        *,
        metrics: tuple[SinkMetrics, RouteMetrics],
        on_done: Callable[[int], None],
    ) -> None:
        sink_metrics, route_metrics = metrics
        self._on_done = on_done
        self._dispatcher = Dispatcher(
            target,
            way.policy,
            timeout=way.timeout,
            metrics=sink_metrics,
            ends=self,
            waits=way.spool is not None,
        )
        self._undeliverable = Undeliverable(
            way.route,
            target,
            sink=way.dead_letters,
            letters=way.letters,
            metrics=route_metrics,
            owner=self,
        )
        self._spooling: Spooling | None = None
        if way.spool is not None:
            self._spooling = Spooling(
                f"route {way.route} to sink {target.name}",
                way.spool,
                self._dispatcher,
                on_done=on_done,
                on_stored=self._note_quiet,
            )
        self._quiet: list[asyncio.Future[None]] = []

    @property
    def spooling(self) -> Spooling | None:
        """The spool at work; None without one."""
        return self._spooling

    @property
    def is_diverting(self) -> bool:
        """Whether what the dispatcher has is being stored."""
        return self._spooling is not None and self._spooling.is_diverting

    def start(self) -> None:
        """Listen to the sink; what an earlier life left in the spool comes first."""
        self._dispatcher.start()
        if self._spooling is not None:
            self._spooling.start()

    def put(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries of one event each, in order."""
        if self._spooling is not None:
            self._spooling.put(deliveries)
        else:
            self._dispatcher.put(deliveries)

    def hurry(self, deadline: float) -> None:
        """Before a shutdown: give up what would end after `deadline` (the loop's clock)."""
        if self._spooling is not None:
            self._spooling.hurry(deadline)
        else:
            self._dispatcher.hurry(deadline)
        self._undeliverable.hurry()

    async def quiet(self) -> None:
        """Return when nothing is under way to the sink, to the disk or to the dead letters."""
        while not self._is_quiet():
            ended = asyncio.get_running_loop().create_future()
            self._quiet.append(ended)
            await ended

    async def close(self) -> None:
        """Stop; what was not delivered and is not in the spool is released."""
        await self._dispatcher.stop()
        if self._spooling is not None:
            self._spooling.close()
        self._undeliverable.hurry()
        self._dispatcher.give_up()

    def delivered(self, deliveries: Sequence[Delivery]) -> None:
        if self._spooling is not None and self._spooling.is_on:
            self._spooling.ended(deliveries, ACCEPTED)
        else:
            self._on_done(len(deliveries))
            settle_all(deliveries, ACCEPTED)
        self._note_quiet()

    def failed(self, delivery: Delivery, failure: Failure) -> None:
        self._undeliverable.take(delivery, failure)

    def given_up(self, deliveries: Sequence[Delivery]) -> None:
        if self._spooling is not None:
            self._spooling.given_up(deliveries)
        else:
            self._on_done(len(deliveries))
            settle_all(deliveries, DRAINING)
        self._note_quiet()

    def troubled(self) -> None:
        if self._spooling is not None:
            self._spooling.divert("the sink is in trouble")
        self._note_quiet()

    def ended(self, delivery: Delivery, settlement: Settlement) -> None:
        if self._spooling is not None:
            self._spooling.ended((delivery,), settlement)
        else:
            self._on_done(1)
            delivery.settle(settlement)
        self._note_quiet()

    def _is_quiet(self) -> bool:
        return not (
            self._dispatcher.is_sending
            or self._undeliverable.pending
            or (self._spooling is not None and self._spooling.appending)
        )

    def _note_quiet(self) -> None:
        if self._quiet and self._is_quiet():
            quiet, self._quiet = self._quiet, []
            for ended in quiet:
                if not ended.done():
                    ended.set_result(None)
