"""Keeps workers alive: one that ends is started again, with back-off and a line in the log."""

import logging
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from gateway.workers.place import folder_of, remove_emptied
from gateway.workers.process import WorkerProcess

_log = logging.getLogger(__name__)

FIRST_DELAY: Final = 0.1
LAST_DELAY: Final = 30.0
_SETTLED_SECONDS: Final = 60.0
"""A life that was as long as this begins anew with the shortest delay."""
_CANNOT_START: Final = 1


class Upkeep:
    """What becomes of a worker that ends.

    Args:
        state: the gateway's state folder.
        count: how many workers there are; those with a higher number empty what an earlier run has
            left, and are not needed then.
        pause: waits for seconds, or less if all is over; returns whether it is.
        fail: ends the gateway, as a worker can't start.
    """

    def __init__(
        self,
        state: Path,
        count: int,
        pause: Callable[[float], Awaitable[bool]],
        fail: Callable[[], None],
    ) -> None:
        self._state = state
        self._count = count
        self._pause = pause
        self._fail = fail

    async def keep(self, worker: WorkerProcess) -> None:
        """Let a worker live, and live again, until all is over."""
        is_retired = worker.number >= self._count
        if is_retired:
            _log.warning(
                "worker %d is of an earlier run with more workers: what it has left is delivered",
                worker.number,
            )
        delay = FIRST_DELAY
        while not await self._pause(0):
            began = time.monotonic()
            code = await worker.live()
            if await self._pause(0):
                return
            if worker.is_emptied:
                self._forget(worker)
                return
            if code == _CANNOT_START and not (worker.was_ready or is_retired):
                _log.error("worker %d could not start", worker.number)
                self._fail()
                return
            if time.monotonic() - began >= _SETTLED_SECONDS:
                delay = FIRST_DELAY
            worker.restarts += 1
            _log.error(
                "worker %d has ended: %s; it is started again in %.1f s",
                worker.number, reason(code), delay,
            )  # fmt: skip
            await self._pause(delay)
            delay = min(2 * delay, LAST_DELAY)

    def _forget(self, worker: WorkerProcess) -> None:
        folder = folder_of(self._state, worker.number)
        if remove_emptied(folder):
            _log.info("worker %d: nothing is left, and %s is removed", worker.number, folder)
        else:
            _log.warning(
                "worker %d: not everything in %s could be delivered: it stays there",
                worker.number, folder,
            )  # fmt: skip


def reason(code: int) -> str:
    """Return why a process has ended, from its exit code; below 0 it is a signal's number."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
