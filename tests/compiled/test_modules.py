"""That a run is about the build it says it is about: pure twice would pass everything."""

import os
from importlib import import_module
from pathlib import Path

from tests.compiled.builds import COMPILED, ROOT, compiled_modules
from tests.compiled.targets import MODULES

SUFFIXES = {".so", ".pyd"}


def name_of(path):
    return path.removesuffix(".py").replace("/", ".")


def test_this_run_has_the_build_that_it_says():
    files = {Path(import_module(name_of(path)).__file__) for path in compiled_modules()}
    if os.environ.get("TESTED_BUILD") == "compiled":
        assert {file.suffix for file in files} <= SUFFIXES
        assert all(file.is_relative_to(COMPILED) for file in files)
    else:
        assert files == {ROOT / path for path in compiled_modules()}


def test_no_extension_module_stands_in_the_checkout():
    packages = [ROOT / name for name in ("bindings", "gateway", "conformance")]
    found = [file for package in packages for file in package.rglob("*") if file.suffix in SUFFIXES]
    assert [file for file in found if "node_modules" not in file.parts] == []


def test_every_compiled_module_is_compared(builds):
    assert {name_of(path) for path in compiled_modules()} == MODULES
    plain, compiled = builds.plain.files, builds.compiled.files
    assert {Path(file) for file in plain.values()} == {ROOT / path for path in compiled_modules()}
    assert all(Path(file).is_relative_to(COMPILED) for file in compiled.values())
    assert {Path(file).suffix for file in compiled.values()} <= SUFFIXES
