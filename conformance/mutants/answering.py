"""Mistakes of a receiver: what it acknowledges and when, and what it makes of repetitions."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from bindings.errors import CloudEventError
from bindings.wire.mqtt import ReasonCode
from conformance.mutants.mutant import Catalogue, Patch
from gateway.delivery import ACCEPTED, Delivery, Outcome, Reason, Settlement
from gateway.sources import mqtt_exchange, mqtt_message
from gateway.sources.http import answers
from gateway.sources.http import connection as http
from gateway.sources.http.exchange import AnswerQueue, Exchange
from gateway.sources.mqtt_exchange import Receiver, Submission
from gateway.sources.mqtt_message import MessageDecoder
from gateway.sources.nats import feed
from gateway.sources.nats.core import CoreSubscriber
from gateway.sources.nats.jetstream import JetStreamConsumer

MUTANTS = Catalogue(needs="target", protocol="mqtt")
_HTTP: Mapping[str, Any] = {"protocol": "http"}
_NATS: Mapping[str, Any] = {"protocol": "nats"}
_REFUSED = Settlement(Outcome.REJECTED, Reason.SINK_REFUSED)


def _as(outcome: Outcome, instead: Settlement) -> Callable[[Settlement], Settlement]:
    return lambda found: instead if found.outcome is outcome else found


# HTTP.


@MUTANTS.patching("acknowledgement", "GW-ACK-001", **_HTTP)
def http_202_at_once(patch: Patch) -> None:
    """An event is answered by 202 before the sink has it."""

    def submission(events: Any, _settle: object, *, exchange: Exchange) -> Delivery:
        exchange.answer(answers.ACCEPTED)
        return Delivery(events, lambda _settlement: None)

    patch(http, "Submission", submission)


def _answer(patch: Patch, change: Callable[[Settlement], Settlement]) -> None:
    right = answers.answer_settlement
    patch(answers, "answer_settlement", lambda settlement: right(change(settlement)))


@MUTANTS.patching(92, "GW-ACK-003 GW-ACK-005", **_HTTP)
def http_not_now_is_a_bad_request(patch: Patch) -> None:
    """What can't be delivered now is answered by 400, and the sender gives it up."""
    right = answers.answer_settlement

    def answer(settlement: Settlement) -> answers.Answer:
        is_released = settlement.outcome is Outcome.RELEASED
        return answers.MALFORMED if is_released else right(settlement)

    patch(answers, "answer_settlement", answer)


@MUTANTS.patching(92, "GW-ACK-004", **_HTTP)
def http_never_is_not_now(patch: Patch) -> None:
    """What a sink refuses for good is answered by 503, and the sender repeats it for ever."""
    _answer(patch, _as(Outcome.REJECTED, Settlement(Outcome.RELEASED, Reason.SINK_DOWN)))


@MUTANTS.patching(92, "WH-RSP-014 GW-ACK-007 CORE-ATTR-001", **_HTTP)
def http_no_event_is_not_now(patch: Patch) -> None:
    """A message that is no event is answered by 503, and the sender repeats it for ever."""

    def answer(error: CloudEventError) -> answers.Answer:
        return answers.Answer(503, str(error), (("Retry-After", "1"),))

    patch(answers, "answer_error", answer)


@MUTANTS.patching("acknowledgement", "GW-ACK-007", **_HTTP)
def http_no_event_is_a_success(patch: Patch) -> None:
    """A message that is no event is answered by 202 and dropped."""
    patch(answers, "answer_error", lambda _error: answers.ACCEPTED)


@MUTANTS.patching("acknowledgement", "GW-ACK-008", **_HTTP)
def http_202_after_a_while(patch: Patch) -> None:
    """An event that no sink has taken in time is answered by 202."""
    patch(answers, "NO_ANSWER", answers.ACCEPTED)


@MUTANTS.patching("order", "GW-HTTP-001", **_HTTP)
def http_answers_as_they_come(patch: Patch) -> None:
    """Of pipelined requests, the one that is settled first is answered first."""
    right = AnswerQueue.answered

    def answered(self: AnswerQueue, exchange: Exchange) -> None:
        if exchange in self.pending:
            self.pending.remove(exchange)
            self.pending.appendleft(exchange)
        right(self, exchange)

    patch(AnswerQueue, "answered", answered)


@MUTANTS.patching("neighbours", "GW-MSG-001", **_HTTP)
def http_a_bad_event_closes_the_connection(patch: Patch) -> None:
    """After a message that is no event, what follows on the connection is dropped."""
    right = http.Connection._take  # noqa: SLF001 - the mistake is in there

    def take(self: http.Connection, exchange: Exchange) -> None:
        right(self, exchange)
        exchange.close = exchange.close or b" 400 " in (exchange.response or b"")[:16]

    patch(http.Connection, "_take", take)


def _limit(patch: Patch, change: Callable[[int], int]) -> None:
    right = http.Connection.__init__

    def init(self: http.Connection, listener: Any) -> None:
        right(self, listener)
        self._limit = change(self._limit)

    patch(http.Connection, "__init__", init)


