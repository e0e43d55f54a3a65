import json
from importlib.metadata import version

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


def test_our_own_run_is_named_after_the_package():
    title = run("run", "kafka", "--family", "vectors").stdout.splitlines()[0]
    assert title.strip() == f"cloudevents-gateway {version('cloudevents-gateway')}, profile main"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["run", "htp"], "no binding is called 'htp'; did you mean http?"),
        (["run", "http", "zzzzzz"], "no binding is called 'zzzzzz'; there are can, "),
        (["list", "kafak"], "no binding is called 'kafak'; did you mean kafka?"),
        (["run", "--family", "vector"], "no family is called 'vector'; did you mean vectors?"),
        (["run", "kafka", "--only", "zzzz"], "no check matches all of that"),
        (["run", "kafka", "--family", "cesql"], "no check matches all of that"),
        (["run", "binding:nosuch:X"], "nosuch:X: No module named 'nosuch'"),
        (["run", "binding:json:X"], "json:X: module 'json' has no attribute 'X'"),
        (["run", "binding:json:loads"], "json:loads: it is no Binding"),
        (["run", "http", "--target", "foo"], "'foo' is no URL of http, mqtt, nats or coap"),
        (["run", "coap", "--target", "http://127.0.0.1:1"], "no check matches all of that"),
        (["run", "--adapter", "false"], "false: no answer to hello: the adapter has ended"),
    ],
)
def test_what_can_not_be_run_is_told_in_a_sentence(arguments, text):
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert text in " ".join(result.output.replace("│", " ").split())
    assert isinstance(result.exception, SystemExit)


def test_a_shipped_adapter_that_can_not_start_says_what_it_needs(monkeypatch):
    monkeypatch.setattr("conformance.command.command_of", lambda _: "false")
    result = run("run", "--adapter", "python-sdk")
    assert result.exit_code == 2
    text = " ".join(result.output.replace("│", " ").split())
    assert "is the SDK there? pip install 'cloudevents-gateway[sdk]'" in text
    assert "the adapter has ended" in text


def test_a_run_in_which_every_check_is_skipped_shows_nothing_and_fails(tmp_path):
    adapter = tmp_path / "adapter.py"
    adapter.write_text(
        """
import json, sys
for line in sys.stdin:
    hello = {"name": "mute", "version": "1", "bindings": ["kafka"]}
    is_hello = json.loads(line)["do"] == "hello"
    print(json.dumps(hello if is_hello else {"unsupported": "all of it"}), flush=True)
"""
    )
    result = run("run", "--adapter", f"python {adapter}")
    assert result.exit_code == 1
    assert "nothing was judged: every check was skipped" in result.output


def test_results_are_printed_as_json():
    result = run("run", "kafka", "--family", "vectors", "--json")
    report = json.loads(result.stdout)
    assert report["summary"]["passed"] == len(report["cases"]) > 100
    assert report["subject"].startswith("cloudevents-gateway ")


def test_checks_are_listed_as_json():
    records = json.loads(run("list", "kafka", "--family", "vectors", "--json").stdout)
    one = next(record for record in records if record["id"] == "kafka-binary-integer")
    assert one["binding"] == "kafka"
    assert "KAFKA-BIN-007" in one["requirements"]
    assert one["verdicts"].keys() == {"1.0.2", "main", "lenient"}


def test_coverage_is_printed_as_json():
    groups = json.loads(run("coverage", "--json", "--role", "producer").stdout)
    assert groups["kafka"]["MUST"]["all"]["percent"] == 100
    ids = {line["id"] for line in groups["kafka"]["requirements"]}
    assert "KAFKA-BIN-004" in ids
    assert "KAFKA-BIN-008" not in ids  # binds consumers


def test_a_gateway_that_is_not_there_is_told_in_one_sentence():
    result = run("run", "http", "--target", "http://127.0.0.1:1", "--observe", "http://127.0.0.1:0")
    assert result.exit_code == 1
    assert "http://127.0.0.1:1 can't be used: nobody listens there" in result.output
