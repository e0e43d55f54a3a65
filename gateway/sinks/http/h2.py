"""One HTTP/2 connection to a receiver (RFC 9113), which carries many requests at a time.

Requests are those of HTTP/1.1 and become header sections here. What an answer means, what a lost
connection means and when a request is repeated are as with HTTP/1.1; besides, a request is repeated
once, at once, when the receiver says that it has not looked at it (REFUSED_STREAM, or above the
last stream of GOAWAY). A request that takes too long costs its stream; it costs the connection if
the receiver does not answer a PING either.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, Protocol, cast

from bindings.wire.http2 import Client, Limits, RequestEncoder, Stream
from gateway.sinks.http.connection import MAX_KEPT_BODY, Answer, Request

MAX_STREAMS: Final = 100
"""Requests under way on one connection, unless the receiver allows fewer."""
_LIMITS: Final = Limits(
    max_streams=MAX_STREAMS,
    max_body=262_144,
    kept_body=MAX_KEPT_BODY,
    kept_fields=frozenset({b"retry-after", b"webhook-allowed-rate", b"webhook-allowed-origin"}),
)
_SLOW: Final = 1_000
"""Requests a second; one that is full and answers fewer is not enough."""
_GOODBYE_SECONDS: Final = 2.0
"""For what is buffered to leave a connection that is being closed."""
_TIMED_OUT: Final = Answer(None, error="no answer in time", timed_out=True)


class Owner(Protocol):
    """The pool, as an HTTP/2 connection sees it.

    Attributes:
        idle_timeout: seconds after which an unused connection is closed.
    """

    idle_timeout: float

    def opened(self, connection: "Http2Connection") -> None:
        """Count a connection that stands."""

    def lost(self, connection: "Http2Connection") -> None:
        """Forget a connection."""

    def retire(self, connection: "Http2Connection") -> None:
        """Give a connection no more requests: its last ones are under way."""

    def take(self) -> Request | None:
        """Return the next request."""

    def tell(self, request: Request, answer: Answer) -> None:
        """Hand over an answer."""

    def again(self, requests: Sequence[Request]) -> None:
        """Send requests again that nobody has read."""

    def wake(self) -> None:
        """Send what is ready."""

    def watch(self, seconds: float) -> None:
        """Look at deadlines often enough for a timeout of so many seconds."""


class Http2Connection(asyncio.Protocol):
    """One connection.

    Attributes:
        deadline: the loop's time at which `expire` has to be called.
    """

    def __init__(self, pool: Owner, encoder: RequestEncoder) -> None:
        self._pool = pool
        self._encoder = encoder
        self._loop = asyncio.get_running_loop()
        self._client: Client[Request] = Client(_LIMITS)
        self._transport: asyncio.Transport | None = None
        self._settled: asyncio.Future[str] = self._loop.create_future()
        self._is_retired = False
        # Nothing has come since requests were sent on a connection that had been idle.
        self._was_idle = False
        self._is_used = False
        self._heard = self._loop.time()
        self._pinged = 0.0
        self._timeout = float("inf")
        self.deadline = float("inf")

    async def settled(self) -> None:
        """Return when the receiver has shown that it speaks HTTP/2 and takes requests.

        Raises:
            ConnectionError: it has not.
        """
        try:
            error = await self._settled
        except asyncio.CancelledError:
            self._give_up(())
            self.abort()
            raise
        if error:
            raise ConnectionError(error)

    @property
    def is_usable(self) -> bool:
        """Whether requests can be sent, now or once there is room."""
        transport = self._transport
        return not self._is_retired and transport is not None and not transport.is_closing()

    @property
    def needs_another(self) -> bool:
        """Whether another connection would help: this one is full, and slow."""
        client = self._client
        if client.room > 0:
            return False
        for oldest in client.streams.values():
            began = oldest.context.deadline - oldest.context.timeout
            return (self._loop.time() - began) * _SLOW >= len(client.streams)
        return True

    def fill(self, began: float | None = None) -> None:
        """Send as many requests as are ready and may be under way.

        Args:
            began: the loop's time when connecting began, if it has just been made for them.
        """
        client, transport = self._client, self._transport
        if transport is None or transport.is_closing():
            return
        room = 0 if self._is_retired else client.room
        if room > 0:
            is_idle = not client.streams
            now = self._loop.time()
            take, encode, send = self._pool.take, self._encoder.encode, client.request
            while room > 0 and (request := take()) is not None:
                request.begin(now if began is None else began)
                block, body = encode(request.data)
                send(block, body, request)
                room -= 1
                if request.deadline < self.deadline or request.timeout != self._timeout:
                    self._look_by(request, now)
            if client.streams and is_idle:
                self._was_idle, self._is_used = self._is_used, True
        self._flush()

    def close(self) -> None:
        """Say goodbye, and close after what is buffered has left."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            self._client.close()
            self._flush()
            transport.close()
            self.deadline = self._loop.time() + _GOODBYE_SECONDS

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def expire(self) -> None:
        """Give up requests that took too long, or a connection that nobody needed."""
        client, now = self._client, self._loop.time()
        if not client.streams:
            transport = self._transport
            if transport is not None and transport.is_closing():  # the peer does not read
                transport.abort()
            self._retire()
            self.close()
            return
        late = [each for each in client.streams.values() if each.context.deadline <= now]
        pinged = self._pinged
        if late and pinged > self._heard and now - pinged >= self._patience / 2:
            for stream in late:
                del client.streams[stream.id]
                self._pool.tell(stream.context, _answer(stream, _TIMED_OUT))
            self._give_up(tuple(client.streams.values()), "no answer to PING")
            self.abort()
            return
        if late and client.is_starved:
            self._retire()  # nothing could be sent any more
        for stream in late:
            client.cancel(stream)
            self._pool.tell(stream.context, _answer(stream, _TIMED_OUT))
        if client.streams and pinged <= self._heard <= now - self._patience:
            client.ping()
            self._pinged = now
        self.fill()
        self._look_again(now)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._pool.opened(self)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        why = self._client.goaway or exc or "closed by the sink"
        self._give_up(tuple(self._client.streams.values()), f"connection lost: {why}")
        self._pool.lost(self)
        self._pool.wake()

    def data_received(self, data: bytes) -> None:
        client = self._client
        ended = client.receive(data)
        self._heard = self._loop.time()
        self._was_idle = False
        if client.goaway or client.takes_none or client.is_exhausted:
            self._retire()
        if ended:
            self._hand_over(ended)
        if client.failure is not None:
            self._flush()
            self._give_up(tuple(client.streams.values()), f"no HTTP/2 answer: {client.failure}")
            if self._transport is not None:
                self._transport.close()
            return
        if client.is_settled and not self._settled.done():
            self._settled.set_result(self._why_not())
        else:
            self.fill()
        if not client.streams:
            self.deadline = self._heard + self._pool.idle_timeout
            if self._is_retired:
                self.close()

    # Answers.

    def _hand_over(self, ended: Iterable[Stream[Request]]) -> None:
        again = []
        for stream in ended:
            request, status = stream.context, stream.status
            if status is not None:
                self._pool.tell(request, Answer(status, stream.fields, stream.body))
            elif stream.is_unprocessed and not request.repeated:
                again.append(request)
            else:
                self._pool.tell(request, Answer(None, error=stream.error[:200]))
        if again:
            self._pool.again(again)

    def _give_up(self, streams: Sequence[Stream[Request]], why: str = "closed") -> None:
        """Answer for streams that will hear nothing more; take no more."""
        self._retire()
        if not self._settled.done():
            self._settled.set_result(why)
        self._client.streams.clear()
        lost, again = Answer(None, error=why[:200]), []
        for stream in streams:
            request = stream.context
            if self._was_idle and stream.status is None and not request.repeated:
                # Closed under our feet: the receiver never read the requests, or at worst gets
                # them twice, which at-least-once allows. That is no attempt.
                again.append(request)
            else:
                self._pool.tell(request, _answer(stream, lost))
        if again:
            self._pool.again(again)

    def _retire(self) -> None:
        if not self._is_retired:
            self._is_retired = True
            self._pool.retire(self)

    def _why_not(self) -> str:
        """Return why the connection can't be used though it stands, or ""."""
        if self._client.goaway:
            return self._client.goaway
        return "the sink allows no streams" if self._client.takes_none else ""

    # Time.

    @property
    def _patience(self) -> float:
        """Seconds of silence after which a PING asks whether the receiver is there."""
        return self._timeout / 2

    def _look_by(self, request: Request, now: float) -> None:
        """Have `expire` called in time for a request that begins."""
        if request.timeout != self._timeout:
            self._timeout = request.timeout
            self._pool.watch(request.timeout)
        self.deadline = min(self.deadline, request.deadline, now + self._patience)

    def _look_again(self, now: float) -> None:
        streams = self._client.streams
        if not streams:
            self.deadline = now + self._pool.idle_timeout
            if self._is_retired:
                self.close()
            return
        due = min(stream.context.deadline for stream in streams.values())
        if self._pinged <= self._heard:
            due = min(due, self._heard + self._patience)
        self.deadline = due

    def _flush(self) -> None:
        data = self._client.output()
        if data and self._transport is not None:
            self._transport.write(data)


def _answer(stream: Stream[Request], otherwise: Answer) -> Answer:
    """Return what is known of an answer that will not be complete: a status that came stands."""
    if stream.status is None:
        return otherwise
    return Answer(stream.status, stream.fields, stream.body)
