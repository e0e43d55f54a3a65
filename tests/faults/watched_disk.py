"""The gateway's disk, in a process under test: writes down what is durable, fails, and kills.

Its journal has a line for each call that changes a lane's folder, in JSON. A file is known by a
number, as it has several names in its life; what it held is in the attic under that number, for
whatever is removed later.

    ["folder", path]              it was made just now
    ["base", number, name, size]  it was there when the folder was opened
    ["create", number, name]      ["move", number, old, new]      ["remove", number, name]
    ["synced", number, size]      ["unsynced", number]: fdatasync has failed
    ["cut", number, size]: truncated; what was cut off is in the attic as NUMBER.tail
    ["names", path]: the folder was synced
    ["fault", call, error]        ["crash", point]
"""

import errno
import json
import os
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from gateway.spool.disk import Disk
from gateway.state import SPOOL_FOLDER
from tests.faults.orders import Orders

CURSORS = ("cursor", "cursor.synced")


class Watch:
    """What the disk needs to know; shared by all that it does.

    Args:
        orders: to be obeyed.
        journal: where lines go.
        attic: a folder on the same file system as the state; None keeps nothing.
    """

    def __init__(self, orders: Orders, journal: Path, attic: Path | None) -> None:
        self.attic = attic
        self.files: dict[int, tuple[int, Path]] = {}  # descriptor -> number, path
        self.numbers: dict[Path, int] = {}
        self.was_at = ""
        self._orders = orders
        self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._count = 0
        self._armed: dict[str, Any] | None = None
        self._hits = 0
        self._served: Counter[int] = Counter()
        self._faults: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def note(self, *line: Any) -> None:
        os.write(self._journal, (json.dumps(line) + "\n").encode())

    def is_due(self, *points: str) -> bool:
        """Count that the process is at these points, and return whether it shall end here."""
        armed = self._orders.get().get("crash")
        if armed is not self._armed:
            self._armed, self._hits = armed, 0
        if armed is None or armed["point"] not in points:
            return False
        with self._lock:
            self._hits += 1
            return self._hits == armed["hit"]

    def at(self, *points: str) -> None:
        """Say where the disk is; the process may end there."""
        if self.is_due(*points):
            self.crash(points[0])
        self.was_at = points[0]

    def program_at(self, point: str) -> None:
        """Say where the program is, between its calls of the disk."""
        if self.is_due(point):
            self.crash(point)

    def crash(self, point: str) -> None:
        self.note("crash", point)
        os.kill(os.getpid(), signal.SIGKILL)

    def fault(self, call: str, *where: str) -> str | None:
        """Return the error that a call shall fail with, or "SHORT", or None."""
        faults = self._orders.get().get("faults", [])
        if faults is not self._faults:
            self._faults, self._served = faults, Counter()
        for position, fault in enumerate(faults):
            if fault["call"] not in (call, *where):
                continue
            if "times" in fault and self._served[position] >= fault["times"]:
                continue
            self._served[position] += 1
            self.note("fault", fault["call"], fault["error"])
            return str(fault["error"])
        return None

    def fail(self, call: str, *where: str) -> None:
        """Raise what was ordered for a call."""
        name = self.fault(call, *where)
        if name is not None and name != "SHORT":
            number = getattr(errno, name)
            raise OSError(number, os.strerror(number))

    def keep(self, path: Path) -> int:
        """Give a file a number, and keep its content."""
        self._count += 1
        self.numbers[path] = self._count
        if self.attic is not None:
            os.link(path, self.attic / str(self._count))
        return self._count

    def keep_tail(self, number: int, path: Path, size: int) -> None:
        if self.attic is not None:
            (self.attic / f"{number}.tail").write_bytes(path.read_bytes()[size:])


