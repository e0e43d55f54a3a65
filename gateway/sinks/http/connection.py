"""One connection to a receiver, with one request at a time.

A complete status line stands, whatever becomes of the rest of the answer: a 2xx whose body stalls
or breaks off is a success, and costs the connection.
"""

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Protocol, cast

import httptools
import msgspec

from bindings.wire.http1 import complete_status
from gateway.sinks.http.known_answers import KnownAnswers

MAX_KEPT_BODY: Final = 768
# An answer with a longer body than this is not read to its end: the connection goes instead.
_MAX_READ_BODY: Final = 262_144
MAX_HEAD: Final = 65_536
# Field names by their length, which is cheaper to compare.
_KEPT_FIELDS: Final = {
    len(name): name for name in (b"retry-after", b"webhook-allowed-rate", b"webhook-allowed-origin")
}
INFINITY: Final = float("inf")
_NO_FIELDS: Final[Mapping[bytes, str]] = MappingProxyType({})


class Answer(msgspec.Struct, frozen=True):
    """What became of a request.

    Attributes:
        status: of the answer; None if there was none.
        fields: those of `Retry-After` and `WebHook-Allowed-*` that stood there, in lower case.
        body: its first bytes.
        error: why there is no answer.
        timed_out: there is none because time was up.
    """

    status: int | None
    fields: Mapping[bytes, str] = _NO_FIELDS
    body: bytes = b""
    error: str = ""
    timed_out: bool = False

    @property
    def retry_after(self) -> str:
        """The field as it stood there; "" without it."""
        return self.fields.get(b"retry-after", "")


KNOWN_ANSWERS: Final = KnownAnswers[Answer]()
"""Successes, which are nearly all answers; the same for every receiver and connection."""
_known: Final = KNOWN_ANSWERS.get
_LOST: Final = Answer(None, error="connection lost: closed by the sink")


class Request:
    """A request and who wants its answer.

    Attributes:
        data: the bytes to send.
        timeout: seconds from its beginning to the end of the answer.
        deadline: the loop's time when `timeout` is over; infinite until it begins.
        repeated: it was sent before, on a connection that turned out to be dead.
    """

    __slots__ = ("_on_answer", "data", "deadline", "repeated", "timeout")

    def __init__(
        self, data: bytes, timeout: float, on_answer: Callable[[Answer], None] | None
    ) -> None:
        self.data = data
        self.timeout = timeout
        self.deadline = INFINITY
        self.repeated = False
        self._on_answer = on_answer

    def on_answer(self, answer: Answer) -> None:
        """Take the answer; called once."""
        if self._on_answer is not None:
            self._on_answer(answer)

    def begin(self, now: float) -> None:
        """Let its time run, unless it does already: connecting and a repetition are part of it."""
        due = now + self.timeout
        if due < self.deadline:
            self.deadline = due


class Owner(Protocol):
    """The pool, as a connection sees it."""

    def opened(self, connection: "Connection") -> None:
        """Count a connection that stands."""

    def lost(self, connection: "Connection") -> None:
        """Forget a connection."""

    def answered(self, connection: "Connection", request: Request, answer: Answer) -> None:
        """Hand over an answer, and give its connection, which is free, the next request."""

    def tell(self, request: Request, answer: Answer) -> None:
        """Hand over an answer, whatever becomes of its connection."""

    def release(self, connection: "Connection") -> None:
        """Give a free connection its next request."""

    def repeat(self, request: Request) -> None:
        """Send a request again on a new connection."""

    def wake(self) -> None:
        """Send what is ready."""

    def watch(self, seconds: float) -> None:
        """Look at deadlines often enough for a timeout of so many seconds."""


