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


steps = st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.booleans()), max_size=60)
"""Of each: how late we look, as a part of the pause; whether we then write, and hear, by chance."""


@given(st.sampled_from(INTERVALS), steps)
def test_our_packets_are_never_further_apart_than_the_interval(interval, steps):
    line = Timeline(interval)
    for late, writes, hears in steps:
        before = line.sent
        if line.look(late * line.keep_alive.pause) is Due.GIVE_UP:
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
    assert interval - line.keep_alive.pause <= at + offset <= interval


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


def test_who_was_suspended_reads_before_it_gives_up():
    line = Timeline(1)
    assert line.looks(1) == [(0.75, Due.PING)]
    assert line.look(3600) is not Due.GIVE_UP
    line.heard = line.now
    assert line.looks(0.5) == []
    assert line.looks(10)[-1][1] is Due.GIVE_UP


def test_an_interval_of_nothing_turns_it_off():
    line = Timeline(0)
    assert line.keep_alive.pause > 0
    assert line.looks(1000) == []
