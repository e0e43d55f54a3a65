"""`python -m gateway.spool FOLDER ...`: what is in the folders of spools."""

import sys
from pathlib import Path

import typer

from gateway.errors import GatewayError
from gateway.spool.inspection import describe


def main(arguments: list[str]) -> int:
    """Print the folders' contents; return the exit code."""
    if not arguments:
        typer.echo("usage: python -m gateway.spool FOLDER ...", err=True)
        return 2
    try:
        for folder in arguments:
            for line in describe(Path(folder)):
                typer.echo(line)
    except GatewayError as error:
        typer.echo(error, err=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
