"""CPU time per event of each course, ours and the other products by turns."""

from pathlib import Path
from typing import Any, Final

from tests.benchmarks import pictures
from tests.benchmarks.contender import Contender, Course
from tests.benchmarks.machine import markdown, spread
from tests.benchmarks.measuring import Plan
from tests.benchmarks.options import Options
from tests.benchmarks.pairs import Entry, entries_of, ratios, run_by_turns

TITLE: Final = "Cost per path"
COURSES: Final = (
    Course("mqtt", "kafka"),
    Course("mqtt", "http"),
    Course("jetstream", "kafka"),
    Course("jetstream", "http"),
    Course("nats", "kafka"),
    Course("nats", "http"),
    Course("http", "kafka"),
    Course("http", "http"),
    Course("coap", "kafka"),
    Course("coap", "http"),
    Course("coap", "batch"),
    Course("mqtt", "h2c"),
    Course("mqtt", "batch"),
    Course("mqtt", "kafka", stored=True),
    Course("http", "http", stored=True),
)
QUICK: Final = ("mqtt-kafka", "jetstream-http", "nats-kafka", "http-http", "coap-batch")
PICTURE: Final = "cost-per-path.svg"


def measure(options: Options) -> dict[str, Any]:
    """Return the runs and the ratios, course by course."""
    courses = []
    courses_asked = options.courses(COURSES)
    if options.quick and not options.only:
        courses_asked = [course for course in COURSES if course.name in QUICK]
    for course in courses_asked:
        plan = Plan(options.events, options.seconds, whole=course.stored, sink=options.sink(course))
        entries = entries_of(options.contenders(), course, plan)
        run_by_turns(entries, options.pairs)
        courses.append(
            {
                "course": course.name,
                "entries": [entry.as_dict() for entry in entries],
                "ratios": _ratios(entries),
            }
        )
    return {"courses": courses, "missing": options.missing(), "cluster": options.cluster}


def render(data: dict[str, Any]) -> str:
    """Return the tables."""
    rows, against = [], []
    settings: dict[str, str] = {}
    for course in data["courses"]:
        for entry in course["entries"]:
            runs = [run for run in entry["runs"] if run]
            if not runs:
                rows.append(
                    (course["course"], entry["name"], "failed", "", "", "", entry["errors"][-1])
                )
                continue
            rows.append(
                (
                    course["course"],
                    entry["name"],
                    spread([run["cpu"] for run in runs]),
                    spread([run["rate"] for run in runs], 0),
                    spread([run["mib"] for run in runs], 0),
                    _proof(runs),
                    "; ".join(dict.fromkeys(run["faults"] for run in runs if run["faults"])),
                )
            )
            settings[f"{entry['name']} {entry['version']}, {course['course']}"] = entry["settings"]
        for ours, others in course["ratios"].items():
            for other, found in others.items():
                if found:
                    against.append(
                        (course["course"], ours, other, spread(found, 2), str(len(found)))
                    )
    parts = [
        markdown(
            ("path", "product", "CPU us per event", "events/s", "MiB", "counted", "faults"), rows
        )
    ]
    if against:
        parts.append(
            "CPU per event of ours divided by that of the other one, pair by pair:\n\n"
            + markdown(("path", "ours", "other", "ratio, median (least .. most)", "pairs"), against)
        )
    parts.append(
        "Settings:\n\n" + "\n".join(f"- {name}: `{text}`" for name, text in settings.items())
    )
    if data["cluster"] != "mock":
        parts.append(f"Kafka is {data['cluster']}.")
    parts += [f"Not there: {line}." for line in data["missing"]]
    return "\n\n".join(parts)


def draw(data: dict[str, Any], folder: Path) -> None:
    """Draw the bars."""
    figures: dict[str, dict[str, list[float]]] = {}
    for course in data["courses"]:
        for entry in course["entries"]:
            runs = [run["cpu"] for run in entry["runs"] if run]
            if runs:
                figures.setdefault(entry["name"], {})[course["course"]] = runs
    courses = [course["course"] for course in data["courses"]]
    pictures.dots(folder / PICTURE, courses, figures, "CPU microseconds per event")


def _ratios(entries: list[Entry]) -> dict[str, dict[str, list[float]]]:
    def is_ours(contender: Contender) -> bool:
        return contender.form == "event"

    return {
        mine.name: {
            other.name: ratios(mine, other) for other in entries if not is_ours(other.contender)
        }
        for mine in entries
        if is_ours(mine.contender)
    }


def _proof(runs: list[dict[str, Any]]) -> str:
    events, sampled = sum(run["events"] for run in runs), sum(run["sampled"] for run in runs)
    return f"{events}, {sampled} read"
