"""Whether there is room: the spool's own cap, and what has to stay free on the disk."""

import errno
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.spool import files, record
from gateway.spool.disk import Disk

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


MIN_FREE_SHARE: Final = 0.05
"""The share of the disk that stays free, for everything else on it."""


def shortage(free: int, total: int, share: float, size: int = 0) -> str:
    """Return, in words for the log, that a disk with so much more on it has too little free."""
    floor = math.ceil(total * share)
    text = f"{share * 100:g} % of the disk ({floor} bytes) have to stay free, and only {free} are"
    return text if free < floor else f"{text}, too few for {size} more"


class StoreError(Exception):
    """Records were not stored.

    Attributes:
        full: whether it is for want of room, and not because the disk fails.
    """

    def __init__(self, text: str, *, full: bool = False) -> None:
        super().__init__(text)
        self.full = full


class Room:
    """What bounds the spool.

    Once it is full it takes nothing until there is room for half a segment, so that it
    doesn't change its mind with every event.

    Attributes:
        max_bytes: what the segments never take more than.
        is_full: whether it takes nothing at the moment.
    """

    def __init__(
        self, disk: Disk, folder: Path, *, max_bytes: int, segment_bytes: int, min_free_share: float
    ) -> None:
        self._disk = disk
        self._folder = folder
        self.max_bytes = max_bytes
        self._margin = segment_bytes // 2
        self._min_free_share = min_free_share
        self._needed = 0  # bytes that the disk had no room for
        self._why = ""  # it was full when it was last
        self.is_full = False

    @staticmethod
    def size_of(records: Sequence[bytes]) -> int:
        """Return what a list takes on the disk at most: it may begin a new segment."""
        return sum(map(len, records)) + record.HEAD_BYTES * len(records) + files.HEAD_BYTES

    def refusal(self, size: int, used: int) -> StoreError | None:
        """Return why so many bytes can't be taken in beside the used ones, if they can't."""
        if self.is_full:
            return StoreError(self._why, full=True)
        if used + size <= self.max_bytes:
            return None
        # A list that can hardly ever fit says nothing about the next one.
        error = self._beyond()
        self._why = str(error)
        self.is_full = used + self._margin > self.max_bytes
        return error

    def is_beyond(self, size: int, used: int) -> bool:
        """Whether so many bytes beside the used ones are more than the cap."""
        return used + size > self.max_bytes

    def check(self, size: int, used: int) -> None:
        """Check that what was taken in can be written.

        Raises:
            StoreError: it would be more than the cap, or the disk would not keep enough free.
            OSError: the disk doesn't say.
        """
        if self.is_beyond(size, used + files.HEAD_BYTES):
            raise self._beyond()
        free, total = self._disk.free(self._folder)
        if free - size < total * self._min_free_share:
            why = shortage(free, total, self._min_free_share, size)
            raise StoreError(f"the spool is full: {why}", full=True)

    def _beyond(self) -> StoreError:
        return StoreError(
            f"the spool is full: state.max_bytes gives this spool {self.max_bytes} bytes",
            full=True,
        )

    @staticmethod
    def meaning_of(error: OSError) -> StoreError:
        """Return what a failed write means."""
        full = error.errno in _NO_ROOM
        return StoreError(f"the spool can't store: {error.strerror or error}", full=full)

    def refused(self, error: StoreError, size: int) -> None:
        """Take nothing for a while when it was for want of room that so much was not written."""
        if error.full:
            self._needed = size
            self._why = str(error)
            self.is_full = True

    def wanted(self, used: int) -> int:
        """Return how many of the used bytes should be given back, if that can be done."""
        return max(used + self._margin - self.max_bytes, self._needed)

    def look(self, used: int) -> bool:
        """Look whether a full spool has room again; return whether it has only now."""
        if not self.is_full or used + self._margin > self.max_bytes:
            return False
        try:
            free, total = self._disk.free(self._folder)
        except OSError:
            return False
        if free - self._needed < total * self._min_free_share:
            return False
        self._needed = 0
        self.is_full = False
        return True
