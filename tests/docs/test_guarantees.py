"""docs/guarantees.md names the test that proves each sentence; those tests have to be there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/guarantees.md").read_text()
PROOFS = sorted(set(re.findall(r"`(tests/[\w/.]+\.py)((?:::\w+)+)`", PAGE)))
ROWS = sorted(set(re.findall(r"`make faults` row (\d+)", PAGE)))


@cache
def names_in(path):
    found = set()
    for node in ast.parse((ROOT / path).read_text()).body:
        if isinstance(node, ast.ClassDef):
            found |= {
                f"::{node.name}::{inner.name}"
                for inner in node.body
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
            }
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(f"::{node.name}")
    return found


def test_it_names_proofs_for_every_protocol_and_sink():
    for name in ("coap", "mqtt", "nats", "http", "kafka"):
        assert any(name in path for path, _ in PROOFS), name
    assert len(PROOFS) > 100


@pytest.mark.parametrize(("path", "name"), PROOFS)
def test_a_test_that_is_named_is_there(path, name):
    assert name in names_in(path)


def test_every_row_of_a_promise_has_a_proof():
    promises = re.findall(
        r"^\| Promised \| Proved by \|\n\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE
    )
    assert promises
    for row in "".join(promises).splitlines():
        assert "::" in row or "make faults" in row, row
