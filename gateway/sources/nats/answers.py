"""What is said about messages: acknowledgements of a stream, or replies to requests."""

import asyncio
from collections.abc import Sequence

from gateway.nats_connection import NatsConnection


class Answers:
    """Answers to messages, written together once per turn of the event loop.

    What can't be written waits, and goes out with the next connection.
    """

    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection
        self._waiting: list[bytes] = []
        self._scheduled = False
        self._held = False

    @property
    def is_held(self) -> bool:
        """Whether they wait for `release`."""
        return self._held

    def add(self, reply: bytes, text: bytes) -> None:
        """Publish `text` to `reply` soon; after a reconnection if need be."""
        self.add_all((reply,), text)

    def add_all(self, replies: Sequence[bytes], text: bytes) -> None:
        """Publish `text` to each of `replies`, which are not empty, as `add` does."""
        end = b" %d\r\n%b\r\n" % (len(text), text)
        self._waiting.append(b"PUB " + (end + b"PUB ").join(replies) + end)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.flush)

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()

    def hold(self) -> None:
        """Write nothing until `release`: it is not known whom it would reach."""
        self._held = True

    def release(self) -> None:
        """Write what waits, and what comes."""
        self._held = False
        self.flush()

    def flush(self) -> None:
        """Write what waits, if there is a connection."""
        self._scheduled = False
        if self._held or not self._waiting:
            return
        if self._connection.write(b"".join(self._waiting)):
            self._waiting.clear()
