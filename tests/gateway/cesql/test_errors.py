"""The errors of the language."""

from gateway.cesql.errors import ErrorKind, EvaluationError, ParseError


def test_parse_error_says_where():
    error = ParseError("unexpected ')'", line=2, column=7)
    assert str(error) == "line 2, column 7: unexpected ')'"
    assert (error.line, error.column, error.kind) == (2, 7, ErrorKind.PARSE)
    assert isinstance(error, ValueError)


def test_evaluation_error_carries_its_kind_and_the_value_all_the_same():
    error = EvaluationError(ErrorKind.MATH, "ABS(-2147483648) is above 32 bits", 2147483647)
    assert str(error) == "ABS(-2147483648) is above 32 bits"
    assert (error.kind, error.value) == (ErrorKind.MATH, 2147483647)
    assert EvaluationError(ErrorKind.CAST, "x").value is None
