"""Timestamps by RFC 3339."""

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindings.timestamp import is_timestamp, is_usual_timestamp
from tests.helpers import examples


@pytest.mark.parametrize("day", ["00", "01", "19", "28", "29", "30", "31", "32"])
@pytest.mark.parametrize("month", ["00", "01", "02", "04", "09", "10", "12", "13"])
@pytest.mark.parametrize("year", ["2023", "2024", "1900", "2000"])
def test_a_day_is_one_of_its_month(year, month, day):
    try:
        datetime.date(int(year), int(month), int(day))
        exists = True
    except ValueError:
        exists = False
    for tail in ("T10:00:00Z", "t10:00:00.123456+01:00", "T23:59:60Z"):
        assert is_timestamp(f"{year}-{month}-{day}{tail}") is exists


@pytest.mark.parametrize(
    "text",
    [
        # RFC 3339 section 5.8
        "1985-04-12T23:20:50.52Z", "1996-12-19T16:39:57-08:00", "1990-12-31T23:59:60Z",
        "1990-12-31T15:59:60-08:00", "1937-01-01T12:00:27.87+00:20",
    ],
)  # fmt: skip
def test_the_examples_of_the_rfc_are_timestamps(text):
    assert is_timestamp(text)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T10:00:00Z\n", "2026-01-01T10:00:00", "2026-01-01T10:00:00.Z", "",
        "2026-01-01T24:00:00Z", "2026-01-01T10:60:00Z", "2026-01-01T10:00:61Z",
        "2026-01-01T10:00:00.\u0663Z", "\u0662026-01-01T10:00:00Z", "2026-01-01 10:00:00Z",
        "2026-01-01T10:00:00+24:00", "2026-1-01T10:00:00Z", "20260101T100000Z",
    ],
)  # fmt: skip
def test_what_only_looks_like_a_timestamp_is_none(text):
    assert not is_timestamp(text)
    assert not is_usual_timestamp(text)


@settings(max_examples=examples(1000))
@given(st.datetimes(), st.data())
def test_a_usual_timestamp_is_a_timestamp_whatever_is_changed_in_it(time, data):
    text = f"{time.isoformat(timespec='milliseconds')}Z"
    assert is_timestamp(text)
    assert bool(is_usual_timestamp(text)) == (time.day <= 28)
    position = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("0123456789-:.TZtz+ \u0663\n") | st.just(""))
    changed = text[:position] + other + text[position + 1 :]
    assert is_timestamp(changed) or not is_usual_timestamp(changed)
