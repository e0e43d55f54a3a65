"""The report on a terminal: failures first, the gravest on top, then a table per binding."""

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from conformance.check import LEVELS, Result, Summary
from conformance.report.record import COLUMNS, Report, counts
from conformance.requirements import registry

_SHOWN = 20


def print_report(report: Report, console: Console, *, every: bool = False) -> None:
    """Print a report.

    Args:
        report: the run.
        console: where to.
        every: print every failure, and not only the first 20.
    """
    failures = sorted(
        (result for result in report.results if result.status == "failed"),
        key=lambda result: LEVELS.index(result.check.level),
    )
    shown = failures if every else failures[:_SHOWN]
    for result in shown:
        console.print(_failure(result), soft_wrap=True)  # a line can be copied as it is
    if len(shown) < len(failures):
        console.print(f"... and {len(failures) - len(shown)} more; --all shows them\n")
    console.print(_table(report))
    console.print(f"{report.summary.cases} cases in {report.seconds:.1f} s: {report.told}")


def _failure(result: Result) -> RenderableType:
    check = result.check
    lines = [
        Text.assemble((f"{check.level} {check.id}", "bold red"), f"  {check.title}"),
        *(Text(f"  {one}: {registry()[one].text}", "dim") for one in check.requirements),
    ]
    for name, value in (
        ("", result.text if result.text != check.title else ""),
        ("expected", result.expected),
        ("got", result.got),
        ("reproduce", result.reproduce),
    ):
        if value:
            lines.append(Text(f"  {name}{': ' if name else ''}{_printable(value)}"))
    return Group(*lines, Text())


def _printable(text: str) -> str:
    # What is judged may say anything, and must not move the cursor.
    return "".join(c if c.isprintable() or c == "\n" else f"\\u{ord(c):04x}" for c in text)


def _table(report: Report) -> Table:
    title = f"{report.subject}, profile {report.profile}"
    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    table.add_column("binding", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for binding, results in report.by_binding().items():
        is_bad = Summary.of(results).must_failed > 0
        table.add_row(binding, *counts(results), style="red" if is_bad else None)
    return table
