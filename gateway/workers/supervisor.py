"""The parent of several workers: it keeps them alive, and shows them as one gateway.

No event comes through here. The parent has what there is once: the administration, the dead
letters, the embedded nats-server. A worker that ends is replaced, and its successor of the same
number has its spool; one that can't be what it is told to be, at the start, ends the gateway.
"""

import asyncio
import logging
import os
import signal
import sys
import uuid
from collections.abc import Callable
from typing import Any, Final

import uvloop

from bindings.errors import CloudEventError
from bindings.json_format import decode_event
from gateway import assembly
from gateway.admin import AdminServer
from gateway.cli.logs import LogFormat, LogLevel
from gateway.config.gateway import GatewayConfig
from gateway.config.records import Address
from gateway.config.worker import Place
from gateway.dead_letters import FOLDER as LETTERS_FOLDER
from gateway.dead_letters import DeadLetters, Replay
from gateway.errors import GatewayError
from gateway.metrics import Metrics
from gateway.service import OnReady, start_embedded_nats
from gateway.sinks.log import LogSink, LogSinkConfig
from gateway.state import unusable
from gateway.tasks import Tasks
from gateway.workers import letters as remote
from gateway.workers import listeners as addresses
from gateway.workers.advice import advice
from gateway.workers.figures import WorkerFigures, added, exposition, received_of
from gateway.workers.messages import Logged, Start, Store, Stored
from gateway.workers.place import (
    check_room,
    folder_of,
    folders,
    keeps_letters,
    letters_bytes,
    state_of,
)
from gateway.workers.process import ReplayByWorker, WorkerProcess
from gateway.workers.upkeep import Upkeep

_log = logging.getLogger(__name__)

_CLOSE_SECONDS: Final = 10.0
"""What a worker may take to end beyond `drain.grace`; then it is killed."""


