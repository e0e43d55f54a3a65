import json

import pytest
from typer.testing import CliRunner

from conformance.command import app

NO_KAFKA = """
from bindings.binding import HeaderBinding

BINDING = HeaderBinding(name="kafka", prefix="ce-", empty_is_absent=False)
"""


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_our_own_binding_passes_and_the_table_says_so():
    result = run("run", "kafka")
    assert result.exit_code == 0
    assert "0 failed" in result.stdout.splitlines()[-1]


def test_a_wrong_binding_fails_with_its_bytes(tmp_path, monkeypatch):
    (tmp_path / "wrong_kafka.py").write_text(NO_KAFKA)
    monkeypatch.syspath_prepend(tmp_path)
    result = run("run", "binding:wrong_kafka:BINDING", "--only", "kafka-binary")
    assert result.exit_code == 1
    assert "MUST kafka-binary" in result.stdout
    assert "KAFKA-BIN-" in result.stdout
    assert '{"do": "decode", "binding": "kafka"' in result.stdout.replace("\n", "")


def test_reports_are_written_beside_the_table(tmp_path):
    paths = [tmp_path / f"r.{ending}" for ending in ("json", "xml", "md", "html", "svg")]
    arguments = [text for path in paths for text in ("--report", str(path))]
    result = run("run", "kafka", "--family", "vectors", *arguments)
    assert result.exit_code == 0
    assert all(path.stat().st_size for path in paths)
    summary = json.loads(paths[0].read_text())["summary"]
    assert summary["cases"] == summary["passed"] > 100
    assert summary["must_failed"] == summary["should_failed"] == 0


@pytest.mark.parametrize(
    ("path", "text"), [("r.txt", "a report ends in"), ("nowhere/r.json", "there is no folder")]
)
def test_a_report_that_cannot_be_written_is_told_before_anything_runs(path, text):
    result = run("run", "kafka", "--report", path)
    assert result.exit_code == 2
    assert text in " ".join(result.output.split())


def test_list_has_a_line_for_each_check():
    lines = run("list", "kafka", "--family", "vectors").stdout.splitlines()
    assert len(lines) > 100
    name, binding, level, requirements, title = lines[0].split("\t")
    assert (binding, level) == ("kafka", "MUST")
    assert requirements.startswith("CORE-")
    assert name.startswith("kafka-")
    assert title


def test_coverage_names_what_has_no_check_and_why():
    result = run("coverage", "--missing")
    assert "| kafka | " in result.stdout
    assert "\tMISSING" not in result.stdout
