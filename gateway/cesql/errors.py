"""What can be wrong with an expression: it does not parse, or it went wrong for one event.

An evaluation never raises: each `EvaluationError` stands in `Result.errors`, beside a value
(cesql/spec.md 3.3). Only a text that is no expression raises, when it is compiled.
"""

from enum import Enum

Value = str | int | bool
"""The three types of the language: String, Integer (32 bits, signed), Boolean."""


class ErrorKind(Enum):
    """The error types of cesql/spec.md 3.3; the values are the TCK's words."""

    PARSE = "parse"
    MATH = "math"
    CAST = "cast"
    MISSING_ATTRIBUTE = "missingAttribute"
    MISSING_FUNCTION = "missingFunction"
    FUNCTION_EVALUATION = "functionEvaluation"
    GENERIC = "generic"


class ParseError(ValueError):
    """The text is no CESQL expression.

    Attributes:
        line: line of the fault, from 1.
        column: column of the fault, from 1.
    """

    kind = ErrorKind.PARSE

    def __init__(self, text: str, *, line: int = 1, column: int = 1) -> None:
        super().__init__(f"line {line}, column {column}: {text}")
        self.line = line
        self.column = column


class EvaluationError(Exception):
    """One thing that went wrong while an expression was evaluated.

    A function of the user's raises it to say what its call amounts to.

    Attributes:
        kind: the error type.
        value: what the operation yields all the same; None stands for the zero value of its type.
    """

    def __init__(self, kind: ErrorKind, text: str, value: Value | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.value = value
