"""What outlives the process: a spool for each lane, and the dead letters. One folder for all.

PATH/spool/ROUTE/SINK/     what a sink has not taken yet
PATH/dead-letters/         what no sink would take
"""

import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from gateway.config.gateway import shares_of
from gateway.dead_letters import FOLDER as LETTERS_FOLDER
from gateway.dead_letters import DeadLetters, LetterBox
from gateway.errors import GatewayError
from gateway.router import Route
from gateway.spool import REAL_DISK, Found, Spool
from gateway.spool.disk import InUseError
from gateway.spool.inspection import inspect
from gateway.spool.room import MIN_FREE_SHARE, shortage

_log = logging.getLogger(__name__)

SPOOL_FOLDER: Final = "spool"
SYSTEM_PATH: Final = Path("/var/lib/ce-gateway")


def default_path(environ: Mapping[str, str]) -> Path:
    """Return the state folder of a configuration that names none.

    systemd's STATE_DIRECTORY, else /var/lib/ce-gateway if we may write there, else a folder of the
    user's own.
    """
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    nearest = next(path for path in (SYSTEM_PATH, *SYSTEM_PATH.parents) if path.exists())
    if os.access(nearest, os.W_OK):
        return SYSTEM_PATH
    home = (
        environ.get("XDG_STATE_HOME")
        or Path(environ.get("HOME", "~")).expanduser() / ".local/state"
    )
    return Path(home) / "ce-gateway"


def unusable(error: GatewayError) -> GatewayError:
    """Return what is wrong with the folder for the state, with what to do if it is another's."""
    hint = "; each gateway needs a folder of its own" if isinstance(error, InUseError) else ""
    return GatewayError(f"state.path: {error}{hint}")


class State:
    """The folder, open.

    Args:
        path: the folder; made if it isn't there.
        max_bytes: what everything in it takes at most.
        routes: those of the configuration; each says whether it has spools or dead letters.
        elsewhere: where dead letters are put, if this folder has none: another process has them.

    Attributes:
        path: the folder.
        dead_letters: those in the folder; None if no route keeps any, or they are elsewhere.
    """

    def __init__(
        self,
        path: Path,
        max_bytes: int,
        routes: Sequence[Route],
        elsewhere: LetterBox | None = None,
    ) -> None:
        self.path = path
        lanes = [(route.name, sink) for route in routes if route.spool for sink in route.sinks]
        keeps_letters = elsewhere is None and any(route.keeps_letters for route in routes)
        try:
            spool_bytes, letters_bytes = shares_of(
                max_bytes, len(lanes), keeps_letters=keeps_letters
            )
        except ValueError as error:
            raise GatewayError(f"state.max_bytes: {max_bytes} {error}") from None
        self._max_bytes = max_bytes
        self._is_open = False
        self._elsewhere = elsewhere
        self.dead_letters: DeadLetters | None = None
        if keeps_letters:
            self.dead_letters = DeadLetters(path / LETTERS_FOLDER, max_bytes=letters_bytes)
        windows = {route.name: route.dedup_window for route in routes}
        self._spools = {
            lane: Spool(
                path / SPOOL_FOLDER / lane[0] / lane[1],
                max_bytes=spool_bytes,
                keep_seconds=windows[lane[0]],
            )
            for lane in lanes
        }

    @property
    def letters(self) -> LetterBox | None:
        """Where dead letters are put; None if no route keeps any."""
        return self._elsewhere or self.dead_letters

    def open(self) -> None:
        """Open everything, and say what an earlier life has left.

        Raises:
            GatewayError: the folder can't be used, or another process uses it.
        """
        try:
            if self.dead_letters is not None:
                self.dead_letters.open()
            for lane, spool in self._spools.items():
                _tell(lane, spool.open())
        except GatewayError as error:
            self.close()
            raise unusable(error) from None
        self._is_open = True
        if self._spools or self.dead_letters is not None:
            self._tell_disk()
        for route, sink in self._orphans():
            _tell_orphan(self.path / SPOOL_FOLDER / route / sink)
        if self.dead_letters is not None and (count := sum(self.dead_letters.stored.values())):
            _log.info("%d dead letters: ce-gateway dead-letters list", count)

    def spool_of(self, route: str, sink: str) -> Spool:
        """Return the spool of a lane."""
        return self._spools[route, sink]

    def close(self) -> None:
        """Release the folder; it waits for the disk."""
        for spool in self._spools.values():
            spool.close()
        if self.dead_letters is not None:
            self.dead_letters.close()
        was_open, self._is_open = self._is_open, False
        if was_open and (count := sum(spool.pending for spool in self._spools.values())):
            _log.info("%d events wait in the spools for the next start", count)

    def _tell_disk(self) -> None:
        """Warn of a disk that has no room, or never will have as much as it may be asked for."""
        try:
            free, total = REAL_DISK.free(self.path)
        except OSError as error:
            _log.warning("state.path %s: the disk doesn't say what is free: %s", self.path, error)
            return
        most = total - math.ceil(total * MIN_FREE_SHARE)
        if free < total - most:
            _log.warning(
                "state.path %s: nothing is stored until the disk has room: %s",
                self.path, shortage(free, total, MIN_FREE_SHARE),
            )  # fmt: skip
        if self._max_bytes > most:
            _log.warning(
                "state.max_bytes is %d, and the disk of state.path %s can give %d: it has %d "
                "bytes, of which %g %% have to stay free",
                self._max_bytes, self.path, most, total, MIN_FREE_SHARE * 100,
            )  # fmt: skip

    def _orphans(self) -> Iterable[tuple[str, str]]:
        found = (self.path / SPOOL_FOLDER).glob("*/*/*.seg")
        lanes = {(path.parent.parent.name, path.parent.name) for path in found}
        return sorted(lanes - self._spools.keys())


def _tell_orphan(folder: Path) -> None:
    """Warn of a spool that no lane empties, if something waits in it."""
    try:
        count = inspect(folder).pending
    except GatewayError as error:
        found = str(error)
    else:
        if not count:
            return
        found = f"{count} events wait there"
    _log.warning(
        "%s: %s, and the configuration has no route %s with a spool for sink %s: bring it back "
        "under this name, or remove the folder, and they are lost",
        folder, found, folder.parent.name, folder.name,
    )  # fmt: skip


def _tell(lane: tuple[str, str], found: Found) -> None:
    if found.pending or found.damaged or found.upgraded:
        _log.log(
            logging.WARNING if found.damaged else logging.INFO,
            "spool of route %s to sink %s: %d events pending, %d bytes, %d damaged%s",
            *lane,
            found.pending,
            found.bytes,
            found.damaged,
            ", of an older format" if found.upgraded else "",
        )
