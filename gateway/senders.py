"""Calls a sink: at once if it tells of the end by itself, else in tasks that wait for lists.

dispatcher -> senders.send(list) -> sink.start_sending(list, on_ended)    nothing waits
                                 -> a task: await sink.send(list)         of those that idle
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Final

from bindings.event import Event
from gateway.delivery import Failure, Outcome, Reason
from gateway.interfaces import OnAccepted, OnEnded, PromptSink, Sending, Sink
from gateway.tasks import Tasks
from gateway.throttle import Throttle

_log = logging.getLogger(__name__)

KEPT: Final = 4
"""Tasks that wait for the next list; what is under way besides ends its task with it."""
_TURN: Final = 16
"""Lists of a task, after which others have a turn: a sink need not wait for anything."""


class Senders:
    """Gives lists to a sink.

    Args:
        name: the sink's.
        sink: which.
        timeout: seconds for one attempt; None is the sink's own default.
    """

    def __init__(self, name: str, sink: Sink, timeout: float | None) -> None:
        self._name = name
        self._sink = sink
        self._prompt = sink if isinstance(sink, PromptSink) else None
        self._timeout = timeout
        self._tasks = Tasks(f"sink {name}")
        self._started = 0
        self._idle: list[_Sender] = []
        self._lines = Throttle()

    def send(
        self, events: Sequence[Event], on_ended: OnEnded, on_accepted: OnAccepted
    ) -> Sending | None:
        """Give the sink a list; what becomes of it `on_ended` is told once, in any case.

        A sink's bug must not lose events: what it raises releases the whole list.

        Returns:
            What cuts it off; None if `close` does.
        """
        if self._prompt is not None:
            try:
                return self._prompt.start_sending(events, self._timeout, on_ended, on_accepted)
            except Exception as error:  # noqa: BLE001 - as above
                on_ended(self._raised(error, len(events)))
                return None
        if self._idle:
            sender = self._idle.pop()
        else:
            self._started += 1
            sender = _Sender(self._attempt, self._idle)
            self._tasks.start(sender.work(), f"sender {self._started}")
        sender.take(events, on_ended)
        return None

    def died(self, error: Exception) -> None:
        """Stop the service: what was told of an end has a bug, and events may hang."""
        self._tasks.died("what follows from an end", error)

    async def close(self) -> None:
        """Cut off what runs in tasks; nobody is told of it."""
        self._idle.clear()
        await self._tasks.close()

    async def _attempt(self, events: Sequence[Event]) -> Sequence[Failure]:
        try:
            return await self._sink.send(events, self._timeout)
        except (Exception, asyncio.CancelledError) as error:
            # It may have waited for something that was cancelled.
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            return self._raised(error, len(events))

    def _raised(self, error: BaseException, count: int) -> Sequence[Failure]:
        detail = type(error).__name__
        more = self._lines.pass_on(detail)
        if more is not None:
            _log.error("sink %s raised instead of reporting%s", self._name, more, exc_info=error)
        return [
            Failure(position, Outcome.RELEASED, Reason.SINK_DOWN, detail=detail)
            for position in range(count)
        ]


class _Sender:
    """One task, and the list that it sends."""

    def __init__(
        self,
        attempt: Callable[[Sequence[Event]], Coroutine[object, object, Sequence[Failure]]],
        idle: "list[_Sender]",
    ) -> None:
        self._attempt = attempt
        self._idle = idle
        self._list: tuple[Sequence[Event], OnEnded] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._sent = 0

    def take(self, events: Sequence[Event], on_ended: OnEnded) -> None:
        """Send this next; it sends nothing at the moment."""
        self._list = (events, on_ended)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def work(self) -> None:
        """Send what was taken, again and again."""
        loop = asyncio.get_running_loop()
        # A sink may have swallowed the cancellation.
        while not _is_cancelled():
            if self._list is None:
                self._waiter = loop.create_future()
                await self._waiter
                self._waiter = None
                continue
            self._sent += 1
            if not self._sent % _TURN:
                await asyncio.sleep(0)
            events, on_ended = self._list
            self._list = None
            failures = await self._attempt(events)
            is_kept = len(self._idle) < KEPT
            if is_kept:
                self._idle.append(self)
            on_ended(failures)  # and maybe there is a list again
            if not is_kept:
                return


def _is_cancelled() -> bool:
    """Whether somebody wants the current task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
