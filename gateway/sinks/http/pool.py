"""Keep-alive connections to one receiver.

The pool pulls: when a connection is free it asks its `Work` for the next request and writes it at
once, from the callback that brought the last answer. No task, future or timer belongs to a request;
connecting is a task, and one timer sweeps all deadlines while there are connections.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from gateway.errors import GatewayError
from gateway.sinks.http.connection import Answer, Connection, Request
from gateway.tasks import Tasks

_SWEEP_SECONDS: Final = 0.5
_LEAST_SWEEP_SECONDS: Final = 0.005
_CLOSED: Final = Answer(None, error="the sink was closed")


class Work(Protocol):
    """Where requests come from."""

    def ready(self) -> int:
        """Return how many requests could be sent now."""

    def next(self) -> Request | None:
        """Take the next one."""

    def fail(self, answer: Answer) -> None:
        """Fail all that could be sent now: the receiver can't be reached."""


class Endpoint(msgspec.Struct, frozen=True):
    """Where connections go.

    Attributes:
        host: name or address; resolved for each connection.
        port: TCP port.
        tls: returns the context for a new connection; None is plain HTTP.
    """

    host: str
    port: int
    tls: Callable[[], ssl.SSLContext] | None = None


class Pool:
    """The connections to one endpoint.

    Args:
        endpoint: where they go.
        work: where requests come from.
        size: most connections.
        timeout: seconds for connecting, TLS included, which is the beginning of an attempt.
        idle_timeout: seconds after which an unused connection is closed.

    Attributes:
        timeout: see above; follows the caller's wish for an attempt.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        work: Work,
        *,
        size: int,
        timeout: float,
        idle_timeout: float,
    ) -> None:
        self.endpoint = endpoint
        self.work = work
        self.idle_timeout = idle_timeout
        self._size = size
        self.timeout = timeout
        self._interval = max(
            min(_SWEEP_SECONDS, timeout / 10, idle_timeout / 4), _LEAST_SWEEP_SECONDS
        )
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks("http pool")
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []  # the one used last is used next, so the rest can go
        self._connecting = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._empty = asyncio.Event()
        self._empty.set()

    def wake(self) -> None:
        """Send what is ready, on idle connections and on new ones."""
        while self._idle and not self._closing:
            request = self.work.next()
            if request is None:
                return
            self._idle.pop().start(request, was_idle=True)
        wanted = 0 if self._closing else self.work.ready() - self._connecting
        room = self._size - len(self._connections) - self._connecting
        for _ in range(min(wanted, room)):
            self._connect(None)

    def repeat(self, request: Request) -> None:
        """Send a request again on a new connection."""
        request.repeated = True
        request.begin(self._loop.time())
        if self._closing:
            request.on_answer(_CLOSED)
            return
        # What closed this connection (a restart, an idle timeout) has likely closed the others.
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        self._connect(request)

    async def close(self) -> None:
        """Give up every connection; requests under way are answered as failed."""
        self._closing = True
        await self._tasks.close()
        for connection in tuple(self._connections):
            connection.abort()
        await self._empty.wait()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.work.fail(_CLOSED)

    # Connecting.

    def _connect(self, request: Request | None) -> None:
        self._connecting += 1
        self._tasks.start(self._open(request), "connect")

    async def _open(self, request: Request | None) -> None:
        endpoint, began = self.endpoint, self._loop.time()
        deadline = began + self.timeout if request is None else request.deadline
        try:
            async with asyncio.timeout_at(deadline):
                context = endpoint.tls() if endpoint.tls is not None else None
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self),
                    endpoint.host,
                    endpoint.port,
                    ssl=context,
                    server_hostname=endpoint.host if context is not None else None,
                )
        except TimeoutError:
            answer = Answer(None, error="no connection in time", timed_out=True)
        except (OSError, GatewayError) as error:
            answer = Answer(None, error=f"no connection: {error}"[:200])
        else:
            self._connecting -= 1
            if request is not None:
                connection.start(request, was_idle=False)
            else:
                self.release(connection, began)
            return
        self._connecting -= 1
        self._not_opened(answer, request)

    def _not_opened(self, answer: Answer, request: Request | None) -> None:
        if request is not None:
            request.on_answer(answer)
        # While another connection lives or is on its way, what is ready waits for that one.
        if not self._connections and not self._connecting:
            self.work.fail(answer)
        elif self._idle:  # `on_answer` may have made something ready
            self.wake()

    # What connections call.

    def opened(self, connection: Connection) -> None:
        """Count a connection that stands."""
        self._connections.add(connection)
        self._empty.clear()
        if self._timer is None:
            self._timer = self._loop.call_later(self._interval, self._sweep)

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._connections:
            self._empty.set()

    def release(self, connection: Connection, began: float | None = None) -> None:
        """Give a free connection its next request.

        Args:
            connection: a free one.
            began: the loop's time when connecting began, if it has just been made for this.
        """
        request = None if self._closing else self.work.next()
        if request is None:
            connection.deadline = self._loop.time() + self.idle_timeout
            self._idle.append(connection)
        else:
            if began is not None:
                request.begin(began)
            connection.start(request, was_idle=False)

    def watch(self, seconds: float) -> None:
        """Look at deadlines often enough for a timeout of so many seconds."""
        interval = max(seconds / 10, _LEAST_SWEEP_SECONDS)
        if interval < self._interval:
            self._interval = interval
            if self._timer is not None:
                self._timer.cancel()
                self._timer = self._loop.call_later(interval, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = self._loop.time()
        for connection in tuple(self._connections):
            if connection.deadline <= now:
                connection.expire()
        if self._connections:
            self._timer = self._loop.call_later(self._interval, self._sweep)
