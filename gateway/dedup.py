"""Deduplication by (source, id) in a bounded window of time; one `Dedup` for each route.

A producer that got no answer sends the event again, and a broker that lost a connection delivers
it again. spec.md ("id") lets a consumer take events of one source and id for the same event. A copy
is answered like its original: at once if that is safe, else when it is settled. Nobody is told that
a copy is safe before the original is.

Keys under way are kept as long as they are under way. Keys that are safe are kept in two
generations: after each `window` seconds the older one is dropped and the younger one takes its
place, so that nothing has to be looked for when it expires. A key is a digest: 12 bytes,
whatever the length of the id.
"""

import math
from collections.abc import Callable, Iterable
from enum import Enum
from hashlib import blake2b

from bindings.event import Event
from gateway.delivery import ACCEPTED, Settlement

OnSettled = Callable[[Settlement], None]


class Verdict(Enum):
    """What is known of an event that came in."""

    NEW = "new"
    """Not in the window; from now on it is under way, until `safe` or `forget` is called."""
    DUPLICATE_SAFE = "duplicate_safe"
    """The original is safe: acknowledge the copy."""
    DUPLICATE_PENDING = "duplicate_pending"
    """The original is under way: `attach`, and answer the copy with what the original gets."""


def key_of(source: str, id_: str) -> bytes:
    """Return what an event is known by. No attribute can hold the separator (spec.md, String)."""
    return blake2b(f"{source}\0{id_}".encode(), digest_size=12).digest()


def keys_of(events: Iterable[Event]) -> list[bytes]:
    """Return the key of each event."""
    return [
        blake2b(f"{event.source}\0{event.id}".encode(), digest_size=12).digest() for event in events
    ]


class Dedup:
    """The keys of one route's window.

    Args:
        window: seconds for which a key that is safe is kept, at least; twice as long at most.
        max_entries: the most safe keys that are kept, two or more. Half as many of the latest are
            kept in any case; to keep the rest as long as `window` asks may not be possible.

    Attributes:
        shortened: how many keys were dropped before their window ended, for want of entries.
    """

    def __init__(self, window: float, max_entries: int) -> None:
        self.shortened = 0
        self._window = window
        self._most = max(1, max_entries // 2)  # of each generation
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()
        self._since = -math.inf  # when the younger generation began
        self._pending: dict[bytes, list[OnSettled] | None] = {}

    def __len__(self) -> int:
        """Return how many keys are kept."""
        return len(self._young) + len(self._old) + len(self._pending)

    def admit(self, key: bytes, now: float) -> Verdict:
        """Say what is known of an event; one that is new is under way from now on.

        Args:
            key: of `key_of`.
            now: monotonic seconds, here and everywhere in this class; they never go back.
        """
        self._turn(now)
        if key in self._pending:
            return Verdict.DUPLICATE_PENDING
        if key in self._young or key in self._old:
            return Verdict.DUPLICATE_SAFE
        self._pending[key] = None
        return Verdict.NEW

    def attach(self, key: bytes, on_settled: OnSettled) -> None:
        """Have `on_settled` called once, when the event of this key that is under way is settled.

        Raises:
            KeyError: no such event is under way.
        """
        waiting = self._pending[key]
        if waiting is None:
            self._pending[key] = [on_settled]
        else:
            waiting.append(on_settled)

    def safe(self, key: bytes, now: float, settlement: Settlement = ACCEPTED) -> None:
        """Note that an event under way was accepted or stored; its copies are answered so, too."""
        self._turn(now)
        waiting = self._pending.pop(key, None)
        self._remember(key, now)
        for on_settled in waiting or ():
            on_settled(settlement)

    def forget(self, key: bytes, settlement: Settlement) -> None:
        """Note that an event under way was released or rejected; so are its copies.

        The next copy is new.
        """
        for on_settled in self._pending.pop(key, None) or ():
            on_settled(settlement)

    def restore(self, events: Iterable[tuple[str, str]], now: float) -> None:
        """Fill the window at the start with the (source, id) of events that are safe, oldest first.

        When they came is not known any more: their window begins now.
        """
        self._turn(now)
        for source, id_ in events:
            self._remember(key_of(source, id_), now)

    def _turn(self, now: float) -> None:
        """End the generations whose time has come; called before anything is read or added."""
        age = now - self._since
        if age < self._window:
            return
        if age < 2 * self._window:
            # Not from now on: nothing may live longer because nothing came for a while.
            self._since += self._window
            self._old, self._young = self._young, set()
        else:
            self._since = now
            self._old, self._young = set(), set()

    def _remember(self, key: bytes, now: float) -> None:
        if len(self._young) >= self._most:
            self.shortened += len(self._old)
            self._since = now
            self._old, self._young = self._young, set()
        self._young.add(key)
