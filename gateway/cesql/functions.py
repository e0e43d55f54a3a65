"""Functions: the built-in ones (cesql/spec.md 3.5), and the table that users add theirs to."""

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, Final

import msgspec

from bindings.event import INTEGER_MAX, INTEGER_MIN
from gateway.cesql.casts import to_boolean, to_integer, to_string
from gateway.cesql.errors import ErrorKind, EvaluationError, Value

_NAME = re.compile(r"[A-Za-z][A-Za-z_]*")


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """One function with one arity.

    Attributes:
        name: letters and underscores; compared without case.
        parameters: the types that the first arguments are cast to; `object` takes any as it is.
        variadic: the type of all further arguments; None when there must be none.
        returns: the type of the result.
        call: gets the arguments and returns a `returns`. It may raise `EvaluationError` with the
            value that the call yields all the same; any other exception, or a result of another
            type, counts as a function evaluation error with the zero value (3.5.3).
    """

    name: str
    parameters: tuple[type, ...] = ()
    variadic: type | None = None
    returns: type[Value]
    call: Callable[..., Any]


class FunctionTable:
    """The functions that an expression may call."""

    def __init__(self, functions: Iterable[Function] = ()) -> None:
        self._fixed: dict[tuple[str, int], Function] = {}
        self._variadic: dict[str, Function] = {}
        for function in functions:
            self._add(function)

    def extended(self, *functions: Function) -> "FunctionTable":
        """Return a table that has `functions` too.

        Raises:
            ValueError: a name that is none, or an overload that can't be told from another (3.5).
        """
        return FunctionTable([*self._fixed.values(), *self._variadic.values(), *functions])

    def find(self, name: str, arity: int) -> Function | None:
        """Return the function that a call with `arity` arguments means, if there is one."""
        key = name.upper()
        function = self._fixed.get((key, arity))
        if function is None:
            function = self._variadic.get(key)
            if function is not None and arity < len(function.parameters):
                return None
        return function

    def nearest(self, name: str) -> str | None:
        """Return the name that `name` may have been meant to be."""
        known = {key for key, _ in self._fixed} | set(self._variadic)
        matches = get_close_matches(name.upper(), known, 1)
        return matches[0] if matches else None

    def _add(self, function: Function) -> None:
        if not _NAME.fullmatch(function.name):
            raise ValueError(f"{function.name!r} is no function name: letters and underscores")
        key = function.name.upper()
        arities = [arity for name, arity in self._fixed if name == key]
        fixed = len(function.parameters)
        if function.variadic is None:
            variadic = self._variadic.get(key)
            if fixed in arities or (variadic is not None and fixed >= len(variadic.parameters)):
                raise ValueError(f"{key} is already defined for {fixed} arguments")
            self._fixed[key, fixed] = function
        else:
            if key in self._variadic or (arities and fixed <= max(arities)):
                raise ValueError(f"{key} is already defined for as many arguments")
            self._variadic[key] = function


def _error(text: str, value: Value) -> EvaluationError:
    return EvaluationError(ErrorKind.FUNCTION_EVALUATION, text, value)


def _concat(*parts: str) -> str:
    return "".join(parts)


def _concat_ws(delimiter: str, *parts: str) -> str:
    return delimiter.join(parts)


def _left(text: str, count: int) -> str:
    if count < 0:
        raise _error(f"LEFT of {count} characters", text)
    return text[:count]


def _right(text: str, count: int) -> str:
    if count < 0:
        raise _error(f"RIGHT of {count} characters", text)
    return text[-count:] if count else ""


def _substring(text: str, position: int, length: int = INTEGER_MAX) -> str:
    if abs(position) > len(text):
        raise _error(f"SUBSTRING from {position} of {len(text)} characters", "")
    if length < 0:
        raise _error(f"SUBSTRING of {length} characters", "")
    if position == 0:
        return ""
    start = position - 1 if position > 0 else len(text) + position
    return text[start : start + length]


def _abs(number: int) -> int:
    if number == INTEGER_MIN:
        raise EvaluationError(ErrorKind.MATH, f"ABS({number}) is above 32 bits", INTEGER_MAX)
    return abs(number)


BUILT_IN: Final = FunctionTable(
    [
        Function(name="LENGTH", parameters=(str,), returns=int, call=len),
        Function(name="CONCAT", variadic=str, returns=str, call=_concat),
        Function(name="CONCAT_WS", parameters=(str,), variadic=str, returns=str, call=_concat_ws),
        Function(name="LOWER", parameters=(str,), returns=str, call=str.lower),
        Function(name="UPPER", parameters=(str,), returns=str, call=str.upper),
        Function(name="TRIM", parameters=(str,), returns=str, call=str.strip),
        Function(name="LEFT", parameters=(str, int), returns=str, call=_left),
        Function(name="RIGHT", parameters=(str, int), returns=str, call=_right),
        Function(name="SUBSTRING", parameters=(str, int), returns=str, call=_substring),
        Function(name="SUBSTRING", parameters=(str, int, int), returns=str, call=_substring),
        Function(name="ABS", parameters=(int,), returns=int, call=_abs),
        # Not in the tables of 1.0, but in its text (3.7) and in the TCK.
        Function(name="INT", parameters=(object,), returns=int, call=to_integer),
        Function(name="BOOL", parameters=(object,), returns=bool, call=to_boolean),
        Function(name="STRING", parameters=(object,), returns=str, call=to_string),
    ]
)
