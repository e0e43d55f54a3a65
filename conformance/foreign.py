"""A foreign gateway as a thing to be judged: reached by URL, delivering to our own HTTP server.

Nothing can be switched there, so checks that need other settings are skipped.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from bindings.binding import Message
from bindings.errors import CloudEventError
from bindings.http import HTTP
from conformance.check import CheckFailed, Unsupported
from conformance.forms import WireEvent
from conformance.peers.http_server import HttpServer
from conformance.target import Request, Response, SinkAnswer

_ANSWERS: Final[Mapping[SinkAnswer, Response]] = {
    "accept": Response(),
    "reject": Response(status=400),
    "busy": Response(status=429, headers=(("Retry-After", "3"),)),
    "down": Response(status=503),
    "hang": Response(delay=600.0),
    "slow": Response(delay=0.8),
}


class ForeignTarget:
    """A gateway that takes messages at URLs and delivers to our server (a `Target`)."""

    def __init__(self, urls: Sequence[str], server: HttpServer, *, is_broker: bool) -> None:
        self.url = url = urls[0]
        self.urls = {urlsplit(one).scheme: one for one in urls}
        scheme = urlsplit(url).scheme.partition("+")[0]
        self.protocol = scheme if scheme == "nats" else scheme.removesuffix("s")
        self.title = url
        self.is_broker = is_broker
        self._server = server

    def sink_answers(self, answer: SinkAnswer) -> None:
        response = _ANSWERS[answer]
        self._server.script = lambda _: response

    def forget(self) -> None:
        self._server.forget()

    async def events(self, count: int, seconds: float = 5.0) -> Sequence[WireEvent]:
        seen = 0
        while True:
            requests = await self._server.requests(seen + 1 if count else 0, seconds)
            events = [event for request in requests for event in _events_of(request)]
            if len(events) >= count:
                return events
            seen = len(requests)

    async def drain(self) -> None:
        raise Unsupported("a foreign gateway can't be told to drain")

    def variant(self, **settings: Any) -> AbstractAsyncContextManager["ForeignTarget"]:
        raise Unsupported(f"a foreign gateway can't be started with {settings}")


def _events_of(request: Request) -> Sequence[WireEvent]:
    """Return the events of a delivery; what is no event is the sender's failure.

    Raises:
        CheckFailed: it brought none.
    """
    content_type = request.header("content-type") or ""
    headers = [pair for pair in request.headers if pair[0].lower() != "content-type"]
    try:
        return [
            WireEvent.of(event)
            for event in HTTP.decode(Message(request.body, content_type, headers))
        ]
    except CloudEventError as error:
        raise CheckFailed("what came out is no CloudEvent", got=str(error)) from error


@asynccontextmanager
async def foreign_target(
    urls: Sequence[str], observe: str, *, is_broker: bool = False
) -> AsyncIterator[ForeignTarget]:
    """Listen at `observe`, where the gateway delivers to, while the context lasts.

    Args:
        urls: where the gateway listens; most checks use the first.
        observe: where it delivers to.
        is_broker: whether a broker stands between.
    """
    at = urlsplit(observe)
    async with HttpServer(at.hostname or "127.0.0.1", at.port or 80) as server:
        yield ForeignTarget(urls, server, is_broker=is_broker)
