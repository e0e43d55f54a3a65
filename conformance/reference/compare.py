"""Whether two events say the same."""

import datetime as dt
import json
import re

from conformance.forms import WireEvent, event_to_json
from conformance.reference.json_event import is_json_type, parse

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", re.IGNORECASE
)


def difference(expected: WireEvent, got: WireEvent, *, exact: bool = True) -> str:
    """Return what differs, for people; "" if nothing does.

    A time may be written in another way if it is the same instant to the last digit, and JSON that
    an implementation holds parsed is compared as a value.

    Args:
        expected: what should be said.
        got: what is said.
        exact: whether JSON data has to be the same bytes, and not only the same value.
    """
    lost = sorted(expected.attributes.keys() - got.attributes.keys())
    invented = sorted(got.attributes.keys() - expected.attributes.keys())
    changed = [
        name
        for name in sorted(expected.attributes.keys() & got.attributes.keys())
        if not _same(name, expected.attributes[name], got.attributes[name])
    ]
    words = [
        f"{what} {', '.join(names)}"
        for what, names in (("lost:", lost), ("invented:", invented), ("changed:", changed))
        if names
    ]
    if not _same_data(expected, got, exact=exact and not got.parsed):
        words.append("other data")
    return "; ".join(words)


def _same(name: str, expected: object, got: object) -> bool:
    if type(expected) is type(got) and expected == got:
        return True
    if name != "time" or not isinstance(expected, str) or not isinstance(got, str):
        return False
    moment = instant(expected)
    return moment is not None and moment == instant(got)


def _same_data(expected: WireEvent, got: WireEvent, *, exact: bool) -> bool:
    if expected.data == got.data:
        return True
    if expected.data is None or got.data is None:
        return False
    is_json = is_json_type(expected.attributes.get("datacontenttype", ""))
    if not got.parsed and (exact or not is_json):
        return False
    value = parse(expected.data)
    return value is not None and value == parse(got.data)


def instant(time: str) -> tuple[int, int, str] | None:
    """Return minutes, second and fraction of a timestamp in UTC; None if it has none we know."""
    found = _TIME.fullmatch(time)
    if not found:
        return None
    try:
        day = dt.date.fromisoformat(found[1]).toordinal()
    except ValueError:
        return None
    zone = found[6].upper()
    offset = 0
    if zone != "Z":
        offset = int(zone[1:3]) * 60 + int(zone[4:])
        offset = -offset if zone[0] == "-" else offset
    minutes = day * 1440 + int(found[2]) * 60 + int(found[3]) - offset
    return minutes, int(found[4]), (found[5] or "").rstrip("0")


def shown(event: WireEvent) -> str:
    """Return an event for people."""
    return json.dumps(event_to_json(event), default=repr)
