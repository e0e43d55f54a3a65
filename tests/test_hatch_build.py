import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hatch_build import CannotCompileError, compile_modules
from tests.test_layout import ROOT


def build(folder, *, target="wheel", **environment):
    """Build with the project's own hook; return what the build said and the files of the wheel."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    own = {"CE_GATEWAY_PURE": "", "CE_GATEWAY_COMPILED": "", **environment}
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **own}, capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    names = zipfile.ZipFile(wheels[0]).namelist() if wheels else []
    return done, [wheel.name for wheel in wheels], [name for name in names if name.endswith(".so")]


def test_a_wheel_is_plain_python_by_choice(tmp_path):
    done, (wheel,), compiled = build(tmp_path, CE_GATEWAY_PURE="1")
    assert done.returncode == 0
    assert wheel.endswith("-py3-none-any.whl")
    assert compiled == []


def test_a_wheel_is_plain_python_without_a_compiler_and_the_build_says_so(tmp_path):
    done, (wheel,), compiled = build(tmp_path, CC="no-such-compiler")
    assert done.returncode == 0
    said = done.stderr + done.stdout
    assert "there is no C compiler (no-such-compiler). To compile, install" in said
    assert wheel.endswith("-py3-none-any.whl")
    assert compiled == []


def test_a_build_that_has_to_be_compiled_fails_without_a_compiler(tmp_path):
    done, wheels, _ = build(tmp_path, CC="no-such-compiler", CE_GATEWAY_COMPILED="1")
    assert done.returncode != 0
    assert "there is no C compiler (no-such-compiler)" in done.stderr + done.stdout
    assert wheels == []


def test_an_editable_install_is_plain_python(tmp_path):
    done, (wheel,), compiled = build(tmp_path, target="wheel:editable", CE_GATEWAY_COMPILED="1")
    assert done.returncode == 0
    assert "none-any" in wheel
    assert compiled == []


@pytest.fixture
def project(tmp_path):
    package = tmp_path / "small"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "cut.py").write_text("def byte(data: bytes, at: int) -> int:\n    return data[at]\n")
    return tmp_path


def compiled_into(project):
    try:
        made = compile_modules(project, ["small/cut.py"], project / "made")
    except CannotCompileError as error:
        if str(error).startswith("there "):
            pytest.skip(str(error))
        raise
    ((file, place),) = made.items()
    Path(file).replace(project / place)


@pytest.mark.parametrize("types", [None, "cpdef int byte(bytes data, Py_ssize_t at) except -1\n"])
def test_what_is_compiled_stands_beside_its_source_and_keeps_within_its_bytes(project, types):
    if types is not None:
        (project / "small" / "cut.pxd").write_text(types)
    compiled_into(project)
    code = """
from small.cut import byte
assert not __import__("small.cut").cut.__file__.endswith(".py")
assert (byte(b"ab", 1), byte(b"ab", -1)) == (98, 98)
for at in (2, -3, 2**62, -2**62):
    try:
        print(byte(b"ab", at))
    except IndexError:
        pass
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_module_that_can_not_be_compiled_is_named_with_what_is_wrong(project):
    (project / "small" / "cut.py").write_text("def byte(:\n")
    with pytest.raises(CannotCompileError, match=r"small/cut\.py|there is no"):
        compile_modules(project, ["small/cut.py"], project / "made")
