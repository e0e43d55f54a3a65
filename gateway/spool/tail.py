"""The segment that grows: write, sync, roll, and what happens when one of them fails."""

import logging
from pathlib import Path
from typing import Final

from gateway.spool import files
from gateway.spool.cursor import write_all
from gateway.spool.disk import Disk
from gateway.spool.log import Log
from gateway.spool.segment import Segment

_SEGMENTS_KEPT: Final = 4  # in `keep_seconds`, or more: what is kept for longer is in one
_log = logging.getLogger(__name__)


class Tail:
    """Appends to the newest segment, and makes each append durable; the writer's thread.

    It never goes on in a file of an earlier life, nor in one in which a write or a sync failed:
    after a failed fdatasync a second one may succeed without the data.
    """

    def __init__(
        self, disk: Disk, folder: Path, log: Log, segment_bytes: int, keep_seconds: float
    ) -> None:
        self._disk = disk
        self._folder = folder
        self._records = log
        self._segment_bytes = segment_bytes
        self._keep_seconds = keep_seconds
        self._segment: Segment | None = None
        self._fd = -1
        self._is_named = False  # whether a power cut leaves the file its name

    def append(self, data: bytes, count: int) -> None:
        """Store encoded records that begin with the log's next sequence number.

        Raises:
            OSError: none is stored; the next call begins a new segment.
        """
        try:
            now = self._disk.clock()
            segment = self._segment
            if segment is None or self._is_enough(segment, len(data), now):
                segment = self._roll()
            write_all(self._disk, self._fd, data)
            self._sync()
        except OSError:
            self._seal()
            raise
        self._records.stored(segment, count, len(data), now)

    def renew(self, *, is_urgent: bool) -> None:
        """Begin a new segment when the newest is done and need not be kept; so its room comes back.

        Args:
            is_urgent: whether room is wanted more than what is done.

        Raises:
            OSError: the old one stays.
        """
        segment = self._records.finished_newest()
        if segment is None or segment.size < self._segment_bytes // 16:
            return
        if not is_urgent and self._disk.clock() < segment.stored_at + self._keep_seconds:
            return
        try:
            self._roll()
            self._sync()
        except OSError:
            self._seal()
            raise

    def close(self) -> None:
        """Close the file."""
        if self._segment is not None:
            self._disk.close(self._fd)
        self._segment = None

    def _is_enough(self, segment: Segment, more: int, now: float) -> bool:
        """Whether a segment takes no more; with `keep_seconds`, one that spans too much of it."""
        if segment.size == files.HEAD_BYTES:
            return False
        if segment.size + more > self._segment_bytes:
            return True
        return 0 < self._keep_seconds / _SEGMENTS_KEPT < now - segment.begun_at

    def _roll(self) -> Segment:
        self.close()
        first = self._records.next_sequence
        segment = Segment(first, first, files.HEAD_BYTES, self._disk.clock())
        self._fd = self._disk.create(self._folder / segment.name)
        self._segment = segment
        self._is_named = False
        # Known before anything is in it: so the cap counts it, and a failure finds it there.
        self._records.start_segment(segment)
        write_all(self._disk, self._fd, files.head(files.SEGMENT_MAGIC, files.VERSION))
        return segment

    def _sync(self) -> None:
        self._disk.fdatasync(self._fd)
        if not self._is_named:
            self._disk.fsync_dir(self._folder)
            self._is_named = True

    def _seal(self) -> None:
        """Never touch this file again; what was not stored is cut off, if that can be done."""
        segment, self._segment = self._segment, None
        if segment is None:
            return
        try:
            self._disk.truncate(self._fd, segment.size)
        except OSError as error:  # the next segment's name says where this one ends
            _log.warning("%s can't be cut: %s", self._folder / segment.name, error)
        finally:
            self._disk.close(self._fd)
