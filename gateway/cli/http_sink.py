"""An HTTP sink that prints: `ce-gateway listen --serve`."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer
import uvloop

from bindings.binding import Message
from bindings.json_format import encode_event
from gateway import registry
from gateway.cli import FAILED, USAGE
from gateway.config.records import parse_address
from gateway.delivery import ACCEPTED, Delivery
from gateway.errors import GatewayError
from gateway.interfaces import OnKept

if TYPE_CHECKING:
    from gateway.cli.listen import Printer


class PrintingIntake:
    """A gateway whose only sink is the terminal."""

    def __init__(self, out: "Printer") -> None:
        self._out = out
        self.done = asyncio.Event()

    async def submit(self, deliveries: Sequence[Delivery]) -> None:
        self.try_submit(deliveries)

    def try_submit(self, deliveries: Sequence[Delivery]) -> bool:
        for delivery in deliveries:
            for event in delivery.events:
                self._out.show(encode_event(event))
            delivery.settle(ACCEPTED)
        if self._out.done:
            self.done.set()
        return True

    def rejected(self, reason: str, detail: str, count: int = 1) -> None:
        typer.echo(f"rejected {count} ({reason}): {detail}", err=True)

    def undecodable(self, _message: Message, reason: str, detail: str, on_kept: OnKept) -> None:
        self.rejected(reason, detail)
        on_kept(None)


def run_http_sink(listen: str, out: "Printer") -> None:
    """Listen until interrupted or until `out` has printed enough.

    Raises:
        typer.Exit: the address is none (2), or can't be listened at (1).
    """
    try:
        parse_address(listen)
    except ValueError as error:
        typer.echo(f"--serve {listen}: {error}", err=True)
        raise typer.Exit(USAGE) from None
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(listen, out))
    except GatewayError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(FAILED) from None


async def _serve(listen: str, out: "Printer") -> None:
    adapter = registry.load("sources", "http")
    source = adapter(adapter.config_type(name="listen", protocol="http", listen=listen, path="*"))
    intake = PrintingIntake(out)
    await source.open(intake)
    typer.echo(f"listening at http://{source.address}/", err=True)
    try:
        await intake.done.wait()
        await source.drain()
    finally:
        await source.close()
