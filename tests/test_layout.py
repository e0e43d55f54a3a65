"""The budgets of the source tree: what a reader may rely on, checked.

Each list of exceptions holds a reason for each entry, and an entry that is no longer needed fails.
"""

import ast
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("bindings", "gateway", "conformance")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50  # without its docstring
BANNED_NAMES = {"utils", "util", "common", "base", "types", "helpers", "misc"}

WITHOUT_TEST = {
    "gateway/interfaces.py": "protocols only; every adapter's test is about them",
}
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}


def path_of(file):
    return file.relative_to(ROOT).as_posix()


SOURCES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))


def has_test(file):
    """Whether a file has its test file, or its folder has: that is a file that grew too long."""
    mirror = ROOT / "tests" / file.relative_to(ROOT).parent
    return any(
        test.is_file()
        for test in (
            mirror / f"test_{file.name}",
            mirror / f"test_{mirror.name}.py",
            mirror.parent / f"test_{mirror.name}.py",
        )
    )


def functions_of(file):
    """Yield the qualified name and the number of lines of each function, docstring left out."""

    def visit(node, prefix):
        for child in ast.iter_child_nodes(node):
            name = (
                f"{prefix}.{child.name}"
                if hasattr(child, "name") and prefix
                else getattr(child, "name", prefix)
            )
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = child.end_lineno - child.lineno + 1
                if ast.get_docstring(child) is not None:
                    lines -= child.body[0].end_lineno - child.body[0].lineno + 1
                yield name, lines
            yield from visit(child, name if hasattr(child, "name") else prefix)

    yield from visit(ast.parse(file.read_text()), "")


def compare(found, excepted):
    """Fail for what is wrong and not excepted, and for what is excepted and no longer wrong."""
    new = sorted(set(found) - set(excepted))
    obsolete = sorted(set(excepted) - set(found))
    if new or obsolete:
        pytest.fail(
            "\n".join([*new, *(f"no longer needed: {entry}" for entry in obsolete)]), pytrace=False
        )


def test_every_source_file_has_a_test_file_of_its_name():
    files = [file for file in SOURCES if file.name != "__init__.py"]
    compare([path_of(file) for file in files if not has_test(file)], WITHOUT_TEST)


def test_no_file_is_longer_than_a_reader_can_hold():
    found = [path_of(f) for f in SOURCES if len(f.read_text().splitlines()) > MAX_FILE_LINES]
    compare(found, LONG_FILES)


def test_no_function_is_longer_than_a_screen():
    found = [
        f"{path_of(file)}: {name}"
        for file in SOURCES
        for name, lines in functions_of(file)
        if lines > MAX_FUNCTION_LINES
    ]
    compare(found, LONG_FUNCTIONS)


def test_no_module_has_a_name_that_says_nothing():
    assert [
        path_of(f) for f in SOURCES if f.stem in BANNED_NAMES or f.parent.name in BANNED_NAMES
    ] == []


def test_lengths_are_counted_without_docstrings(tmp_path):
    file = tmp_path / "module.py"
    file.write_text(
        'class A:\n    def f(self):\n        """Say.\n\n        More."""\n        return 1\n'
    )
    assert list(functions_of(file)) == [("A.f", 2)]


@pytest.fixture(scope="session")
def architecture():
    return (ROOT / "ARCHITECTURE.md").read_text()


def test_every_path_that_the_architecture_names_exists(architecture):
    named = re.findall(
        r"`([\w./*-]+/[\w./*-]*|[\w-]+\.(?:py|toml|md|yaml|json|lark))`", architecture
    )
    assert named
    assert [path for path in named if not list(ROOT.glob(path.strip("/")))] == []


def test_architecture_names_every_package(architecture):
    assert [package for package in (*PACKAGES, "tests") if f"{package}/" not in architecture] == []


def test_wheel_holds_the_packages_with_their_data_and_nothing_else(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    env = {**os.environ, "CE_GATEWAY_PURE": "1"}
    subprocess.run(command, check=True, cwd=ROOT, env=env, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == set(PACKAGES)
    data = {
        "gateway/cesql/grammar.lark",
        "conformance/vectors/filters.json",
        "conformance/skeleton/NAME/binding.py.txt",
    }
    assert data <= set(names)
