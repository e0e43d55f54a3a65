"""The dead letters of a gateway: a thread of its own for the disk, answers in the event loop."""

import asyncio
import contextlib
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from gateway.dead_letters.database import Database
from gateway.dead_letters.letter import DeadLetter, Summary
from gateway.dead_letters.query import Filter
from gateway.dead_letters.trouble import Trouble
from gateway.errors import GatewayError
from gateway.mailbox import Mailbox
from gateway.spool import REAL_DISK, Disk, StoreError

COMMIT_LETTERS: Final = 1024
COMMIT_BYTES: Final = 512 * 1024
EXPORT_LETTERS: Final = 100

OnStored = Callable[[StoreError | None], None]
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, newest first.

    Attributes:
        letters: what lists show of each.
        cursor: where the next page begins; None when this is the last.
    """

    letters: Sequence[Summary]
    cursor: int | None


class _Put(NamedTuple):
    letters: Sequence[DeadLetter]
    size: int
    on_stored: OnStored


class _Question(NamedTuple):
    work: Callable[[], Any]
    answer: Callable[[Any, StoreError | None], None]


class LetterBox(Protocol):
    """Where dead letters are put; whoever puts them never looks."""

    def put(self, letters: Sequence[DeadLetter], on_stored: OnStored) -> None:
        """Store letters durably, all or none; as `DeadLetters.put`."""


class DeadLetters:
    """What could not be delivered or decoded, durably, until somebody replays or purges it.

    Every method is called in the event loop's thread. Letters to be stored go before questions,
    and a question is asked in short steps, so that no sender waits for somebody's export.

    Attributes:
        replayed: how many letters were replayed since the start, by route and outcome.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        disk: Disk = REAL_DISK,
        replaces_damaged: bool = True,
    ) -> None:
        """Say where and how much; nothing is touched before `open`.

        Args:
            path: a folder of its own; made if it isn't there.
            max_bytes: what it takes of the disk at most. When it is full nothing is stored, and
                letters can still be read, replayed and purged.
            disk: the system's calls.
            replaces_damaged: whether a damaged database is moved aside for a new one, or left
                alone.
        """
        self.replayed: Counter[tuple[str, str]] = Counter()
        self._path = path
        self._database = Database(
            path, max_bytes=max_bytes, disk=disk, replaces_damaged=replaces_damaged
        )
        self._signal = threading.Condition()
        self._puts: deque[_Put] = deque()
        self._questions: deque[_Question] = deque()
        self._answers = Mailbox(self._wake)
        self._is_closed = True
        self._replaying: set[int] = set()  # the thread's
        self._trouble = Trouble(path)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def stored(self) -> dict[str, int]:
        """How many letters there are, by route."""
        return dict(self._database.stored)

    @property
    def bytes(self) -> int:
        """What they take on the disk, with the database's log."""
        return self._database.bytes

    @property
    def is_full(self) -> bool:
        """Whether nothing can be stored, for want of room or because the disk fails.

        It is known from the last letters that came; when letters are deleted it is no longer so.
        """
        return self._trouble.is_full

    def open(self) -> None:
        """Lock the folder, open the database and start the thread.

        A damaged database is moved aside, with a line in the log, and a new one is made.

        Raises:
            GatewayError: another process uses the folder, a newer gateway wrote it, or it can't be
                made or read; or it is damaged and not to be replaced.
        """
        self._loop = asyncio.get_running_loop()
        self._is_closed = False
        opened = threading.Event()
        failures: list[GatewayError] = []
        self._thread = threading.Thread(
            target=self._run, args=(opened, failures), name="dead letters", daemon=True
        )
        self._thread.start()
        opened.wait()
        if failures:
            self._thread.join()
            raise failures[0]

    def close(self) -> None:
        """Store what is queued, give all answers, release the folder; it waits for the disk.

        Calling it again does nothing.
        """
        with self._signal:
            self._is_closed = True
            self._signal.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._answers.deliver()

    def put(self, letters: Sequence[DeadLetter], on_stored: OnStored) -> None:
        """Store letters durably, all or none, without waiting for it.

        One with a `sequence` that is there already is left as it is, and that is a success.

        Args:
            letters: the list must not be changed afterwards.
            on_stored: called in the event loop's thread, in the order of the calls: with None once
                they are synced, or with the error when none of them is stored.
        """
        entry = _Put(letters, sum(letter.size for letter in letters), on_stored)
        with self._signal:
            if not self._is_closed:
                self._puts.append(entry)
                self._signal.notify()
                return
        self._answers.put([partial(on_stored, StoreError("the dead letters are closed"))])

    async def page(
        self, wanted: Filter | None = None, *, limit: int = 100, cursor: int | None = None
    ) -> Page:
        """Return the newest letters, or those that follow on a page's cursor.

        Raises:
            StoreError: the database can't be read; as every method below.
        """
        found: list[Summary] = []
        while True:
            more, cursor = await self._ask(
                partial(self._database.summaries, wanted or Filter(), cursor, limit - len(found))
            )
            found += more
            if cursor is None or len(found) >= limit:
                return Page(found, cursor)

    async def count(self, wanted: Filter) -> int:
        """Return how many letters a filter wants."""
        until, cursor, total = await self.newest(), 0, 0
        while True:
            step = await self._ask(partial(self._database.count, wanted, cursor, until))
            total += step.number
            if step.cursor is None:
                return total
            cursor = step.cursor

    async def show(self, number: int) -> DeadLetter | None:
        """Return everything of one letter; None if there is none with that id."""
        letters, _ = await self._ask(
            partial(self._database.letters, Filter(), number - 1, number, 1)
        )
        return letters[0] if letters else None

    async def export(self, wanted: Filter) -> AsyncIterator[list[DeadLetter]]:
        """Yield everything of the letters, oldest first; not of those that come meanwhile."""
        until = await self.newest()
        cursor: int | None = 0
        while cursor is not None:
            letters, cursor = await self._ask(
                partial(self._database.letters, wanted, cursor, until, EXPORT_LETTERS)
            )
            if letters:
                yield letters

    async def purge(self, wanted: Filter) -> int:
        """Delete letters, but none that come meanwhile; return how many there were."""
        until, cursor, total = await self.newest(), 0, 0
        while True:
            step = await self._ask(partial(self._database.delete, wanted, cursor, until))
            total += step.number
            if step.cursor is None:
                break
            cursor = step.cursor
        if total:
            self._trouble.is_full = False
        while total and await self._ask(self._database.shrink):
            pass
        return total

    async def newest(self) -> int:
        """Return the greatest id; 0 if there are no letters."""
        return await self._ask(self._database.newest)

    async def take_for_replay(
        self, wanted: Filter, *, after: int, until: int, limit: int
    ) -> tuple[list[DeadLetter], int | None]:
        """Return letters, oldest first, and where the next call goes on (None: nowhere).

        Nobody else is given them until `mark_replayed` has been told of them.

        Args:
            wanted: which ones.
            after: only those with greater ids.
            until: none with a greater id; `newest` says what there is now.
            limit: at most so many; there may be none and yet more to come.
        """
        return await self._ask(partial(self._take, wanted, after, until, limit))

    async def mark_replayed(self, delivered: Sequence[int], failed: Sequence[int]) -> None:
        """Delete the letters that were delivered; note in the others that it was in vain."""
        await self._ask(partial(self._mark, delivered, failed))

    def _take(
        self, wanted: Filter, after: int, until: int, limit: int
    ) -> tuple[list[DeadLetter], int | None]:
        letters, cursor = self._database.letters(wanted, after, until, limit)
        letters = [letter for letter in letters if letter.id not in self._replaying]
        self._replaying.update(letter.id for letter in letters)
        return letters, cursor

    def _mark(self, delivered: Sequence[int], failed: Sequence[int]) -> None:
        try:
            self._database.replayed(delivered, failed, datetime.now(UTC))
            if delivered:
                self._trouble.is_full = False
        finally:
            self._replaying.difference_update(delivered, failed)

    async def _ask(self, work: Callable[[], _Result]) -> _Result:
        """Have something done in the thread."""
        answered: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()

        def answer(result: _Result, error: StoreError | None) -> None:
            if answered.done():  # who asked has gone
                return
            if error is not None:
                answered.set_exception(error)
            else:
                answered.set_result(result)

        with self._signal:
            if self._is_closed:
                raise StoreError("the dead letters are closed")
            self._questions.append(_Question(work, answer))
            self._signal.notify()
        return await answered

    def _run(self, opened: threading.Event, failures: list[GatewayError]) -> None:
        try:
            try:
                self._database.open()
            except GatewayError as error:
                failures.append(error)
                return
            finally:
                opened.set()
            while self._wait():
                self._work()
        finally:
            self._database.close()
            self._refuse_rest()

    def _wait(self) -> bool:
        """Wait until there is something to do; return False when nothing will come any more."""
        with self._signal:
            while not self._puts and not self._questions:
                if self._is_closed:
                    return False
                self._signal.wait()
            return True

    def _work(self) -> None:
        """Do one round: a commit of what has queued meanwhile, and a question."""
        group, question = self._next()
        if group:
            self._commit(group)
        if question is None:
            return
        try:
            answer = partial(question.answer, question.work(), None)
        except StoreError as error:
            answer = partial(question.answer, None, error)
        self._answers.put([answer])

    def _next(self) -> tuple[list[_Put], _Question | None]:
        group: list[_Put] = []
        count = size = 0
        with self._signal:
            while self._puts:
                entry = self._puts[0]
                count += len(entry.letters)
                size += entry.size
                if group and (count > COMMIT_LETTERS or size > COMMIT_BYTES):
                    break
                group.append(self._puts.popleft())
            return group, self._questions.popleft() if self._questions else None

    def _commit(self, group: Sequence[_Put]) -> None:
        """Store a group in one transaction; if that can't be, each of it in its own."""
        error = self._insert([letter for entry in group for letter in entry.letters])
        if error is not None and len(group) > 1:
            for entry in group:
                self._commit([entry])
            return
        told = self._trouble.note(error)
        self._answers.put([partial(entry.on_stored, told) for entry in group])

    def _insert(self, letters: Sequence[DeadLetter]) -> StoreError | None:
        try:
            self._database.insert(letters)
        except StoreError as error:
            return error
        return None

    def _wake(self, call: Callable[[], None]) -> None:
        if self._loop is not None:
            # The loop may have been closed before: then `close` gives the answers.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(call)

    def _refuse_rest(self) -> None:
        """Let nobody wait for a thread that is gone, even if a bug ended it."""
        error = StoreError("the dead letters are closed")
        with self._signal:
            self._is_closed = True
            rest = [partial(entry.on_stored, error) for entry in self._puts]
            rest += [partial(question.answer, None, error) for question in self._questions]
            self._puts.clear()
            self._questions.clear()
        self._answers.put(rest)
