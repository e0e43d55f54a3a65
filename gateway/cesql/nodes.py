"""What an expression is compiled to: nodes, which are closures with what is known beforehand.

A closure takes the event and a reporter and returns a value, or FAILED when there is none: a
missing attribute, or an operand that can't be cast. It has reported the error then, and the
operation around it yields the zero value of its type (cesql/spec.md 3.2, 3.4). Operations
themselves always return a value.
"""

from collections.abc import Callable
from enum import Enum
from operator import attrgetter
from typing import Final, Literal, Protocol, TypeVar

import msgspec

from bindings.event import (
    CORE_ATTRIBUTES,
    REQUIRED_ATTRIBUTES,
    AttributeValue,
    Event,
    canonical_text,
)
from gateway.cesql.casts import to_boolean, to_integer, to_string
from gateway.cesql.errors import ErrorKind, EvaluationError, ParseError, Value

MAX_DEPTH: Final = 64
"""Operations inside each other. Each takes up to three of Python's thousand frames; a chain of AND
and OR on one level is one operation."""

T = TypeVar("T")


class _Failed(Enum):
    FAILED = "failed"


FAILED: Final = _Failed.FAILED
Failed = Literal[_Failed.FAILED]


class Reporter(Protocol):
    """Takes the errors of one evaluation: collects them, or ends the evaluation at the first."""

    def report(self, error: EvaluationError, run: "Run", value: T) -> T:
        """Take an error and return `value`, or end the evaluation.

        Args:
            error: what went wrong.
            run: the closure where it went wrong.
            value: what that closure yields all the same.
        """


Run = Callable[[Event, Reporter], Value | Failed]
RunString = Callable[[Event, Reporter], str | Failed]
RunInteger = Callable[[Event, Reporter], int | Failed]
RunBoolean = Callable[[Event, Reporter], bool | Failed]


class Node(msgspec.Struct, frozen=True):
    """A compiled (sub)expression.

    Attributes:
        run: evaluates it.
        returns: the type of its value; None for an attribute, whose value tells.
        depth: how many closures lie below each other.
        constant: the value of a literal.
        problems: what is known to be wrong before any event is seen.
    """

    run: Run
    returns: type[Value] | None
    depth: int = 1
    constant: Value | None = None
    problems: tuple[EvaluationError, ...] = ()


def literal(value: Value) -> Node:
    """Return a node that yields `value`."""
    return Node(lambda _event, _reporter: value, value.__class__, constant=value)


def attribute(name: str) -> Node:
    """Return a node that yields an attribute's value: Boolean, Integer, and all else as String."""
    if name in REQUIRED_ATTRIBUTES:
        get_required = attrgetter(name)
        return Node(lambda event, _reporter: get_required(event), str)
    get = _getter(name)
    # Made once: an event without the attribute is ordinary, and errors cost more than evaluation.
    error = EvaluationError(ErrorKind.MISSING_ATTRIBUTE, f"the event has no attribute {name!r}")

    def optional(event: Event, reporter: Reporter) -> Value | Failed:
        value = get(event)
        if value is None:
            return reporter.report(error, optional, FAILED)
        return canonical_text(value) if isinstance(value, bytes) else value

    return Node(optional, None)


def _getter(name: str) -> Callable[[Event], AttributeValue | None]:
    if name in CORE_ATTRIBUTES:
        return attrgetter(name)
    return lambda event: event.extensions.get(name)


def exists(name: str) -> Node:
    """Return a node that tells whether an attribute is there."""
    if name in CORE_ATTRIBUTES:
        get = attrgetter(name)
        return Node(lambda event, _reporter: get(event) is not None, bool)
    return Node(lambda event, _reporter: name in event.extensions, bool)


def as_string(node: Node) -> RunString:
    """Return a closure that evaluates `node` and casts the value to String."""
    run = node.run
    if node.returns is str:
        return run  # type: ignore[return-value] # its type says so

    def string(event: Event, reporter: Reporter) -> str | Failed:
        value = run(event, reporter)
        return value if isinstance(value, str) or value is FAILED else to_string(value)

    return string


def as_integer(node: Node) -> RunInteger:
    """Return a closure that evaluates `node` and casts the value to Integer."""
    run = node.run
    if node.returns is int:
        return run  # type: ignore[return-value] # its type says so

    def integer(event: Event, reporter: Reporter) -> int | Failed:
        value = run(event, reporter)
        if value is FAILED:
            return FAILED
        try:
            return to_integer(value)
        except EvaluationError as error:
            return reporter.report(error, integer, FAILED)

    return integer


def as_boolean(node: Node) -> RunBoolean:
    """Return a closure that evaluates `node` and casts the value to Boolean."""
    run = node.run
    if node.returns is bool:
        return run  # type: ignore[return-value] # its type says so

    def boolean(event: Event, reporter: Reporter) -> bool | Failed:
        value = run(event, reporter)
        if value is FAILED:
            return FAILED
        try:
            return to_boolean(value)
        except EvaluationError as error:
            return reporter.report(error, boolean, FAILED)

    return boolean


def as_type(node: Node, target: type) -> Run:
    """Return a closure that evaluates `node` and casts the value to `target`; `object` is any."""
    if target is str:
        return as_string(node)
    if target is int:
        return as_integer(node)
    return as_boolean(node) if target is bool else node.run


def above(*nodes: Node) -> tuple[int, None, tuple[EvaluationError, ...]]:
    """Return depth, constant and problems of the node of an operation on `nodes`.

    Raises:
        ParseError: the operation is nested too deeply.
    """
    depth = 1 + max((node.depth for node in nodes), default=0)
    if depth > MAX_DEPTH:
        raise ParseError(f"more than {MAX_DEPTH} operations inside each other")
    return depth, None, tuple(problem for node in nodes for problem in node.problems)
