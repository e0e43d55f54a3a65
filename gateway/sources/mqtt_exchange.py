"""The receiving half of an MQTT session: which packet identifiers are open, and what to answer.

Both sources use it, the client of a broker and the endpoint that devices connect to. It opens no
socket: packets come in as lists, deliveries go out as lists, and the answers of all that was
settled in one go leave in one write.

A session outlives its connections (MQTT 5 section 4.1). Each connection has an epoch; an answer
belongs to the connection on which its PUBLISH came last, and is not sent on any other. A PUBLISH
that is repeated while its first copy is still under way joins that copy.

    PUBLISH -> submitted -> settled ACCEPTED or REJECTED -> PUBACK, or PUBREC until PUBREL
                         -> settled RELEASED -> Backlog -> submitted again
            -> no event  -> PUBACK or PUBREC that says so, if it can and anybody hears it
                         -> Keeper -> kept -> PUBACK or PUBREC
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from bindings.binding import Message
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
    Will,
    encode_ack,
    encode_pubacks,
)
from gateway.delivery import Delivery, ListedDelivery, Outcome, Settlement
from gateway.interfaces import Intake
from gateway.sources.backlog import Backlog
from gateway.sources.keeper import Undecodable
from gateway.sources.mqtt_message import refusal_code

_REASON_STRING_CHARACTERS: Final = 200
# Members of an Enum are slow to look up.
_ACCEPTED: Final = Outcome.ACCEPTED
_SUCCESS: Final = ReasonCode.SUCCESS


class Exchange(msgspec.Struct, eq=False, gc=False):
    """One open packet identifier.

    Attributes:
        packet_id: 0 for a message that nobody waits for an answer to.
        qos: 1 or 2; 0 if there is no answer.
        epoch: the connection on which its PUBLISH came last.
        number: its place among all messages of the source.
        content: what its repetitions have in common, and another message has not.
        queued: its PUBACK or PUBREC has yet to leave on that connection.
        code: the answer's reason code; None until settled.
        detail: the answer's reason string.
    """

    packet_id: int
    qos: int
    epoch: int
    number: int
    content: int = 0
    queued: bool = True
    code: int | None = None
    detail: str = ""


class Submission(ListedDelivery, eq=False, gc=False, kw_only=True):
    """What is submitted of an exchange; once more each time that it was released."""

    exchange: Exchange


class Receiver:
    """The receiving half of one session.

    Args:
        decode: makes events of a PUBLISH; raises CloudEventError.
        intake: counts what brings no event.
        backlog: takes what is released, and what brought no event and has yet to be kept.
        on_progress: called when answers have left, or the last delivery was settled.
        of_broker: whether a broker sends, and nobody hears a refusal: it is never told one, since
            it would forget the message all the same. Released messages are repeated also when the
            session is lost, as nobody else has them.
    """

    def __init__(
        self,
        decode: Callable[[Publish], Sequence[Event]],
        intake: Intake,
        backlog: Backlog,
        on_progress: Callable[[], None],
        *,
        of_broker: bool = False,
    ) -> None:
        self._decode = decode
        self._intake = intake
        self._backlog = backlog
        self._on_progress = on_progress
        self._of_broker = of_broker
        self._open: dict[int, Exchange] = {}
        self._order: deque[Exchange] = deque()
        self._out: list[bytes] = []
        self._write: Callable[[bytes], None] | None = None
        self._version: Version = V5
        self._epoch = 0
        self._flushing = False
        self._reason_strings = True
        self._told = self._settled  # one object: what is settled together is told together
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
        opened, order, epoch = self._open, self._order, self._epoch
        first = self._backlog.next_number(len(packets))
        holds_any, told, submitted = self._backlog.holds_any, self._told, 0
        decode = self._decode
        for number, packet in enumerate(packets, first):
            if isinstance(packet, Ack):
                self._complete(packet.packet_id)
                continue
            qos = packet.qos
            if qos:
                packet_id = packet.packet_id
                content = hash((packet.topic, packet.payload))
                known = opened.get(packet_id)
                if known is not None and self._is_repetition(packet, known, content):
                    self._repeat(known)
                    continue
                exchange = Exchange(packet_id, qos, epoch, number, content)
                opened[packet_id] = exchange
                order.append(exchange)
                self.used_quota += 1
            else:
                exchange = Exchange(0, 0, epoch, number)
            try:
                events = decode(packet)
            except CloudEventError as error:
                self._refuse(packet, error, exchange if qos else None)
                continue
            if holds_any and self._follows(exchange, events):
                continue
            if qos:
                submitted += 1
            deliveries.append(Submission(events, told, exchange=exchange))
        self.submitted += submitted
        if self._out or (order and order[0].code is not None):
            self._flush_soon()
        return deliveries

    def offer(self, events: Sequence[Event]) -> list[Delivery]:
        """Return what to submit for a message that is repeated, though nobody waits for it."""
        exchange = Exchange(0, 1, 0, self._backlog.next_number())
        if self._follows(exchange, events):
            return []
        self.submitted += 1
        return [Submission(events, self._told, exchange=exchange)]

    def keep(
        self, packet: Publish | Will, error: CloudEventError, exchange: Exchange | None = None
    ) -> None:
        """Keep a message that brought no event and whose sender can't be told; then answer it."""
        message = Message(packet.payload, packet.content_type, packet.user_properties, packet.topic)

        def on_asked() -> bool:
            if exchange is not None and self._is_unwanted(exchange):
                return False
            self.submitted += 1
            return True

        def on_answered(is_kept: bool) -> None:  # noqa: FBT001 - a callback
            self.submitted -= 1
            if is_kept and exchange is not None:
                exchange.code = ReasonCode.SUCCESS
            self._flush_soon()

        item = Undecodable(message, error.reason, str(error), on_asked, on_answered)
        self._backlog.keeper.keep(item)

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
        order, opened = self._order, self._open
        acknowledged: list[int] = []  # by a plain PUBACK, as nearly all are
        while order and (code := order[0].code) is not None:
            exchange = order.popleft()
            if code or exchange.qos != 1:
                exchange.queued = False
                self._acknowledge(acknowledged)
                self._out.append(self._answer(exchange))
                continue
            packet_id = exchange.packet_id
            acknowledged.append(packet_id)
            last = opened.pop(packet_id, None)
            if last is not exchange and last is not None:
                opened[packet_id] = last  # a new message had the identifier already
        self._acknowledge(acknowledged)

    def _acknowledge(self, packet_ids: list[int]) -> None:
        if packet_ids:
            self.used_quota -= len(packet_ids)
            self._out.append(encode_pubacks(packet_ids))
            packet_ids.clear()

    def _refuse(self, packet: Publish, error: CloudEventError, exchange: Exchange | None) -> None:
        """Answer for a message that brought no event, or have it kept."""
        if self._is_deaf:
            self.keep(packet, error, exchange)
            return
        self._intake.rejected(error.reason, str(error))
        if exchange is not None:
            exchange.code, exchange.detail = refusal_code(error), str(error)

    @property
    def _is_deaf(self) -> bool:
        """Whether the sender can't be told that its message was refused."""
        return self._of_broker or self._version == V311

    def _is_repetition(self, packet: Publish, known: Exchange, content: int) -> bool:
        # A device that lost its memory may begin again with identifiers that are open here. Only
        # DUP tells such a new message from a repetition; within one connection QoS 2 forbids both
        # (section 4.3.3). A broker that was restored from an older state, or another client that
        # had the session meanwhile, gives them to other messages even with DUP.
        is_again = packet.dup or (packet.qos == known.qos == 2 and known.epoch == self._epoch)
        return is_again and known.content == content

    def _repeat(self, exchange: Exchange) -> None:
        if exchange.queued:
            return
        if exchange.epoch != self._epoch:
            exchange.epoch = self._epoch
            self.used_quota += 1
        exchange.queued = True
        self._order.append(exchange)

    def _follows(self, exchange: Exchange, events: Sequence[Event]) -> bool:
        """Whether it has to wait behind one of its key that was released; then it does."""
        backlog, key = self._backlog, _key(events)
        if not backlog.holds(key):
            return False
        backlog.follow(key, exchange.number, partial(self._again, exchange, events))
        return True

    def _again(self, exchange: Exchange, events: Sequence[Event]) -> Delivery | None:
        if self._is_unwanted(exchange):
            return None
        self.submitted += exchange.qos > 0
        return Submission(events, self._told, exchange=exchange)

    def _is_unwanted(self, exchange: Exchange) -> bool:
        """Whether its sender has forgotten that it sent it, and so will send it again."""
        if self._of_broker or not exchange.packet_id:
            return False
        return self._open.get(exchange.packet_id) is not exchange

    def _settled(self, submissions: Sequence[Submission], settlement: Settlement) -> None:
        if settlement.outcome is not _ACCEPTED or self._backlog.holds_any:
            for submission in submissions:
                self._settle(submission.exchange, submission.events, settlement)
            return
        answered = 0
        for submission in submissions:
            exchange = submission.exchange
            if exchange.qos:
                exchange.code = _SUCCESS
                answered += 1
        if answered:
            self.submitted -= answered
            self._flush_soon()

    def _settle(self, exchange: Exchange, events: Sequence[Event], settlement: Settlement) -> None:
        backlog = self._backlog
        if not exchange.qos:  # it has no answer; the pipeline has counted the outcome
            backlog.passed(_key(events), exchange.number)
            return
        self.submitted -= 1
        if settlement.outcome is Outcome.RELEASED:
            again = partial(self._again, exchange, events)
            backlog.hold(_key(events), exchange.number, again, settlement.retry_after)
            if not self.submitted:
                self._flush_soon()
            return
        backlog.passed(_key(events), exchange.number)
        exchange.code = _SUCCESS
        if settlement.outcome is not _ACCEPTED:
            detail = settlement.detail or settlement.reason.value
            if self._is_deaf:  # so this is the only trace
                self._intake.rejected(settlement.reason.value, detail)
            else:
                exchange.code = ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR
                exchange.detail = detail
        self._flush_soon()

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


def _key(events: Sequence[Event]) -> str:
    return events[0].key if events else ""
