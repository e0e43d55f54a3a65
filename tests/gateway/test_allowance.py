"""An allowance grows at its rate, and no further than a burst."""

from types import SimpleNamespace

import pytest

from gateway import allowance
from gateway.allowance import Allowance


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(allowance, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_without_a_rate_everything_may_go(clock):
    allowed = Allowance(None, 0.1)
    allowed.spend(1_000_000)
    assert allowed.of(1_000_000) == 1_000_000


def test_as_many_may_go_as_the_rate_has_brought(clock):
    allowed = Allowance(128.0, 0.125)
    assert allowed.of(50) == 0
    clock.now += 0.0625
    assert allowed.of(50) == 8
    assert allowed.of(3) == 3
    allowed.spend(6)
    assert allowed.of(50) == 2
    clock.now += 0.0078125
    assert allowed.of(50) == 3


def test_no_more_than_a_burst_is_saved_up(clock):
    allowed = Allowance(100.0, 0.1)
    clock.now += 3600
    assert allowed.of(5000) == 10
    allowed.spend(10)
    assert allowed.of(5000) == 0


def test_a_slow_rate_allows_one_in_the_end(clock):
    allowed = Allowance(0.5, 0.1)
    clock.now += 1.5
    assert allowed.of(5) == 0
    clock.now += 0.5
    assert allowed.of(5) == 1
