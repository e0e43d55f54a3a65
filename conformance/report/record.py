"""What a run found, in the form that every report is made of."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final

import msgspec

from conformance.check import LEVELS, Level, Profile, Result, Summary
from conformance.requirements import registry

COLUMNS: Final = ("cases", "passed", "MUST failed", "SHOULD failed", "MAY failed", "skipped")
"""What is counted in each row of a table; `counts` has the numbers."""


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
    def told(self) -> str:
        """The counts over all results, in words."""
        one = self.summary
        may = f", {one.may_failed} MAY" if one.may_failed else ""
        return (
            f"{one.passed} passed, {one.failed} failed "
            f"({one.must_failed} MUST, {one.should_failed} SHOULD{may}), {one.skipped} skipped"
        )

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


def counts(results: Sequence[Result]) -> list[str]:
    """Return the numbers of a row under `COLUMNS`."""
    one = Summary.of(results)
    return [
        str(number)
        for number in (
            one.cases, one.passed, one.must_failed, one.should_failed, one.may_failed, one.skipped,
        )
    ]  # fmt: skip


def weight(requirement: str, failed: Sequence[Result]) -> Level:
    """Return how grave it is that a requirement's checks failed: as grave as the gravest of them.

    It is no graver than the requirement is strong, as a check may be about others too.
    """
    gravest = min((result.check.level for result in failed), key=LEVELS.index)
    return max(gravest, registry()[requirement].level, key=LEVELS.index)
