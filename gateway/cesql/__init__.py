"""CESQL 1.0, the CloudEvents SQL expression language (cesql/spec.md).

`compile_expression` makes an `Expression` of a text, `Expression.evaluate` gives a value and the
errors for one event. The way of a text: grammar.lark and parser.py read it, operators.py and
nodes.py make closures of it; casts.py, like.py and functions.py are what these call.
"""

from gateway.cesql.errors import ErrorKind, EvaluationError, ParseError, Value
from gateway.cesql.expression import Expression, Result, compile_expression
from gateway.cesql.functions import BUILT_IN, Function, FunctionTable

__all__ = [
    "BUILT_IN",
    "ErrorKind",
    "EvaluationError",
    "Expression",
    "Function",
    "FunctionTable",
    "ParseError",
    "Result",
    "Value",
    "compile_expression",
]
