"""Shows what is in a spool's folder, also while a gateway uses it; changes nothing."""

from collections.abc import Iterator
from pathlib import Path

from gateway.errors import GatewayError
from gateway.spool import cursor, files
from gateway.spool.disk import REAL_DISK
from gateway.spool.ranges import Ranges
from gateway.spool.segment import CHUNK, Mark, SegmentFile

_NO_END = 1 << 63


def describe(folder: Path) -> Iterator[str]:
    """Yield a line for the cursor, and for each segment and each damaged place.

    Raises:
        GatewayError: it is no spool, or one of a newer gateway.
    """
    disk = REAL_DISK
    try:
        names = sorted(name for name in disk.listdir(folder) if files.first_of(name) is not None)
        found = cursor.read(disk, folder)
    except OSError as error:
        raise GatewayError(f"{folder} can't be read: {error.strerror}") from None
    if not names and found is None:
        raise GatewayError(f"{folder} is no spool: it has neither segments nor a cursor")
    done = Ranges(1)
    if found is None:
        yield "cursor: none"
    else:
        done = Ranges(found.done[0][1], found.done[1:])
        beyond = done.count - done.watermark
        yield (
            f"cursor: format {found.version}, all before {done.watermark} done and {beyond} beyond "
            f"it, next {found.next_sequence}"
        )
    for name in names:
        yield from _describe_segment(folder / name, done)


def _describe_segment(path: Path, done: Ranges) -> Iterator[str]:
    size = REAL_DISK.size(path)
    file = SegmentFile(REAL_DISK, path, Mark(files.first_of(path.name) or 0, files.HEAD_BYTES))
    places = []
    records = pending = 0
    try:
        while True:
            part = file.read(CHUNK, CHUNK, _NO_END, size)
            places += [f"  damaged: {gap.size} bytes at {gap.offset}" for gap in part.gaps]
            records += len(part.records)
            pending += sum(sequence not in done for sequence, _ in part.records)
            if not part.records and not part.gaps:
                break
    finally:
        file.close()
    rest = size - max(file.good_until, files.HEAD_BYTES)
    if rest > 0:
        places.append(f"  no whole record: {rest} bytes at {file.good_until}")
    yield f"{path.name}: {size} bytes, {records} records, {pending} pending"
    yield from places
