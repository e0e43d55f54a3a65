"""Back-off by Knative's delivery spec, n counted from 1."""

import pytest

from gateway.retry import RetryPolicy


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("linear", [0.2, 0.4, 0.6, 0.8]),
        ("exponential", [0.4, 0.8, 1.6, 3.2]),
    ],
)
def test_back_off_counts_from_one(policy, expected):
    spec = RetryPolicy(policy=policy, delay=0.2)
    assert [spec.wait(n) for n in (1, 2, 3, 4)] == pytest.approx(expected)


def test_the_cap_bounds_every_wait():
    assert RetryPolicy(delay=0.2, cap=5).wait(10_000) == 5


def test_jitter_takes_no_wait_beyond_the_cap():
    waits = [RetryPolicy(delay=10, cap=5, jitter=0.5).wait(9) for _ in range(50)]
    assert max(waits) == 5
    assert min(waits) >= 2.5
    assert len(set(waits)) > 1


def test_a_retry_after_may_be_longer_than_the_cap():
    assert RetryPolicy(delay=1, cap=5, retry_after_max=600).wait(9, retry_after=60) == 60


def test_a_longer_retry_after_wins_up_to_its_ceiling():
    spec = RetryPolicy(delay=1, retry_after_max=30)
    assert spec.wait(1, retry_after=20) == 20
    assert spec.wait(1, retry_after=1) == 2
    assert spec.wait(1, retry_after=90) == 30


def test_a_ceiling_of_zero_ignores_retry_after():
    assert RetryPolicy(delay=1, retry_after_max=0).wait(1, retry_after=90) == 2


def test_without_jitter_two_waits_are_the_same_and_with_it_they_stay_within_its_part():
    assert RetryPolicy(delay=1).wait(3) == RetryPolicy(delay=1).wait(3)
    waits = {RetryPolicy(delay=1, jitter=0.2).wait(1) for _ in range(50)}
    assert len(waits) > 1
    assert all(1.6 <= wait <= 2.4 for wait in waits)
