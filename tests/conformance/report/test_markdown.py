from conformance.coverage import coverage
from conformance.report.markdown import as_markdown, failures_by_requirement, table
from tests.conformance.report.samples import REPORT, RESULTS, result

LINES = coverage(result.check for result in RESULTS)


def test_the_page_has_a_row_for_each_binding():
    page = as_markdown(REPORT, LINES)
    assert "| http | 2 | 1 | 1 | 0 | 0 | 0 |" in page
    assert "| kafka | 1 | 0 | 0 | 1 | 0 | 1 |" in page


def test_a_failed_requirement_is_told_with_its_text_and_how_to_reproduce_it():
    page = as_markdown(REPORT, LINES)
    assert "### HTTP-DEC-001 (MUST)" in page
    assert '- reproduce: `{"do": 1}`' in page


def test_text_of_others_stays_within_its_code_span():
    page = as_markdown(REPORT, LINES)
    (line,) = [line for line in page.splitlines() if "\\u001b" in line]
    assert line == '  - got: ``a|b `c` <i>&"\\u001b[2J\\ud800\\u0000 d``'


def test_a_cell_keeps_to_its_column():
    assert table([["a"], ["x|y\nz"]]).splitlines()[-1] == "| x\\|y z |"


def test_failures_of_a_must_come_first():
    order = failures_by_requirement(
        [
            result("one", "failed", requirements=("CORE-EXT-001",)),
            result("two", "failed", requirements=("CORE-ATTR-001",)),
            result("three", "passed", requirements=("CORE-ATTR-002",)),
        ]
    )
    assert list(order) == ["CORE-ATTR-001", "CORE-EXT-001"]
