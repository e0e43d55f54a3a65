from conformance.check import Summary
from conformance.report.record import weight
from tests.conformance.report.samples import REPORT, result


def test_the_summary_counts_cases_by_level_and_skipped_ones_apart():
    assert REPORT.summary == Summary(
        cases=3, passed=1, failed=2, must_failed=1, should_failed=1, skipped=1
    )


def test_results_stand_under_their_binding_in_the_order_of_names():
    rows = REPORT.by_binding()
    assert list(rows) == ["http", "kafka"]
    assert [result.check.id for result in rows["kafka"]] == ["mild", "away"]


def test_a_requirement_weighs_what_its_failed_checks_do_and_no_more_than_it_is_strong():
    def weighs(requirement, level):
        return weight(requirement, [result("a", "failed", level=level)])

    assert weighs("HTTP-DEC-007", "MUST") == "MUST"
    assert weighs("HTTP-DEC-007", "SHOULD") == "SHOULD"
    assert weighs("CORE-DATA-001", "MUST") == "MAY"
