"""`ce-gateway run`: the gateway itself."""

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from gateway import assembly
from gateway.cli import BAD_CONFIGURATION, logs
from gateway.config.default import Ports, default_config, default_text
from gateway.config.gateway import MOST_WORKERS, GatewayConfig
from gateway.config.loader import load, read, remarks
from gateway.config.problems import ConfigErrors
from gateway.config.records import Address
from gateway.workers.count import workers_of


def command(
    file: Annotated[
        Path | None, typer.Argument(help="The configuration; none: the embedded default.")
    ] = None,
    ports: Annotated[
        Literal["standard", "auto"],
        typer.Option(help="Embedded default only: the protocols' own ports, or any that are free."),
    ] = "standard",
    workers: Annotated[
        str | None,
        typer.Option(
            help="Processes that share the work: a number, or auto: one for each processor. "
            "Default: `workers` of FILE, else 1.",
            envvar="CE_GATEWAY_WORKERS",
            show_default=False,
        ),
    ] = None,
    log_format: Annotated[
        logs.LogFormat, typer.Option(help="Lines for people or for machines.")
    ] = "text",
    log_level: Annotated[
        logs.LogLevel, typer.Option(help="The least severe lines to write.")
    ] = "info",
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C; a second signal ends it at once.

    Without FILE it needs nothing: CoAP, MQTT, NATS and HTTP on loopback go to K_SINK if that is
    set, else to the built-in event log, and one line per protocol to try is printed.

    \b
    Examples:
      ce-gateway run
      ce-gateway run gateway.yaml --log-format json
      ce-gateway run gateway.yaml --workers auto
    """  # noqa: D301 - \b keeps lines apart
    logs.configure(log_format, log_level)
    config, text = _load(file, ports)
    count = _count(workers, config)
    config = config.model_copy(update={"workers": count})
    on_ready = None if file else partial(say_hello, k_sink=_k_sink(config), workers=count)
    # Not before the configuration is right.
    from gateway.workers.place import folders, state_of  # noqa: PLC0415 - see above

    if count == 1 and not folders(state_of(config)):
        from gateway.service import serve  # noqa: PLC0415 - see above

        raise typer.Exit(serve(config, on_ready=on_ready))
    # Also for one worker, if others were there before: they may have left something.
    from gateway.workers import supervisor  # noqa: PLC0415 - see above

    raise typer.Exit(supervisor.serve(config, text, count, log_format, log_level, on_ready))


def _count(given: str | None, config: GatewayConfig) -> int:
    """Return the number of workers.

    Raises:
        typer.BadParameter: what the command line or the environment says is no number of them.
    """
    wanted: int | Literal["auto"] = config.workers
    if given == "auto":
        wanted = "auto"
    elif given:
        if not (given.isascii() and given.isdigit() and 1 <= int(given) <= MOST_WORKERS):
            raise typer.BadParameter(
                f"expected 1 to {MOST_WORKERS}, or auto, not {given!r}", param_hint="--workers"
            )
        wanted = int(given)
    return workers_of(wanted)


def _load(file: Path | None, ports: str) -> tuple[GatewayConfig, str]:
    """Return the configuration, and the text that it was read from."""
    if file is not None and ports == "auto":
        raise typer.BadParameter("only the embedded default chooses ports", param_hint="--ports")
    try:
        if file is None:
            chosen = Ports.free() if ports == "auto" else Ports()
            return default_config(os.environ, chosen), default_text(os.environ, chosen)
        config = load(file, os.environ)
        text = read(file)
    except ConfigErrors as errors:
        typer.echo(str(errors), err=True)
        raise typer.Exit(BAD_CONFIGURATION) from None
    for remark in remarks(config):
        typer.echo(f"{file}: {remark}", err=True)
    return config, text


def _k_sink(config: GatewayConfig) -> str:
    """Return where the embedded default sends events, without credentials; "" is its own log."""
    sink = config.sinks["out"]
    return assembly.address_of("out", sink) if sink.protocol == "http" else ""


def say_hello(addresses: Mapping[str, Address], k_sink: str = "", workers: int = 1) -> None:
    """Print one line per protocol that sends an event, to copy into another terminal.

    Args:
        addresses: of every listener.
        k_sink: where events go; "" if they go to the event log.
        workers: how many processes there are.
    """
    who = f" with {workers} workers" if workers > 1 else ""
    typer.echo(f"\nReady{who}. Try, in another terminal:\n")
    for name, address in addresses.items():
        if name in _LINES:
            typer.echo(f"  {_LINES[name](address)}")
    admin = addresses["admin"]
    if k_sink:
        typer.echo(f"\nEvents go to K_SINK, {k_sink}\nConsole: http://{admin}/\n")
        return
    url = "" if admin.port == 8081 else f" http://{admin}"
    typer.echo(f"\nSee what arrived:  {_own_name()} listen{url}   or   http://{admin}/\n")


def _own_name() -> str:
    """Return what to type for `ce-gateway`: its path if the shell would not find it."""
    return "ce-gateway" if shutil.which("ce-gateway") else sys.argv[0]


_LINES: dict[str, Callable[[Address], str]] = {
    "coap": lambda at: (
        f"coap-client-notls -m post -t application/json -e '{{\"celsius\": 21.5}}' coap://{at}/ce"
    ),
    "mqtt": lambda at: (
        f"mosquitto_pub -h {at.host} -p {at.port} -q 1 -t sensors/1 -m '{{\"celsius\": 21.5}}'"
    ),
    "nats": lambda at: f"{_own_name()} send nats://{at}/events.demo --data '{{\"celsius\": 21.5}}'",
    "http": lambda at: (
        f"curl -i -H 'Content-Type: application/json' -d '{{\"celsius\": 21.5}}' http://{at}/"
    ),
}
