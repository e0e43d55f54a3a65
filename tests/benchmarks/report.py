"""The report: what was measured, as JSON, as Markdown, and between the marks of a page."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from tests.benchmarks.sections import acks, idle, latency, memory, paths, sizes

SECTIONS: Final[Mapping[str, ModuleType]] = {
    "paths": paths,
    "acks": acks,
    "sizes": sizes,
    "latency": latency,
    "idle": idle,
    "memory": memory,
}
"""Those with figures of their own kind; each has `measure`, `render` and `draw`."""
PRINTED: Final = ("codec", "process", "spool", "stored")
"""Those that print their tables."""


def text_of(results: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the Markdown of each section, and that of the machine."""
    found = {"machine": _machine(results)}
    for name, data in results["sections"].items():
        found[name] = data["printed"] if name in PRINTED else SECTIONS[name].render(data)
    return found


def draw(results: Mapping[str, Any], folder: Path) -> None:
    """Draw the pictures of what was measured."""
    for name, data in results["sections"].items():
        if name in SECTIONS:
            SECTIONS[name].draw(data, folder)


def put_into(page: str, parts: Mapping[str, str]) -> str:
    """Return a page with the parts between their marks.

    Raises:
        KeyError: the page has no marks for a part.
    """
    for name, text in parts.items():
        marks = re.compile(rf"(<!-- bench:{name} -->\n).*?(<!-- /bench:{name} -->)", re.DOTALL)
        if not marks.search(page):
            raise KeyError(f"the page has no marks for {name}")
        page = marks.sub(lambda found, text=text: f"{found[1]}\n{text.strip()}\n\n{found[2]}", page)
    return page


def _machine(results: Mapping[str, Any]) -> str:
    figures = sorted(
        number for run in _runs(results["sections"]) for number in run.get("calibration", ())
    )
    lines = [f"{results['day']}. {results['machine']}"]
    if figures:
        middle = figures[len(figures) // 2]
        lines.append(
            f"A fixed piece of Python took {middle:.2f} ms ({figures[0]:.2f} .. {figures[-1]:.2f}) "
            f"before and after the {len(figures) // 2} runs."
        )
        paths_of = _runs(results["sections"].get("paths", results["sections"]))
        load = [run["load_cpu"] for run in paths_of]
        sink = [run["sink_cpu"] for run in paths_of]
        lines.append(
            f"The load took {min(load):.1f} .. {max(load):.1f} us of CPU per event, the sinks "
            f"{min(sink):.1f} .. {max(sink):.1f}."
        )
    return "\n\n".join(lines)


def _runs(data: Any) -> list[dict[str, Any]]:
    """Return every run that is somewhere in there."""
    if isinstance(data, dict):
        if "calibration" in data:
            return [data]
        return [run for part in data.values() for run in _runs(part)]
    if isinstance(data, list):
        return [run for part in data for run in _runs(part)]
    return []
