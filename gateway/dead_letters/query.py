"""Which dead letters: a filter, as people write it and as SQL says it."""

import json
from datetime import datetime, timedelta

import msgspec

from gateway.config.records import parse_duration
from gateway.dead_letters.letter import utc_text


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters; what is None is not asked, and all of the others have to agree.

    Attributes:
        ids: only these.
        route: the route's name.
        source: the name of the gateway's source.
        sink: the sink's name.
        reason: why it is here.
        type: the event's type.
        since: last tried at this moment or later, as `utc_text` writes it.
        until: last tried before this moment.
    """

    ids: tuple[int, ...] | None = None
    route: str | None = None
    source: str | None = None
    sink: str | None = None
    reason: str | None = None
    type: str | None = None
    since: str | None = None
    until: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it wants everything."""
        return self == Filter()

    def condition(self) -> tuple[str, list[object]]:
        """Return an SQL condition and its parameters."""
        terms = [
            (f"{column} {operator} ?", value)
            for column, operator, value in (
                ("route", "=", self.route),
                ("source", "=", self.source),
                ("sink", "=", self.sink),
                ("reason", "=", self.reason),
                ("event_type", "=", self.type),
                ("last_time", ">=", self.since),
                ("last_time", "<", self.until),
            )
            if value is not None
        ]
        if self.ids is not None:
            # One parameter, however many there are: SQLite takes 32766.
            terms.append(("id IN (SELECT value FROM json_each(?))", json.dumps(self.ids)))
        condition = " AND ".join(term for term, _ in terms) or "1"
        # What a command line brings may be no UTF-8; then nothing has that name.
        return condition, [value.encode("utf-8", "replace").decode() for _, value in terms]


def parse_moment(text: str, now: datetime) -> str:
    """Return the moment, as `utc_text` writes it, of RFC 3339 text or of a duration back from now.

    Args:
        text: such as 2026-03-01T12:00:00Z, or PT1H for an hour ago.
        now: with its time zone.

    Raises:
        ValueError: it is neither.
    """
    try:
        if text.startswith("P"):
            return utc_text(now - timedelta(seconds=parse_duration(text)))
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return utc_text(moment)
    except (ValueError, OverflowError):
        pass
    raise ValueError(
        f"{text[:200]!r} is no moment: expected 2026-03-01T12:00:00Z, or PT1H for an hour ago"
    )
