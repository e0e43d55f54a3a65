"""Which worker of a gateway with several processes (docs/workers.md)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """One worker among others.

    Attributes:
        number: from 0. Worker 0 has what a gateway without workers has: the same session at a
            broker, the same spool.
        count: how many workers there are.
        group: a word that this gateway's workers have in common, and no other gateway has.
    """

    number: int
    count: int
    group: str

    @property
    def is_retired(self) -> bool:
        """Whether it only empties what an earlier run with more workers has left."""
        return self.number >= self.count

    @property
    def is_alone(self) -> bool:
        """Whether no other worker takes events."""
        return self.count == 1
