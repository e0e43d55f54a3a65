import pytest

from conformance.coverage import GROUPS, Line, Share, coverage, share
from conformance.requirements import registry, untestable
from conformance.suite import all_checks
from tests.conformance.report.samples import check

CHECKS = list(all_checks())
LINES = coverage(CHECKS)


def test_a_line_names_the_checks_of_its_requirement():
    lines = coverage([check("a", requirements=("HTTP-DEC-001",)), check("b", requirements=())])
    (line,) = [line for line in lines if line.checks]
    assert (line.requirement.id, line.checks, line.state) == ("HTTP-DEC-001", ["a"], "checked")


def test_a_share_counts_what_can_be_checked():
    requirement = registry()["HTTP-DEC-001"]
    lines = [
        Line(group="http", requirement=requirement, checks=["a"]),
        Line(group="http", requirement=requirement, checks=[], reason="why"),
        Line(group="http", requirement=requirement, checks=[]),
    ]
    assert [line.state for line in lines] == ["checked", "untestable", "missing"]
    found = share(lines, "http", "MUST")
    assert found == Share(checked=1, untestable=1, missing=1)
    assert found.percent == 50


@pytest.mark.parametrize("group", GROUPS)
def test_every_must_and_nearly_every_should_has_a_check(group):
    missing = [line.requirement.id for line in LINES if line.group == group]
    must, should = share(LINES, group, "MUST"), share(LINES, group, "SHOULD")
    missing = [
        line.requirement.id for line in LINES if line.group == group and line.state == "missing"
    ]
    assert must.percent == 100, missing
    assert should.percent >= 95, missing


def test_what_is_called_untestable_exists_has_a_reason_and_no_check():
    checked = {one for check in CHECKS for one in check.requirements}
    for one, reason in untestable().items():
        assert one in registry()
        assert one not in checked
        assert len(reason.split()) >= 3, one
