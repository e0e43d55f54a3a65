"""One connection of the CoAP source (RFC 8323), on aiocoap's transport.

aiocoap's `TcpConnection` brings the signalling: CSM, ping, release and abort. What
it does not do is done here: requests are judged by our rules on their raw options (aiocoap decodes
them, and a Uri-Path that is no UTF-8 ends its connection with a traceback), all that one read
brings is handed in at once, and a peer that does not read its answers is not read either.
`tests/gateway/sources/coap/test_connection.py` pins what is used of aiocoap, some of it private.

There are no message types here, so each request counts as confirmable (binding section 11).
"""

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from aiocoap.error import UnparsableMessage
from aiocoap.numbers.codes import CSM, PING, PONG, RELEASE
from aiocoap.transports.rfc8323common import CloseConnection
from aiocoap.transports.tcp import TcpConnection, _decode_message

from bindings.coap import Identity, Moment
from bindings.errors import CloudEventError
from bindings.wire.coap import Code, Message, Type, parse_options
from bindings.wire.coap_stream import head, read_head
from gateway.delivery import Settlement
from gateway.sources.coap.exchange import Exchange, exchange_of
from gateway.sources.coap.handover import Batch, Submission, hand_in, moment
from gateway.sources.coap.listener import SocketAddress
from gateway.sources.coap.peers import Endpoint
from gateway.sources.coap.requests import refusal

if TYPE_CHECKING:
    from gateway.sources.coap.streams import Streams

CLOSE_SECONDS: Final = 2.0
"""How long a peer may take to read our last words."""
_PEER_MAX_MESSAGE_BYTES: Final = 1152
"""What a peer takes that has not said more (RFC 8323 5.3.1)."""
_RESERVED_CLASSES: Final = frozenset({1, 3, 6})
_SIGNALLING: Final = 7

# aiocoap warns of each connection that it aborts; here these are counted as rejected messages.
_library_log = logging.getLogger(f"{__name__}.aiocoap")
_library_log.setLevel(logging.CRITICAL)


