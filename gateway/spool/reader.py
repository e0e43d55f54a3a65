"""Reads what is stored, in order, each record once; the event loop's thread."""

import errno
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from gateway.spool.disk import Disk
from gateway.spool.log import Located, Log
from gateway.spool.segment import UNREADABLE, Gap, Segment, SegmentFile

READ_TRIES: Final = 10
"""How often a place that the disk can't read is tried, a second apart, before it is damage: a cable
or a network may be back by then."""
_log = logging.getLogger(__name__)

_FETCH_BYTES: Final = 1024 * 1024


class Reader:
    """A place in the log, kept as a sequence number: what is trimmed elsewhere can't move it.

    Attributes:
        position: every record before it was read, skipped, or was done when it was its turn.
        damaged: how many records were lost to damage.
    """

    def __init__(
        self, disk: Disk, folder: Path, log: Log, on_damage: Callable[[str, int, int], None]
    ) -> None:
        """Begin at the watermark; `on_damage` gets a segment's name, an offset and a size."""
        self._disk = disk
        self._folder = folder
        self._on_damage = on_damage
        self._records = log
        self._segment: Segment | None = None
        self._file: SegmentFile | None = None
        self._failing = False
        self._tries = 0
        self._given_up: Segment | None = None  # its bad places are tried no more
        self.position = log.watermark
        self.damaged = 0

    def read(self, limit: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Return the next records; fewer, or none, at the end or when the disk is in trouble.

        Args:
            limit: no more records than this.
            max_bytes: no more once they have this many bytes together.
        """
        found: list[tuple[int, bytes]] = []
        taken = 0
        try:
            while len(found) < limit and taken < max_bytes:
                located = self._records.locate(self.position)
                if located is None:
                    break
                records = self._read_from(located, limit - len(found), max_bytes - taken)
                taken += sum(len(data) for _, data in records)
                found += records
        except OSError as error:  # too many open files, no memory: the records are still there
            self._tries += error.errno in UNREADABLE
            if not self._failing:
                _log.warning("%s can't be read at the moment: %s", self._folder, error)
            self._failing = True
            self.close()  # a part may have been read and not returned
        else:
            self._failing = False
            self._tries = 0
        return found

    def fetch(self, sequences: Sequence[int]) -> list[tuple[int, bytes]] | None:
        """Return these records, which stand before `position`; None while they can't be read."""
        other = Reader(self._disk, self._folder, self._records, self._on_damage)
        wanted, found = set(sequences), []
        try:
            other.skip(sequences[0])
            while other.position <= sequences[-1]:
                before = other.position
                limit = sequences[-1] + 1 - before
                records = other.read(limit, _FETCH_BYTES)
                found += [record for record in records if record[0] in wanted]
                if not records and other.position == before:
                    return None
        finally:
            self.damaged += other.damaged
            other.close()
        return found

    def skip(self, end: int) -> None:
        """Go on at a later record; an earlier one is nothing to go back to."""
        if end > self.position:
            self.position = end
            if self._file is not None:  # which may be trimmed any time now
                self.close()

    def let_go(self) -> None:
        """Close the file if it was removed: its room comes back only then."""
        if self._segment is not None and not self._records.holds(self._segment):
            self.close()

    def close(self) -> None:
        """Close the file that is open."""
        if self._file is not None:
            self._file.close()
        self._file = self._segment = None

    def lose(self, segment: Segment, gap: Gap) -> None:
        """Count a damaged place and report it, unless nothing that is not done was in it."""
        lost = self._records.lose(gap)
        if lost == 0:
            return
        self.damaged += lost
        _log.error(
            "%s is damaged: %d records lost in %d bytes at %d",
            self._folder / segment.name, lost, gap.size, gap.offset,
        )  # fmt: skip
        self._on_damage(segment.name, gap.offset, gap.size)

    def _read_from(self, located: Located, limit: int, max_bytes: int) -> list[tuple[int, bytes]]:
        segment, end, size = located
        if self._tries >= READ_TRIES:
            self._given_up = segment
        file = self._open(segment)
        if file is None:
            self.lose(segment, Gap(0, size, max(segment.first, self.position), end))
            self.position = end
            return []
        file.gives_up = segment is self._given_up
        gap = file.pass_over(self.position, end, size)
        if gap is not None:  # what it has taken from before the position is nobody's loss
            self.lose(segment, gap._replace(first=self.position))
        part = file.read(limit, max_bytes, end, size)
        for gap in part.gaps:
            self.lose(segment, gap)
        if file.offset >= size and file.expected < end:
            # The log says that there were more.
            first = max(file.expected, self.position)
            self.lose(segment, Gap(file.good_until, size - file.good_until, first, end))
            file.expected = end
        self.position = file.expected
        return self._records.without_done(part.records)

    def _open(self, segment: Segment) -> SegmentFile | None:
        """Return the segment's file; None when it is gone or was given up."""
        if segment is self._segment:
            return self._file
        self.close()
        try:
            mark = self._records.mark_before(segment, self.position)
            self._file = SegmentFile(self._disk, self._folder / segment.name, mark)
        except OSError as error:
            is_given_up = error.errno in UNREADABLE and segment is self._given_up
            if not is_given_up and error.errno != errno.ENOENT:
                raise
            return None
        self._segment = segment
        return self._file
