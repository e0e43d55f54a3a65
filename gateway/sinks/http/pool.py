"""Keep-alive connections to one receiver.

The pool pulls: when a connection is free it asks its `Work` for the next request and writes it at
once, from the callback that brought the last answer. No task, future or timer belongs to a request;
connecting is a task, and one timer sweeps all deadlines while there are connections.

An HTTP/1.1 connection is free when nothing is under way on it. A connection that is shared takes
several requests, with HTTP/2 as many as the receiver allows; another one is added when all of them
say that they are not enough.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from bindings.wire.http2 import RequestEncoder
from gateway.errors import GatewayError
from gateway.sinks.http.connect import Endpoint, SharedConnection, connect
from gateway.sinks.http.connection import Answer, Connection, Request
from gateway.tasks import Tasks

_SWEEP_SECONDS: Final = 0.5
_LEAST_SWEEP_SECONDS: Final = 0.005
_CLOSED: Final = Answer(None, error="the sink was closed")
_LOST: Final = Answer(None, error="connection lost: closed by the sink")
_TOO_LATE: Final = Answer(None, error="no connection in time", timed_out=True)


class Work(Protocol):
    """Where requests come from."""

    def ready(self) -> int:
        """Return how many requests could be sent now."""

    def next(self) -> Request | None:
        """Take the next one."""

    def fail(self, answer: Answer) -> None:
        """Fail all that could be sent now: the receiver can't be reached."""


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
        self._encoder = RequestEncoder(b"http" if endpoint.tls is None else b"https")
        self._connections: set[Connection | SharedConnection] = set()
        self._idle: list[Connection] = []  # the one used last is used next, so the rest can go
        self._shared: list[SharedConnection] = []  # those that take requests, oldest first
        self._retired: set[SharedConnection] = set()
        self._again: deque[Request] = deque()  # what nobody has read
        # One connection may do: as long as that is so they are opened one by one.
        self._multiplexes = endpoint.may_multiplex
        self._connecting = 0
        self._repeated: set[Request] = set()  # what a connection is being made for
        self._is_telling = False
        self._is_woken = False  # while it was telling
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._empty = asyncio.Event()
        self._empty.set()

    def wake(self) -> None:
        """Send what is ready, on connections that have room and on new ones."""
        if self._closing:
            self._loop.call_soon(self.work.fail, _CLOSED)
            return
        if self._is_telling:  # a connection is about to ask for more, and may do for it
            self._is_woken = True
            return
        self._feed()
        wanted = len(self._again) + self.work.ready()
        if not wanted:
            return
        if self._multiplexes:
            wanted = min(wanted, 1) if all(one.needs_another for one in self._shared) else 0
        room = self._size - self._standing() - self._connecting
        for _ in range(min(wanted - self._connecting, room)):
            self._connect(None)

    def answered(self, connection: Connection, request: Request, answer: Answer) -> None:
        """Hand over an answer, and give its connection the next request."""
        self._is_telling = True
        try:
            request.on_answer(answer)
        finally:
            self._is_telling = False
        self.release(connection)
        if self._is_woken:
            self._is_woken = False
            self.wake()

    def tell(self, request: Request, answer: Answer) -> None:
        """Hand over an answer; what is sent because of it goes later, when all is as it should."""
        self._is_telling = True
        try:
            request.on_answer(answer)
        finally:
            self._is_telling = False
        if self._is_woken:
            self._is_woken = False
            self._loop.call_soon(self.wake)

    def _feed(self) -> None:
        if self._shared:
            for shared in tuple(self._shared):
                shared.fill()
        while self._idle:
            request = self.take()
            if request is None:
                return
            self._idle.pop().start(request, was_idle=True)

    def take(self, *, new_only: bool = False) -> Request | None:
        """Return the next request: what nobody has read goes first.

        Args:
            new_only: only one that was never sent before, and none that would overtake those.
        """
        if self._closing:
            return None
        if self._again and new_only:
            return None
        while self._again:
            request = self._again.popleft()
            if request.deadline > self._loop.time():
                return request
            self.tell(request, _TOO_LATE)
        return self.work.next()

    def repeat(self, request: Request) -> None:
        """Send a request again on a new connection."""
        request.repeated = True
        request.begin(self._loop.time())
        if self._closing:
            self.tell(request, _CLOSED)
            return
        # What closed this connection (a restart, an idle timeout) has likely closed the others.
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        self._connect(request)

    def again(self, requests: Sequence[Request]) -> None:
        """Send requests again that nobody has read, on any connection that has room."""
        for request in requests:
            request.repeated = True
        self._again.extend(requests)
        if self._closing:
            self._fail_again(_CLOSED)
        else:
            self.wake()

    async def close(self) -> None:
        """Give up every connection; requests under way are answered as failed."""
        self._closing = True
        await self._tasks.close()
        for request in self._repeated:  # the tasks may not even have begun
            self.tell(request, _CLOSED)
        self._repeated.clear()
        for connection in tuple(self._connections):
            connection.abort()
        await self._empty.wait()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._fail_again(_CLOSED)
        self.work.fail(_CLOSED)

    def _fail_again(self, answer: Answer) -> None:
        while self._again:
            self.tell(self._again.popleft(), answer)

    def _standing(self) -> int:
        """Return how many connections there are that may take requests."""
        return len(self._connections) - len(self._retired)

    # Connecting.

    def _connect(self, request: Request | None) -> None:
        self._connecting += 1
        if request is not None:
            self._repeated.add(request)
        self._tasks.start(self._open(request), "connect")

    async def _open(self, request: Request | None) -> None:
        began = self._loop.time()
        deadline = began + self.timeout if request is None else request.deadline
        try:
            async with asyncio.timeout_at(deadline):
                connection = await connect(self.endpoint, self, self._encoder)
        except TimeoutError:
            answer = _TOO_LATE
        except (OSError, GatewayError) as error:
            answer = Answer(None, error=f"no connection: {error}"[:200])
        else:
            self._connected(request)
            self._use(connection, request, began)
            return
        self._connected(request)
        self._not_opened(answer, request)

    def _connected(self, request: Request | None) -> None:
        self._connecting -= 1
        if request is not None:
            self._repeated.discard(request)

    def _use(
        self, connection: Connection | SharedConnection, request: Request | None, began: float
    ) -> None:
        """Give a new connection what it was made for."""
        multiplexed, self._multiplexes = self._multiplexes, isinstance(connection, SharedConnection)
        if isinstance(connection, SharedConnection):
            if not connection.is_usable:  # lost before anything could be sent
                if connection in self._connections:
                    self.retire(connection)
                self._not_opened(_LOST, request)
                return
            if request is not None:
                self._again.appendleft(request)
            self._shared.append(connection)
            connection.fill(began)
            self.wake()  # where one is not enough
            return
        if request is not None:
            connection.start(request, was_idle=False)
        else:
            self.release(connection, began)
        if multiplexed:  # now that it is known that one connection will not do
            self.wake()

    def _not_opened(self, answer: Answer, request: Request | None) -> None:
        if request is not None:
            self.tell(request, answer)
        # While another connection lives or is on its way, what is ready waits for that one.
        if not self._standing() and not self._connecting:
            self._fail_again(answer)
            self.work.fail(answer)
        else:  # `on_answer` may have made something ready
            self._feed()

    # What connections call.

    def opened(self, connection: Connection | SharedConnection) -> None:
        """Count a connection that stands."""
        self._connections.add(connection)
        self._empty.clear()
        if self._timer is None:
            self._timer = self._loop.call_later(self._interval, self._sweep)

    def retire(self, connection: SharedConnection) -> None:
        """Give a connection no more requests; another one may take its place."""
        self._retired.add(connection)
        if connection in self._shared:
            self._shared.remove(connection)

    def lost(self, connection: Connection | SharedConnection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        if isinstance(connection, SharedConnection):
            self._retired.discard(connection)
        elif connection in self._idle:
            self._idle.remove(connection)
        if not self._connections:
            self._empty.set()

    def release(self, connection: Connection, began: float | None = None) -> None:
        """Give a free connection its next request.

        Args:
            connection: a free one.
            began: the loop's time when connecting began, if it has just been made for this.
        """
        request = self.take() if self._again or self._closing else self.work.next()
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
        if self._shared and self.work.ready():  # they may have been slow since the last look
            self.wake()
        if self._connections:
            self._timer = self._loop.call_later(self._interval, self._sweep)
