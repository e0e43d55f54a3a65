"""The running gateway: opens everything, says when it is ready, and ends without losing anything.

Order at the start: administration, sinks, pipeline, sources. At SIGTERM: unready, sources take
nothing new, the pipeline ends what is under way within `drain.grace`, what is left is released,
then everything closes. A second SIGTERM ends the process at once.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import uvloop

from gateway import assembly
from gateway.admin import AdminServer
from gateway.collector import settle_collector
from gateway.config.gateway import GatewayConfig
from gateway.config.records import Address
from gateway.dead_letters import DeadLetters, IntakeReplayer, LetterBox, Replay
from gateway.errors import GatewayError
from gateway.interfaces import Sink, Source
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.router import Route
from gateway.sinks.log import LogSink
from gateway.state import State, default_path
from gateway.target import Target
from gateway.tasks import Tasks

_log = logging.getLogger(__name__)

OnReady = Callable[[Mapping[str, Address]], None]

_CLOSE_SECONDS = 2.0
"""What each adapter's close may take; beyond it the process ends without it."""


def serve(config: GatewayConfig, *, on_ready: OnReady | None = None) -> int:
    """Run the gateway until a signal ends it; returns the exit code.

    Args:
        config: the checked configuration.
        on_ready: called once, with the addresses of every listener by source name and `admin`.
    """

    def ready(listeners: Mapping[str, Address]) -> None:
        settle_collector()
        if on_ready is not None:
            on_ready(listeners)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Service(config, ready).run())


