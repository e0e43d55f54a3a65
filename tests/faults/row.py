"""What a row of the fault plan is, and where the rows are found."""

import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.faults import rows
from tests.faults.figures import Figures


@dataclass(frozen=True)
class Context:
    """What a row is given.

    Attributes:
        folder: an empty one, for all its files.
        seed: of everything that is left to chance.
        short: run for seconds, not minutes.
        minutes: how long the soak goes on, if somebody said so.
    """

    folder: Path
    seed: int
    short: bool
    minutes: float | None = None

    @property
    def patience(self) -> float:
        """How many times as long as the plan allows something may take.

        A short run is part of all tests, shares its cores with them, and is not to tell of the
        machine: that is for the whole plan.
        """
        return 4.0 if self.short else 1.0

    def chance(self) -> Random:
        return Random(self.seed)


@dataclass(frozen=True)
class Row:
    """A module of `tests.faults.rows`.

    A module has NUMBER, NAME, BOUND (of the fault and its count or time, in words), SHORT_BOUND,
    SECONDS and SHORT_SECONDS (after which it is cancelled and has failed), and
    `async def run(context: Context) -> Figures`. SHORT_BOUND None: not in the short version.
    """

    number: int
    name: str
    bound: str
    short_bound: str | None
    seconds: float
    short_seconds: float
    run: Callable[[Context], Awaitable[Figures]]


def find_rows() -> Sequence[Row]:
    """Return all rows, by number."""
    found = []
    for info in pkgutil.iter_modules(rows.__path__):
        module = importlib.import_module(f"{rows.__name__}.{info.name}")
        found.append(
            Row(
                module.NUMBER, module.NAME, module.BOUND, module.SHORT_BOUND,
                module.SECONDS, module.SHORT_SECONDS, module.run,
            )
        )  # fmt: skip
    return sorted(found, key=lambda row: row.number)
