"""The grammar: precedence, literals, and what is no expression."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bindings.event import Event
from gateway.cesql import ErrorKind, ParseError, compile_expression

EVENT = Event(id="42", source="/s", type="t", extensions={"1abc": "x", "android": "y", "a": "1"})


def value(text):
    result = compile_expression(text).evaluate(EVENT)
    assert result.errors == ()
    return result.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # 3.6: AND, OR and XOR are one level, from left to right.
        ("TRUE OR FALSE AND FALSE", False),
        ("TRUE OR (FALSE AND FALSE)", True),
        ("FALSE AND FALSE OR TRUE", True),
        ("TRUE XOR TRUE OR TRUE", True),
        ("TRUE OR TRUE XOR TRUE", False),
        # Unary operators bind tighter than comparisons: (NOT FALSE) = FALSE.
        ("NOT FALSE = FALSE", False),
        ("NOT (FALSE = FALSE)", False),
        ("NOT TRUE = FALSE", True),
        ("NOT EXISTS subject", True),
        ("- 2 + 3", 1),
        ("2 + 3 * 4 - 6 / 2 % 2", 13),
        ("8 / 4 / 2", 1),
        ("8 - 4 - 2", 2),
        ("1 + 1 = 2 AND 2 < 3", True),
        ("1 + 2 IN (2) = FALSE", False),
        ("2 = 2 = TRUE", True),
        ("1 < 2 = TRUE", True),
        ("'abc' LIKE 'a%' LIKE 'tr__'", True),
        ("NOT 'true' LIKE 'false'", True),
        ("2 IN (1 + 1, 5) AND 3 NOT IN (1, 2)", True),
    ],
)
def test_precedence(text, expected):
    assert (type(value(text)), value(text)) == (type(expected), expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2147483647", 2147483647),
        ("-2147483648", -2147483648),
        ("+7", 7),
        ("007", 7),
        ("0" * 5000 + "1", 1),
        ("4-1", 3),
        ("4 -1", 3),
        ("4 - -1", 5),
        ("--10", 10),
        ("1\t+\r\n1", 2),
        (r"'a\'b'", "a'b"),
        (r'"a\"b"', 'a"b'),
        (r"""'a"b'""", 'a"b'),
        (r"'a\nb\\c\"d'", r"a\nb\\c\"d"),
        ("'line\nend'", "line\nend"),
        ("'grüße 🎈'", "grüße 🎈"),
        ("''", ""),
        ("1abc", "x"),
        ("ANDROID", "y"),
        ("Int ( a )", 1),
        ("nOt fAlSe aNd eXiStS id", True),
    ],
)
def test_literals_and_names(text, expected):
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("", 1, "ends too early"),
        ("   ", 4, "ends too early"),
        ("(TRUE", 6, "ends too early"),
        ("ABC(", 5, "ends too early"),
        ("TRUE)", 5, "unexpected ')'"),
        ("1 = = 2", 5, "unexpected '='"),
        ("a b", 3, "unexpected 'b'"),
        ("x LIKE y", 8, "unexpected 'y'"),
        ("x LIKE 123", 8, "unexpected '123'"),
        ("x LIKE CONCAT('a')", 8, "unexpected 'CONCAT'"),
        ("x IN ()", 7, "unexpected ')'"),
        ("x IN 1", 6, "unexpected '1'"),
        ("EXISTS 'id'", 8, "unexpected \"'id'\""),
        ("EXISTS 1", 8, "unexpected '1'"),
        ("CONCAT('a',)", 12, "unexpected ')'"),
        ("my_ext = 1", 1, "'my_ext' is no attribute name"),
        ("data = 'x'", 1, "'data' is no attribute name"),
        ("2147483648", 1, "outside the 32 bits"),
        ("1 - 2147483648", 5, "outside the 32 bits"),
        ("-2147483649", 2, "outside the 32 bits"),
        ("9" * 5000, 1, "outside the 32 bits"),
        ("1.5", 2, "unexpected '.'"),
        ("x == 1", 4, "unexpected '='"),
        ("id = 'abc", 6, "has no end"),
        (r"'abc\'", 1, "has no end"),
        ("größe = 1", 3, "unexpected 'ö'"),
        ("٣", 1, "unexpected '٣'"),
        ("+a", 2, "unexpected 'a'"),
    ],
)
def test_wrong_text_is_refused_with_its_column(text, column, words):
    with pytest.raises(ParseError) as caught:
        compile_expression(text)
    assert (caught.value.line, caught.value.column) == (1, column)
    assert words in str(caught.value)
    assert caught.value.kind is ErrorKind.PARSE


def test_error_on_a_later_line_names_the_line():
    with pytest.raises(ParseError, match="line 3, column 2: unexpected '='"):
        compile_expression("id\n=\n =")
    with pytest.raises(ParseError, match="line 2, column 4: the expression ends too early"):
        compile_expression("id =\n(1 ")


@pytest.mark.parametrize(
    "text",
    [
        "NOT " * 15000 + "TRUE",
        "1" + "+1" * 15000,
        "-" * 60000 + "1",
        "ABS(" * 10000 + "1" + ")" * 10000,
    ],
)
def test_deep_nesting_is_refused_instead_of_overflowing_the_stack(text):
    with pytest.raises(ParseError, match="more than 64 operations inside each other"):
        compile_expression(text)


def test_parentheses_alone_are_no_nesting():
    assert value("(" * 20000 + "1" + ")" * 20000) == 1


def test_endless_text_is_refused():
    with pytest.raises(ParseError, match="longer than 65536 characters"):
        compile_expression(" " * 65536 + "1")


WORDS = st.sampled_from(
    [*"()+-*/%=<,'\\ä10", "!=", "id", "subject", "2147483647", "'a'", '"b"', "TRUE", "LIKE", "IN",
     "NOT", "AND", "OR", "XOR", "EXISTS", "LENGTH(", "CONCAT(", "NOPE("]
)  # fmt: skip


@given(st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=20))
@example("EXISTS data")
def test_any_text_compiles_and_evaluates_or_is_a_parse_error(text):
    try:
        expression = compile_expression(text)
    except ParseError:
        return
    for fail_fast in (False, True):
        result = expression.evaluate(EVENT, fail_fast=fail_fast)
        assert type(result.value) in {bool, int, str}
        if isinstance(result.value, int):
            assert -(2**31) <= result.value < 2**31
    complete, fast = expression.evaluate(EVENT), expression.evaluate(EVENT, fail_fast=True)
    assert [str(error) for error in complete.errors[:1]] == [str(error) for error in fast.errors]
    assert complete.errors or complete.value == fast.value
