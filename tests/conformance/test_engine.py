"""What an engine says of an expression."""

from conformance.engine import Evaluation


def test_an_evaluation_has_no_errors_unless_it_says_so():
    assert Evaluation(True) == (True, ())
    assert Evaluation(0, ["math"]).errors == ["math"]
