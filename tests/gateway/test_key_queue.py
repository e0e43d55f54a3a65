"""The queue keeps each key's order, and lets a key wait without the others."""

import math

import pytest

from gateway.delivery import Delivery
from gateway.key_queue import KeyQueue
from tests.helpers import make_event


def delivery(number, key, attempts=0, sequence=0):
    made = Delivery((make_event(number, source=key),), lambda _: None)
    made.attempts = attempts
    made.sequence = sequence
    return made


def ids(deliveries):
    return [int(delivery.events[0].id) for delivery in deliveries]


@pytest.fixture
def queue():
    return KeyQueue()


def put(queue, *numbered):
    queue.put([delivery(number, key) for number, key in numbered])


def take(queue, limit=100):
    deliveries, keys = queue.take(limit)
    return ids(deliveries), keys


def test_what_waits_goes_as_one_list_and_its_keys_are_under_way(queue):
    put(queue, (1, "/a"), (2, "/b"), (3, "/a"))
    assert take(queue) == ([1, 2, 3], {"/a", "/b"})
    assert take(queue) == ([], set())


def test_no_more_than_the_limit_goes(queue):
    put(queue, (1, "/a"), (2, "/b"), (3, "/c"))
    assert take(queue, 2)[0] == [1, 2]
    assert take(queue, 2)[0] == [3]


def test_a_key_under_way_holds_back_its_own_until_its_turn_ends(queue):
    put(queue, (1, "/a"))
    _, keys = take(queue)
    put(queue, (2, "/a"), (3, "/b"), (4, "/a"))
    assert take(queue)[0] == [3]
    put(queue, (5, "/c"), (6, "/a"))
    queue.end_turn(keys)
    assert take(queue)[0] == [2, 4, 5, 6]


def test_what_comes_again_goes_before_what_waited_behind_it(queue):
    put(queue, (1, "/a"), (2, "/a"))
    taken, keys = queue.take(100)
    put(queue, (3, "/a"))
    assert take(queue)[0] == []
    queue.again("/a", taken)
    queue.end_turn(keys)
    assert take(queue)[0] == [1, 2, 3]


def test_a_parked_key_waits_with_all_that_is_behind_it(queue):
    put(queue, (1, "/a"), (2, "/b"))
    taken, _ = queue.take(100)
    queue.again("/a", taken[:1])
    queue.park("/a", 10.0)
    queue.again("/b", taken[1:])
    queue.park("/b", 5.0)
    put(queue, (3, "/a"), (4, "/b"), (5, "/c"))
    assert take(queue)[0] == [5]
    assert (queue.next_due, queue.has_ready, queue.has_any) == (5.0, False, True)
    queue.unpark(7.0)
    assert take(queue)[0] == [2, 4]
    assert queue.next_due == 10.0
    queue.unpark(math.inf)
    assert take(queue)[0] == [1, 3]
    assert (queue.next_due, queue.has_any) == (math.inf, False)


def test_keys_due_at_the_same_moment_need_no_order(queue):
    for key in ("/b", "/a"):
        put(queue, (1, key))
        taken, _ = queue.take(1)
        queue.again(key, taken)
        queue.park(key, 1.0)
    queue.unpark(1.0)
    assert sorted(take(queue)[1]) == ["/a", "/b"]


def test_one_that_has_not_failed_is_taken_before_one_that_has(queue):
    queue.put([delivery(1, "/a", attempts=1), delivery(2, "/a"), delivery(3, "/b")])
    one, keys = queue.take_one(0.0)
    assert (ids(one), keys) == ([3], {"/b"})
    assert ids(queue.take_one(0.0)[0]) == [1]
    assert queue.take_one(0.0) == ([], set())  # 2 is behind 1


def test_one_of_a_parked_key_is_taken_when_there_is_no_other(queue):
    put(queue, (1, "/a"), (2, "/a"))
    taken, _ = queue.take(100)
    queue.again("/a", taken)
    queue.park("/a", 10.0)
    one, keys = queue.take_one(0.0)
    assert (ids(one), keys) == ([1], {"/a"})
    assert queue.next_due == math.inf
    queue.end_turn(keys)
    assert take(queue)[0] == [2]


def park(queue, number, key, due, not_before):
    put(queue, (number, key))
    taken, _ = queue.take(100)
    queue.again(key, taken)
    queue.park(key, due, not_before)


def test_no_wait_ends_before_it_may(queue):
    park(queue, 1, "/a", math.inf, 20.0)
    park(queue, 2, "/b", 30.0, 5.0)
    park(queue, 3, "/c", 40.0, 15.0)
    assert queue.next_allowed == 5.0
    assert queue.take_one(4.0) == ([], set())
    assert ids(queue.take_one(16.0)[0]) == [2]
    assert ids(queue.take_one(16.0)[0]) == [3]
    assert queue.take_one(16.0) == ([], set())


def test_waits_are_cut_short_as_far_as_they_may(queue):
    park(queue, 1, "/a", math.inf, 20.0)
    park(queue, 2, "/b", 30.0, 5.0)
    park(queue, 3, "/c", math.inf, 0.0)
    queue.hasten(10.0)
    assert sorted(take(queue)[0]) == [2, 3]
    assert queue.next_due == 20.0
    queue.unpark(20.0)
    assert take(queue)[0] == [1]
    assert queue.next_allowed == 0.0


def test_late_waits_can_be_removed(queue):
    for number, key, due in ((1, "/a", 10.0), (2, "/b", 20.0), (3, "/c", 30.0)):
        put(queue, (number, key))
        taken, _ = queue.take(1)
        queue.again(key, taken)
        queue.park(key, due)
    put(queue, (4, "/b"))
    queue.take(1)  # it goes behind 2
    assert sorted(ids(queue.remove_late(15.0))) == [2, 3, 4]
    queue.unpark(math.inf)
    assert take(queue)[0] == [1]


def test_what_is_wanted_is_removed_from_wherever_it_waits(queue):
    put(queue, (1, "/a"), (2, "/b"))
    taken, _ = queue.take(100)
    queue.again("/b", taken[1:])
    queue.park("/b", 10.0)
    put(queue, (3, "/a"), (4, "/b"))
    queue.take(100)
    put(queue, (5, "/c"), (6, "/d"))
    removed = queue.remove(lambda delivery: int(delivery.events[0].id) % 2 == 0)
    assert sorted(ids(removed)) == [2, 4, 6]
    queue.unpark(math.inf)
    queue.end_turn({"/a"})
    assert sorted(take(queue)[0]) == [3, 5]


def test_what_waits_behind_a_removed_one_can_be_removed_with_it(queue):
    put(queue, (1, "/a"), (2, "/a"), (3, "/b"))
    taken, _ = queue.take(100)
    queue.again("/a", taken[:2])
    queue.park("/a", 10.0)
    queue.end_turn({"/b"})
    put(queue, (4, "/b"), (5, "/a"), (6, "/a"))
    removed = queue.remove_from(lambda delivery: delivery.events[0].id in {"2", "6"})
    assert ids(removed) == [2, 5, 6]
    queue.unpark(math.inf)
    assert take(queue)[0] == [1, 4]


def test_everything_that_waits_is_listed_in_the_order_of_its_key(queue):
    put(queue, (1, "/a"))
    queue.take(1)
    put(queue, (2, "/a"), (3, "/b"))
    queue.take(1)
    put(queue, (4, "/a"), (5, "/b"))
    assert ids(queue.all()) == [2, 4, 5]
