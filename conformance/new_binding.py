"""`ce-gateway new-binding`: a working skeleton of a package for a protocol of one's own.

The files of `conformance/skeleton/` are `string.Template`s; `NAME` in a path and `$name` in a text
become the binding's name.
"""

import keyword
import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from string import Template
from typing import Annotated, Final

import typer

from conformance.requirements import registry
from gateway.registry import names

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_ENDING: Final = ".txt"  # so that nobody takes them for files of this project

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def command(
    name: Annotated[
        str, typer.Argument(help="A Python name in lower case: package, binding and protocol.")
    ],
    *,
    into: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="New or empty. Default: NAME-binding, here."),
    ] = None,
) -> None:
    """Make the skeleton of a package for a custom or proprietary protocol.

    It has a document, test vectors, a source and tests; four functions are left to be written.

    \b
    Example:
      ce-gateway new-binding meter
    """  # noqa: D301 - \b keeps lines apart
    folder = into or Path(f"{name}-binding")
    problem = name_problem(name) or _folder_problem(folder)
    if problem:
        raise typer.BadParameter(problem)
    write_skeleton(name, folder)
    typer.echo(f"{folder}: written. Next:")
    typer.echo(f"  cd {folder}; write the four functions of {name}/binding.py")
    typer.echo(f"  ce-gateway conformance run binding:{name}.binding:BINDING")
    typer.echo("  pip install --no-build-isolation -e .   # the gateway finds it from then on")


def name_problem(name: str) -> str:
    """Return why no binding can have that name, "" if one can."""
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        return f"{name!r} is no Python name in lower case"
    if name in {*names("bindings"), *names("sources")}:
        return f"{name!r} is the name of a binding or source that is installed"
    if name in {"docs", "tests"} or _prefix(name) in {one.partition("-")[0] for one in registry()}:
        return f"{name!r} is taken: by a folder of the skeleton, or by requirements of the suite"
    if find_spec(name) is not None:
        return f"{name!r} is the name of a Python module that is installed"
    return ""


def _folder_problem(folder: Path) -> str:
    if folder.exists() and not folder.is_dir():
        return f"{folder} is no folder"
    if folder.is_dir() and any(folder.iterdir()):
        return f"{folder} is not empty"
    return ""


def write_skeleton(name: str, folder: Path) -> None:
    """Write the skeleton's files.

    Args:
        name: a name without a `name_problem`.
        folder: where to; it is made if it isn't there.
    """
    words = {
        "name": name,
        "class_name": "".join(word.capitalize() for word in name.split("_")),
        "title": " ".join(word.capitalize() for word in name.split("_")),
        "prefix": _prefix(name),
        "distribution": name.replace("_", "-").strip("-"),
    }
    for path, text in _templates(files("conformance").joinpath("skeleton"), PurePosixPath()):
        target = folder / str(path).replace("NAME", name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(Template(text).substitute(words), "utf-8")


def _prefix(name: str) -> str:
    """Return what the ids of its requirements begin with."""
    return name.replace("_", "").upper()


def _templates(folder: Traversable, path: PurePosixPath) -> Iterator[tuple[PurePosixPath, str]]:
    for one in sorted(folder.iterdir(), key=lambda one: one.name):
        if one.is_dir():
            yield from _templates(one, path / one.name)
        elif one.name.endswith(_ENDING):
            yield path / one.name.removesuffix(_ENDING), one.read_text("utf-8")
