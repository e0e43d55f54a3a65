"""Deduplication: what counts as a copy, when it is answered, and how long it is known."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bindings.errors import InvalidEventError
from bindings.event import Event
from gateway.dedup import Dedup, Verdict, key_of, keys_of
from gateway.delivery import ACCEPTED, BUSY, DRAINING, Outcome, Reason, Settlement
from tests.helpers import examples

NEW, SAFE, PENDING = Verdict.NEW, Verdict.DUPLICATE_SAFE, Verdict.DUPLICATE_PENDING
A, B, C, D = (key_of("/s", name) for name in "abcd")
WINDOW = 10.0


@pytest.fixture
def dedup():
    return Dedup(WINDOW, 1000)


def accept(dedup, key, now):
    assert dedup.admit(key, now) is NEW
    dedup.safe(key, now)


def test_a_copy_of_an_event_that_is_safe_is_known(dedup):
    accept(dedup, A, 1.0)
    assert dedup.admit(A, 2.0) is SAFE
    assert dedup.admit(B, 2.0) is NEW


def test_a_copy_of_an_event_under_way_is_not_yet_safe(dedup):
    assert dedup.admit(A, 1.0) is NEW
    assert dedup.admit(A, 2.0) is PENDING
    dedup.safe(A, 3.0)
    assert dedup.admit(A, 4.0) is SAFE


def test_copies_that_wait_get_what_the_original_gets(dedup):
    dead_lettered = Settlement(Outcome.ACCEPTED, Reason.DEAD_LETTERED)
    answers = []
    for key in (A, B, C, D):
        assert dedup.admit(key, 1.0) is NEW
        dedup.attach(key, answers.append)
        dedup.attach(key, answers.append)
    dedup.safe(A, 2.0)
    dedup.safe(B, 2.0, dead_lettered)
    dedup.forget(C, DRAINING)
    dedup.safe(D, 2.0)
    assert answers == [
        *[ACCEPTED] * 2,
        *[dead_lettered] * 2,
        *[DRAINING] * 2,
        *[ACCEPTED] * 2,
    ]


def test_a_copy_of_what_was_released_or_rejected_is_new(dedup):
    assert dedup.admit(A, 1.0) is NEW
    dedup.forget(A, BUSY)
    assert dedup.admit(A, 1.0) is NEW
    dedup.safe(A, 1.0)
    assert dedup.admit(A, 1.0) is SAFE


def test_a_copy_may_be_sent_again_from_within_the_answer(dedup):
    again = []
    for key in (A, B):
        dedup.admit(key, 1.0)
        dedup.attach(key, lambda _, key=key: again.append(dedup.admit(key, 1.0)))
    dedup.forget(A, BUSY)
    dedup.safe(B, 1.0)
    assert again == [NEW, SAFE]


def test_nothing_can_wait_for_an_event_that_is_not_under_way(dedup):
    accept(dedup, A, 1.0)
    for key in (A, B):
        with pytest.raises(KeyError):
            dedup.attach(key, print)


def test_an_event_under_way_is_known_however_long_it_takes(dedup):
    assert dedup.admit(A, 1.0) is NEW
    assert dedup.admit(A, 1e6) is PENDING
    dedup.safe(A, 2e6)
    assert dedup.admit(A, 2e6 + WINDOW - 1) is SAFE


@pytest.mark.parametrize("accepted_at", [0.0, 0.1, 5.0, 9.9, 10.0, 14.0])
@pytest.mark.parametrize("turned_at", [None, 10.0, 12.0, 19.9])
@pytest.mark.parametrize(
    ("age", "verdict"), [(WINDOW - 0.01, SAFE), (2 * WINDOW, NEW), (100 * WINDOW, NEW)]
)
def test_the_window_is_as_long_as_asked_and_never_twice_as_long(
    dedup, accepted_at, turned_at, age, verdict
):
    accept(dedup, A, 0.0)  # begins the first generation
    accept(dedup, B, accepted_at)
    if turned_at is not None and accepted_at < turned_at < accepted_at + age:
        dedup.admit(C, turned_at)
    assert dedup.admit(B, accepted_at + age) is verdict


def test_nothing_is_kept_when_the_window_is_over(dedup):
    for number in range(100):
        accept(dedup, key_of("/s", str(number)), 1.0)
    assert len(dedup) == 100
    dedup.admit(A, 1.0 + 2 * WINDOW)
    assert len(dedup) == 1
    assert dedup.shortened == 0


def test_beyond_the_most_entries_the_older_generation_goes_early():
    dedup = Dedup(WINDOW, 10)
    keys = [key_of("/s", str(number)) for number in range(21)]
    for key in keys[:10]:
        accept(dedup, key, 1.0)
    assert (len(dedup), dedup.shortened) == (10, 0)
    accept(dedup, keys[10], 1.0)
    assert (len(dedup), dedup.shortened) == (6, 5)
    for key in keys[11:]:
        accept(dedup, key, 1.0)
    assert (len(dedup), dedup.shortened) == (6, 15)
    assert [dedup.admit(key, 1.0) for key in keys[-5:]] == [SAFE] * 5
    assert dedup.admit(keys[0], 1.0) is NEW


def test_many_under_way_keep_to_the_most_entries_when_they_are_safe():
    dedup = Dedup(WINDOW, 10)
    keys = [key_of("/s", str(number)) for number in range(500)]
    assert [dedup.admit(key, 1.0) for key in keys] == [NEW] * 500
    assert len(dedup) == 500  # under way
    for key in keys:
        dedup.safe(key, 1.0)
    assert len(dedup) == 10
    assert dedup.shortened == 490


def test_what_is_restored_is_safe(dedup):
    dedup.restore([("/s", "a"), ("/s", "b"), ("/s", "a")], 1.0)
    assert [dedup.admit(key, 2.0) for key in (A, B, C)] == [SAFE, SAFE, NEW]
    assert dedup.admit(A, 1.0 + 2 * WINDOW) is NEW


def test_of_too_many_restored_events_the_latest_are_kept():
    dedup = Dedup(WINDOW, 4)
    dedup.restore([("/s", str(number)) for number in range(1000)], 1.0)
    assert len(dedup) <= 4
    assert [dedup.admit(key_of("/s", str(number)), 1.0) for number in (998, 999)] == [SAFE] * 2


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)


@given(texts, texts, texts, texts)
def test_two_events_have_one_key_only_if_source_and_id_are_the_same(source, id_, source2, id2):
    same = (source, id_) == (source2, id2)
    if "\0" not in source + source2:
        assert (key_of(source, id_) == key_of(source2, id2)) is same


def test_source_and_id_can_not_flow_into_each_other():
    assert key_of("/a", "bc") != key_of("/ab", "c")
    assert key_of("/a", "b") != key_of("b", "/a")


@pytest.mark.parametrize("attribute", ["source", "id"])
def test_no_event_holds_the_separator(attribute):
    with pytest.raises(InvalidEventError):
        Event(**{"id": "1", "source": "/s", "type": "t", attribute: "a\0b"})


def test_keys_of_a_list_are_the_keys_of_its_events():
    events = [Event(id=id_, source=source, type="t") for source in ("/s", "/t") for id_ in "aé"]
    assert keys_of(events) == [key_of(event.source, event.id) for event in events]
    assert {len(key) for key in keys_of(events)} == {12}


names = st.sampled_from([str(number) for number in range(12)])


class AnyHistory(RuleBasedStateMachine):
    """A route's window against a list of all that ever happened."""

    @initialize(most=st.sampled_from([2, 6, 1000]))
    def begin(self, most):
        self.most = most
        self.dedup = Dedup(WINDOW, most)
        self.now = 0.0
        self.safe_at = {}  # name -> when it became safe last
        self.order = []  # names as they became safe
        self.waiting = {}  # name -> numbers of the copies that wait
        self.copies = 0
        self.answers = {}
        self.missed = 0

    def expect(self, name, verdict):
        """Check one verdict and note what follows of it."""
        if name in self.waiting:
            assert verdict is PENDING
            number, self.copies = self.copies, self.copies + 1
            self.waiting[name].append(number)

            def on_settled(settlement):
                assert number not in self.answers
                self.answers[number] = settlement

            self.dedup.attach(key_of("/s", name), on_settled)
            return
        age = self.now - self.safe_at.get(name, -math.inf)
        if age >= 2 * WINDOW:
            assert verdict is NEW
        elif age < WINDOW:
            if verdict is NEW:
                self.missed += 1
                assert name not in self.order[-max(1, self.most // 2) :]
                assert self.missed <= self.dedup.shortened
            else:
                assert verdict is SAFE
        if verdict is NEW:
            self.waiting[name] = []
            self.safe_at.pop(name, None)  # one that was dropped early is missed once

    @rule(name=names)
    def admit(self, name):
        self.expect(name, self.dedup.admit(key_of("/s", name), self.now))

    def settled(self, names, settlement):
        for name in names:
            for number in self.waiting.pop(name):
                assert self.answers[number] is settlement
            if settlement.outcome is Outcome.ACCEPTED:
                self.safe_at[name] = self.now
                self.order.append(name)

    @rule(data=st.data())
    def safe(self, data):
        if self.waiting:
            name = data.draw(st.sampled_from(sorted(self.waiting)))
            self.dedup.safe(key_of("/s", name), self.now)
            self.settled([name], ACCEPTED)

    @rule(data=st.data())
    def forget(self, data):
        if self.waiting:
            name = data.draw(st.sampled_from(sorted(self.waiting)))
            self.dedup.forget(key_of("/s", name), BUSY)
            self.settled([name], BUSY)

    @rule(seconds=st.sampled_from([0.5, 3.0, 9.5, 10.0, 12.0, 25.0, 1000.0]))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def there_are_no_more_entries_than_asked_for(self):
        if hasattr(self, "dedup"):
            assert len(self.dedup) - len(self.waiting) <= self.most
            assert len(self.answers) + sum(map(len, self.waiting.values())) == self.copies


AnyHistory.TestCase.settings = settings(max_examples=examples(150), stateful_step_count=40)
TestAnyHistory = AnyHistory.TestCase
