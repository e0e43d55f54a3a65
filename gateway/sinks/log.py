"""The built-in event log: the last events in memory, for the console, the API and `listen`.

Bounded in number and in bytes; the oldest give way. Nothing here can fail or wait.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Final
from weakref import WeakSet

import msgspec
from pydantic import Field

from bindings.event import Event
from gateway.config.records import SinkConfig, Size
from gateway.delivery import Failure

LISTENER_EVENTS: Final = 1000
"""Events that wait for one listener; a slower one misses the oldest and is told how many."""
_OVERHEAD_BYTES = 500  # an event's own objects, about


class LogSinkConfig(SinkConfig):
    """The built-in event log."""

    capacity: int = Field(1000, ge=1, description="events kept; the oldest give way")
    max_bytes: Size = Field(16 << 20, description="bytes kept, whatever the number of events")


class Entry(msgspec.Struct, frozen=True):
    """One event in the log.

    Attributes:
        sequence: 1 for the first event since the start, without gaps.
        received: when it came, as RFC 3339 in UTC.
        event: the event.
    """

    sequence: int
    received: str
    event: Event


class Listener:
    """New entries as they come: an asynchronous iterator.

    Attributes:
        missed: entries that were dropped because the listener was too slow.
    """

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=LISTENER_EVENTS)
        self._arrived = asyncio.Event()
        self._closed = False
        self.missed = 0

    def __aiter__(self) -> AsyncIterator[Entry]:
        return self

    async def __anext__(self) -> Entry:
        while not self._entries:
            if self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._entries.popleft()

    async def take(self) -> list[Entry]:
        """Return all that wait, as soon as there are any; none at the end."""
        while not (self._entries or self._closed):
            self._arrived.clear()
            await self._arrived.wait()
        entries = list(self._entries)
        self._entries.clear()
        return entries

    def close(self) -> None:
        """End after the entries that wait."""
        self._closed = True
        self._arrived.set()

    def put(self, entries: Sequence[Entry]) -> None:
        """Take new entries, at the cost of the oldest that were not read."""
        if self._closed:
            return
        self.missed += max(0, len(self._entries) + len(entries) - LISTENER_EVENTS)
        self._entries.extend(entries)
        self._arrived.set()


class LogSink:
    """Keeps the last events; `send` never fails."""

    config_type = LogSinkConfig

    def __init__(self, config: LogSinkConfig) -> None:
        self._capacity = config.capacity
        self._max_bytes = config.max_bytes
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._sequence = 0
        self._listeners: WeakSet[Listener] = WeakSet()  # one that is dropped is served no more

    async def open(self) -> None:
        pass

    async def send(
        self,
        events: Sequence[Event],
        timeout: float | None = None,  # noqa: ARG002 - nothing takes time here
    ) -> Sequence[Failure]:
        self.add(events)
        return ()

    def add(self, events: Sequence[Event]) -> None:
        """Keep events, at the cost of the oldest."""
        received = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        first = self._sequence + 1
        self._sequence += len(events)
        added = [Entry(number, received, event) for number, event in enumerate(events, first)]
        self._entries.extend(added)
        self._bytes += sum([_size(event) for event in events])
        while len(self._entries) > self._capacity or self._bytes > self._max_bytes:
            self._bytes -= _size(self._entries.popleft().event)
        for listener in self._listeners:
            listener.put(added)

    async def close(self) -> None:
        for listener in list(self._listeners):
            listener.close()

    def recent(self, limit: int = 100) -> list[Entry]:
        """Return the newest entries, at most so many, oldest first."""
        return list(islice(reversed(self._entries), limit))[::-1]

    def subscribe(self) -> Listener:
        """Return an iterator over what comes from now on; dropping it ends it."""
        listener = Listener()
        self._listeners.add(listener)
        return listener


def _size(event: Event) -> int:
    """Return about how many bytes an event takes."""
    size = _OVERHEAD_BYTES + len(event.id) + len(event.source) + len(event.type)
    size += len(event.data or b"") + len(event.encoded or b"") + len(event.subject or "")
    for name, value in event.extensions.items():
        size += len(name) + (len(value) if isinstance(value, (str, bytes)) else 8)
    return size
