"""The report in Markdown: a table per binding, the failures by requirement, the coverage."""

from collections.abc import Iterable, Sequence

from conformance.check import LEVELS, Result
from conformance.coverage import Line, groups_of, share
from conformance.report.record import COLUMNS, Report, counts, weight
from conformance.requirements import registry

_SHOWN = 3
"""How many failed cases of one requirement are written out; the JSON report has all."""


def as_markdown(report: Report, lines: Sequence[Line]) -> str:
    """Return the report as a Markdown page.

    Args:
        report: the run.
        lines: the coverage by the checks that ran.
    """
    told = (
        f"Suite {report.suite}, profile {report.profile}, {report.at}. "
        f"{report.summary.cases} cases: {report.told}."
    )
    parts = [
        f"# CloudEvents conformance of {report.subject}",
        told,
        "## Results",
        binding_table(report),
    ]
    failures = failures_by_requirement(report.results)
    if failures:
        parts += ["## Failed requirements", *map(_failure, failures.items())]
    parts += ["## Coverage", coverage_table(lines)]
    return "\n\n".join(parts) + "\n"


def binding_table(report: Report) -> str:
    """Return the counts of each binding as a table."""
    rows = [[binding, *counts(results)] for binding, results in report.by_binding().items()]
    return table([["binding", *COLUMNS], *rows])


def coverage_table(lines: Sequence[Line]) -> str:
    """Return how many requirements of each document are checked, as a table."""
    rows = [["document", "MUST", "SHOULD", "not testable", "missing"]]
    for group in groups_of(lines):
        must, should = (share(lines, group, level) for level in ("MUST", "SHOULD"))
        rows.append(
            [
                group,
                f"{must.checked} of {must.checked + must.missing} ({must.percent:.0f} %)",
                f"{should.checked} of {should.checked + should.missing} ({should.percent:.0f} %)",
                str(must.untestable + should.untestable),
                str(must.missing + should.missing),
            ]
        )
    return table(rows)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, the first of which is the head, as a table."""
    head, *body = rows
    lines = [_row(head), _row(["---"] * len(head)), *map(_row, body)]
    return "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    escaped = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def failures_by_requirement(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Return the failed results under each requirement that they break, the gravest first."""
    found: dict[str, list[Result]] = {}
    for result in results:
        if result.status == "failed":
            for one in result.check.requirements:
                found.setdefault(one, []).append(result)
    return dict(sorted(found.items(), key=lambda item: LEVELS.index(weight(*item))))


def _failure(item: tuple[str, list[Result]]) -> str:
    one, results = item
    requirement = registry()[one]
    lines = [
        f"### {one} ({weight(one, results)})",
        "",
        requirement.text,
        "",
        f"{len(results)} failed of {requirement.spec}, {requirement.section}:",
        "",
    ]
    for result in results[:_SHOWN]:
        lines.append(f"- `{result.check.id}`: {result.check.title}")
        for name in ("expected", "got", "reproduce"):
            value = getattr(result, name) or (result.text if name == "got" else "")
            if value:
                lines.append(f"  - {name}: {code(value)}")
    if len(results) > _SHOWN:
        lines.append(f"- and {len(results) - _SHOWN} more")
    return "\n".join(lines)


def code(text: str) -> str:
    """Return text as a code span, whatever back-ticks and line ends it holds."""
    shown = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    fence = "`"
    while fence in shown:
        fence += "`"
    blank = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{blank}{shown}{blank}{fence}"