class Connection(TcpConnection):  # type: ignore[misc]  # aiocoap has no types
    """One connection: what it sends is taken in order, answers leave as they come."""

    def __init__(self, streams: "Streams") -> None:
        super().__init__(streams, _library_log, streams.loop, is_server=True)
        self._streams = streams
        self._my_max_message_size = streams.max_message_bytes
        self._remote_settings: Mapping[str, Any] | None = None
        self._spool = bytearray()
        self._answers = bytearray()
        # No retransmission exists, so ids are random (binding section 3.4.2): these bytes and a
        # counter are the endpoint of each request.
        self._nonce = secrets.token_bytes(16)
        self._count = 0
        self._told = self._settled  # one object: what is settled together is told together
        self._deadline: asyncio.TimerHandle | None = None
        self._processing = False
        self._writable = True
        self._crowded = False
        self._reading = True
        self._ending = False
        self._abortion: tuple[str, int | None] | None = None
        self.address: SocketAddress = ("", 0)

    # --- asyncio's side -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        peer_name = transport.get_extra_info("peername")
        number = self._streams.connected(self) if peer_name is not None else None
        if number is None:  # it is gone already, or one too many
            self._ending = True
            transport.abort()
            return
        self._endpoint = _endpoint_of(peer_name, number, transport.get_extra_info("peercert"))
        self.address = self._endpoint.address
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ending = True
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._ending:
            self._spool += data
            self.process()

    def eof_received(self) -> bool:
        """Close, but not before what was asked is answered; TLS closes both ways at once."""
        if self._ending or not self._endpoint.in_flight or not self._transport.can_write_eof():
            return False
        self._ending = True
        return True

    def pause_writing(self) -> None:
        self._writable = False
        self._update_reading()

    def resume_writing(self) -> None:
        self._writable = True
        self.process()

    def _update_reading(self) -> None:
        """Read no further while answers wait for their reader, or too many for their sink."""
        reading = self._writable and not self._crowded and not self._ending
        if reading is not self._reading and not self._transport.is_closing():
            self._reading = reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # --- in -----------------------------------------------------------------------------------

    def process(self) -> None:
        """Take what has arrived, as far as there is room for it."""
        if self._processing or self._ending:
            return
        self._processing = True
        while self._take_messages():
            self._unwatch()
        self._processing = False
        self._flush()
        if self._ending:
            self._end_if_answered()
        else:
            self._update_reading()
            self._watch()

    def _take_messages(self) -> bool:
        """Take what is complete, as one submit; False when there was nothing to take."""
        now = self._streams.loop.time()
        received = moment()
        self._streams.requests.assemblies.expire(now)
        batch: Batch = []
        position = 0
        while self._may_take_one() and (frame := self._next_frame(position)) is not None:
            octets, start, token_length = frame
            position += len(octets)
            self._receive(octets, start, start + token_length, (batch, received, now))
        del self._spool[:position]
        if batch:
            hand_in(self._streams.intake, batch, self._refuse_for_now)
            self._streams.wait_for(batch, self, now)
        return position > 0

    def _next_frame(self, position: int) -> tuple[bytes, int, int] | None:
        """Return the message at a position, where its token starts, and the token's length."""
        found = read_head(self._spool, position)
        if found is None:
            return None
        end = position + found.size
        if found.token_length > 8:
            self.abort("reserved token length")
        # The length itself does not count: over WebSockets it was not there.
        elif 2 + found.token_length + found.length > self._my_max_message_size:
            self.abort("message too large")
        elif end <= len(self._spool):
            return bytes(self._spool[position:end]), found.token_start, found.token_length
        return None

    def _may_take_one(self) -> bool:
        """Whether there is room for a request; when there was none, not until half are answered."""
        limit = self._streams.config.inflight_per_endpoint
        in_flight = self._endpoint.in_flight
        self._crowded = not self._streams.draining and (
            in_flight >= limit or (self._crowded and in_flight > limit // 2)
        )
        return self._writable and not self._crowded and not self._ending

    def _receive(
        self, frame: bytes, start: int, body: int, into: tuple[Batch, Moment, float]
    ) -> None:
        """Take one message: answer it, or add what it brings to the batch."""
        code = frame[start - 1]
        try:
            options, payload = parse_options(frame, body)
        except ValueError as error:
            self.abort(str(error))
            return
        if self._remote_settings is None and code != CSM:
            self.abort("the first message has to be a CSM")
        elif code >> 5 in _RESERVED_CLASSES:
            self.abort("reserved class of codes")
        elif code == PING:  # aiocoap's own answer raises a DeprecationWarning
            if any(number & 1 for number, _ in options):
                self.abort("unknown critical option")
            else:
                self._answers += bytes((body - start, PONG)) + frame[start:body]
        elif code >> 5 == _SIGNALLING:
            self._take_signal(frame)
        elif 0 < code < 0x20:  # an empty message and a stray response mean nothing
            message = Message(Type.CON, code, 0, frame[start:body], options, payload)
            self._take_request(message, *into)

    def _take_signal(self, frame: bytes) -> None:
        try:
            signal = _decode_message(frame)
        except (UnparsableMessage, ValueError):  # an option of another kind than aiocoap expects
            self.abort("malformed signal")
            return
        try:
            self._process_signaling(signal)
        except CloseConnection:
            self._ending = True
            if signal.code != RELEASE:  # after Abort nobody reads answers
                self._close()

    def _take_request(self, message: Message, batch: Batch, received: Moment, now: float) -> None:
        endpoint = self._endpoint
        self._count += 1
        name = self._nonce + self._count.to_bytes(8, "big")
        endpoint.peer = msgspec.structs.replace(endpoint.peer, endpoint=name)
        exchange = exchange_of(endpoint, message, b"", 0)
        assert self._remote_settings is not None  # noqa: S101 - for the type checker
        exchange.max_answer_bytes = self._remote_settings.get(
            "max-message-size", _PEER_MAX_MESSAGE_BYTES
        )
        try:
            found = self._streams.requests.judge(message, exchange, received, now)
        except CloudEventError as error:
            self._streams.intake.rejected(error.reason, str(error))
            self.finish(exchange, refusal(exchange, error))
            return
        if isinstance(found, bytes):
            self.finish(exchange, found)
        elif not found:
            self.finish(exchange, exchange.answer(Code.CHANGED))
        elif self._streams.draining:
            self._refuse_for_now(exchange)
        else:
            endpoint.in_flight += 1
            exchange.is_in_flight = True
            batch.append(Submission(found, self._told, exchange=exchange))

    # --- out ----------------------------------------------------------------------------------

    def _refuse_for_now(self, exchange: Exchange) -> None:
        self._streams.intake.rejected("busy", "no room for more events")
        self.finish(exchange, exchange.unavailable())

    def _settled(self, submissions: Sequence[Submission], settlement: Settlement) -> None:
        for submission in submissions:
            exchange = submission.exchange
            if exchange.pending:  # else it was answered 5.04 before
                self.finish(exchange, exchange.settled(settlement))

    def finish(self, exchange: Exchange, answer: bytes) -> None:
        """Send the answer, unless it is not wanted or nobody is there any more."""
        exchange.pending = False
        if exchange.is_in_flight:
            self._endpoint.in_flight -= 1
        if not exchange.suppresses(answer[0]):
            answer = exchange.protected(answer)
            token = exchange.token
            self._answers += head(len(token), len(answer) - 1, answer[0]) + token + answer[1:]
        if self._processing:
            return
        self._flush()
        if self._ending:
            self._end_if_answered()
        elif self._crowded:
            self.process()

    def _flush(self) -> None:
        if self._answers and not self._transport.is_closing():
            self._transport.write(bytes(self._answers))
        self._answers.clear()

    def _send_message(self, msg: Any) -> None:
        """Send a signal, behind the answers that are ready."""
        self._flush()
        if not self._transport.is_closing():
            super()._send_message(msg)

    # --- the end ------------------------------------------------------------------------------

    def abort(self, errormessage: str = "", bad_csm_option: int | None = None) -> None:
        """Close with Abort (7.05); what was well asked before is answered first."""
        self._streams.intake.rejected("message_format", errormessage)
        self._abortion = errormessage, bad_csm_option
        self._ending = True
        if not self._processing:
            self._end_if_answered()

    def _end_if_answered(self) -> None:
        """Close, or stop reading until the last answer is out (RFC 8323 5.5)."""
        self._unwatch()
        if self._endpoint.in_flight:
            self._update_reading()
            return
        if self._abortion is not None:
            super().abort(*self._abortion)
            self._abortion = None
        self._close()

    async def leave(self) -> None:
        """Close with Release (7.04)."""
        self._ending = True
        await self.release()
        self._close()

    def drop(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _close(self) -> None:
        self._unwatch()
        self._transport.close()
        if self._streams.knows(self):
            self._deadline = self._streams.loop.call_later(CLOSE_SECONDS, self.drop)

    def _watch(self) -> None:
        """See to it that a message does not take too long to arrive."""
        if self._remote_settings is not None and not self._spool:
            self._unwatch()
        elif self._deadline is None and self._reading:
            seconds = self._streams.config.message_timeout
            self._deadline = self._streams.loop.call_later(seconds, self.abort, "not in time")

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _endpoint_of(
    peer_name: tuple[str, int], number: int, certificate: Mapping[str, Any] | None
) -> Endpoint:
    """Return who is at the other end of a connection (binding section 10.1)."""
    endpoint = Endpoint(peer_name)
    endpoint.is_stream = True
    # Blocks of a payload belong to one connection, not to whoever has its port next.
    endpoint.address = (f"connection {number}", peer_name[1])
    name = _name_in(certificate) if certificate else None
    if name is not None:
        endpoint.authenticate(Identity(name), b"")
    return endpoint


def _name_in(certificate: Mapping[str, Any]) -> str | None:
    """Return the first DNS name or URI of a verified certificate, else its common name."""
    for kind, value in certificate.get("subjectAltName", ()):
        if kind in {"DNS", "URI"}:
            return str(value)
    for pairs in certificate.get("subject", ()):
        for kind, value in pairs:
            if kind == "commonName":
                return str(value)
    return None
