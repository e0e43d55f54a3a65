"""The fault plan, run: `python -m tests.faults`. Exit code 1 when any row fails.

python -m tests.faults list              what there is
python -m tests.faults                   all rows in full, the soak for ten minutes
python -m tests.faults --short           all rows, in three minutes
python -m tests.faults --row 1 --row 8   these only
python -m tests.faults --seed 7          everything left to chance as in the run that printed 7
"""

import argparse
import asyncio
import dataclasses
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from tests.benchmarks.machine import describe
from tests.e2e.servers import MissingError
from tests.faults.figures import HEADER, Figures
from tests.faults.row import Context, Row, find_rows

SOAK = 16
Results = Sequence[tuple[Row, Figures]]


def main() -> int:
    options = _parser().parse_args()
    rows = find_rows()
    if options.command == "list":
        for row in rows:
            print(
                f"{row.number:>3}  {row.name}: {row.bound}; short: {row.short_bound or 'left out'}"
            )
        return 0
    chosen = _choose(rows, options)
    options.jobs = options.jobs or (3 if options.short else 1)
    options.seed = random.randrange(2**32) if options.seed is None else options.seed
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        if len(chosen) == 1:
            figures = _run(chosen[0], Path(scratch), options)
            _say(chosen[0], figures)
            results: Results = [(chosen[0], figures)]
        else:
            results = asyncio.run(_run_all(chosen, Path(scratch), options))
    table = _table(results, short=options.short)
    print("\n" + table)
    if options.markdown:
        options.markdown.write_text(_page(table, results, options.seed, short=options.short))
    if options.json:
        found = [{"row": row.number, "fault": row.name, **made.as_dict()} for row, made in results]
        options.json.write_text(json.dumps({"seed": options.seed, "rows": found}, indent=1) + "\n")
    failed = [row.number for row, figures in results if figures.problems]
    if failed:
        print(f"\nFAILED: rows {failed}, seed {options.seed}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="?", choices=["run", "list"], default="run")
    parser.add_argument("--row", type=int, action="append", help="this row; may be repeated")
    parser.add_argument("--short", action="store_true", help="seconds per row, not minutes")
    parser.add_argument("--jobs", type=int, help="rows at once; default: 3 in short, else 1")
    parser.add_argument("--seed", type=int, help="default: a random one; it is printed")
    parser.add_argument("--minutes", type=float, help="how long the soak goes on")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep failed rows' files here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table here too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    return parser


def _choose(rows: Sequence[Row], options: argparse.Namespace) -> Sequence[Row]:
    if options.row:
        missing = set(options.row) - {row.number for row in rows}
        if missing:
            sys.exit(f"there is no row {sorted(missing)}; see `list`")
        return [row for row in rows if row.number in options.row]
    if options.short:
        return [row for row in rows if row.short_bound is not None]
    return rows


async def _run_all(
    chosen: Sequence[Row], scratch: Path, options: argparse.Namespace
) -> list[tuple[Row, Figures]]:
    """Run each row in a process of its own, some at once."""
    room = asyncio.Semaphore(options.jobs)

    async def run(row: Row) -> tuple[Row, Figures]:
        async with room:
            figures = await _run_apart(row, scratch, options)
        _say(row, figures)
        return row, figures

    return await asyncio.gather(*(run(row) for row in chosen))


async def _run_apart(row: Row, scratch: Path, options: argparse.Namespace) -> Figures:
    result = scratch / f"row-{row.number}.json"
    command = [sys.executable, "-m", "tests.faults", "--row", str(row.number)]
    command += ["--seed", str(options.seed), "--json", str(result)]
    command += ["--short"] if options.short else []
    command += ["--keep", str(options.keep)] if options.keep else []
    command += ["--minutes", str(options.minutes)] if options.minutes else []
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if not result.exists():
        return Figures(problems=[f"no result: {output.decode(errors='replace')[-4000:]}"])
    (found,) = json.loads(result.read_text())["rows"]
    names = {field.name for field in dataclasses.fields(Figures)}
    return Figures(**{name: value for name, value in found.items() if name in names})


def _run(row: Row, scratch: Path, options: argparse.Namespace) -> Figures:
    folder = scratch / f"row-{row.number}"
    folder.mkdir()
    context = Context(folder, options.seed, options.short, options.minutes)
    limit = row.short_seconds if options.short else row.seconds
    if options.minutes is not None and row.number == SOAK:
        limit = options.minutes * 60 + 120
    started = time.monotonic()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(_bounded(row, context, limit))
    figures.seconds = time.monotonic() - started
    if figures.problems and options.keep:
        kept = options.keep / f"row-{row.number}-seed-{options.seed}"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder, kept, ignore_dangling_symlinks=True)
        figures.notes.append(f"kept in {kept}")
    shutil.rmtree(folder, ignore_errors=True)
    return figures


async def _bounded(row: Row, context: Context, limit: float) -> Figures:
    own_faults: list[str] = []

    def note(loop: asyncio.AbstractEventLoop, fault: dict[str, Any]) -> None:
        own_faults.append(f"in the harness: {fault.get('message')}: {fault.get('exception')!r}")

    asyncio.get_running_loop().set_exception_handler(note)
    try:
        async with asyncio.timeout(limit):
            figures = await row.run(context)
        figures.problems += own_faults[:5]
        return figures
    except TimeoutError as error:
        return Figures(problems=[f"not done within {limit:.0f} s: {error!r}"])
    except MissingError as error:
        return Figures(problems=[str(error)])
    except Exception:
        return Figures(problems=[traceback.format_exc()])


def _say(row: Row, figures: Figures) -> None:
    print(
        f"row {row.number:>2} {figures.verdict}  {row.name}: {figures.events} events, "
        f"{figures.kills} kills, lost {figures.lost}, own duplicates {figures.own_duplicates}, "
        f"{figures.seconds:.1f} s",
        flush=True,
    )
    if figures.skipped:
        print(f"       SKIPPED: {figures.skipped}", flush=True)
    for text in figures.notes:
        print(f"       {text}", flush=True)
    for text in figures.problems:
        print(f"       PROBLEM: {text}", flush=True)


def _table(results: Results, *, short: bool) -> str:
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    for row, figures in results:
        bound = (row.short_bound or row.bound) if short else row.bound
        lines.append("| " + " | ".join(figures.cells(row.number, row.name, bound)) + " |")
    return "\n".join(lines)


def _page(table: str, results: Results, seed: int, *, short: bool) -> str:
    command = f"python -m tests.faults{' --short' if short else ''} --seed {seed}"
    lines = ["# Reliability figures", "", f"Made by `{command}`.", "", describe(), "", table, ""]
    for row, figures in results:
        details: list[Any] = [f"SKIPPED: {figures.skipped}"] if figures.skipped else []
        details += [*figures.notes, *(f"PROBLEM: {text}" for text in figures.problems)]
        if details:
            lines += [f"Row {row.number}, {row.name}:", "", *(f"- {text}" for text in details), ""]
    return "\n".join(lines)


sys.exit(main())