class Service:
    """A gateway in one process, or one worker's part of it.

    Args:
        config: the checked configuration; a worker's is its own part.
        on_ready: called once, with the addresses of every listener.
        letters: in a worker, where dead letters are put. It has no administration, and its parent
            says when it ends.
    """

    def __init__(
        self,
        config: GatewayConfig,
        on_ready: OnReady | None = None,
        *,
        letters: LetterBox | None = None,
    ) -> None:
        self._config = config
        self._elsewhere = letters
        self._on_ready = on_ready
        self._unready = "starting"
        self._opening: list[str] = []  # what is waited for meanwhile
        self._sources: dict[str, Source] = {}
        self._sinks: dict[str, Sink] = {}
        self._pipeline: Pipeline | None = None
        self._state: State | None = None
        self._embedded: Any = None
        self._listeners: dict[str, Address] = {}
        self._stop = asyncio.Event()
        self._failed = asyncio.Event()
        self.metrics = Metrics()
        self.logs: dict[str, LogSink] = {}
        self.dead_letters: DeadLetters | None = None
        self.replay: Replay | None = None
        self._admin = (
            AdminServer(self, config.admin.listen, config.admin.token) if letters is None else None
        )

    @property
    def unready(self) -> str:
        """Why the gateway is not ready; "" when it is."""
        if self._opening and self._unready == "starting":
            return f"starting; not open yet: {', '.join(self._opening)}"
        return self._unready

    def status(self) -> dict[str, Any]:
        """Return sources, sinks and routes as plain data, secrets masked."""
        return {
            "ready": not self.unready,
            "unready": self.unready,
            "configuration": assembly.masked(self._config.model_dump(mode="json", by_alias=True)),
            "inflight": self.inflight,
        }

    @property
    def inflight(self) -> int:
        """Events under way on all routes."""
        return self._pipeline.inflight if self._pipeline else 0

    @property
    def waiting(self) -> int:
        """Events in the spools."""
        return sum(at_work.spool.pending for at_work in self.metrics.spools.values())

    @property
    def owes(self) -> bool:
        """Whether a source has messages that wait for an answer; released ones are with it."""
        return any(getattr(source, "owes", False) for source in self._sources.values())

    @property
    def has_sources(self) -> bool:
        """Whether anything may come in."""
        return bool(self._sources)

    async def exposition(self) -> bytes:
        """Return every counter in Prometheus' text format."""
        return self.metrics.exposition()

    def replayer(self) -> IntakeReplayer | None:
        """Return what delivers dead letters to their routes once more; None before the start."""
        return IntakeReplayer(self._pipeline.replay_intake) if self._pipeline else None

    def stop(self) -> None:
        """Drain and end, as at SIGTERM; calling it again does nothing."""
        self._stop.set()

    async def run(self) -> int:
        """Run until a signal; returns 0 after a clean end, 1 when something could not start."""
        Tasks.failed = self._failed
        self._handle_signals()
        try:
            if self._admin is not None:
                await self._admin.open()
            await self._run_pipeline()
        except* GatewayError as errors:
            for error in _leaves(errors):
                _log.error("%s", error)
            self._failed.set()
        finally:
            await self._close()
        return 1 if self._failed.is_set() else 0

    async def _run_pipeline(self) -> None:
        if self._config.embedded_nats:
            self._embedded, listeners = await start_embedded_nats(self._config)
            self._listeners.update(listeners)
        if not self._sinks_known():
            self._unready = "the address of a sink is not known: K_SINK is not set"
            _log.warning("%s; no source is opened", self._unready)
            await self._stopped()
            return
        opening = asyncio.ensure_future(self._open_adapters())
        stopped = asyncio.ensure_future(self._stopped())
        try:
            await asyncio.wait((opening, stopped), return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                opening.result()
                self._say_ready()
                await stopped
        finally:
            opening.cancel()
            stopped.cancel()
            await asyncio.gather(opening, stopped, return_exceptions=True)
        await self._drain()

    async def _open_adapters(self) -> None:
        """Open sinks, then sources; when one can't be opened, the others are not waited for."""
        self._sinks = assembly.make_sinks(self._config)
        self.logs = {name: sink for name, sink in self._sinks.items() if isinstance(sink, LogSink)}
        async with asyncio.TaskGroup() as group:
            for name, sink in self._sinks.items():
                group.create_task(self._open("sink", name, sink.open()))
        targets = {
            name: Target(
                name=name, sink=sink, address=assembly.address_of(name, self._config.sinks[name])
            )
            for name, sink in self._sinks.items()
        }
        routes = assembly.make_routes(self._config)
        self._open_state(routes)
        self._pipeline = Pipeline(routes, targets, self.metrics, self._state)
        if self.dead_letters is not None and (replayer := self.replayer()) is not None:
            self.replay = Replay(self.dead_letters, replayer)
        self._pipeline.start()
        self._sources = assembly.make_sources(self._config)
        async with asyncio.TaskGroup() as group:
            for name, source in self._sources.items():
                group.create_task(self._open_source(name, source, self._pipeline))

    def _open_state(self, routes: Sequence[Route]) -> None:
        if not any(route.spool or route.keeps_letters for route in routes):
            return
        config = self._config.state
        path = (config.path or default_path(os.environ)).absolute()
        _log.info("state: %s", path)
        state = State(path, config.max_bytes, routes, self._elsewhere)
        state.open()
        self._state = state
        self.metrics.dead_letters = self.dead_letters = state.dead_letters

    def _sinks_known(self) -> bool:
        return all(
            getattr(sink, "url", None) != "" or not getattr(sink, "is_k_sink", False)
            for sink in self._config.sinks.values()
        )

    async def _open(self, kind: str, name: str, opening: Awaitable[None]) -> None:
        """Await the opening of an adapter; its error says which one it is."""
        self._opening.append(f"{kind} {name}")
        try:
            await opening
        except GatewayError as error:
            raise GatewayError(f"{kind} {name}: {error}") from error
        self._opening.remove(f"{kind} {name}")

    async def _open_source(self, name: str, source: Source, pipeline: Pipeline) -> None:
        intake = pipeline.intake(name, self._config.sources[name].protocol)
        await self._open("source", name, source.open(intake))
        _log.info("source %s is open", name, extra={"source": name})

    def _say_ready(self) -> None:
        self._unready = ""
        _log.info("ready")
        if self._on_ready is not None:
            listeners = dict(self._listeners)
            if self._admin is not None:
                listeners["admin"] = self._admin.address
            for name, source in self._sources.items():
                address = getattr(source, "address", None)
                if isinstance(address, Address):
                    listeners[name] = address
            self._on_ready(listeners)

    async def _drain(self) -> None:
        self._unready = "draining"
        if self._pipeline is None:
            return
        grace = self._config.drain.grace
        started = time.monotonic()
        _log.info("draining, for at most %.0f s", grace)
        draining = asyncio.gather(
            *(source.drain() for source in self._sources.values()), return_exceptions=True
        )
        await asyncio.sleep(0)  # every source has stopped to take before the pipeline refuses
        # A tenth of the grace is for the answers that the last settlements cause.
        await self._pipeline.drain(grace * 0.9)
        await self._pipeline.close()
        left = max(grace - (time.monotonic() - started), 0.5)
        done, _ = await asyncio.wait((draining,), timeout=left)
        for result in draining.result() if done else ():
            if isinstance(result, Exception):
                _log.error("a source failed to drain", exc_info=result)
        draining.cancel()

    async def _close(self) -> None:
        await _close_all(self._sources)
        if self._pipeline is not None:
            await self._pipeline.close()
        if self.replay is not None:
            await self.replay.close()
        if self._state is not None:
            self._state.close()
        await _close_all(self._sinks)
        if self._embedded is not None:
            await self._embedded.stop()
        if self._admin is not None:
            await self._admin.close()
        _log.info("stopped")

    async def _stopped(self) -> None:
        stop = asyncio.ensure_future(self._stop.wait())
        failed = asyncio.ensure_future(self._failed.wait())
        try:
            await asyncio.wait((stop, failed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            failed.cancel()

    def _handle_signals(self) -> None:
        def on_signal(number: signal.Signals) -> None:
            if self._stop.is_set() and self._admin is not None:
                sys.stderr.flush()
                os._exit(1)  # asked twice: at once
            _log.info("%s", number.name)
            self.stop()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal, number)


async def start_embedded_nats(config: GatewayConfig) -> tuple[Any, dict[str, Address]]:
    """Start the nats-server of the embedded default; return it and where it listens.

    Raises:
        GatewayError: it does not start.
    """
    from gateway.embedded_nats import EmbeddedNats  # noqa: PLC0415 - the default alone needs it

    name, source = next(item for item in config.sources.items() if item[1].protocol == "nats")
    port = urlsplit(getattr(source, "url", "")).port or 4222
    server = EmbeddedNats(port=port)
    await server.start()
    return server, {name: Address("127.0.0.1", port)}


async def _close_all(adapters: Mapping[str, Source | Sink]) -> None:
    """Close adapters at the same time; one that can't does not keep the others from it."""

    async def close(name: str, adapter: Source | Sink) -> None:
        try:
            await asyncio.wait_for(adapter.close(), _CLOSE_SECONDS)
        except TimeoutError:
            _log.warning("%s did not close in %.0f s", name, _CLOSE_SECONDS)

    results = await asyncio.gather(
        *(close(name, adapter) for name, adapter in adapters.items()), return_exceptions=True
    )
    for name, result in zip(adapters, results, strict=True):
        if isinstance(result, Exception):
            _log.error("%s failed to close", name, exc_info=result)


def _leaves(group: BaseExceptionGroup[GatewayError]) -> list[GatewayError]:
    leaves: list[GatewayError] = []
    for error in group.exceptions:
        leaves.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return leaves
