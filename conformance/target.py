"""What checks over the wire are given: where to send, what came out, and how its sink behaves.

`Target` is judged as a receiver: devices' messages go in, the check sees the protocol's answer and
the events that came out. `Delivering` is judged as a sender: events go in, the check plays the HTTP
sink and sees each request. `Sending` is judged as a producer: the check plays the gateway. Ours are
started by the suite (`conformance/own/`); a foreign gateway is reached by `--target URL` and is
told to deliver to the suite's own HTTP server, `--observe URL`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

import msgspec

from bindings.binding import ContentMode
from conformance.forms import WireEvent

SinkAnswer = Literal["accept", "reject", "busy", "down", "hang", "slow"]
"""What the sink behind a target says: 2xx, 400, 429 with Retry-After, 503, nothing, 2xx late."""


class Target(Protocol):
    """A receiver under test."""

    @property
    def title(self) -> str:
        """What it is, for reports."""

    @property
    def protocol(self) -> str:
        """The scheme's protocol: `coap`, `mqtt`, `http`, `nats`."""

    @property
    def url(self) -> str:
        """Where devices send to."""

    @property
    def urls(self) -> Mapping[str, str]:
        """Where devices send to, by URL scheme: `url`, and other listeners (`coap+tcp`, ...)."""

    @property
    def is_broker(self) -> bool:
        """Whether a broker stands between, which then gives the acknowledgements."""

    def sink_answers(self, answer: SinkAnswer) -> None:
        """From now on its sink answers so; a new target's sink accepts."""

    def forget(self) -> None:
        """Forget the events that came out so far."""

    async def events(self, count: int, seconds: float = 5.0) -> Sequence[WireEvent]:
        """Wait for at least `count` events since `forget`; return all of them, in order.

        Raises:
            CheckFailed: fewer came out in time.
        """

    async def asked(self, seconds: float = 5.0) -> None:
        """Wait until its sink has been asked since `forget`, whatever it answered.

        Raises:
            CheckFailed: it was not, in time.
        """

    async def drain(self) -> None:
        """Take nothing new; returns when all that was under way has been answered.

        Raises:
            Unsupported: it can't be told to (it is a foreign one).
        """

    def variant(self, **settings: Any) -> AbstractAsyncContextManager["Target"]:
        """Return another one with other settings (`max_event_bytes`, ...), while the context lasts.

        Raises:
            Unsupported: it can't be started anew (it is a foreign one).
            Refused: the settings are not allowed; raised on entering the context.
        """


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request that a sink was sent.

    Attributes:
        method, target: as on the request line.
        headers: in their order, names as they were sent.
        body: the payload.
        at: monotonic seconds when the request was complete.
        connection: number of the connection it came on.
    """

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    at: float
    connection: int

    def header(self, name: str) -> str | None:
        """Return a header's value by its name in any case; None if there is none."""
        folded = name.lower()
        return next((value for key, value in self.headers if key.lower() == folded), None)


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """What the check's sink answers to a request; `status` 0 closes the connection unanswered.

    Attributes:
        status, headers, body: the answer; Content-Length is added.
        delay: seconds until it goes out.
        raw: bytes that go out in place of all that; then the connection is closed.
        close: whether the connection is closed after the answer, which does not say so.
    """

    status: int = 202
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    delay: float = 0.0
    raw: bytes = b""
    close: bool = False


class Delivering(Protocol):
    """A sender under test: what goes in comes out as HTTP requests to the check's own sink."""

    @property
    def title(self) -> str:
        """What it is, for reports."""

    async def send(self, *events: WireEvent) -> None:
        """Put events in."""

    def answer(self, script: Callable[[Request], Response]) -> None:
        """From now on the sink answers by `script`; a new one answers 202."""

    def forget(self) -> None:
        """Forget the requests so far."""

    async def requests(self, count: int, seconds: float = 5.0) -> Sequence[Request]:
        """Wait for at least `count` requests since `forget`; return all of them, in order.

        Raises:
            CheckFailed: fewer came in time.
        """

    def variant(self, **settings: Any) -> AbstractAsyncContextManager["Delivering"]:
        """Return another one with other settings, while the context lasts.

        Args:
            settings: `sink` and `delivery`, tables over the usual ones.

        Raises:
            Unsupported: it can't be started anew (it is a foreign one).
            Refused: the settings are not allowed; raised on entering the context.
        """


class Sending(Protocol):
    """A producer under test: it sends events to a server of the check's own."""

    @property
    def title(self) -> str:
        """What it is, for reports."""

    async def send(self, url: str, event: WireEvent, mode: ContentMode) -> str:
        """Send one event, and return what the server has answered, for people.

        Raises:
            Refused: it does not send this, or the server has not taken it.
        """
