"""Writes the cursor, and removes the segments of which everything is done; the writer's thread."""

import logging
from pathlib import Path

from gateway.spool import cursor, files
from gateway.spool.cursor import Cursor
from gateway.spool.disk import Disk
from gateway.spool.log import Log
from gateway.spool.segment import Segment

_log = logging.getLogger(__name__)


class Checkpoint:
    """Keeps the folder in step with the done set.

    A synced cursor is in place before a segment goes: a restart must not take for damage what was
    delivered.

    Attributes:
        keep_seconds: for how long a finished segment stays, counted from its last record.
    """

    def __init__(self, disk: Disk, folder: Path, log: Log, keep_seconds: float) -> None:
        self._disk = disk
        self._folder = folder
        self._records = log
        self.keep_seconds = keep_seconds
        self._noted: set[Segment] = set()  # finished, and the synced cursor says so
        self._failing = False

    def run(self, *, durable: bool = False, wanted: int = 0) -> bool:
        """Write the cursor if it is behind, then trim.

        Args:
            durable: whether it shall survive a power cut.
            wanted: how many bytes shall be given back, though they are kept.

        Returns:
            Whether a segment has gone.
        """
        finished = self._records.finished()
        leaving = self._leaving(finished, wanted)
        try:
            if not self._noted.issuperset(finished):
                self._write(files.CURSOR_SYNCED, durable=True)
                self._noted = set(finished)
            elif self._records.changed or durable:
                self._write(files.CURSOR, durable=durable)
        except OSError as error:
            self._failed(error)
            return self._trim_oldest(leaving)
        self._failing = False
        return self._trim(leaving)

    def _leaving(self, finished: list[Segment], wanted: int) -> list[Segment]:
        """Return the finished segments that are old enough to go, or have to."""
        horizon = self._disk.clock() - self.keep_seconds
        leaving = []
        for segment in finished:
            if segment.stored_at <= horizon or wanted > 0:
                leaving.append(segment)
                wanted -= segment.size
        return leaving

    def _write(self, name: str, *, durable: bool) -> None:
        next_sequence, done = self._records.snapshot()
        state = Cursor(next_sequence, done, files.VERSION)
        try:
            cursor.write(self._disk, self._folder / name, state, durable=durable)
        finally:
            # Also if it failed: a disk without room for a cursor must not stop what makes room.
            self._records.saved()

    def _trim(self, leaving: list[Segment]) -> bool:
        has_trimmed = False
        try:
            for segment in leaving:
                self._disk.unlink(self._folder / segment.name)
                self._records.remove(segment)
                has_trimmed = True
        except OSError as error:
            self._failed(error)
        return has_trimmed

    def _trim_oldest(self, leaving: list[Segment]) -> bool:
        """Remove the oldest segments though the cursor is behind.

        On a full disk there may be no room for a cursor until a segment goes. The name of what is
        then the oldest segment says that all before it was done.
        """
        has_trimmed = False
        try:
            for segment in leaving:
                if not self._records.is_oldest(segment):
                    break
                self._disk.unlink(self._folder / segment.name)
                self._records.remove(segment)
                has_trimmed = True
                self._disk.fsync_dir(self._folder)
        except OSError as error:
            self._failed(error)
        return has_trimmed

    def _failed(self, error: OSError) -> None:
        """Come back at the next checkpoint; until then a crash makes duplicates, no more."""
        self._records.changed = True
        if not self._failing:
            _log.warning("%s: the cursor can't be kept: %s", self._folder, error)
        self._failing = True
