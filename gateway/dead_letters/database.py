"""The database: one connection, used by one thread; every call waits for the disk.

Nobody else can open it meanwhile, not even the `sqlite3` shell: the folder is locked, and so is the
file. That is also why the WAL-reset bug of SQLite before 3.51.3 can't be met.
"""

import contextlib
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from gateway.dead_letters import rows
from gateway.dead_letters.letter import DeadLetter, Summary, utc_text
from gateway.dead_letters.query import Filter
from gateway.dead_letters.schema import NotOursError, migrate, version_of
from gateway.errors import GatewayError
from gateway.spool import REAL_DISK, Disk, StoreError

FILE: Final = "letters.db"
LOCK: Final = "lock"
STEP_ROWS: Final = 2000
"""Rows that one call looks at, so that letters to be stored never wait long behind it."""
STEP_DELETED: Final = 500
"""Rows that one transaction deletes, which bounds what it needs of the WAL."""
_STEP_BYTES: Final = 1 << 20
_LEAST_BYTES: Final = 256 << 10
_RESERVE_BYTES: Final = 8 << 20
_SPARE_PAGES: Final = 64
"""What deleting may take beyond the limit, while the tree is rearranged."""
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)


class Step(NamedTuple):
    """How far a call came.

    Attributes:
        number: how many letters it was about.
        cursor: the last id that was looked at; None when there are no more.
    """

    number: int
    cursor: int | None


