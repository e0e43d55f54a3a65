"""What a run found, in the form that every report is made of."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version

import msgspec

from conformance.check import Profile, Result, Summary


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The results of one run.

    Attributes:
        subject: what was judged, for people.
        profile: by which text.
        results: in the order in which they ran.
        seconds: how long it took.
        at: when it began, RFC 3339.
        suite: version of the suite.
    """

    subject: str
    profile: Profile
    results: Sequence[Result]
    seconds: float
    at: str = msgspec.field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    suite: str = msgspec.field(default_factory=lambda: version("cloudevents-gateway"))

    @property
    def summary(self) -> Summary:
        """Counts over all results."""
        return Summary.of(self.results)

    def by_binding(self) -> dict[str, list[Result]]:
        """Return the results of each row of the table, sorted by its name."""
        rows: dict[str, list[Result]] = {}
        for result in self.results:
            rows.setdefault(result.check.binding, []).append(result)
        return dict(sorted(rows.items()))
