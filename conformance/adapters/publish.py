"""Write the page of an SDK's results: `python -m conformance.adapters.publish python-sdk`.

docs/conformance/NAME.md holds what a run finds under each profile, and what the SDK does in lines
that need no suite (findings/NAME.yaml). The page is the same for the same versions: an adapter's
answers that change from run to run (an `id` or a time that is made up) are shown by a name.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec
import yaml

from conformance.adapter import AdapterCodec
from conformance.adapters import command_of
from conformance.check import LEVELS, Profile, Result
from conformance.command import judge
from conformance.deviations import NetCodec, checks_of
from conformance.plan import Choice, codec_plan
from conformance.report.markdown import code, table
from conformance.report.record import COLUMNS, Report, counts, weight
from conformance.requirements import registry

PAGES: Final = Path(__file__).parents[2] / "docs" / "conformance"
_PROFILES: Final[tuple[Profile, ...]] = ("1.0.2", "main")
_WHOLE: Final = ("transparency", "data lattice")
"""Families whose checks are about whole events, and so about many requirements at once."""

_RUN: Final = timedelta(minutes=10)
"""A time that is nearer than this to the present was made up in the run."""

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|\+00:00)")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What an SDK does, shown without the suite.

    Attributes:
        title: one sentence.
        requirements: which rules are about it.
        code: what to run after the prelude.
        prints: the last line of its output, or the exception.
        expected: what the specification has instead, as Markdown.
    """

    title: str
    requirements: tuple[str, ...]
    code: str
    prints: str
    expected: str


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """All of one SDK.

    Attributes:
        language: `python` or `js`.
        prelude: what stands before each finding's code.
        findings: the gravest first.
    """

    language: str
    prelude: str
    findings: tuple[Finding, ...]


@cache
def findings_of(name: str) -> Findings:
    """Return the findings about a shipped adapter's SDK."""
    text = files("conformance.adapters").joinpath("findings", f"{name}.yaml").read_text("utf-8")
    return msgspec.convert(yaml.safe_load(text), Findings)


def page(name: str) -> str:
    """Run a shipped adapter under each profile, and return its page.

    Raises:
        conformance.adapter.AdapterError: it can't be started.
    """
    runs = {profile: _run(name, profile) for profile in _PROFILES}
    results = runs["main"].results
    failed = [result for result in results if result.status == "failed"]
    whole = [result for result in failed if result.check.family in _WHOLE]
    single = [result for result in failed if result.check.family not in _WHOLE]
    taken = [result for result in single if result.check.verdict.startswith("refused")]
    changed = [result for result in single if not result.check.verdict.startswith("refused")]
    totals = _by_requirement(result for result in results if result.status != "skipped")
    parts = [
        f"# {runs['main'].subject}",
        _INTRODUCTION.format(name=name),
        "## Results",
        _table(runs),
        "## Shown without the suite",
        *_findings(name),
        "## Right events that are refused, or change",
        _CHANGED,
        _requirements(changed, totals),
        "## Whole events",
        _WHOLE_EVENTS,
        _wholes(whole),
        "## Wrong messages that are taken",
        _TAKEN,
        _requirements(taken, totals),
        "## What passes",
        _passed(results),
    ]
    return "\n\n".join(parts) + "\n"


_INTRODUCTION: Final = """\
What the conformance suite finds, run by `ce-gateway conformance run --adapter {name}` (add
`--profile 1.0.2` for the release). The [adapter](adapters.md) calls the SDK as its documentation
says, and gives it the benefit of the doubt: what its API can't be asked is skipped, JSON that it
holds as a value is compared as a value, times as instants. Corrections of the suite are as welcome
as of anything else here. Made by `python -m conformance.adapters.publish {name}`."""

_CHANGED: Final = """\
By the first requirement that a case is about, with the shortest case. Verdicts are those of the
profile `main`. A line in the last column is a question to the adapter: it can be piped into it."""

_WHOLE_EVENTS: Final = """\
Sets of attributes and kinds of data: read, written, and handed on from each binding and mode to
each other. A check has up to 24 events and fails if one of them does not arrive as it was, so one
cause shows in many checks."""

_TAKEN: Final = """\
The specification says what an event is, and seldom what a receiver has to do with a message that
is none. Who only consumes events may well take these. Who hands them on sends events that the next
receiver may refuse, and two receivers may read in two ways: that is what these cases are about.
What is read counts as SHOULD, unless the text demands a refusal; what is sent counts as MUST."""


