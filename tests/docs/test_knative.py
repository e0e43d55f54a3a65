"""docs/knative.md: its table has every point, and the tests that it names are there."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from gateway.config.loader import load

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/knative.md").read_text()
SECTIONS = re.findall(r"In `(tests/[\w/]+\.py)`:\n\n((?:\|.*\n)+)", PAGE)
ROWS = [
    (file, int(number), re.findall(r"`(test_\w+)`", proof))
    for file, table in SECTIONS
    for number, proof in re.findall(r"^\| (\d+) \|.*\| (.*) \|$", table, re.MULTILINE)
]


def names_in(file):
    return [
        node.name
        for node in ast.parse((ROOT / file).read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_every_point_of_the_contract_has_its_row():
    assert [number for _, number, _ in ROWS] == list(range(1, 54))


@pytest.mark.parametrize(("file", "number", "proof"), ROWS)
def test_a_point_names_all_of_its_tests(file, number, proof):
    wanted = [name for name in names_in(file) if name.startswith(f"test_point_{number:02}_")]
    assert proof == wanted != []


def test_every_file_that_it_names_exists():
    named = set(re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", PAGE))
    named |= {f"../{path}" for path in re.findall(r"(deploy/[\w./-]+\w)", PAGE)}
    assert [path for path in named if not (ROOT / "docs" / path).exists()] == []


def test_its_configuration_is_valid():
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    sources = yaml.safe_dump({"sources": {"web": {"protocol": "http", "listen": ":8080"}}})
    assert load(sources + text, {}).sinks["knative"].is_k_sink
