"""A foreign gateway as a thing to be judged: reached by URL, delivering to our own HTTP server.

Nothing can be switched there, so checks that need other settings are skipped.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

from conformance.check import CheckFailed, Unsupported
from conformance.forms import WireEvent
from conformance.peers.dialogue import dialogue
from conformance.peers.dialogue.answer import Dialogue
from conformance.peers.http_server import HttpServer
from conformance.reference.carrier import Carrier
from conformance.reference.delivered import Misread, read_delivery
from conformance.target import Request, Response, SinkAnswer

PROBE_SECONDS: Final = 5.0
_REPLY_SECONDS: Final = 2.0
_LATE_SECONDS: Final = 0.2
_CALM_SECONDS: Final = 0.1
_MOST_SECONDS: Final = 60.0

_ANSWERS: Final[Mapping[SinkAnswer, Response]] = {
    "accept": Response(),
    "reject": Response(status=400),
    "busy": Response(status=429, headers=(("Retry-After", "3"),)),
    "down": Response(status=503),
    "hang": Response(delay=600.0),
    "slow": Response(delay=1.2),
}


PROTOCOLS: Final = ("http", "mqtt", "nats", "coap")
"""Those in which messages can be sent to a gateway."""


def protocol_of(url: str) -> str:
    """Return the protocol of a URL: `coap` of `coaps+tcp://...`."""
    scheme = urlsplit(url).scheme.partition("+")[0]
    return scheme if scheme == "nats" else scheme.removesuffix("s")


class NothingArrives(Exception):  # noqa: N818 - a sentence for whoever set it up
    """Not even one event came out, so that there is nothing to judge."""


class ForeignTarget:
    """A gateway that takes messages at URLs and delivers to our server (a `Target`)."""

    def __init__(self, urls: Sequence[str], server: HttpServer, *, is_broker: bool) -> None:
        self.url = url = urls[0]
        self.urls = {urlsplit(one).scheme: one for one in urls}
        self.protocol = protocol_of(url)
        self.title = url
        self.is_broker = is_broker
        self._server = server
        self._taken: list[Request] = []
        self.sink_answers("accept")

    def sink_answers(self, answer: SinkAnswer) -> None:
        response = _ANSWERS[answer]
        taken = self._taken if 200 <= response.status < 300 else []

        def script(request: Request) -> Response:
            taken.append(request)
            return response

        self._server.script = script

    def forget(self) -> None:
        self._server.forget()
        self._taken.clear()

    async def events(self, count: int, seconds: float = 5.0) -> Sequence[WireEvent]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            events = [event for request in self._taken for event in _events_of(request)]
            if len(events) >= count:
                return events
            seen = len(await self._server.requests(0))
            left = deadline - loop.time()
            try:
                await self._server.requests(seen + 1, max(left, 0.0))
            except CheckFailed:
                raise CheckFailed(
                    "too few events came out",
                    expected=f"{count} within {seconds} s",
                    got=str(len(events)),
                ) from None

    async def asked(self, seconds: float = 5.0) -> None:
        await self._server.requests(1, seconds)

    async def calm(self, seconds: float = _CALM_SECONDS) -> None:
        """Wait until nothing has come for a while, however long that takes up to a minute.

        What a failed check has left under way would come out in the next one.
        """
        try:
            async with asyncio.timeout(_MOST_SECONDS):
                while True:
                    seen = len(await self._server.requests(0))
                    await self._server.requests(seen + 1, seconds)
        except (CheckFailed, TimeoutError):
            pass

    async def probe(self, observe: str) -> None:
        """Send one event, to see whether anything comes out at all.

        Raises:
            NothingArrives: it did not; the text says what to look at.
        """
        source = f"/conformance/{uuid4().hex}"
        attributes = {
            "specversion": "1.0",
            "id": "1",
            "source": source,
            "type": "com.example.probe",
        }
        event = WireEvent({**attributes, "datacontenttype": "text/plain"}, b"probe")
        way = self.protocol
        if way == "nats" and "stream=" in urlsplit(self.url).query:
            way = "jetstream"
        try:
            async with dialogue(way, self.url) as talk:
                talk.send(Carrier(talk.binding, "binary").write(event))
                await self._await_probe(source, observe, talk)
                if way == "nats":
                    await talk.answer(_REPLY_SECONDS)
        except CheckFailed as failed:
            text = f"{self.url} can't be used: {failed}" + (f": {failed.got}" if failed.got else "")
            raise NothingArrives(text) from failed
        except Unsupported:  # core NATS without replies: all that is known is what comes out
            self.is_broker = True
        self.forget()

    async def _await_probe(self, source: str, observe: str, talk: Dialogue) -> None:
        seen = 1
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                while True:
                    events = await self.events(seen, PROBE_SECONDS * 2)
                    if any(event.attributes.get("source") == source for event in events):
                        return
                    seen = len(events) + 1
        except TimeoutError:
            raise NothingArrives(
                f"no event came out at {observe} within {PROBE_SECONDS:.0f} s after one was sent "
                f"to {self.url} ({await _answer_on(talk)}); is the gateway set up to deliver there?"
            ) from None

    async def drain(self) -> None:
        raise Unsupported("a foreign gateway can't be told to drain")

    def variant(self, **settings: Any) -> AbstractAsyncContextManager["ForeignTarget"]:
        raise Unsupported(f"a foreign gateway can't be started with {settings}")


async def _answer_on(talk: Dialogue) -> str:
    """Return what was answered by now, in words."""
    try:
        return f"answered {(await talk.answer(_LATE_SECONDS)).text}"
    except (CheckFailed, Unsupported):
        return "no answer"


def _events_of(request: Request) -> Sequence[WireEvent]:
    """Return the events of a delivery; what is no event is the sender's failure.

    Raises:
        CheckFailed: it brought none.
    """
    if request.method != "POST":  # the handshake of webhooks
        return ()
    try:
        return read_delivery(request)
    except Misread as error:
        raise CheckFailed("what came out is no CloudEvent", got=str(error)) from error


@asynccontextmanager
async def listening(observe: str) -> AsyncIterator[HttpServer]:
    """Listen where the gateway delivers to, while the context lasts.

    Raises:
        NothingArrives: nobody can.
    """
    at = urlsplit(observe)
    async with AsyncExitStack() as stack:
        server = HttpServer(at.hostname or "127.0.0.1", at.port or 80)
        try:
            await stack.enter_async_context(server)
        except OSError as error:
            raise NothingArrives(f"can't listen at {observe}: {error}") from error
        yield server


@asynccontextmanager
async def foreign_target(
    urls: Sequence[str], observe: str, *, is_broker: bool = False
) -> AsyncIterator[ForeignTarget]:
    """Listen at `observe`, where the gateway delivers to, while the context lasts.

    Args:
        urls: where the gateway listens; most checks use the first.
        observe: where it delivers to.
        is_broker: whether a broker stands between.

    Raises:
        NothingArrives: no event came out, or nobody can listen at `observe`.
    """
    async with listening(observe) as server:
        target = ForeignTarget(urls, server, is_broker=is_broker)
        await target.probe(observe)
        yield target
