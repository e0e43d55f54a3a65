"""Events per second against the length of the lists: the broker has that many under way."""

from pathlib import Path
from typing import Any, Final

from tests.benchmarks import pictures
from tests.benchmarks.contender import Course
from tests.benchmarks.machine import markdown, spread
from tests.benchmarks.measuring import Plan
from tests.benchmarks.options import Options
from tests.benchmarks.pairs import entries_of, run_by_turns

TITLE: Final = "List sizes"
SIZES: Final = (1, 16, 256, 512)
COURSES: Final = (Course("mqtt", "kafka"), Course("mqtt", "http"), Course("mqtt", "batch"))
PICTURE: Final = "throughput-against-list-size.svg"


def measure(options: Options) -> dict[str, Any]:
    """Return the runs, course by course and size by size."""
    found = []
    for course in options.courses(COURSES)[: 1 if options.quick else None]:
        for size in SIZES[:: 2 if options.quick else 1]:
            # Where each event waits for the one before, a tenth is enough.
            count = options.events if size > 16 else max(options.events // 10, 200)
            plan = Plan(count=count, seconds=options.seconds, options={"window": size})
            entries = entries_of(options.best(), course, plan)
            run_by_turns(entries, options.pairs)
            found.append(
                {
                    "course": course.name,
                    "size": size,
                    "entries": [entry.as_dict() for entry in entries],
                }
            )
    return {"sizes": found}


def render(data: dict[str, Any]) -> str:
    """Return the table."""
    rows = []
    for size in data["sizes"]:
        for entry in size["entries"]:
            runs = [run for run in entry["runs"] if run]
            if runs:
                rows.append(
                    (
                        size["course"],
                        entry["name"],
                        str(size["size"]),
                        spread([run["rate"] for run in runs], 0),
                        spread([run["cpu"] for run in runs]),
                        "; ".join(dict.fromkeys(run["faults"] for run in runs if run["faults"])),
                    )
                )
    header = ("path", "product", "under way", "events/s", "CPU us per event", "faults")
    return markdown(header, rows)


def draw(data: dict[str, Any], folder: Path) -> None:
    """Draw a line for each contender, a panel for each course."""
    lines: dict[str, dict[str, list[tuple[float, list[float]]]]] = {}
    for size in data["sizes"]:
        for entry in size["entries"]:
            rates = [run["rate"] for run in entry["runs"] if run]
            if rates:
                panel = lines.setdefault(size["course"], {})
                panel.setdefault(entry["name"], []).append((size["size"], rates))
    pictures.lines(
        folder / PICTURE, lines, ("events under way", "events per second"), log_x=True, log_y=True
    )
