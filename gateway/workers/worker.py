"""A worker: a gateway's sources, pipeline and sinks in a process of their own.

Its parent tells it what to be, asks for its figures, has its dead letters, and tells it to end.
When the parent is gone it drains and ends by itself.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import uvloop

from bindings.json_format import encode_event
from gateway.cli import logs
from gateway.collector import settle_collector
from gateway.config.loader import load
from gateway.config.problems import ConfigErrors
from gateway.config.records import Address
from gateway.config.worker import Place
from gateway.service import Service
from gateway.sinks.log import LogSink
from gateway.tasks import Tasks
from gateway.workers.channel import Channel
from gateway.workers.figures import families_of
from gateway.workers.letters import NO_WORKER, RemoteLetters, letters_of
from gateway.workers.messages import (
    Ask,
    Emptied,
    Figures,
    Logged,
    Ready,
    Replay,
    Replayed,
    Start,
    Stop,
    Stored,
    ToWorker,
)
from gateway.workers.place import placed

_log = logging.getLogger(__name__)

FIGURES_SECONDS: Final = 1.0
"""How often the parent hears of the figures without asking: what it knows when we are killed."""
_LOOK_SECONDS: Final = 0.1
QUIET_SECONDS: Final = 5.0
"""How long nothing has to come before a session of an earlier run counts as empty."""


def main(descriptor: int) -> int:
    """Be a worker until the parent says otherwise; returns the exit code.

    Args:
        descriptor: our end of the socket pair.
    """
    sock = socket.socket(fileno=descriptor)
    sock.set_inheritable(False)

    async def work() -> int:
        return await Worker().run(sock)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work())


class Worker:
    """One worker."""

    def __init__(self) -> None:
        self._channel = Channel(ToWorker, self._received, self._lost)
        self._letters = RemoteLetters(self._channel.send)
        self._tasks = Tasks("worker")
        self._forwarding = Tasks("worker's event log")
        self._replays = Tasks("worker's replay")
        self._start: asyncio.Future[Start] = asyncio.get_running_loop().create_future()
        self._service: Service | None = None
        self._place = Place(0, 1, "")
        self._is_ending = False

    async def run(self, sock: socket.socket) -> int:
        """Run until the parent says otherwise; returns the exit code."""
        await self._channel.open(sock)
        start = await self._start
        self._place = Place(start.number, start.count, start.group)
        logs.configure(start.log_format, start.log_level, worker=start.number)
        try:
            config = load(start.text, os.environ)
        except ConfigErrors as errors:  # a file that it names has changed
            _log.error("%s", errors)
            return 1
        config = placed(config, self._place, listeners=start.listeners, state=Path(start.state))
        self._service = Service(config, self._ready, letters=self._letters)
        if self._is_ending:
            self._service.stop()
        self._tasks.start(self._tell_figures(), "figures")
        code = await self._service.run()
        await self._forwarding.ended()
        await self._replays.ended()
        self._send_figures(0)
        await self._tasks.close()
        await self._channel.close()
        return code

    # What the parent says.

    def _received(self, message: ToWorker) -> None:
        match message:
            case Start():
                self._start.set_result(message)
            case Ask():
                self._send_figures(message.call)
            case Stored():
                self._letters.stored(message)
            case Replay():
                self._replays.start(self._replay(message), "replay")
            case Stop():
                self._end()

    def _lost(self) -> None:
        if not self._start.done():
            self._start.cancel()
        self._letters.lost()
        if not self._is_ending:
            _log.error("the parent process is gone: draining")
        self._end()

    def _end(self) -> None:
        self._is_ending = True
        if self._service is not None:
            self._service.stop()

    # What the parent is told.

    def _ready(self, listeners: Mapping[str, Address]) -> None:
        service = self._service
        assert service is not None  # noqa: S101 - it calls this
        settle_collector()
        self._channel.send(Ready({name: (at.host, at.port) for name, at in listeners.items()}))
        for name, log in service.logs.items():
            self._forwarding.start(self._forward(name, log), name)
        if self._place.is_retired:
            self._tasks.start(self._see_empty(service), "emptied")

    async def _forward(self, name: str, log: LogSink) -> None:
        """Hand on what a log sink gets; what the parent has no time for is left out."""
        listener = log.subscribe()
        while entries := await listener.take():
            self._channel.send(Logged(name, [encode_event(entry.event) for entry in entries]))
            await self._channel.flushed()

    async def _tell_figures(self) -> None:
        while True:
            if not self._channel.is_congested:
                self._send_figures(0)
            await asyncio.sleep(FIGURES_SECONDS)

    def _send_figures(self, call: int) -> None:
        service = self._service
        if service is None:
            self._channel.send(Figures(call, "starting", 0, []))
            return
        families = families_of(service.metrics.collect())
        self._channel.send(Figures(call, service.unready, service.inflight, families))

    async def _replay(self, message: Replay) -> None:
        replayer = self._service.replayer() if self._service is not None else None
        if replayer is None:
            settlements = [NO_WORKER] * len(message.letters)
        else:
            settlements = list(await replayer.replay(letters_of(message.letters)))
        self._channel.send(Replayed(message.call, settlements))

    async def _see_empty(self, service: Service) -> None:
        """Say when nothing is left of what an earlier run had: events in spools, or a session."""
        loop = asyncio.get_running_loop()
        seen, since = -1, loop.time()
        while True:
            received = sum(source.received for source in service.metrics.sources.values())
            if received != seen or service.waiting or service.inflight or service.owes:
                seen, since = received, loop.time()
            elif loop.time() - since >= (QUIET_SECONDS if service.has_sources else 0.0):
                self._channel.send(Emptied())
                self._end()
                return
            await asyncio.sleep(_LOOK_SECONDS)
