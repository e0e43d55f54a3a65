"""Mistakes in CESQL and in the filters of subscriptions."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

import gateway.filters as product
from bindings.event import Event
from conformance.mutants.mutant import Catalogue, Patch
from gateway.cesql import casts, functions, like, nodes, operators, parser
from gateway.cesql.errors import ErrorKind, EvaluationError
from gateway.cesql.nodes import Node

MUTANTS = Catalogue(needs="filters")


@MUTANTS.patching(95, "CESQL-CAST-003 CESQL-OP-002 CESQL-CAST-001")
def integers_are_no_booleans(patch: Patch) -> None:
    """An Integer other than 0 and 1 can't be cast to Boolean, as a case of the test kit has it."""
    right = casts.to_boolean

    def to_boolean(value: Any) -> bool:
        if isinstance(value, int) and value not in {0, 1}:
            raise EvaluationError(ErrorKind.CAST, "no Boolean")
        return right(value)

    patch.everywhere(casts, "to_boolean", to_boolean)


@MUTANTS.patching(96, "CESQL-EVAL-001")
def connectives_from_right_to_left(patch: Patch) -> None:
    """AND, OR and XOR associate to the right."""
    right = operators.logic

    def logic(first: Node, rest: Sequence[tuple[Any, Node]]) -> Node:
        if len(rest) < 2:
            return right(first, rest)
        (connective, second), *more = rest
        return right(first, [(connective, logic(second, more))])

    patch(operators, "logic", logic)


@MUTANTS.patching("CESQL", "CESQL-OP-006 CESQL-OP-005")
def connectives_without_short_circuits(patch: Patch) -> None:
    """Both sides of AND and OR are evaluated, and their errors count."""
    right = operators.logic

    def logic(first: Node, rest: Sequence[tuple[Any, Node]]) -> Node:
        whole = right(first, rest)

        def run(event: Event, reporter: Any) -> Any:
            for _, operand in rest:
                nodes.as_boolean(operand)(event, reporter)
            return whole.run(event, reporter)

        return Node(run, bool, whole.depth, None, whole.problems)

    patch(operators, "logic", logic)


@MUTANTS.patching(97, "SUB-FIL-002 SUB-FIL-003 SUB-FIL-004")
def yaml_values_in_filters(patch: Patch) -> None:
    """A filter compares with a number or a Boolean that YAML made of its text."""
    right = product._attribute_filter  # noqa: SLF001 - the mistake is in there

    def attribute_filter(dialect: str, name: object, text: object, keys: Any) -> Any:
        return right(dialect, name, str(text), keys)

    patch(product, "_attribute_filter", attribute_filter)


def _arithmetic(patch: Patch, symbol: str, operate: Callable[[int, int], int]) -> None:
    right = operators._ARITHMETIC  # noqa: SLF001 - the mistake is in there

    def wrong(x: int, y: int) -> int:
        return operate(x, y) if y else right[symbol](x, y)

    patch(operators, "_ARITHMETIC", {**right, symbol: wrong})


