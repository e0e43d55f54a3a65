"""Between the socket and the intake: decode what came, submit lists, hold what was released.

A released message is submitted again after a while, later ones of its key behind it (`Backlog`).
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final, Protocol

from bindings.binding import Message
from bindings.errors import CloudEventError, InvalidEventError, NotAnEventError, TooLargeError
from bindings.event import Event
from bindings.nats import NATS
from bindings.wire.nats import NatsMessage, parse_headers
from gateway.delivery import Delivery, ListedDelivery, Outcome, Settlement
from gateway.interfaces import Intake
from gateway.sources.backlog import Backlog
from gateway.sources.keeper import Undecodable
from gateway.sources.nats.config import NatsSourceConfig
from gateway.tasks import Tasks

MAX_LIST: Final = 500
"""Messages submitted at once; one read of the socket brings about a hundred."""
RAW_HEADER: Final = "NATS/1.0"
"""Name for a header block that can't be read, in what is kept; its bytes as latin-1."""
_ACCEPTED: Final = Outcome.ACCEPTED  # members of an Enum are slow to look up
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Item(ListedDelivery, eq=False, gc=False, kw_only=True):
    """One message on its way; when it has been decoded, the delivery of its events.

    Attributes:
        message: as it came; forgotten when it has been decoded.
        reply: where the answer goes; a redelivery brings a newer one.
        number: order of arrival, or the stream's sequence in decimal: few are ever read.
        size: bytes it takes.
        place: sequence and time (nanoseconds since 1970) in the stream, in decimal; none without.
        touched: monotonic seconds of the last sign to the server.
    """

    message: NatsMessage | None
    reply: bytes
    number: int | bytes
    size: int
    place: tuple[bytes, bytes] = (b"", b"")
    touched: float = 0.0


class Resubmission(ListedDelivery, eq=False, gc=False, kw_only=True):
    """What is submitted of an item that was released: a delivery settles once."""

    item: Item


class Owner(Protocol):
    """What a feed asks of the core subscriber or the JetStream consumer."""

    def identify(self, item: Item) -> tuple[str, str]:
        """Return id and time for a message that is to be wrapped."""

    def refused(self, item: Item, reason: str, text: str) -> None:
        """Take a message that brought no event: have it kept, or answer and count it."""

    def accepted(self, items: Sequence[Item]) -> None:
        """Answer messages whose events are safe."""

    def settled(self, item: Item, settlement: Settlement) -> None:
        """Answer a message, or hold it."""


