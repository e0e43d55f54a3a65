"""Built-in functions beyond the TCK, and functions of the user's."""

import pytest

from bindings.event import Event
from gateway.cesql import (
    BUILT_IN,
    ErrorKind,
    EvaluationError,
    Function,
    FunctionTable,
    compile_expression,
)

EVENT = Event(id="1", source="/s", type="t", extensions={"sequence": "5"})


def evaluate(text, functions=BUILT_IN):
    result = compile_expression(text, functions).evaluate(EVENT)
    return result.value, [error.kind.value for error in result.errors]


@pytest.mark.parametrize(
    ("text", "value", "errors"),
    [
        ("LENGTH('🎈é')", 2, []),
        ("length(12345)", 5, []),
        ("CONCAT(1, TRUE, 'x')", "1truex", []),
        ("CONCAT_WS('', 1, 2)", "12", []),
        ("UPPER('é')", "É", []),
        ("TRIM('\t x \n')", "x", []),
        ("LEFT('abc', '2')", "ab", []),
        ("LEFT('abc', 'x')", "", ["cast"]),
        ("LEFT('abc', 0)", "", []),
        ("RIGHT('abc', 0)", "", []),
        ("SUBSTRING('abc', 3)", "c", []),
        ("SUBSTRING('abc', -3)", "abc", []),
        ("SUBSTRING('abc', 4)", "", ["functionEvaluation"]),
        ("SUBSTRING('', 1)", "", ["functionEvaluation"]),
        ("SUBSTRING('', 0)", "", []),
        ("SUBSTRING('abc', -1, 5)", "c", []),
        ("SUBSTRING('abc', 2, 0)", "", []),
        ("SUBSTRING('abc', 2, -1)", "", ["functionEvaluation"]),
        ("ABS('-3')", 3, []),
        ("INT(2147483647) + BOOL(1)", 0, ["math"]),
        ("SUBSTRING('a', 1, 2, 3)", False, ["missingFunction"]),
    ],
)
def test_built_in(text, value, errors):
    assert evaluate(text) == (value, errors)


def test_function_of_the_users_gets_its_arguments_cast():
    # The worked example of 3.7.
    seen = []

    def predicate(text):
        seen.append(text)
        return text == "15"

    functions = BUILT_IN.extended(
        Function(name="MY_STRING_PREDICATE", parameters=(str,), returns=bool, call=predicate)
    )
    assert evaluate("my_string_predicate(sequence + 10)", functions) == (True, [])
    assert seen == ["15"]
    assert evaluate("MY_STRING_PREDICATE('x')") == (False, ["missingFunction"])


def test_function_is_chosen_by_the_number_of_arguments():
    functions = FunctionTable(
        [
            Function(name="ABC", parameters=(str,), returns=int, call=lambda _: 1),
            Function(name="ABC", parameters=(str, str), returns=int, call=lambda *_: 2),
            Function(
                name="ABC", parameters=(str,) * 3, variadic=str, returns=int, call=lambda *_: 3
            ),
        ]
    )
    for table in (functions, functions.extended()):
        assert evaluate("ABC(1)", table) == (1, [])
        assert evaluate("ABC(1, 2)", table) == (2, [])
        assert evaluate("ABC(1, 2, 3)", table) == (3, [])
        assert evaluate("ABC(1, 2, 3, 4)", table) == (3, [])
        assert evaluate("ABC()", table) == (False, ["missingFunction"])


@pytest.mark.parametrize(
    "function",
    [
        Function(name="LENGTH", parameters=(int,), returns=int, call=abs),
        Function(name="length", parameters=(str,), returns=int, call=len),
        Function(name="LENGTH", variadic=str, returns=int, call=len),
        Function(name="LENGTH", parameters=(str,), variadic=str, returns=int, call=len),
        Function(name="CONCAT", parameters=(str,), returns=str, call=str),
        Function(name="CONCAT", parameters=(str,) * 9, variadic=str, returns=str, call=str),
        Function(name="MY-NAME", returns=str, call=str),
        Function(name="F2", returns=str, call=str),
        Function(name="", returns=str, call=str),
    ],
)
def test_function_that_could_not_be_told_from_another_is_refused(function):
    with pytest.raises(ValueError, match=r"already defined|no function name"):
        BUILT_IN.extended(function)


def failing():
    raise KeyError("x")


@pytest.mark.parametrize(
    ("returns", "call", "value"),
    [
        (int, failing, 0),
        (int, lambda: "text", 0),
        (int, lambda: True, 0),
        (int, lambda: 2**31, 0),
        (bool, lambda: None, False),
        (str, lambda: b"x", ""),
        (str, lambda _: "x", ""),
    ],
)
def test_bad_function_of_the_users_gives_the_zero_value_and_an_error(returns, call, value):
    functions = BUILT_IN.extended(Function(name="BAD", returns=returns, call=call))
    assert evaluate("BAD()", functions) == (value, ["functionEvaluation"])


def test_function_of_the_users_says_what_it_yields_all_the_same():
    def call(with_value):
        raise EvaluationError(ErrorKind.GENERIC, "no", "partial" if with_value else None)

    functions = BUILT_IN.extended(Function(name="F", parameters=(bool,), returns=str, call=call))
    assert evaluate("F(TRUE)", functions) == ("partial", ["generic"])
    assert evaluate("F(FALSE)", functions) == ("", ["generic"])
