"""The pace of a webhook's deliveries, with a clock of the test's own."""

import pytest

from gateway.sinks.http.pace import Pace


def sent(pace, until, step, wanted=10**9):
    """Return the times at which requests go when someone asks every `step` seconds."""
    times, now = [], 0.0
    while now < until:
        for _ in range(pace.room(wanted, now)):
            pace.take(now)
            times.append(now)
        now += step
    return times


def most_in_a_minute(times):
    most, first = 0, 0
    for last, now in enumerate(times):
        while times[first] < now - 60:
            first += 1
        most = max(most, last - first + 1)
    return most


# WH-RAT-006
@pytest.mark.parametrize("step", [0.001, 0.05, 0.7])
@pytest.mark.parametrize("rate", [1, 2, 7, 60, 100, 1000, 50_000])
def test_no_window_of_a_minute_holds_more_than_the_rate(rate, step):
    pace = Pace()
    pace.limit(rate)
    assert most_in_a_minute(sent(pace, 180 if rate < 1000 else 70, step)) <= rate


@pytest.mark.parametrize("rate", [1, 60, 1000])
def test_the_rate_is_used_nearly_whole(rate):
    pace = Pace()
    pace.limit(rate)
    assert len(sent(pace, 600, 0.01)) >= 10 * rate * 0.98


def test_requests_after_a_rest_do_not_come_in_a_burst():
    pace = Pace()
    pace.limit(60)
    assert pace.room(100, 0.0) == 1
    pace.take(0.0)
    assert pace.room(100, 1000.0) == 1


def test_without_a_limit_everything_goes():
    pace = Pace()
    assert pace.room(1000, 0.0) == 1000
    pace.limit(1)
    pace.take(0.0)
    assert pace.room(5, 1.0) == 0
    pace.limit(None)
    assert pace.room(5, 1.0) == 5