class Connection:
    """One connection; at most one request is under way.

    An `asyncio.Protocol`, though by its methods alone: an extension type can't inherit from it.
    """

    def __init__(self, pool: Owner) -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._request: Request | None = None
        self._was_idle = False
        self._timeout = 0.0
        self.deadline = INFINITY
        self._begin()

    def _begin(self) -> None:
        self._received = b""
        self._head_done = False
        self._answered = False
        self._fields = _NO_FIELDS
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._status_code = 0
        self._keep = False
        self._surplus = False

    def start(self, request: Request, *, was_idle: bool) -> None:
        """Send a request.

        Args:
            request: what to send.
            was_idle: nothing was under way here for a while, so that the receiver may have closed
                the connection, or be about to, without knowing of the request.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            # It was lost between becoming free and now; nothing has been sent.
            if request.repeated:
                self._pool.tell(request, _LOST)
            else:
                self._pool.repeat(request)
            return
        self._request = request
        self._was_idle = was_idle
        request.begin(self._loop.time())
        self.deadline = request.deadline
        if request.timeout != self._timeout:
            self._timeout = request.timeout
            self._pool.watch(request.timeout)
        transport.write(request.data)

    def close(self) -> None:
        """Close after what is buffered has left."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def expire(self) -> None:
        """Give up: the answer took too long, or nobody needed the connection."""
        self._finish_early(Answer(None, error="no answer in time", timed_out=True))
        self.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._transport = transport
        self._pool.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._pool.lost(self)
        request = self._request
        if request is not None and self._was_idle and not self._received:
            # A keep-alive connection closed under our feet: the receiver never read the request,
            # or at worst gets it twice, which at-least-once allows. That is no attempt.
            self._request = None
            self._pool.repeat(request)
        else:
            self._finish_early(
                Answer(None, error=f"connection lost: {exc or 'closed by the sink'}"[:200])
            )
        self._pool.wake()

    def eof_received(self) -> None:
        """Let the transport close."""

    def pause_writing(self) -> None:
        """Go on: a connection has one request at a time, which is in the buffer already."""

    def resume_writing(self) -> None:
        """Go on as before."""

    def data_received(self, data: bytes) -> None:
        request = self._request
        if request is None:  # an answer to nothing, such as 408 on an idle connection
            self.close()
            return
        is_first = not self._received
        if is_first:
            known = _known(data)
            if known is not None and self._is_reusable():
                self._request = None
                self._pool.answered(self, request, known)
                return
        if not self._head_done:
            self._received += data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._break_off("an upgrade that nobody asked for")
        except httptools.HttpParserError as error:
            self._surplus = True
            if not self._answered:
                self._break_off(f"no HTTP answer: {error}")
        if self._answered:
            self._finish(is_whole=is_first)
        elif not self._head_done and len(self._received) > MAX_HEAD:
            self._break_off("the head of the answer is larger than 64 KiB")

    # What httptools calls.

    def on_message_begin(self) -> None:
        # A second answer to one request: whose answer comes next could no longer be told.
        self._surplus = self._answered

    def on_header(self, name: bytes, value: bytes) -> None:
        kept = _KEPT_FIELDS.get(len(name))
        if kept is not None and not self._answered and name.lower() == kept:
            text = value.decode("latin-1").strip(" \t")
            if kept in self._fields:  # RFC 9110 5.3: two lines are one list
                text = f"{self._fields[kept]}, {text}"
            self._fields = {**self._fields, kept: text}

    def on_headers_complete(self) -> None:
        self._status_code = self._parser.get_status_code()
        self._head_done = self._status_code >= 200 or self._status_code == 101
        if not self._head_done:  # what a 1xx says is not about the answer
            self._fields = _NO_FIELDS

    def on_body(self, body: bytes) -> None:
        if self._body_bytes < MAX_KEPT_BODY:
            self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > _MAX_READ_BODY and not self._answered:
            self._answered = True
            self.abort()

    def on_message_complete(self) -> None:
        if self._head_done and not self._answered:  # else 1xx: the answer is still to come
            self._answered = True
            self._keep = self._parser.should_keep_alive() and self._status_code != 101

    # Answering.

    def _status(self) -> int | None:
        return self._status_code if self._head_done else complete_status(self._received)

    def _answer(self, status: int) -> Answer:
        body = b"".join(self._body)[:MAX_KEPT_BODY] if self._body else b""
        return Answer(status, self._fields, body)

    def _finish(self, *, is_whole: bool) -> None:
        """Hand over a complete answer, and take the next request.

        Args:
            is_whole: it came in one read, so that `_received` is all of it.
        """
        keep = self._keep and not self._surplus and self._is_reusable()
        answer = self._answer(self._status_code)
        if keep and is_whole and 200 <= self._status_code < 300 and not answer.fields:
            KNOWN_ANSWERS.learn(self._received, self._body_bytes, answer)
        self._begin()
        request, self._request = self._request, None
        if not keep:
            self.close()
            if request is not None:
                self._pool.tell(request, answer)
        elif request is not None:
            self._pool.answered(self, request, answer)
        else:
            self._pool.release(self)

    def _is_reusable(self) -> bool:
        transport = self._transport
        # An answer may come before the whole request has left.
        return (
            transport is not None
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0
        )

    def _finish_early(self, answer: Answer) -> None:
        """Hand over what is known of an answer that will not be complete: a status line stands."""
        request = self._request
        if request is not None:
            self._request = None
            status = self._status()
            self._pool.tell(request, answer if status is None else self._answer(status))

    def _break_off(self, why: str) -> None:
        self._finish_early(Answer(None, error=why[:200]))
        self.abort()
