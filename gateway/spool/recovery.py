"""Finds out, at the start, what an earlier life has left in the folder."""

import logging
from pathlib import Path
from typing import Final, NamedTuple

from gateway.spool import cursor, files
from gateway.spool.disk import Disk
from gateway.spool.log import Log
from gateway.spool.ranges import Ranges
from gateway.spool.segment import CHUNK, Gap, Segment, SegmentFile

_NO_END: Final = 1 << 63
_log = logging.getLogger(__name__)


class Recovered(NamedTuple):
    """What is in the folder.

    Attributes:
        log: the segments and what is done.
        gaps: damage that was met; only the newest segment is read as early as this.
        upgraded: whether a file has an older format.
    """

    log: Log
    gaps: list[tuple[Segment, Gap]]
    upgraded: bool


def recover(disk: Disk, folder: Path) -> Recovered:
    """Read the cursor, the segments' heads and the newest segment; write nothing.

    Raises:
        GatewayError: a newer gateway wrote one of the files.
        OSError: the folder can't be read.
    """
    found = cursor.read(disk, folder)
    firsts = sorted(
        first for name in disk.listdir(folder) if (first := files.first_of(name)) is not None
    )
    versions = [_version_of(disk, folder / files.segment_name(first)) for first in firsts]
    if found is not None:
        versions.append(found.version)
    ends = [*firsts, _NO_END][1:]
    segments = [
        _segment(disk, folder / files.segment_name(first), first, end)
        for first, end in zip(firsts, ends, strict=True)
    ]
    stored = 1 if found is None else found.next_sequence
    gaps: list[Gap] = []
    if segments:
        _make_durable(disk, folder, segments[-1])
        gaps = _find_end(disk, folder, segments[-1], stored)
    done = Ranges(1) if found is None else Ranges(found.done[0][1], found.done[1:])
    next_sequence = max(stored, done.end, *(segment.end for segment in segments[-1:]), 1)
    if segments:
        segments[-1].end = next_sequence
    # Segments go when everything in them is done, whether or not the cursor was there to say so.
    done.add(0, segments[0].first if segments else next_sequence)
    log = Log(segments, done, next_sequence)
    upgraded = any(version is not None and version < files.VERSION for version in versions)
    return Recovered(log, [(segments[-1], gap) for gap in gaps], upgraded)


def _segment(disk: Disk, path: Path, first: int, end: int) -> Segment:
    return Segment(first, end, disk.size(path), disk.clock() - disk.age(path))


def _version_of(disk: Disk, path: Path) -> int | None:
    fd = disk.open(path)
    try:
        begin = disk.read(fd, 0, files.HEAD_BYTES)
    except OSError as error:  # its records may still be there
        _log.warning("%s: the head can't be read: %s", path, error)
        return None
    finally:
        disk.close(fd)
    return files.read_version(path, begin, files.SEGMENT_MAGIC)


def _make_durable(disk: Disk, folder: Path, newest: Segment) -> None:
    """Sync what a killed process has written and not synced, before it counts as stored."""
    try:
        fd = disk.open(folder / newest.name)
        try:
            disk.fdatasync(fd)
        finally:
            disk.close(fd)
        disk.fsync_dir(folder)
    except OSError as error:  # nobody was told that it is stored
        _log.warning("%s can't be synced: %s", folder / newest.name, error)


def _find_end(disk: Disk, folder: Path, segment: Segment, stored: int) -> list[Gap]:
    """Set the end of the newest segment, of which no other tells it; return the damage in it.

    What the cursor knows to be `stored` and the segment hasn't got is damage, too.
    """
    path = folder / segment.name
    file = SegmentFile(disk, path, segment.mark_before(segment.first))
    gaps: list[Gap] = []
    try:
        while True:
            part = file.read(CHUNK, CHUNK, _NO_END, segment.size)
            gaps += part.gaps
            if not part.records and not part.gaps:
                break
    finally:
        file.close()
    segment.end = file.expected
    rest = segment.size - file.good_until
    if stored > segment.end:
        gaps.append(Gap(file.good_until, rest, segment.end, stored))
    elif segment.size > max(file.good_until, files.HEAD_BYTES) and not _is_told(disk, path):
        _log.warning(
            "%s ends in the middle of a record, as after a crash: %d bytes at %d are left out",
            path, rest, file.good_until,
        )  # fmt: skip
    return gaps


def _is_told(disk: Disk, newest: Path) -> bool:
    """Whether an earlier start has told how the newest segment ends: a cursor is younger."""
    age = disk.age(newest)
    cursors = {files.CURSOR, files.CURSOR_SYNCED}.intersection(disk.listdir(newest.parent))
    return any(disk.age(newest.parent / name) < age for name in cursors)
