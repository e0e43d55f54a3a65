"""`ce-gateway check`: everything that `run` does with a configuration, but for opening."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import BAD_CONFIGURATION
from gateway.config.gateway import GatewayConfig
from gateway.config.loader import load, remarks
from gateway.config.problems import ConfigErrors, Problem
from gateway.config.records import AdapterConfig, Address


def command(
    file: Annotated[Path, typer.Argument(help="The configuration.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a configuration without opening anything.

    Prints what it describes, or every problem with file, line, column, what was expected and the
    nearest right name. The variables that it names have to be set.

    \b
    Example:
      ce-gateway check gateway.yaml
    """  # noqa: D301 - \b keeps lines apart
    try:
        config = load(file, os.environ)
    except ConfigErrors as errors:
        if as_json:
            problems = [_problem(problem) for problem in errors.problems]
            typer.echo(json.dumps({"ok": False, "problems": problems}))
        else:
            typer.echo(str(errors), err=True)
        raise typer.Exit(BAD_CONFIGURATION) from None
    told = [*remarks(config), *_state_remarks(config)]
    if as_json:
        typer.echo(json.dumps({"ok": True, **_summary(config), "remarks": told}))
        return
    for remark in told:
        typer.echo(f"{file}: {remark}", err=True)
    typer.echo(f"{file}: ok")
    for line in _lines(config):
        typer.echo(f"  {line}")


def _problem(problem: Problem) -> dict[str, object]:
    position = problem.position
    return {
        "file": problem.file,
        "line": position.line if position else None,
        "column": position.column if position else None,
        "path": problem.path,
        "text": problem.text,
    }


def _state_remarks(config: GatewayConfig) -> list[str]:
    """Return why the folder for the state can't be kept here, if the configuration names one.

    That is no mistake in it: the gateway may run elsewhere, or as another user.
    """
    if config.state.path is None:
        return []
    path = config.state.path.absolute()
    # `os.path` takes what we may not look at for something that isn't there.
    nearest = next(one for one in (path, *path.parents) if os.path.exists(one))  # noqa: PTH110 - see above
    if not nearest.is_dir():
        return [f"state.path: {path} can't be made here: {nearest} is no folder"]
    if not os.access(nearest, os.W_OK | os.X_OK):
        return [f"state.path: {path} can't be written here: no permission for {nearest}"]
    return []


def _summary(config: GatewayConfig) -> dict[str, object]:
    return {
        "sources": {name: source.protocol for name, source in config.sources.items()},
        "sinks": {name: sink.protocol for name, sink in config.sinks.items()},
        "routes": [
            {
                "name": route.name,
                "from": list(config.sources) if route.from_ is None else route.from_,
                "filter": route.filter,
                "to": route.to,
            }
            for route in config.routes
        ],
    }


def _lines(config: GatewayConfig) -> list[str]:
    lines = [
        f"{kind[:-1]} {name}: {adapter.protocol} {_place(adapter)}".rstrip()
        for kind, adapters in (("sources", config.sources), ("sinks", config.sinks))
        for name, adapter in adapters.items()
    ]
    for route in config.routes:
        sources = ", ".join(route.from_) if route.from_ is not None else "every source"
        condition = " (filtered)" if route.filter else ""
        lines.append(f"route {route.name}: {sources}{condition} -> {', '.join(route.to)}")
    return lines


def _place(adapter: AdapterConfig) -> str:
    listeners = [(name, value) for name, value in adapter if isinstance(value, Address)]
    if listeners:
        return ", ".join(f"{name} {value}" for name, value in listeners).removeprefix("listen ")
    for name in ("url", "bootstrap_servers", "channel"):
        value = getattr(adapter, name, None)
        if value:
            text = str(value)
            scheme, separator, rest = text.rpartition("://")
            # A URL may hold a password, and this is shown.
            return f"{scheme}{separator}{rest.rpartition('@')[2]}"
    return "K_SINK (not set)" if getattr(adapter, "is_k_sink", False) else ""
