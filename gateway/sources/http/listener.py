"""What the connections of one listener share: limits, deadlines, the way into the gateway."""

import asyncio
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from bindings.binding import Message
from bindings.errors import NotAnEventError
from bindings.event import Event
from bindings.http import HTTP
from gateway.interfaces import Intake
from gateway.sources.http.answers import Clock
from gateway.sources.http.config import HttpSourceConfig
from gateway.sources.http.credentials import Credentials
from gateway.sources.http.handshake import Handshake
from gateway.sources.http.rate import RateLimit

_SWEEP_SECONDS: Final = 1.0


class Sender(Protocol):
    """A connection, as the listener sees it."""

    peer: str

    def expire(self, now: float) -> None:
        """Act on deadlines that have passed."""

    def drain(self) -> None:
        """Take nothing new."""

    def abort(self) -> None:
        """Drop the connection."""


class Listener:
    """Keeps the connections and calls each one's `expire` from a single timer.

    Attributes:
        timeouts: seconds for each phase of reading: idle, head, body.
        ack_timeout: seconds for the answer to a message.
        path: the one that takes events; None for every path.
        retired: nothing is taken any more.
        require_origin: a delivery has to name its webhook sender.
        draining: nothing new is taken.
    """

    def __init__(self, config: HttpSourceConfig, intake: Intake) -> None:
        self.config = config
        self.intake = intake
        self.clock = Clock()
        self.credentials = Credentials.of(config)
        self.handshake = Handshake(config)
        self._rate = None if config.allowed_rate == "*" else RateLimit(config.allowed_rate)
        self._binding = msgspec.structs.replace(
            HTTP, max_batch_events=config.limits.max_batch_events
        )
        self._wrapper = None if config.event is None else config.event.wrapper()
        self.path = None if config.path == "*" else config.path.encode("ascii")
        # Each request looks at these; a record of pydantic takes its time to say them.
        self.ack_timeout = config.ack_timeout
        self.retired, self.require_origin = config.retired, config.require_origin
        self.timeouts = (config.keep_alive_timeout, config.header_timeout, config.body_timeout)
        self.draining = False
        self._connections: set[Sender] = set()
        self._from_address: dict[str, int] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._interval = min(_SWEEP_SECONDS, min(*self.timeouts, config.ack_timeout) / 4)
        self._empty = asyncio.Event()
        self._empty.set()

    def connected(self, sender: Sender) -> bool:
        """Add a connection; returns whether there is room for it."""
        self._connections.add(sender)
        count = self._from_address.get(sender.peer, 0) + 1
        self._from_address[sender.peer] = count
        self._empty.clear()
        if self._timer is None:
            self._timer = self._loop.call_later(self._interval, self._sweep)
        most = self.config.max_connections_per_address
        return len(self._connections) <= self.config.max_connections and (
            most is None or count <= most
        )

    def disconnected(self, sender: Sender) -> None:
        """Forget a connection."""
        self._connections.discard(sender)
        count = self._from_address.get(sender.peer, 0) - 1
        if count > 0:
            self._from_address[sender.peer] = count
        else:
            self._from_address.pop(sender.peer, None)
        if not self._connections:
            self._empty.set()

    def drain(self) -> None:
        """Take nothing new, on any connection."""
        self.draining = True
        for sender in tuple(self._connections):
            sender.drain()

    def decode(self, message: Message) -> Sequence[Event]:
        """Return the events of a request; wraps what is no CloudEvent if it is told how.

        Raises:
            CloudEventError: it brings none.
        """
        try:
            return self._binding.decode(message)
        except NotAnEventError:
            if self._wrapper is None:
                raise
        # Nothing tells a repeated POST from a new one, so each has an id of its own.
        event = self._wrapper.wrap(
            message.payload or b"",
            {"path": message.address},
            id=str(uuid.uuid4()),
            time=datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            content_type=message.content_type,
        )
        return (event,)

    def wait_of(self, origin: bytes) -> int:
        """Count a delivery; returns 0, or the seconds for which its sender has to wait."""
        return 0 if self._rate is None else self._rate.wait(origin.lower(), self._loop.time())

    async def close(self) -> None:
        """Drop every connection and the timer."""
        await self.handshake.close()
        for sender in tuple(self._connections):
            sender.abort()
        await self._empty.wait()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        self._timer = None
        now = self._loop.time()
        for sender in tuple(self._connections):
            sender.expire(now)
        if self._connections:
            self._timer = self._loop.call_later(self._interval, self._sweep)
