from conformance.check import Summary
from tests.conformance.report.samples import REPORT


def test_the_summary_counts_cases_by_level_and_skipped_ones_apart():
    assert REPORT.summary == Summary(
        cases=3, passed=1, failed=2, must_failed=1, should_failed=1, skipped=1
    )


def test_results_stand_under_their_binding_in_the_order_of_names():
    rows = REPORT.by_binding()
    assert list(rows) == ["http", "kafka"]
    assert [result.check.id for result in rows["kafka"]] == ["mild", "away"]
