"""The CoAP source at work: reads, submits, answers, and keeps the time.

All datagrams that one wake-up finds in the socket become one `try_submit`. There is one timer for
everything: empty ACKs, sink timeouts, repetitions of separate answers and what expires.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Final

from bindings.coap import Moment
from bindings.errors import CloudEventError
from bindings.wire.coap import (
    Code,
    Message,
    MessageFormatError,
    Type,
    parse,
    reset,
)
from gateway.config.records import Address
from gateway.delivery import Settlement
from gateway.errors import GatewayError
from gateway.interfaces import Intake
from gateway.sources.coap.config import CoapSourceConfig
from gateway.sources.coap.datagrams import DatagramSocket
from gateway.sources.coap.duplicates import CON_SECONDS, NON_SECONDS, Duplicates, key_of
from gateway.sources.coap.exchange import (
    BARE_ACK,
    NO_ANSWER,
    Exchange,
    exchange_of,
    piggybacked,
    separate,
)
from gateway.sources.coap.handover import Batch, Submission, hand_in, moment
from gateway.sources.coap.peers import Endpoint, Peers
from gateway.sources.coap.requests import Requests, refusal
from gateway.sources.coap.separate import SeparateAnswers

if TYPE_CHECKING:
    from gateway.sources.coap.dtls import DtlsListener
    from gateway.sources.coap.streams import Streams

_log = logging.getLogger(__name__)

_HOUSEKEEPING_SECONDS: Final = 30.0
_LAST_WORDS_SECONDS: Final = 4.0
"""How long the end waits for acknowledgements of answers: long enough to repeat one once."""


class CoapSource:
    """A CoAP server that answers a request when its events have been settled."""

    config_type: ClassVar[type[CoapSourceConfig]] = CoapSourceConfig

    def __init__(self, config: CoapSourceConfig) -> None:
        self._config = config
        self._requests = Requests(config)
        self._duplicates: Duplicates[Exchange] = Duplicates(config.duplicates_max_bytes)
        self._socket = DatagramSocket()
        self._peers = Peers(self._socket)
        self._separate = SeparateAnswers()
        # Exchanges in the order of their deadlines: to be told to wait, and to be given up.
        self._unacknowledged: deque[tuple[float, Exchange]] = deque()
        self._unsettled: deque[tuple[float, Exchange]] = deque()
        self._dtls: DtlsListener | None = None
        self._streams: Streams | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0  # uvloop's handles may have no `when`
        self._in_flight = 0
        self._told = self._settled  # one object: what is settled together is told together
        self._endpoint_limit = config.inflight_per_endpoint  # a record takes its time to say it
        self._changed = asyncio.Event()
        self._draining = False
        self._closed = False

    @property
    def address(self) -> Address:
        """Where it listens, with the port that the system chose: UDP, DTLS or a stream."""
        if self._config.listen is not None:
            return self._socket.address
        if self._dtls is not None:
            return self._dtls.address
        for address in self.stream_addresses.values():
            return address
        raise RuntimeError("the source is not open")

    @property
    def dtls_address(self) -> Address | None:
        """Where it listens for DTLS sessions, with the port that the system chose."""
        return self._dtls.address if self._dtls is not None else None

    @property
    def stream_addresses(self) -> Mapping[str, Address]:
        """Where it listens for connections, by URI scheme: coap+tcp, coaps+ws, ..."""
        return {} if self._streams is None else self._streams.addresses

    async def open(self, intake: Intake) -> None:
        self._intake = intake
        self._loop = asyncio.get_running_loop()
        config = self._config
        try:
            if config.listen is not None:
                size = config.receive_buffer_bytes
                await self._socket.open(
                    config.listen, size, self._on_readable, reuse_port=config.reuse_port
                )
                self._say_listening("coap", self._socket.address)
            if config.listen_dtls is not None:
                # Only here, as mbedtls takes 6 MB.
                from gateway.sources.coap.dtls import DtlsListener  # noqa: PLC0415 - see above

                self._dtls = DtlsListener(config, intake, self._take, self._forget)
                await self._dtls.open(config.listen_dtls)
                self._say_listening("coaps", self._dtls.address)
            if config.has_streams:
                # Only here, as aiocoap takes 2 MB.
                from gateway.sources.coap.streams import Streams  # noqa: PLC0415 - see above

                self._streams = Streams(config, self._requests, intake)
                await self._streams.open()
                for scheme, address in self._streams.addresses.items():
                    self._say_listening(scheme, address)
        except GatewayError:
            await self.close()
            raise

    def _say_listening(self, scheme: str, address: Address) -> None:
        _log.info("listening on %s://%s", scheme, address, extra={"source": self._config.name})

    async def drain(self) -> None:
        self._draining = True
        if self._streams is not None:
            self._streams.drain()
        await self._until(lambda: not self._in_flight)
        # Who has had an empty ACK asks no more; an answer that is lost now is lost for good.
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                await self._until(lambda: not len(self._separate))

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._socket.close()
        if self._dtls is not None:
            self._dtls.close()
            self._dtls = None
        if self._streams is not None:
            await self._streams.close()
            self._streams = None

    # --- in -----------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        self._take((datagram, self._peers[sender]) for datagram, sender in self._socket.read())

    def _take(self, datagrams: Iterable[tuple[bytes, Endpoint]]) -> None:
        """Take what one wake-up brings, as one submit."""
        now = self._loop.time()
        received = moment()
        self._duplicates.expire(now)
        self._requests.assemblies.expire(now)
        batch: Batch = []
        for datagram, endpoint in datagrams:
            self._receive(datagram, endpoint, batch, received, now)
        if batch:
            hand_in(self._intake, batch, self._refuse_for_now)
            self._wait_for(batch, now)
        if self._timer is None:
            self._arm(now)

    def _forget(self, endpoint: Endpoint) -> None:
        """Give up what a session has begun that is over."""
        self._requests.assemblies.drop_all(endpoint.address)

    def _receive(
        self, datagram: bytes, endpoint: Endpoint, batch: Batch, received: Moment, now: float
    ) -> None:
        """Take one datagram: answer it, or add what it brings to the batch."""
        try:
            message = parse(datagram)
        except MessageFormatError as error:
            if error.reply:
                _send(error.reply, endpoint)
            self._intake.rejected("message_format", str(error))
            return
        if message.type > 1 or not 0 < message.code < 0x20:  # neither CON nor NON, or no request
            self._take_control(message, endpoint)
            return
        key = key_of(endpoint.peer, datagram)
        known = self._duplicates.get(key)
        if known is not None:
            self._repeat(known, message, endpoint)
            return
        exchange = exchange_of(endpoint, message, key, len(datagram))
        lifetime = CON_SECONDS if exchange.confirmable else NON_SECONDS
        if not self._duplicates.add(key, exchange, lifetime, now):
            self._refuse_for_now(exchange)
            return
        try:
            found = self._requests.judge(message, exchange, received, now)
        except CloudEventError as error:
            self._intake.rejected(error.reason, str(error))
            self._finish(exchange, refusal(exchange, error))
            return
        if isinstance(found, bytes):
            self._finish(exchange, found)
        elif not found:
            self._finish(exchange, exchange.answer(Code.CHANGED))
        elif self._draining or endpoint.in_flight >= self._endpoint_limit:
            self._refuse_for_now(exchange)
        else:
            endpoint.in_flight += 1
            self._in_flight += 1
            exchange.is_in_flight = True
            batch.append(Submission(found, self._told, exchange=exchange))

    def _take_control(self, message: Message, endpoint: Endpoint) -> None:
        """Take what is no request: ping, acknowledgement, reset, stray response (RFC 7252 4.2)."""
        if message.type == Type.CON:
            _send(reset(message.mid), endpoint)
        elif message.type == Type.RST or (message.type == Type.ACK and message.code == 0):
            self._separate.acknowledged(endpoint.address, message.mid)
            self._changed.set()

    def _repeat(self, known: Exchange | bytes, message: Message, endpoint: Endpoint) -> None:
        """Answer a repeated request as before; while it is under way, ask for patience (4.1)."""
        if isinstance(known, Exchange):
            if known.confirmable:
                known.acknowledged = True
                _send(piggybacked(message.mid, b"", BARE_ACK), endpoint)
        elif known:
            _send(piggybacked(message.mid, message.token, known), endpoint)

    def _refuse_for_now(self, exchange: Exchange) -> None:
        """Say that there is no room: 5.03 with Max-Age for CON, silence for NON (section 5.3)."""
        self._intake.rejected("busy", "no room for more events")
        if exchange.confirmable or self._draining:
            self._finish(exchange, exchange.unavailable())
        else:
            self._finish(exchange, NO_ANSWER)
            self._duplicates.forget(exchange.key)

    # --- out ----------------------------------------------------------------------------------

    def _settled(self, submissions: Sequence[Submission], settlement: Settlement) -> None:
        for submission in submissions:
            exchange = submission.exchange
            if exchange.pending:  # else it was answered 5.04 before
                self._finish(exchange, exchange.settled(settlement))

    def _finish(self, exchange: Exchange, answer: bytes) -> None:
        """Send the answer in the way that is still open, and keep it for a repetition."""
        exchange.pending = False
        endpoint = exchange.endpoint
        if exchange.is_in_flight:
            endpoint.in_flight -= 1
            self._in_flight -= 1
            if self._draining:
                self._changed.set()
        suppressed = not answer or (exchange.no_response != 0 and exchange.suppresses(answer[0]))
        if exchange.protection is not None and not suppressed:
            answer = exchange.protected(answer)
        if not exchange.confirmable:
            kept = NO_ANSWER
            if not suppressed:
                mid = endpoint.new_mid()
                _send(separate(Type.NON, mid, exchange.token, answer), endpoint)
        elif not exchange.acknowledged:
            kept = BARE_ACK if suppressed else answer
            _send(piggybacked(exchange.mid, exchange.token, kept), endpoint)
        else:
            kept = BARE_ACK
            if not suppressed:
                mid = endpoint.new_mid()
                datagram = separate(Type.CON, mid, exchange.token, answer)
                _send(datagram, endpoint)
                now = self._loop.time()
                self._separate.add(datagram, endpoint, now)
                self._arm(now)
        self._duplicates.answered(exchange.key, kept)

    # --- time ---------------------------------------------------------------------------------

    def _wait_for(self, batch: Batch, now: float) -> None:
        deadline = now + self._config.ack_after
        waiting = [(deadline, each.exchange) for each in batch if each.exchange.pending]
        if waiting:
            self._unacknowledged.extend(waiting)
            self._arm(now)

    def _arm(self, now: float) -> None:
        """Set the timer for what is due next, unless it is set for a time before that."""
        due = now + _HOUSEKEEPING_SECONDS
        if self._unacknowledged:
            due = min(due, self._unacknowledged[0][0])
        if self._unsettled:
            due = min(due, self._unsettled[0][0])
        repetition = self._separate.next_due
        if repetition is not None:
            due = min(due, repetition)
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._loop.call_at(due, self._tick) if not self._closed else None

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        self._acknowledge(now)
        for exchange in _take_due(self._unsettled, now):
            self._finish(exchange, exchange.timed_out())
        for datagram, endpoint in self._separate.take_due(now):
            _send(datagram, endpoint)
        self._duplicates.expire(now)
        self._requests.assemblies.expire(now)
        if self._unacknowledged or self._unsettled or len(self._separate) or self._is_remembering:
            self._arm(now)

    @property
    def _is_remembering(self) -> bool:
        return bool(len(self._duplicates) or len(self._requests.assemblies))

    def _acknowledge(self, now: float) -> None:
        """Tell senders whose answer takes long to stop repeating (binding section 4.2)."""
        rest = self._config.sink_timeout - self._config.ack_after
        for exchange in _take_due(self._unacknowledged, now):
            if exchange.confirmable and not exchange.acknowledged:
                exchange.acknowledged = True
                _send(piggybacked(exchange.mid, b"", BARE_ACK), exchange.endpoint)
            self._unsettled.append((now + rest, exchange))


def _send(datagram: bytes, endpoint: Endpoint) -> None:
    if endpoint.channel is not None:
        endpoint.channel.send(datagram, endpoint.address)


def _take_due(queue: "deque[tuple[float, Exchange]]", now: float) -> list[Exchange]:
    """Take from the front what is answered, and return what is due and is not."""
    due = []
    while queue and (queue[0][0] <= now or not queue[0][1].pending):
        _, exchange = queue.popleft()
        if exchange.pending:
            due.append(exchange)
    return due
