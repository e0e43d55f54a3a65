"""Whether letters can be stored, and who is told what of it when they can't be."""

import logging
from pathlib import Path

from gateway.spool import StoreError
from gateway.throttle import Throttle

_log = logging.getLogger(__name__)


class Trouble:
    """What became of the last letters that came; the log hears when that changes.

    Args:
        path: the store's folder, for the log.

    Attributes:
        is_full: nothing could be stored, for want of room or because the disk fails; the store
            sets it to False when letters are deleted.
    """

    def __init__(self, path: Path) -> None:
        self.is_full = False
        self._path = path
        self._is_told = False
        self._lines = Throttle()

    def note(self, error: StoreError | None) -> StoreError | None:
        """Note whether letters were stored, and why not; return what their sender is told."""
        self.is_full = error is not None
        if error is None:
            if self._is_told:
                _log.warning("%s stores again", self._path)
                self._is_told = False
            return None
        if not self._is_told and (more := self._lines.pass_on("failing")) is not None:
            _log.error(
                "%s: dead letters can't be stored; their events stay with the sender or in the"
                " spool: %s%s",
                self._path,
                error,
                more,
            )
            self._is_told = True
        # The disk and the folder are the operator's business.
        return StoreError("the dead letters can't be stored", full=error.full)
