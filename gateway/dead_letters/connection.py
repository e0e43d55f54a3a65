"""The connection to the database: locked, bounded, and made anew when the file is damaged.

Nobody else can open the file meanwhile, not even the `sqlite3` shell: the folder is locked, and so
is the file. That is also why the WAL-reset bug of SQLite before 3.51.3 can't be met.
"""

import contextlib
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from gateway.dead_letters import rows
from gateway.dead_letters.schema import NotOursError, has_sound_header, migrate, version_of
from gateway.errors import GatewayError
from gateway.spool import Disk, StoreError

FILE: Final = "letters.db"
LOCK: Final = "lock"
_LEAST_BYTES: Final = 256 << 10
_RESERVE_BYTES: Final = 8 << 20
_SPARE_PAGES: Final = 64
"""What deleting may take beyond the limit, while the tree is rearranged."""
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)


class DamagedError(StoreError):
    """The database was damaged; it was moved aside and there is a new one."""


class Connection:
    """One connection, used by one thread.

    Attributes:
        path: the file.
        stored: how many letters there are, by route; read at each new connection, and kept by who
            changes them.
    """

    def __init__(
        self, folder: Path, *, max_bytes: int, disk: Disk, replaces_damaged: bool = True
    ) -> None:
        """Say where and how much; see `Database`."""
        self.path = folder / FILE
        self.stored: Counter[str] = Counter()
        self._disk = disk
        self._replaces_damaged = replaces_damaged
        # Room for the log, or the letters could not even be deleted once the database is full:
        # half of it is what the log grows to before it is carried over into the database.
        self._max_bytes = max(max_bytes, _LEAST_BYTES)
        self._reserve = min(_RESERVE_BYTES, self._max_bytes // 4)
        self._lock_fd = -1
        self._connection: sqlite3.Connection | None = None
        self._max_pages = 0

    @property
    def bytes(self) -> int:
        """What the database takes on the disk, with its log."""
        size = 0
        for suffix in ("", "-wal"):
            with contextlib.suppress(OSError):
                size += self._disk.size(self._file(suffix))
        return size

    def open(self) -> None:
        """Lock the folder and open the database; a damaged one is moved aside for a new one.

        Raises:
            GatewayError: another process uses the folder, a newer gateway wrote it, or it can't be
                made or read; or it is damaged and not to be replaced.
        """
        try:
            self._disk.make_folder(self.path.parent)
            self._lock_fd = self._disk.lock(self.path.parent / LOCK)
        except OSError as error:
            raise GatewayError(f"{self.path.parent} can't be used: {error.strerror}") from None
        try:
            self._open()
        except (GatewayError, sqlite3.Error, OSError, NotOursError) as error:
            self.close()
            if isinstance(error, GatewayError):
                raise
            raise GatewayError(f"{self.path} can't be opened: {error}") from None

    def close(self) -> None:
        """Close the database and release the folder. Calling it again does nothing."""
        self._disconnect()
        if self._lock_fd >= 0:
            self._disk.close(self._lock_fd)
            self._lock_fd = -1

    def run(
        self, work: Callable[[sqlite3.Connection], _Result], *, shrinks: bool = False
    ) -> _Result:
        """Do something with the connection.

        Args:
            work: what to do.
            shrinks: it makes the database smaller, or at least no larger; so it may be full.

        Raises:
            DamagedError: the database is damaged; there is a new one.
            StoreError: it can't be done.
        """
        try:
            connection = self._connection or self._open()
            self._limit(connection, spare=_SPARE_PAGES if shrinks else 0)
            return work(connection)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            failure: Exception = error
        except (GatewayError, OSError) as error:
            raise StoreError(f"the dead letters can't be used: {error}") from None
        code = _code_of(failure)
        if self._is_damage(code):
            try:
                self._replace(str(failure))
            except GatewayError as error:
                raise StoreError(str(error)) from None
            except (sqlite3.Error, OSError) as error:
                raise StoreError(f"the dead letters are damaged, and stay so: {error}") from None
            raise DamagedError("the dead letters were damaged and are moved aside")
        if code == sqlite3.SQLITE_IOERR:
            # What a failed fsync has left in memory is not to be trusted: read it anew.
            self._disconnect()
        full = code == sqlite3.SQLITE_FULL
        what = "full" if full else f"not to be used: {failure}"
        raise StoreError(f"the dead letters are {what}", full=full)

    def check_disk(self, size: int) -> None:
        """Keep enough of the disk free that letters can always be deleted.

        Raises:
            StoreError: so many bytes more would leave too little.
        """
        try:
            free, _ = self._disk.free(self.path.parent)
        except OSError as error:
            raise StoreError(f"the disk does not say what is free: {error.strerror}") from None
        if free < size + self._reserve:
            raise StoreError(
                f"the disk has only {free} bytes free, and {self._reserve} must stay free beside"
                f" the {size} to be stored",
                full=True,
            )

    def _limit(self, connection: sqlite3.Connection, spare: int) -> None:
        connection.execute(f"PRAGMA max_page_count = {self._max_pages + spare}").fetchone()

    def _open(self) -> sqlite3.Connection:
        try:
            if not self._replaces_damaged:
                self._inspect()
            return self._connect()
        except NotOursError as error:
            return self._replace(str(error))
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if not self._is_damage(_code_of(error)):
                raise
            return self._replace(str(error))

    def _inspect(self) -> None:
        """Raise what `_connect` would of a damaged database, and leave every byte as it is.

        A connection that may write carries the log over into the database when it is closed.
        """
        index = self._file("-shm")
        had_index = index.exists()
        connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            if version_of(connection, self.path):
                rows.check(connection)
        finally:
            connection.close()
            if not had_index:
                index.unlink(missing_ok=True)

    def _is_damage(self, code: int) -> bool:
        # A damaged header is only read-only, or a format that SQLite does not know.
        return code in _DAMAGED or (
            code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_ERROR}
            and not has_sound_header(self.path)
        )

    def _file(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=0)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.text_factory = _decoded
        self.path.chmod(0o600)  # events are nobody else's business
        connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
        version = version_of(connection, self.path)
        if version == 0:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("PRAGMA synchronous = FULL")
        migrate(connection, version)
        with transaction(connection):  # says now whether it can be written to
            pass
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        self._max_pages = (self._max_bytes - self._reserve) // page_size
        log_pages = self._reserve // 2 // page_size
        connection.execute(f"PRAGMA wal_autocheckpoint = {log_pages}").fetchall()
        self.stored = rows.check(connection)
        # The names, too: SQLite syncs what is in the files.
        self._disk.fsync_dir(self.path.parent)
        self._disk.fsync_dir(self.path.parent.parent)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _replace(self, why: str) -> sqlite3.Connection:
        """Move the file aside with its log, and begin a new one."""
        self._disconnect()
        why = why.partition("\n")[0][:200]
        if not self._replaces_damaged:
            raise GatewayError(
                f"{self.path} is damaged ({why}) and is left as it is; a gateway that starts moves"
                " it aside and begins a new one"
            )
        aside = _free_name(self.path, datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"))
        for suffix in ("-wal", "-shm", ""):
            old = self._file(suffix)
            if old.exists():
                self._disk.rename(old, aside.with_name(aside.name + suffix))
        _log.error("%s is damaged (%s): it is now %s, and a new one is made", self.path, why, aside)
        return self._connect()


def _code_of(error: Exception) -> int:
    """Return SQLite's primary result code."""
    if isinstance(error, UnicodeDecodeError):  # the error's own text quotes what is damaged
        return sqlite3.SQLITE_CORRUPT
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _decoded(text: bytes) -> str:
    """Return text of the database; one bad letter must not hide the others."""
    return text.decode("utf-8", "replace")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Do all that is in the block, durably, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")


def _free_name(path: Path, time: str) -> Path:
    """Return a name beside `path` that nothing has."""
    number = 1
    aside = path.with_name(f"{path.name}.damaged-{time}")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{time}-{number}")
    return aside
