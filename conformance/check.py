"""A check: one thing that the specification demands, as a plain function that raises when it fails.

A check knows which requirements it proves, for whom and under which profile. It is given what it
needs: a `Codec` (bytes to events and back, no I/O), a `Target` (something that listens and
acknowledges), a `Delivering` gateway (something that sends to a sink which the check scripts), a
`Sending` producer or a `FilterEngine`.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal, get_args

import msgspec

Level = Literal["MUST", "SHOULD", "MAY"]
"""How strong a rule is (RFC 2119). A rule stated without a keyword is as strong as a MUST."""

Role = Literal["producer", "consumer", "intermediary"]
"""Who has to obey, in the registry's words; in webhook rules the sender is the producer."""

Profile = Literal["1.0.2", "main", "lenient"]
"""By which text a verdict is given: the release, the work in progress on the specification's main
branch, or `lenient`: what widespread implementations do and a receiver can live with."""

Needs = Literal["codec", "target", "delivering", "sending", "gateway", "filters"]

LEVELS: Final[tuple[Level, ...]] = get_args(Level)
"""The strongest first."""

PROFILES: Final[tuple[Profile, ...]] = get_args(Profile)


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check.

    Attributes:
        id: unique for a profile; stable, so that results can be compared over time.
        title: one sentence: what should happen.
        binding: the row of the table that it counts for: `http`, `mqtt`, `coap`, `json`, ...
        family: what kind of check it is: `vectors`, `header codec`, `type lattice`, ...
        requirements: ids of the registry (conformance/requirements/).
        level: the strongest of the requirements' levels.
        role: who is judged.
        profiles: under which profiles this verdict holds. A case whose verdict differs is several
            checks of one id with disjoint profiles.
        verdict: what is expected, in a few words: `event`, `refused`, `either`, `2.04`, ...
        needs: what `run` is given.
        protocol: that of the target it needs; "" is its binding's.
        run: raises `CheckFailed` (or `Unsupported`); may return an awaitable that does.
    """

    id: str
    title: str
    binding: str
    family: str
    requirements: tuple[str, ...]
    level: Level
    role: Role
    profiles: frozenset[Profile] = frozenset(PROFILES)
    verdict: str = ""
    needs: Needs = "codec"
    protocol: str = ""
    run: Callable[[Any], Awaitable[None] | None]


class CheckFailed(Exception):  # noqa: N818 - the words that reports use
    """What was judged broke the rule.

    Attributes:
        expected: what the rule demands, for people.
        got: what happened, for people.
        reproduce: bytes or lines that show it again, for people: a line for an adapter, datagrams
            in hex, a request.
    """

    def __init__(
        self, text: str, *, expected: str = "", got: str = "", reproduce: str = ""
    ) -> None:
        super().__init__(text)
        self.expected = expected
        self.got = got
        self.reproduce = reproduce


class Unsupported(Exception):  # noqa: N818 - it is no error
    """What is judged does not offer this at all (a binding, a mode); the check is skipped."""


Status = Literal["passed", "failed", "skipped"]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one check."""

    check: Check
    status: Status
    seconds: float
    text: str = ""
    expected: str = ""
    got: str = ""
    reproduce: str = ""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Counts over results; `cases` is all that were judged, `skipped` comes on top."""

    cases: int
    passed: int
    failed: int
    must_failed: int
    should_failed: int
    skipped: int

    @property
    def may_failed(self) -> int:
        """Failures that break neither a MUST nor a SHOULD."""
        return self.failed - self.must_failed - self.should_failed

    @classmethod
    def of(cls, results: Sequence[Result]) -> "Summary":
        """Count `results`."""
        failed = [result for result in results if result.status == "failed"]
        passed = sum(result.status == "passed" for result in results)
        return cls(
            cases=passed + len(failed),
            passed=passed,
            failed=len(failed),
            must_failed=sum(result.check.level == "MUST" for result in failed),
            should_failed=sum(result.check.level == "SHOULD" for result in failed),
            skipped=len(results) - passed - len(failed),
        )
