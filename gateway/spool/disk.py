"""The calls that the spool makes of the operating system: the seam at which tests break disks."""

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import Final

from gateway.errors import GatewayError


class InUseError(GatewayError):
    """Another process uses the folder."""


class Disk:
    """The real one. Each method is one system call, or nearly, and raises what that raises."""

    def make_folder(self, folder: Path) -> None:
        """Make a folder that only its owner may look into: events are nobody else's business.

        Its name is durable, and so are those of the folders above it that were not there.
        """
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in reversed(missing):
            self.fsync_dir(path.parent)

    def lock(self, path: Path) -> int:
        """Lock the file for this process, and write the process's id into it.

        Raises:
            InUseError: another process holds it.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 20).decode("ascii", "replace").strip()
            os.close(fd)
            who = f"process {holder}" if holder else "another process"
            raise InUseError(f"{path.parent} is in use by {who}") from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return fd

    def create(self, path: Path) -> int:
        """Open an empty file for writing; one that is there is emptied."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        return os.open(path, flags, 0o600)

    def open(self, path: Path) -> int:
        """Open a file for reading."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        """Close a file; what matters was synced before, so an error here says nothing."""
        with contextlib.suppress(OSError):
            os.close(fd)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write, and return how much of it was written, which may be less."""
        return os.write(fd, data)

    def read(self, fd: int, offset: int, length: int) -> bytes:
        """Read up to `length` bytes; fewer at the end of the file."""
        return os.pread(fd, length, offset)

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def age(self, path: Path) -> float:
        """Return how many seconds ago a file was written; 0 when the clock has gone back since."""
        return max(time.time() - path.stat().st_mtime, 0.0)

    def clock(self) -> float:
        """Return seconds that go on whatever becomes of the time of day."""
        return time.monotonic()

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def fsync_dir(self, folder: Path) -> None:
        """Make the names in a folder durable: those made, those changed and those removed."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def listdir(self, folder: Path) -> list[str]:
        return [path.name for path in folder.iterdir()]

    def free(self, folder: Path) -> tuple[int, int]:
        """Return how many bytes can still be written by this process, and the disk's whole size."""
        found = os.statvfs(folder)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


REAL_DISK: Final = Disk()
