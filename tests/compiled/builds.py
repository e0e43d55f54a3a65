"""Both builds of the codecs side by side, each in a process of its own."""

import os
import pickle
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
COMPILED: Final = ROOT / ".cache" / "compiled"


def compiled_modules() -> set[str]:
    """Return the paths that pyproject.toml names."""
    hooks = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    return set(hooks["targets"]["wheel"]["hooks"]["custom"]["modules"])


def unusable() -> str:
    """Return why `.cache/compiled` can't be judged; "" if it can."""
    if not (COMPILED / "made").exists():
        return "there are no compiled modules: make compiled"
    for module in compiled_modules():
        for file in (Path(module), Path(module).with_suffix(".pxd")):
            own, other = ROOT / file, COMPILED / file
            if own.exists() != other.exists() or (
                own.exists() and own.read_bytes() != other.read_bytes()
            ):
                return f"the compiled modules are not of this {file}: make compiled"
    return ""


class Build:
    """One build, waiting for questions.

    Attributes:
        files: where each module is from.
    """

    def __init__(self, path: Sequence[Path]) -> None:
        # The order of a set may show: both builds have to have the same one.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        environment["PYTHONPATH"] = os.pathsep.join(map(str, path))
        # -P: what is in the working directory does not come first.
        command = [sys.executable, "-P", "-m", "tests.compiled.interpreter"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self.files: dict[str, str] = pickle.load(self._process.stdout)

    def ask(self, questions: Sequence[tuple[str, bytes]]) -> None:
        """Hand in questions; `answers` has to follow."""
        pickle.dump(questions, self._process.stdin)
        self._process.stdin.flush()

    def answers(self) -> list[str]:
        """Return an answer to each question.

        Raises:
            EOFError: the build crashed.
        """
        return pickle.load(self._process.stdout)

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


class Builds:
    """The two, which have to say the same."""

    def __init__(self, plain: Build, compiled: Build) -> None:
        self.plain = plain
        self.compiled = compiled

    def difference(self, questions: Sequence[tuple[str, bytes]]) -> str:
        """Return what they say differently, with the bytes that make them; "" if nothing."""
        self.plain.ask(questions)
        self.compiled.ask(questions)
        expected = self.plain.answers()
        try:
            found = self.compiled.answers()
        except EOFError:
            asked = [f"{target}: {data.hex()}" for target, data in questions]
            return "\n".join(["the compiled build crashed at one of", *asked])
        for (target, data), one, other in zip(questions, expected, found, strict=True):
            if one != other:
                return f"{target}: {data.hex()}\nplain:    {one}\ncompiled: {other}"
        return ""


@contextmanager
def both() -> Iterator[Builds]:
    """Start both builds, and end them."""
    builds = Builds(Build([ROOT]), Build([COMPILED, ROOT]))
    try:
        yield builds
    finally:
        builds.plain.close()
        builds.compiled.close()
