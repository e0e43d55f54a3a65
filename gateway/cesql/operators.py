"""The operators (cesql/spec.md 3.4), compiled to closures over their operands' closures."""

from collections.abc import Callable, Sequence
from typing import Final, Literal

from bindings.event import INTEGER_MAX, INTEGER_MIN, Event
from gateway.cesql.casts import TYPE_NAMES, ZERO, cast, to_string
from gateway.cesql.errors import ErrorKind, EvaluationError, Value
from gateway.cesql.functions import Function
from gateway.cesql.like import compile_pattern
from gateway.cesql.nodes import (
    FAILED,
    Node,
    Reporter,
    Run,
    above,
    as_boolean,
    as_integer,
    as_string,
    as_type,
)

Connective = Literal["AND", "OR", "XOR"]


def logic(first: Node, rest: Sequence[tuple[Connective, Node]]) -> Node:
    """Return the node of a chain of AND, OR and XOR, from left to right, with short circuits."""
    run_first = as_boolean(first)
    links = tuple((connective, as_boolean(node)) for connective, node in rest)

    def run_logic(event: Event, reporter: Reporter) -> bool:
        value = run_first(event, reporter)
        for connective, operand in links:
            # The right side of `false AND`, `true OR` must not be evaluated (3.4.2). What has no
            # value makes the operation false, whichever it is.
            if value is FAILED:
                value = False
            elif connective == "AND":
                if value:
                    value = operand(event, reporter)
            elif connective == "OR":
                if not value:
                    value = operand(event, reporter)
            else:
                right = operand(event, reporter)
                value = False if right is FAILED else value is not right
        return value is True

    return Node(run_logic, bool, *above(first, *(node for _, node in rest)))


def negation(node: Node) -> Node:
    """Return the node of NOT x."""
    run = as_boolean(node)
    return Node(lambda event, reporter: run(event, reporter) is False, bool, *above(node))


def _add(x: int, y: int) -> int:
    return x + y


def _subtract(x: int, y: int) -> int:
    return x - y


def _multiply(x: int, y: int) -> int:
    return x * y


def _divide(x: int, y: int) -> int:
    if y == 0:
        raise EvaluationError(ErrorKind.MATH, f"division of {x} by zero", 0)
    # Truncated, where Python's // rounds down; and no float, which has not enough digits for all.
    quotient = abs(x) // abs(y)
    return quotient if (x < 0) == (y < 0) else -quotient


def _modulo(x: int, y: int) -> int:
    if y == 0:
        raise EvaluationError(ErrorKind.MATH, f"remainder of {x} by zero", 0)
    return abs(x) % abs(y) if x >= 0 else -(abs(x) % abs(y))


_ARITHMETIC: Final[dict[str, Callable[[int, int], int]]] = {
    "+": _add, "-": _subtract, "*": _multiply, "/": _divide, "%": _modulo,
}  # fmt: skip


def arithmetic(left: Node, symbol: str, right: Node) -> Node:
    """Return the node of + - * / or %; out of 32 bits is a math error with the value 0."""
    run_left, run_right, operate = as_integer(left), as_integer(right), _ARITHMETIC[symbol]

    def run_arithmetic(event: Event, reporter: Reporter) -> int:
        x = run_left(event, reporter)
        y = run_right(event, reporter)
        if x is FAILED or y is FAILED:
            return 0
        try:
            return _in_range(operate(x, y))
        except EvaluationError as error:
            return reporter.report(error, run_arithmetic, 0)

    return Node(run_arithmetic, int, *above(left, right))


def minus(node: Node) -> Node:
    """Return the node of -x; out of 32 bits is a math error with the value 0."""
    run = as_integer(node)

    def run_minus(event: Event, reporter: Reporter) -> int:
        x = run(event, reporter)
        if x is FAILED:
            return 0
        try:
            return _in_range(-x)
        except EvaluationError as error:
            return reporter.report(error, run_minus, 0)

    return Node(run_minus, int, *above(node))


def _in_range(number: int) -> int:
    # The specification leaves overflow open, but for ABS; 3.3 asks for the zero value.
    if INTEGER_MIN <= number <= INTEGER_MAX:
        return number
    raise EvaluationError(ErrorKind.MATH, f"{number} is outside 32 bits", 0)


_ORDER: Final[dict[str, Callable[[int, int], bool]]] = {
    "<": lambda x, y: x < y,
    "<=": lambda x, y: x <= y,
    ">": lambda x, y: x > y,
    ">=": lambda x, y: x >= y,
}


