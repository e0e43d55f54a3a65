"""Our pipeline and HTTP sink as a sender: events go in, a scripted server gets the requests."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import yaml

from conformance.forms import Refused, WireEvent
from conformance.peers.http_server import HttpServer
from conformance.target import Request, Response
from gateway import assembly
from gateway.config.loader import load
from gateway.config.problems import ConfigErrors
from gateway.delivery import Delivery, Settlement
from gateway.interfaces import Sink
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.target import Target

DELIVERY: Final = {
    "backoffDelay": "PT0.01S",
    "backoffPolicy": "linear",
    "spool": "off",
    "dead_letters": "off",
}
"""The usual settings of a route's delivery table: waits are short, not to make checks slow, and the
sender is told what became of its event."""

PLACE: Final = "/events?to=conformance"
"""Where events are delivered: not at the root, so that another place shows."""


class OwnDelivering:
    """A sender under test (a `Delivering`)."""

    title = "delivery over HTTP of cloudevents-gateway"

    def __init__(self, pipeline: Pipeline, server: HttpServer) -> None:
        self._intake = pipeline.intake("conformance")
        self._server = server
        self.settlements: list[Settlement] = []

    async def send(self, *events: WireEvent) -> None:
        await self._intake.submit(
            [Delivery((event.checked(),), self.settlements.append) for event in events]
        )

    def answer(self, script: Callable[[Request], Response]) -> None:
        self._server.script = script

    def forget(self) -> None:
        self._server.forget()

    async def requests(self, count: int, seconds: float = 5.0) -> Sequence[Request]:
        return await self._server.requests(count, seconds)

    @asynccontextmanager
    async def variant(self, **settings: Any) -> AsyncIterator["OwnDelivering"]:
        async with own_delivering(**settings) as other:
            yield other


@asynccontextmanager
async def own_delivering(
    sink: Mapping[str, Any] | None = None, delivery: Mapping[str, Any] | None = None
) -> AsyncIterator[OwnDelivering]:
    """Open a pipeline with an HTTP sink towards a scripted server, while the context lasts.

    Args:
        sink: further settings of the sink's table.
        delivery: settings of the route's delivery table, over `DELIVERY`.

    Raises:
        Refused: the configuration does not allow them.
    """
    async with HttpServer() as server:
        document = {
            "sources": {"conformance": {"protocol": "http", "listen": "127.0.0.1:0"}},
            "sinks": {"out": {"protocol": "http", "url": server.url + PLACE, **(sink or {})}},
            "routes": [{"to": ["out"], "delivery": {**DELIVERY, **(delivery or {})}}],
            "admin": {"listen": "127.0.0.1:0"},
        }
        try:
            config = load(yaml.safe_dump(document), {})
        except ConfigErrors as error:
            raise Refused(str(error)) from error
        sinks: Mapping[str, Sink] = assembly.make_sinks(config)
        out = sinks["out"]
        await out.open()
        target = Target(name="out", sink=out, address=server.url)
        pipeline = Pipeline(assembly.make_routes(config), {"out": target}, Metrics())
        pipeline.start()
        try:
            yield OwnDelivering(pipeline, server)
        finally:
            await pipeline.close()
            await out.close()
