"""How long a sender waits for its acknowledgement, at fixed rates.

An event's time counts from when it was due. A POST to the sink itself, at the same rate and by the
same load, tells what of it is the gateway's. All processes of a run go before other work of the
machine, where that is allowed: a wait for a core that somebody else has says nothing of anybody.
"""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tests.benchmarks import pictures
from tests.benchmarks.contender import Addresses, Course, Form
from tests.benchmarks.machine import markdown
from tests.benchmarks.measuring import Plan
from tests.benchmarks.options import Options
from tests.benchmarks.pairs import Entry, entries_of, run_by_turns
from tests.benchmarks.processes import undisturbed

TITLE: Final = "Latency"
RATES: Final = (1000, 2500, 5000, 10_000)
COURSES: Final = (
    *(Course(source, sink) for source in ("http", "mqtt", "coap") for sink in ("http", "kafka")),
    Course("http", "http", stored=True),
    Course("mqtt", "kafka", stored=True),
)
"""Of JetStream the server is told and of core NATS nobody, so theirs is not seen at the sender."""
PICTURE: Final = "latency-against-load.svg"
DIRECT: Final = "direct POST"
_WARM: Final = 1.0
"""Seconds: connections are made then."""
_SHARES: Final = ("p50", "p99", "p999")


class _RunningNothing:
    pids: Sequence[int] = ()

    def __init__(self, port: int) -> None:
        self.port = port

    def is_ready(self) -> bool:
        return True

    def stop(self) -> None: ...


class Direct:
    """The load posts to the sink."""

    name = DIRECT
    form: Form = "event"

    def missing(self) -> None: ...

    def version(self) -> str:
        return ""

    def supports(self, course: Course) -> bool:
        return course == Course("http", "http")

    def settings(self, course: Course) -> str:
        return "structured mode, from the load to the sink"

    def start(self, course: Course, addresses: Addresses, folder: Path) -> _RunningNothing:
        return _RunningNothing(int(addresses.sink_url.rstrip("/").rpartition(":")[2]))


def measure(options: Options) -> dict[str, Any]:
    """Return the runs, rate by rate."""
    found = []
    courses = options.courses(COURSES)
    for rate in RATES[:1] if options.quick else RATES:
        seconds = options.seconds + _WARM
        plan = Plan(int(rate * seconds), options.seconds, rate, options={"warm": _WARM})
        straight = replace(plan, options={"structured": True, **plan.options})
        for course in courses:
            entries = entries_of(options.best(), course, replace(plan, whole=course.stored))
            if course == Course("http", "http"):
                entries.insert(0, Entry(DIRECT, Direct(), course, straight))
            with undisturbed() as alone:
                run_by_turns(entries, options.pairs)
            found.append(
                {
                    "course": course.name,
                    "rate": rate,
                    "undisturbed": alone,
                    "entries": [entry.as_dict() for entry in entries],
                }
            )
    return {"rates": found}


def render(data: dict[str, Any]) -> str:
    """Return the table."""
    direct = {
        found["rate"]: _waits(entry)
        for found in data["rates"]
        for entry in found["entries"]
        if entry["name"] == DIRECT
    }
    rows = []
    for found in data["rates"]:
        for entry in found["entries"]:
            waits, behind = _waits(entry), direct.get(found["rate"])
            if not waits:
                continue
            runs = [run for run in entry["runs"] if run]
            ours = behind and entry["name"] != DIRECT
            rows.append(
                (
                    found["course"],
                    entry["name"],
                    str(found["rate"]),
                    f"{statistics.median(run['rate'] for run in runs):.0f}",
                    " / ".join(f"{waits[share]:.2f}" for share in _SHARES),
                    f"{waits['p99'] - behind['p99']:.2f}" if ours and behind else "",
                    f"{statistics.median(run['cpu'] for run in runs):.1f}",
                    "; ".join(dict.fromkeys(run["faults"] for run in runs if run["faults"])),
                )
            )
    table = markdown(
        (
            "path", "product", "due per s", "arrived per s", "p50 / p99 / p99.9, ms",
            "p99 over a direct POST, ms", "CPU us per event", "faults",
        ),
        rows,
    )  # fmt: skip
    if all(found.get("undisturbed") for found in data["rates"]):
        return f"With real-time priority (SCHED_FIFO) for all processes of a run.\n\n{table}"
    return table


def draw(data: dict[str, Any], folder: Path) -> None:
    """Draw the p99 of each contender, a panel for each course."""
    lines: dict[str, dict[str, list[tuple[float, list[float]]]]] = {}
    for found in data["rates"]:
        for entry in found["entries"]:
            waits = [run["latency"]["p99"] for run in entry["runs"] if run]
            if waits:
                panel = lines.setdefault(found["course"], {})
                panel.setdefault(entry["name"], []).append((found["rate"], waits))
    axes = ("events per second", "p99 of the acknowledgement, ms")
    pictures.lines(folder / PICTURE, lines, axes, log_x=True, log_y=True)


def _waits(entry: dict[str, Any]) -> dict[str, float]:
    """Return the medians over the runs."""
    runs = [run["latency"] for run in entry["runs"] if run and run["latency"]]
    if not runs:
        return {}
    return {share: statistics.median(run[share] for run in runs) for share in _SHARES}
