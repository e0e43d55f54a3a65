"""Records: what stands in a segment one behind another, and how each is checked.

    marker 4 | crc32 4 | length 4 | sequence 8 | the record's bytes     (little endian)

The checksum covers all that follows it. The marker is there to find the next whole record behind a
damaged one; the sequence number says how many are missing in between.
"""

import struct
from collections.abc import Iterable
from enum import Enum
from typing import Final, NamedTuple
from zlib import crc32

MARKER: Final = b"\xf1CEr"
_SUM: Final = struct.Struct("<4sI")
_CHECKED: Final = struct.Struct("<IQ")
_HEAD: Final = struct.Struct("<4sIIQ")
HEAD_BYTES: Final = _HEAD.size


def encode(records: Iterable[bytes], first: int) -> bytes:
    """Return the records as they stand in a segment, numbered from `first`."""
    parts: list[bytes] = []
    for sequence, record in enumerate(records, first):
        checked = _CHECKED.pack(len(record), sequence)
        parts += (_SUM.pack(MARKER, crc32(record, crc32(checked))), checked, record)
    return b"".join(parts)


class Stop(Enum):
    """Why `parse` went no further."""

    ENOUGH = 1
    """It has what it was asked for."""
    SHORT = 2
    """The next record is longer than the buffer."""
    DAMAGED = 3
    """No whole record with the expected number stands here."""


class Parsed(NamedTuple):
    """What `parse` found.

    Attributes:
        records: sequence numbers and records.
        size: bytes of the records, without their heads.
        offset: where in the buffer it stopped.
        stop: why.
        needed: with SHORT, how many bytes the buffer should have from `offset` on.
    """

    records: list[tuple[int, bytes]]
    size: int
    offset: int
    stop: Stop
    needed: int = 0


def parse(buffer: bytes, offset: int, expected: int, limit: int, max_bytes: int) -> Parsed:
    """Return the whole records that follow one another from `offset`, numbered from `expected`.

    Args:
        buffer: a part of a segment.
        offset: where a record begins in it.
        expected: that record's sequence number.
        limit: return no more records than this.
        max_bytes: return no more once they have this many bytes together.
    """
    view = memoryview(buffer)
    length_of_buffer = len(buffer)
    unpack = _HEAD.unpack_from
    records: list[tuple[int, bytes]] = []
    size = 0
    stop, needed = Stop.ENOUGH, 0
    while limit > len(records) and size < max_bytes:
        start = offset + HEAD_BYTES
        if start > length_of_buffer:
            stop, needed = Stop.SHORT, HEAD_BYTES
            break
        marker, checksum, length, sequence = unpack(buffer, offset)
        if marker != MARKER or sequence != expected:
            stop = Stop.DAMAGED
            break
        end = start + length
        if end > length_of_buffer:
            stop, needed = Stop.SHORT, end - offset
            break
        if crc32(view[offset + _SUM.size : end]) != checksum:
            stop = Stop.DAMAGED
            break
        records.append((sequence, buffer[start:end]))
        size += length
        expected += 1
        offset = end
    return Parsed(records, size, offset, stop, needed)


def read_head(buffer: bytes) -> tuple[int, int] | None:
    """Return length and sequence number of the head that a buffer begins with, if it is one."""
    if len(buffer) < HEAD_BYTES:
        return None
    marker, _, length, sequence = _HEAD.unpack_from(buffer)
    return (length, sequence) if marker == MARKER else None
