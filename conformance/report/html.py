"""The report as one HTML page without anything from elsewhere."""

from collections.abc import Iterable, Sequence
from html import escape

from conformance.check import Result, Summary
from conformance.coverage import Line, groups_of, share
from conformance.report.machine import as_badge
from conformance.report.markdown import failures_by_requirement
from conformance.report.record import COLUMNS, Report, counts, weight
from conformance.requirements import registry

_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}
table{border-collapse:collapse;margin:1rem 0}
th,td{padding:.25rem .75rem;text-align:right;border-bottom:1px solid #8884}
th:first-child,td:first-child{text-align:left}
tr.bad td{color:#c62828;font-weight:600}
details{margin:.5rem 0;border-left:3px solid #c62828;padding-left:.75rem}
details.should{border-color:#b26a00}
summary{cursor:pointer}
code{overflow-wrap:anywhere;font-size:13px}
dt{font-weight:600;margin-top:.4rem}dd{margin:0 0 0 1rem}
.missing{color:#c62828}
"""


def as_html(report: Report, lines: Sequence[Line]) -> str:
    """Return the report as an HTML page.

    Args:
        report: the run.
        lines: the coverage by the checks that ran.
    """
    title = f"CloudEvents conformance of {escape(report.subject)}"
    failures = failures_by_requirement(report.results)
    told = (
        f"<p>Suite {escape(report.suite)}, profile {report.profile}, {report.at}. "
        f"{report.summary.cases} cases: {report.told}.</p>"
    )
    return "".join(
        (
            '<!doctype html><html lang="en"><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>",
            f"<p>{as_badge(report)}</p>",
            told,
            "<h2>Results</h2>",
            _results(report),
            "<h2>Failed requirements</h2>" if failures else "",
            *(_failure(one, results) for one, results in failures.items()),
            "<h2>Coverage</h2>",
            _coverage(lines),
            *(_group(group, lines) for group in groups_of(lines)),
            "</html>\n",
        )
    )


def _results(report: Report) -> str:
    rows = []
    for binding, results in report.by_binding().items():
        kind = "bad" if Summary.of(results).must_failed else ""
        rows.append((binding, *counts(results), kind))
    return _table(("binding", *COLUMNS), rows)


def _coverage(lines: Sequence[Line]) -> str:
    rows = []
    for group in groups_of(lines):
        must, should = (share(lines, group, level) for level in ("MUST", "SHOULD"))
        shares = [f"{x.checked} of {x.checked + x.missing}" for x in (must, should)]
        missing = must.missing + should.missing
        untestable = must.untestable + should.untestable
        rows.append((group, *shares, str(untestable), str(missing), "bad" if must.missing else ""))
    return _table(("document", "MUST", "SHOULD", "not testable", "missing"), rows)


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the last cell of a row is its class."""
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f'<tr class="{row[-1]}">' + "".join(f"<td>{escape(cell)}</td>" for cell in row[:-1])
        for row in rows
    )
    return f"<table><tr>{cells}</tr>{body}</table>"


def _failure(one: str, results: Sequence[Result]) -> str:
    requirement = registry()[one]
    level = weight(one, results)
    kind = "must" if level == "MUST" else "should"
    return (
        f'<details class="{kind}"><summary><b>{one}</b> ({level}), '
        f"{len(results)} failed: {escape(requirement.text)}</summary>"
        f"<p>{escape(requirement.spec)}, {escape(requirement.section)}</p><dl>"
        + "".join(map(_case, results))
        + "</dl></details>"
    )


def _case(result: Result) -> str:
    told = {
        "": result.text,
        "expected": result.expected,
        "got": result.got,
        "reproduce": result.reproduce,
    }
    lines = "".join(
        f"<dd>{name} <code>{escape(value)}</code></dd>" for name, value in told.items() if value
    )
    check = result.check
    return f"<dt>{escape(check.id)}: {escape(check.title)}</dt>{lines}"


def _group(group: str, lines: Sequence[Line]) -> str:
    found = [line for line in lines if line.group == group]
    rows = "".join(
        f"<tr><td>{line.requirement.id}</td><td>{line.requirement.level}</td>"
        f'<td class="{line.state}">{_proof(line)}</td></tr>'
        for line in found
    )
    return (
        f"<details><summary>{group}: {len(found)} requirements</summary>"
        f"<table><tr><th>requirement</th><th>level</th><th>checks</th></tr>{rows}</table></details>"
    )


def _proof(line: Line) -> str:
    if not line.checks:
        return escape(line.reason or "missing")
    shown = ", ".join(map(escape, line.checks[:5]))
    return shown + (f" and {len(line.checks) - 5} more" if len(line.checks) > 5 else "")
