"""Answers that are given again to a repeated request (binding section 4.1).

The key is a digest of the endpoint and the whole datagram. So a datagram that uses a message id
again with other content is a new request: answering it from here would acknowledge an event that
nobody handled.
"""

from collections import deque
from hashlib import blake2b
from typing import Final, Generic, TypeVar

from bindings.coap import Peer

CON_SECONDS: Final = 247.0
"""EXCHANGE_LIFETIME (RFC 7252 4.8.2): how long a confirmable request may still be repeated."""
NON_SECONDS: Final = 145.0
"""NON_LIFETIME, the same for a non-confirmable one."""
CROWDED_SECONDS: Final = 47.0
"""MAX_TRANSMIT_SPAN and 2 s: when a sender has stopped repeating; less is never remembered."""

_ENTRY_BYTES: Final = 170
"""What an entry costs without its answer: key 64, places in dict and bucket 106; measured."""
_BUCKET_SECONDS: Final = 1.0

Pending = TypeVar("Pending")


def key_of(peer: Peer, datagram: bytes) -> bytes:
    """Return what repetitions of a datagram have in common, and nothing else has."""
    digest = blake2b(datagram, digest_size=16, key=peer.endpoint)
    return digest.digest()


class Duplicates(Generic[Pending]):
    """What was answered, for as long as it may be asked again; bounded in bytes.

    An entry is the exchange while it is under way, and then its answer: code, options and payload,
    without what the repetition itself has (message id and token). Times are monotonic seconds.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: dict[bytes, Pending | bytes] = {}
        self._buckets: dict[float, deque[tuple[float, list[bytes]]]] = {
            CON_SECONDS: deque(),
            NON_SECONDS: deque(),
        }
        self._answer_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def used_bytes(self) -> int:
        """An estimate of the memory in use."""
        return len(self._entries) * _ENTRY_BYTES + self._answer_bytes

    def get(self, key: bytes) -> Pending | bytes | None:
        """Return the exchange or the answer that `key` stands for."""
        return self._entries.get(key)

    def add(self, key: bytes, pending: Pending, lifetime: float, now: float) -> bool:
        """Remember a new request; False when there is no room and nothing is old enough to go."""
        if self.used_bytes >= self._max_bytes and not self._make_room(now):
            return False
        self._entries[key] = pending
        buckets = self._buckets[lifetime]
        if not buckets or now - buckets[-1][0] >= _BUCKET_SECONDS:
            buckets.append((now, [key]))
        else:
            buckets[-1][1].append(key)
        return True

    def answered(self, key: bytes, answer: bytes) -> None:
        """Keep the answer in the place of the exchange, unless that has expired."""
        if key in self._entries:
            self._entries[key] = answer
            self._answer_bytes += len(answer)

    def forget(self, key: bytes) -> None:
        """Let a repetition be a new request."""
        answer = self._entries.pop(key, None)
        if isinstance(answer, bytes):
            self._answer_bytes -= len(answer)

    def expire(self, now: float) -> None:
        """Forget what can't be repeated any more. A bucket goes when its newest entry may."""
        for lifetime, buckets in self._buckets.items():
            while buckets and buckets[0][0] + _BUCKET_SECONDS + lifetime <= now:
                self._drop_bucket(buckets)

    def _make_room(self, now: float) -> bool:
        for buckets in self._buckets.values():
            if buckets and buckets[0][0] + _BUCKET_SECONDS + CROWDED_SECONDS <= now:
                self._drop_bucket(buckets)
        return self.used_bytes < self._max_bytes

    def _drop_bucket(self, buckets: deque[tuple[float, list[bytes]]]) -> None:
        for key in buckets.popleft()[1]:
            self.forget(key)
