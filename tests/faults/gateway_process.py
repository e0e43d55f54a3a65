"""The gateway as a process that is killed and started again on the same ports and state."""

import asyncio
import re
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.servers import Gateway


class GatewayProcess(Gateway):
    """`ce-gateway run FILE`, started again and again.

    Attributes:
        ready_seconds: of each start, from its first moment to 200 of `/readyz`.
        peak_mib: largest resident memory seen by `watch`.
    """

    start_seconds = 90.0  # rows run beside each other, and beside other tests

    def __init__(self, folder: Path, config: Mapping[str, object]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, config)
        self.ready_seconds: list[float] = []
        self.peak_mib = 0.0

    async def up(self) -> float:
        """Start it and return the seconds until it was ready."""
        started = time.monotonic()
        await asyncio.to_thread(self.start)
        self.ready_seconds.append(time.monotonic() - started)
        return self.ready_seconds[-1]

    async def kill_hard(self) -> None:
        """SIGKILL."""
        self.peak_mib = max(self.peak_mib, self.memory_mib())
        await asyncio.to_thread(self.kill)

    def kill_if_running(self) -> None:
        """SIGKILL, at the end of a row that has failed."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    async def terminate(self, *, again_after: float | None = None, seconds: float = 60) -> float:
        """SIGTERM; returns the seconds until it has ended.

        Args:
            again_after: seconds after which a second SIGTERM follows.
            seconds: after these it is killed.
        """
        self.peak_mib = max(self.peak_mib, self.memory_mib())
        started = time.monotonic()
        self.signal(signal.SIGTERM)
        while self.returncode is None:
            if again_after is not None and time.monotonic() - started > again_after:
                self.signal(signal.SIGTERM)
                again_after = None
            if time.monotonic() - started > seconds:
                await self.kill_hard()
            await asyncio.sleep(0.01)
        return time.monotonic() - started

    @property
    def returncode(self) -> int | None:
        """The exit code, None while it runs."""
        return None if self._process is None else self._process.poll()

    def memory_mib(self) -> float:
        """Return resident memory in MiB, 0 when it doesn't run."""
        return self._status("VmRSS") / 1024

    def anonymous_mib(self) -> float:
        """Return resident memory without mapped files in MiB, 0 when it doesn't run."""
        return self._status("RssAnon") / 1024

    def descriptors(self) -> int:
        """Return the number of open file descriptors."""
        try:
            return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())
        except FileNotFoundError:
            return 0

    async def metrics(self) -> dict[str, float]:
        """Return all samples of `/metrics`, by name and labels as they stand there."""
        status, body = await asyncio.to_thread(self.get, "/metrics")
        assert status == 200, body
        lines = [line for line in body.decode().splitlines() if line and line[0] != "#"]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def complaints(self) -> list[str]:
        """Return the tracebacks in its log: there must be none."""
        log = self.log
        return [
            log[match.start() : match.start() + 2000] for match in re.finditer("Traceback", log)
        ]

    def _status(self, name: str) -> float:
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except FileNotFoundError:
            return 0.0
        match = re.search(rf"{name}:\s+(\d+) kB", status)
        return float(match[1]) if match else 0.0
