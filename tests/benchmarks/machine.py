"""What machine and which versions the figures belong to, and how they are printed."""

import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("msgspec", "uvloop", "httptools", "paho-mqtt", "aiocoap", "nats-py", "confluent-kafka")


def describe() -> str:
    """Return machine and versions as Markdown."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"Machine: {os.cpu_count()} cores ({cpu}), {platform.system()} {platform.release()}; "
        f"Python {platform.python_version()}; {versions}."
    )


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return `median (best .. worst)`."""
    return (
        f"{statistics.median(values):.{digits}f} "
        f"({min(values):.{digits}f} .. {max(values):.{digits}f})"
    )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table."""
    print()
    print(markdown(header, rows), flush=True)
