"""The tables of the dead letters' database, and the way to them from each older version."""

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.errors import GatewayError

APPLICATION_ID: Final = 0x4345444C
"""`CEDL` in the file's head: what tells our database from another program's."""

STEPS: Final[Sequence[Sequence[str]]] = (
    (
        # AUTOINCREMENT: a number is never used again, so that nobody deletes another letter than
        # the one that was seen. What is large stands last: SQLite reads a row from its beginning.
        """
        CREATE TABLE letters (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            route TEXT NOT NULL,
            source TEXT NOT NULL,
            sink TEXT NOT NULL,
            sequence INTEGER,
            event_id TEXT,
            event_source TEXT,
            event_type TEXT,
            protocol TEXT NOT NULL,
            reason TEXT NOT NULL,
            detail TEXT NOT NULL,
            status INTEGER,
            attempts INTEGER NOT NULL,
            first_time TEXT NOT NULL,
            last_time TEXT NOT NULL,
            error_dest TEXT NOT NULL,
            error_code INTEGER,
            error_data TEXT NOT NULL,
            replays INTEGER NOT NULL,
            replayed_at TEXT,
            message TEXT,
            payload BLOB,
            event BLOB
        ) STRICT
        """,
        # The event is part of it: a spool that was deleted counts from 1 again, and its events are
        # others.
        """
        CREATE UNIQUE INDEX letters_once ON letters
            (route, sink, sequence, event_source, event_id) WHERE sequence IS NOT NULL
        """,
        "CREATE INDEX letters_by_route ON letters (route)",
    ),
)
"""Element n brings version n to version n + 1; version 0 is an empty file. Only ever append."""


class NotOursError(Exception):
    """The file is a database, and not one of dead letters."""


def version_of(connection: sqlite3.Connection, path: Path, newest: int = len(STEPS)) -> int:
    """Return the database's version, 0 if there is nothing in it; changes nothing.

    Raises:
        GatewayError: a newer gateway made it.
        NotOursError: another program made it.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0 and connection.execute("PRAGMA schema_version").fetchone()[0] == 0:
        return 0
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    if mark != APPLICATION_ID or version < 1:
        raise NotOursError(f"{path} is no database of dead letters")
    if version > newest:
        raise GatewayError(
            f"{path} has format {version} of a newer gateway, and this one knows up to {newest}: "
            "use the newer one, or another folder"
        )
    return version


def has_sound_header(path: Path) -> bool:
    """Whether the header names formats that SQLite writes (its file format, section 1.3)."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        header = file.read(100)
        write_version, read_version, schema_format = header[18:19], header[19:20], header[44:48]
        return {write_version, read_version} <= {b"\x01", b"\x02"} and schema_format <= b"\0\0\0\4"
    return True  # what can't be read is not known to be damaged


def migrate(
    connection: sqlite3.Connection, version: int, steps: Sequence[Sequence[str]] = STEPS
) -> None:
    """Bring the database from a version to the newest, each step in a transaction of its own."""
    for number in range(version, len(steps)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in steps[number]:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
