"""Evaluation: values, errors, both modes, and the limits of what compiles."""

import pytest

from bindings.event import Event
from gateway.cesql import (
    BUILT_IN,
    ErrorKind,
    EvaluationError,
    Function,
    ParseError,
    compile_expression,
)

EVENT = Event(
    id="42",
    source="/plant/7",
    type="com.acme.temp.v1",
    extensions={"count": 7, "hot": True, "level": "3", "sum": b"\xff\x00"},
)


def evaluate(text, event=EVENT, *, fail_fast=False, functions=BUILT_IN):
    result = compile_expression(text, functions).evaluate(event, fail_fast=fail_fast)
    return result.value, [error.kind.value for error in result.errors]


def value(text):
    """Return the value, which has to come without an error, and alike in both modes."""
    result, errors = evaluate(text)
    assert errors == []
    assert evaluate(text, fail_fast=True) == (result, [])
    return result


def test_attributes_have_their_types():
    assert value("count") == 7
    assert value("hot") is True
    assert value("level") == "3"
    assert value("sum") == "/wA="
    assert value("id = '42' AND SOURCE = '/plant/7' AND specversion = '1.0'") is True


def test_evaluation_leaves_the_event_as_it_is():
    before = EVENT.replace()
    evaluate("CONCAT(id, count) = missing OR sum = 1")
    assert before == EVENT


def test_missing_attribute_gives_the_zero_value_of_the_operation_around_it():
    assert evaluate("missing") == (False, ["missingAttribute"])
    assert evaluate("missing + 1") == (0, ["missingAttribute"])
    assert evaluate("CONCAT('a', missing)") == ("", ["missingAttribute"])
    assert evaluate("missing != 'x'") == (False, ["missingAttribute"])
    assert evaluate("missing NOT LIKE 'x'") == (False, ["missingAttribute"])
    assert evaluate("missing NOT IN ('x')") == (False, ["missingAttribute"])
    assert evaluate("1 IN (missing)") == (False, ["missingAttribute"])
    assert evaluate("1 NOT IN (missing)") == (False, ["missingAttribute"])
    assert evaluate("missing OR TRUE") == (False, ["missingAttribute"])
    assert evaluate("TRUE XOR missing") == (False, ["missingAttribute"])
    assert evaluate("NOT (missing = 1)") == (True, ["missingAttribute"])


def test_complete_mode_goes_on_and_collects():
    assert evaluate("missing * 5 + 1 / 0") == (0, ["missingAttribute", "math"])
    assert evaluate("1 / 0 + 3") == (3, ["math"])
    assert evaluate("none < other") == (False, ["missingAttribute", "missingAttribute"])


def test_fail_fast_mode_stops_at_the_first_error():
    assert evaluate("missing * 5 + 1 / 0", fail_fast=True) == (0, ["missingAttribute"])
    assert evaluate("1 / 0 + 3", fail_fast=True) == (0, ["math"])
    assert evaluate("CONCAT(LEFT('abc', -1), 'd')", fail_fast=True) == ("", ["functionEvaluation"])


def test_fail_fast_mode_keeps_the_value_of_the_operation_that_is_the_whole_expression():
    assert evaluate("LEFT('abc', -1)", fail_fast=True) == ("abc", ["functionEvaluation"])
    assert evaluate("ABS(-2147483648)", fail_fast=True) == (2147483647, ["math"])
    assert evaluate("'abc' = 1", fail_fast=True) == (False, ["cast"])
    assert evaluate("'abc' != 1", fail_fast=True) == (False, ["cast"])


def test_errors_say_what_happened():
    (error,) = compile_expression("INT('x1')").evaluate(EVENT).errors
    assert isinstance(error, EvaluationError)
    assert str(error) == "'x1' is no Integer"
    (error,) = compile_expression("5 % 0").evaluate(EVENT).errors
    assert str(error) == "remainder of 5 by zero"


def test_compiled_expression_can_be_evaluated_again():
    expression = compile_expression("count = 7 AND id = 42")
    assert [expression.evaluate(EVENT).value for _ in range(3)] == [True] * 3
    assert expression.evaluate(EVENT.replace(id="43")).value is False


def test_call_of_an_unknown_function_is_false_and_known_beforehand():
    assert evaluate("NOPE(1)") == (False, ["missingFunction"])
    expression = compile_expression("TRUE OR (NOPE(1) AND LENGTH('a', 'b') = 1)")
    assert [str(problem) for problem in expression.problems] == [
        "no function NOPE",
        "LENGTH takes no 2 arguments",
    ]
    assert expression.evaluate(EVENT) == (True, ())
    assert compile_expression("LENGTH('a')").problems == ()


def test_every_error_kind_of_the_specification_is_there():
    assert {kind.value for kind in ErrorKind} == {
        "parse", "math", "cast", "missingAttribute", "missingFunction", "functionEvaluation",
        "generic",
    }  # fmt: skip


def test_long_chain_of_logic_is_one_operation():
    chain = " OR ".join(f"id = '{number}'" for number in range(2000))
    assert evaluate(chain.replace("'1999'", "'42x'") + " OR id = '42'") == (True, [])


def test_short_circuit_leaves_the_right_side_unevaluated():
    calls = []

    def probe():
        calls.append(1)
        return True

    functions = BUILT_IN.extended(Function(name="PROBE", returns=bool, call=probe))
    assert evaluate("FALSE AND PROBE()", functions=functions) == (False, [])
    assert evaluate("TRUE OR PROBE()", functions=functions) == (True, [])
    assert calls == []
    assert evaluate("TRUE AND PROBE()", functions=functions) == (True, [])
    assert evaluate("TRUE XOR PROBE()", functions=functions) == (False, [])
    assert calls == [1, 1]


@pytest.mark.parametrize("text", ["(" * 40 + "TRUE" + ")" * 40, "NOT " * 40 + "TRUE"])
def test_reasonable_nesting_evaluates(text):
    assert value(text) is True


def test_deepest_allowed_nesting_stays_within_half_of_the_stack():
    text = "id = '42'"
    for _ in range(30):
        text = f"TRUE = (NOT INT(1) = INT({text}))"
        try:
            expression = compile_expression(text)
        except ParseError:
            break
    else:
        pytest.fail("the limit on nesting was not reached")

    def at_depth(frames):
        return at_depth(frames - 1) if frames else expression.evaluate(EVENT)

    assert at_depth(500).errors == ()
