"""How many workers `auto` stands for: the processors that this process may use."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

_ROOT: Final = Path("/")


def workers_of(wanted: int | Literal["auto"], root: Path = _ROOT) -> int:
    """Return the number of workers; `auto` is one for each whole processor, and at least one.

    What counts is the affinity mask, and the quota of each control group that we are in (cgroup v2
    `cpu.max`, v1 `cpu.cfs_quota_us`), as containers have it.

    Args:
        wanted: the number, or `auto`.
        root: where `proc` and `sys` are.
    """
    if wanted != "auto":
        return wanted
    return max(1, int(min([float(len(os.sched_getaffinity(0))), *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the processors that each control group allows, ours and those above it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mounts, read = [root / "sys/fs/cgroup"], _v2
        elif "cpu" in controllers.split(","):
            folder = root / "sys/fs/cgroup"
            mounts, read = [folder / controllers, folder / "cpu"], _v1
        else:
            continue
        # A container may see its group at the root of the mount, whatever its path says.
        parts = [part for part in path.split("/") if part and part != ".."]
        for mount in mounts:
            for length in range(len(parts), -1, -1):
                quota = read(mount.joinpath(*parts[:length]))
                if quota is not None:
                    yield quota


def _v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return None if quota < 0 else quota / period
    except (OSError, ValueError, ZeroDivisionError):
        return None
