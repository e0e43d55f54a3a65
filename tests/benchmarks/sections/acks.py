"""What acknowledgements cost: the same path with QoS 1 and with QoS 0, and `ack: stored`."""

import statistics
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.contender import Course
from tests.benchmarks.machine import markdown, spread
from tests.benchmarks.measuring import Plan
from tests.benchmarks.options import Options
from tests.benchmarks.pairs import Entry, ratios, run_by_turns

TITLE: Final = "Acknowledgements"
PAIRS: Final = (
    (Course("mqtt", "kafka"), Course("mqtt", "kafka", qos=0)),
    (Course("mqtt", "http"), Course("mqtt", "http", qos=0)),
    (Course("mqtt", "kafka", stored=True), Course("mqtt", "kafka")),
    (Course("mqtt", "batch", stored=True), Course("mqtt", "batch")),
    (Course("jetstream", "kafka", stored=True), Course("jetstream", "kafka")),
)


def measure(options: Options) -> dict[str, Any]:
    """Return the runs of each pair."""
    found = []
    for more, less in PAIRS[:: 2 if options.quick else 1]:
        if options.only and more.name not in options.only:
            continue
        for contender in options.gateways()[-1:]:
            plan = Plan(options.events, options.seconds, whole=more.stored)
            with_it = Entry(contender.name, contender, more, plan)
            without = Entry(contender.name, contender, less, plan)
            run_by_turns([with_it, without], options.pairs)
            found.append(
                {
                    "more": with_it.as_dict(),
                    "less": without.as_dict(),
                    "ratios": ratios(with_it, without),
                }
            )
    return {"pairs": found}


def render(data: dict[str, Any]) -> str:
    """Return the table."""
    rows = []
    for pair in data["pairs"]:
        more = [run["cpu"] for run in pair["more"]["runs"] if run]
        less = [run["cpu"] for run in pair["less"]["runs"] if run]
        if not pair["ratios"]:
            continue
        faults = dict.fromkeys(
            run["faults"]
            for entry in (pair["more"], pair["less"])
            for run in entry["runs"]
            if run and run["faults"]
        )
        rows.append(
            (
                pair["more"]["name"],
                pair["more"]["course"],
                pair["less"]["course"],
                spread(more),
                spread(less),
                spread(pair["ratios"], 2),
                f"{statistics.median(more) - statistics.median(less):.1f}",
                "; ".join(faults),
            )
        )
    return markdown(
        ("variant", "A", "B", "A, CPU us per event", "B", "A / B by pair", "A - B, us", "faults"),
        rows,
    )


def draw(data: dict[str, Any], folder: Path) -> None:
    """Nothing to draw."""
