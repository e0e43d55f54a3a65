"""A process of a run: the load or a sink. It is given its options as JSON and answers in JSON.

It prints one line when it is ready, begins when it is told to, and prints its report at the end.
"""

import asyncio
import json
import os
import resource
import select
import subprocess
import sys
import time
from typing import Any


class Worker:
    """The process, as the harness sees it.

    Args:
        module: run with `python -m`.
        options: its argument.
    """

    def __init__(self, module: str, **options: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(options, default=str)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._module = module
        self._read = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def ready(self, seconds: float = 60) -> dict[str, Any]:
        """Wait until it is ready; returns what it says of itself, such as its port."""
        return self._line(seconds)

    def go(self) -> None:
        """Let it begin, or end if it has begun."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")

    def report(self, seconds: float = 60) -> dict[str, Any]:
        """Return what it prints at its end."""
        report = self._line(seconds)
        self._process.wait(30)
        return report

    def end(self) -> None:
        """Kill it if it runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _line(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._read:
            left = deadline - time.monotonic()
            if not select.select([self._process.stdout], [], [], max(left, 0))[0]:
                raise TimeoutError(f"{self._module} said nothing for {seconds} s")
            more = self._process.stdout.read(65536)
            if not more:
                raise RuntimeError(f"{self._module} ended: {self._process.wait()}")
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found


def options() -> dict[str, Any]:
    """Within the process: what it was started with."""
    found: dict[str, Any] = json.loads(sys.argv[1])
    return found


def say(**facts: Any) -> None:
    """Within the process: print a line for the harness."""
    print(json.dumps(facts), flush=True)


def told() -> "asyncio.Future[None]":
    """Within the process: a future that is done when the harness says `go`, or is gone."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def on_readable() -> None:
        loop.remove_reader(sys.stdin.fileno())
        if not os.read(sys.stdin.fileno(), 1):
            sys.exit(1)
        future.set_result(None)

    loop.add_reader(sys.stdin.fileno(), on_readable)
    return future


def own_cpu() -> float:
    """Return the seconds of CPU time that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