@MUTANTS.patching(17, "GW-LIM-001 CORE-SIZE-001 CORE-SIZE-004", **_HTTP)
def http_takes_less_than_64_kib(patch: Patch) -> None:
    """A body of 64 KiB is too large."""
    _limit(patch, lambda _: 65_535)


@MUTANTS.patching("limits", "GW-LIM-002", **_HTTP)
def http_takes_more_than_its_limit(patch: Patch) -> None:
    """A body above the limit is taken."""
    _limit(patch, lambda limit: 2 * limit)


@MUTANTS.patching("drain", "GW-DRN-002", **_HTTP)
def http_202_while_it_shuts_down(patch: Patch) -> None:
    """What is no longer taken is answered by 202."""
    patch(http, "DRAINING", ACCEPTED)


@MUTANTS.patching("drain", "GW-DRN-001", **_HTTP)
def http_drops_what_is_under_way(patch: Patch) -> None:
    """Whoever waits for an answer while it shuts down gets none."""
    patch(http.Connection, "drain", http.Connection.abort)


# MQTT.


@MUTANTS.patching("acknowledgement", "GW-ACK-001")
def mqtt_puback_at_once(patch: Patch) -> None:
    """A message is acknowledged before the sink has its event."""

    def submission(events: Any, on_settled: Callable[..., None], *, exchange: Any) -> Submission:
        on_settled((Submission(events, None, exchange=exchange),), ACCEPTED)
        return Submission(events, lambda _submissions, _settlement: None, exchange=exchange)

    patch(mqtt_exchange, "Submission", submission)


def _settle(patch: Patch, change: Callable[[Settlement], Settlement]) -> None:
    right = Receiver._settled  # noqa: SLF001 - the mistake is in there

    def settled(self: Receiver, submissions: Any, settlement: Settlement) -> None:
        right(self, submissions, change(settlement))

    patch(Receiver, "_settled", settled)


@MUTANTS.patching("acknowledgement", "GW-ACK-003")
def mqtt_puback_for_what_is_not_delivered(patch: Patch) -> None:
    """What can't be delivered now is acknowledged and lost."""
    _settle(patch, _as(Outcome.RELEASED, ACCEPTED))


@MUTANTS.patching("acknowledgement", "GW-ACK-006")
def mqtt_not_now_is_a_refusal(patch: Patch) -> None:
    """What can't be delivered now is refused, and the device forgets it."""
    _settle(patch, _as(Outcome.RELEASED, _REFUSED))


@MUTANTS.patching("acknowledgement", "GW-ACK-004")
def mqtt_puback_for_what_is_refused(patch: Patch) -> None:
    """What the sink refuses for good is acknowledged as if it had been taken."""
    _settle(patch, _as(Outcome.REJECTED, ACCEPTED))


@MUTANTS.patching("acknowledgement", "GW-ACK-007")
def mqtt_puback_for_no_event(patch: Patch) -> None:
    """A message that brings no event is acknowledged as if it had been delivered."""
    patch(mqtt_exchange, "refusal_code", lambda _error: ReasonCode.SUCCESS)


@MUTANTS.patching("order", "GW-MQTT-001")
def mqtt_answers_as_they_come(patch: Patch) -> None:
    """What is settled first is acknowledged first."""

    def collect(self: Receiver) -> None:
        for exchange in [each for each in self._order if each.code is not None]:
            self._order.remove(exchange)
            exchange.queued = False
            self._out.append(self._answer(exchange))

    right = Receiver.take

    def take(self: Receiver, packets: Any) -> list[Delivery]:
        deliveries = right(self, packets)
        self._flush_soon()
        return deliveries

    patch(Receiver, "_collect", collect)
    patch(Receiver, "take", take)


@MUTANTS.patching(57, "GW-RED-001 CORE-ID-002")
def mqtt_repetitions_are_new(patch: Patch) -> None:
    """A message that comes again is wrapped again, with another id."""
    patch(Receiver, "_is_repetition", lambda _self, _packet, _known, _content: False)


@MUTANTS.patching(57, "GW-RED-002 CORE-ID-001")
def mqtt_equal_messages_have_one_id(patch: Patch) -> None:
    """Messages of the same content are wrapped with the same id."""
    patch(mqtt_message, "uuid", SimpleNamespace(uuid4=lambda: "6d656c74-6564"))


@MUTANTS.patching("QoS 2", "GW-MQTT-002")
def mqtt_qos_2_is_forgotten_at_pubrec(patch: Patch) -> None:
    """A QoS 2 message that comes again after PUBREC is a new one."""
    right = Receiver._answer  # noqa: SLF001 - the mistake is in there

    def answer(self: Receiver, exchange: Any) -> bytes:
        said = right(self, exchange)
        self._open.pop(exchange.packet_id, None)
        return said

    patch(Receiver, "_answer", answer)


