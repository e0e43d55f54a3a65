"""A disk in memory that can do what real ones do, and a spool that takes one step at a time."""

import errno
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from gateway.errors import GatewayError
from gateway.spool import Spool
from gateway.spool.disk import Disk

PAGE = 512  # of what is torn apart at a power cut


class Cut(BaseException):
    """The process ends here; nothing may catch it."""


@dataclass(eq=False)
class Inode:
    """A file: what processes see of it, and what is certainly on the platter."""

    seen: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    dropped: set[int] = field(default_factory=set)
    """Offsets of bytes that a failed sync has taken for written: no later one writes them."""
    written_at: float = 0.0


@dataclass
class Fault:
    """What the call of a name does once `after` others of that name have passed."""

    call: str
    error: int
    after: int = 0
    times: int = 1


class SimulatedDisk(Disk):
    """Forgets at a power cut what was not synced, and fails as it is told.

    Attributes:
        calls: how often each was made.
        faults: what will fail.
        short_writes: whether each write takes a half of what it gets.
        cut_in: after how many more calls the process ends.
        capacity: bytes; ENOSPC beyond it.
        on_call: called with the name before each call.
        now: seconds.
        holes: how often a power cut has left a hole with something whole behind it.
    """

    def __init__(self, capacity=1 << 30):
        self.names = {}
        self.durable_names = {}
        self.renames = []  # name -> inode or None, in order, since the folder was synced
        self.fds = {}
        self.next_fd = 3
        self.locks = {}
        self.calls = Counter()
        self.faults = []
        self.short_writes = False
        self.cut_in = None
        self.capacity = capacity
        self.on_call = None
        self.now = 0.0
        self.holes = 0

    # what happens to the machine

    def kill(self):
        """The process is gone; the system keeps what it was given."""
        self.fds.clear()
        self.locks.clear()
        self.faults.clear()
        self.cut_in = self.on_call = None
        self.short_writes = False

    def power_cut(self, rng: random.Random):
        """The machine is gone: what was not synced is there, or in part, or not."""
        self.kill()
        for path, inode in self.renames:
            if rng.random() < 0.5:
                self._name(self.durable_names, path, inode)
        self.names = dict(self.durable_names)
        self.renames = []
        for _, inode in sorted(self.names.items()):
            inode.durable = self._torn(inode, rng)
            inode.seen = bytearray(inode.durable)
            inode.dropped = set()

    def _torn(self, inode, rng):
        seen, durable = self._written(inode), inode.durable
        if len(seen) <= len(durable):
            return durable if rng.random() < 0.5 else seen
        kept, fresh = durable, bytearray(seen[len(durable) :])
        way = rng.choice(("none", "all", "begin", "zeros", "garbage", "hole"))
        at = rng.randrange(len(fresh) + 1)
        if way == "none":
            fresh = b""
        elif way == "begin":
            fresh = fresh[:at]
        elif way == "zeros":
            fresh[at:] = bytes(len(fresh) - at)
        elif way == "garbage":
            fresh[at:] = rng.randbytes(len(fresh) - at)
        elif way == "hole":
            self.holes += 1
            fresh[at : at + PAGE] = bytes(len(fresh[at : at + PAGE]))
        return bytes(kept + fresh)

    @staticmethod
    def _written(inode):
        data = bytearray(inode.seen)
        for at in inode.dropped:
            if at < len(data):
                data[at] = 0
        return bytes(data)

    @staticmethod
    def _name(names, path, inode):
        if inode is None:
            names.pop(path, None)
        else:
            names[path] = inode

    def _rename(self, path, inode):
        self._name(self.names, path, inode)
        self.renames.append((path, inode))

    def _call(self, name):
        self.calls[name] += 1
        if self.cut_in is not None:
            self.cut_in -= 1
            if self.cut_in < 0:
                raise Cut
        if self.on_call is not None:
            self.on_call(name)
        for fault in self.faults:
            if fault.call == name:
                if fault.after > 0:
                    fault.after -= 1
                elif fault.times > 0:
                    fault.times -= 1
                    raise OSError(fault.error, os.strerror(fault.error))

    def fail(self, call, error, after=0, times=1):
        self.faults.append(Fault(call, error, after, times))

    @property
    def used(self):
        return sum(len(inode.seen) for inode in set(self.names.values()))

    def content(self, path):
        return self.names[path].seen

    # the calls

    def make_folder(self, folder):
        self._call("make_folder")

    def lock(self, path):
        self._call("lock")
        if path in self.locks.values():
            raise GatewayError(f"{path.parent} is in use by process 1")
        fd = self._fd(Inode())
        self.locks[fd] = path
        return fd

    def _fd(self, inode):
        self.next_fd += 1
        self.fds[self.next_fd] = inode
        return self.next_fd

    def create(self, path):
        self._call("create")
        inode = self.names.get(path)
        if inode is None:
            inode = Inode()
            self._rename(path, inode)
        inode.seen = bytearray()
        inode.dropped = set()
        return self._fd(inode)

    def open(self, path):
        self._call("open")
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return self._fd(self.names[path])

    def close(self, fd):
        if self.cut_in is None or self.cut_in >= 0:
            del self.fds[fd]
            self.locks.pop(fd, None)

    def write(self, fd, data):
        self._call("write")
        data = bytes(data)
        if self.short_writes and len(data) > 1:
            data = data[: len(data) // 2]
        room = self.capacity - self.used
        if room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        data = data[:room]
        self.fds[fd].seen += data
        self.fds[fd].written_at = self.now
        return len(data)

    def read(self, fd, offset, length):
        self._call("read")
        return bytes(self.fds[fd].seen[offset : offset + length])

    def size(self, path):
        self._call("size")
        return len(self.names[path].seen)

    def age(self, path):
        return self.now - self.names[path].written_at

    def clock(self):
        return self.now

    def truncate(self, fd, size):
        self._call("truncate")
        seen = self.fds[fd].seen
        del seen[size:]
        seen.extend(bytes(size - len(seen)))

    def fdatasync(self, fd):
        inode = self.fds[fd]
        try:
            self._call("fdatasync")
        except OSError:
            inode.dropped |= set(range(len(inode.durable), len(inode.seen)))
            raise
        inode.durable = self._written(inode)

    def fsync_dir(self, folder):
        self._call("fsync_dir")
        self.durable_names = dict(self.names)
        self.renames = []

    def rename(self, old, new):
        self._call("rename")
        inode = self.names[old]
        self._rename(new, inode)
        self._rename(old, None)

    def unlink(self, path):
        self._call("unlink")
        self._rename(path, None)

    def listdir(self, folder):
        self._call("listdir")
        return [path.name for path in self.names if path.parent == folder]

    def free(self, folder):
        self._call("free")
        return self.capacity - self.used, self.capacity


class SteppedSpool(Spool):
    """A spool whose writer runs when it is told to: each interleaving is one that a test chose.

    Attributes:
        woken: what the event loop would call.
        now: the writer's clock; a checkpoint is due at each step of 1.
    """

    FOLDER = Path("/spool/lane")

    def __init__(self, disk, *, max_bytes=1 << 20, segment_bytes=1 << 18, **options):
        super().__init__(
            self.FOLDER,
            max_bytes=max_bytes,
            segment_bytes=segment_bytes,
            disk=disk,
            **{"min_free_share": 0.0} | options,
        )
        self.woken = []
        self.wakes = 0
        self.now = 0.0

    def _start(self):
        self._writer._wake = self._woken
        self._writer._on_room = self._room_found
        self._writer._on_saved = self._cursor_saved

    def _woken(self, function):
        self.wakes += 1
        self.woken.append(function)

    def work(self, *, keep=True):
        """One round of the writer; with a checkpoint if there is something to keep."""
        self.now += 1.0 if keep else 0.0
        self._writer.work(self.now)

    def deliver(self):
        """Call what the event loop would call."""
        woken, self.woken = self.woken, []
        for function in woken:
            function()

    def close(self):
        if self._lock_fd >= 0:
            self._writer.finish()
        super().close()

    def store(self, *records):
        """Append, commit and get the first number; the error is raised."""
        answers = []
        self.append(list(records), lambda first, error: answers.append((first, error)))
        while not answers:
            self.work()
            self.deliver()
        ((first, error),) = answers
        if error is not None:
            raise error
        return first

    def rest(self):
        """Everything that is unread."""
        found = []
        while some := self.read(7, 1 << 20):
            found += some
        return found
