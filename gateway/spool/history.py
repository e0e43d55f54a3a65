"""Reads what the segments hold, done or not, to find out which events were here lately."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from gateway.spool.disk import Disk
from gateway.spool.log import Located
from gateway.spool.segment import SegmentFile

_RECORDS: Final = 1024
_BYTES: Final = 1024 * 1024
_log = logging.getLogger(__name__)


def read(disk: Disk, folder: Path, segments: Iterable[Located]) -> Iterator[list[bytes]]:
    """Yield the whole records of segments in lists; what can't be read is left out."""
    for segment, end, size in segments:
        path = folder / segment.name
        try:
            file = SegmentFile(disk, path, segment.mark_before(segment.first))
        except FileNotFoundError:  # trimmed meanwhile
            continue
        except OSError as error:
            _log.warning("%s: what was here lately can't be read: %s", path, error)
            continue
        try:
            while part := file.read(_RECORDS, _BYTES, end, size).records:
                yield [record for _, record in part]
        except OSError as error:
            _log.warning("%s: what was here lately can't be read: %s", path, error)
        finally:
            file.close()
