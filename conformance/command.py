"""`ce-gateway conformance`: list the checks, and judge ours or anybody's implementation by them."""

import asyncio
import json
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from conformance.adapter import AdapterCodec, AdapterError
from conformance.adapters import NEEDS, command_of
from conformance.check import Check, Profile, Result, Role
from conformance.codec import own_codec
from conformance.coverage import coverage
from conformance.custom import CustomBinding, custom_binding
from conformance.deviations import NetCodec, checks_of
from conformance.foreign import PROTOCOLS, NothingArrives, protocol_of
from conformance.options import (
    Adapter,
    AsJson,
    Broker,
    Every,
    Family,
    Names,
    Observe,
    Only,
    ProfileOption,
    Reports,
    Requirements,
    Targets,
    Vectors,
)
from conformance.plan import (
    Choice,
    Part,
    codec_part,
    codec_plan,
    generic_checks,
    own_plan,
    target_plan,
)
from conformance.report.files import write, writer_of
from conformance.report.machine import as_json as report_as_json
from conformance.report.machine import coverage_record, record_of
from conformance.report.markdown import coverage_table
from conformance.report.record import Report
from conformance.report.terminal import print_report
from conformance.suite import all_checks, run
from gateway.cli import FAILED

app = typer.Typer(no_args_is_help=True, help="Judge an implementation by the specification.")


@app.command("run")
def run_command(  # noqa: PLR0913 - each is an option of the command line
    names: Names = None,
    *,
    adapter: Adapter = None,
    target: Targets = None,
    observe: Observe = "http://127.0.0.1:9999",
    broker: Broker = False,
    vectors: Vectors = None,
    requirements: Requirements = None,
    profile: ProfileOption = "main",
    family: Family = None,
    only: Only = None,
    every: Every = False,
    as_json: AsJson = False,
    reports: Reports = None,
) -> None:
    """Run the checks, print failures and a table; exit code 1 if a MUST failed.

    \b
    Examples:
      ce-gateway conformance run
      ce-gateway conformance run http kafka --report result.html
      ce-gateway conformance run binding:my_module:BINDING --vectors my_vectors.json
      ce-gateway conformance run --adapter python-sdk
      ce-gateway conformance run mqtt --target mqtt://host:1883 --observe http://127.0.0.1:9999
    """  # noqa: D301 - \b keeps lines apart
    for path in reports or ():
        _check_report(path)
    places = [name.removeprefix("binding:") for name in names or () if name.startswith("binding:")]
    bindings = [name for name in names or () if not name.startswith("binding:")]
    choice = Choice(profile=profile, bindings=bindings, families=family or (), only=only or ())
    customs = _customs(places, vectors, requirements, profile)
    subject = ""
    if target:
        parts = _target_plan(target, observe, choice, is_broker=broker)
    elif adapter is not None:
        parts = _adapter_plan(adapter, choice)
    elif customs:
        parts = [codec_part(one.codec, choice.of(one.checks)) for one in customs]
    else:
        parts = _own_plan(choice)
        subject = f"cloudevents-gateway {version('cloudevents-gateway')}"
    _demand_checks(parts)
    report = _judged(parts, profile, subject)
    ran = [result.check for result in report.results if result.status != "skipped"]
    lines = coverage(ran) if not customs else [line for one in customs for line in one.covered(ran)]
    for path in reports or ():
        write(path, report, lines)
    if as_json:
        typer.echo(report_as_json(report, lines))
    else:
        print_report(report, Console(), every=every)
    told = [line for one in customs for line in one.told()]
    told += [] if ran else ["nothing was judged: every check was skipped"]
    for line in told:
        typer.echo(line, err=as_json)
    if not ran or report.summary.must_failed or any(one.codec.unwritten for one in customs):
        raise typer.Exit(FAILED)


def _customs(
    places: Sequence[str], vectors: Path | None, requirements: Path | None, profile: Profile
) -> list[CustomBinding]:
    """Return the bindings of somebody's own that are to be judged."""
    if (vectors or requirements) and len(places) != 1:
        text = "vectors and requirements are those of one binding:MODULE:NAME"
        raise typer.BadParameter(text)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as for `python -m`: most are in the current folder
    found = []
    for place in places:
        try:
            found.append(custom_binding(place, vectors, requirements, profile))
        except (ValueError, ImportError, AttributeError) as error:
            text = f"{place}: {error}"
            raise typer.BadParameter(text, param_hint="binding:MODULE:NAME") from None
    return found


def _own_plan(choice: Choice) -> list[Part]:
    """Return the parts that judge what is installed here, of names that exist."""
    if choice.bindings or choice.families:
        _demand_known(choice, [*all_checks(), *generic_checks(own_codec())])
    return own_plan(choice)


def _target_plan(
    urls: Sequence[str], observe: str, choice: Choice, *, is_broker: bool
) -> list[Part]:
    """Return the parts that judge a gateway by URL."""
    for url in urls:
        if protocol_of(url) not in PROTOCOLS:
            known = f"{', '.join(PROTOCOLS[:-1])} or {PROTOCOLS[-1]}"
            raise typer.BadParameter(f"{url!r} is no URL of {known}", param_hint="--target")
    _demand_known(choice, list(all_checks()))
    return target_plan(urls, observe, choice, is_broker=is_broker)


