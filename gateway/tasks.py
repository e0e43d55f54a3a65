"""The one place that starts background tasks: they are kept, named, and never die unseen."""

import asyncio
import logging
from collections.abc import Coroutine

_log = logging.getLogger(__name__)


class Tasks:
    """An adapter's background tasks.

    A task that ends with an exception is a bug: it is logged with its traceback, and `failed` is
    set so that the service stops with exit code 1 rather than live on deaf.
    """

    failed: asyncio.Event | None = None  # set by the service; shared by every adapter

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[object]] = set()

    def start(self, work: Coroutine[object, object, object], name: str) -> None:
        """Run `work` in the background until it ends or `close` is called."""
        task = asyncio.create_task(work, name=f"{self._owner}: {name}")  # noqa: TID251 - this is the place
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def ended(self) -> None:
        """Wait for the end of everything that runs."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Cancel what runs and wait for its end; a task that calls this is not its own business."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: "asyncio.Task[object]") -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            _report(task.get_name(), error)

    def died(self, name: str, error: BaseException) -> None:
        """Treat a bug in what the event loop or a sink calls like one in a task."""
        _report(f"{self._owner}: {name}", error)


def _report(name: str, error: BaseException) -> None:
    _log.error("%s died", name, exc_info=error)
    if Tasks.failed is not None:
        Tasks.failed.set()
