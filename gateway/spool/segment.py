"""One segment file: what the log knows of it, and how it is read past all damage."""

import errno
from bisect import bisect_right
from pathlib import Path
from typing import Final, NamedTuple

from gateway.spool import files, record
from gateway.spool.disk import Disk
from gateway.spool.record import Parsed, Stop

CHUNK: Final = 256 * 1024
MARK_BYTES: Final = 512 * 1024
_PAGE: Final = 4096

UNREADABLE: Final = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.ENODATA})
"""What a disk says of a place that it can't read. Other errors (EMFILE, ENOMEM) will pass."""


class Mark(NamedTuple):
    """Where in a segment a record begins."""

    sequence: int
    offset: int


class Segment:
    """The records from `first` to before `end`, in the first `size` bytes of a file.

    It keeps a mark for every `MARK_BYTES` or so that were stored in this life, so that a reader
    that begins in the middle passes over little.

    Attributes:
        begun_at: when it was begun, by `Disk.clock`; of an earlier life, when it was left.
        stored_at: when the last of its records was stored.
    """

    __slots__ = ("_marks", "begun_at", "end", "first", "name", "size", "stored_at")

    def __init__(self, first: int, end: int, size: int, now: float) -> None:
        self.name = files.segment_name(first)
        self.first = first
        self.end = end
        self.size = size
        self.begun_at = self.stored_at = now
        self._marks = [Mark(first, files.HEAD_BYTES)]

    def grow(self, count: int, size: int, now: float) -> None:
        """Have more records, and the bytes that they take."""
        self.stored_at = now
        if self.size - self._marks[-1].offset >= MARK_BYTES:
            self._marks.append(Mark(self.end, self.size))
        self.end += count
        self.size += size

    def mark_before(self, sequence: int) -> Mark:
        """Return the last mark at or before a record; the first one when none is."""
        at = bisect_right(self._marks, sequence, key=lambda mark: mark.sequence)
        return self._marks[max(at - 1, 0)]


class Gap(NamedTuple):
    """A damaged place, and the numbers of the records lost in it: `first` to before `end`."""

    offset: int
    size: int
    first: int
    end: int


class Part(NamedTuple):
    """Records that follow one another, and the gaps between them."""

    records: list[tuple[int, bytes]]
    gaps: list[Gap]


class SegmentFile:
    """Reads a segment from a mark on, each record once.

    Attributes:
        offset: where it goes on reading.
        expected: the sequence number of the record there.
        good_until: where the last whole record ends.
        gives_up: whether what the disk can't read is damage, and not an error that may pass.
    """

    def __init__(self, disk: Disk, path: Path, mark: Mark) -> None:
        self._disk = disk
        self._fd = disk.open(path)
        self._buffer = b""
        self._begin = mark.offset  # of the buffer in the file
        self.offset = mark.offset
        self.expected = mark.sequence
        self.good_until = mark.offset
        self.gives_up = True

    def close(self) -> None:
        self._disk.close(self._fd)

    def read(self, limit: int, max_bytes: int, end: int, size: int) -> Part:
        """Return the next records; none when the file holds no more.

        Args:
            limit: no more records than this, one or more.
            max_bytes: no more once they have this many bytes together.
            end: the sequence number at which to stop, and that none in this file reaches.
            size: how many bytes of the file belong to those records.

        Raises:
            OSError: an error that will pass; what is damaged comes back as a gap.
        """
        records: list[tuple[int, bytes]] = []
        gaps: list[Gap] = []
        taken = 0
        while self.offset < size and taken < max_bytes:
            room = min(limit - len(records), end - self.expected)
            if room <= 0:
                break
            parsed = self._parse(room, max_bytes - taken, size)
            records += parsed.records
            taken += parsed.size
            if parsed.stop is Stop.DAMAGED:
                gap = self._skip(end, size)
                if gap is None:
                    break
                gaps.append(gap)
        return Part(records, gaps)

    def pass_over(self, to: int, end: int, size: int) -> Gap | None:
        """Go on to a record without returning those before it.

        Args:
            to: its sequence number; where `read` goes on, unless there is damage.
            end: as in `read`.
            size: as in `read`.

        Returns:
            The last damaged place behind which a whole record stands; the record may be in it.

        Raises:
            OSError: an error that will pass.
        """
        gap: Gap | None = None
        while self.offset < size and self.expected < to:
            if self._parse(to - self.expected, CHUNK, size).stop is Stop.DAMAGED:
                gap = self._skip(end, size)
        return gap

    def _parse(self, limit: int, max_bytes: int, size: int) -> Parsed:
        """Go over whole records that follow one another, and return them; some, or none yet."""
        at = self.offset - self._begin
        parsed = record.parse(self._buffer, at, self.expected, limit, max_bytes)
        if parsed.records:
            self.offset = self.good_until = self._begin + parsed.offset
            self.expected += len(parsed.records)
        if parsed.stop is Stop.SHORT:
            if self._begin + len(self._buffer) >= size:
                return parsed._replace(stop=Stop.DAMAGED)
            self._fill(max(parsed.needed, CHUNK), size)
        return parsed

    def _skip(self, end: int, size: int) -> Gap | None:
        """Go to the next whole record behind a damaged place; None, and to the end, without one."""
        damaged_at, lost = self.offset, self.expected
        # No more records can be missing than fit into the place.
        bound = min(end, lost + (size - damaged_at) // record.HEAD_BYTES + 1)
        at = damaged_at + 1
        while at < size:
            chunk = self._load(at, min(CHUNK, size - at))
            found = chunk.find(record.MARKER)
            while found >= 0:
                sequence = self._whole_at(at + found, size)
                if sequence is not None and lost <= sequence < bound:
                    self.offset, self.expected = at + found, sequence
                    self._begin, self._buffer = self.offset, b""
                    return Gap(damaged_at, self.offset - damaged_at, lost, sequence)
                found = chunk.find(record.MARKER, found + 1)
            at += max(len(chunk) - len(record.MARKER) + 1, 1)
        self.offset = size
        return None

    def _whole_at(self, offset: int, size: int) -> int | None:
        """Return the sequence number of the whole record at an offset, if one is there."""
        head = record.read_head(self._load(offset, min(record.HEAD_BYTES, size - offset)))
        if head is None:
            return None
        length, sequence = head
        whole = record.HEAD_BYTES + length
        if whole > size - offset:
            return None
        parsed = record.parse(self._load(offset, whole), 0, sequence, 1, 1)
        return sequence if parsed.records else None

    def _fill(self, wanted: int, size: int) -> None:
        self._buffer = self._load(self.offset, min(wanted, size - self.offset))
        self._begin = self.offset

    def _load(self, offset: int, length: int) -> bytes:
        """Return that part of the file, with zeros where the disk can't read or the file ends."""
        try:
            return self._read(offset, length)
        except OSError as error:
            if error.errno not in UNREADABLE or not self.gives_up:
                raise
        return b"".join(
            self._load_page(at, min(_PAGE, offset + length - at))
            for at in range(offset, offset + length, _PAGE)
        )

    def _load_page(self, offset: int, length: int) -> bytes:
        try:
            return self._read(offset, length)
        except OSError as error:
            if error.errno not in UNREADABLE:
                raise
            return bytes(length)

    def _read(self, offset: int, length: int) -> bytes:
        found = self._disk.read(self._fd, offset, length)
        while len(found) < length:
            more = self._disk.read(self._fd, offset + len(found), length - len(found))
            if not more:
                return found.ljust(length, b"\0")
            found += more
        return found
