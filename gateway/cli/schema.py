"""`ce-gateway schema`: the configuration, described."""

import json
from typing import Annotated

import typer

from gateway.cli import FAILED
from gateway.errors import GatewayError


def command(
    *,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the reference for people instead.")
    ] = False,
    as_example: Annotated[
        bool, typer.Option("--example", help="Print an annotated file with every key instead.")
    ] = False,
) -> None:
    """Print the JSON Schema of the configuration, with every installed adapter.

    \b
    Examples:
      ce-gateway schema > ce-gateway.schema.json
      ce-gateway schema --example > gateway.yaml
    """  # noqa: D301 - \b keeps lines apart
    if as_markdown and as_example:
        raise typer.BadParameter("choose one of --markdown and --example")
    try:
        text = _markdown() if as_markdown else _example() if as_example else _json()
    except GatewayError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(FAILED) from None
    typer.echo(text, nl=False)


def _markdown() -> str:
    from gateway.config.reference import markdown  # noqa: PLC0415 - one of three is needed

    return markdown()


def _example() -> str:
    from gateway.config.example import example  # noqa: PLC0415 - one of three is needed

    return example()


def _json() -> str:
    from gateway.config.schema import json_schema  # noqa: PLC0415 - one of three is needed

    return json.dumps(json_schema(), indent=2) + "\n"
