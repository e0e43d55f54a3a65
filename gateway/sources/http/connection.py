"""One connection of the HTTP source: reads requests and takes what they bring.

httptools calls back for each piece of a request. Everything that one read completes goes into the
gateway with one `try_submit`; `AnswerQueue` keeps the answers in order. There is no task and no
timer here: `expire` is called by the listener's sweep.
"""

import asyncio
from typing import Final, cast

import httptools

from bindings.binding import Message
from bindings.errors import CloudEventError
from gateway.delivery import BUSY, DRAINING, Delivery
from gateway.sources.http import admission, answers
from gateway.sources.http.admission import Head, Refusal
from gateway.sources.http.exchange import AnswerQueue, Exchange, Submission, settle
from gateway.sources.http.incoming import Incoming
from gateway.sources.http.listener import Listener, Phase

# The head of a request in bytes. nginx takes 32 KiB, Node 16 KiB, uvicorn 64 KiB; nine attributes
# of some kilobytes, percent-encoded, need more than the smaller ones.
_MAX_HEAD: Final = 65_536
# What a body may take on the wire in chunks of one byte each ("1\r\nx\r\n"), relative to its size.
_CHUNK_OVERHEAD: Final = 6
# Pipelined requests under way at which reading stops, until all of them are answered.
_MAX_PIPELINED: Final = 256
# After a refusal the rest of the request is read and dropped, so that the answer is not lost to a
# reset (RFC 9112 9.6); no longer than this.
_LINGER_SECONDS: Final = 2.0
_IDLE: Final = Phase.IDLE  # asked for with every request, and the lookup in an enum takes its time
_LINGER: Final = Phase.LINGER


