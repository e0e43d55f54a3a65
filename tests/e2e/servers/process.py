"""A program that runs until it is stopped, and what is needed to start one."""

import contextlib
import errno
import fcntl
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

HOST = "127.0.0.1"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cloudevents-gateway"
"""Where the scripts in .ci put what they fetch."""
T = TypeVar("T")


class MissingError(Exception):
    """A program that a test needs is not on this machine; the text says how to get it."""


def program(name: str, package: str) -> str:
    """Return the path of a program of a Debian package.

    Raises:
        MissingError: it is not installed.
    """
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin")
    if path is None:
        raise MissingError(f"{name} is missing: apt-get install {package}")
    return path


def _ports() -> Sequence[int]:
    """Return ports that the system gives to no client by itself."""
    system = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first, last = map(int, system.read_text().split()) if system.exists() else (49152, 65535)
    return range(10000, first) if first > 20000 else range(min(last, 60000) + 1, 65536)


_PORTS = _ports()
_turns = itertools.count(random.randrange(len(_PORTS)))
_claimed: set[int] = set()
# One byte for each port, locked until this process ends: a server that is killed and started again
# finds its port still free, whatever other processes of the tests have started meanwhile.
_claims = os.open(
    Path(tempfile.gettempdir()) / f"ports-of-tests-{os.getuid()}", os.O_RDWR | os.O_CREAT, 0o600
)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM, among: Sequence[int] = _PORTS) -> int:
    """Return a port that nobody listens on; until this process ends no other call gets it.

    Raises:
        OSError: none of these ports is free.
    """
    for _ in among:
        port = among[next(_turns) % len(among)]
        if port not in _claimed and _claim(port, kind):
            _claimed.add(port)
            return port
    raise OSError("none of these ports is free")


def _claim(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind((HOST, port))
            fcntl.lockf(_claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EAGAIN, errno.EACCES}:
                return False
            raise
    return True


def poll_until(attempt: Callable[[], T], seconds: float, what: str) -> T:
    """Call `attempt` until it returns something true, and return that.

    Raises:
        TimeoutError: it never did.
    """
    deadline = time.monotonic() + seconds
    while True:
        result = attempt()
        if result:
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def accepts_connections(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


class Server:
    """A program that runs until `stop`; its output goes to a file.

    `kill` is SIGKILL: the program gets no chance to save anything. `start` may be called again
    afterwards, and uses the same port and the same folder.
    """

    name = "server"
    start_seconds = 30.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log_path = folder / f"{self.name}.log"
        self.port = free_port()
        self.env: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        """Return the command line; files it names have to be written by now."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        return accepts_connections(self.port)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def start(self) -> Self:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            poll_until(self._is_ready_or_dead, self.start_seconds, f"{self.name} to start")
        except BaseException:
            self.stop()
            raise
        return self

    def _is_ready_or_dead(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(
                f"{self.name} ended with {self._process.returncode}:\n{self.log[-4000:]}"
            )
        return self.is_ready()

    def stop(self, seconds: float = 15) -> int:
        """Send SIGTERM and return the exit code; SIGKILL when it does not obey."""
        process = self._process
        if process is None:
            return 0
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return process.returncode

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
