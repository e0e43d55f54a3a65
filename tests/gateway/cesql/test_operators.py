"""Operators against the semantics of 32-bit integers and the casting rules of 3.7."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindings.event import Event
from gateway.cesql import compile_expression

EVENT = Event(id="1", source="/s", type="t", extensions={"n": 3, "b": True, "s": "3"})
INT_MIN, INT_MAX = -(2**31), 2**31 - 1
INTEGERS = (
    st.integers(INT_MIN, INT_MAX)
    | st.integers(-5, 5)
    | st.sampled_from([INT_MIN, INT_MAX, INT_MIN + 1])
)


def evaluate(text):
    result = compile_expression(text).evaluate(EVENT)
    return result.value, [error.kind.value for error in result.errors]


def reference(symbol, x, y):
    """Return value and errors: exact arithmetic, truncated division, else zero."""
    if symbol in "/%":
        if y == 0:
            return 0, ["math"]
        quotient = math.trunc(Fraction(x, y))
        exact = quotient if symbol == "/" else x - y * quotient
    else:
        exact = {"+": x + y, "-": x - y, "*": x * y}[symbol]
    return (exact, []) if INT_MIN <= exact <= INT_MAX else (0, ["math"])


@given(INTEGERS, st.sampled_from("+-*/%"), INTEGERS)
def test_arithmetic_follows_the_reference(x, symbol, y):
    assert evaluate(f"{x} {symbol} {y}") == reference(symbol, x, y)


@given(INTEGERS)
def test_minus_and_abs_follow_the_reference(x):
    assert evaluate(f"-({x})") == ((0, ["math"]) if x == INT_MIN else (-x, []))
    assert evaluate(f"ABS({x})") == ((INT_MAX, ["math"]) if x == INT_MIN else (abs(x), []))


@given(INTEGERS, INTEGERS)
def test_comparisons_follow_the_reference(x, y):
    expected = {
        "=": x == y,
        "!=": x != y,
        "<>": x != y,
        "<": x < y,
        "<=": x <= y,
        ">": x > y,
        ">=": x >= y,
    }
    assert {symbol: evaluate(f"{x} {symbol} {y}") for symbol in expected} == {
        symbol: (result, []) for symbol, result in expected.items()
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-7 / 2", -3),
        ("7 / -2", -3),
        ("-7 / -2", 3),
        ("-7 % 3", -1),
        ("7 % -3", 1),
        ("-7 % -3", -1),
    ],
)
def test_division_truncates_and_the_remainder_has_the_sign_of_the_dividend(text, expected):
    assert evaluate(text) == (expected, [])


@pytest.mark.parametrize(
    ("text", "value", "errors"),
    [
        # 3.7: the right side's type is what the left side of = is cast to.
        ("TRUE = 'TRUE'", False, []),
        ("TRUE = 'true'", True, []),
        ("'TRUE' = TRUE", True, []),
        ("'+5' = 5", True, []),
        ("5 = '+5'", False, []),
        ("2 = TRUE", True, []),
        ("TRUE = 2", False, []),
        ("TRUE = 1", True, []),
        ("'x' = 1", False, ["cast"]),
        ("'x' != 1", False, ["cast"]),
        ("1 = 'x'", False, []),
        ("n = s", True, []),
        ("s = n", True, []),
        ("n = b", True, []),
        ("b = n", False, []),
        ("s = b", False, ["cast"]),
        ("'abc' = 'ABC'", False, []),
        # There is no order of texts.
        ("'a' < 'b'", False, ["cast", "cast"]),
        ("'2' < '10'", True, []),
        ("TRUE > FALSE", True, []),
        ("'x' AND TRUE", False, ["cast"]),
        ("'x' OR TRUE", False, ["cast"]),
        ("1 AND 'TRUE'", True, []),
        ("NOT 'x'", False, ["cast"]),
        ("NOT 10", False, []),
        ("NOT 0", True, []),
        ("-'x'", 0, ["cast"]),
        ("'x' + 1", 0, ["cast"]),
        # 3.4.5: IN casts to the left side's type, and = stops at the first that fits.
        ("1 IN ('x', '1')", True, ["cast"]),
        ("1 NOT IN ('x', '1')", False, ["cast"]),
        ("1 IN ('x')", False, ["cast"]),
        ("1 NOT IN ('x')", True, ["cast"]),
        ("1 IN ('1', 'x')", True, []),
        ("s IN (3)", True, []),
        ("s IN (TRUE, 4)", False, []),
        ("n IN (s)", True, []),
        ("n IN (1, 2)", False, []),
        ("b IN ('yes', 'TRUE')", True, ["cast"]),
        ("'x' IN ('y', id)", False, []),
        ("b LIKE 't%'", True, []),
        ("n LIKE '_'", True, []),
        ("n NOT LIKE '_'", False, []),
    ],
)
def test_casts(text, value, errors):
    assert evaluate(text) == (value, errors)
