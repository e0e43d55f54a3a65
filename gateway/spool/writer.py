"""The writer's thread: commits what has queued meanwhile, and keeps the cursor in step."""

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from gateway.mailbox import Mailbox
from gateway.spool import record
from gateway.spool.checkpoint import Checkpoint
from gateway.spool.log import Log
from gateway.spool.room import Room, StoreError
from gateway.spool.tail import Tail
from gateway.throttle import Throttle

COMMIT_RECORDS: Final = 1024
COMMIT_BYTES: Final = 512 * 1024
COMMIT_SECONDS: Final = 0.001
"""From the beginning of a commit to that of the next one, at least: so more events share what one
costs, on a fast disk too. Who comes alone does not wait."""
CHECKPOINT_SECONDS: Final = 0.1
_FULL_AGAIN_SECONDS: Final = 60.0
"""Between two lines at least that the spool is full."""

Wake = Callable[[Callable[[], None]], None]
OnStored = Callable[[int | None, StoreError | None], None]
_log = logging.getLogger(__name__)


class _Entry(NamedTuple):
    records: Sequence[bytes]
    size: int
    on_stored: OnStored


class Writer:
    """Natural group commit: while one commit runs the next one gathers."""

    def __init__(
        self,
        folder: Path,
        log: Log,
        tail: Tail,
        checkpoint: Checkpoint,
        room: Room,
        on_trimmed: Callable[[], None],
    ) -> None:
        """Tie them together.

        Args:
            folder: the spool's.
            log: what is stored and done.
            tail: stores.
            checkpoint: writes down what is done, and trims.
            room: says when it is enough.
            on_trimmed: called in the event loop's thread when segments have gone.
        """
        self._folder = folder
        self._log = log
        self._tail = tail
        self._checkpoint = checkpoint
        self._room = room
        self._on_trimmed = on_trimmed
        self._signal = threading.Condition(log.lock)
        self._queue: deque[_Entry] = deque()
        self._queued_bytes = 0
        self._group: list[_Entry] = []  # what is being committed
        self._answers = Mailbox(lambda call: self._wake(call))  # noqa: PLW0108 - `start` has another
        self._is_closing = False
        self._is_stopped = False
        self._checkpoint_due = 0.0
        self._commit_due = 0.0
        self._failing = False
        self._lines = Throttle(_FULL_AGAIN_SECONDS)
        self._told_full = False  # and not that there is room again
        self._thread: threading.Thread | None = None
        self._wake: Wake = lambda _: None
        self._on_room: Callable[[], None] = lambda: None
        self._on_saved: Callable[[], None] = lambda: None

    def start(self, wake: Wake, on_room: Callable[[], None], on_saved: Callable[[], None]) -> None:
        """Start the thread; it doesn't keep the process alive.

        Args:
            wake: has a function called in the event loop's thread, once for all that waits.
            on_room: called there when the spool was full and has room again.
            on_saved: called there when the cursor that was wanted is in place.
        """
        self._wake = wake
        self._on_room = on_room
        self._on_saved = on_saved
        name = f"spool {self._folder.name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def append(self, records: Sequence[bytes], on_stored: OnStored) -> None:
        """Queue records, which are stored all or none; see `Spool.append`."""
        size = self._room.size_of(records)
        with self._signal:
            is_news = False
            if self._is_stopped or self._is_closing:
                error: StoreError | None = StoreError("the spool is closed")
            else:
                used = self._log.bytes + self._queued_bytes
                if self._checkpoint.keep_seconds > 0 and self._room.is_beyond(size, used):
                    used -= self._log.finished_bytes()  # which go first
                error = self._room.refusal(size, used)
                is_news = error is not None and self._is_news()
            if error is None:
                self._queue.append(_Entry(records, size, on_stored))
                self._queued_bytes += size
                self._signal.notify()
                return
        if is_news:
            self._tell_full(error)
        self._answers.put([partial(on_stored, None, error)])

    def nudge(self) -> None:
        """Have the cursor written soon."""
        with self._signal:
            self._signal.notify()

    def close(self) -> None:
        """Store what is queued, write the cursor, end the thread, and give every answer."""
        with self._signal:
            self._is_closing = True
            self._signal.notify()
        if self._thread is not None:
            self._thread.join()
        self.deliver()

    def deliver(self) -> None:
        """Call who waits for an answer; in the event loop's thread."""
        self._answers.deliver()

    def pause(self, now: float) -> float:
        """Return for how long the next commit gathers before it begins; 0 is not at all."""
        return max(self._commit_due - now, 0.0)

    def work(self, now: float) -> None:
        """Do one round: a commit, and a checkpoint if it is due."""
        group = self._take()
        if group:
            self._commit_due = now + COMMIT_SECONDS
            self._commit(group)
        if self._log.is_behind or (
            now >= self._checkpoint_due
            and (self._is_waiting() or self._checkpoint.keep_seconds > 0)
        ):
            self._checkpoint_due = now + CHECKPOINT_SECONDS
            self._keep()

    def finish(self) -> None:
        """Store what is left, write the cursor for good, and close the files."""
        while group := self._take():
            self._commit(group)
        self._checkpoint.run(durable=True)
        self._tail.close()

    def _run(self) -> None:
        try:
            while self._wait():
                if pause := self.pause(time.monotonic()):
                    time.sleep(pause)
                self.work(time.monotonic())
            self.finish()
        finally:
            self._stop()

    def _wait(self) -> bool:
        """Wait until there is something to do; return False when the spool is being closed."""
        keep_seconds = self._checkpoint.keep_seconds
        patience = max(keep_seconds / 4, CHECKPOINT_SECONDS) if keep_seconds > 0 else None
        with self._signal:
            while not self._queue and not self._is_closing:
                if not self._is_waiting():
                    if self._signal.wait(patience):
                        continue
                    break  # what is kept may be old enough to go
                left = self._checkpoint_due - time.monotonic()
                if left <= 0 or self._log.is_behind:
                    break
                self._signal.wait(left)
            return not self._is_closing

    def _take(self) -> list[_Entry]:
        group: list[_Entry] = []
        count = size = 0
        with self._signal:
            while self._queue:
                entry = self._queue[0]
                count += len(entry.records)
                size += entry.size
                if group and (count > COMMIT_RECORDS or size > COMMIT_BYTES):
                    break
                group.append(self._queue.popleft())
            self._group = group
        return group

    def _commit(self, group: list[_Entry]) -> None:
        first = self._log.next_sequence
        data = record.encode((r for entry in group for r in entry.records), first)
        error = self._store(data, sum(len(entry.records) for entry in group))
        self._tell(error)
        answers = []
        for entry in group:
            answers.append(partial(entry.on_stored, None if error else first, error))
            first += len(entry.records)
        with self._signal:
            self._queued_bytes -= sum(entry.size for entry in group)
            self._group = []
        self._answers.put(answers)

    def _store(self, data: bytes, count: int) -> StoreError | None:
        """Store encoded records; what is kept goes before they are refused for want of room."""
        while True:
            try:
                self._room.check(len(data), self._log.bytes)
                self._tail.append(data, count)
            except StoreError as refusal:
                error = refusal
            except OSError as failure:
                error = self._room.meaning_of(failure)
            else:
                return None
            is_keeping = self._checkpoint.keep_seconds > 0 and error.full
            if not is_keeping or not self._give_back(len(data), is_urgent=True):
                self._room.refused(error, len(data))
                return error

    def _give_back(self, wanted: int, *, is_urgent: bool) -> bool:
        """Write down what is done, and trim; return whether a segment has gone."""
        with contextlib.suppress(OSError):  # the old one only stays a while longer
            self._tail.renew(is_urgent=is_urgent)
        has_trimmed = self._checkpoint.run(wanted=wanted)
        if has_trimmed:
            self._wake(self._on_trimmed)
        return has_trimmed

    def _is_waiting(self) -> bool:
        """Whether there is something to write down, or room to be found."""
        return self._log.changed or self._room.is_full or self._log.is_save_wanted

    def _keep(self) -> None:
        """Give back room, and write down what is done."""
        wanted = self._room.wanted(self._log.bytes + self._queued_bytes)
        self._give_back(wanted, is_urgent=self._room.is_full)
        if self._room.look(self._log.bytes + self._queued_bytes):
            self._tell_room()
            self._wake(self._on_room)
        if self._log.take_save_wanted():
            self._wake(self._on_saved)

    def _tell(self, error: StoreError | None) -> None:
        """Log once when storing begins to fail, and once when it works again."""
        if error is not None and error.full:
            with self._signal:
                is_news = self._is_news()
            if is_news:
                self._tell_full(error)
            return
        if error is not None and not self._failing:
            _log.error("%s: %s", self._folder, error)
        elif error is None and self._failing:
            _log.warning("%s stores again", self._folder)
        self._failing = error is not None

    def _is_news(self) -> bool:
        """Whether a refusal is to be logged: the spool is full, and the log does not say so.

        The caller holds the lock. One that is full for a moment again and again is told rarely,
        and one that stays full is told by one of its refusals.
        """
        if not self._room.is_full or self._told_full or self._lines.pass_on("full") is None:
            return False
        self._told_full = True
        return True

    def _tell_full(self, error: StoreError | None) -> None:
        _log.warning("%s: %s; nothing is stored until there is room", self._folder, error)

    def _tell_room(self) -> None:
        with self._signal:
            was_told, self._told_full = self._told_full, False
        if was_told:
            _log.warning("%s: the spool has room again", self._folder)

    def _stop(self) -> None:
        """Let nobody wait for a thread that is gone, even if a bug ended it."""
        with self._signal:
            self._is_stopped = True
            rest = [*self._group, *self._queue]
            self._queue.clear()
        if rest:
            error = StoreError("the spool is closed")
            self._answers.put([partial(entry.on_stored, None, error) for entry in rest])
