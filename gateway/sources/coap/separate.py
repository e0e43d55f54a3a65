"""Answers that go out on their own as CON, repeated until they are acknowledged (RFC 7252 4.2)."""

import heapq
import random
from typing import Final

from gateway.sources.coap.listener import SocketAddress
from gateway.sources.coap.peers import Endpoint

ACK_TIMEOUT: Final = 2.0
ACK_RANDOM_FACTOR: Final = 1.5
MAX_RETRANSMIT: Final = 4
MAX_WAITING: Final = 10_000
"""Beyond as many, answers are sent once: their senders can ask again."""


class _Answer:
    __slots__ = ("datagram", "endpoint", "sent", "timeout")

    def __init__(self, datagram: bytes, endpoint: Endpoint, timeout: float) -> None:
        self.datagram = datagram
        self.endpoint = endpoint
        self.timeout = timeout
        self.sent = 1


class SeparateAnswers:
    """What waits for its acknowledgement; times are monotonic seconds."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[SocketAddress, int], _Answer] = {}
        self._due: list[tuple[float, int, tuple[SocketAddress, int]]] = []
        self._order = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def next_due(self) -> float | None:
        """When something has to be repeated or given up; None when nothing waits."""
        while self._due and self._due[0][2] not in self._waiting:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def add(self, datagram: bytes, endpoint: Endpoint, now: float) -> None:
        """Watch over a CON that has just been sent."""
        if len(self._waiting) >= MAX_WAITING:
            return
        # The spread keeps answers of one moment from being repeated in one moment.
        factor = random.uniform(1, ACK_RANDOM_FACTOR)  # noqa: S311 - no secret
        answer = _Answer(datagram, endpoint, ACK_TIMEOUT * factor)
        key = (endpoint.address, datagram[2] << 8 | datagram[3])
        self._waiting[key] = answer
        self._push(now + answer.timeout, key)

    def acknowledged(self, address: SocketAddress, mid: int) -> None:
        """Forget an answer: its ACK or RST has come."""
        self._waiting.pop((address, mid), None)

    def take_due(self, now: float) -> list[tuple[bytes, Endpoint]]:
        """Return what has to be sent again now."""
        result = []
        while self._due and self._due[0][0] <= now:
            key = heapq.heappop(self._due)[2]
            answer = self._waiting.get(key)
            if answer is None:
                continue
            if answer.sent > MAX_RETRANSMIT:
                del self._waiting[key]
                continue
            answer.sent += 1
            answer.timeout *= 2
            result.append((answer.datagram, answer.endpoint))
            self._push(now + answer.timeout, key)
        return result

    def _push(self, due: float, key: tuple[SocketAddress, int]) -> None:
        self._order += 1  # so that equal times never compare addresses
        heapq.heappush(self._due, (due, self._order, key))
