"""Dead letters as rows of the database, and back."""

import json
import sqlite3
from collections import Counter
from typing import Any, Final

from bindings.binding import Message
from gateway.dead_letters.letter import DeadLetter, Summary, identity_of
from gateway.dead_letters.schema import NotOursError

_PLAIN: Final = (
    "route", "source", "sink", "sequence", "protocol", "reason", "detail", "status", "attempts",
    "first_time", "last_time", "error_dest", "error_code", "error_data", "replays", "replayed_at",
)  # fmt: skip
_MADE: Final = ("event_id", "event_source", "event_type", "message", "payload", "event")
_SHOWN: Final = (
    "id", "route", "source", "sink", "event_id", "event_source", "event_type", "protocol",
    "reason", "detail", "status", "attempts", "first_time", "last_time", "replays", "replayed_at",
)  # fmt: skip

# Only that conflict is passed over: OR IGNORE would pass over every fault of a row.
INSERT: Final = (
    f"INSERT INTO letters ({', '.join(_PLAIN + _MADE)})"  # noqa: S608 - made of constants
    f" VALUES ({', '.join('?' * len(_PLAIN + _MADE))})"
    " ON CONFLICT (route, sink, sequence, event_source, event_id)"
    " WHERE sequence IS NOT NULL DO NOTHING"
)
SELECT: Final = f"SELECT id, {', '.join(_PLAIN)}, message, payload, event FROM letters"  # noqa: S608 - made of constants
SELECT_SUMMARY: Final = (
    f"SELECT {', '.join(_SHOWN)}, message,"  # noqa: S608 - made of constants
    " ifnull(length(event), 0) + ifnull(length(payload), 0) FROM letters"
)


def check(connection: sqlite3.Connection) -> Counter[str]:
    """Return how many letters there are by route; this shows whether the tables can be read.

    Raises:
        NotOursError: they are not as they have to be.
        sqlite3.Error: the file can't be read.
    """
    try:
        connection.execute(f"{SELECT} ORDER BY id DESC LIMIT 1").fetchall()
        # Compiled only: columns that no letter is read from, and the index that tells it is new.
        connection.execute(f"EXPLAIN {INSERT}", [None] * len(_PLAIN + _MADE)).fetchall()
        found = connection.execute("SELECT route, count(*) FROM letters GROUP BY route")
        return Counter(dict(found.fetchall()))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # no such table, no such column
            raise NotOursError(str(error)) from None
        raise


def values_of(letter: DeadLetter) -> tuple[object, ...]:
    """Return the values for `INSERT`."""
    plain = [_storable(getattr(letter, name)) for name in _PLAIN]
    identity = (None, None, None) if letter.event is None else identity_of(letter.event)
    message = letter.message
    if message is None:
        return *plain, *identity, None, None, letter.event
    # JSON in ASCII: what is no UTF-8 on the wire is surrogates here, which SQLite's text refuses.
    described = json.dumps(
        [message.address, message.content_type, [list(header) for header in message.headers]]
    )
    return *plain, *identity, described, message.payload, letter.event


def row_of(letter: DeadLetter) -> tuple[object, ...]:
    """Return a letter as `SELECT` would: a row that `letter_of` reads."""
    values = values_of(letter)
    plain, (message, payload, event) = values[: len(_PLAIN)], values[-3:]
    return letter.id, *plain, message, payload, event


def letter_of(row: tuple[Any, ...]) -> DeadLetter:
    """Return the letter of a row of `SELECT`."""
    number, *plain, described, payload, event = row
    message = None
    if event is None:
        address, content_type, headers = _described(described)
        message = Message(_bytes(payload), content_type, headers, address)
    return DeadLetter(
        id=number, **dict(zip(_PLAIN, plain, strict=True)), message=message, event=_bytes(event)
    )


def summary_of(row: tuple[Any, ...]) -> Summary:
    """Return what a list shows of a row of `SELECT_SUMMARY`."""
    *shown, described, size = row
    address = "" if described is None else _described(described)[0]
    return Summary(**dict(zip(_SHOWN, shown, strict=True)), address=_storable(address), size=size)


def _described(text: object) -> tuple[str, str, list[tuple[str, str]]]:
    """Return address, content type and headers; nothing of them if the row is damaged."""
    try:
        address, content_type, headers = json.loads(str(text))
        return str(address), str(content_type), [(str(name), str(v)) for name, v in headers]
    except (ValueError, TypeError, RecursionError):
        return "", "", []


def _bytes(value: object) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else str(value).encode()


def _storable(value: Any) -> Any:
    """Return text as UTF-8 can hold it; only a foreign library's words can be something else."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "backslashreplace").decode()
    return value
