"""Requests under way on one connection, and their answers in the order of the requests."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import msgspec

from gateway.delivery import ListedDelivery, Outcome, Settlement
from gateway.sources.http import answers
from gateway.sources.http.answers import Answer, Clock


class Owner(Protocol):
    """The connection, as its answers see it."""

    def all_answered(self) -> None:
        """Called when the last answer that was waited for has left."""

    def take_no_more(self) -> None:
        """Called when an answer says that the connection closes after it."""


class Exchange(msgspec.Struct, eq=False, gc=False):
    """One request under way, and the bytes of its answer once they are known.

    The garbage collector need not look at it: who is answered leaves the queue, and with that the
    only cycle that it can be part of.

    Attributes:
        queue: where its answer has its turn.
        deadline: the loop's time at which the sender is told 504.
        close: the connection closes after the answer.
        bodyless: the answer to HEAD.
        fields: what the answer says about the connection if it stays open.
        accepted: the answer to success.
        response: the answer's bytes.
    """

    queue: "AnswerQueue"
    deadline: float
    close: bool = False
    bodyless: bool = False
    fields: tuple[tuple[str, str], ...] = ()
    accepted: Answer = answers.ACCEPTED
    response: bytes | None = None

    def answer(self, answer: Answer) -> None:
        """Set the answer; it leaves after those before it."""
        queue = self.queue
        if queue.draining:
            queue.end_with(self)
        if answer is answers.ACCEPTED and not self.fields and not self.close:
            self.response = queue.clock.accepted()
        else:
            fields = (answers.CLOSE,) if self.close else self.fields
            self.response = answer.encode(queue.clock, fields, bodyless=self.bodyless)
        queue.answered(self)


class Submission(ListedDelivery, eq=False, gc=False, kw_only=True):
    """What is submitted of an exchange."""

    exchange: Exchange


def settle(submissions: Sequence[Submission], settlement: Settlement) -> None:
    """Answer; called by the pipeline, perhaps after a sender has gone or was told 504."""
    refusal = None
    if settlement.outcome is not Outcome.ACCEPTED:
        refusal = answers.answer_settlement(settlement)
    clock, usual = None, b""
    for submission in submissions:
        exchange = submission.exchange
        queue = exchange.queue
        if exchange.response is not None:
            continue  # it was told 504 before
        answer = refusal or exchange.accepted
        if answer is not answers.ACCEPTED or exchange.close or exchange.fields or queue.draining:
            exchange.answer(answer)
            continue
        if queue.clock is not clock:
            clock = queue.clock
            usual = clock.accepted()
        exchange.response = usual
        queue.answered(exchange)


class AnswerQueue:
    """The exchanges of a connection, oldest first.

    Attributes:
        transport: where answers go; None before the connection stands and after it is lost.
        pending: the exchanges whose answer has not left.
        held: answers wait for `flush`, as more are about to come.
        draining: the last answer says that the connection closes.
    """

    def __init__(self, clock: Clock, owner: Owner) -> None:
        self.clock = clock
        self.transport: asyncio.Transport | None = None
        self.pending: deque[Exchange] = deque()
        self.held = False
        self.draining = False
        self._owner = owner
        self._planned = False
        self._loop = asyncio.get_running_loop()

    def open(self, deadline: float) -> Exchange:
        """Add an exchange."""
        exchange = Exchange(self, deadline)
        self.pending.append(exchange)
        return exchange

    def end_with(self, exchange: Exchange) -> None:
        """Close the connection after the answer, if none is to come after it."""
        if self.pending and self.pending[-1] is exchange and not exchange.close:
            exchange.close = True
            self._owner.take_no_more()

    def drop(self) -> None:
        """Forget everything: the connection is lost."""
        self.transport = None
        self.pending.clear()

    def expire(self, now: float) -> None:
        """Answer the exchanges whose time is up with 504."""
        if self.pending and self.pending[0].deadline <= now:
            for exchange in tuple(self.pending):
                if exchange.deadline <= now and exchange.response is None:
                    exchange.answer(answers.NO_ANSWER)

    def answered(self, exchange: Exchange) -> None:
        """Send what can be sent, now or once what else is being settled is known too."""
        if self.held or self._planned or not self.pending:
            return
        if len(self.pending) == 1:
            self.flush()
        elif self.pending[0] is exchange:
            # Others of the same pipeline may be settled in the same breath: one write for all.
            self._planned = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send the answers that have their turn, in one write."""
        self._planned = False
        transport, pending = self.transport, self.pending
        if transport is None or not pending or (response := pending[0].response) is None:
            return
        if len(pending) == 1:
            pending.clear()
            transport.write(response)
        else:
            ready: list[bytes] = []
            while pending and (response := pending[0].response) is not None:
                ready.append(response)
                if pending.popleft().close:
                    pending.clear()
            transport.write(ready[0] if len(ready) == 1 else b"".join(ready))
        if not pending:
            self._owner.all_answered()
