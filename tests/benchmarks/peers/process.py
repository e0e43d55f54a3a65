"""A product as a process, and where `.ci/peers` put it."""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

_PATIENCE: Final = 20.0
_TAIL: Final = 2000


class PeerProcess:
    """A product at work; implements `contender.Running`.

    Args:
        command: what to run; what it prints goes to a file in `folder`.
        folder: its working directory.
        is_ready: told all that it has printed, says whether it takes events.
        environment: variables beside ours.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        is_ready: Callable[[str], bool],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = folder / "output"
        self._is_ready = is_ready
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # `stop` ends what it started, too
            )

    @property
    def pids(self) -> Sequence[int]:
        return [self._process.pid]

    def is_ready(self) -> bool:
        printed = self._log.read_text(errors="replace")
        if self._process.poll() is not None:
            raise RuntimeError(f"it has ended: {printed[-_TAIL:]}")
        return self._is_ready(printed)

    def stop(self) -> None:
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def listens(port: int) -> bool:
    """Whether somebody takes connections at a port of 127.0.0.1."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
