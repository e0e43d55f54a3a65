"""A batch knows what of its list has not ended."""

from gateway.batch import Batch
from gateway.delivery import Delivery, Failure, Outcome, Reason
from tests.helpers import make_event


def batch_of(*keys):
    deliveries = [
        Delivery([make_event(number, source=f"/{key}")], lambda _: None)
        for number, key in enumerate(keys)
    ]
    return Batch(deliveries, {f"/{key}" for key in keys}, is_probe=False), deliveries


def failure(position):
    return Failure(position, Outcome.RELEASED, Reason.TIMEOUT, detail=f"was {position}")


def test_what_has_ended_is_taken_out_and_the_rest_keeps_its_order():
    batch, all_ = batch_of("a", "b", "c", "d", "e")
    assert batch.end([3, 1]) == ([all_[3], all_[1]], ["/d", "/b"])
    assert batch.deliveries == [all_[0], all_[2], all_[4]]
    assert batch.keys == {"/a", "/c", "/e"}
    assert batch.end([4]) == ([all_[4]], ["/e"])
    assert batch.deliveries == [all_[0], all_[2]]


def test_a_key_is_through_when_nothing_of_it_is_left():
    batch, all_ = batch_of("a", "a", "b")
    assert batch.end([0]) == ([all_[0]], [])
    assert batch.keys == {"/a", "/b"}
    assert batch.end([1]) == ([all_[1]], ["/a"])


def test_nothing_ends_twice():
    batch, all_ = batch_of("a", "b")
    assert batch.end([0, 0]) == ([all_[0]], ["/a"])
    assert batch.end([0]) == ([], [])
    assert batch.deliveries == [all_[1]]


def test_failures_are_told_by_their_place_among_what_is_left():
    batch, _ = batch_of("a", "b", "c", "d")
    assert batch.remaining([failure(2)]) == [failure(2)]
    batch.end([0, 2])
    left = batch.remaining([failure(1), failure(2), failure(3)])
    assert [(each.position, each.detail) for each in left] == [(0, "was 1"), (1, "was 3")]


def test_a_list_straggles_when_the_lesser_part_is_left():
    batch, _ = batch_of("a", "b", "c", "d", "e")
    assert not batch.is_straggling
    batch.end([0, 1])
    assert not batch.is_straggling
    batch.end([2])
    assert batch.is_straggling
