"""Senders and targets with one mistake, for the checks of deliveries and webhooks."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from conformance.check import Check
from conformance.forms import WireEvent
from conformance.own.delivering import OwnDelivering, own_delivering
from conformance.peers.http_server import HttpServer
from conformance.suite import run_one
from conformance.target import Request, Response

Answer = Callable[[Request, Response], Response]
Change = Callable[[Request], Request]


class MistakenSender:
    """Our delivery, with mistakes in what it reads or writes (a `Delivering`).

    Args:
        sender: ours.
        reads: what it takes an answer for.
        writes: what it makes of a request.
    """

    title = "mistaken"

    def __init__(
        self,
        sender: OwnDelivering,
        reads: Answer = lambda _, answer: answer,
        writes: Change = lambda request: request,
    ) -> None:
        self._sender, self._reads, self._writes = sender, reads, writes

    async def send(self, *events: WireEvent) -> None:
        await self._sender.send(*events)

    def answer(self, script: Callable[[Request], Response]) -> None:
        self._sender.answer(lambda request: self._reads(request, script(self._writes(request))))

    def forget(self) -> None:
        self._sender.forget()

    async def requests(self, count: int, seconds: float = 5.0) -> Sequence[Request]:
        found = await self._sender.requests(count, min(seconds, 0.5))
        return [self._writes(request) for request in found]

    @asynccontextmanager
    async def variant(self, **settings) -> AsyncIterator["MistakenSender"]:
        async with own_delivering(**settings) as other:
            yield MistakenSender(other, self._reads, self._writes)


class ScriptedTarget:
    """A server that answers by a script and takes no events (a `Target`)."""

    title = "scripted"
    protocol = "http"
    is_broker = False

    def __init__(self, server: HttpServer) -> None:
        self.url = server.url
        self.urls = {"http": server.url}

    def sink_answers(self, answer: str) -> None: ...

    def forget(self) -> None: ...

    async def events(self, count: int, seconds: float = 5.0) -> Sequence[WireEvent]:
        return []

    @asynccontextmanager
    async def variant(self, **_settings) -> AsyncIterator["ScriptedTarget"]:
        yield self


async def failed_by(
    checks: Iterable[Check], needs: str, only: Sequence[str], **mistake
) -> set[str]:
    """Return the ids among `only` that fail on our delivery with a mistake."""
    async with own_delivering() as own:
        return await _failed(checks, needs, only, MistakenSender(own, **mistake))


async def failed_on(
    checks: Iterable[Check], only: Sequence[str], script: Callable[[Request], Response]
) -> set[str]:
    """Return the ids among `only` that fail on a target that answers by a script."""
    async with HttpServer() as server:
        server.script = script
        return await _failed(checks, "target", only, ScriptedTarget(server))


async def _failed(checks, needs, only, subject) -> set[str]:
    chosen = [check for check in checks if check.needs == needs and check.id in only]
    assert {check.id for check in chosen} == set(only)
    return {check.id for check in chosen if (await run_one(check, subject)).status == "failed"}
