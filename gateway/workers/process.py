"""One worker as the parent sees it: a process, the channel to it, and what it has told."""

import asyncio
import itertools
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from gateway.config.records import Address
from gateway.dead_letters import DeadLetter
from gateway.dead_letters.rows import row_of
from gateway.delivery import Settlement
from gateway.workers.channel import Channel
from gateway.workers.figures import Family, added, lasting
from gateway.workers.letters import NO_WORKER
from gateway.workers.messages import (
    Ask,
    Emptied,
    Figures,
    FromWorker,
    Logged,
    Ready,
    Replay,
    Replayed,
    Start,
    Stop,
    Store,
    Stored,
)

_ANSWER_SECONDS: Final = 2.0


class Parent(Protocol):
    """Who is told what a worker says."""

    def became_ready(self, worker: "WorkerProcess") -> None:
        """It takes events."""

    def store(self, worker: int, message: Store, send: Callable[[Stored], object]) -> None:
        """Keep dead letters of the worker with that number, and answer."""

    def logged(self, message: Logged) -> None:
        """Events for a log sink."""


class WorkerProcess:
    """A worker: one life after the other, with one number.

    Args:
        start: what it is to be.
        parent: who is told.

    Attributes:
        number: of the worker.
        pid: of its process; 0 while there is none.
        listeners: where it listens, as of its last life.
        is_ready: whether it takes events.
        was_ready: whether it ever did.
        is_emptied: whether it has said that nothing is left of an earlier run.
        unready: why it takes none; "" if it does.
        inflight: events under way, when it last told.
        restarts: how many lives it had after the first.
    """

    def __init__(self, start: Start, parent: Parent) -> None:
        self.number = start.number
        self.pid = 0
        self.listeners: dict[str, Address] = {}
        self.was_ready = False
        self.is_emptied = False
        self.unready = "starting"
        self.inflight = 0
        self.restarts = 0
        self._start = start
        self._parent = parent
        self._process: asyncio.subprocess.Process | None = None
        self._channel: Channel | None = None
        self._earlier: Sequence[Family] = []  # what earlier lives have counted
        self._current: Sequence[Family] = []
        self._calls: dict[int, asyncio.Future[Figures | Replayed | None]] = {}
        self._numbers = itertools.count(1)
        self._is_ready = False
        self._is_stopping = False

    @property
    def is_ready(self) -> bool:
        return self._is_ready and not self.unready

    @property
    def families(self) -> list[Family]:
        """What it has counted in all its lives, when it last told."""
        return added([self._earlier, self._current])

    async def live(self) -> int:
        """Start it and return its exit code when it has ended; below 0 it is a signal's number."""
        ours, its = socket.socketpair()
        # It imports from where we do, and gets our environment, stderr and its end of the pair.
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "gateway.workers", str(its.fileno()),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                pass_fds=(its.fileno(),), env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C is for the parent, who tells everyone
            )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        finally:
            its.close()
        self.pid = self._process.pid
        self._channel = channel = Channel(FromWorker, self._received, self._lost)
        try:
            await channel.open(ours)
            channel.send(self._start)
            if self._is_stopping:
                channel.send(Stop())
            return await self._process.wait()
        finally:
            # What it has said before its end is read by now, or will be before the pair is closed.
            await channel.ended()
            self.pid = 0
            self._is_ready = False
            self.unready = "not running"
            self.inflight = 0
            self._earlier, self._current = lasting(self.families), []

    def stop(self) -> None:
        """Tell it to drain and end; a life that is about to begin ends at once."""
        self._is_stopping = True
        if self._channel is not None:
            self._channel.send(Stop())

    def kill(self) -> None:
        """End it at once."""
        if self.pid and self._process is not None:
            self._process.kill()

    async def refresh(self) -> None:
        """Ask it for its figures; without an answer the last ones stay."""
        call = next(self._numbers)
        await self._ask(call, Ask(call), _ANSWER_SECONDS)

    async def replay(self, letters: Sequence[DeadLetter]) -> Sequence[Settlement]:
        """Have it deliver dead letters; released if it ends before it has told what became of them.

        Whatever it has delivered by then is delivered again with the next replay.
        """
        call = next(self._numbers)
        message = Replay(call, [row_of(letter) for letter in letters])
        answer = await self._ask(call, message, None)
        if isinstance(answer, Replayed) and len(answer.settlements) == len(letters):
            return answer.settlements
        return [NO_WORKER] * len(letters)

    async def _ask(
        self, call: int, message: Ask | Replay, seconds: float | None
    ) -> Figures | Replayed | None:
        if self._channel is None or not self._channel.send(message):
            return None
        answer: asyncio.Future[Figures | Replayed | None]
        answer = asyncio.get_running_loop().create_future()
        self._calls[call] = answer
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            return None
        finally:
            self._calls.pop(call, None)

    def _received(self, message: FromWorker) -> None:
        match message:
            case Ready():
                self.listeners = {name: Address(*at) for name, at in message.listeners.items()}
                self._is_ready = self.was_ready = True
                self.unready = ""
                self._parent.became_ready(self)
            case Figures():
                self._current = message.families
                self.unready, self.inflight = message.unready, message.inflight
                self._answer(message.call, message)
            case Replayed():
                self._answer(message.call, message)
            case Store():
                channel = self._channel
                assert channel is not None  # noqa: S101 - it has brought this
                self._parent.store(self.number, message, channel.send)
            case Logged():
                self._parent.logged(message)
            case Emptied():
                self.is_emptied = True

    def _answer(self, call: int, message: Figures | Replayed) -> None:
        answer = self._calls.get(call)
        if answer is not None and not answer.done():
            answer.set_result(message)

    def _lost(self) -> None:
        for answer in self._calls.values():
            if not answer.done():
                answer.set_result(None)


class ReplayByWorker:
    """Replays dead letters by the first worker that is ready: all by one, so that order is kept.

    Args:
        workers: returns those at work.
    """

    def __init__(self, workers: Callable[[], Sequence[WorkerProcess]]) -> None:
        self._workers = workers

    async def replay(self, letters: Sequence[DeadLetter]) -> Sequence[Settlement]:
        for worker in self._workers():
            if worker.is_ready:
                return await worker.replay(letters)
        return [NO_WORKER] * len(letters)
