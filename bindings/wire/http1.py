"""Small pure pieces of HTTP/1.1: heads of responses, dates, `Retry-After`. Parsing is httptools'.

RFC 9110 (semantics) and RFC 9112 (HTTP/1.1). Time comes in as Unix seconds.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
)
_REASONS: Final = {int(status): status.phrase for status in HTTPStatus}

# RFC 9110 5.6.7: IMF-fixdate and the two obsolete forms that a recipient has to know.
_CLOCK = r"(?P<clock>\d\d:\d\d:\d\d)"
_FIXDATE = re.compile(
    r"[A-Z][a-z]+, "
    rf"(?P<day>\d\d)[ -](?P<month>[A-Z][a-z]{{2}})[ -](?P<year>\d{{4}}|\d\d) {_CLOCK} GMT",
    re.ASCII,
)
_ASCTIME = re.compile(
    rf"[A-Z][a-z]{{2}} (?P<month>[A-Z][a-z]{{2}}) (?P<day>[ \d]\d) {_CLOCK} (?P<year>\d{{4}})",
    re.ASCII,
)
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FIELD_VALUE = re.compile(
    r"(?:[\x21-\x7e\x80-\xff](?:[ \t\x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?"
)
_STATUS_LINE = re.compile(rb"(?:\A|\n\r?\n)HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?(?=\r?\n)")


def reason_phrase(status: int) -> str:
    """Return the standard's phrase, or "" for a status that it does not know."""
    return _REASONS.get(status, "")


def is_field_name(text: str) -> bool:
    """Whether `text` may name a header field (RFC 9110 5.1)."""
    return _TOKEN.fullmatch(text) is not None


def is_field_value(text: str) -> bool:
    """Whether `text` may be a header field's value: no CR, LF or NUL (RFC 9110 5.5)."""
    return _FIELD_VALUE.fullmatch(text) is not None


def response_head(status: int, fields: Iterable[tuple[str, str]], length: int) -> bytes:
    """Return a response up to its body, with Content-Length (so not for 1xx, 204 and 304).

    Args:
        status: the code.
        fields: names and values that are known to be valid, as latin-1 text.
        length: bytes in the body that follows.
    """
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    head = f"HTTP/1.1 {status} {reason_phrase(status)}\r\n{lines}Content-Length: {length}\r\n\r\n"
    return head.encode("latin-1")


def format_date(seconds: float) -> str:
    """Return the IMF-fixdate of Unix seconds (RFC 9110 5.6.7)."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return (
        f"{_DAYS[moment.weekday()]}, {moment.day:02} {_MONTHS[moment.month - 1]} {moment.year:04} "
        f"{moment.hour:02}:{moment.minute:02}:{moment.second:02} GMT"
    )


def parse_date(text: str, now: float) -> float | None:
    """Return the Unix seconds of an HTTP date, or None if it is none.

    Args:
        text: in any of the three forms of RFC 9110 5.6.7.
        now: Unix seconds; a year of two digits is taken within 50 years of it.
    """
    match = _FIXDATE.fullmatch(text) or _ASCTIME.fullmatch(text)
    if match is None or match["month"] not in _MONTHS:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        this_year = datetime.fromtimestamp(now, UTC).year
        year += this_year - this_year % 100
        if year > this_year + 50:
            year -= 100
    hour, minute, second = (int(part) for part in match["clock"].split(":"))
    try:
        moment = datetime(
            year,
            _MONTHS.index(match["month"]) + 1,
            int(match["day"]),
            hour,
            minute,
            min(second, 59),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return moment.timestamp()


def parse_retry_after(text: str, now: float) -> float | None:
    """Return the seconds of a `Retry-After` (RFC 9110 10.2.3), or None if it says nothing usable.

    Args:
        text: delta-seconds or an HTTP date.
        now: Unix seconds; a date in the past means 0.
    """
    text = text.strip(" \t")
    if text.isascii() and text.isdigit():
        return float(text[:9])
    date = parse_date(text, now)
    return None if date is None else max(0.0, date - now)


def complete_status(received: bytes) -> int | None:
    """Return the status of the last complete status line in the beginning of a response, if any.

    For an answer that broke off before its head was complete: a status line that is complete
    stands (1xx answers before it do not).
    """
    status = None
    for match in _STATUS_LINE.finditer(received):
        if match[1][0:1] != b"1":
            status = int(match[1])
    return status
