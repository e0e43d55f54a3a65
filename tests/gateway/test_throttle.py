"""One line per cause and interval."""

import pytest

from gateway import throttle
from gateway.throttle import Throttle


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(throttle, "time", clock)
    return clock


def test_the_first_of_each_cause_passes_and_the_rest_wait(clock):
    limit = Throttle(10)
    assert limit.pass_on("a") == ""
    assert limit.pass_on("a") is None
    assert limit.pass_on("b") == ""


def test_after_the_interval_the_line_tells_how_many_were_left_out(clock):
    limit = Throttle(10)
    limit.pass_on("a")
    limit.pass_on("a", 4)
    clock.now += 10
    assert limit.pass_on("a") == " (4 more since the last line)"
    clock.now += 10
    assert limit.pass_on("a") == ""
