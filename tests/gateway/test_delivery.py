"""Settlement: exactly once, with the worst that became of any part."""

import itertools

import pytest

from bindings.event import Event
from gateway.delivery import (
    ACCEPTED,
    BUSY,
    DRAINING,
    Delivery,
    ListedDelivery,
    Outcome,
    Reason,
    Settlement,
    settle_all,
)

EVENTS = [Event(id=str(number), source="/s", type="t") for number in range(3)]
REJECTED = Settlement(Outcome.REJECTED, Reason.SINK_REFUSED)
RELEASED = Settlement(Outcome.RELEASED, Reason.SINK_DOWN, 2.0, "no answer")


def make(events=EVENTS):
    answers = []
    return Delivery(events, answers.append), answers


def test_settlement_reaches_the_source_as_it_is():
    delivery, answers = make()
    assert not delivery.settled
    delivery.settle(RELEASED)
    assert delivery.settled
    assert answers == [RELEASED]


def test_second_settlement_is_a_bug_and_reaches_nobody():
    delivery, answers = make()
    delivery.settle(ACCEPTED)
    with pytest.raises(RuntimeError, match="exactly once"):
        delivery.settle(RELEASED)
    assert answers == [ACCEPTED]


def test_source_may_look_at_its_delivery_while_it_is_answered():
    seen = []
    delivery = Delivery(EVENTS, lambda _: seen.append(delivery.settled))
    delivery.settle(ACCEPTED)
    assert seen == [True]


def test_observer_is_told_before_the_source():
    order = []
    delivery = Delivery(EVENTS, lambda settlement: order.append(("source", settlement)))
    delivery.observer = lambda observed, settlement: order.append((observed, settlement))
    delivery.settle(BUSY)
    assert order == [((delivery,), BUSY), ("source", BUSY)]


def test_observers_count_what_is_settled_alike_each_its_own_in_one_go():
    order = []
    deliveries = [Delivery(EVENTS, order.append) for _ in range(6)]

    def first(observed, settlement):
        order.append(("first", list(observed), settlement))

    def second(observed, settlement):
        order.append(("second", list(observed), settlement))

    observers = (None, first, first, None, second, first)
    for delivery, observer in zip(deliveries, observers, strict=True):
        delivery.observer = observer
    settle_all(deliveries, BUSY)
    assert order == [
        ("first", deliveries[1:3], BUSY),
        ("second", deliveries[4:5], BUSY),
        ("first", deliveries[5:], BUSY),
        *[BUSY] * 6,
    ]
    assert all(delivery.settled for delivery in deliveries)


def test_source_that_takes_lists_is_told_of_each_run_at_once_and_in_order():
    told = []

    def first(deliveries, settlement):
        told.append(("first", list(deliveries), settlement))

    def second(deliveries, settlement):
        told.append(("second", list(deliveries), settlement))

    one, two, three, four, five = (
        ListedDelivery(EVENTS, callback) for callback in (first, first, second, first, first)
    )
    plain = Delivery(EVENTS, lambda settlement: told.append(("plain", settlement)))
    settle_all([one, two, three, plain, four, five], BUSY)
    assert told == [
        ("first", [one, two], BUSY),
        ("second", [three], BUSY),
        ("plain", BUSY),
        ("first", [four, five], BUSY),
    ]
    assert all(delivery.settled for delivery in (one, two, three, four, five, plain))


def test_source_that_takes_lists_is_told_of_one_as_a_list():
    told = []
    delivery = ListedDelivery(EVENTS, lambda *answer: told.append(answer))
    delivery.settle(RELEASED)
    assert told == [((delivery,), RELEASED)]
    with pytest.raises(RuntimeError, match="exactly once"):
        settle_all([delivery], ACCEPTED)


def test_one_callback_of_several_plain_deliveries_is_called_for_each():
    answers = []
    answer = answers.append
    settle_all([Delivery(EVENTS, answer) for _ in range(3)], BUSY)
    assert answers == [BUSY] * 3


def test_nothing_is_settled_by_an_empty_list():
    settle_all([], ACCEPTED)


def test_none_of_a_list_is_settled_twice():
    one, answers = make()
    with pytest.raises(RuntimeError, match="exactly once"):
        settle_all([one, one], ACCEPTED)
    listed = ListedDelivery(EVENTS, lambda *answer: answers.append(answer))
    with pytest.raises(RuntimeError, match="exactly once"):
        settle_all([listed, listed], ACCEPTED)
    other, _ = make()
    other.settle(ACCEPTED)
    with pytest.raises(RuntimeError, match="exactly once"):
        settle_all([other], ACCEPTED)
    assert answers == []


def test_parts_hold_their_events_and_the_time_of_receipt():
    delivery, _ = make()
    delivery.received_at = 12.5
    parts = delivery.split([EVENTS[:2], EVENTS[2:]])
    assert [part.events for part in parts] == [EVENTS[:2], EVENTS[2:]]
    assert [part.received_at for part in parts] == [12.5, 12.5]
    assert [part.attempts for part in parts] == [0, 0]


def test_whole_settles_with_its_last_part():
    delivery, answers = make()
    first, second, third = delivery.split([[event] for event in EVENTS])
    second.settle(ACCEPTED)
    third.settle(ACCEPTED)
    assert answers == []
    assert not delivery.settled
    first.settle(ACCEPTED)
    assert answers == [ACCEPTED]
    assert delivery.settled


@pytest.mark.parametrize(
    "settlements", list(itertools.product([ACCEPTED, REJECTED, RELEASED], repeat=3)), ids=str
)
def test_worst_part_wins_in_whatever_order(settlements):
    delivery, answers = make()
    for part, settlement in zip(
        delivery.split([[event] for event in EVENTS]), settlements, strict=True
    ):
        part.settle(settlement)
    worst = max(settlement.outcome for settlement in settlements)
    assert answers == [next(s for s in settlements if s.outcome == worst)]


def test_reason_of_a_success_survives_a_plain_success():
    delivery, answers = make()
    filtered = Settlement(Outcome.ACCEPTED, Reason.FILTERED)
    first, second = delivery.split([EVENTS[:1], EVENTS[1:]])
    first.settle(ACCEPTED)
    second.settle(filtered)
    assert answers == [filtered]


def test_parts_may_be_split_again():
    delivery, answers = make()
    first, second = delivery.split([EVENTS[:2], EVENTS[2:]])
    inner = first.split([EVENTS[:1], EVENTS[1:2]])
    second.settle(ACCEPTED)
    inner[0].settle(RELEASED)
    assert answers == []
    inner[1].settle(REJECTED)
    assert answers == [RELEASED]


def test_part_that_settles_twice_is_a_bug():
    delivery, answers = make()
    first, _ = delivery.split([EVENTS[:1], EVENTS[1:]])
    first.settle(ACCEPTED)
    with pytest.raises(RuntimeError, match="exactly once"):
        first.settle(ACCEPTED)
    assert answers == []


def test_released_is_the_worst_and_accepted_the_best():
    assert Outcome.ACCEPTED < Outcome.REJECTED < Outcome.RELEASED


def test_refusals_of_the_gateway_ask_to_repeat_later():
    for settlement, reason in ((BUSY, Reason.BUSY), (DRAINING, Reason.DRAINING)):
        assert settlement.outcome is Outcome.RELEASED
        assert settlement.reason is reason
        assert settlement.retry_after
