"""What is asked of the database and done to it; every call waits for the disk, in one thread.

Whatever may be about many letters is done in steps, so that those to be stored never wait long.
"""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from gateway.dead_letters import rows
from gateway.dead_letters.connection import Connection, DamagedError, transaction
from gateway.dead_letters.letter import DeadLetter, Summary, utc_text
from gateway.dead_letters.query import Filter
from gateway.spool import REAL_DISK, Disk

STEP_ROWS: Final = 2000
"""Rows that one call looks at."""
STEP_DELETED: Final = 500
"""Rows that one transaction deletes, which bounds what it needs of the log."""
_STEP_BYTES: Final = 1 << 20


class Step(NamedTuple):
    """How far a call came.

    Attributes:
        number: how many letters it was about.
        cursor: the last id that was looked at; None when there are no more.
    """

    number: int
    cursor: int | None


class Database:
    """A folder with the database of dead letters."""

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int,
        disk: Disk = REAL_DISK,
        replaces_damaged: bool = True,
    ) -> None:
        """Say where and how much.

        Args:
            folder: its own; made if it isn't there.
            max_bytes: what the database and its log take together, at least 256 KiB.
            disk: the system's calls.
            replaces_damaged: whether a damaged one is moved aside for a new one, or left alone.
        """
        self._connection = Connection(
            folder, max_bytes=max_bytes, disk=disk, replaces_damaged=replaces_damaged
        )

    @property
    def stored(self) -> Counter[str]:
        """How many letters there are, by route."""
        return self._connection.stored

    @property
    def bytes(self) -> int:
        """What the database takes on the disk, with its log."""
        return self._connection.bytes

    def open(self) -> None:
        """Lock the folder and open the database; a damaged one is moved aside for a new one.

        Raises:
            GatewayError: another process uses the folder, a newer gateway wrote it, or it can't be
                made or read; or it is damaged and not to be replaced.
        """
        self._connection.open()

    def close(self) -> None:
        """Close the database and release the folder. Calling it again does nothing."""
        self._connection.close()

    def insert(self, letters: Sequence[DeadLetter]) -> None:
        """Store letters durably, all or none; one that is there already is left as it is.

        Raises:
            StoreError: none is stored.
        """
        self._connection.check_disk(sum(letter.size for letter in letters))

        def insert(connection: sqlite3.Connection) -> Counter[str]:
            new: Counter[str] = Counter()
            with transaction(connection):
                for letter in letters:
                    if connection.execute(rows.INSERT, rows.values_of(letter)).rowcount:
                        new[letter.route] += 1
            return new

        try:
            new = self._connection.run(insert)
        except DamagedError:
            new = self._connection.run(insert)  # there is a new one
        self.stored.update(new)

    def newest(self) -> int:
        """Return the greatest id; 0 if there is none."""
        return self._connection.run(
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

        return self._connection.run(count)

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

        return self._connection.run(find)

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

        return self._connection.run(find)

    def delete(self, wanted: Filter, after: int, until: int) -> Step:
        """Delete the next of the letters with ids above `after` and up to `until`."""
        condition, values = wanted.condition()

        def delete(connection: sqlite3.Connection) -> tuple[Counter[str], Step]:
            with transaction(connection):
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

        gone, step = self._connection.run(delete, shrinks=True)
        self.stored.subtract(gone)
        return step

    def shrink(self) -> bool:
        """Give some of what was deleted back to the disk; return whether there is more."""

        def shrink(connection: sqlite3.Connection) -> bool:
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            if free * 4 <= pages:  # the next letters will use it
                # Deleting has written a log as large as what it deleted.
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                return False
            # It works only as far as its rows are fetched.
            connection.execute(f"PRAGMA incremental_vacuum({STEP_DELETED})").fetchall()
            return True

        return self._connection.run(shrink, shrinks=True)

    def replayed(self, delivered: Sequence[int], failed: Sequence[int], now: datetime) -> None:
        """Delete the letters that were delivered, and note in the others that it was in vain."""

        def note(connection: sqlite3.Connection) -> Counter[str]:
            gone: Counter[str] = Counter()
            with transaction(connection):
                for one in delivered:
                    statement = "DELETE FROM letters WHERE id = ? RETURNING route"
                    gone.update(route for (route,) in connection.execute(statement, (one,)))
                connection.executemany(
                    "UPDATE letters SET replays = replays + 1, replayed_at = ? WHERE id = ?",
                    [(utc_text(now), one) for one in failed],
                )
            return gone

        gone = self._connection.run(note, shrinks=True)
        self.stored.subtract(gone)


def _end_of_step(connection: sqlite3.Connection, after: int, until: int, count: int) -> int:
    """Return the id of the `count`-th letter above `after`; `until` if there are not so many."""
    row = connection.execute(
        "SELECT id FROM letters WHERE id > ? AND id <= ? ORDER BY id LIMIT 1 OFFSET ?",
        (after, until, count - 1),
    ).fetchone()
    return int(row[0]) if row else until
