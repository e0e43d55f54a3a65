"""One call of the HTTP sink: chains of events, one a key, and what has become of them."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from bindings.event import Event
from gateway.delivery import Failure
from gateway.interfaces import OnAccepted

REPORT_SECONDS: Final = 0.05
"""Between two reports of a list that takes so long; most are through before the first."""


class Chain:
    """Events that go one after the other.

    Attributes:
        positions: of events that wait, in the list of their job.
        under_way: positions of the events in the request that was taken last.
        alone: so many of the next events go one by one, as the batch they were in was refused.
        retried_token: the request under way is a repetition with a new token.
        consent: the number of the webhook's consent that the request under way relies on.
    """

    __slots__ = ("alone", "consent", "positions", "retried_token", "under_way")

    def __init__(self, positions: "deque[int]") -> None:
        self.positions = positions
        self.under_way: Sequence[int] = ()
        self.alone = 0
        self.retried_token = False
        self.consent = 0

    def put_back(self) -> None:
        """Let what is under way wait again, in its place."""
        self.positions.extendleft(reversed(self.under_way))


class Job:
    """One call of `send`.

    Attributes:
        ready: chains whose next request can be sent.
        deadline: the loop's time after which it no longer waits for the pace of a webhook.
        done: set to None when every event has its outcome.
        accepted: positions that the receiver has, and of which nobody knows yet.
    """

    def __init__(
        self,
        events: Sequence[Event],
        timeout: float,
        chains: "deque[Chain]",
        on_accepted: OnAccepted | None = None,
    ) -> None:
        self.events = events
        self.timeout = timeout
        self.ready = chains
        self.open = len(chains)
        self.failures: list[Failure] = []
        loop = asyncio.get_running_loop()
        self.deadline = loop.time() + timeout
        self.done: asyncio.Future[None] = loop.create_future()
        self.accepted: list[int] = []
        self._on_accepted = on_accepted
        self._timer: asyncio.TimerHandle | None = None
        if on_accepted is not None and len(events) > 1:
            self._timer = loop.call_later(REPORT_SECONDS, self._report)

    def end_chain(self) -> None:
        """Count a chain that has come to its end."""
        self.open -= 1
        if self.open == 0 and not self.done.done():
            self.done.set_result(None)

    def stop_reporting(self) -> None:
        """Report nothing more: the caller is told of all at once now, or has gone."""
        if self._timer is not None:
            self._timer.cancel()

    def _report(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(REPORT_SECONDS, self._report)
        if self.accepted and self._on_accepted is not None:
            accepted, self.accepted = self.accepted, []
            self._on_accepted(accepted)
