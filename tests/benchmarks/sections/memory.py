"""Resident memory over minutes, at 5,000 events/s."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.benchmarks import pictures
from tests.benchmarks.contender import Course
from tests.benchmarks.machine import markdown
from tests.benchmarks.measuring import Plan
from tests.benchmarks.measuring import measure as measure_once
from tests.benchmarks.options import Options
from tests.benchmarks.processes import usage

TITLE: Final = "Memory over time"
RATE: Final = 5000
COURSE: Final = Course("mqtt", "http")
PICTURE: Final = "memory-over-time.svg"


def measure(options: Options) -> dict[str, Any]:
    """Return the resident memory second by second."""
    runs = []
    for contender in options.gateways():
        print(f"  {contender.name}: {options.minutes:g} minutes", file=sys.stderr, flush=True)
        samples: list[tuple[float, float]] = []
        started = time.monotonic()

        def watch(
            pids: Sequence[int],
            samples: list[tuple[float, float]] = samples,
            start: float = started,
        ) -> None:
            samples.append((time.monotonic() - start, usage(pids).mib))

        plan = Plan(count=int(RATE * options.minutes * 60), seconds=20, rate=RATE)
        measured = measure_once(contender, COURSE, plan, watch)
        runs.append({"name": contender.name, "samples": samples, "run": measured.as_dict()})
    return {"runs": runs, "rate": RATE, "course": COURSE.name}


def render(data: dict[str, Any]) -> str:
    """Return the table."""
    rows = []
    for run in data["runs"]:
        samples = run["samples"]
        # Steady from the first tenth of the time on.
        steady = [mib for _, mib in samples[len(samples) // 10 :]]
        half = len(steady) // 2
        rows.append(
            (
                run["name"],
                f"{samples[-1][0] / 60:.1f}",
                f"{run['run']['rate']:.0f}",
                f"{samples[0][1]:.1f}",
                f"{min(steady):.1f} .. {max(steady):.1f}",
                f"{max(steady[half:]) - max(steady[:half] or steady):+.1f}",
                run["run"]["faults"],
            )
        )
    return f"{data['course']} at {data['rate']} events/s.\n\n" + markdown(
        (
            "variant", "minutes", "events/s", "MiB at first", "MiB from the first tenth on",
            "most of the second half - of the first", "faults",
        ),
        rows,
    )  # fmt: skip


def draw(data: dict[str, Any], folder: Path) -> None:
    """Draw memory over time."""
    lines = {
        run["name"]: [(seconds / 60, [mib]) for seconds, mib in run["samples"]]
        for run in data["runs"]
    }
    pictures.lines(folder / PICTURE, {"": lines}, ("minutes", "resident, MiB"), zero_y=True)