def _run(name: str, profile: Profile) -> Report:
    codec = AdapterCodec(command_of(name))
    checks = list(checks_of(codec, codec.deviations))
    plan = codec_plan(NetCodec(codec, codec.deviations), Choice(profile=profile), checks)
    return judge(plan, profile)


def _table(runs: Mapping[Profile, Report]) -> str:
    rows = [["profile", "binding", *COLUMNS]]
    for profile, report in runs.items():
        named = {**report.by_binding(), "all": report.results}
        for binding, results in named.items():
            rows.append([profile, binding, *counts(results)])
    return table(rows)


def _findings(name: str) -> list[str]:
    told = findings_of(name)
    parts = [
        "Each was run on its own with this before it:",
        f"```{told.language}\n{told.prelude.rstrip()}\n```",
    ]
    for number, finding in enumerate(told.findings, 1):
        rules = ", ".join(f"{one} ({registry()[one].level})" for one in finding.requirements)
        parts += [
            f"### {number}. {finding.title}",
            f"```{told.language}\n{finding.code.rstrip()}\n```",
            f"Got: {code(finding.prints)}. Expected: {finding.expected.rstrip()}",
            f"Requirements: {rules}.",
        ]
    return parts


def _by_requirement(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Return results by the requirement that they are about in the first place."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(_about(result), []).append(result)
    return found


def _about(result: Result) -> str:
    """Return the first requirement of a check, unless its message tells of another."""
    if "not percent-encoded" in result.text:
        return "HTTP-ENC-001"
    if result.check.binding == "http" and _escapes(result.got) > _escapes(result.expected):
        return "HTTP-DEC-002"
    return result.check.requirements[0]


def _escapes(text: str) -> int:
    return len(re.findall("%[0-9A-Fa-f]{2}", text))


def _requirements(failed: Sequence[Result], totals: Mapping[str, Sequence[Result]]) -> str:
    rows = [["requirement", "failed", "what it says", "expected", "got", "the shortest case"]]
    found = _by_requirement(failed)
    levels = {one: weight(one, results) for one, results in found.items()}
    order = sorted(found, key=lambda one: (LEVELS.index(levels[one]), -len(found[one]), one))
    for one in order:
        rule, case = registry()[one], _shortest(found[one])
        count = f"{len(found[one])} of {len(totals[one])}"
        rows.append([f"{one} ({levels[one]})", count, rule.text, *_case(case)])
    return table(rows)


def _wholes(failed: Sequence[Result]) -> str:
    found: dict[str, list[Result]] = {}
    for result in failed:
        found.setdefault(_what(result.text), []).append(result)
    rows = [["what happens", "checks", "requirements", "expected", "got", "the shortest case"]]
    for what in sorted(found, key=lambda what: (-len(found[what]), what)):
        case = _shortest(found[what])
        ids = ", ".join(case.check.requirements[:3])
        rows.append([what, str(len(found[what])), ids, *_case(case)])
    return table(rows)


def _what(text: str) -> str:
    """Return what happened to an event, without how many and which, and without values."""
    what = text.rpartition("): ")[2] if re.match(r"\d+ of \d+ \(", text) else text
    return re.sub(r"not percent-encoded: .*", "not percent-encoded", what, flags=re.DOTALL)


def _shortest(results: Iterable[Result]) -> Result:
    return min(results, key=lambda result: (len(result.reproduce), result.check.id))


def _case(result: Result) -> list[str]:
    got = result.got or result.text
    shown = _TIME.sub(lambda time: "<now>" if _is_now(time[0]) else time[0], got)
    shown = _UUID.sub("<uuid>", shown)
    reproduce = f"`{result.check.id}` {_spanned(result.reproduce)}"
    return [_spanned(result.expected or result.check.title), _spanned(shown), reproduce]


def _is_now(time: str) -> bool:
    return abs(datetime.now(UTC) - datetime.fromisoformat(time)) < _RUN


def _spanned(text: str) -> str:
    return code(text) if text else ""


def _passed(results: Sequence[Result]) -> str:
    whole = _by_requirement(result for result in results if result.status != "skipped")
    rows: dict[str, list[str]] = {}
    for one, cases in sorted(whole.items()):
        if all(result.status == "passed" for result in cases):
            rows.setdefault(registry()[one].spec, []).append(one)
    head = ["document", "requirements of which each case passes"]
    return table([head, *([spec, ", ".join(ids)] for spec, ids in rows.items())])


def main(arguments: Sequence[str]) -> None:
    """Write the pages of some shipped adapters."""
    for name in arguments:
        (PAGES / f"{name}.md").write_text(page(name), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
