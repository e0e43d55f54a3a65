import json
from pathlib import Path

import pytest

from conformance.report.files import write, writer_of
from tests.conformance.report.samples import REPORT


@pytest.mark.parametrize(
    ("ending", "start"),
    [(".json", "{"), (".xml", "<?xml"), (".md", "# "), (".html", "<!doctype"), (".SVG", "<svg")],
)
def test_the_ending_says_which_report(tmp_path, ending, start):
    path = tmp_path / f"report{ending}"
    write(path, REPORT, [])
    assert path.read_text("utf-8").startswith(start)


def test_another_ending_is_refused_with_those_that_are_known():
    with pytest.raises(ValueError, match=r"ends in \.json, \.xml, \.md, \.html, \.svg"):
        writer_of(Path("report.txt"))


def test_what_is_no_unicode_does_not_keep_a_report_from_being_written(tmp_path):
    path = tmp_path / "report.json"
    write(path, REPORT, [])
    assert json.loads(path.read_text("utf-8"))["cases"][1]["got"].startswith("a|b")
