"""Relays: every set of attributes from each carrier to each other, with nothing lost or invented.

What need not arrive stands in the table of losses (`conformance.losses`). Beside the pairs: what is
no attribute (transport metadata, credentials, addresses) never becomes one, routes agree, a relay
to the same place changes nothing, and batches come apart into events of their own.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from bindings.binding import Message
from conformance.check import Check, CheckFailed
from conformance.checks.judging import (
    BASE,
    Case,
    check,
    failed,
    judge_decode,
    judge_each,
    judge_encode,
    judge_message,
    judge_relay,
    relayed,
    relaying,
)
from conformance.checks.values import LEAST, SETS
from conformance.checks.vectors import message_text, same_message
from conformance.codec import Codec
from conformance.forms import Refused, WireEvent
from conformance.losses import after
from conformance.reference.carrier import BATCH_TYPE, CARRIERS, HEADER_CARRIERS, Carrier
from conformance.reference.compare import difference, shown

FAMILY: Final = "transparency"

_MODES: Final = {
    "http": "HTTP-MODE-001 HTTP-MSG-002",
    "nats": "NATS-MODE-001 NATS-DET-004",
    "mqtt": "MQTT-MODE-001",
    "kafka": "KAFKA-MODE-001",
    "coap": "CORE-GEN-005",
    "mqtt311": "MQTT-STR-002",
    "json": "CORE-GEN-002 JSON-ENV-001",
    "cbor": "CBOR-009 CBOR-010",
}
_ENVELOPES: Final = {
    "http": "HTTP-STR-001 HTTP-STR-002 HTTP-STR-004",
    "nats": "NATS-STR-001 NATS-STR-002",
    "mqtt": "MQTT-STR-001 MQTT-STR-003",
    "kafka": "KAFKA-STR-001 KAFKA-STR-002 KAFKA-STR-003",
    "json": "JSON-ENV-002 JSON-ENV-003 JSON-ENV-005 JSON-ATTR-001",
    "cbor": "CBOR-001 CBOR-009",
}
_JSON_TOO: Final = {
    "http": "HTTP-FMT-001",
    "nats": "NATS-FMT-001",
    "mqtt": "MQTT-FMT-001",
    "kafka": "KAFKA-FMT-001",
}
_KEPT: Final = {
    "http": "HTTP-MET-001 HTTP-MET-003 HTTP-CT-002",
    "nats": "NATS-BIN-002 NATS-BIN-004",
    "mqtt": "MQTT-BIN-003 MQTT-BIN-005",
    "kafka": "KAFKA-BIN-004 KAFKA-KEY-005",
    "coap": "CORE-GEN-005",
}
_METADATA: Final = {
    "http": (
        "CORE-EXT-006 CORE-SEC-001 HTTP-NAM-001",
        (("Authorization", "Bearer secret"), ("Cookie", "a=b"), ("Host", "example.com"),
         ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
         ("Content-Length", "0"), ("cesubject", "x"), ("x-ce-subject", "x")),
    ),
    "nats": (
        "CORE-EXT-006 NATS-BIN-004 NATS-GEN-001",
        (("Nats-Msg-Id", "7"), ("Nats-Expected-Stream", "S"), ("Authorization", "secret"),
         ("subject", "x")),
    ),
    "mqtt": (
        "CORE-EXT-006 MQTT-BIN-010 MQTT-GEN-001",
        (("X-Trace", "1"), ("ce-subject", "x"), ("ce_subject", "x"), ("Subject", "x")),
    ),
    "kafka": (
        "CORE-EXT-006 KAFKA-META-001 KAFKA-DET-004",
        (("kafka_topic", "t"), ("partition", "1"), ("offset", "5"), ("subject", "x"),
         ("ce-subject", "x"), ("CE_subject", "x")),
    ),
}  # fmt: skip


def checks() -> Iterator[Check]:
    """Return the checks of all pairs, and of what no pair shows."""
    for source in CARRIERS:
        for target in CARRIERS:
            yield _pair(source, target)
            yield _least(source, target)
            yield _routes(source, target)
        yield _again(source)
        yield from _encoded(source)
        yield from _decoded(source)
    yield from _metadata()
    yield from _batches()
    yield from _limits()


def _modes(carrier: Carrier) -> list[str]:
    ids = _MODES[carrier.binding].split()
    if carrier.is_binary or carrier.binding not in _JSON_TOO:
        return ids
    return [*ids, "CORE-GEN-002", _JSON_TOO[carrier.binding]]


def _pair(source: Carrier, target: Carrier) -> Check:
    out = _KEPT[target.binding] if target.is_binary else _ENVELOPES.get(target.binding, "")
    ids = f"CORE-GEN-005 CORE-EXT-003 CORE-MODE-001 {out}"
    case = Case(
        name=f"{source.name}-to-{target.name}",
        title="every attribute arrives, and nothing else",
        requirements=[*ids.split(), *_modes(source), "CORE-SEC-003"],
        role="intermediary",
    )
    return check(FAMILY, [source, target], case, partial(_judge_pair, source, target, SETS))


def _least(source: Carrier, target: Carrier) -> Check:
    case = Case(
        name=f"{source.name}-to-{target.name}-least",
        title="an event of required attributes gains none on the way",
        requirements=["CORE-TIME-004", "CORE-ATTR-001", "CORE-GEN-005"],
        role="intermediary",
    )
    return check(FAMILY, [source, target], case, partial(_judge_pair, source, target, LEAST))


def _judge_pair(
    source: Carrier, target: Carrier, events: Mapping[str, WireEvent], codec: Codec
) -> None:
    judge_each(
        (
            name,
            partial(
                judge_relay,
                codec, source, source.write(event), target, after(event, source, target),
                exact=source.is_binary and target.is_binary,
            ),
        )
        for name, event in events.items()
    )  # fmt: skip


def _routes(source: Carrier, target: Carrier) -> Check:
    case = Case(
        name=f"{source.name}-to-{target.name}-by-any-route",
        title="an event arrives as the same whatever it went through",
        requirements=["CORE-GEN-005", "CORE-TYPE-001"],
        role="intermediary",
    )
    return check(FAMILY, [source, target], case, partial(_judge_routes, source, target))


def _judge_routes(source: Carrier, target: Carrier, codec: Codec) -> None:
    event = SETS["full"]
    direct = judge_relay(codec, source, source.write(event), target, event)
    for between in CARRIERS:
        (first,) = relayed(codec, source, source.write(event), between)
        (second,) = relayed(codec, between, first, target)
        differs = difference(target.read(direct), target.read(second))
        if differs:
            asked = relaying(between, first, target)
            text = f"by way of {between.name}: {differs}"
            raise failed(text, target.read(direct), message_text(second), asked)


def _again(carrier: Carrier) -> Check:
    case = Case(
        name=f"{carrier.name}-again",
        title="a relay to the same place, done twice, changes nothing more",
        requirements=["CORE-GEN-005"],
        role="intermediary",
    )
    return check(FAMILY, [carrier], case, partial(_judge_again, carrier))


def _judge_again(carrier: Carrier, codec: Codec) -> None:
    judge_each((name, partial(_judge_same, carrier, event, codec)) for name, event in SETS.items())


def _judge_same(carrier: Carrier, event: WireEvent, codec: Codec) -> None:
    (first,) = relayed(codec, carrier, carrier.write(event), carrier)
    (second,) = relayed(codec, carrier, first, carrier)
    if not same_message(second, first, carrier.binding):
        asked = relaying(carrier, first, carrier)
        raise failed("the second relay differs", event, message_text(second), asked)


def _encoded(carrier: Carrier) -> Iterator[Check]:
    out = _KEPT[carrier.binding] if carrier.is_binary else _ENVELOPES.get(carrier.binding, "")
    case = Case(
        name=f"{carrier.name}-encoded",
        title="an event becomes the message that says it, one for one, and never a batch",
        requirements=[
            *out.split(), *_modes(carrier), "HTTP-BAT-001", "JSON-BAT-003", "CORE-MODE-001",
        ],
        role="producer",
    )  # fmt: skip
    yield check(FAMILY, [carrier], case, partial(_judge_encoded, carrier, SETS))
    case = Case(
        name=f"{carrier.name}-encoded-least",
        title="an event of required attributes is sent without others",
        requirements=["CORE-TIME-004", "CORE-ATTR-001"],
        role="producer",
    )
    yield check(FAMILY, [carrier], case, partial(_judge_encoded, carrier, LEAST))


def _judge_encoded(carrier: Carrier, events: Mapping[str, WireEvent], codec: Codec) -> None:
    judge_each(
        (name, partial(judge_encode, codec, carrier, event, after(event, carrier), exact=False))
        for name, event in events.items()
    )


def _decoded(carrier: Carrier) -> Iterator[Check]:
    case = Case(
        name=f"{carrier.name}-decoded",
        title="a message brings the event that it says, one for one, in any order of messages",
        requirements=["CORE-GEN-003", "CORE-EXT-002", *_modes(carrier)],
        role="consumer",
    )
    events = [*SETS.items(), *reversed(SETS.items())]
    yield check(FAMILY, [carrier], case, partial(_judge_decoded, carrier, events))
    case = Case(
        name=f"{carrier.name}-decoded-least",
        title="a message with the required attributes brings an event without others",
        requirements=["CORE-TIME-004", "CORE-ATTR-001"],
        role="consumer",
    )
    run = partial(_judge_decoded, carrier, list(LEAST.items()))
    yield check(FAMILY, [carrier], case, run)


def _judge_decoded(carrier: Carrier, events: Sequence[tuple[str, WireEvent]], codec: Codec) -> None:
    judge_each(
        (
            name,
            partial(
                judge_decode,
                codec, carrier.binding, carrier.write(event), after(event, carrier), exact=False,
            ),
        )
        for name, event in events
    )  # fmt: skip


def _metadata() -> Iterator[Check]:
    for carrier in HEADER_CARRIERS:
        if carrier.binding not in _METADATA:
            continue
        ids, headers = _METADATA[carrier.binding]
        case = Case(
            name=f"{carrier.name}-metadata",
            title="headers of other purposes and the address are no attributes",
            requirements=ids.split(),
            role="consumer",
        )
        yield check(FAMILY, [carrier], case, partial(_judge_metadata, carrier, headers))
        case = Case(
            name=f"{carrier.name}-no-event",
            title="a message with other headers only is no event",
            requirements=[{"kafka": "KAFKA-DET-003", "mqtt": "MQTT-DET-003"}.get(
                carrier.binding, "CORE-ATTR-001")],
            role="consumer",
            verdict="refused",
        )  # fmt: skip
        yield check(FAMILY, [carrier], case, partial(_judge_no_event, carrier, headers))


def _judge_metadata(carrier: Carrier, headers: Sequence[tuple[str, str]], codec: Codec) -> None:
    event = WireEvent({**BASE, "datacontenttype": "text/plain"}, b"a")
    message = carrier.write(event)
    more = Message(
        message.payload, message.content_type, [*headers, *message.headers], "plant/a/subject"
    )
    judge_decode(codec, carrier.binding, more, event)
    for target in HEADER_CARRIERS:
        judge_relay(codec, carrier, more, target, event)


def _judge_no_event(carrier: Carrier, headers: Sequence[tuple[str, str]], codec: Codec) -> None:
    message = Message(b'{"id":"1"}', "application/json", headers)
    judge_decode(codec, carrier.binding, message, None, verdict="refused")


def _batch(*events: WireEvent) -> Message:
    payload = b",".join(_STRUCTURED.write(event).payload or b"" for event in events)
    return Message(b"[" + payload + b"]", BATCH_TYPE)


_STRUCTURED: Final = Carrier("http", "structured")
_OTHER: Final = WireEvent(
    {**BASE, "id": "2", "source": "/o", "datacontenttype": "text/plain"}, b"x"
)


def _batches() -> Iterator[Check]:
    for target in CARRIERS:
        case = Case(
            name=f"batch-to-{target.name}",
            title="a batch comes apart into one message for each event, in order",
            requirements=["HTTP-BTC-005", "HTTP-BAT-001", "JSON-BAT-003", "HTTP-DET-002"],
            role="intermediary",
        )
        yield check(FAMILY, [_STRUCTURED, target], case, partial(_judge_batch, target))
    case = Case(
        name="batch-mixed",
        title="events of two versions are no batch",
        requirements=["HTTP-BTC-004", "CORE-BATCH-001"],
        role="consumer",
        verdict="refused",
    )
    yield check(FAMILY, [_STRUCTURED], case, _judge_mixed)


def _judge_batch(target: Carrier, codec: Codec) -> None:
    for events in ((), (SETS["full"],), (SETS["subject"], _OTHER, SETS["typed"])):
        message = _batch(*events)
        messages = relayed(codec, _STRUCTURED, message, target)
        asked = relaying(_STRUCTURED, message, target)
        if len(messages) != len(events):
            raise failed(f"{len(messages)} messages of {len(events)} events", None, "", asked)
        for sent, event in zip(messages, events, strict=True):
            expected = after(event, _STRUCTURED, target)
            judge_message(target, sent, expected, asked, exact=False)


def _judge_mixed(codec: Codec) -> None:
    old = WireEvent({**BASE, "specversion": "0.3"})
    for events in ((SETS["subject"], old), (old, SETS["subject"])):
        judge_decode(codec, "http", _batch(*events), None, verdict="refused")


def _limits() -> Iterator[Check]:
    carrier = Carrier("mqtt", "binary")
    case = Case(
        name="mqtt-binary-longest",
        title="a property holds 65535 bytes; what is longer is refused or sent in an envelope",
        requirements=["MQTT-V5-001"],
        role="producer",
        verdict="event or refused",
    )
    yield check(FAMILY, [carrier], case, partial(_judge_longest, carrier))


def _judge_longest(carrier: Carrier, codec: Codec) -> None:
    for length in (65535, 65536, 70000):
        event = WireEvent({**BASE, "subject": "\u00e9" * (length // 2) + "a" * (length % 2)})
        try:
            message = judge_encode(codec, carrier, event, event)
        except CheckFailed as error:
            if length > 65535 and isinstance(error.__cause__, Refused):
                continue
            raise
        if any(len(value.encode()) > 65535 for _, value in message.headers):
            raise failed(f"a property of {length} bytes", None, shown(event)[:100], "")
