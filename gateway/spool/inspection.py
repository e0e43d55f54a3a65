"""Looks into a spool's folder, also while a gateway uses it; changes nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from gateway.errors import GatewayError
from gateway.spool import cursor, files
from gateway.spool.disk import REAL_DISK
from gateway.spool.ranges import Ranges
from gateway.spool.segment import CHUNK, Gap, Mark, SegmentFile

_NO_END: Final = 1 << 63


class DamagedPlace(NamedTuple):
    """Where records are lost that were not done.

    Attributes:
        segment: the file's name.
        offset: where in the file it begins.
        size: bytes.
        records: how many were lost; 0 where nobody can tell, at the end of the newest segment.
    """

    segment: str
    offset: int
    size: int
    records: int


class Contents(NamedTuple):
    """What a spool holds.

    Attributes:
        pending: whole records that are not done.
        bytes: what the segments take.
        last_write: when the oldest segment with a pending record was last written to, in seconds
            since 1970; None if nothing is pending.
        damaged: where records are lost.
    """

    pending: int
    bytes: int
    last_write: float | None
    damaged: list[DamagedPlace]


def inspect(folder: Path) -> Contents:
    """Return what a folder holds; a gateway that runs may be ahead of it, or behind it.

    Raises:
        GatewayError: it can't be read, or a newer gateway wrote it.
    """
    pending = size = 0
    last_write: float | None = None
    damaged: list[DamagedPlace] = []
    for segment in _segments(folder):
        size += segment.size
        count = 0
        if not segment.is_finished:
            count = sum(len(records) for records in segment.read(damaged))
        if count and last_write is None:
            last_write = segment.written_at
        pending += count
    return Contents(pending, size, last_write, damaged)


def pending_records(folder: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the records that are not done, with their sequence numbers, in order.

    Raises:
        GatewayError: it can't be read, or a newer gateway wrote it.
    """
    for segment in _segments(folder):
        if not segment.is_finished:
            for records in segment.read([]):
                yield from records


def _segments(folder: Path) -> Iterator["_Segment"]:
    try:
        # The cursor first: what is stored and done meanwhile is pending then, and not damaged.
        state = cursor.read(REAL_DISK, folder)
        names = REAL_DISK.listdir(folder)
    except OSError as error:
        raise GatewayError(f"{folder} can't be read: {error.strerror}") from None
    firsts = sorted(first for name in names if (first := files.first_of(name)) is not None)
    done = Ranges(0)
    for start, end in state.done if state is not None else ():
        done.add(start, end)
    done.add(0, firsts[0] if firsts else 0)
    stored = state.next_sequence if state is not None else 0
    for first, end in zip(firsts, [*firsts, _NO_END][1:], strict=True):
        try:
            yield _Segment(folder, first, end, done, stored)
        except FileNotFoundError:  # the gateway has trimmed it
            continue
        except OSError as error:
            raise GatewayError(f"{folder} can't be read: {error.strerror}") from None


class _Segment:
    """A segment, as long as it was when it was found."""

    def __init__(self, folder: Path, first: int, end: int, done: Ranges, stored: int) -> None:
        self._path = folder / files.segment_name(first)
        self._first = first
        self._end = end
        self._done = done
        self._stored = stored  # the cursor's next sequence number
        found = self._path.stat()
        self.size = found.st_size
        self.written_at = found.st_mtime
        with self._path.open("rb") as file:
            files.read_version(self._path, file.read(files.HEAD_BYTES), files.SEGMENT_MAGIC)

    @property
    def is_finished(self) -> bool:
        """Whether everything in it is done."""
        return self._done.covers(self._first, self._end)

    def read(self, damaged: list[DamagedPlace]) -> Iterator[list[tuple[int, bytes]]]:
        """Yield its pending records, and add the damaged places to a list."""
        file = SegmentFile(REAL_DISK, self._path, Mark(self._first, files.HEAD_BYTES))
        try:
            while True:
                part = file.read(CHUNK, CHUNK, self._end, self.size)
                for gap in part.gaps:
                    self._note(gap, damaged)
                if not part.records:
                    break
                yield [found for found in part.records if found[0] not in self._done]
        finally:
            file.close()
        rest = self.size - max(file.good_until, files.HEAD_BYTES)
        is_newest = self._end == _NO_END
        end = self._stored if is_newest else self._end
        if end > file.expected:
            self._note(Gap(file.good_until, rest, file.expected, end), damaged)
        elif rest > 0 and is_newest:
            damaged.append(DamagedPlace(self._path.name, file.good_until, rest, 0))

    def _note(self, gap: Gap, damaged: list[DamagedPlace]) -> None:
        lost = gap.end - gap.first - self._done.count_within(gap.first, gap.end)
        if lost > 0:
            damaged.append(DamagedPlace(self._path.name, gap.offset, gap.size, lost))
