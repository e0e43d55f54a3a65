"""The commands of `ce-gateway dead-letters`."""

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import typer

from gateway.cli import FAILED
from gateway.cli.dead_letters import options as option
from gateway.cli.dead_letters.access import Access, AccessError, Json, Remote
from gateway.cli.dead_letters.display import block, kind_of, summary, table
from gateway.cli.dead_letters.local import Local
from gateway.cli.listen import printable
from gateway.dead_letters import Filter
from gateway.dead_letters.query import parse_moment

_URL: Final = "http://127.0.0.1:8081"
_PAGE: Final = 1000
_SHOWN_FAILURES: Final = 10

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit codes: 0 ok, 1 failed or not all replayed, 2 wrong usage.",
)


@app.callback()
def group() -> None:
    """Look after dead letters: what a gateway could not deliver or decode, and keeps.

    \b
    Examples:
      ce-gateway dead-letters list --since PT1H
      ce-gateway dead-letters show 17
      ce-gateway dead-letters replay --route orders
      ce-gateway dead-letters purge --reason not_an_event
    """  # noqa: D301 - \b keeps lines apart


@app.command("list")
def list_letters(  # noqa: PLR0913 - the options of a command line
    *,
    url: option.Url = None,
    state: option.State = None,
    token: option.Token = None,
    route: option.Route = None,
    source: option.Source = None,
    sink: option.Sink = None,
    reason: option.Reason = None,
    type_: option.EventType = None,
    since: option.Since = None,
    until: option.Until = None,
    limit: option.Limit = 50,
    as_json: option.AsJson = False,
) -> None:
    """List dead letters, the newest first, without their data.

    \b
    Examples:
      ce-gateway dead-letters list --route orders --reason sink_refused
      ce-gateway dead-letters list --since PT1H --json
      ce-gateway dead-letters list --state /var/lib/ce-gateway
    """  # noqa: D301 - \b keeps lines apart
    wanted = _filter(
        route=route, source=source, sink=sink, reason=reason, type=type_, since=since, until=until
    )
    with _access(url, state, token) as access:
        letters, more = _pages(access, wanted, limit)
        nothing = "" if letters else _nothing(access, wanted)
    if as_json:
        for letter in letters:
            typer.echo(json.dumps(letter))
    elif letters:
        for line in table(letters):
            typer.echo(line)
    else:
        typer.echo(nothing, err=True)
    if more:
        typer.echo("there are more: say which, or raise --limit", err=True)


@app.command()
def show(
    number: option.Number,
    *,
    url: option.Url = None,
    state: option.State = None,
    token: option.Token = None,
    as_json: option.AsJson = False,
) -> None:
    """Show everything that is known of a dead letter, with its data.

    \b
    Example:
      ce-gateway dead-letters show 17
    """  # noqa: D301 - \b keeps lines apart
    with _access(url, state, token) as access:
        letter = access.show(number)
    if letter is None:
        _fail(f"there is no dead letter {number}")
    typer.echo(letter if as_json else block(letter))


@app.command()
def replay(  # noqa: PLR0913 - the options of a command line
    numbers: option.Numbers = None,
    *,
    url: option.Url = None,
    token: option.Token = None,
    route: option.Route = None,
    source: option.Source = None,
    sink: option.Sink = None,
    reason: option.Reason = None,
    type_: option.EventType = None,
    since: option.Since = None,
    until: option.Until = None,
    rate: option.Rate = 100.0,
    as_json: option.AsJson = False,
) -> None:
    """Send dead letters to their routes again; those that arrive are deleted.

    Without ID and without options all of them, the oldest first. It needs a running gateway, and
    stops when a sink is down. Ctrl-C ends it; what was sent by then is not sent again.

    \b
    Examples:
      ce-gateway dead-letters replay 17 18
      ce-gateway dead-letters replay --route orders --rate 20
    """  # noqa: D301 - \b keeps lines apart
    wanted = _filter(
        numbers,
        route=route, source=source, sink=sink, reason=reason, type=type_, since=since, until=until,
    )  # fmt: skip
    access = Remote(url or _URL, token)
    with _told():
        total = access.count(wanted) if wanted.ids is None else len(wanted.ids)
        if total == 0 and wanted.reason is not None:
            typer.echo(_nothing(access, wanted), err=True)
        tally = _replay(access, wanted, rate, total, as_json=as_json)
    left = total - tally.total()
    if not as_json:
        typer.echo(summary(tally, total))
    if left > 0:
        why = "not tried: a sink is down, or they are gone"
        typer.echo(f"{left} {why}", err=True)
    if tally["arrived"] < total:
        raise typer.Exit(FAILED)