class Connection(Incoming):
    """A sender's connection.

    An `asyncio.Protocol`, though by its methods alone: an extension type can't inherit from it.
    """

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener.plain)
        self._listener = listener
        self._limit = listener.config.limits.max_event_bytes
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._answers = AnswerQueue(listener.clock, self)
        self._arrived: list[Delivery] = []
        self._deadline: float | None = None
        self._reading = True
        self._writable = True
        self._continue_due = False
        self._half_closed = False
        self.peer = ""

    # The connection.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._transport = self._answers.transport = transport
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if peer else ""
        self._deadline = self._loop.time() + self._listener.config.header_timeout
        if not self._listener.connected(self):
            self._refuse_now(Refusal(answers.answer_settlement(BUSY), "too_many_connections"))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the interface's
        self._transport = None
        self._answers.drop()
        self._listener.disconnected(self)

    def eof_received(self) -> bool:
        # A sender may close its half after its requests and still read the answers; not with TLS.
        transport = self._transport
        self._half_closed = True
        if transport is None or not self._answers.pending or not transport.can_write_eof():
            return False
        self._answers.pending[-1].close = True
        self.take_no_more()
        return True

    def pause_writing(self) -> None:
        self._writable = False
        self._update_reading()

    def resume_writing(self) -> None:
        self._writable = True
        self._update_reading()

    def _update_reading(self) -> None:
        room = _MAX_PIPELINED if self._reading else 0
        room_left = self._writable and len(self._answers.pending) <= room
        reading = room_left or self._lingers
        transport = self._transport
        if transport is not None and reading is not self._reading and not self._half_closed:
            self._reading = reading
            if reading:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def expire(self, now: float) -> None:
        """Act on deadlines that have passed.

        Args:
            now: the loop's time.
        """
        self._answers.expire(now)
        if self._deadline is None or self._deadline > now or self._transport is None:
            return
        if self._lingers:
            self._transport.abort()
        elif self._phase is not Phase.IDLE:
            self._refuse_now(Refusal(answers.TOO_SLOW, "timeout"))
        elif not self._answers.pending:
            self._transport.close()
            # Whoever reads no answers keeps it open as long as some are left to be written.
            self._phase, self._deadline = Phase.LINGER, now + _LINGER_SECONDS

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way and no answer has to be read."""
        return self._phase is Phase.IDLE and not self._answers.pending

    @property
    def _lingers(self) -> bool:
        return self._phase is _LINGER

    # Reading.

    def data_received(self, data: bytes) -> None:
        phase, queue = self._phase, self._answers
        if phase is _LINGER:
            return
        queue.held = True
        taken = self._take_plain(data) if phase is _IDLE else 0
        if taken < len(data):
            self._feed(data[taken:] if taken else data)
        if self._arrived:
            self._listener.take(self._arrived)
            self._arrived = []
        queue.held = False
        pending = queue.pending
        if pending and pending[0].response is not None:
            queue.flush()
        if self._deadline is None:
            self._set_deadline()
        if len(pending) > _MAX_PIPELINED:
            self._update_reading()

    def _set_deadline(self) -> None:
        """Set the deadline of what is being read; that of the next request comes with an answer."""
        phase = self._phase
        if phase is not _LINGER and not (phase is _IDLE and self._answers.pending):
            self._deadline = self._loop.time() + self._listener.timeouts[phase]

    def _take_plain(self, data: bytes) -> int:
        """Take the requests that need no parser; returns where the first one that does begins."""
        listener, position, size = self._listener, 0, len(data)
        plain, deadline = listener.plain, self._loop.time() + listener.ack_timeout
        while position < size and not listener.draining:
            found = plain.read(data, position, self._limit)
            if found is None or not (
                listener.credentials is None or listener.accepts(found.authorization)
            ):
                break
            position = found.end
            self._message = Message(found.body, found.content_type, found.headers, found.path)
            exchange = self._answers.open(deadline)
            self._deadline = None
            self._take(exchange)
            if exchange.close:
                self.take_no_more()
                return size
        return position

    def _feed(self, data: bytes) -> None:
        """Give the parser what it has to see."""
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            # What follows a `Connection: close` is an error too, and nobody's business.
            self._refuse_now(Refusal(answers.MALFORMED, "malformed", str(error)))
        self._check_read_size(len(data))

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # RFC 9110 7.8: an Upgrade may be ignored. httptools stops at the head, without body.
            rest = data[upgrade.args[0] :]
            if self._phase is Phase.BODY:
                self._replay_head()
            if rest and not self._lingers:
                self._parse(rest)

    def _replay_head(self) -> None:
        """Go on with a parser that knows how long the body is and nothing of the upgrade."""
        fields = self._fields
        head = b"POST / HTTP/1.1\r\n"
        for name in (b"content-length", b"transfer-encoding"):
            if name in fields:
                head += name + b": " + fields[name] + b"\r\n"
        if b"close" in fields.get(b"connection", b"").lower():
            head += b"Connection: close\r\n"
        self._parser = httptools.HttpRequestParser(self)
        self._replaying = True
        self._parser.feed_data(head + b"\r\n")
        self._replaying = False

    def _check_read_size(self, size: int) -> None:
        """Bound what the parser holds back of an unfinished header, trailer or chunk extension."""
        if self._read_bytes < 0:  # the request began in this read
            self._read_bytes = 0
            return
        self._read_bytes += size
        if self._phase is Phase.HEAD and self._read_bytes > _MAX_HEAD:
            self._refuse_now(Refusal(answers.HEAD_TOO_LARGE, "too_large"))
        elif (
            self._phase is Phase.BODY
            and self._read_bytes > _MAX_HEAD * 2 + self._limit * _CHUNK_OVERHEAD
        ):
            self._refuse_now(Refusal(answers.too_large(self._limit), "too_large"))

    # What httptools calls.

    def on_message_begin(self) -> None:
        if not self._replaying and not self._lingers:
            self._begin()
            self._phase = Phase.HEAD
            self._deadline = None
            if self._listener.draining:
                self._refuse_now(_draining())

    def on_headers_complete(self) -> None:
        if self._replaying or self._lingers:
            return
        self._phase = Phase.BODY
        self._deadline = None
        fields, parser = self._fields, self._parser
        if self._head_bytes + len(self._target) > _MAX_HEAD:
            self._refuse_now(Refusal(answers.HEAD_TOO_LARGE, "too_large"))
            return
        if self._repeated:
            detail = f"{self._repeated.decode()} stands there twice"
            self._refusal = Refusal(answers.MALFORMED, "malformed", detail)
        else:
            # Without a Connection field 1.1 is the only version that stays open.
            usual = parser.should_keep_alive() and b"connection" not in fields
            version = "1.1" if usual else parser.get_http_version()
            head = Head(parser.get_method(), self._target, version, fields)
            self._refusal = admission.refuse(self._listener, head)
            if self._refusal is None:
                admission.learn(self._listener, head)
        if int(fields.get(b"content-length", b"0")) > self._limit:
            self._refuse_now(self._refusal or Refusal(answers.too_large(self._limit), "too_large"))
        elif b"expect" in fields:
            self._expect(fields[b"expect"])

    def _expect(self, expectation: bytes) -> None:
        if self._parser.get_http_version() == "1.0":  # RFC 9110 10.1.1: to be ignored
            return
        if expectation.lower() != b"100-continue":
            self._refuse_now(self._refusal or Refusal(answers.EXPECTATION, "malformed"))
        elif self._refusal is not None:
            # It may or may not send the body now: only a new connection is unambiguous.
            self._refuse_now(self._refusal)
        elif self._answers.pending:
            self._continue_due = True
        elif self._transport is not None:
            self._transport.write(answers.CONTINUE)

    def on_body(self, body: bytes) -> None:
        if self._lingers:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self._limit:
            self._refuse_now(self._refusal or Refusal(answers.too_large(self._limit), "too_large"))
        elif self._refusal is None:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._replaying or self._lingers or self._body_comes_later():
            return
        exchange = self._open_exchange()
        self._continue_due = False
        self._phase = Phase.IDLE
        self._deadline = None
        if self._refusal is not None:
            exchange.bodyless = self._parser.get_method() == b"HEAD"
            self._count(self._refusal)
            exchange.answer(self._refusal.answer)
        elif self._parser.get_method() == b"OPTIONS":
            exchange.answer(self._listener.handshake.answer(self._fields))
        else:
            self._message = self._read_message()
            self._take(exchange)
        if exchange.close:
            self.take_no_more()

    def _body_comes_later(self) -> bool:
        """Whether httptools called this message complete only because of its Upgrade."""
        fields = self._fields
        return self._parser.should_upgrade() and (
            b"transfer-encoding" in fields or int(fields.get(b"content-length", b"0")) > 0
        )

    def _open_exchange(self) -> Exchange:
        exchange = self._answers.open(self._loop.time() + self._listener.ack_timeout)
        if not self._parser.should_keep_alive():
            exchange.close = True
        elif b"connection" in self._fields and self._parser.get_http_version() == "1.0":
            exchange.fields = (answers.KEEP_ALIVE,)
        if b"authorization" not in self._fields and b"access_token=" in self._target:
            exchange.accepted = answers.ACCEPTED_PRIVATE
        return exchange

    def _read_message(self) -> Message:
        body = self._body
        payload = body[0] if len(body) == 1 else b"".join(body)
        content_type = self._fields.get(b"content-type", b"").decode("latin-1")
        path = admission.path_of(self._listener, self._target)
        return Message(payload, content_type, self._headers, path)

    def _take(self, exchange: Exchange) -> None:
        """Take what `_message` brings, or refuse it."""
        try:
            events = self._listener.decode(self._message)
        except CloudEventError as error:
            self._listener.intake.rejected(error.reason, str(error))
            exchange.answer(answers.answer_error(error))
        else:
            if events:
                self._arrived.append(Submission(events, settle, exchange=exchange))
            else:  # an empty batch is a success that holds nothing
                exchange.answer(exchange.accepted)

    # Answering.

    def drain(self) -> None:
        """Refuse what has begun to arrive; the last answer that is under way says the end."""
        self._answers.draining = True
        if self._phase in {Phase.HEAD, Phase.BODY}:
            self._refuse_now(_draining())

    def _count(self, refusal: Refusal) -> None:
        detail = refusal.detail or refusal.answer.body.decode().rstrip()
        self._listener.intake.rejected(refusal.reason, detail)

    def _refuse_now(self, refusal: Refusal) -> None:
        """Answer without reading the request to its end; the connection closes after it."""
        if self._lingers:
            return
        self._count(refusal)
        exchange = self._answers.open(self._loop.time())
        exchange.close = True
        self.take_no_more()
        exchange.answer(refusal.answer)

    def take_no_more(self) -> None:
        """Read on, but take nothing: the last answer is known or will be."""
        self._phase = Phase.LINGER
        self._deadline = None
        self._continue_due = False  # the body that waits for it is refused

    def all_answered(self) -> None:
        """Go on after the last answer that was waited for has left."""
        transport = self._transport
        if transport is None:
            return
        phase = self._phase
        if phase is _IDLE:
            self._deadline = self._loop.time() + self._listener.timeouts[_IDLE]
        elif phase is _LINGER:
            self._deadline = self._loop.time() + _LINGER_SECONDS
            if self._half_closed:
                transport.close()
            elif transport.can_write_eof():
                transport.write_eof()
        if self._continue_due:
            self._continue_due = False
            transport.write(answers.CONTINUE)
        if not self._reading:
            self._update_reading()
        if self._listener.draining:
            self._listener.changed()


def _draining() -> Refusal:
    return Refusal(answers.answer_settlement(DRAINING), "draining")
