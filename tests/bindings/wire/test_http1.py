"""Dates, Retry-After and heads: expected values are those of RFC 9110 and RFC 9112."""

import pytest

from bindings.wire.http1 import (
    complete_status,
    format_date,
    is_field_name,
    is_field_value,
    parse_date,
    parse_retry_after,
    reason_phrase,
    response_head,
)

EXAMPLE = 784111777.0  # RFC 9110 5.6.7: Sun, 06 Nov 1994 08:49:37 GMT


def test_date_is_written_as_in_the_rfc():
    assert format_date(EXAMPLE) == "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ],
)
def test_all_three_forms_of_a_date_are_read(text):
    assert parse_date(text, EXAMPLE) == EXAMPLE


def test_year_of_two_digits_is_at_most_fifty_years_ahead():
    assert parse_date("Tuesday, 06-Nov-74 08:49:37 GMT", EXAMPLE) < EXAMPLE
    assert parse_date("Tuesday, 06-Nov-30 08:49:37 GMT", 1.7e9) > 1.7e9


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Xyz 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
    ],
)
def test_what_is_no_date_is_none(text):
    assert parse_date(text, EXAMPLE) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("1.5", None),
        ("-1", None),
        ("٣", None),
        ("", None),
    ],
)
def test_retry_after(text, seconds):
    assert parse_retry_after(text, EXAMPLE) == seconds


def test_response_head():
    assert (
        response_head(503, [("Retry-After", "1")], 3)
        == b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 3\r\n\r\n"
    )
    assert (reason_phrase(200), reason_phrase(799)) == ("OK", "")


def test_field_names_and_values():
    assert is_field_name("X-A!")
    assert not is_field_name("")
    assert not is_field_name("a b")
    assert not is_field_name("a\r\n")
    assert is_field_value("a\tb é")
    assert is_field_value("")
    for bad in ("a\r\nb", "a\n", "\x00", " a", "€"):
        assert not is_field_value(bad)


@pytest.mark.parametrize(
    ("received", "status"),
    [
        (b"", None),
        (b"HTTP/1.1 202", None),
        (b"HTTP/1.1 202 Accepted", None),
        (b"HTTP/1.1 202 Accepted\r\n", 202),
        (b"HTTP/1.1 202\r\n", 202),
        (b"HTTP/1.0 404 \nX", 404),
        (b"HTTP/1.1 100 Continue\r\n\r\n", None),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\n", 503),
        (b"HTTP/1.1 103 E\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nX", 200),
        (b"HTTP/1.1 500 No\r\nX: HTTP/1.1 200 OK\r\n", 500),
        (b"SSH-2.0\r\n", None),
    ],
)
def test_complete_status_line_is_found(received, status):
    assert complete_status(received) == status
