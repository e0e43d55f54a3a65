"""The build hook: compiles the hot modules into the wheel with Cython, from the same sources.

`pyproject.toml` names the modules (`[tool.hatch.build.targets.wheel.hooks.custom]`). An extension
module stands in the wheel beside the `.py` it was made of, and Python prefers it. Editable installs
and source distributions stay pure, and nothing is ever written into the checkout.

    CE_GATEWAY_PURE=1       build the wheel without extension modules, for every platform
    CE_GATEWAY_COMPILED=1   fail where they can't be built, instead of leaving them out

Why Cython, and what is compiled: docs/adr/0012-compiled-modules.md.
"""

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

DIRECTIVES: Final = {
    # What keeps every index within its bytes, whatever the bytes are.
    "boundscheck": True,
    "wraparound": True,
    "nonecheck": True,
    "overflowcheck": True,
    "initializedcheck": True,
    "cdivision": False,
    # Functions that look like Python's: bound as methods, with signatures, annotations, keywords.
    "binding": True,
    "emit_code_comments": False,
}
_FLAGS: Final = ("-O2", "-g0")
_ADVICE: Final = (
    "To compile, install what is missing (Debian: gcc libc6-dev python3-dev) and build again; "
    "CE_GATEWAY_PURE=1 asks for plain Python, CE_GATEWAY_COMPILED=1 makes this an error"
)


class CannotCompileError(Exception):
    """Something is missing or went wrong; the text says what."""


class CompiledModules(BuildHookInterface[Any]):
    """Adds the extension modules to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable" or os.environ.get("CE_GATEWAY_PURE") == "1":
            return
        folder = Path(tempfile.mkdtemp(prefix="ce-gateway-build-"))
        try:
            made = compile_modules(Path(self.root), self.config["modules"], folder)
        except CannotCompileError as error:
            shutil.rmtree(folder)
            if os.environ.get("CE_GATEWAY_COMPILED") == "1":
                raise
            self.app.display_warning(
                f"the wheel will be plain Python, and slower: {error}. {_ADVICE}"
            )
            return
        self._folder = folder  # until the wheel has them
        build_data["force_include"].update(made)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        del version, build_data, artifact_path
        if (folder := getattr(self, "_folder", None)) is not None:
            shutil.rmtree(folder)


def compile_modules(root: Path, modules: Sequence[str], folder: Path) -> dict[str, str]:
    """Compile modules, named by their paths; return each file's place in the wheel.

    Raises:
        CannotCompileError: no Cython, no C compiler, no headers, or one of them failed.
    """
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    include = sysconfig.get_path("include")
    if importlib.util.find_spec("Cython") is None:
        raise CannotCompileError("there is no Cython")
    if shutil.which(compiler[0]) is None:
        raise CannotCompileError(f"there is no C compiler ({compiler[0]})")
    if not Path(include, "Python.h").is_file():
        raise CannotCompileError(f"there are no headers of Python in {include}")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        files = list(pool.map(lambda module: _compile(root, module, folder, compiler), modules))
    return {
        str(file): str(Path(module).with_suffix(sysconfig.get_config_var("EXT_SUFFIX")))
        for file, module in zip(files, modules, strict=True)
    }


def _compile(root: Path, module: str, folder: Path, compiler: list[str]) -> Path:
    source = folder / Path(module).with_suffix(".c")
    source.parent.mkdir(parents=True, exist_ok=True)
    # A `.pxd` beside a module has C types for its functions, which Cython would find to contradict
    # the annotations; the module's types come from one of the two.
    typed = DIRECTIVES | {"annotation_typing": not (root / module).with_suffix(".pxd").is_file()}
    directives = [part for item in typed.items() for part in ("-X", "{}={}".format(*item))]
    _run([sys.executable, "-m", "cython", "-3", *directives, module, "-o", str(source)], root)
    library = source.with_suffix(".so")
    flags = shlex.split(f"{sysconfig.get_config_var('CFLAGS')} {os.environ.get('CFLAGS', '')}")
    include = f"-I{sysconfig.get_path('include')}"
    link = shlex.split(sysconfig.get_config_var("LDSHARED"))[1:]
    shared = shlex.split(sysconfig.get_config_var("CCSHARED") or "")
    _run(
        [*compiler, *flags, *_FLAGS, *shared, include, str(source), "-o", str(library), *link], root
    )
    return library


def _run(command: Sequence[str], root: Path) -> None:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if done.returncode:
        raise CannotCompileError(f"{shlex.join(command)}\n{done.stdout}{done.stderr}")
