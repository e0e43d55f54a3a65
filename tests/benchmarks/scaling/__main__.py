"""Figures for docs/scaling.md.

python -m tests.benchmarks.scaling                 the tables, from inputs.json
python -m tests.benchmarks.scaling connections     measure connected devices, into inputs.json
python -m tests.benchmarks.scaling events RESULTS  take CPU per event from what `make bench` wrote
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.machine import describe, markdown
from tests.benchmarks.scaling import connections
from tests.benchmarks.scaling.simulation import PATTERNS, PERIOD, Costs, need, simulate

INPUTS: Final = Path(__file__).with_name("inputs.json")
PAGE: Final = Path(__file__).parents[3] / "docs" / "scaling.md"
FLEETS: Final = (10_000, 100_000, 1_000_000, 10_000_000)
SHARE: Final = 0.5
POD_MIB: Final = 1024
_BEGIN, _END = "<!-- made by python -m tests.benchmarks.scaling -->", "<!-- end -->"
_DEVICES: Final = {"mqtt": 10_000, "mqtt-tls": 3_000, "http": 10_000, "coap": 10_000}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("tables", "connections", "events"))
    parser.add_argument("results", nargs="?", type=Path)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scaling.md")
    chosen = parser.parse_args(arguments)
    inputs: dict[str, Any] = json.loads(INPUTS.read_text())
    if chosen.what == "connections":
        inputs["machine"] = describe()
        inputs["event_bytes"] = round(connections.event_bytes())
        inputs["devices"] = {
            kind: connections.measure(kind, count) for kind, count in _DEVICES.items()
        }
    elif chosen.what == "events":
        inputs["lists"] = lists_of(json.loads(chosen.results.read_text()))
        inputs["placeholder"] = False
    if chosen.what in ("connections", "events"):
        INPUTS.write_text(json.dumps(inputs, indent=2) + "\n")
    text = tables(inputs)
    print(text)
    if chosen.write:
        before, _, rest = PAGE.read_text().partition(_BEGIN)
        PAGE.write_text(f"{before}{_BEGIN}\n\n{text}\n\n{_END}{rest.partition(_END)[2]}")


def lists_of(results: dict[str, Any], course: str = "mqtt-http") -> dict[str, float]:
    """Return CPU microseconds per event by the length of lists, from the section `sizes`.

    Raises:
        ValueError: it was not measured.
    """
    found = {}
    for size in results["sections"].get("sizes", {}).get("sizes", []):
        for entry in size["entries"]:
            runs = [run["cpu"] for run in entry["runs"] if run]
            if size["course"] == course and entry["contender"].startswith("gateway") and runs:
                found[str(size["size"])] = statistics.median(runs)
    if len(found) < 2:
        raise ValueError(f"no lengths of lists were measured for {course}")
    return found


def costs_of(inputs: dict[str, Any], kind: str) -> Costs:
    """Return the costs of a kind of devices.

    A list of n costs `per_list + n * per_event`: the longest gives the one, the shortest the other.
    """
    lists = {int(length): cpu for length, cpu in inputs["lists"].items()}
    shortest, longest = min(lists), max(lists)
    per_list = (lists[shortest] - lists[longest]) / (1 / shortest - 1 / longest)
    device = inputs["devices"][kind]
    return Costs(
        per_list=per_list / 1e6,
        per_event=(lists[longest] - per_list / longest) / 1e6,
        per_connect=device["connect_us"] / 1e6,
        base_bytes=device["base_mib"] * 2**20,
        device_bytes=device["kib"] * 1024,
        event_bytes=inputs["event_bytes"],
    )


def tables(inputs: dict[str, Any]) -> str:
    """Return the measured inputs and what follows from them."""
    parts = []
    if inputs["placeholder"]:
        parts.append(
            "**These figures are placeholders**: they were measured beside other work, and not "
            "in one run."
        )
    parts += [inputs["machine"], _inputs(inputs), _needs(inputs), _bursts(inputs)]
    return "\n\n".join(parts)


def _inputs(inputs: dict[str, Any]) -> str:
    lists = [(f"{length}", f"{cpu:.1f}") for length, cpu in inputs["lists"].items()]
    devices = [
        (
            kind,
            f"{found['devices']:,}",
            f"{found['base_mib']:.0f}",
            f"{found['kib']:.1f}",
            f"{found['connect_us']:.0f}",
        )
        for kind, found in inputs["devices"].items()
    ]
    return "\n\n".join(
        (
            markdown(("events in a list", "CPU us per event"), lists),
            markdown(
                ("devices", "measured with", "MiB without", "KiB each", "CPU us to connect"),
                devices,
            ),
        )
    )


def _needs(inputs: dict[str, Any]) -> str:
    rows = []
    for devices in FLEETS:
        for kind in inputs["devices"]:
            costs = costs_of(inputs, kind)
            needed = need(devices, costs, share=SHARE, pod_mib=POD_MIB)
            cores = devices / PERIOD * (costs.per_event + costs.per_list / 256)
            gib = devices * costs.device_bytes / 2**30
            rows.append(
                (
                    f"{devices:,}",
                    kind,
                    f"{devices / PERIOD:,.0f}",
                    f"{cores:.2f}",
                    f"{gib:.2f}",
                    f"{needed.for_cpu}",
                    f"{needed.for_memory}",
                    f"**{needed.pods}**",
                )
            )
    header = (
        "fleet", "devices", "events/s", "cores, full lists", "GiB for devices", "pods for CPU",
        "pods for memory", "pods",
    )  # fmt: skip
    return markdown(header, rows)


def _bursts(inputs: dict[str, Any]) -> str:
    rows = []
    for devices in FLEETS[1:]:
        costs = costs_of(inputs, "mqtt")
        least = need(devices, costs, share=SHARE, pod_mib=POD_MIB).pods
        for pods in dict.fromkeys((least, least * 2, least * 4)):
            for pattern in PATTERNS:
                pod = simulate(devices, pods, pattern, costs)
                rows.append(
                    (
                        f"{devices:,}",
                        f"{pods}",
                        PATTERNS[pattern],
                        f"{pod.load:.0%}",
                        f"{pod.p50 * 1e3:,.2f}",
                        f"{pod.p99 * 1e3:,.1f}",
                        f"{pod.longest * 1e3:,.1f}",
                        f"{pod.waiting:,}",
                        f"{pod.mib:,.0f}",
                    )
                )
    header = (
        "fleet", "pods", "how it reports", "load of a core", "wait p50, ms", "p99, ms",
        "longest, ms", "most waiting", "MiB per pod",
    )  # fmt: skip
    return markdown(header, rows)


if __name__ == "__main__":
    main()
