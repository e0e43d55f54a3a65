import json

import pytest
from typer.testing import CliRunner

from gateway.__main__ import app

RIGHT = """\
sources:
  web: {protocol: http, listen: "127.0.0.1:8080"}
  bus: {protocol: nats, url: "nats://bus:4222", username: u, password: hunter2, subjects: [a]}
sinks:
  out: {protocol: log}
  spare: {protocol: log}
routes:
  - {from: [web], to: [out], filter: {exact: {type: a}}}
  - {name: rest, to: [out]}
"""
WRONG = "sources: {web: {protocol: http, prot: 1}}\nsinks: {out: {protocol: log}}\nroutes: [{}]\n"


@pytest.fixture
def check(tmp_path, monkeypatch):
    def run(text, *options):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "gateway.yaml").write_text(text)
        return CliRunner().invoke(app, ["check", "gateway.yaml", *options])

    return run


def test_a_right_file_is_summed_up_without_passwords(check):
    result = check(RIGHT)
    assert result.exit_code == 0
    assert result.stdout == (
        "gateway.yaml: ok\n"
        "  source web: http 127.0.0.1:8080\n"
        "  source bus: nats nats://bus:4222\n"
        "  sink out: log\n"
        "  sink spare: log\n"
        "  route route-1: web (filtered) -> out\n"
        "  route rest: every source -> out\n"
    )
    assert result.stderr == "gateway.yaml: sinks.spare: no route leads to it\n"


def test_a_right_file_as_json(check):
    result = check(RIGHT, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "ok": True,
        "sources": {"web": "http", "bus": "nats"},
        "sinks": {"out": "log", "spare": "log"},
        "routes": [
            {"name": "route-1", "from": ["web"], "filter": {"exact": {"type": "a"}}, "to": ["out"]},
            {"name": "rest", "from": ["web", "bus"], "filter": None, "to": ["out"]},
        ],
        "remarks": ["sinks.spare: no route leads to it"],
    }


def test_a_wrong_file_is_exit_78_with_every_problem(check):
    result = check(WRONG)
    assert result.exit_code == 78
    assert result.stdout == ""
    first, second = result.stderr.splitlines()
    assert first.startswith("gateway.yaml:1:33: sources.web.prot: unknown key 'prot', expected ")
    assert second == "gateway.yaml:3:10: routes[0]: the required key 'to' is missing"


def test_a_wrong_file_as_json(check):
    result = check(WRONG, "--json")
    assert result.exit_code == 78
    problems = json.loads(result.stdout)["problems"]
    assert problems[1] == {
        "file": "gateway.yaml",
        "line": 3,
        "column": 10,
        "path": "routes[0]",
        "text": "the required key 'to' is missing",
    }


def test_a_missing_argument_is_wrong_usage():
    assert CliRunner().invoke(app, ["check"]).exit_code == 2
