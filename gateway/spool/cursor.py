"""The cursor file: what is done, so that it isn't delivered again after a restart.

    head 16 | crc32 of the rest 4 | next sequence number 8 | first and end of each done range, 8 + 8

It is replaced, not changed, and not synced: what a power cut takes away is delivered twice. When
everything in another segment is done, a second file of the same form is written and synced instead.
Its name is another one, so that no later cursor takes away with it why a segment isn't there.
"""

import logging
import struct
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

from gateway.spool import files
from gateway.spool.disk import Disk
from gateway.spool.ranges import Ranges

_SUM: Final = struct.Struct("<I")
_NUMBER: Final = struct.Struct("<Q")
_RANGE: Final = struct.Struct("<QQ")
_log = logging.getLogger(__name__)


class Cursor(NamedTuple):
    """What a cursor file says.

    Attributes:
        next_sequence: every number before it was stored; the next record gets it.
        done: ranges of what was delivered or lost, each its first number and the one behind its
            last; the first range begins at 0.
        version: of the file's format.
    """

    next_sequence: int
    done: list[tuple[int, int]]
    version: int


def encode(cursor: Cursor) -> bytes:
    """Return the file's bytes."""
    ranges = b"".join(_RANGE.pack(*pair) for pair in cursor.done)
    body = _NUMBER.pack(cursor.next_sequence) + ranges
    return files.head(files.CURSOR_MAGIC, cursor.version) + _SUM.pack(crc32(body)) + body


def decode(path: Path, data: bytes) -> Cursor | None:
    """Return what the bytes say; None when they are damaged.

    Raises:
        GatewayError: a newer gateway wrote them.
    """
    version = files.read_version(path, data, files.CURSOR_MAGIC)
    body = data[files.HEAD_BYTES + _SUM.size :]
    if version is None or len(body) % _RANGE.size != _NUMBER.size:
        return None
    if _SUM.unpack_from(data, files.HEAD_BYTES)[0] != crc32(body):
        return None
    (next_sequence,) = _NUMBER.unpack_from(body)
    done = [(start, end) for start, end in _RANGE.iter_unpack(body[_NUMBER.size :])]
    return Cursor(next_sequence, done, version)


def read(disk: Disk, folder: Path) -> Cursor | None:
    """Return what the folder's cursors say together; None when there is none that can be read.

    Raises:
        GatewayError: a newer gateway wrote one of them.
    """
    cursors = [_read(disk, folder / name) for name in (files.CURSOR, files.CURSOR_SYNCED)]
    found = [cursor for cursor in cursors if cursor is not None]
    if not found:
        return None
    done = Ranges(0)
    for cursor in found:
        for start, end in cursor.done:
            done.add(start, end)
    next_sequence = max(cursor.next_sequence for cursor in found)
    return Cursor(next_sequence, done.pairs(), min(cursor.version for cursor in found))


def _read(disk: Disk, path: Path) -> Cursor | None:
    try:
        fd = disk.open(path)
    except FileNotFoundError:
        return None
    try:
        data = disk.read(fd, 0, disk.size(path))
    except OSError as error:
        _log.warning("%s can't be read (%s): some events will be delivered twice", path, error)
        return None
    finally:
        disk.close(fd)
    cursor = decode(path, data)
    if cursor is None:
        _log.warning("%s is damaged: some events will be delivered twice", path)
    return cursor


def write(disk: Disk, path: Path, cursor: Cursor, *, durable: bool) -> None:
    """Replace a cursor.

    Args:
        disk: where.
        path: the file.
        cursor: what it shall say.
        durable: survive a power cut, too.

    Raises:
        OSError: the old one is still there.
    """
    new = path.with_name(files.CURSOR_NEW)
    fd = disk.create(new)
    try:
        write_all(disk, fd, encode(cursor))
        if durable:
            disk.fdatasync(fd)
    finally:
        disk.close(fd)
    disk.rename(new, path)
    if durable:
        disk.fsync_dir(path.parent)


def write_all(disk: Disk, fd: int, data: bytes) -> None:
    """Write all of it, in as many pieces as the system wants.

    Raises:
        OSError: a part of it may be there.
    """
    written = disk.write(fd, data)
    while written < len(data):
        written += disk.write(fd, memoryview(data)[written:])
