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

    The cursor is in place before a segment goes: a restart must not take for damage what was
    delivered.
    """

    def __init__(self, disk: Disk, folder: Path, log: Log) -> None:
        self._disk = disk
        self._folder = folder
        self._records = log
        self._failing = False

    def run(self, *, durable: bool = False) -> None:
        """Write the cursor, then trim."""
        finished = self._records.trimmable()
        try:
            next_sequence, done = self._records.snapshot()
            state = Cursor(next_sequence, done, files.VERSION)
            cursor.write(self._disk, self._folder, state, durable=durable or bool(finished))
        except OSError as error:
            self._failed(error)
            self._trim_oldest(finished)
        else:
            self._failing = False
            self._trim(finished)

    def _trim(self, finished: list[Segment]) -> None:
        try:
            for segment in finished:
                self._disk.unlink(self._folder / segment.name)
                self._records.remove(segment)
        except OSError as error:
            self._failed(error)

    def _trim_oldest(self, finished: list[Segment]) -> None:
        """Remove the oldest segments though the cursor is behind.

        On a full disk there may be no room for a cursor until a segment goes. The name of what is
        then the oldest segment says that all before it was done.
        """
        try:
            for segment in finished:
                if not self._records.is_oldest(segment):
                    break
                self._disk.unlink(self._folder / segment.name)
                self._records.remove(segment)
                self._disk.fsync_dir(self._folder)
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        """Come back at the next checkpoint; until then a crash makes duplicates, no more."""
        self._records.changed = True
        if not self._failing:
            _log.warning("%s: the cursor can't be kept: %s", self._folder, error)
        self._failing = True