class Feed:
    """Takes items in the order of arrival and submits their events.

    Attributes:
        told: what an item is settled by.
    """

    def __init__(self, config: NatsSourceConfig, owner: Owner, tasks: Tasks) -> None:
        self._tasks = tasks
        self._backlog = Backlog(tasks, None)
        self._owner = owner
        self._max_event_bytes = config.limits.max_event_bytes
        self._max_bytes = config.max_pending_bytes
        self._wrapper = None if config.event is None else config.event.wrapper()
        # One object each: what is settled together is told together.
        self.told: Callable[[Sequence[Item], Settlement], None] = self._settled
        self._told_again = self._settled_again
        self._queue: list[Item] = []
        self._bytes = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    def open(self, intake: Intake) -> None:
        """Begin to submit."""
        self._backlog.open(intake)
        self._tasks.start(self._run(intake), "feed")

    def close(self) -> None:
        """Submit nothing again any more."""
        self._backlog.close()

    @property
    def is_full(self) -> bool:
        """Whether more bytes wait than `max_pending_bytes`."""
        return self._bytes >= self._max_bytes

    def put(self, items: list[Item]) -> None:
        """Take new items; they are submitted soon."""
        self._bytes += sum([item.size for item in items])
        if self._queue:
            self._queue.extend(items)
        else:
            self._queue = items
        self._changed.set()

    def hold(self, item: Item, retry_after: float | None) -> None:
        """Submit an item again after a while."""
        self._bytes += item.size
        self._backlog.hold(_key(item), int(item.number), partial(self._again, item), retry_after)

    @property
    def unkept(self) -> int:
        """How many messages brought no event and are not kept yet, as `Keeper.weight` counts."""
        return self._backlog.keeper.weight

    def keep(self, item: Item, reason: str, text: str, on_kept: Callable[[], None]) -> None:
        """Hand in a message that brought no event, until it is kept; then `on_kept` is called."""
        assert item.message is not None  # noqa: S101 - only what brought events has lost it

        def answered(is_kept: bool) -> None:  # noqa: FBT001 - a callback
            if is_kept:
                item.message = None
                on_kept()

        message = _as_message(item.message)
        self._backlog.keeper.keep(Undecodable(message, reason, text, lambda: True, answered))

    async def wait_for_room(self, seconds: float) -> None:
        """Return when it is no longer full, or after `seconds`."""
        self._room.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._room.wait()

    async def _run(self, intake: Intake) -> None:
        """Decode and submit for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._queue:
                items, self._queue = self._queue, []
                if len(items) > MAX_LIST:
                    items, self._queue = items[:MAX_LIST], items[MAX_LIST:]
                ready = self._decode(items)
                if self._backlog.holds_any:
                    ready = [item for item in ready if not self._waits_behind(item)]
                if ready:
                    await intake.submit(ready)
                self._released(items)

    def _settled_again(self, submissions: Sequence[Resubmission], settlement: Settlement) -> None:
        self._settled([submission.item for submission in submissions], settlement)

    def _settled(self, items: Sequence[Item], settlement: Settlement) -> None:
        if settlement.outcome is _ACCEPTED:
            self._owner.accepted(items)
        else:
            for item in items:
                self._owner.settled(item, settlement)
        if self._backlog.holds_any:
            for item in items:  # of no effect on those that are held again
                self._backlog.passed(_key(item), int(item.number))

    def _waits_behind(self, item: Item) -> bool:
        key = _key(item)
        if not self._backlog.holds(key):
            return False
        self._bytes += item.size
        self._backlog.follow(key, int(item.number), partial(self._again, item))
        return True

    def _again(self, item: Item) -> Delivery:
        self._released([item])
        return Resubmission(item.events, self._told_again, item=item)

    def _released(self, items: list[Item]) -> None:
        was_full = self.is_full
        self._bytes -= sum([item.size for item in items])
        if was_full and not self.is_full:
            self._room.set()

    def _decode(self, items: list[Item]) -> list[Item]:
        ready = []
        for item in items:
            message = item.message
            if message is None:
                continue
            try:
                item.events = self._events(item, message)
            except CloudEventError as error:
                self._owner.refused(item, error.reason, str(error))
            else:
                item.message = None
                ready.append(item)
        return ready

    def _events(self, item: Item, message: NatsMessage) -> Sequence[Event]:
        payload = message.payload
        limit = self._max_event_bytes
        if len(payload) > limit:
            raise TooLargeError(f"{len(payload)} bytes, and {limit} is the limit", limit=limit)
        headers = parse_headers(message.header)
        content_type = headers.content_type
        try:
            return NATS.decode(Message(payload, content_type, headers.pairs, message.subject))
        except NotAnEventError:
            if self._wrapper is None:
                raise
            if _LONE_SURROGATE.search(message.subject):
                raise InvalidEventError("the subject is no UTF-8", reason="template") from None
        identity, moment = self._owner.identify(item)
        facts = {"subject": message.subject}
        event = self._wrapper.wrap(
            payload, facts, id=identity, time=moment, content_type=content_type
        )
        return (event,)


def utc_text(nanoseconds: int | None = None) -> str:
    """Return an RFC 3339 time: of nanoseconds since 1970, or now."""
    seconds, rest = divmod(time.time_ns() if nanoseconds is None else nanoseconds, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    return f"{moment.isoformat()}.{rest // 1000:06d}Z"


def _as_message(message: NatsMessage) -> Message:
    """Return what is kept of a message that brought no event."""
    try:
        headers = parse_headers(message.header)
    except CloudEventError:
        block = message.header.decode("latin-1")
        return Message(message.payload, "", [(RAW_HEADER, block)], message.subject)
    return Message(message.payload, headers.content_type, headers.pairs, message.subject)


def _key(item: Item) -> str:
    return item.events[0].key if item.events else ""
