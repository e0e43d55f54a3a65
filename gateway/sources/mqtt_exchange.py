"""The receiving half of an MQTT session: which packet identifiers are open, and what to answer.

Both sources use it, the client of a broker and the endpoint that devices connect to. It opens no
socket: packets come in as lists, deliveries go out as lists, and the answers of all that was
settled in one go leave in one write.

A session outlives its connections (MQTT 5 section 4.1). Each connection has an epoch; an answer
belongs to the connection on which its PUBLISH came last, and is not sent on any other. A PUBLISH
that is repeated while its first copy is still under way joins that copy.

    PUBLISH -> submitted -> settled ACCEPTED or REJECTED -> PUBACK, or PUBREC until PUBREL
                         -> settled RELEASED -> Backlog -> submitted again
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from bindings.errors import CloudEventError
from bindings.event import Event
from bindings.wire.mqtt import (
    V5,
    V311,
    Ack,
    PacketType,
    Property,
    Publish,
    ReasonCode,
    Version,
    encode_ack,
)
from gateway.delivery import Delivery, Outcome, Settlement
from gateway.interfaces import Intake
from gateway.sources.mqtt_message import refusal_code
from gateway.tasks import Tasks

_log = logging.getLogger(__name__)

FIRST_DELAY: Final = 0.5
"""Seconds until what was released is submitted again; doubled up to `LAST_DELAY`."""
LAST_DELAY: Final = 30.0
_REASON_STRING_CHARACTERS: Final = 200


class Exchange:
    """One open packet identifier.

    Attributes:
        packet_id: 0 for a message that nobody waits for an answer to.
        qos: 1 or 2.
        epoch: the connection on which its PUBLISH came last.
        queued: its PUBACK or PUBREC has yet to leave on that connection.
        code: the answer's reason code; None until settled.
        detail: the answer's reason string.
    """

    __slots__ = ("code", "detail", "epoch", "packet_id", "qos", "queued")

    def __init__(self, packet_id: int, qos: int, epoch: int) -> None:
        self.packet_id = packet_id
        self.qos = qos
        self.epoch = epoch
        self.queued = True
        self.code: int | None = None
        self.detail = ""


class Backlog:
    """What was released on a source's sessions: held, and submitted again with back-off.

    There is one timer, and no negative acknowledgement: to MQTT that would be the end of the
    message (section 4.3.2).
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._intake: Intake | None = None
        self._held: list[Callable[[], Delivery | None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._delay = FIRST_DELAY

    def __len__(self) -> int:
        return len(self._held)

    def open(self, intake: Intake) -> None:
        """Begin."""
        self._intake = intake

    def hold(self, again: Callable[[], Delivery | None], retry_after: float | None) -> None:
        """Keep a message until its time has come.

        Args:
            again: makes its delivery anew, or None if nobody wants it any more.
            retry_after: seconds, when the sink said so.
        """
        self._held.append(again)
        if self._timer is None and self._intake is not None:
            jitter = 1 + random.random() / 4  # noqa: S311 - no secret
            delay = max(self._delay * jitter, retry_after or 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay, self._start)

    def relieve(self) -> None:
        """Begin with the shortest delay again, as something was accepted."""
        self._delay = FIRST_DELAY

    def close(self) -> None:
        """Submit nothing any more; what is held stays unacknowledged."""
        self._intake = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self) -> None:
        self._timer = None
        self._delay = min(self._delay * 2, LAST_DELAY)
        if self._intake is None:
            return
        held, self._held = self._held, []
        deliveries = [delivery for again in held if (delivery := again()) is not None]
        if not deliveries:
            return
        if not self._intake.try_submit(deliveries):
            self._tasks.start(self._intake.submit(deliveries), "submit again")


class Receiver:
    """The receiving half of one session.

    Args:
        decode: makes events of a PUBLISH; raises CloudEventError.
        intake: counts what brings no event.
        backlog: takes what is released.
        on_progress: called when answers have left, or the last delivery was settled.
        keep_lost: hold and repeat released messages also when the session is lost. A client of a
            broker should: nobody else has them.
    """

    def __init__(
        self,
        decode: Callable[[Publish], Sequence[Event]],
        intake: Intake,
        backlog: Backlog,
        on_progress: Callable[[], None],
        *,
        keep_lost: bool = False,
    ) -> None:
        self._decode = decode
        self._intake = intake
        self._backlog = backlog
        self._on_progress = on_progress
        self._keep_lost = keep_lost
        self._open: dict[int, Exchange] = {}
        self._order: deque[Exchange] = deque()
        self._out: list[bytes] = []
        self._write: Callable[[bytes], None] | None = None
        self._version: Version = V5
        self._epoch = 0
        self._flushing = False
        self._reason_strings = True
        self.submitted = 0
        self.used_quota = 0

    @property
    def unanswered(self) -> int:
        """Messages of this connection whose PUBACK or PUBREC has not left."""
        return len(self._order)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way and nothing waits to be written."""
        return not self.submitted and not self._flushing

    def connect(
        self, write: Callable[[bytes], None], version: Version, *, reason_strings: bool = True
    ) -> None:
        """Answer on a new connection, and on no older one."""
        self.disconnect()
        self._write = write
        self._version = version
        self._reason_strings = reason_strings and version == V5

    def disconnect(self) -> None:
        """Forget the connection: answers that have not left never will."""
        self._epoch += 1
        self._write = None
        for exchange in self._order:
            exchange.queued = False
        self._order.clear()
        self._out.clear()
        self.used_quota = 0

    def lose(self) -> None:
        """Forget the session: its packet identifiers mean nothing any more."""
        self._open.clear()
        self._order.clear()

    def take(self, packets: Sequence[Publish | Ack]) -> list[Delivery]:
        """Return the deliveries to submit for PUBLISH and PUBREL packets, in their order."""
        deliveries: list[Delivery] = []
        for packet in packets:
            if isinstance(packet, Ack):
                self._complete(packet.packet_id)
                continue
            if not packet.qos:
                events = self._events(packet, None)
                if events is not None:
                    deliveries.append(Delivery(events, _forget))
                continue
            known = self._open.get(packet.packet_id)
            if known is not None and self._is_repetition(packet, known):
                self._repeat(known)
                continue
            exchange = Exchange(packet.packet_id, packet.qos, self._epoch)
            self._open[packet.packet_id] = exchange
            self._order.append(exchange)
            self.used_quota += 1
            events = self._events(packet, exchange)
            if events is not None:
                deliveries.append(self._delivery(exchange, events))
        if self._out or (self._order and self._order[0].code is not None):
            self._flush_soon()
        return deliveries

    def offer(self, events: Sequence[Event]) -> Delivery:
        """Return the delivery of a message without an answer that is repeated all the same."""
        exchange = Exchange(0, 1, 0)
        exchange.queued = False
        return self._delivery(exchange, events)

    def flush(self) -> None:
        """Write every answer whose turn has come."""
        self._flushing = False
        self._collect()
        out = self._out
        if out:
            data = b"".join(out)
            out.clear()
            if self._write is not None:
                self._write(data)
        self._on_progress()

    def _collect(self) -> None:
        """Take the answers whose turn has come: in order of receipt ([MQTT-4.6.0-2] and -3)."""
        order = self._order
        while order and order[0].code is not None:
            exchange = order.popleft()
            exchange.queued = False
            self._out.append(self._answer(exchange))

    def _events(self, packet: Publish, exchange: Exchange | None) -> Sequence[Event] | None:
        try:
            return self._decode(packet)
        except CloudEventError as error:
            self._intake.rejected(error.reason, str(error))
            if exchange is not None:
                exchange.code, exchange.detail = refusal_code(error), str(error)
            return None

    def _is_repetition(self, packet: Publish, known: Exchange) -> bool:
        # A device that lost its memory may begin again with identifiers that are open here. Only
        # DUP tells such a new message from a repetition; within one connection QoS 2 forbids both
        # (section 4.3.3).
        return packet.dup or (packet.qos == known.qos == 2 and known.epoch == self._epoch)

    def _repeat(self, exchange: Exchange) -> None:
        if exchange.queued:
            return
        if exchange.epoch != self._epoch:
            exchange.epoch = self._epoch
            self.used_quota += 1
        exchange.queued = True
        self._order.append(exchange)

    def _delivery(self, exchange: Exchange, events: Sequence[Event]) -> Delivery:
        self.submitted += 1
        return Delivery(events, partial(self._settled, exchange, events))

    def _settled(self, exchange: Exchange, events: Sequence[Event], settlement: Settlement) -> None:
        self.submitted -= 1
        if settlement.outcome == Outcome.RELEASED:
            self._backlog.hold(partial(self._again, exchange, events), settlement.retry_after)
            if not self.submitted:
                self._flush_soon()
            return
        if settlement.outcome == Outcome.ACCEPTED:
            exchange.code = ReasonCode.SUCCESS
            self._backlog.relieve()
        else:
            exchange.code = ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR
            exchange.detail = settlement.detail or settlement.reason.value
            if self._version == V311:
                # Its PUBACK can only say yes, so this is the only trace.
                self._intake.rejected(settlement.reason.value, exchange.detail)
        self._flush_soon()

    def _again(self, exchange: Exchange, events: Sequence[Event]) -> Delivery | None:
        is_lost = exchange.packet_id and self._open.get(exchange.packet_id) is not exchange
        return None if is_lost and not self._keep_lost else self._delivery(exchange, events)

    def _complete(self, packet_id: int) -> None:
        """Answer PUBREL."""
        self._collect()
        exchange = self._open.get(packet_id)
        code = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
        if exchange is not None and exchange.qos == 2 and exchange.code is not None:
            del self._open[packet_id]
            if exchange.queued:
                self._order.remove(exchange)  # the sender does not wait for PUBREC any more
            code = ReasonCode.SUCCESS
            if exchange.epoch == self._epoch:
                self.used_quota -= 1
        self._out.append(encode_ack(PacketType.PUBCOMP, packet_id, code, self._version))

    def _answer(self, exchange: Exchange) -> bytes:
        code = exchange.code or ReasonCode.SUCCESS
        is_over = exchange.qos == 1 or (code >= 0x80 and self._version == V5)
        if is_over:
            self.used_quota -= 1
            if self._open.get(exchange.packet_id) is exchange:
                del self._open[exchange.packet_id]
        properties = None
        if code >= 0x80 and exchange.detail and self._reason_strings:
            detail = exchange.detail[:_REASON_STRING_CHARACTERS].replace("\0", "")
            detail = detail.encode(errors="replace").decode()
            properties = {Property.REASON_STRING: detail}
        type_ = PacketType.PUBACK if exchange.qos == 1 else PacketType.PUBREC
        return encode_ack(type_, exchange.packet_id, code, self._version, properties)

    def _flush_soon(self) -> None:
        # A list is settled delivery by delivery; the answers leave together after the last one.
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self.flush)


def _forget(_settlement: Settlement) -> None:
    """QoS 0 has no answer; the pipeline has counted the outcome."""


class Gate:
    """Hands lists in, and says when the source must stop reading.

    Args:
        intake: the gateway.
        tasks: the source's.
    """

    def __init__(self, intake: Intake, tasks: Tasks) -> None:
        self._intake = intake
        self._tasks = tasks
        self._open = asyncio.Event()
        self._open.set()

    @property
    def is_shut(self) -> bool:
        """Whether a list still waits for room."""
        return not self._open.is_set()

    async def opened(self) -> None:
        """Return when nothing waits for room."""
        await self._open.wait()

    def submit(self, deliveries: Sequence[Delivery], on_room: Callable[[], None]) -> None:
        """Submit at once, or be shut until there was room; then `on_room` is called.

        A shut gate must not be given more: the order would be lost.
        """
        if not deliveries or self._intake.try_submit(deliveries):
            return
        self._open.clear()
        self._tasks.start(self._wait(deliveries, on_room), "wait for room")

    async def _wait(self, deliveries: Sequence[Delivery], on_room: Callable[[], None]) -> None:
        await self._intake.submit(deliveries)
        self._open.set()
        on_room()