@MUTANTS.patching("QoS 2", "GW-MQTT-004")
def mqtt_identifiers_are_kept_after_pubrel(patch: Patch) -> None:
    """After PUBREL a packet identifier still stands for the old message."""
    right = Receiver._complete  # noqa: SLF001 - the mistake is in there

    def complete(self: Receiver, packet_id: int) -> None:
        exchange = self._open.get(packet_id)
        right(self, packet_id)
        if exchange is not None:
            self._open[packet_id] = exchange

    patch(Receiver, "_complete", complete)


@MUTANTS.patching("QoS 2", "GW-MQTT-003")
def mqtt_pubrel_again_is_not_answered(patch: Patch) -> None:
    """A PUBREL for an identifier that is done is not answered."""
    right = Receiver._complete  # noqa: SLF001 - the mistake is in there

    def complete(self: Receiver, packet_id: int) -> None:
        if packet_id in self._open:
            right(self, packet_id)

    patch(Receiver, "_complete", complete)


@MUTANTS.patching("QoS 1", "GW-MQTT-006")
def mqtt_identifiers_are_kept_after_puback(patch: Patch) -> None:
    """A QoS 1 message with an identifier that was acknowledged is taken for a repetition."""
    right = Receiver._collect  # noqa: SLF001 - the mistake is in there

    def collect(self: Receiver) -> None:
        opened = dict(self._open)
        right(self)
        self._open.update(opened)

    patch(Receiver, "_collect", collect)


@MUTANTS.patching("limits", "GW-LIM-002")
def mqtt_takes_more_than_its_limit(patch: Patch) -> None:
    """A payload a byte above the limit is taken."""
    right = MessageDecoder.__init__

    def init(self: MessageDecoder, template: Any, limit: int, **more: Any) -> None:
        right(self, template, limit + 100, **more)

    patch(MessageDecoder, "__init__", init)


# NATS.


@MUTANTS.patching("acknowledgement", "GW-ACK-001", **_NATS)
def nats_ack_at_once(patch: Patch) -> None:
    """A message is acknowledged before the sink has its event."""
    right = feed.Feed._decode  # noqa: SLF001 - what it returns is submitted

    def decode(self: feed.Feed, items: list[feed.Item]) -> list[feed.Item]:
        ready = right(self, items)
        self.told(ready, ACCEPTED)
        for item in ready:
            item._on_settled = lambda _items, _settlement: None  # noqa: SLF001 - told already
        return ready

    patch(feed.Feed, "_decode", decode)


def _stream(patch: Patch, outcome: Outcome, answer: bytes) -> None:
    """Answer an outcome to a stream in another way."""
    right = JetStreamConsumer.settled

    def settled(self: JetStreamConsumer, item: Any, settlement: Settlement) -> None:
        if settlement.outcome is outcome:
            self._done((item,), answer)
        else:
            right(self, item, settlement)

    patch(JetStreamConsumer, "settled", settled)


@MUTANTS.patching("acknowledgement", "GW-ACK-003", **_NATS)
def nats_ack_for_what_is_not_delivered(patch: Patch) -> None:
    """What can't be delivered now is acknowledged to the stream and lost."""
    _stream(patch, Outcome.RELEASED, b"+ACK")


@MUTANTS.patching("acknowledgement", "GW-ACK-006", **_NATS)
def nats_nak_for_what_is_not_delivered(patch: Patch) -> None:
    """What can't be delivered now is given back to the stream, and others overtake it."""
    _stream(patch, Outcome.RELEASED, b"-NAK")


@MUTANTS.patching("acknowledgement", "GW-ACK-004", **_NATS)
def nats_ack_for_what_is_refused(patch: Patch) -> None:
    """What the sink refuses for good is acknowledged to the stream."""
    _stream(patch, Outcome.REJECTED, b"+ACK")


@MUTANTS.patching("acknowledgement", "GW-ACK-003", **_NATS)
def nats_reply_for_what_is_not_delivered(patch: Patch) -> None:
    """A requester is told +ACK for what can't be delivered now."""
    right = CoreSubscriber.settled

    def settled(self: CoreSubscriber, item: Any, settlement: Settlement) -> None:
        right(self, item, ACCEPTED if settlement.outcome is Outcome.RELEASED else settlement)

    patch(CoreSubscriber, "settled", settled)


@MUTANTS.patching("acknowledgement", "GW-ACK-007", **_NATS)
def nats_ack_for_no_event(patch: Patch) -> None:
    """A message that brings no event is acknowledged."""
    right = CoreSubscriber.refused

    def refused(self: CoreSubscriber, item: Any, reason: str, text: str) -> None:
        if item.reply:
            self._answers.add(item.reply, b"+ACK")
        else:
            right(self, item, reason, text)

    patch(CoreSubscriber, "refused", refused)


@MUTANTS.patching(57, "GW-RED-001 CORE-ID-002", **_NATS)
def nats_redeliveries_are_new(patch: Patch) -> None:
    """A message of a stream that is delivered again is wrapped with another id."""
    right = JetStreamConsumer.identify

    def identify(self: JetStreamConsumer, item: Any) -> tuple[str, str]:
        return str(uuid4()), right(self, item)[1]

    patch(JetStreamConsumer, "identify", identify)
