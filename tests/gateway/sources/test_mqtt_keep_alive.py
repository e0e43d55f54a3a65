"""The keep-alive of a client, MQTT 5 and 3.1.1 section 3.1.2.10; each time here is made up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sources.mqtt.keep_alive import Due, KeepAlive

INTERVALS = [1, 2, 3, 30, 65535]


class Timeline:
    """A client that looks when it should, and what it wrote and heard."""

    def __init__(self, interval):
        self.keep_alive = KeepAlive(interval)
        self.now = self.sent = self.heard = 1000.0  # CONNACK has come

    def look(self, seconds):
        self.now += seconds
        due = self.keep_alive.look(self.now, self.sent, self.heard)
        if due is Due.PING:
            self.sent = self.now
        return due

    def looks(self, seconds):
        """Look again and again for that long; return what was not `NOTHING`, with its time."""
        begin, found = self.now, []
        while self.now - begin < seconds:
            due = self.look(self.keep_alive.pause)
            if due is not Due.NOTHING:
                found.append((self.now - begin, due))
            if due is Due.GIVE_UP:
                break
        return found


RARELY = st.integers(0, 9).map(lambda number: number == 0)
STEPS = st.lists(st.tuples(st.sampled_from([0.1, 0.9, 1, 2]), RARELY, st.booleans()), min_size=20)
"""When we look, in pauses; whether we write something else then, and have heard something."""


@given(st.sampled_from(INTERVALS), STEPS)
def test_our_packets_are_no_further_apart_than_the_interval_though_looks_are_late(interval, steps):
    line = Timeline(interval)
    for pauses, writes, hears in steps:
        before = line.sent
        if line.look(pauses * line.keep_alive.pause) is Due.GIVE_UP:
            break
        assert line.now - before <= interval + 1e-6
        line.sent = line.now if writes else line.sent
        line.heard = line.now if hears else line.heard


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("late", [0, 0.5, 1])
def test_a_ping_leaves_before_the_interval_ends_and_no_earlier_than_needed(interval, late):
    line = Timeline(interval)
    offset = late * line.keep_alive.pause
    assert line.look(offset) is Due.NOTHING
    at, due = line.looks(interval)[0]
    assert due is Due.PING
    assert interval - 2 * line.keep_alive.pause <= at + offset < interval


@pytest.mark.parametrize("interval", INTERVALS[:-1])
@pytest.mark.parametrize("writes", [False, True])
def test_a_silent_broker_is_given_up_an_interval_after_the_ping(interval, writes):
    line = Timeline(interval)
    asked = None
    while (due := line.look(line.keep_alive.pause)) is not Due.GIVE_UP:
        if due is Due.PING and asked is None:
            asked = line.now
        if writes:  # that the socket takes what we write says nothing
            line.sent = line.now
    assert interval <= line.now - asked <= interval + line.keep_alive.pause
    assert asked - 1000.0 <= interval


@pytest.mark.parametrize("interval", INTERVALS[:-1])
def test_a_broker_that_says_anything_is_kept(interval):
    """PINGRESP may stand behind a backlog that takes longer than the interval."""
    line = Timeline(interval)
    for _ in range(100):
        assert line.look(line.keep_alive.pause) is not Due.GIVE_UP
        line.heard = line.now


def test_what_is_due_is_seen_within_a_second():
    assert [KeepAlive(interval).pause for interval in INTERVALS] == [0.25, 0.5, 0.75, 1, 1]
