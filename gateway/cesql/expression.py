"""A compiled expression and its evaluation, in both of the modes of cesql/spec.md 4.1."""

from typing import Final, NamedTuple, TypeVar, cast

from bindings.event import Event
from gateway.cesql.casts import ZERO
from gateway.cesql.errors import EvaluationError, Value
from gateway.cesql.functions import BUILT_IN, FunctionTable
from gateway.cesql.nodes import FAILED, Failed, Node, Run
from gateway.cesql.parser import parse

T = TypeVar("T")


class Result(NamedTuple):
    """What an expression says of one event.

    Attributes:
        value: always there, whatever the errors.
        errors: what went wrong, in the order of evaluation; empty when nothing did.
    """

    value: Value
    errors: tuple[EvaluationError, ...] = ()


class Expression:
    """A compiled expression.

    Attributes:
        text: what it was compiled from.
        problems: errors that every evaluation which comes that far will have, known beforehand:
            calls of functions that do not exist.
    """

    __slots__ = ("_run", "_zero", "problems", "text")

    def __init__(self, text: str, node: Node) -> None:
        self.text = text
        self.problems = node.problems
        self._run = node.run
        # 3.2: where the type can't be known, it is Boolean.
        self._zero: Value = ZERO[node.returns or bool]

    def evaluate(self, event: Event, *, fail_fast: bool = False) -> Result:
        """Evaluate the expression; never raises.

        Args:
            event: is not changed.
            fail_fast: stop at the first error, with the zero value unless the whole expression is
                the operation that failed; else go on with the failed operation's value.
        """
        if not fail_fast:
            errors: list[EvaluationError] = []
            value = self._run(event, _Collector(errors))
            return Result(self._zero if value is FAILED else value, tuple(errors))
        try:
            value = self._run(event, _FAIL_FAST)
        except _Stopped as stopped:
            value = stopped.value if stopped.run is self._run else FAILED
            return Result(self._zero if value is FAILED else value, (stopped.error,))
        return Result(self._zero if value is FAILED else value)


def compile_expression(text: str, functions: FunctionTable = BUILT_IN) -> Expression:
    """Return the expression that `text` stands for.

    Raises:
        ParseError: `text` is no CESQL expression; says where and why.
    """
    return Expression(text, parse(text, functions))


class _Collector:
    """Goes on with the value that the failed operation yields."""

    __slots__ = ("_errors",)

    def __init__(self, errors: list[EvaluationError]) -> None:
        self._errors = errors

    def report(self, error: EvaluationError, _run: Run, value: T) -> T:
        self._errors.append(error)
        return value


class _Stopped(Exception):  # noqa: N818 - a way out, no error of its own
    def __init__(self, error: EvaluationError, run: Run, value: Value | Failed) -> None:
        self.error = error
        self.run = run
        self.value = value


class _FailFast:
    """Ends the evaluation at the first error."""

    def report(self, error: EvaluationError, run: Run, value: T) -> T:
        raise _Stopped(error, run, cast(Value | Failed, value))


_FAIL_FAST: Final = _FailFast()
