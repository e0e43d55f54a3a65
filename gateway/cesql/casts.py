"""Casts between the three types (cesql/spec.md 3.7), and their zero values."""

import re
from typing import Final

from bindings.errors import excerpt
from bindings.event import INTEGER_MAX, INTEGER_MIN, canonical_text
from gateway.cesql.errors import ErrorKind, EvaluationError, Value

ZERO: Final[dict[type[Value], Value]] = {str: "", int: 0, bool: False}
TYPE_NAMES: Final[dict[type[Value], str]] = {str: "String", int: "Integer", bool: "Boolean"}

# No blanks, no underscores and no foreign digits, which Python's int() would take.
_INTEGER = re.compile(r"([+-]?)0*([0-9]{1,10})")


def to_string(value: Value) -> str:
    """Return the canonical text of `value`; this cast can't fail."""
    return canonical_text(value)


def to_integer(value: Value) -> int:
    """Return `value` as an Integer.

    Raises:
        EvaluationError: CAST, for a text that is no decimal number of 32 bits.
    """
    if isinstance(value, int):
        return int(value)
    match = _INTEGER.fullmatch(value)
    if match:
        number = int(match[1] + match[2])
        if INTEGER_MIN <= number <= INTEGER_MAX:
            return number
    raise EvaluationError(ErrorKind.CAST, f"{excerpt(value)} is no Integer")


def to_boolean(value: Value) -> bool:
    """Return `value` as a Boolean; every Integer but 0 is true.

    Raises:
        EvaluationError: CAST, for a text other than true and false, whatever their case.
    """
    if isinstance(value, int):
        return value != 0
    word = value.lower()
    if word == "true":
        return True
    if word == "false":
        return False
    raise EvaluationError(ErrorKind.CAST, f"{excerpt(value)} is no Boolean")


def cast(value: Value, target: type[Value]) -> Value:
    """Return `value` as a `target`.

    Raises:
        EvaluationError: CAST, when it can't be one.
    """
    if value.__class__ is target:
        return value
    if target is str:
        return to_string(value)
    return to_boolean(value) if target is bool else to_integer(value)
