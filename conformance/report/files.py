"""Which report a file gets: its ending says so."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from conformance.coverage import Line
from conformance.report.html import as_html
from conformance.report.machine import as_badge, as_json, as_junit
from conformance.report.markdown import as_markdown
from conformance.report.record import Report

Writer = Callable[[Report, Sequence[Line]], str]

WRITERS: Final[Mapping[str, Writer]] = {
    ".json": as_json,
    ".xml": lambda report, _: as_junit(report),
    ".md": as_markdown,
    ".html": as_html,
    ".svg": lambda report, _: as_badge(report),
}


def writer_of(path: Path) -> Writer:
    """Return what writes a file.

    Raises:
        ValueError: no report has its ending.
    """
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise ValueError(f"{path}: a report ends in {', '.join(WRITERS)}")
    return writer


def write(path: Path, report: Report, lines: Sequence[Line]) -> None:
    """Write the report that the ending of `path` asks for.

    Raises:
        OSError: it can't be written.
    """
    path.write_text(writer_of(path)(report, lines), "utf-8", "backslashreplace")