def _demand_known(choice: Choice, checks: Sequence[Check]) -> None:
    """Refuse names of bindings and families that no check has."""
    _demand_names("binding", choice.bindings, {check.binding for check in checks}, "NAMES")
    _demand_names("family", choice.families, {check.family for check in checks}, "--family")


def _demand_names(kind: str, names: Iterable[str], known: Collection[str], option: str) -> None:
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            rest = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
            text = f"no {kind} is called {name!r}; {rest}"
            raise typer.BadParameter(text, param_hint=option)


def _demand_checks(parts: Iterable[Part]) -> None:
    """Refuse a choice that leaves nothing: a run of it would pass."""
    if not any(part.checks for part in parts):
        text = "no check matches all of that; `ce-gateway conformance list` shows what there is"
        raise typer.BadParameter(text)


def _adapter_plan(name: str, choice: Choice) -> list[Part]:
    """Start an adapter; return the parts that judge it."""
    try:
        codec = AdapterCodec(command_of(name))
    except AdapterError as error:
        text = (
            f"{name}: is the SDK there? {NEEDS[name]}\n\n{error}" if name in NEEDS else str(error)
        )
        raise typer.BadParameter(text, param_hint="--adapter") from None
    unknown = ", ".join(sorted(set(choice.bindings) - set(codec.bindings)))
    if unknown:
        codec.close()
        has = ", ".join(codec.bindings)
        raise typer.BadParameter(f"the adapter has {has}, not {unknown}", param_hint="NAMES")
    known = codec.deviations
    return codec_plan(NetCodec(codec, known), choice, list(checks_of(codec, known)))


def _judged(parts: Iterable[Part], profile: Profile, subject: str) -> Report:
    """Run the parts, unless a foreign gateway turns out not to deliver here."""
    try:
        return judge(parts, profile, subject)
    except NothingArrives as nothing:
        typer.echo(str(nothing), err=True)
        raise typer.Exit(FAILED) from None


def _check_report(path: Path) -> None:
    """Refuse a report that could not be written, before the checks run."""
    try:
        writer_of(path)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--report") from None
    if not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {path.parent}", param_hint="--report")


@app.command("coverage")
def coverage_command(
    *,
    missing: Annotated[
        bool, typer.Option("--missing", help="List requirements without a check.")
    ] = False,
    role: Annotated[
        Role | None, typer.Option(help="Only what binds this role. Default: everybody.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how many requirements of each document have checks, and which have none and why.

    \b
    Examples:
      ce-gateway conformance coverage --missing
      ce-gateway conformance coverage --role producer
    """  # noqa: D301 - \b keeps lines apart
    lines = [
        line for line in coverage(all_checks()) if role is None or role in line.requirement.binds
    ]
    if as_json:
        typer.echo(json.dumps(coverage_record(lines), indent=1))
        return
    typer.echo(coverage_table(lines))
    if missing:
        for line in lines:
            if line.state != "checked":
                typer.echo(f"{line.requirement.id}\t{line.requirement.level}\t{line.why}")


@app.command("list")
def list_command(
    names: Names = None,
    *,
    profile: ProfileOption = "main",
    family: Family = None,
    only: Only = None,
    as_json: AsJson = False,
) -> None:
    """List the checks: id, level, requirements and what should happen.

    \b
    Example:
      ce-gateway conformance list coap
    """  # noqa: D301 - \b keeps lines apart
    choice = Choice(profile=profile, bindings=names or (), families=family or (), only=only or ())
    parts = _own_plan(choice)
    _demand_checks(parts)
    checks = [check for part in parts for check in part.checks]
    if as_json:
        typer.echo(json.dumps([record_of(check) for check in checks], indent=1))
        return
    for check in checks:
        ids = ",".join(check.requirements)
        typer.echo(f"{check.id}\t{check.binding}\t{check.level}\t{ids}\t{check.title}")


def judge(parts: Iterable[Part], profile: Profile, subject: str = "") -> Report:
    """Run the parts with a progress bar on stderr; return what they found.

    Args:
        parts: what is judged.
        profile: by which text.
        subject: what they are together; "" takes the parts' titles.
    """
    parts = list(parts)
    started = time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("", total=sum(len(part.checks) for part in parts))

        async def one_part(part: Part) -> list[Result]:
            results = []
            bar.update(task, description=part.title)
            async with part.open() as subject:
                async for result in run(part.checks, subject):
                    results.append(result)
                    bar.advance(task)
            return results

        async def all_parts() -> list[Result]:
            alone = [await one_part(part) for part in parts if not part.waits]
            beside = await asyncio.gather(*(one_part(part) for part in parts if part.waits))
            return [result for found in (*alone, *beside) for result in found]

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            results = runner.run(all_parts())
    subject = subject or ", ".join(dict.fromkeys(part.title for part in parts))
    seconds = time.perf_counter() - started
    return Report(subject=subject, profile=profile, results=results, seconds=seconds)
