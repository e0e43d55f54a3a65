"""Errors carry what metrics count and what the sender is told."""

import pytest

from bindings.errors import (
    CloudEventError,
    InvalidEventError,
    NotAnEventError,
    TooLargeError,
    TooManyEventsError,
    UnknownEncodingError,
    excerpt,
)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InvalidEventError("x"), "invalid_event"),
        (InvalidEventError("x", reason="json"), "json"),
        (UnknownEncodingError("x"), "unknown_encoding"),
        (NotAnEventError("x"), "not_an_event"),
        (TooLargeError("x", limit=7), "too_large"),
    ],
)
def test_every_error_has_a_reason_and_the_one_root(error, reason):
    assert isinstance(error, CloudEventError)
    assert error.reason == reason
    assert str(error) == "x"


def test_a_message_that_is_no_event_is_of_an_unknown_encoding_too():
    assert isinstance(NotAnEventError("x"), UnknownEncodingError)


def test_too_many_events_are_counted_as_too_large_and_the_limit_is_named():
    error = TooManyEventsError(1000)
    assert (error.reason, error.limit) == ("too_large", 1000)
    assert str(error) == "more than 1000 events in a batch"


def test_an_error_names_the_attribute_or_the_limit():
    assert InvalidEventError("x", attribute="time").attribute == "time"
    assert InvalidEventError("x").attribute is None
    assert TooLargeError("x", limit=7).limit == 7


def test_an_excerpt_is_at_most_200_characters():
    assert excerpt("a\n") == r"'a\n'"
    assert len(excerpt("x" * 198)) == 200
    assert len(excerpt("x" * 199)) == 200
    assert excerpt("x" * 1000).endswith("...")
