"""`python -m conformance.mutants`: show that the suite finds every mistake."""

import time
from pathlib import Path
from typing import Annotated

import typer

from conformance.mutants import report
from conformance.mutants.runner import all_mutants, try_all


def main(
    *,
    only: Annotated[
        list[str] | None, typer.Option(help="Mutants with this in their id only. Repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a record for each.")] = False,
    file: Annotated[
        Path | None, typer.Option("--report", metavar="FILE.md", help="Write the table too.")
    ] = None,
    catalogue: Annotated[
        bool, typer.Option("--catalogue", help=f"Print {report.DOCUMENT} and try none.")
    ] = False,
    processes: Annotated[int, typer.Option(min=1, help="How many are tried at a time.")] = 3,
) -> None:
    """Try every mutant; exit code 1 if one survives or is broken."""
    mutants = [
        mutant for mutant in all_mutants() if not only or any(part in mutant.id for part in only)
    ]
    if catalogue:
        typer.echo(report.catalogue(mutants), nl=False)
        return
    started = time.perf_counter()
    tried: list[report.Tried] = []
    for mutant, verdict in try_all(mutants, processes, lambda text: typer.echo(text, err=True)):
        tried.append((mutant, verdict))
        progress = f"{len(tried)}/{len(mutants)}"
        typer.echo(f"{progress:>7}  {report.line(mutant, verdict)}", err=True)
    tried.sort(key=lambda one: mutants.index(one[0]))
    if as_json:
        typer.echo(report.to_json(tried))
    if file is not None:
        file.write_text(report.to_markdown(tried), "utf-8")
    left = [one for one in tried if one[1].outcome != "killed"]
    for mutant, verdict in left:
        typer.echo(report.line(mutant, verdict), err=True)
    typer.echo(report.summary(tried, time.perf_counter() - started), err=True)
    if left or not tried:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
