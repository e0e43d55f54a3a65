"""What is wrong with a configuration: every problem at once, each with its place in the file."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.errors import ConfigError

Keys = tuple[str | int, ...]
"""The way to a value: keys of tables and positions in lists."""


class Position(NamedTuple):
    """A place in the file; lines and columns count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend.

    Attributes:
        file: the file as it was named.
        position: where; None when the file as a whole is meant.
        path: such as `sources.plant.subscribe[0].qos`; "" for the whole file.
        text: what is wrong, what was expected, and the nearest right name.
    """

    file: str
    position: Position | None
    path: str
    text: str

    def __str__(self) -> str:
        where = (
            f"{self.file}:{self.position.line}:{self.position.column}"
            if self.position
            else self.file
        )
        return f"{where}: {self.path}: {self.text}" if self.path else f"{where}: {self.text}"


class ConfigErrors(ConfigError):  # noqa: N818 - it is many
    """A configuration with everything that is wrong with it.

    Attributes:
        problems: in the order of the file.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: Sequence[Problem] = sorted(
            dict.fromkeys(problems), key=lambda problem: problem.position or Position(0, 0)
        )
        super().__init__("\n".join(map(str, self.problems)))


def path_text(keys: Keys) -> str:
    """Return the way to a value as text: `routes[0].to`."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text