@MUTANTS.patching(98, "CESQL-OP-003 CESQL-OP-004 CESQL-OP-001")
def division_rounds_down(patch: Patch) -> None:
    """-7 / 2 is -4, as in Python."""
    _arithmetic(patch, "/", lambda x, y: x // y)


@MUTANTS.patching(98, "CESQL-OP-003 CESQL-OP-004 CESQL-OP-001")
def remainders_have_the_sign_of_the_divisor(patch: Patch) -> None:
    """-7 % 3 is 2, as in Python."""
    _arithmetic(patch, "%", lambda x, y: x % y)


@MUTANTS.patching(99, "CESQL-EXI-001 CESQL-SYN-001 CESQL-ATT-001")
def names_of_attributes_by_case(patch: Patch) -> None:
    """An attribute in capitals is another one."""
    right = parser._attribute_name  # noqa: SLF001 - the mistake is in there

    def attribute_name(token: Any) -> str:
        return right(token) if token == token.lower() else "absent"

    patch(parser, "_attribute_name", attribute_name)


def _like(patch: Patch, compile_pattern: Callable[[str], Callable[[str], bool]]) -> None:
    patch(operators, "compile_pattern", compile_pattern)


@MUTANTS.patching(100, "CESQL-LIKE-002 CESQL-LIKE-003 CESQL-LIKE-004")
def patterns_are_regular_expressions(patch: Patch) -> None:
    """What has a meaning in regular expressions has it in LIKE, too."""

    def compile_pattern(pattern: str) -> Callable[[str], bool]:
        try:
            found = re.compile(pattern.replace("%", ".*").replace("_", "."), re.DOTALL)
        except re.error:
            return lambda _text: False
        return lambda text: found.fullmatch(text) is not None

    _like(patch, compile_pattern)


@MUTANTS.patching(100, "CESQL-LIKE-002 CESQL-LIKE-003 CESQL-LIKE-004")
def patterns_without_escapes(patch: Patch) -> None:
    """A backslash in a pattern is itself."""
    right = like.compile_pattern
    _like(patch, lambda pattern: right(pattern.replace("\\%", "\\\\%").replace("\\_", "\\\\_")))


@MUTANTS.patching(100, "CESQL-LIKE-002 CESQL-LIKE-003 CESQL-LIKE-004")
def patterns_of_one_line(patch: Patch) -> None:
    """A percent sign stands for no line end."""
    right = like.compile_pattern

    def compile_pattern(pattern: str) -> Callable[[str], bool]:
        matches = right(pattern)
        return lambda text: matches(text) and "\n" not in text

    _like(patch, compile_pattern)


@MUTANTS.patching(100, "CESQL-LIKE-001 CESQL-LIKE-002 CESQL-LIKE-003 CESQL-SYN-001")
def patterns_in_any_case(patch: Patch) -> None:
    """A pattern fits in capitals, too."""
    right = like.compile_pattern

    def compile_pattern(pattern: str) -> Callable[[str], bool]:
        matches = right(pattern.lower())
        return lambda text: matches(text.lower())

    _like(patch, compile_pattern)


@MUTANTS.patching("CESQL", "CESQL-CAST-001 CESQL-CAST-002 CESQL-CAST-003 CESQL-CAST-004")
def integers_as_python_reads_them(patch: Patch) -> None:
    """A String that Python's int() takes is cast to Integer."""

    def to_integer(value: Any) -> int:
        try:
            return int(value)
        except ValueError:
            raise EvaluationError(ErrorKind.CAST, "no Integer") from None

    patch.everywhere(casts, "to_integer", to_integer)
    _function(patch, "INT", lambda _right: to_integer)


@MUTANTS.patching("CESQL", "CESQL-ATT-003 CESQL-ATT-002 CESQL-ERR-001")
def missing_attributes_are_empty(patch: Patch) -> None:
    """An attribute that is missing is the empty String, without an error."""
    right = nodes._getter  # noqa: SLF001 - the mistake is in there

    def getter(name: str) -> Any:
        get = right(name)
        return lambda event: "" if get(event) is None else get(event)

    patch(nodes, "_getter", getter)


@MUTANTS.patching("CESQL", "CESQL-FN-006 CESQL-FN-007 CESQL-FN-001")
def substrings_from_zero(patch: Patch) -> None:
    """SUBSTRING counts characters from 0."""
    _function(
        patch, "SUBSTRING", lambda right: lambda text, place, *rest: right(text, place + 1, *rest)
    )


def _function(
    patch: Patch, name: str, change: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> None:
    """Replace a built-in function, whatever it is called with."""
    table = functions.BUILT_IN._fixed  # noqa: SLF001 - the mistake is in there
    wrong = {
        key: replace(function, call=change(function.call))
        for key, function in table.items()
        if key[0] == name
    }
    patch(functions.BUILT_IN, "_fixed", {**table, **wrong})


@MUTANTS.patching(101, "SUB-FIL-003 SUB-FIL-005 SUB-FIL-007")
def filters_pass_what_lacks_the_attribute(patch: Patch) -> None:
    """An event without the attribute passes."""
    right = product._extension_filter  # noqa: SLF001 - the mistake is in there

    def extension_filter(dialect: str, name: str, text: str) -> Any:
        passes = right(dialect, name, text)
        return lambda event: name not in event.extensions or passes(event)

    patch(product, "_extension_filter", extension_filter)


@MUTANTS.patching(101, "SUB-FIL-009 SUB-FIL-010 SUB-FIL-011 SUB-FIL-008")
def no_filters_are_a_filter(patch: Patch) -> None:
    """An empty list of filters is taken for all and any."""
    right = product._Compiler._nested  # noqa: SLF001 - the mistake is in there

    def nested(self: Any, value: object, keys: Any, depth: int) -> Any:
        return [] if value == [] else right(self, value, keys, depth)

    patch(product._Compiler, "_nested", nested)  # noqa: SLF001 - the same


@MUTANTS.patching(101, "SUB-FIL-003 SUB-FIL-004 SUB-FIL-005 SUB-FIL-006 SUB-FIL-008")
def filters_of_no_text(patch: Patch) -> None:
    """A filter with an empty text is taken, and passes what begins with nothing."""
    right = product._attribute_filter  # noqa: SLF001 - the mistake is in there

    def attribute_filter(dialect: str, name: object, text: object, keys: Any) -> Any:
        return (lambda _event: True) if text == "" else right(dialect, name, text, keys)

    patch(product, "_attribute_filter", attribute_filter)


@MUTANTS.patching(101, "SUB-FIL-001 SUB-FIL-016 SUB-FIL-017 SUB-OBJ-006")
def unknown_dialects_pass(patch: Patch) -> None:
    """A filter of a dialect that is not known is ignored."""
    right = product._Compiler.compile  # noqa: SLF001 - the mistake is in there

    def compile_(self: Any, spec: object, keys: Any, depth: int) -> Any:
        is_known = not isinstance(spec, Mapping) or set(spec) <= set(product._DIALECTS)  # noqa: SLF001 - the same
        return right(self, spec, keys, depth) if is_known else lambda _event: True

    patch(product._Compiler, "compile", compile_)  # noqa: SLF001 - the same


@MUTANTS.patching("filters", "SUB-FIL-003")
def exact_is_a_prefix(patch: Patch) -> None:
    """Exact passes what begins so."""
    patch(product, "_TESTS", {**product._TESTS, "exact": str.startswith})  # noqa: SLF001 - the mistake is in there


@MUTANTS.patching("filters", "SUB-FIL-010 SUB-FIL-009 SUB-FIL-011 SUB-FIL-012")
def any_is_all(patch: Patch) -> None:
    """Any passes what all of its filters pass."""
    patch(product, "_any", product._all)  # noqa: SLF001 - the mistake is in there


@MUTANTS.patching("filters", "CESQL-FLT-001 CESQL-FLT-002 CESQL-FLT-003 SUB-FIL-014 SUB-FIL-015")
def expressions_that_are_no_boolean_pass(patch: Patch) -> None:
    """An sql filter passes what its expression casts to true."""
    right = product._sql  # noqa: SLF001 - the mistake is in there

    def sql(value: object, keys: Any, on_error: Any) -> Any:
        return right(f"BOOL(({value}))" if isinstance(value, str) else value, keys, on_error)

    patch(product, "_sql", sql)
