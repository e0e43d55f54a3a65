"""What processes have used, from the operating system."""

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PRIORITY: Final = 10  # of SCHED_FIFO, where anything goes before other work
_CPU_CLOCK: Final = 2  # of a process, all its threads, in nanoseconds: clock_getcpuclockid(3)


class Usage(NamedTuple):
    """Of a process and all that it started.

    Attributes:
        cpu: seconds, user and system, all threads.
        system: the part of it in the kernel, to 10 ms.
        mib: resident memory, MiB; pages that processes share are counted in each.
        processes: how many there are.
    """

    cpu: float
    system: float
    mib: float
    processes: int


def family(pids: Iterable[int]) -> Sequence[int]:
    """Return processes and all that they started and that still run."""
    found: list[int] = []
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        if pid in found:
            continue
        found.append(pid)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
    return found


def usage(pids: Iterable[int]) -> Usage:
    """Return what processes, and all that they started, have used until now."""
    cpu = system = mib = 0.0
    members = family(pids)
    for pid in members:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            # Its own, and that of children which have ended.
            cpu += time.clock_gettime_ns(~pid << 3 | _CPU_CLOCK) / 1e9
            cpu += (int(fields[13]) + int(fields[14])) / _TICKS
            system += (int(fields[12]) + int(fields[14])) / _TICKS
            resident = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            mib += int(resident[1]) / 1024 if resident else 0.0
    return Usage(cpu, system, mib, len(members))


@contextlib.contextmanager
def undisturbed() -> Iterator[bool]:
    """Let this process, and all that it starts meanwhile, go before whatever else wants the cores.

    Gives whether the system allows it: root may, or who has CAP_SYS_NICE. All that run with it take
    turns in the order in which they wake, ours and others alike.
    """
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    except PermissionError:
        yield False
        return
    try:
        yield True
    finally:
        os.sched_setscheduler(0, policy, priority)


def calibration() -> float:
    """Return the milliseconds of a fixed piece of work in Python, the best of five.

    It tells runs on a machine at its full speed from those beside other work: on a shared one it
    may be twice as much at times.
    """
    best = 1e9
    for _ in range(5):
        started = time.process_time()
        total = 0
        for number in range(40_000):
            total += number & 0xFF
        best = min(best, time.process_time() - started)
    return best * 1e3