@app.command()
def purge(  # noqa: PLR0913 - the options of a command line
    numbers: option.Numbers = None,
    *,
    url: option.Url = None,
    state: option.State = None,
    token: option.Token = None,
    route: option.Route = None,
    source: option.Source = None,
    sink: option.Sink = None,
    reason: option.Reason = None,
    type_: option.EventType = None,
    since: option.Since = None,
    until: option.Until = None,
    yes: option.Yes = False,
    as_json: option.AsJson = False,
) -> None:
    """Delete dead letters for good. Without ID and without options it asks, and deletes all.

    \b
    Examples:
      ce-gateway dead-letters purge 17 18
      ce-gateway dead-letters purge --until P30D
      ce-gateway dead-letters purge --yes
    """  # noqa: D301 - \b keeps lines apart
    wanted = _filter(
        numbers,
        route=route, source=source, sink=sink, reason=reason, type=type_, since=since, until=until,
    )  # fmt: skip
    with _access(url, state, token) as access:
        if wanted.is_empty and not yes:
            typer.confirm(f"Delete all {access.count(wanted)} dead letters?", abort=True, err=True)
        count = access.purge(wanted)
        if count == 0 and wanted.reason is not None:
            typer.echo(_nothing(access, wanted), err=True)
    typer.echo(json.dumps({"count": count}) if as_json else f"{count} dead letters deleted")
    if wanted.ids is not None and count < len(wanted.ids):
        _fail(f"{len(wanted.ids) - count} of them were not there")


@app.command()
def export(  # noqa: PLR0913 - the options of a command line
    *,
    url: option.Url = None,
    state: option.State = None,
    token: option.Token = None,
    route: option.Route = None,
    source: option.Source = None,
    sink: option.Sink = None,
    reason: option.Reason = None,
    type_: option.EventType = None,
    since: option.Since = None,
    until: option.Until = None,
) -> None:
    """Print dead letters with all they hold as JSON lines, the oldest first.

    \b
    Examples:
      ce-gateway dead-letters export > letters.jsonl
      ce-gateway dead-letters export --route orders | jq -c .event
    """  # noqa: D301 - \b keeps lines apart
    wanted = _filter(
        route=route, source=source, sink=sink, reason=reason, type=type_, since=since, until=until
    )
    with _access(url, state, token) as access:
        for line in access.export(wanted):
            typer.echo(line)


def _filter(numbers: list[int] | None = None, **options: str | None) -> Filter:
    """Return what the options say; ids and other options are not said together."""
    if numbers and any(options.values()):
        raise typer.BadParameter("say IDs or options, not both")
    now = datetime.now(UTC)
    for name in ("since", "until"):
        text = options[name]
        if text is not None:
            try:
                options[name] = parse_moment(text, now)
            except ValueError as error:
                raise typer.BadParameter(str(error), param_hint=f"--{name}") from None
    ids = tuple(dict.fromkeys(numbers)) if numbers else None
    return Filter(ids=ids, **options)


@contextlib.contextmanager
def _access(url: str | None, state: Path | None, token: str | None) -> Iterator[Access]:
    """Reach the letters of a running gateway, or those of a stopped one."""
    if url is not None and state is not None:
        raise typer.BadParameter("choose one of --url and --state")
    with _told():
        if state is None:
            yield Remote(url or _URL, token)
        else:
            with Local(state) as local:
                yield local


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tell what went wrong, and exit with 1."""
    try:
        yield
    except AccessError as error:
        _fail(str(error))


def _fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(FAILED)


def _pages(access: Access, wanted: Filter, limit: int) -> tuple[list[Json], bool]:
    """Return up to `limit` summaries, and whether there are more."""
    letters: list[Json] = []
    cursor = None
    while len(letters) < limit:
        found, cursor = access.page(wanted, min(limit - len(letters), _PAGE), cursor)
        letters += found
        if cursor is None:
            break
    return letters, cursor is not None


def _nothing(access: Access, wanted: Filter) -> str:
    """Return why nothing was found: perhaps nothing has that reason, which may be misspelt."""
    if wanted.reason is None or access.count(Filter(reason=wanted.reason)):
        return "no dead letters"
    letters, _ = access.page(Filter(), _PAGE, None)
    reasons = sorted({letter["reason"] for letter in letters})
    there = f"; there are {', '.join(reasons)}" if reasons else ""
    return printable(f"no dead letters with the reason {wanted.reason}{there}")


def _replay(
    access: Remote, wanted: Filter, rate: float, total: int, *, as_json: bool
) -> Counter[str]:
    """Replay; return how many there were of each `kind_of`."""
    tally: Counter[str] = Counter()
    failures: list[str] = []
    with _progress(total) as advance, contextlib.suppress(KeyboardInterrupt):
        for result in access.replay(wanted, rate):
            kind = kind_of(result)
            tally[kind] += 1
            advance()
            if as_json:
                typer.echo(json.dumps(result))
            elif kind != "arrived":
                failures.append(
                    f"{result['id']}: {result['reason']}: {printable(result['detail'])}"
                )
    for failure in failures[:_SHOWN_FAILURES]:
        typer.echo(failure, err=True)
    if len(failures) > _SHOWN_FAILURES:
        typer.echo(f"... and {len(failures) - _SHOWN_FAILURES} more", err=True)
    return tally


def _progress(total: int) -> contextlib.AbstractContextManager[Any]:
    """Return a context with a function to call after each letter; it draws on a terminal only."""
    if total <= 1 or not sys.stderr.isatty():
        return contextlib.nullcontext(lambda: None)
    from gateway.cli.progress import bar  # noqa: PLC0415 - rich is slow to import

    return bar(total, "replaying")
