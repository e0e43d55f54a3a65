"""Instructions per event, measured by Valgrind, and beside them the counts that are kept.

A count is the same on a busy machine as on an idle one, so a change of one per cent can be seen.
It does depend on how Python was built and on the libraries, so these are kept with the counts.
"""

import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from tests.instructions.counting import MACHINE
from tests.instructions.measured import EVENTS

TOLERANCE: Final = 0.05
"""By how much a count may grow."""
KEPT: Final = Path(__file__).with_name("counts.json")
_ROOT: Final = Path(__file__).parents[2]
_LIBRARIES: Final = ("msgspec", "uvloop")
_COLLECTED: Final = re.compile(r"Collected : (\d+)")
_PATIENCE: Final = 600.0


class Counts(msgspec.Struct):
    """What `counts.json` holds.

    Attributes:
        python: the interpreter and the machine that it is built for.
        libraries: those that do a part of the work, with versions.
        counts: instructions per event, by workload.
    """

    python: str
    libraries: dict[str, str]
    counts: dict[str, int]


def python() -> str:
    """Return what a count depends on and the tree does not say."""
    build = (
        "optimised"
        if "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS"))
        else "plain"
    )
    return " ".join(
        (
            platform.python_version(),
            build,
            platform.python_compiler(),
            *platform.libc_ver(),
            platform.machine(),
        )
    )


def libraries() -> dict[str, str]:
    """Return the versions of the libraries that do a part of the work."""
    return {name: version(name) for name in _LIBRARIES}


def missing() -> str | None:
    """Say why nothing can be counted here; None when it can."""
    if platform.machine() != MACHINE:
        return f"instructions are counted on {MACHINE} only"
    if shutil.which("valgrind") is None:
        return "valgrind is missing: apt-get install valgrind"
    return None


def load() -> Counts:
    """Return the counts that are kept."""
    return msgspec.json.decode(KEPT.read_bytes(), type=Counts)


def store(counts: Mapping[str, int]) -> None:
    """Keep counts, with what they depend on."""
    kept = Counts(python(), libraries(), dict(counts))
    KEPT.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=2) + b"\n")


def grown(kept: int, found: int) -> bool:
    """Whether a count is above what is tolerated."""
    return found > kept * (1 + TOLERANCE)


def count_all(names: Iterable[str]) -> dict[str, int]:
    """Return instructions per event for each workload; two at a time."""
    names = list(names)
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda name: count("-m", "tests.instructions.measured", name), names)
        return dict(zip(names, found, strict=True))


def count(*program: str) -> int:
    """Return instructions per event of a Python program that calls `measured.main`.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    with tempfile.TemporaryDirectory(prefix="instructions-") as folder:
        done = subprocess.run(
            [
                *("valgrind", "--tool=callgrind", "--instr-atstart=no"),
                *("--callgrind-out-file=/dev/null", sys.executable, *program),
            ],
            check=False,
            cwd=_ROOT,
            # Nothing of this machine's: what is in the environment moves the stack.
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": folder,
                "TMPDIR": folder,
                "PYTHONHASHSEED": "0",
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
        )
    collected = _COLLECTED.search(done.stderr)
    if done.returncode or collected is None:
        raise RuntimeError(f"{program}: {done.stdout[-1000:]}{done.stderr[-2000:]}")
    return round(int(collected[1]) / EVENTS)
