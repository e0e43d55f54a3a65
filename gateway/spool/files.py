"""The files of a spool's folder: names, and the head with the format's version in each.

    lock                        flock, with the process's id
    cursor                      what is done (gateway/spool/cursor.py)
    cursor.synced               the same when a segment was last finished
    00000000000000000001.seg    records from this sequence number on (gateway/spool/record.py)

The first 16 bytes of cursor and segments are the same in every version there will ever be: magic 8,
version 4, crc32 of both 4. So a damaged version is not taken for a newer one, nor the reverse.
"""

import re
import struct
from pathlib import Path
from typing import Final
from zlib import crc32

from gateway.errors import GatewayError

VERSION: Final = 1
SEGMENT_MAGIC: Final = b"CEspool\n"
CURSOR_MAGIC: Final = b"CEcursr\n"

LOCK: Final = "lock"
CURSOR: Final = "cursor"
CURSOR_SYNCED: Final = "cursor.synced"
CURSOR_NEW: Final = "cursor.new"

_HEAD: Final = struct.Struct("<8sII")
HEAD_BYTES: Final = _HEAD.size
_SEGMENT_NAME: Final = re.compile(r"(\d{20})\.seg")


def segment_name(first: int) -> str:
    """Return the name of the segment that begins with this sequence number."""
    return f"{first:020}.seg"


def first_of(name: str) -> int | None:
    """Return a segment's first sequence number; None of a name that is no segment's."""
    found = _SEGMENT_NAME.fullmatch(name)
    return int(found[1]) if found else None


def head(magic: bytes, version: int) -> bytes:
    """Return the bytes that a file begins with."""
    checksum = crc32(magic + version.to_bytes(4, "little"))
    return _HEAD.pack(magic, version, checksum)


def read_version(path: Path, begin: bytes, magic: bytes) -> int | None:
    """Return the version of a file that begins so; None when its head is damaged.

    Raises:
        GatewayError: a newer gateway wrote it.
    """
    if len(begin) < HEAD_BYTES:
        return None
    found_magic, version, _ = _HEAD.unpack_from(begin)
    if begin[:HEAD_BYTES] != head(magic, version) or found_magic != magic:
        return None
    if version > VERSION:
        raise GatewayError(
            f"{path} has format {version} of a newer gateway, and this one knows up to {VERSION}: "
            "let the newer one deliver what is in it, or use another folder"
        )
    return int(version)
