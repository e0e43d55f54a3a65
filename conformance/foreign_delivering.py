"""A foreign gateway as a sender to be judged: events are put in by HTTP, the check plays its sink.

Nothing can be switched there, so checks that need other settings are skipped.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final
from uuid import uuid4

from bindings.binding import Message
from conformance.check import CheckFailed, Unsupported
from conformance.foreign import NothingArrives, listening
from conformance.forms import WireEvent
from conformance.peers.http_client import HttpClient, post
from conformance.peers.http_server import HttpServer
from conformance.reference import json_event
from conformance.reference.carrier import JSON_TYPE
from conformance.target import Request, Response

PROBE_SECONDS: Final = 5.0


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

    async def probe(self, observe: str) -> None:
        """Send one event and refuse it once, to see whether it comes, and comes again.

        Raises:
            NothingArrives: it did not; the text says what to look at.
        """
        answers = iter((Response(status=503),))
        self.answer(lambda _: next(answers, Response()))
        names = {"specversion": "1.0", "id": uuid4().hex, "source": "/conformance"}
        try:
            await self.send(WireEvent({**names, "type": "com.example.probe"}))
        except CheckFailed as failed:
            text = f"{self._url} can't be used: {failed}" + (
                f": {failed.got}" if failed.got else ""
            )
            raise NothingArrives(text) from failed
        within = f"within {PROBE_SECONDS:g} s"
        await self._came(
            1,
            f"no event came out at {observe} {within} after one was sent to {self._url}; "
            "is the gateway set up to deliver there?",
        )
        await self._came(
            2,
            f"what {observe} answered with 503 was not sent again {within}; "
            "is the gateway set up to repeat deliveries, after short waits?",
        )
        self.forget()

    async def _came(self, count: int, otherwise: str) -> None:
        try:
            await self.requests(count, PROBE_SECONDS)
        except CheckFailed as failed:
            raise NothingArrives(otherwise) from failed

    def variant(self, **settings: Any) -> AbstractAsyncContextManager["ForeignDelivering"]:
        raise Unsupported(f"a foreign gateway can't be started with {settings}")


@asynccontextmanager
async def foreign_delivering(url: str, observe: str) -> AsyncIterator[ForeignDelivering]:
    """Listen at `observe`, where the gateway at `url` delivers to, while the context lasts.

    Raises:
        NothingArrives: no event came out, or only once, or nobody can listen at `observe`.
    """
    async with listening(observe) as server, AsyncExitStack() as clients:
        delivering = ForeignDelivering(url, server, clients)
        await delivering.probe(observe)
        yield delivering
