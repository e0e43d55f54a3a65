"""Runs by turns (A B C, then C B A), so that a machine whose speed changes treats all alike."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.contender import Contender, Course
from tests.benchmarks.machine import spread
from tests.benchmarks.measuring import Measured, Plan, measure

_AGAIN = 2
"""Attempts more, when a run ends in an error: another program may have taken its port."""


@dataclass
class Entry:
    """What is run by turns with others.

    Attributes:
        name: in the table.
        measured: run by run; None where it ended in an error.
        errors: of the runs, in words.
    """

    name: str
    contender: Contender
    course: Course
    plan: Plan
    measured: list[Measured | None] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def good(self) -> Sequence[Measured]:
        return [measured for measured in self.measured if measured is not None]

    def cpu(self) -> str:
        """CPU microseconds per event, as printed."""
        return spread([measured.cpu for measured in self.good])

    def faults(self) -> str:
        """What went wrong with the events, and with the runs."""
        found = [measured.faults for measured in self.good if measured.faults]
        return "; ".join(dict.fromkeys([*found, *self.errors]))

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "name": self.name,
            "contender": self.contender.name,
            "version": self.contender.version(),
            "course": self.course.name,
            "settings": self.contender.settings(self.course),
            "runs": [measured and measured.as_dict() for measured in self.measured],
            "errors": self.errors,
        }


def entries_of(contenders: Sequence[Contender], course: Course, plan: Plan) -> list[Entry]:
    """Return an entry for each that knows the course."""
    return [
        Entry(contender.name, contender, course, plan)
        for contender in contenders
        if contender.supports(course)
    ]


def run_by_turns(entries: Sequence[Entry], rounds: int) -> None:
    """Run each so many times, and keep what was measured."""
    for number in range(rounds):
        for entry in entries if number % 2 == 0 else reversed(entries):
            started = time.monotonic()
            measured = _measure(entry)
            entry.measured.append(measured)
            told = (
                f"{measured.cpu:.1f} us, {measured.rate:.0f}/s {measured.faults}"
                if measured
                else entry.errors[-1]
            )
            print(
                f"  {entry.course.name} {entry.name} {number + 1}/{rounds}: {told.strip()} "
                f"[{time.monotonic() - started:.1f} s]",
                file=sys.stderr,
                flush=True,
            )


def ratios(mine: Entry, other: Entry) -> list[float]:
    """Return the ratio of the CPU times of each pair."""
    return [
        first.cpu / second.cpu
        for first, second in zip(mine.measured, other.measured, strict=True)
        if first is not None and second is not None
    ]


def _measure(entry: Entry) -> Measured | None:
    for attempt in range(_AGAIN + 1):
        try:
            return measure(entry.contender, entry.course, entry.plan)
        except (RuntimeError, TimeoutError, OSError) as error:
            if attempt == _AGAIN:
                entry.errors.append(f"{type(error).__name__}: {error}"[:300])
    return None
