"""What both threads know of a lane's log: its segments, and which of its records are done."""

import threading
from bisect import bisect_right
from collections.abc import Iterable
from itertools import takewhile
from typing import Final, NamedTuple

from gateway.spool.ranges import Ranges, runs_of
from gateway.spool.segment import Gap, Mark, Segment

UNWRITTEN_RECORDS: Final = 64
"""Records that are done and not in the cursor file, from which on it is written at once: a kill
makes duplicates of them."""


class Located(NamedTuple):
    """A segment, and how far it goes at this moment."""

    segment: Segment
    end: int
    size: int


class Log:
    """The segments in order, and the done set; everybody finds his place by sequence number.

    The event loop's thread reads and marks done, the writer's thread appends and trims. Each
    method takes the lock for a moment; nobody holds it during a disk call.

    Attributes:
        lock: of all that is here, and of the writer's queue.
        next_sequence: what the next stored record gets.
        bytes: of all segments.
        changed: whether the cursor file is behind.
        unwritten: how many records were done since the cursor file was written.
        unsaved: the same, or it is being written: a kill makes duplicates of them.
        is_save_wanted: whether somebody waits for `unsaved` to become less.
    """

    def __init__(self, segments: list[Segment], done: Ranges, next_sequence: int) -> None:
        self.lock = threading.Lock()
        self._segments = segments
        self._done = done
        self.next_sequence = next_sequence
        self.bytes = sum(segment.size for segment in segments)
        self.changed = False
        self.unwritten = 0
        self.unsaved = 0
        self.is_save_wanted = False
        self._saving = 0

    @property
    def is_behind(self) -> bool:
        """Whether the cursor file is to be written at once."""
        return self.is_save_wanted or self.unwritten >= UNWRITTEN_RECORDS

    @property
    def watermark(self) -> int:
        """Every record before this one is done."""
        return self._done.watermark

    @property
    def pending(self) -> int:
        """How many stored records are not done."""
        return self.next_sequence - self._done.count

    def pending_from(self, sequence: int) -> int:
        """How many stored records from this one on are not done."""
        with self.lock:
            end = self.next_sequence
            return end - sequence - self._done.count_within(sequence, end)

    def locate(self, sequence: int) -> Located | None:
        """Return the segment that holds a record, or the next one if that is gone, or None."""
        with self.lock:
            at = bisect_right(self._segments, sequence, key=lambda segment: segment.end)
            if at == len(self._segments):
                return None
            segment = self._segments[at]
            return Located(segment, segment.end, segment.size)

    def mark_before(self, segment: Segment, sequence: int) -> Mark:
        """Return where a reader of the segment begins that wants this record."""
        with self.lock:
            return segment.mark_before(sequence)

    def without_done(self, records: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """Return the records that are not done, of some that follow one another."""
        with self.lock:
            done = self._done
            if not records or done.end <= records[0][0]:
                return records
            return [found for found in records if found[0] not in done]

    def finish(self, sequences: Iterable[int]) -> bool:
        """Mark records as done; return whether the cursor file was in step, or is far behind now.

        Raises:
            ValueError: one was never stored.
        """
        runs = list(runs_of(sequences))
        with self.lock:
            if runs and runs[-1][1] > self.next_sequence:
                raise ValueError(f"record {runs[-1][1] - 1} was never stored")
            before = self.unwritten
            added = sum(self._done.add(start, end) for start, end in runs)
            self.unwritten += added
            self.unsaved += added
            was_in_step, self.changed = not self.changed, True
            return was_in_step or before < UNWRITTEN_RECORDS <= self.unwritten

    def lose(self, gap: Gap) -> int:
        """Mark what a gap has taken as done; return how many records were not done before."""
        with self.lock:
            lost = self._done.add(gap.first, gap.end)
            self.changed = self.changed or lost > 0
            return lost

    def snapshot(self) -> tuple[int, list[tuple[int, int]]]:
        """Return the next sequence number and the done ranges for the cursor, to be written."""
        with self.lock:
            self.changed = False
            self.unwritten = 0
            self._saving = self.unsaved
            return self.next_sequence, self._done.pairs()

    def saved(self) -> None:
        """Note that the cursor of the latest snapshot is in place."""
        with self.lock:
            self.unsaved -= self._saving
            self._saving = 0

    def want_save(self) -> None:
        """Have the cursor written at once."""
        with self.lock:
            self.is_save_wanted = True

    def take_save_wanted(self) -> bool:
        """Return whether a save was wanted, once."""
        with self.lock:
            was_wanted, self.is_save_wanted = self.is_save_wanted, False
            return was_wanted

    def start_segment(self, segment: Segment) -> None:
        """Append to this segment from now on; an empty one of the same name is replaced."""
        with self.lock:
            if self._segments and self._segments[-1].first == segment.first:
                self.bytes -= self._segments.pop().size
            self._segments.append(segment)
            self.bytes += segment.size

    def stored(self, segment: Segment, count: int, size: int, now: float) -> None:
        """Count records that are durable in the segment, and how many bytes they take."""
        with self.lock:
            segment.grow(count, size, now)
            self.next_sequence = segment.end
            self.bytes += size

    def finished_newest(self) -> Segment | None:
        """Return the newest segment if every record in it is done."""
        with self.lock:
            segment = self._segments[-1] if self._segments else None
            if segment is None or not self._done.covers(segment.first, segment.end):
                return None
            return segment

    def finished(self) -> list[Segment]:
        """Return the segments without a record that is not done, oldest first.

        The newest is never among them: its name is what keeps sequence numbers from starting again.
        """
        with self.lock:
            return self._finished()

    def finished_bytes(self) -> int:
        """Return how many bytes those take; the caller holds the lock."""
        return sum(segment.size for segment in self._finished())

    def _finished(self) -> list[Segment]:
        covers, end = self._done.covers, self._done.end
        older = takewhile(lambda segment: segment.first < end, self._segments[:-1])
        return [segment for segment in older if covers(segment.first, segment.end)]

    def holds(self, segment: Segment) -> bool:
        """Whether a segment has not been removed."""
        with self.lock:
            return segment in self._segments

    def kept(self, since: float) -> list[Located]:
        """Return the segments with a record that is not done, or one stored after a moment."""
        with self.lock:
            covers = self._done.covers
            return [
                Located(segment, segment.end, segment.size)
                for segment in self._segments
                if segment.stored_at > since or not covers(segment.first, segment.end)
            ]

    def is_oldest(self, segment: Segment) -> bool:
        """Whether no segment stands before this one."""
        with self.lock:
            return self._segments[0] is segment

    def remove(self, segment: Segment) -> None:
        """Forget a segment."""
        with self.lock:
            self._segments.remove(segment)
            self.bytes -= segment.size