def serve(
    config: GatewayConfig,
    text: str,
    count: int,
    log_format: LogFormat,
    log_level: LogLevel,
    on_ready: OnReady | None = None,
) -> int:
    """Run the gateway as several processes until a signal ends it; returns the exit code.

    Args:
        config: the checked configuration.
        text: what it was read from; each worker reads it, too.
        count: how many workers.
        log_format: as of `ce-gateway run`.
        log_level: as of `ce-gateway run`.
        on_ready: called once, with the addresses of every listener by source name and `admin`.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        supervisor = Supervisor(config, text, count, (log_format, log_level), on_ready)
        return runner.run(supervisor.run())


class Supervisor:
    """The parent process; the administration's view of the whole."""

    def __init__(
        self,
        config: GatewayConfig,
        text: str,
        count: int,
        log_options: tuple[LogFormat, LogLevel],
        on_ready: OnReady | None = None,
    ) -> None:
        self._config = config
        self._text = text
        self._count = count
        self._log_options = log_options
        self._on_ready = on_ready
        self._state = state_of(config)
        self._workers: list[WorkerProcess] = []
        self._tasks = Tasks("workers")
        self._stop = asyncio.Event()
        self._failed = asyncio.Event()
        self._ready = asyncio.Event()
        self._ending = ""
        self._embedded: Any = None
        self._listeners: dict[str, Address] = {}
        self._metrics = Metrics()
        self.dead_letters: DeadLetters | None = None
        self.replay: Replay | None = None
        self.logs = {
            name: LogSink(sink)
            for name, sink in config.sinks.items()
            if isinstance(sink, LogSinkConfig)
        }
        self._admin = AdminServer(self, config.admin.listen, config.admin.token)

    # What the administration shows.

    @property
    def unready(self) -> str:
        """Why the gateway is not ready: a worker is not; "" when all are."""
        if self._ending:
            return self._ending
        missing = [worker for worker in self._at_work() if not worker.is_ready]
        if not self._workers:
            return "starting"
        return ", ".join(f"worker {one.number}: {one.unready or 'starting'}" for one in missing)

    async def exposition(self) -> bytes:
        """Return the sums over all workers in Prometheus' text format."""
        await asyncio.gather(*(worker.refresh() for worker in self._workers))
        return exposition(
            added(worker.families for worker in self._workers),
            self._metrics.collect_dead_letters(),
            [
                WorkerFigures(
                    worker.number,
                    worker.is_ready,
                    worker.restarts,
                    received_of(worker.families),
                )
                for worker in self._at_work()
            ],
        )

    def status(self) -> dict[str, Any]:
        """Return sources, sinks and routes as plain data, secrets masked, and each worker."""
        return {
            "ready": not self.unready,
            "unready": self.unready,
            "configuration": assembly.masked(self._config.model_dump(mode="json", by_alias=True)),
            "inflight": sum(worker.inflight for worker in self._workers),
            "workers": [
                {
                    "number": worker.number,
                    "pid": worker.pid,
                    "ready": worker.is_ready,
                    "unready": worker.unready,
                    "inflight": worker.inflight,
                    "restarts": worker.restarts,
                    "retired": worker.number >= self._count,
                }
                for worker in self._workers
            ],
        }

    # What workers say.

    def became_ready(self, worker: WorkerProcess) -> None:
        _log.info("worker %d is ready, process %d", worker.number, worker.pid)
        if not self.unready:
            self._ready.set()

    def store(self, worker: int, message: Store, send: Callable[[Stored], object]) -> None:
        remote.store(self.dead_letters, worker, message, send)

    def logged(self, message: Logged) -> None:
        log = self.logs.get(message.sink)
        if log is None:
            return
        events = []
        for encoded in message.events:
            try:
                events.append(decode_event(encoded))
            except CloudEventError as error:  # nested deeper than our stack lets us read
                _log.debug("an event of log sink %s is not shown: %s", message.sink, error)
        log.add(events)

    # The life of the whole.

    async def run(self) -> int:
        """Run until a signal; returns 0 after a clean end, 1 when something could not start."""
        Tasks.failed = self._failed
        self._handle_signals()
        try:
            await self._admin.open()
            await self._open()
            await self._over(self._ready)
            if not self._is_over:
                self._say_ready()
            await self._over()
        except GatewayError as error:
            _log.error("%s", error)
            self._failed.set()
        finally:
            await self._close()
        return 1 if self._failed.is_set() else 0

    @property
    def _is_over(self) -> bool:
        return self._stop.is_set() or self._failed.is_set()

    def _at_work(self) -> list[WorkerProcess]:
        return [worker for worker in self._workers if worker.number < self._count]

    async def _open(self) -> None:
        config = self._config
        routes = assembly.make_routes(config)
        check_room(config, routes, self._count)
        if config.embedded_nats:
            self._embedded, self._listeners = await start_embedded_nats(config)
        self._open_letters()
        found = await addresses.found(config)
        group = f"ce-gateway-{uuid.uuid4().hex[:12]}"
        left = [number for number in folders(self._state) if number >= self._count]
        for line in advice(config, self._count, left):
            _log.warning("%s", line)
        self._make_folders()
        _log.info("workers: %d", self._count)
        upkeep = Upkeep(self._state, self._count, self._pause, self._failed.set)
        for number in [*range(self._count), *left]:
            start = Start(
                number, self._count, group, self._text, found, str(self._state), *self._log_options
            )
            worker = WorkerProcess(start, self)
            self._workers.append(worker)
            self._tasks.start(upkeep.keep(worker), f"worker {number}")

    def _open_letters(self) -> None:
        if not keeps_letters(self._config):
            return
        letters = DeadLetters(self._state / LETTERS_FOLDER, max_bytes=letters_bytes(self._config))
        try:
            letters.open()
        except GatewayError as error:
            raise unusable(error) from None
        self._metrics.dead_letters = self.dead_letters = letters
        self.replay = Replay(letters, ReplayByWorker(self._at_work))
        if count := sum(letters.stored.values()):
            _log.info("%d dead letters: ce-gateway dead-letters list", count)

    def _make_folders(self) -> None:
        """Make each worker's folder, which tells a later run that there was one."""
        retired = Place(self._count, self._count, "")
        config = self._config
        leaves_something = any(
            source.for_worker(retired) is not None for source in config.sources.values()
        ) or any(route.delivery.spool == "auto" for route in config.routes)
        if not leaves_something:
            return
        for number in range(1, self._count):
            folder = folder_of(self._state, number)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise GatewayError(
                    f"state.path: {folder} can't be made: {error.strerror}"
                ) from None

    def _say_ready(self) -> None:
        _log.info("ready")
        if self._on_ready is None:
            return
        found = dict(self._listeners)
        for worker in reversed(self._at_work()):
            found.update(worker.listeners)
        self._on_ready({**found, "admin": self._admin.address})

    async def _close(self) -> None:
        self._ending = "draining"
        grace = self._config.drain.grace
        _log.info("draining, for at most %.0f s", grace)
        self._stop.set()
        for worker in self._workers:
            worker.stop()
        try:
            async with asyncio.timeout(grace + _CLOSE_SECONDS):
                await self._tasks.ended()
        except TimeoutError:
            for worker in self._workers:
                if worker.pid:
                    _log.error("worker %d does not end: it is killed", worker.number)
                    worker.kill()
            self._failed.set()
            await self._tasks.ended()
        if self.replay is not None:
            await self.replay.close()
        if self.dead_letters is not None:
            self.dead_letters.close()
        for log in self.logs.values():
            await log.close()
        if self._embedded is not None:
            await self._embedded.stop()
        await self._admin.close()
        _log.info("stopped")

    async def _pause(self, seconds: float) -> bool:
        if seconds and not self._is_over:
            await self._over(seconds=seconds)
        return self._is_over

    async def _over(self, or_: asyncio.Event | None = None, seconds: float | None = None) -> None:
        """Return when all is over, or an event has come, or a time has passed."""
        events = [self._stop, self._failed, *([or_] if or_ else [])]
        waiting = [asyncio.ensure_future(one.wait()) for one in events]
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()

    def _handle_signals(self) -> None:
        def on_signal(number: signal.Signals) -> None:
            if self._stop.is_set():
                for worker in self._workers:
                    worker.kill()
                sys.stderr.flush()
                os._exit(1)  # asked twice: at once
            _log.info("%s", number.name)
            self._stop.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal, number)
