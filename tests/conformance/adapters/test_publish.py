"""The published page is what a run finds, and each finding on it happens without the suite."""

import subprocess
import sys

import pytest

from conformance.adapters.publish import PAGES, findings_of, page
from conformance.requirements import registry

FINDINGS = findings_of("python-sdk")


@pytest.mark.parametrize("finding", FINDINGS.findings, ids=lambda finding: finding.title)
def test_a_finding_of_the_python_sdk_happens_in_a_plain_interpreter(finding, tmp_path):
    done = subprocess.run(
        [sys.executable, "-"],
        input=FINDINGS.prelude + finding.code,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert finding.prints == (done.stdout or done.stderr).splitlines()[-1]
    assert all(one in registry() for one in finding.requirements)


def test_the_page_of_the_python_sdk_is_current():
    committed = (PAGES / "python-sdk.md").read_text("utf-8")
    assert committed == page("python-sdk"), (
        "run `python -m conformance.adapters.publish python-sdk` and read what changed"
    )
