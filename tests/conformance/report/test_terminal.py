import io

from rich.console import Console

from conformance.report.record import Report
from conformance.report.terminal import print_report
from tests.conformance.report.samples import REPORT, result


def printed(report, *, width=100, **options):
    out = io.StringIO()
    print_report(report, Console(file=out, width=width, color_system=None), **options)
    return out.getvalue()


def test_failures_come_first_the_gravest_on_top_and_the_table_last():
    text = printed(REPORT)
    assert text.index("MUST grave") < text.index("SHOULD mild") < text.index("binding")
    assert "expected: an event" in text
    assert 'reproduce: {"do": 1}' in text
    assert "HTTP-DEC-001: " in text


def test_what_is_judged_cannot_move_the_cursor():
    assert "\x1b" not in printed(REPORT)
    assert "\\u001b[2J" in printed(REPORT)


def test_many_failures_are_cut_unless_all_are_wanted():
    many = Report(
        subject="s",
        profile="main",
        results=[result(f"case-{n}", "failed", "no") for n in range(25)],
        seconds=1,
    )
    assert "... and 5 more; --all shows them" in printed(many)
    assert "case-24 " not in printed(many)
    assert "case-24 " in printed(many, every=True)


def test_what_is_to_be_copied_stays_on_one_line():
    line = '{"do": "decode", "message": "' + "x y " * 100 + '"}'
    failed = [result("long", "failed", "no", expected="e " * 100, reproduce=line)]
    text = printed(Report(subject="s", profile="main", results=failed, seconds=1), width=80)
    assert f"  reproduce: {line}" in text.splitlines()


def test_the_table_fits_80_columns():
    results = [result("a", "passed", binding="mqtt-bare-json") for _ in range(2)]
    text = printed(Report(subject="s", profile="main", results=results, seconds=1), width=80)
    (head,) = [line for line in text.splitlines() if "MUST failed" in line]
    assert "SHOULD failed" in head
    assert len(head) <= 80


def test_the_last_line_counts():
    last = printed(REPORT).splitlines()[-1]
    assert last == "3 cases in 1.5 s: 1 passed, 2 failed (1 MUST, 1 SHOULD), 1 skipped"


def test_the_failures_of_the_last_line_add_up():
    failed = [result("a", "failed", level="SHOULD"), result("b", "failed", level="MAY")]
    last = printed(Report(subject="s", profile="main", results=failed, seconds=1)).splitlines()[-1]
    assert "2 failed (0 MUST, 1 SHOULD, 1 MAY)" in last