class Database:
    """A folder with the database of dead letters.

    Attributes:
        stored: how many letters there are, by route.
    """

    def __init__(self, folder: Path, *, max_bytes: int, disk: Disk = REAL_DISK) -> None:
        """Say where and how much.

        Args:
            folder: its own; made if it isn't there.
            max_bytes: what the database and its log take together, at least 256 KiB.
            disk: the system's calls.
        """
        self.path = folder / FILE
        self.stored: Counter[str] = Counter()
        self._disk = disk
        # Room for the log, or the letters could not even be deleted once the database is full:
        # half of it is what the log grows to before it is carried over into the database.
        self._max_bytes = max(max_bytes, _LEAST_BYTES)
        self._reserve = min(_RESERVE_BYTES, self._max_bytes // 4)
        self._lock_fd = -1
        self._connection: sqlite3.Connection | None = None
        self._max_pages = 0

    @property
    def bytes(self) -> int:
        """What the database takes on the disk, without its log."""
        with contextlib.suppress(OSError):
            return self._disk.size(self.path)
        return 0

    def open(self) -> None:
        """Lock the folder and open the database; a damaged one is moved aside for a new one.

        Raises:
            GatewayError: another process uses the folder, a newer gateway wrote it, or it can't be
                made or read.
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

    def insert(self, letters: Sequence[DeadLetter]) -> None:
        """Store letters durably, all or none; one that is there already is left as it is.

        Raises:
            StoreError: none is stored.
        """
        self._check_disk(sum(letter.size for letter in letters))

        def insert(connection: sqlite3.Connection) -> Counter[str]:
            new: Counter[str] = Counter()
            with _transaction(connection):
                for letter in letters:
                    if connection.execute(rows.INSERT, rows.values_of(letter)).rowcount:
                        new[letter.route] += 1
            return new

        try:
            new = self._run(insert)
        except DamagedError:
            new = self._run(insert)  # there is a new one
        self.stored.update(new)

    def newest(self) -> int:
        """Return the greatest id; 0 if there is none."""
        return self._run(
            lambda connection: int(
                connection.execute("SELECT ifnull(max(id), 0) FROM letters").fetchone()[0]
            )
        )

    def count(self, wanted: Filter, after: int, until: int) -> Step:
        """Count the next letters with ids above `after` and up to `until`."""
        condition, values = wanted.condition()

        def count(connection: sqlite3.Connection) -> Step:
            last = _end_of_step(connection, after, until, STEP_ROWS)
            found = connection.execute(
                f"SELECT count(*) FROM letters WHERE id > ? AND id <= ? AND {condition}",  # noqa: S608 - made of constants
                (after, last, *values),
            )
            return Step(int(found.fetchone()[0]), last if last < until else None)

        return self._run(count)

    def summaries(
        self, wanted: Filter, before: int | None, limit: int
    ) -> tuple[list[Summary], int | None]:
        """Return what lists show, newest first, and where the next call goes on (None: nowhere).

        It looks at `STEP_ROWS` letters only, so there may be fewer than `limit`, and even none,
        and yet more to come.

        Args:
            wanted: which ones.
            before: only those with smaller ids.
            limit: at most so many.
        """
        condition, values = wanted.condition()
        top = before if before is not None else 1 << 62

        def find(connection: sqlite3.Connection) -> tuple[list[Summary], int | None]:
            last = connection.execute(
                "SELECT ifnull(min(id), 0) FROM"
                " (SELECT id FROM letters WHERE id < ? ORDER BY id DESC LIMIT ?)",
                (top, STEP_ROWS),
            ).fetchone()[0]
            found = connection.execute(
                f"{rows.SELECT_SUMMARY} WHERE id < ? AND id >= ? AND {condition}"
                " ORDER BY id DESC LIMIT ?",
                (top, last, *values, limit),
            )
            summaries = [rows.summary_of(row) for row in found]
            if len(summaries) == limit:
                last = summaries[-1].id
            more = connection.execute("SELECT 1 FROM letters WHERE id < ? LIMIT 1", (last,))
            return summaries, int(last) if more.fetchone() else None

        return self._run(find)

    def letters(
        self, wanted: Filter, after: int, until: int, limit: int
    ) -> tuple[list[DeadLetter], int | None]:
        """Return whole letters, oldest first, with ids above `after` and up to `until`.

        With them comes where the next call goes on, None for nowhere; as with `summaries`.
        """
        condition, values = wanted.condition()

        def find(connection: sqlite3.Connection) -> tuple[list[DeadLetter], int | None]:
            last = _end_of_step(connection, after, until, STEP_ROWS)
            found = connection.execute(
                f"{rows.SELECT} WHERE id > ? AND id <= ? AND {condition} ORDER BY id LIMIT ?",
                (after, last, *values, limit),
            )
            letters: list[DeadLetter] = []
            size = 0
            for row in found:
                letters.append(rows.letter_of(row))
                size += letters[-1].size
                if len(letters) == limit or size >= _STEP_BYTES:
                    return letters, letters[-1].id
            return letters, last if last < until else None

        return self._run(find)

    def delete(self, wanted: Filter, after: int, until: int) -> Step:
        """Delete the next of the letters with ids above `after` and up to `until`."""
        condition, values = wanted.condition()

        def delete(connection: sqlite3.Connection) -> tuple[Counter[str], Step]:
            with _transaction(connection):
                last = _end_of_step(connection, after, until, STEP_DELETED)
                gone = Counter(
                    route
                    for (route,) in connection.execute(
                        f"DELETE FROM letters WHERE id > ? AND id <= ? AND {condition}"  # noqa: S608 - made of constants
                        " RETURNING route",
                        (after, last, *values),
                    )
                )
            return gone, Step(gone.total(), last if last < until else None)

        gone, step = self._run(delete, shrinks=True)
        self.stored.subtract(gone)
        return step

    def shrink(self) -> bool:
        """Give some of what was deleted back to the disk; return whether there is more."""

        def shrink(connection: sqlite3.Connection) -> bool:
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            if free * 4 <= pages:  # the next letters will use it
                return False
            # It works only as far as its rows are fetched.
            connection.execute(f"PRAGMA incremental_vacuum({STEP_DELETED})").fetchall()
            return True

        return self._run(shrink, shrinks=True)

    def replayed(self, delivered: Sequence[int], failed: Sequence[int], now: datetime) -> None:
        """Delete the letters that were delivered, and note in the others that it was in vain."""

        def note(connection: sqlite3.Connection) -> Counter[str]:
            gone: Counter[str] = Counter()
            with _transaction(connection):
                for one in delivered:
                    statement = "DELETE FROM letters WHERE id = ? RETURNING route"
                    gone.update(route for (route,) in connection.execute(statement, (one,)))
                connection.executemany(
                    "UPDATE letters SET replays = replays + 1, replayed_at = ? WHERE id = ?",
                    [(utc_text(now), one) for one in failed],
                )
            return gone

        gone = self._run(note, shrinks=True)
        self.stored.subtract(gone)

    def _run(
        self, work: Callable[[sqlite3.Connection], _Result], *, shrinks: bool = False
    ) -> _Result:
        """Do something with the connection.

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
        if code in _DAMAGED:
            try:
                self._replace(str(failure))
            except (sqlite3.Error, OSError) as error:
                raise StoreError(f"the dead letters are damaged, and stay so: {error}") from None
            raise DamagedError("the dead letters were damaged and are moved aside")
        if code == sqlite3.SQLITE_IOERR:
            # What a failed fsync has left in memory is not to be trusted: read it anew.
            self._disconnect()
        full = code == sqlite3.SQLITE_FULL
        what = "full" if full else f"not to be used: {failure}"
        raise StoreError(f"the dead letters are {what}", full=full)

    def _check_disk(self, size: int) -> None:
        """Keep enough of the disk free that letters can always be deleted."""
        try:
            free, _ = self._disk.free(self.path.parent)
        except OSError as error:
            raise StoreError(f"the disk does not say what is free: {error.strerror}") from None
        if free < size + self._reserve:
            raise StoreError(f"the disk has only {free} bytes free", full=True)

    def _limit(self, connection: sqlite3.Connection, spare: int) -> None:
        connection.execute(f"PRAGMA max_page_count = {self._max_pages + spare}").fetchone()

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except NotOursError as error:
            return self._replace(str(error))
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if _code_of(error) not in _DAMAGED:
                raise
            return self._replace(str(error))

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
        aside = _free_name(self.path, datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"))
        for suffix in ("-wal", "-shm", ""):
            old = self.path.with_name(self.path.name + suffix)
            if old.exists():
                self._disk.rename(old, aside.with_name(aside.name + suffix))
        why = why.partition("\n")[0][:200]
        _log.error("%s is damaged (%s): it is now %s, and a new one is made", self.path, why, aside)
        return self._connect()


class DamagedError(StoreError):
    """The database was damaged; it was moved aside and there is a new one."""


def _code_of(error: Exception) -> int:
    """Return SQLite's primary result code."""
    if isinstance(error, UnicodeDecodeError):  # the error's own text quotes what is damaged
        return sqlite3.SQLITE_CORRUPT
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _decoded(text: bytes) -> str:
    """Return text of the database; one bad letter must not hide the others."""
    return text.decode("utf-8", "replace")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")


def _end_of_step(connection: sqlite3.Connection, after: int, until: int, count: int) -> int:
    """Return the id of the `count`-th letter above `after`; `until` if there are not so many."""
    row = connection.execute(
        "SELECT id FROM letters WHERE id > ? AND id <= ? ORDER BY id LIMIT 1 OFFSET ?",
        (after, until, count - 1),
    ).fetchone()
    return int(row[0]) if row else until


def _free_name(path: Path, time: str) -> Path:
    """Return a name beside `path` that nothing has."""
    number = 1
    aside = path.with_name(f"{path.name}.damaged-{time}")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{time}-{number}")
    return aside
