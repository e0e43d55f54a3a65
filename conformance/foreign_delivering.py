"""A foreign gateway as a sender to be judged: events are put in by HTTP, the check plays its sink.

Nothing can be switched there, so checks that need other settings are skipped.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from bindings.binding import Message
from conformance.check import Unsupported
from conformance.forms import WireEvent
from conformance.peers.http_client import HttpClient, post
from conformance.peers.http_server import HttpServer
from conformance.reference import json_event
from conformance.reference.carrier import JSON_TYPE
from conformance.target import Request, Response


class ForeignDelivering:
    """A gateway that takes events by POST and delivers them to our server (a `Delivering`).

    Each event has a connection of its own, on which the answer is not waited for: a gateway may
    answer when the event has been delivered, and until then it is the check that decides.
    """

    def __init__(self, url: str, server: HttpServer, clients: AsyncExitStack) -> None:
        self.title = f"delivery of {url}"
        self._url = url
        self._server = server
        self._clients = clients

    async def send(self, *events: WireEvent) -> None:
        for event in events:
            client = await self._clients.enter_async_context(HttpClient(self._url))
            client.send(post(Message(json_event.write(event), JSON_TYPE), client.target))

    def answer(self, script: Callable[[Request], Response]) -> None:
        self._server.script = script

    def forget(self) -> None:
        self._server.forget()

    async def requests(self, count: int, seconds: float = 5.0) -> Sequence[Request]:
        return await self._server.requests(count, seconds)

    def variant(self, **settings: Any) -> AbstractAsyncContextManager["ForeignDelivering"]:
        raise Unsupported(f"a foreign gateway can't be started with {settings}")


@asynccontextmanager
async def foreign_delivering(url: str, observe: str) -> AsyncIterator[ForeignDelivering]:
    """Listen at `observe`, where the gateway at `url` delivers to, while the context lasts."""
    at = urlsplit(observe)
    async with (
        HttpServer(at.hostname or "127.0.0.1", at.port or 80) as server,
        AsyncExitStack() as clients,
    ):
        yield ForeignDelivering(url, server, clients)
