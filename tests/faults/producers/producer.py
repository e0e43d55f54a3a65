"""What all senders have in common: keys, numbers, pace."""

import asyncio
import contextlib
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from tests.e2e.servers import HOST
from tests.faults.ledger import Ledger
from tests.faults.sample import Sample

RECONNECT_SECONDS: Final = 0.05
"""Devices wait longer; here a kill should meet load as often as possible."""
P = TypeVar("P", bound=asyncio.Protocol)


class Pace:
    """Turns at an even rate, for all keys of a sender together.

    Args:
        rate: turns per second.
    """

    def __init__(self, rate: float) -> None:
        self._interval = 1 / rate
        self._next = 0.0
        self.running = asyncio.Event()
        self.running.set()

    async def turn(self) -> None:
        """Return when it is one's turn; turns that were missed are not made up for."""
        await self.running.wait()
        now = asyncio.get_running_loop().time()
        self._next = max(self._next + self._interval, now - 0.05)
        if self._next > now:
            await asyncio.sleep(self._next - now)


class Producer:
    """A sender of events, which repeats each until it knows what became of it.

    Subclasses implement `_run`, which ends soon after `stopping` is set.

    Attributes:
        silent: keys that send nothing new.
        host: where its port is.
        local_addr: what it sends from; None lets the system choose.

    Args:
        name: of the input; its keys begin with it.
        sample: what is sent.
        ledger: where it is written, before it is sent.
        rate: events per second, of all keys together.
        keys: how many.
    """

    def __init__(
        self, name: str, sample: Sample, ledger: Ledger, *, rate: float, keys: int = 20
    ) -> None:
        self.name = name
        self.sample = sample
        self.ledger = ledger
        self.pace = Pace(rate)
        self.keys: Sequence[str] = [f"{name}-{number:02}" for number in range(keys)]
        self.stopping = False
        self.silent: set[str] = set()
        self.host = HOST
        self.local_addr: tuple[str, int] | None = None
        self._numbers = dict.fromkeys(self.keys, 0)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    async def stop(self, seconds: float = 20) -> None:
        """Send nothing new; wait for what is under way, but no longer than `seconds`."""
        self.stopping = True
        self.resume()
        if self._task is not None:
            task, self._task = self._task, None
            done, _ = await asyncio.wait((task,), timeout=seconds)
            if not done:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def pause(self) -> None:
        """Begin nothing new for a while; what is under way goes on."""
        self.pace.running.clear()

    def resume(self) -> None:
        self.pace.running.set()

    def gateway_gone(self) -> None:
        """The gateway was killed; for protocols where only a long silence would tell."""

    async def connect(self, make: Callable[[], P], port: int) -> P:
        """Return the protocol of a new connection.

        Raises:
            OSError: there is none to be had.
        """
        _, protocol = await asyncio.get_running_loop().create_connection(
            make, self.host, port, local_addr=self.local_addr
        )
        return protocol

    def next_number(self, key: str) -> int:
        number = self._numbers[key]
        self._numbers[key] = number + 1
        return number

    async def _run(self) -> None:
        raise NotImplementedError


class OneAtATime(Producer):
    """A sender whose keys each wait for the answer before they send the next event.

    Attributes:
        seconds: of each event, from its first sending until nothing more was to be done.
    """

    def __init__(self, *arguments: Any, **load: Any) -> None:
        super().__init__(*arguments, **load)
        self.seconds = array("f")

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for key in self.keys:
                group.create_task(self._run_key(key))

    async def _run_key(self, key: str) -> None:
        while not self.stopping and key not in self.silent:
            await self.pace.turn()
            if self.stopping or key in self.silent:
                return
            number = self.next_number(key)
            began = time.monotonic()
            while True:
                self.ledger.intent(key, number)
                wait = await self._send(key, number)
                if wait is None:
                    self.seconds.append(time.monotonic() - began)
                    break
                await asyncio.sleep(wait)

    async def _send(self, key: str, number: int) -> float | None:
        """Send an event once; returns seconds until it is to be repeated, None when it is done."""
        raise NotImplementedError
