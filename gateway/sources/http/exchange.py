"""Requests under way on one connection, and their answers in the order of the requests."""

import asyncio
from collections import deque
from typing import Protocol

from gateway.delivery import Outcome, Settlement
from gateway.sources.http import answers
from gateway.sources.http.answers import Answer, Clock


class Owner(Protocol):
    """The connection, as its answers see it."""

    def all_answered(self) -> None:
        """Called when the last answer that was waited for has left."""

    def take_no_more(self) -> None:
        """Called when an answer says that the connection closes after it."""


class Exchange:
    """One request under way, and the bytes of its answer once they are known.

    Attributes:
        deadline: the loop's time at which the sender is told 504.
        close: the connection closes after the answer.
        bodyless: the answer to HEAD.
        fields: what the answer says about the connection if it stays open.
        accepted: the answer to success.
        response: the answer's bytes.
    """

    __slots__ = ("_queue", "accepted", "bodyless", "close", "deadline", "fields", "response")

    def __init__(self, queue: "AnswerQueue", deadline: float) -> None:
        self._queue = queue
        self.deadline = deadline
        self.close = False
        self.bodyless = False
        self.fields: tuple[tuple[str, str], ...] = ()
        self.accepted = answers.ACCEPTED
        self.response: bytes | None = None

    def settled(self, settlement: Settlement) -> None:
        """Answer; called by the pipeline, perhaps after the sender has gone or was told 504."""
        if self.response is None:
            accepted = settlement.outcome is Outcome.ACCEPTED
            self.answer(self.accepted if accepted else answers.answer_settlement(settlement))

    def answer(self, answer: Answer) -> None:
        """Set the answer; it leaves after those before it."""
        queue = self._queue
        if queue.draining:
            queue.end_with(self)
        clock = queue.clock
        if answer is answers.ACCEPTED and not self.fields and not self.close:
            self.response = clock.accepted()
        else:
            fields = (answers.CLOSE,) if self.close else self.fields
            self.response = answer.encode(clock, fields, bodyless=self.bodyless)
        queue.answered(self)


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
        if transport is None or not pending or pending[0].response is None:
            return
        ready: list[bytes] = []
        while pending and (response := pending[0].response) is not None:
            ready.append(response)
            if pending.popleft().close:
                pending.clear()
        transport.write(ready[0] if len(ready) == 1 else b"".join(ready))
        if not pending:
            self._owner.all_answered()
