"""The checks of CESQL: ours passes them, and mistakes fail those that are about them."""

import pytest

from conformance.checks import cesql
from conformance.engine import Evaluation
from conformance.forms import Refused
from conformance.own.filters import OwnFilters
from conformance.suite import of_profile
from tests.conformance.checks.harness import failed

EVERY = list(cesql.checks())
CHECKS = of_profile(EVERY, "main")


class Mistaken(OwnFilters):
    """Our CESQL with mistakes in what it reads or says."""

    def __init__(self, *, expression=lambda it: it, said=lambda it: it, mode=lambda it: it):
        super().__init__()
        self._expression, self._said, self._mode = expression, said, mode

    def evaluate(self, expression, event, *, fail_fast):
        expression = self._expression(expression)
        found = super().evaluate(expression, event, fail_fast=self._mode(fail_fast))
        return self._said(found)


class Forgiving(OwnFilters):
    def evaluate(self, expression, event, *, fail_fast):
        try:
            return super().evaluate(expression, event, fail_fast=fail_fast)
        except Refused:
            return Evaluation(False)


class Changing(OwnFilters):
    """Evaluates a changed event from the second expression on."""

    def evaluate(self, expression, event, *, fail_fast):
        found = super().evaluate(expression, event, fail_fast=fail_fast)
        event.attributes["id"] = "2"
        return found


def test_ours_passes_in_every_profile():
    for profile in ("1.0.2", "main", "lenient"):
        assert failed(of_profile(EVERY, profile), OwnFilters()) == {}


def test_every_case_of_the_tck_is_judged_in_both_modes():
    of_tck = [check for check in CHECKS if check.id.startswith("cesql-tck-")]
    assert len(of_tck) == 2 * 275
    assert sum(check.id.endswith("-complete") for check in of_tck) == 275


def test_a_defect_of_the_tck_has_a_reason_and_both_verdicts_when_lenient():
    corrected = [check for check in EVERY if "corrected:" in check.title]
    assert len(corrected) == 2 * len(cesql.CORRECTIONS)
    assert {profile for check in corrected for profile in check.profiles} == {
        "1.0.2", "main", "lenient",
    }  # fmt: skip

    def as_the_tck_has_it(found):
        return Evaluation(True, ("cast",)) if found == Evaluation(False, []) else found

    engine = Mistaken(said=as_the_tck_has_it)
    (strict,) = failed(of_profile(corrected, "main"), engine, "not-operator-4-invalid-int-cast-com")
    assert strict
    assert not failed(of_profile(corrected, "lenient"), engine, "not-operator")


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        (Forgiving(), {"cesql-parentheses-open-complete", "cesql-unterminated-string-fail_fast"}),
        (
            Mistaken(said=lambda found: found._replace(errors=())),
            {"cesql-division-by-zero-complete", "cesql-missing-attribute-alone-complete"},
        ),
        (
            Mistaken(said=lambda found: found._replace(value=str(found.value))),
            {"cesql-an-integer-comes-out-complete", "cesql-a-boolean-comes-out-complete"},
        ),
        (
            Mistaken(said=lambda found: found._replace(value=1)),
            {"cesql-a-string-comes-out-complete"},
        ),
        (
            Mistaken(mode=lambda _: True),
            {"cesql-the-modes-differ-after-true-and-complete"},
        ),
        (
            Mistaken(mode=lambda _: False),
            {"cesql-the-modes-differ-after-false-or-fail_fast"},
        ),
        (
            Mistaken(expression=str.upper),
            {"cesql-like-case-complete", "cesql-equality-minds-case-complete"},
        ),
        (
            Mistaken(expression=lambda it: it.replace("%", "*")),
            {"cesql-like-any-run-complete", "cesql-like-empty-run-complete"},
        ),
        (Changing(), {"cesql-unchanged"}),
    ],
)
def test_a_mistake_fails_the_checks_that_are_about_it(engine, expected):
    assert expected <= failed(CHECKS, engine).keys()


def test_a_failure_says_the_expression():
    found = failed(CHECKS, Mistaken(said=lambda it: it._replace(value=7)), "greatest-integer")
    failure = found["cesql-greatest-integer-complete"]
    assert (failure.expected, failure.got) == ("2147483647", "7")
    assert failure.reproduce.startswith("2147483647 ")
