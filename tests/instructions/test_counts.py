"""No hot function takes more instructions than its kept count allows."""

import pytest

from tests.instructions import counts
from tests.instructions.workloads import WORKLOADS

KEPT = counts.load()
pytestmark = pytest.mark.timeout(1200)  # all counts are made for the first test
ENCODE = "JSON event, encode"

TWICE_IN_TEN = """
from tests.instructions import measured, workloads

encode, calls = workloads.encode_event, 0

def slower(event):
    global calls
    calls += 1
    if calls % 10 == 0:
        encode(event)
    return encode(event)

workloads.encode_event = slower
measured.main({name!r})
"""


@pytest.fixture(scope="session")
def countable():
    missing = counts.missing()
    if missing is None and KEPT.python != counts.python():
        missing = f"the counts are for {KEPT.python}, this is {counts.python()}"
    if missing is not None:
        pytest.skip(missing)


@pytest.fixture(scope="session")
def found(countable):
    return counts.count_all(WORKLOADS)


def test_there_is_a_kept_count_for_every_workload():
    assert list(KEPT.counts) == list(WORKLOADS)


def test_the_counts_are_of_the_libraries_that_the_lock_file_names(countable):
    assert KEPT.libraries == counts.libraries(), "other versions: make instructions-update"


@pytest.mark.parametrize("name", WORKLOADS)
def test_no_workload_takes_more_instructions_than_its_kept_count_allows(found, name):
    kept = KEPT.counts[name]
    assert not counts.grown(kept, found[name]), (
        f"{found[name]} instructions per event, {found[name] / kept - 1:+.1%}; "
        "where it is meant: make instructions-update"
    )


def test_a_function_that_does_its_work_twice_for_each_tenth_event_is_found(found):
    slower = counts.count("-c", TWICE_IN_TEN.format(name=ENCODE))
    assert counts.grown(found[ENCODE], slower)


def test_a_program_that_fails_is_an_error_and_no_count(countable):
    with pytest.raises(RuntimeError, match="no such workload"):
        counts.count("-c", "raise SystemExit('no such workload')")


@pytest.mark.parametrize(("found_now", "is_too_much"), [(1050, False), (1051, True), (900, False)])
def test_five_per_cent_more_is_tolerated_and_no_more(found_now, is_too_much):
    assert counts.grown(1000, found_now) is is_too_much
