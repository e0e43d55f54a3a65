import json
from xml.etree import ElementTree as ET

from conformance.check import Result
from conformance.coverage import coverage
from conformance.report.machine import as_badge, as_json, as_junit
from conformance.report.record import Report
from conformance.suite import all_checks
from tests.conformance.report.samples import EMPTY, REPORT, RESULTS

LINES = coverage(result.check for result in RESULTS)


def test_json_has_the_summary_and_a_record_for_each_case():
    found = json.loads(as_json(REPORT, LINES))
    assert found["summary"] == {
        "cases": 3, "passed": 1, "failed": 2, "must_failed": 1, "should_failed": 1, "skipped": 1,
    }  # fmt: skip
    assert [(case["id"], case["status"]) for case in found["cases"]] == [
        ("good", "passed"), ("grave", "failed"), ("mild", "failed"), ("away", "skipped"),
    ]  # fmt: skip
    grave = found["cases"][1]
    assert grave["requirements"] == ["HTTP-DEC-001"]
    assert grave["verdicts"] == {"1.0.2": "taken", "lenient": "taken", "main": "taken"}
    assert (grave["expected"], grave["reproduce"]) == ("an event", '{"do": 1}')
    assert "expected" not in found["cases"][0]


def test_json_has_the_coverage_by_document_level_and_role():
    http = json.loads(as_json(REPORT, LINES))["coverage"]["http"]
    by_id = {line["id"]: line for line in http["requirements"]}
    assert by_id["HTTP-DEC-001"]["checks"] == ["good", "grave", "mild"]
    assert http["MUST"]["all"]["checked"] == 1
    assert http["MUST"]["all"]["missing"] > 10
    assert http["MUST"]["consumer"]["checked"] == 1


def test_junit_has_a_suite_for_each_binding_and_survives_any_text():
    root = ET.fromstring(as_junit(REPORT))
    assert root.attrib["tests"] == "4"
    assert root.attrib["failures"] == "2"
    http, kafka = root.findall("testsuite")
    assert (http.attrib["name"], kafka.attrib["name"]) == ("http", "kafka")
    assert kafka.attrib["skipped"] == "1"
    failure = http.find("testcase[@name='grave']/failure")
    assert failure.attrib["type"] == "MUST"
    assert "\\u001b[2J\\ud800\\u0000" in failure.text
    assert kafka.find("testcase[@name='away']/skipped").attrib["message"] == "has no batches"


def test_the_badge_is_an_image_that_says_how_it_went():
    root = ET.fromstring(as_badge(REPORT))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.attrib["aria-label"] == "CloudEvents conformance: 1 MUST failed"
    assert "0/0 passed" in as_badge(EMPTY)


def test_a_case_states_its_verdict_under_each_profile():
    (check, *_) = [
        one
        for one in all_checks()
        if one.id == "cesql-tck-not-operator-4-invalid-int-cast-fail_fast"
    ]
    results = [Result(check=check, status="passed", seconds=0)]
    report = Report(subject="s", profile="main", seconds=1, results=results)
    (case,) = json.loads(as_json(report, []))["cases"]
    other = "False or True with cast"
    assert case["verdicts"] == {"1.0.2": "False", "lenient": other, "main": "False"}
