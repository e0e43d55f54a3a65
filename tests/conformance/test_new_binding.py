import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from conformance.new_binding import app, name_problem, write_skeleton

ROOT = Path(__file__).parents[2]


@pytest.fixture
def new_binding(tmp_path, monkeypatch):
    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        return CliRunner().invoke(app, list(arguments))

    return run


def files_of(folder):
    return {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}


def test_a_skeleton_has_every_file_and_the_command_says_what_is_next(new_binding, tmp_path):
    result = new_binding("water_meter")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "water_meter-binding: written. Next:",
        "  cd water_meter-binding; write the four functions of water_meter/binding.py",
        "  ce-gateway conformance run binding:water_meter.binding:BINDING",
        "  pip install --no-build-isolation -e .   # the gateway finds it from then on",
    ]
    files = files_of(tmp_path / "water_meter-binding")
    assert files.keys() == {
        "README.md",
        "docs/water_meter.md",
        "pyproject.toml",
        "tests/test_water_meter.py",
        "water_meter/__init__.py",
        "water_meter/binding.py",
        "water_meter/py.typed",
        "water_meter/requirements.yaml",
        "water_meter/source.py",
        "water_meter/vectors.json",
    }
    texts = {name: file.read_text() for name, file in files.items()}
    assert [name for name, text in texts.items() if "$" in text or "NAME" in text] == []
    assert "class WaterMeterSource:" in texts["water_meter/source.py"]
    assert 'water_meter = "water_meter.source:WaterMeterSource"' in texts["pyproject.toml"]
    assert texts["docs/water_meter.md"].startswith("# Water Meter Protocol Binding for CloudEvents")
    ids = {
        one["id"] for one in yaml.safe_load(texts["water_meter/requirements.yaml"])["requirements"]
    }
    assert "WATERMETER-BIN-001" in ids
    vectors = json.loads(texts["water_meter/vectors.json"])
    assert vectors["binding"] == "water_meter"
    assert {id_ for vector in vectors["vectors"] for id_ in vector["requirements"]} <= ids


def test_it_goes_where_it_is_told_to_if_nothing_is_there(new_binding, tmp_path):
    (tmp_path / "empty").mkdir()
    assert new_binding("meter", "--into", "empty").exit_code == 0
    assert new_binding("meter", "--into", "a/b").exit_code == 0
    assert files_of(tmp_path / "empty").keys() == files_of(tmp_path / "a/b").keys()


def test_nothing_is_written_over(new_binding, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for folder, text in (("full", "full is not empty"), ("file", "file is no folder")):
        result = new_binding("meter", "--into", folder)
        assert result.exit_code == 2
        assert text in result.output
    assert files_of(tmp_path).keys() == {"full/notes", "file"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Meter", "is no Python name in lower case"),
        ("water-meter", "is no Python name in lower case"),
        ("_meter", "is no Python name in lower case"),
        ("3com", "is no Python name in lower case"),
        ("zähler", "is no Python name in lower case"),
        ("../meter", "is no Python name in lower case"),
        ("lambda", "is no Python name in lower case"),
        ("", "is no Python name in lower case"),
        ("coap", "is the name of a binding or source"),
        ("struct", "is the name of a Python module"),
        ("json", "is taken"),
        ("conformance", "is the name of a Python module"),
        ("tests", "is taken"),
        ("core", "is taken"),
    ],
)
def test_a_name_that_cannot_be_is_refused(name, text, new_binding, tmp_path):
    assert text in name_problem(name)
    result = new_binding("--into", "folder", "--", name)
    assert result.exit_code == 2
    assert text in result.output
    assert not (tmp_path / "folder").exists()


def test_the_skeleton_is_formatted_and_typed(tmp_path):
    write_skeleton("meter", tmp_path)
    ruff = [sys.executable, "-m", "ruff"]
    isolated = ["--isolated", "--line-length=100", "--target-version=py311"]
    subprocess.run([*ruff, "format", "--check", *isolated, tmp_path], check=True)
    # No imports are unused, unsorted or undefined, and the usual mistakes are not made.
    rules = "--select=E,F,I,B,UP,SIM,ASYNC,RUF,PT"
    subprocess.run([*ruff, "check", *isolated, rules, "."], check=True, cwd=tmp_path)
    for file in tmp_path.rglob("*.py"):
        compile(file.read_text(), str(file), "exec")
