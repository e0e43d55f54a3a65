"""`ce-gateway spool`: what waits on disk for the sinks, also while a gateway runs."""

import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer

from bindings.errors import CloudEventError
from bindings.json_format import encode_event
from gateway.cli import BAD_CONFIGURATION, FAILED
from gateway.cli.listen import as_block, printable
from gateway.config.loader import Lane, read_lanes
from gateway.config.problems import ConfigErrors
from gateway.errors import GatewayError
from gateway.spool.inspection import Contents, DamagedPlace, inspect, pending_records
from gateway.state import SPOOL_FOLDER, default_path
from gateway.stored_event import decode
from gateway.workers.place import folder_of, folders

_HEADINGS: Final = ("ROUTE", "SINK", "PENDING", "BYTES", "LAST WRITE", "DAMAGED")
_LINE_BREAKS_TO_BLANKS: Final = bytes.maketrans(b"\r\n", b"  ")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit codes: 0 ok, 1 failed, 2 wrong usage, 78 wrong configuration.",
)


@app.callback()
def group() -> None:
    """Look at what waits on disk until the sinks take it.

    \b
    Examples:
      ce-gateway spool show gateway.yaml
      ce-gateway spool show --state /var/lib/ce-gateway --json
    """  # noqa: D301 - \b keeps lines apart


@app.command()
def show(
    file: Annotated[
        Path | None, typer.Argument(help="The configuration that says where the state is.")
    ] = None,
    *,
    state: Annotated[
        Path | None, typer.Option(help="Its folder `state.path`, instead.", show_default=False)
    ] = None,
    route: Annotated[str | None, typer.Option(help="Only of this route.")] = None,
    sink: Annotated[str | None, typer.Option(help="Only what goes to this sink.")] = None,
    events: Annotated[
        bool, typer.Option("--events", help="Print the pending events themselves.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, one object per line.")
    ] = False,
) -> None:
    """Show each spool: how much is pending, how old it is, and what is damaged.

    It may run beside the gateway, and changes nothing. LAST WRITE is of the oldest segment with
    something pending: what is in it is at least as old. Of FILE it reads `state.path` and the
    routes, and notes spools that have no route there any more. Without FILE and --state it looks
    where a gateway without `state.path` keeps its state. With several workers each has spools of
    its own (WORKER).

    \b
    Examples:
      ce-gateway spool show gateway.yaml
      ce-gateway spool show --state /var/lib/ce-gateway --json
      ce-gateway spool show gateway.yaml --route orders --sink kafka --events
    """  # noqa: D301 - \b keeps lines apart
    if file is not None and state is not None:
        raise typer.BadParameter("choose one of FILE and --state")
    path, known = (state, None) if file is None else _read(file)
    whole = path or default_path(os.environ)
    folder = whole / SPOOL_FOLDER
    try:
        lanes = [
            lane
            for number in (0, *folders(whole))
            for lane in _lanes(folder_of(whole, number) / SPOOL_FOLDER, known, number)
            if route in (None, lane.route) and sink in (None, lane.sink)
        ]
        if not lanes:
            _tell_none(folder, route, sink)
        elif events:
            _show_events(lanes, as_json=as_json)
        else:
            _show_contents(lanes, as_json=as_json)
    except GatewayError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(FAILED) from None


class _Lane(NamedTuple):
    route: str
    sink: str
    folder: Path
    has_route: bool | None  # None: nobody said which there are
    worker: int


def _read(file: Path) -> tuple[Path | None, set[Lane]]:
    """Return the state folder that a configuration names, and its lanes."""
    try:
        return read_lanes(file, os.environ)
    except ConfigErrors as errors:
        typer.echo(str(errors), err=True)
        raise typer.Exit(BAD_CONFIGURATION) from None


def _tell_none(folder: Path, route: str | None, sink: str | None) -> None:
    """Say that there is no spool, which is an error if a certain one was meant."""
    options = (("route", route), ("sink", sink))
    wanted = " and ".join(f"{kind} {name}" for kind, name in options if name is not None)
    if wanted:
        raise GatewayError(f"no spool of {wanted} in {folder}")
    typer.echo(f"no spools in {folder}", err=True)


