"""Dead letters in a gateway of several processes: the parent has them, for all workers.

So there is one list of them, one number for each, and one store, whatever the number of workers is.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from gateway.dead_letters import DeadLetter, DeadLetters
from gateway.dead_letters.rows import letter_of, row_of
from gateway.dead_letters.store import OnStored
from gateway.delivery import Outcome, Reason, Settlement
from gateway.spool import StoreError
from gateway.workers.messages import Store, Stored

_GONE: Final = "the process that keeps the dead letters is gone"
_SEQUENCE_BITS: Final = 48  # SQLite's numbers have 63
NO_WORKER: Final = Settlement(
    Outcome.RELEASED, Reason.SINK_DOWN, detail="no worker is there to deliver it"
)


class RemoteLetters:
    """The dead letters as a worker sees them: it puts them, and never looks.

    Args:
        send: hands a message to the parent; False if it is gone.
    """

    def __init__(self, send: Callable[[msgspec.Struct], bool]) -> None:
        self._send = send
        self._calls: dict[int, OnStored] = {}
        self._last = 0

    def put(self, letters: Sequence[DeadLetter], on_stored: OnStored) -> None:
        """Have letters stored durably, all or none; as `DeadLetters.put`."""
        self._last += 1
        self._calls[self._last] = on_stored
        if not self._send(Store(self._last, [row_of(letter) for letter in letters])):
            call = partial(self.stored, Stored(self._last, _GONE))
            asyncio.get_running_loop().call_soon(call)

    def stored(self, answer: Stored) -> None:
        """Pass on what the parent says of a `Store`."""
        on_stored = self._calls.pop(answer.call, None)
        if on_stored is not None:
            on_stored(StoreError(answer.error) if answer.error else None)

    def lost(self) -> None:
        """The parent is gone: nobody knows what became of the letters under way."""
        for call in list(self._calls):
            self.stored(Stored(call, _GONE))


def store(
    letters: DeadLetters | None, worker: int, message: Store, send: Callable[[Stored], object]
) -> None:
    """Store what the worker with that number has sent, and tell it when that is done."""

    def on_stored(error: StoreError | None) -> None:
        send(Stored(message.call, "" if error is None else str(error) or "not stored"))

    if letters is None:
        on_stored(StoreError("this gateway keeps no dead letters"))
    else:
        letters.put([_of_worker(one, worker) for one in letters_of(message.letters)], on_stored)


def _of_worker(letter: DeadLetter, worker: int) -> DeadLetter:
    """Return a letter whose sequence is no other worker's: each has a spool that counts from 1."""
    if letter.sequence is None:
        return letter
    sequence = (worker << _SEQUENCE_BITS) + letter.sequence
    return msgspec.structs.replace(letter, sequence=sequence)


def letters_of(rows: Sequence[tuple[Any, ...]]) -> list[DeadLetter]:
    """Return the letters of rows that were sent."""
    return [letter_of(row) for row in rows]
