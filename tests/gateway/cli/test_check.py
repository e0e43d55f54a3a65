import json
import os
import subprocess
import sys

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


def test_state_that_cannot_be_kept_here_is_told(check, tmp_path):
    (tmp_path / "file").write_text("")
    in_the_way = tmp_path / "file/state"
    result = check(f"{RIGHT}state: {{path: {in_the_way}}}\n")
    assert result.exit_code == 0  # it may well be written where the gateway runs
    remark = f"state.path: {in_the_way} can't be made here: {tmp_path / 'file'} is no folder"
    assert f"gateway.yaml: {remark}\n" in result.stderr
    result = check(f"{RIGHT}state: {{path: {in_the_way}}}\n", "--json")
    assert remark in json.loads(result.stdout)["remarks"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_state_that_this_user_may_not_write_is_told(check, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o500)
    for path in (folder, folder / "state/below"):
        remark = f"state.path: {path} can't be written here: no permission for {folder}\n"
        assert remark in check(f"{RIGHT}state: {{path: {path}}}\n").stderr


@pytest.mark.parametrize("name", ["new/below", "there", "relative"])
def test_of_state_that_can_be_kept_nothing_is_said(check, tmp_path, name):
    (tmp_path / "there").mkdir()
    path = name if name == "relative" else tmp_path / name
    assert "state.path" not in check(f"{RIGHT}state: {{path: {path}}}\n").stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("listeners", "shown"),
    [
        ("listen_tcp: 127.0.0.1:2", "0.0.0.0:5683, listen_tcp 127.0.0.1:2"),
        (
            "listen: null, listen_ws: 127.0.0.1:80, listen_tcp: 127.0.0.1:2",
            "listen_tcp 127.0.0.1:2, listen_ws 127.0.0.1:80",
        ),
    ],
)
def test_every_listener_of_a_source_is_shown(check, listeners, shown):
    result = check(
        f"sources: {{field: {{protocol: coap, {listeners}}}}}\n"
        "sinks: {out: {protocol: log}}\nroutes: [{to: [out]}]\n"
    )
    assert result.stdout.splitlines()[1] == f"  source field: coap {shown}"


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


STRANGER = """\
from gateway.config.records import SourceConfig

class LoraConfig(SourceConfig):
    region: str

class LoraSource:
    config_type = LoraConfig
"""


@pytest.mark.parametrize(
    ("table", "code", "text"),
    [
        ("{protocol: lora, region: eu868}", 0, "source radio: lora\n"),
        ("{protocol: lora, regoin: eu868}", 78, "did you mean 'region'?"),
        ("{protocol: broken}", 78, "source 'broken' (lora:Missing) can't be imported"),
        ("{protocol: gone}", 78, "source 'gone' (no_such_module:Source) can't be imported"),
    ],
)
def test_an_installed_packages_adapter_is_checked_as_ours_are(tmp_path, table, code, text):
    (tmp_path / "lora.py").write_text(STRANGER)
    info = tmp_path / "lora-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lora\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[cloudevents_gateway.sources]\n"
        "lora = lora:LoraSource\nbroken = lora:Missing\ngone = no_such_module:Source\n"
    )
    path = tmp_path / "gateway.yaml"
    path.write_text(
        f"sources: {{radio: {table}}}\nsinks: {{out: {{protocol: log}}}}\nroutes: [{{to: [out]}}]\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "gateway", "check", str(path)],
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        check=False,
    )
    assert result.returncode == code
    assert text in (result.stdout + result.stderr).decode()
