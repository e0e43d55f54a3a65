"""The spool: events on disk until a sink has them. One folder for each lane."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from gateway.errors import GatewayError
from gateway.spool import files, history
from gateway.spool.checkpoint import Checkpoint
from gateway.spool.disk import REAL_DISK, Disk
from gateway.spool.log import Log
from gateway.spool.ranges import Ranges
from gateway.spool.reader import Reader
from gateway.spool.recovery import recover
from gateway.spool.room import MIN_FREE_SHARE, Room
from gateway.spool.tail import Tail
from gateway.spool.writer import OnStored, Writer

SEGMENT_BYTES: Final = 64 * 1024 * 1024
_SEGMENTS_IN_CAP: Final = 4
Record: TypeAlias = bytes  # in `Spool`, `bytes` is the property


class Found(NamedTuple):
    """What an earlier life has left.

    Attributes:
        pending: records that are stored and not done; those damaged in older segments are
            subtracted when the reader comes to them.
        bytes: what the segments take on the disk.
        damaged: records that were lost, as far as is known at the start.
        upgraded: whether a file has an older format; it is read as it is, and new files get the
            current one.
    """

    pending: int
    bytes: int
    damaged: int
    upgraded: bool


class Spool:
    """The durable log of one lane.

    Every method is called in the event loop's thread; `read` waits for the disk where the system
    has not kept what was written, and `open` and `close` do. Records are numbered from 1, and no
    number is ever used again.

    Attributes:
        on_room: called when the spool was full and has room again.
        on_damage: called with a segment's name, an offset and a number of bytes when records
            there turn out to be damaged. Set both before `open`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int,
        segment_bytes: int = SEGMENT_BYTES,
        min_free_share: float = MIN_FREE_SHARE,
        keep_seconds: float = 0.0,
        disk: Disk = REAL_DISK,
    ) -> None:
        """Say where and how much; nothing is touched before `open`.

        Args:
            folder: the spool's own; made if it isn't there.
            max_bytes: what the segments never take more than.
            segment_bytes: size of one file, at most a quarter of `max_bytes`. Room is given back
                by whole segments.
            min_free_share: the share of the disk that stays free, 0 to 1.
            keep_seconds: for how long segments stay in which everything is done, counted from their
                last record. They go before that rather than that anything is refused.
            disk: the system's calls.
        """
        self.folder = folder
        self.on_room: Callable[[], None] | None = None
        self.on_damage: Callable[[str, int, int], None] | None = None
        self._on_saved: Callable[[], None] | None = None
        self._disk = disk
        self._segment_bytes = min(segment_bytes, max_bytes // _SEGMENTS_IN_CAP)
        self._keep_seconds = keep_seconds
        self._room = Room(
            disk,
            folder,
            max_bytes=max_bytes,
            segment_bytes=self._segment_bytes,
            min_free_share=min_free_share,
        )
        self._lock_fd = -1
        self._build(Log([], Ranges(1), 1))

    @property
    def pending(self) -> int:
        """How many records are stored and not done."""
        return self._log.pending

    @property
    def unread(self) -> int:
        """How many of the pending ones were neither read nor skipped."""
        return self._log.pending_from(self._reader.position)

    @property
    def position(self) -> int:
        """The sequence number that `read` goes on from."""
        return self._reader.position

    @property
    def damaged(self) -> int:
        """How many records were lost to damage since `open`."""
        return self._reader.damaged

    @property
    def is_full(self) -> bool:
        """Whether nothing is taken at the moment, because of `max_bytes` or of the disk."""
        return self._room.is_full

    @property
    def bytes(self) -> int:
        """What the segments take on the disk."""
        return self._log.bytes

    @property
    def max_bytes(self) -> int:
        """What the segments never take more than."""
        return self._room.max_bytes

    @property
    def retained_bytes(self) -> int:
        """How many of them are kept though everything there is done, and go when room is wanted."""
        with self._log.lock:
            return self._log.finished_bytes()

    def open(self) -> Found:
        """Lock the folder, find out what is in it, and start the writer's thread.

        Raises:
            GatewayError: another process uses the folder, a newer gateway wrote it, or it can't
                be made or read. Damaged files are no reason.
        """
        try:
            self._disk.make_folder(self.folder)
            self._lock_fd = self._disk.lock(self.folder / files.LOCK)
        except OSError as error:
            raise GatewayError(f"{self.folder} can't be used: {error.strerror}") from None
        try:
            recovered = recover(self._disk, self.folder)
        except (GatewayError, OSError) as error:
            self._unlock()
            if isinstance(error, OSError):
                raise GatewayError(f"{self.folder} can't be read: {error.strerror}") from None
            raise
        self._build(recovered.log)
        for segment, gap in recovered.gaps:
            self._reader.lose(segment, gap)
        self._start()
        return Found(self.pending, self.bytes, self.damaged, recovered.upgraded)

    def append(self, records: Sequence[Record], on_stored: OnStored) -> None:
        """Store records durably, all or none, without waiting for it.

        Args:
            records: one or more; the list must not be changed afterwards.
            on_stored: called in the event loop's thread, in the order of the calls of `append` as
                far as they were stored: with the first one's sequence number and None (the others
                follow on it) once they are synced, or with None and the error when none is stored.
        """
        self._writer.append(records, on_stored)

    def read(self, limit: int, max_bytes: int) -> list[tuple[int, Record]]:
        """Return the next records and their sequence numbers, in order, each once in a life.

        What is damaged is counted, reported and left out. None come while the disk can't be read;
        `unread` tells that from the end.

        Args:
            limit: no more records than this.
            max_bytes: no more once they have this many bytes together; so there is always one.
        """
        return self._reader.read(limit, max_bytes)

    def retained(self) -> Iterator[list[Record]]:
        """Yield what `keep_seconds` has kept and what is pending, oldest first, list by list.

        It is there to be called after `open`, and waits for the disk. What was stored earlier than
        `keep_seconds` ago may be among it, for segments go as a whole. Damaged records are left out
        and not counted: that is for `read`.
        """
        since = self._disk.clock() - self._keep_seconds
        return history.read(self._disk, self.folder, self._log.kept(since))

    def fetch(self, sequences: Sequence[int]) -> list[tuple[int, Record]] | None:
        """Return records that were read or skipped, once more; None while the disk can't be read.

        What is done or damaged is left out.

        Args:
            sequences: in ascending order.
        """
        return self._reader.fetch(sequences)

    def skip(self, end: int) -> None:
        """Have `read` go on at `end`: those before it were handed over from memory.

        They are pending until they are done. Nothing happens when `read` is there already. It costs
        next to nothing, and the next `read` passes over a MiB or so at most, in records that this
        life has stored.

        Raises:
            ValueError: a record before `end` was never stored.
        """
        if end > self._log.next_sequence:
            raise ValueError(f"record {end - 1} was never stored")
        self._reader.skip(end)

    @property
    def unsaved(self) -> int:
        """How many records are done of which the disk does not know: a kill delivers them twice."""
        return self._log.unsaved

    def save(self, on_saved: Callable[[], None]) -> None:
        """Have the disk told at once what is done.

        Args:
            on_saved: called in the event loop's thread when that was tried; the latest one only.
        """
        self._on_saved = on_saved
        self._log.want_save()
        self._writer.nudge()

    def done(self, sequences: Iterable[int]) -> None:
        """Say what is delivered, in any order; it never comes back once that is on the disk.

        That is within 100 ms, sooner when it is much, and by `close`: a crash before makes
        duplicates.

        Raises:
            ValueError: a record of that number was never stored.
        """
        if self._log.finish(sequences):
            self._writer.nudge()

    def close(self) -> None:
        """Store what is queued, write down what is done, give all answers, release the folder.

        It waits for the disk. Calling it again does nothing.
        """
        if self._lock_fd < 0:
            return
        self._writer.close()
        self._reader.close()
        self._unlock()

    def _build(self, log: Log) -> None:
        self._log = log
        self._reader = Reader(self._disk, self.folder, log, self._damage_found)
        self._writer = Writer(
            self.folder,
            log,
            Tail(self._disk, self.folder, log, self._segment_bytes, self._keep_seconds),
            Checkpoint(self._disk, self.folder, log, self._keep_seconds),
            self._room,
            self._reader.let_go,
        )

    def _start(self) -> None:
        loop = asyncio.get_running_loop()

        def wake(function: Callable[[], None]) -> None:
            # The loop may have been closed before the spool: then `close` gives the answers.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(function)

        self._writer.start(wake, self._room_found, self._cursor_saved)

    def _damage_found(self, segment: str, offset: int, size: int) -> None:
        if self.on_damage is not None:
            self.on_damage(segment, offset, size)

    def _cursor_saved(self) -> None:
        on_saved, self._on_saved = self._on_saved, None
        if on_saved is not None:
            on_saved()

    def _room_found(self) -> None:
        if self.on_room is not None:
            self.on_room()

    def _unlock(self) -> None:
        self._disk.close(self._lock_fd)
        self._lock_fd = -1
