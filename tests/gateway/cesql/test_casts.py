"""The six casts of 3.7."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cesql import ErrorKind, EvaluationError
from gateway.cesql.casts import ZERO, cast, to_boolean, to_integer, to_string


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("-1", -1),
        ("+7", 7),
        ("007", 7),
        ("-0", 0),
        ("2147483647", 2**31 - 1),
        ("-2147483648", -(2**31)),
    ],
)
def test_text_that_is_a_number_casts_to_it(text, number):
    assert to_integer(text) == number


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "1.0", "1e3", "0x10", "1_000", "--1", "+-1", "+", "ABC", "true", "٣", "1\n",
     "2147483648", "-2147483649", "9" * 5000],
)  # fmt: skip
def test_text_that_is_no_number_of_32_bits_does_not_cast(text):
    with pytest.raises(EvaluationError) as caught:
        to_integer(text)
    assert caught.value.kind is ErrorKind.CAST
    assert len(str(caught.value)) < 250


def test_thousands_of_leading_zeros_cast():
    assert to_integer("-" + "0" * 5000 + "5") == -5


@pytest.mark.parametrize(
    ("value", "expected"),
    [("true", True), ("TRUE", True), ("False", False), (0, False), (-50, True)],
)
def test_truth(value, expected):
    assert to_boolean(value) is expected


@pytest.mark.parametrize("text", ["", "yes", "1", " true", "tru\u0435"])  # the last is a Cyrillic e
def test_text_that_is_no_truth_does_not_cast(text):
    with pytest.raises(EvaluationError) as caught:
        to_boolean(text)
    assert caught.value.kind is ErrorKind.CAST


def test_text_of_values():
    assert (to_string(True), to_string(False), to_string(-5), to_string("x")) == (
        "true",
        "false",
        "-5",
        "x",
    )


def test_truth_as_a_number_is_an_integer_and_no_boolean():
    assert type(to_integer(True)) is int
    assert type(cast(True, int)) is int


@given(st.integers(-(2**31), 2**31 - 1) | st.booleans())
def test_text_casts_back(value):
    assert cast(to_string(value), type(value)) == value
    assert cast(value, type(value)) is value


def test_zero_values():
    assert {str: "", int: 0, bool: False} == ZERO
