"""Ranges behave as the set of their numbers, in whatever order those come."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.spool.ranges import Ranges, runs_of

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=25)


@given(st.integers(0, 5), SPANS, st.integers(0, 70), st.integers(0, 20))
def test_ranges_behave_as_a_set(watermark, spans, start, length):
    ranges, numbers = Ranges(watermark), set(range(watermark))
    for first, count in spans:
        fresh = set(range(first, first + count)) - numbers
        assert ranges.add(first, first + count) == len(fresh)
        numbers |= fresh
    assert ranges.count == len(numbers)
    assert [number for number in range(80) if number in ranges] == sorted(numbers)
    inside = set(range(start, start + length))
    assert ranges.covers(start, start + length) is (inside <= numbers)
    assert ranges.count_within(start, start + length) == len(inside & numbers)
    assert ranges.watermark == min(set(range(100)) - numbers)
    assert ranges.end == max(numbers, default=0) + 1 if numbers else ranges.end == watermark


@given(SPANS)
def test_ranges_never_touch_each_other(spans):
    ranges = Ranges(1)
    for first, count in spans:
        ranges.add(first, first + count)
    pairs = ranges.pairs()
    assert all(end < start for (_, end), (start, _) in pairwise(pairs))
    again = Ranges(pairs[0][1], pairs[1:])
    assert (again.pairs(), again.count) == (pairs, ranges.count)


@given(st.lists(st.integers(0, 40)))
def test_runs_are_the_numbers_and_no_others(numbers):
    runs = list(runs_of(numbers))
    assert [n for start, end in runs for n in range(start, end)] == sorted(set(numbers))
    assert all(end < start for (_, end), (start, _) in pairwise(runs))


@pytest.mark.parametrize("numbers", [[1, 1, 3], [3, 1, 1, 3], [1, 3, 3, 4]])
def test_a_repeated_number_does_not_stand_for_its_neighbour(numbers):
    assert 2 not in {n for start, end in runs_of(numbers) for n in range(start, end)}


def test_one_that_hangs_costs_one_range():
    ranges = Ranges(1)
    for number in range(2, 100_000):
        ranges.add(number, number + 1)
    assert ranges.pairs() == [(0, 1), (2, 100_000)]
