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
from gateway.config.default import Ports, default_config
from gateway.config.gateway import GatewayConfig
from gateway.config.loader import load, remarks
from gateway.config.problems import ConfigErrors
from gateway.config.records import Address


def command(
    file: Annotated[
        Path | None, typer.Argument(help="The configuration; none: the embedded default.")
    ] = None,
    ports: Annotated[
        Literal["standard", "auto"],
        typer.Option(help="Embedded default only: the protocols' own ports, or any that are free."),
    ] = "standard",
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
    """  # noqa: D301 - \b keeps lines apart
    logs.configure(log_format, log_level)
    config = _load(file, ports)
    from gateway.service import serve  # noqa: PLC0415 - not before the configuration is right

    on_ready = None if file else partial(say_hello, k_sink=_k_sink(config))
    raise typer.Exit(serve(config, on_ready=on_ready))


def _load(file: Path | None, ports: str) -> GatewayConfig:
    if file is not None and ports == "auto":
        raise typer.BadParameter("only the embedded default chooses ports", param_hint="--ports")
    try:
        if file is None:
            return default_config(os.environ, Ports.free() if ports == "auto" else Ports())
        config = load(file, os.environ)
    except ConfigErrors as errors:
        typer.echo(str(errors), err=True)
        raise typer.Exit(BAD_CONFIGURATION) from None
    for remark in remarks(config):
        typer.echo(f"{file}: {remark}", err=True)
    return config


def _k_sink(config: GatewayConfig) -> str:
    """Return where the embedded default sends events, without credentials; "" is its own log."""
    sink = config.sinks["out"]
    return assembly.address_of("out", sink) if sink.protocol == "http" else ""


def say_hello(addresses: Mapping[str, Address], k_sink: str = "") -> None:
    """Print one line per protocol that sends an event, to copy into another terminal.

    Args:
        addresses: of every listener.
        k_sink: where events go; "" if they go to the event log.
    """
    typer.echo("\nReady. Try, in another terminal:\n")
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