def _lanes(folder: Path, known: set[Lane] | None, worker: int) -> Iterator[_Lane]:
    try:
        for path in sorted(folder.glob("*/*/")):
            lane = (path.parent.name, path.name)
            yield _Lane(*lane, path, None if known is None else lane in known, worker)
    except OSError as error:
        raise GatewayError(f"{folder} can't be read: {error.strerror}") from None


def _show_contents(lanes: Sequence[_Lane], *, as_json: bool) -> None:
    found = [(lane, inspect(lane.folder)) for lane in lanes]
    if as_json:
        for lane, contents in found:
            typer.echo(json.dumps(_as_json(lane, contents)))
        return
    rows = [_HEADINGS, *(_row(lane, contents) for lane, contents in found)]
    if any(lane.has_route is False for lane, _ in found):
        notes = ["no such route" if lane.has_route is False else "" for lane, _ in found]
        rows = [(*row, note) for row, note in zip(rows, ["NOTE", *notes], strict=True)]
    if any(lane.worker for lane, _ in found):
        numbers = [str(lane.worker) for lane, _ in found]
        rows = [(number, *row) for row, number in zip(rows, ["WORKER", *numbers], strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
    for lane, contents in found:
        for place in contents.damaged:
            typer.echo(f"{lane.folder / place.segment} {_text_of(place)}", err=True)


def _text_of(place: DamagedPlace) -> str:
    """Return what the gateway itself says of it at its start."""
    if not place.records:
        return (
            f"ends in the middle of a record, as after a crash: {place.size} bytes at "
            f"{place.offset} are left out"
        )
    return f"is damaged: {place.records} records lost in {place.size} bytes at {place.offset}"


def _row(lane: _Lane, contents: Contents) -> tuple[str, ...]:
    return (
        printable(lane.route),
        printable(lane.sink),
        str(contents.pending),
        str(contents.bytes),
        _time_of(contents) or "-",
        str(sum(place.records for place in contents.damaged)),
    )


def _as_json(lane: _Lane, contents: Contents) -> dict[str, Any]:
    return {
        "route": lane.route,
        "sink": lane.sink,
        "pending": contents.pending,
        "bytes": contents.bytes,
        "last_write": _time_of(contents),
        "has_route": lane.has_route,
        "worker": lane.worker,
        "damaged": [place._asdict() for place in contents.damaged],
    }


def _time_of(contents: Contents) -> str | None:
    if contents.last_write is None:
        return None
    return f"{datetime.fromtimestamp(contents.last_write, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _show_events(lanes: Sequence[_Lane], *, as_json: bool) -> None:
    unreadable = 0
    for lane in lanes:
        for sequence, record in pending_records(lane.folder):
            try:
                event, source = decode(record)
            except CloudEventError as error:
                typer.echo(f"{lane.folder}: record {sequence}: {error}", err=True)
                unreadable += 1
                continue
            known = {"route": lane.route, "sink": lane.sink, "sequence": sequence, "from": source}
            encoded = encode_event(event)
            if as_json:
                # The event as it stands: a number of 5000 digits is none that Python reads. A
                # line break in JSON stands between tokens only.
                line = encoded.translate(_LINE_BREAKS_TO_BLANKS).decode()
                typer.echo(f'{json.dumps(known)[:-1]}, "event": {line}}}')
            else:
                typer.echo(_block(known, encoded))
    if unreadable:
        raise typer.Exit(FAILED)


def _block(known: dict[str, Any], encoded: bytes) -> str:
    about = ", ".join(f"{name} {printable(str(value))}" for name, value in known.items())
    try:
        return f"{about}\n{as_block(json.loads(encoded))}"
    except (ValueError, RecursionError):  # a number of 5000 digits, a thousand levels
        return f"{about}\n{printable(encoded.decode())}"
