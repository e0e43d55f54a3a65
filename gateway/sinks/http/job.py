"""One call of the HTTP sink: chains of events, one a key, and what has become of them."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import msgspec

from bindings.event import Event
from gateway.delivery import Failure, Outcome, Reason
from gateway.interfaces import OnAccepted, OnEnded
from gateway.sinks.http.connection import INFINITY, Answer, Request

REPORT_SECONDS: Final = 0.05
"""Between two reports of a list that takes so long; most are through before the first."""


class Owner(Protocol):
    """The sink, as a job sees it."""

    def cancel(self, job: "Job") -> None:
        """Send nothing more of a job."""

    def answered(self, job: "Job", chain: "Chain", answer: Answer) -> None:
        """Judge the answer to what a chain has under way, and let it go on."""


class Chain(Request):
    """Events that go one after the other; the request is that of those under way.

    Args:
        job: whose it is.
        positions: of its events in the list of the job.

    Attributes:
        first: where those under way begin in `positions`.
        last: where they end, and what waits begins.
        alone: so many of the next events go one by one, as the batch they were in was refused.
        retried_token: the request under way is a repetition with a new token.
        consent: the number of the webhook's consent that the request under way relies on.
    """

    __slots__ = ("alone", "consent", "first", "job", "last", "positions", "retried_token")

    def __init__(self, job: "Job", positions: Sequence[int]) -> None:
        Request.__init__(self, b"", job.timeout, None)  # `super()` is looked up each time
        self.job = job
        self.positions = positions
        self.first = self.last = 0
        self.alone = 0
        self.retried_token = False
        self.consent = 0

    @property
    def under_way(self) -> Sequence[int]:
        """Positions of the events in the request that was taken last."""
        return self.positions[self.first : self.last]

    @property
    def waiting(self) -> Sequence[int]:
        """Positions of the events behind those."""
        return self.positions[self.last :]

    def put_back(self) -> None:
        """Let what is under way wait again, in its place."""
        self.last = self.first

    def renew(self, data: bytes) -> None:
        """Become the next request."""
        self.data = data
        self.deadline = INFINITY
        self.repeated = False

    def on_answer(self, answer: Answer) -> None:
        job = self.job
        job.owner.answered(job, self, answer)


class Job:
    """One list of events.

    Args:
        owner: the sink.
        events: the list.
        timeout: seconds for one attempt of one event.
        on_ended: called when every event has its outcome.
        on_accepted: told now and then what the receiver has; None is nobody.

    Attributes:
        ready: chains whose next request can be sent.
        deadline: the loop's time after which it no longer waits for the pace of a webhook; set by
            a sink that has one.
        reports: whether anybody is told what the receiver has before every event has its outcome.
        is_ended: whether every event has its outcome, or nobody wants to know any more.
        failures: of the events that have ended.
        accepted: positions that the receiver has, and of which nobody knows yet; if it reports.
    """

    def __init__(
        self,
        owner: Owner,
        events: Sequence[Event],
        timeout: float,
        on_ended: OnEnded,
        on_accepted: OnAccepted | None = None,
    ) -> None:
        self.owner = owner
        self.events = events
        self.timeout = timeout
        self.ready: deque[Chain] = deque()
        self.failures: list[Failure] = []
        self.accepted: list[int] = []
        self.is_ended = False
        self.deadline = INFINITY
        self._open = 0
        self._on_ended = on_ended
        self._on_accepted = on_accepted
        self._timer: asyncio.TimerHandle | None = None
        self.reports = on_accepted is not None and len(events) > 1
        if self.reports:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(REPORT_SECONDS, self._report)

    def divide(self, chains: Iterable[Sequence[int]]) -> None:
        """Make chains of positions; to be called once."""
        self.ready.extend([Chain(self, positions) for positions in chains])
        self._open = len(self.ready)

    def end_chain(self) -> None:
        """Count a chain that has come to its end; with the last one the job has ended, too."""
        self._open -= 1
        if self._open == 0 and not self.is_ended:
            self.stop()
            failures = self.failures
            if len(failures) > 1:
                failures.sort(key=_position)
            self._on_ended(failures)

    def fail(self, positions: Sequence[int], first: Failure) -> None:
        """Fail events that were not sent, the first of each key with `first`."""
        behind: set[str] = set()
        for position in positions:
            key = self.events[position].key
            if key in behind:
                self.failures.append(held(position))
            else:
                self.failures.append(msgspec.structs.replace(first, position=position))
                if first.outcome is Outcome.RELEASED:
                    behind.add(key)

    def stop(self) -> None:
        """Tell nothing more: the caller is told of all at once now, or has gone."""
        self.is_ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def cancel(self) -> None:
        """Send nothing more, and tell nobody what becomes of what is under way."""
        if not self.is_ended:
            self.stop()
            self.owner.cancel(self)

    def _report(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(REPORT_SECONDS, self._report)
        if self.accepted and self._on_accepted is not None:
            accepted, self.accepted = self.accepted, []
            self._on_accepted(accepted)


def held(position: int) -> Failure:
    """Return what becomes of an event behind one of its key that failed."""
    detail = "an earlier event of its key failed"
    return Failure(position, Outcome.RELEASED, Reason.HELD, detail=detail)


def _position(failure: Failure) -> int:
    return failure.position
