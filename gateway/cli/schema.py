"""`ce-gateway schema`: the configuration, described."""

import json
from typing import Annotated

import typer

from gateway.cli import FAILED
from gateway.config.reference import markdown
from gateway.config.schema import json_schema
from gateway.errors import GatewayError


def command(
    *,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the reference for people instead.")
    ] = False,
) -> None:
    """Print the JSON Schema of the configuration, with every installed adapter.

    \b
    Example:
      ce-gateway schema > ce-gateway.schema.json
    """  # noqa: D301 - \b keeps lines apart
    try:
        typer.echo(
            markdown() if as_markdown else json.dumps(json_schema(), indent=2), nl=not as_markdown
        )
    except GatewayError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(FAILED) from None
