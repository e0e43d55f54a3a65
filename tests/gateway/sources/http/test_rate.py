"""The rate that a webhook sender is held to, with a clock of the test's own."""

import pytest

from gateway.sources.http import rate
from gateway.sources.http.rate import RateLimit


@pytest.mark.parametrize("per_minute", [1, 7, 60, 1000])
def test_a_sender_that_keeps_to_its_rate_is_never_refused(per_minute):
    limit = RateLimit(per_minute)
    for number in range(5 * per_minute):
        assert limit.wait(b"a", number * 60.0 / per_minute + 1e-6 * number) == 0


@pytest.mark.parametrize("per_minute", [1, 7, 60])
def test_a_burst_of_a_minute_is_taken_and_no_more(per_minute):
    limit = RateLimit(per_minute)
    taken = [limit.wait(b"a", 100.0) for _ in range(per_minute + 3)]
    assert taken[:per_minute] == [0] * per_minute
    assert min(taken[per_minute:]) >= 1


@pytest.mark.parametrize("per_minute", [1, 7, 60, 600])
def test_a_sender_that_waits_as_told_is_taken(per_minute):
    limit = RateLimit(per_minute)
    now = 0.0
    for _ in range(per_minute * 2):
        wait = limit.wait(b"a", now)
        if wait:
            now += wait
            assert limit.wait(b"a", now) == 0


def test_refused_requests_do_not_prolong_the_wait():
    limit = RateLimit(1)
    assert limit.wait(b"a", 0.0) == 0
    assert [limit.wait(b"a", float(now)) for now in (1, 30, 59)] == [59, 30, 1]
    assert limit.wait(b"a", 60.0) == 0


def test_origins_are_remembered_up_to_a_limit_and_the_quietest_is_forgotten(monkeypatch):
    monkeypatch.setattr(rate, "_MAX_ORIGINS", 2)
    limit = RateLimit(1)
    assert [limit.wait(origin, 0.0) for origin in (b"a", b"b")] == [0, 0]
    assert limit.wait(b"a", 1.0) == 59
    assert limit.wait(b"c", 2.0) == 0  # b is forgotten
    assert limit.wait(b"a", 3.0) == 57
    assert limit.wait(b"b", 4.0) == 0


def test_names_that_are_longer_than_any_in_dns_take_no_more_memory():
    limit = RateLimit(1)
    assert limit.wait(b"a" * 60_000 + b"1", 0.0) == 0
    assert limit.wait(b"a" * 60_000 + b"2", 0.0) == 60
    assert sum(map(len, limit._buckets)) < 300