class WatchedDisk(Disk):
    """The real disk, watched; `watch` is set when it becomes one."""

    watch: Watch

    def make_folder(self, folder: Path) -> None:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        for path in reversed(missing):
            self.watch.note("folder", str(path))
        super().make_folder(folder)

    def lock(self, path: Path) -> int:
        fd = super().lock(path)
        if _is_lane(path):
            for found in path.parent.iterdir():
                number = self.watch.keep(found)
                self.watch.note("base", number, found.name, found.stat().st_size)
        return fd

    def create(self, path: Path) -> int:
        watch, kind = self.watch, _kind(path)
        watch.fail("create", f"create {kind}")
        if kind == "cursor":
            watch.at("before_checkpoint", "any")
        else:
            watch.at("any")
        if path in watch.numbers:  # its content is kept, and the name gets another file
            path.unlink()
        fd = super().create(path)
        number = watch.keep(path)
        watch.files[fd] = (number, path)
        watch.note("create", number, path.name)
        watch.at("mid_roll_created" if kind == "segment" else "cursor_created", "any")
        return fd

    def open(self, path: Path) -> int:
        self.watch.fail("open", f"open {_kind(path)}")
        fd = super().open(path)
        if path in self.watch.numbers:
            self.watch.files[fd] = (self.watch.numbers[path], path)
        return fd

    def close(self, fd: int) -> None:
        self.watch.files.pop(fd, None)
        super().close(fd)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        watch = self.watch
        kind = _kind(watch.files[fd][1])
        error = watch.fault("write", f"write {kind}")
        if error == "SHORT":
            return super().write(fd, data[: max(len(data) // 2, 1)])
        if error is not None:
            number = getattr(errno, error)
            super().write(fd, data[: len(data) // 3])  # as a disk does that fails on the way
            raise OSError(number, os.strerror(number))
        is_head = os.fstat(fd).st_size == 0
        if kind == "segment" and not is_head and watch.is_due("mid_write", "any"):
            super().write(fd, data[: len(data) // 2])
            watch.crash("mid_write")
        written = super().write(fd, data)
        if kind == "segment":
            watch.at("mid_roll_head" if is_head else "after_write", "any")
        else:
            watch.at("cursor_written", "any")
        return written

    def read(self, fd: int, offset: int, length: int) -> bytes:
        if fd in self.watch.files:
            self.watch.fail("read")
        return super().read(fd, offset, length)

    def truncate(self, fd: int, size: int) -> None:
        watch = self.watch
        number, path = watch.files[fd]
        watch.fail("truncate")
        watch.keep_tail(number, path, size)
        watch.note("cut", number, size)
        super().truncate(fd, size)
        watch.at("truncated", "any")

    def fdatasync(self, fd: int) -> None:
        watch = self.watch
        number, path = watch.files.get(fd, (0, Path()))
        size = os.fstat(fd).st_size
        try:
            watch.fail("fdatasync", f"fdatasync {_kind(path)}")
        except OSError:
            watch.note("unsynced", number)
            raise
        super().fdatasync(fd)
        watch.note("synced", number, size)
        if _kind(path) == "segment":
            watch.at("after_fsync", "any")
        else:
            watch.at("cursor_synced", "any")

    def fsync_dir(self, folder: Path) -> None:
        self.watch.fail("fsync_dir")
        super().fsync_dir(folder)
        self.watch.note("names", str(folder))
        self.watch.at("names_synced", "any")

    def rename(self, old: Path, new: Path) -> None:
        watch = self.watch
        watch.fail("rename")
        if new.name not in CURSORS:
            super().rename(old, new)
            return
        synced = "_synced" if new.name == "cursor.synced" else ""
        watch.at(f"after{synced}_checkpoint_write", "any")
        number = watch.numbers.pop(old)
        watch.numbers[new] = number
        watch.note("move", number, old.name, new.name)
        super().rename(old, new)
        watch.at(f"after{synced}_checkpoint_rename", "any")

    def unlink(self, path: Path) -> None:
        watch = self.watch
        watch.fail("unlink")
        watch.at("mid_trim" if watch.was_at == "after_trim" else "before_trim", "any")
        watch.note("remove", watch.numbers.pop(path, 0), path.name)
        super().unlink(path)
        watch.at("after_trim", "any")


def _kind(path: Path) -> str:
    return "segment" if path.suffix == ".seg" else "cursor"


def _is_lane(path: Path) -> bool:
    return path.parent.parent.parent.name == SPOOL_FOLDER
