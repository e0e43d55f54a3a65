"""What the connections of one listener share: limits, deadlines, the way into the gateway."""

import asyncio
import math
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import Final, Protocol

import msgspec

from bindings.binding import Message
from bindings.errors import NotAnEventError
from bindings.event import Event
from bindings.http import HTTP
from bindings.wire.http1_request import PlainPosts
from gateway.delivery import BUSY, Delivery
from gateway.interfaces import Intake
from gateway.sources.http.answers import Clock
from gateway.sources.http.config import HttpSourceConfig
from gateway.sources.http.credentials import Credentials
from gateway.sources.http.handshake import Handshake
from gateway.sources.http.rate import RateLimit

_SWEEP_SECONDS: Final = 1.0
# Connections whose deadlines are looked at in one go: the requests of others wait meanwhile.
_SWEPT_AT_ONCE: Final = 256
# Connections too many that are told so at one time; further ones are closed without a word.
_MAX_REFUSED: Final = 256


class Phase(IntEnum):
    """What a connection is reading; the first three index `Listener.timeouts`."""

    IDLE = 0
    HEAD = 1
    BODY = 2
    LINGER = 3
    """Nothing more is taken: the last answer is under way or has left."""


class Sender(Protocol):
    """A connection, as the listener sees it."""

    peer: str

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way and no answer has to be read."""

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
        plain: what requests have looked like so far.
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
        self.plain = PlainPosts()
        self.draining = False
        self._arrived: list[Sequence[Delivery]] = []
        self._comes_alone = False  # the latest read did
        self._handed_in_at = 0.0
        self._connections: set[Sender] = set()
        self._refused: set[Sender] = set()  # of these, those that are one too many
        self._from_address: dict[str, int] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._interval = min(_SWEEP_SECONDS, min(*self.timeouts, config.ack_timeout) / 4)
        self._unswept: list[Sender] = []  # whose turn is still to come
        self._pause = self._interval
        self._changed = asyncio.Event()

    def connected(self, sender: Sender) -> bool:
        """Add a connection; returns whether there is room for it.

        One without room is to be told so; it takes nobody else's room while it is.
        """
        if self._timer is None:
            self._timer = self._loop.call_later(self._interval, self._sweep)
        count = self._from_address.get(sender.peer, 0)
        most = self.config.max_connections_per_address
        has_room = len(self._connections) - len(self._refused) < self.config.max_connections and (
            most is None or count < most
        )
        self._connections.add(sender)
        if has_room:
            self._from_address[sender.peer] = count + 1
            return True
        if len(self._refused) >= _MAX_REFUSED:
            sender.abort()
        self._refused.add(sender)
        return False

    def disconnected(self, sender: Sender) -> None:
        """Forget a connection."""
        self._connections.discard(sender)
        self.changed()
        if sender in self._refused:
            self._refused.discard(sender)
            return
        count = self._from_address.get(sender.peer, 0) - 1
        if count > 0:
            self._from_address[sender.peer] = count
        else:
            self._from_address.pop(sender.peer, None)

    def changed(self) -> None:
        """Take note that a connection has ended or become idle."""
        self._changed.set()

    def drain(self) -> None:
        """Take nothing new, on any connection."""
        self.draining = True
        for sender in tuple(self._connections):
            sender.drain()

    async def drained(self) -> None:
        """Return when every request has its answer, and every sender of a last one has read it."""
        while not all(sender.is_idle for sender in self._connections):
            self._changed.clear()
            await self._changed.wait()

    def accepts(self, authorization: str) -> bool:
        """Whether a request may come in that shows this and no other credentials."""
        credentials = self.credentials
        return credentials is None or credentials.accepts(authorization.encode("latin-1"), b"")

    def take(self, arrived: Sequence[Delivery]) -> None:
        """Hand in what one read brought, together with that of other connections.

        While reads come one by one, the first of each millisecond waits for no others.
        """
        if self._arrived:
            self._arrived.append(arrived)
            return
        if self._comes_alone:
            now = self._loop.time()
            if now != self._handed_in_at:
                self._handed_in_at = now
                self._submit([arrived])
                return
        self._arrived.append(arrived)
        self._loop.call_soon(self._hand_in)

    def _hand_in(self) -> None:
        """Hand in what the connections have read since the event loop last came by."""
        reads, self._arrived = self._arrived, []
        self._comes_alone = len(reads) == 1
        self._submit(reads)

    def _submit(self, reads: Sequence[Sequence[Delivery]]) -> None:
        try_submit = self.intake.try_submit
        if len(reads) > 1 and try_submit([delivery for arrived in reads for delivery in arrived]):
            return
        for arrived in reads:
            if not try_submit(arrived):
                for delivery in arrived:
                    delivery.settle(BUSY)

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
        self._arrived.clear()  # nobody is left to be answered
        self._unswept.clear()
        for sender in tuple(self._connections):
            sender.abort()
        while self._connections:
            self._changed.clear()
            await self._changed.wait()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        """Look at the deadlines of some connections, so that each has its turn in an interval."""
        self._timer = None
        if not self._connections:
            self._unswept.clear()
            return
        unswept = self._unswept
        if not unswept:
            unswept.extend(self._connections)
            self._pause = self._interval / math.ceil(len(unswept) / _SWEPT_AT_ONCE)
        now = self._loop.time()
        for _ in range(min(len(unswept), _SWEPT_AT_ONCE)):
            unswept.pop().expire(now)
        self._timer = self._loop.call_later(self._pause, self._sweep)
