"""Checks and what became of them, counted."""

from conformance.check import PROFILES, Check, CheckFailed, Result, Summary


def check(level="MUST"):
    return Check(
        id="a", title="t", binding="http", family="f", requirements=("HTTP-DEC-007",),
        level=level, role="consumer", run=lambda _: None,
    )  # fmt: skip


def result(status, level="MUST"):
    return Result(check=check(level), status=status, seconds=0.0)


def test_a_check_holds_in_every_profile_unless_it_says_otherwise():
    assert check().profiles == {"1.0.2", "main", "lenient"} == set(PROFILES)
    assert check().needs == "codec"


def test_a_summary_counts_what_was_judged_and_how_strong_what_failed_was():
    results = [
        result("passed"), result("failed"), result("failed", "SHOULD"), result("failed", "MAY"),
        result("skipped"), result("passed", "SHOULD"),
    ]  # fmt: skip
    summary = Summary.of(results)
    assert (summary.cases, summary.passed, summary.failed) == (5, 2, 3)
    assert (summary.must_failed, summary.should_failed, summary.skipped) == (1, 1, 1)
    assert Summary.of([]).cases == 0


def test_a_failure_tells_what_was_expected_what_came_and_how_to_see_it_again():
    failure = CheckFailed("text", expected="a", got="b", reproduce="c")
    assert (str(failure), failure.expected, failure.got, failure.reproduce) == (
        "text",
        "a",
        "b",
        "c",
    )
    assert CheckFailed("text").expected == ""
