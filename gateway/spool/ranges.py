"""Which sequence numbers are done: a few ranges, however many numbers."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence


class Ranges:
    """Sequence numbers as ranges without overlap; the first one begins at 0.

    One event that hangs for hours is one more range here, while a set would grow by every event
    that overtakes it.

    Attributes:
        count: how many numbers there are.
    """

    def __init__(self, watermark: int, others: Sequence[tuple[int, int]] = ()) -> None:
        self._starts = [0]
        self._ends = [watermark]
        self.count = watermark
        for start, end in others:
            self.add(start, end)

    @property
    def watermark(self) -> int:
        """The least number that is not in."""
        return self._ends[0]

    @property
    def end(self) -> int:
        """The greatest number that is in, plus one."""
        return self._ends[-1]

    def pairs(self) -> list[tuple[int, int]]:
        """Return the ranges, each with its first number and the number behind its last."""
        return list(zip(self._starts, self._ends, strict=True))

    def add(self, start: int, end: int) -> int:
        """Put in the numbers from `start` to before `end`; return how many of them are new."""
        if start >= end:
            return 0
        starts, ends = self._starts, self._ends
        left = bisect_left(ends, start)  # ranges from here on end at `start` or behind it ...
        right = bisect_right(starts, end)  # ... and those before here begin at `end` or before it
        before = sum(ends[at] - starts[at] for at in range(left, right))
        if left < right:
            start = min(start, starts[left])
            end = max(end, ends[right - 1])
        starts[left:right] = [start]
        ends[left:right] = [end]
        new = end - start - before
        self.count += new
        return new

    def __contains__(self, number: int) -> bool:
        return self.covers(number, number + 1)

    def covers(self, start: int, end: int) -> bool:
        """Whether every number from `start` to before `end` is in; true of no numbers."""
        return start >= end or self._ends[bisect_right(self._starts, start) - 1] >= end

    def count_within(self, start: int, end: int) -> int:
        """Return how many numbers from `start` to before `end` are in."""
        at = bisect_right(self._ends, start)
        count = 0
        while at < len(self._starts) and self._starts[at] < end:
            count += min(end, self._ends[at]) - max(start, self._starts[at])
            at += 1
        return count


def runs_of(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the runs of consecutive numbers, each with its first and the number behind its last."""
    ordered = sorted(set(numbers))
    if not ordered:
        return
    start = ordered[0]
    if ordered[-1] - start == len(ordered) - 1:  # what a sink took in one go
        yield start, ordered[-1] + 1
        return
    behind = start
    for number in ordered:
        if number != behind:
            yield start, behind
            start = number
        behind = number + 1
    yield start, behind