def comparison(left: Node, symbol: str, right: Node) -> Node:
    """Return the node of = != <> < <= > or >=."""
    if symbol not in _ORDER:
        return _equality(left, right, wanted=symbol == "=")
    run_left, run_right, compare = as_integer(left), as_integer(right), _ORDER[symbol]

    def run_order(event: Event, reporter: Reporter) -> bool:
        x = run_left(event, reporter)
        y = run_right(event, reporter)
        return x is not FAILED and y is not FAILED and compare(x, y)

    return Node(run_order, bool, *above(left, right))


def _equality(left: Node, right: Node, *, wanted: bool) -> Node:
    """Return the node of = or !=, where the right side's type is what the left is cast to (3.7)."""
    run_left, run_right, expected = left.run, right.run, right.constant

    def run_equality(event: Event, reporter: Reporter) -> bool:
        x = run_left(event, reporter)
        y = run_right(event, reporter)
        return x is not FAILED and y is not FAILED and equal(x, y, reporter)

    def run_equality_with_literal(event: Event, reporter: Reporter) -> bool:
        x = run_left(event, reporter)
        if x.__class__ is expected.__class__:
            return (x == expected) is wanted
        return x is not FAILED and expected is not None and equal(x, expected, reporter)

    def equal(x: Value, y: Value, reporter: Reporter) -> bool:
        try:
            return (cast(x, y.__class__) == y) is wanted
        except EvaluationError as error:
            return reporter.report(error, run, value=False)

    run: Run = run_equality if expected is None else run_equality_with_literal
    return Node(run, bool, *above(left, right))


def like(node: Node, pattern: str, *, wanted: bool) -> Node:
    """Return the node of LIKE or, with `wanted` false, of NOT LIKE."""
    run, matches = as_string(node), compile_pattern(pattern)

    def run_like(event: Event, reporter: Reporter) -> bool:
        text = run(event, reporter)
        return text is not FAILED and matches(text) is wanted

    return Node(run_like, bool, *above(node))


def is_in(node: Node, elements: Sequence[Node], *, wanted: bool) -> Node:
    """Return the node of IN or NOT IN; elements are cast to the type of the left side (3.4.5)."""
    run, runs = node.run, tuple(element.run for element in elements)
    constants = [element.constant for element in elements if element.constant is not None]
    # A cast to String can't fail, so that a list of literals is one look-up.
    texts = frozenset(map(to_string, constants)) if len(constants) == len(elements) else None

    def run_in(event: Event, reporter: Reporter) -> bool:
        x = run(event, reporter)
        if x is FAILED:
            return False
        if texts is not None and isinstance(x, str):
            return (x in texts) is wanted
        for run_element in runs:
            y = run_element(event, reporter)
            if y is FAILED:
                return False
            try:
                if x == cast(y, x.__class__):
                    return wanted
            except EvaluationError as error:
                reporter.report(error, run_in, not wanted)
        return not wanted

    return Node(run_in, bool, *above(node, *elements))


def call(function: Function, arguments: Sequence[Node]) -> Node:
    """Return the node of a function's call."""
    types = list(function.parameters)
    types += [function.variadic or object] * (len(arguments) - len(types))
    runs = tuple(as_type(node, target) for node, target in zip(arguments, types, strict=True))
    zero = ZERO[function.returns]
    name = function.name.upper()

    def run_call(event: Event, reporter: Reporter) -> Value:
        values = [run(event, reporter) for run in runs]
        if FAILED in values:
            return zero
        try:
            value = function.call(*values)
        except EvaluationError as error:
            return reporter.report(error, run_call, zero if error.value is None else error.value)
        except Exception as error:  # noqa: BLE001 - 3.5.3: whatever a function does, there is a value
            cause = EvaluationError(ErrorKind.FUNCTION_EVALUATION, f"{name} failed: {error!r}")
            return reporter.report(cause, run_call, zero)
        if value.__class__ is function.returns and _fits(value):
            return value
        text = f"{name} returned no {TYPE_NAMES[function.returns]}"
        return reporter.report(EvaluationError(ErrorKind.FUNCTION_EVALUATION, text), run_call, zero)

    return Node(run_call, function.returns, *above(*arguments))


def missing_function(text: str, arguments: Sequence[Node]) -> Node:
    """Return the node of a call of nothing: false, and an error each time (3.5)."""
    problem = EvaluationError(ErrorKind.MISSING_FUNCTION, text)

    def run_missing(_event: Event, reporter: Reporter) -> bool:
        error = EvaluationError(ErrorKind.MISSING_FUNCTION, text)
        return reporter.report(error, run_missing, value=False)

    depth, constant, problems = above(*arguments)
    return Node(run_missing, bool, depth, constant, (*problems, problem))


def _fits(value: Value) -> bool:
    return not isinstance(value, int) or INTEGER_MIN <= value <= INTEGER_MAX
