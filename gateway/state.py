"""What outlives the process: a spool for each lane, and the dead letters. One folder for all.

PATH/spool/ROUTE/SINK/     what a sink has not taken yet
PATH/dead-letters/         what no sink would take
"""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from gateway.dead_letters import FOLDER as LETTERS_FOLDER
from gateway.dead_letters import DeadLetters
from gateway.errors import GatewayError
from gateway.router import Route
from gateway.spool import Found, Spool

_log = logging.getLogger(__name__)

SPOOL_FOLDER: Final = "spool"
SYSTEM_PATH: Final = Path("/var/lib/ce-gateway")
LETTERS_SHARE: Final = 8
"""Dead letters take an eighth of `state.max_bytes`, each spool an equal part of the rest."""
LEAST_BYTES: Final = 1024 * 1024
"""What a spool and the dead letters need at least."""


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


class State:
    """The folder, open.

    Args:
        path: the folder; made if it isn't there.
        max_bytes: what everything in it takes at most.
        routes: those of the configuration; each says whether it has spools or dead letters.

    Attributes:
        path: the folder.
        letters: the dead letters; None if no route keeps any.
    """

    def __init__(self, path: Path, max_bytes: int, routes: Sequence[Route]) -> None:
        self.path = path
        lanes = [(route.name, sink) for route in routes if route.spool for sink in route.sinks]
        keeps_letters = any(route.keeps_letters for route in routes)
        letters_bytes = max_bytes // LETTERS_SHARE if keeps_letters else 0
        spool_bytes = (max_bytes - letters_bytes) // max(len(lanes), 1)
        if min(spool_bytes, letters_bytes or LEAST_BYTES) < LEAST_BYTES:
            needed = LEAST_BYTES * LETTERS_SHARE * max(len(lanes), 1)
            raise GatewayError(
                f"state.max_bytes is too small for {len(lanes)} spools: {needed} is enough"
            )
        self.letters: DeadLetters | None = None
        if keeps_letters:
            self.letters = DeadLetters(path / LETTERS_FOLDER, max_bytes=letters_bytes)
        windows = {route.name: route.dedup_window for route in routes}
        self._spools = {
            lane: Spool(
                path / SPOOL_FOLDER / lane[0] / lane[1],
                max_bytes=spool_bytes,
                keep_seconds=windows[lane[0]],
            )
            for lane in lanes
        }

    def open(self) -> None:
        """Open everything, and say what an earlier life has left.

        Raises:
            GatewayError: the folder can't be used, or another process uses it.
        """
        try:
            if self.letters is not None:
                self.letters.open()
            for lane, spool in self._spools.items():
                _tell(lane, spool.open())
        except GatewayError as error:
            self.close()
            raise GatewayError(
                f"state.path: {error}; each gateway needs a folder of its own"
            ) from None
        for route, sink in self._orphans():
            _log.warning(
                "%s holds events of a route and sink that the configuration does not have; "
                "they stay there",
                self.path / SPOOL_FOLDER / route / sink,
            )
        if self.letters is not None and (count := sum(self.letters.stored.values())):
            _log.info("%d dead letters: ce-gateway dead-letters list", count)

    def spool_of(self, route: str, sink: str) -> Spool:
        """Return the spool of a lane."""
        return self._spools[route, sink]

    def close(self) -> None:
        """Release the folder; it waits for the disk."""
        for spool in self._spools.values():
            spool.close()
        if self.letters is not None:
            self.letters.close()

    def _orphans(self) -> Iterable[tuple[str, str]]:
        found = (self.path / SPOOL_FOLDER).glob("*/*/*.seg")
        lanes = {(path.parent.parent.name, path.parent.name) for path in found}
        return sorted(lanes - self._spools.keys())


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
