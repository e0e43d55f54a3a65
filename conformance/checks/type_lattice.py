"""The type lattice: values at the borders of the seven types in every encoding, both ways.

What is read is written here, what is written is read here: the codec's own other half has no say.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from bindings.binding import Message
from conformance.check import Check
from conformance.checks.judging import (
    BASE,
    MINIMAL,
    Case,
    Verdict,
    check,
    judge_decode,
    judge_each,
    judge_encode,
    judge_encode_refused,
    odd,
)
from conformance.checks.values import (
    CHARACTER_GROUPS,
    NAMES,
    NATIVE_VALUES,
    NO_NAMES,
    VALUES,
    Value,
)
from conformance.codec import Codec
from conformance.forms import WireEvent
from conformance.losses import after
from conformance.reference.carrier import CBOR_TYPE, ENCODINGS, Carrier
from conformance.reference.cbor_event import Item
from conformance.reference.json_event import Raw
from conformance.requirements import profiles_of

FAMILY: Final = "type lattice"

_READS: Final = {
    "json": "JSON-TYPE-001 JSON-TYPE-004 CORE-GEN-001",
    "cbor": "CBOR-002 CBOR-010 CORE-GEN-001",
    "mqtt311": "JSON-TYPE-001 MQTT-DET-004",
    "http": "HTTP-MET-001 HTTP-NAM-001",
    "nats": "NATS-BIN-002 NATS-BIN-005",
    "mqtt": "MQTT-BIN-003 MQTT-BIN-006 MQTT-BIN-007",
    "kafka": "KAFKA-BIN-004 KAFKA-BIN-005 KAFKA-BIN-007",
    "coap": "CORE-TYPE-001",
}
_WRITES: Final = {
    "json": "JSON-TYPE-001 JSON-TYPE-002 JSON-ENV-003 JSON-ATTR-001 CORE-GEN-001",
    "cbor": "CBOR-001 CBOR-002 CBOR-010 CORE-GEN-001",
    "mqtt311": "JSON-TYPE-001 MQTT-DET-004",
    "http": "HTTP-MET-001 HTTP-NAM-001 HTTP-VAL-001 CORE-TYPE-005",
    "nats": "NATS-BIN-002 NATS-BIN-005 NATS-VAL-001 CORE-TYPE-005",
    "mqtt": "MQTT-BIN-003 MQTT-BIN-006 MQTT-BIN-007 CORE-TYPE-005",
    "kafka": "KAFKA-BIN-004 KAFKA-BIN-006 KAFKA-BIN-007 CORE-TYPE-005",
    "coap": "CORE-TYPE-001",
}
_REQUIRED: Final = {
    "id": "CORE-ID-004 CORE-ATTR-001",
    "source": "CORE-SRC-003 CORE-ATTR-001",
    "type": "CORE-TYP-001 CORE-ATTR-001",
    "specversion": "CORE-VER-003 CORE-ATTR-001",
}
_NOT_EMPTY: Final = {
    "id": "CORE-ID-005",
    "source": "CORE-SRC-004",
    "type": "CORE-TYP-002",
    "specversion": "CORE-VER-004",
    "subject": "CORE-SUB-001",
    "dataschema": "CORE-DSC-002",
    "time": "CORE-TIME-003",
}
_VERSIONS: Final = ("1.0.2", "0.3", "1", "1.1", "2.0", "v1.0", "1.0 ", "01.0")


def checks() -> Iterator[Check]:
    """Return the checks of every encoding."""
    for carrier in ENCODINGS:
        yield from _of_values(carrier)
        yield from _of_characters(carrier)
        yield from _of_native_values(carrier)
        yield from _of_names(carrier)
        yield from _of_presence(carrier)
        yield from _of_null(carrier)
        yield from _of_repetition(carrier)


def _check(carrier: Carrier, case: Case, run: Callable[[Codec], None]) -> Check:
    table, do = (_READS, "read") if case.role == "consumer" else (_WRITES, "write")
    ids = [*case.requirements, "CORE-TYPE-001", *table[carrier.binding].split()]
    named = replace(
        case,
        name=f"{carrier.name}-{do}-{case.name}",
        requirements=ids,
        profiles=profiles_of(case.requirements),  # those whose text has what it is about
    )
    return check(FAMILY, [carrier], named, run)


def _takes(
    carrier: Carrier, name: str, title: str, events: Sequence[WireEvent], ids: Sequence[str]
) -> Iterator[Check]:
    """Events that are right have to be read and written."""
    case = Case(name=name, title=title, requirements=ids, role="consumer")
    yield _check(carrier, case, partial(_reads, carrier, events))
    yield _check(carrier, replace(case, role="producer"), partial(_writes, carrier, events))


def _refuses(
    carrier: Carrier, name: str, title: str, events: Sequence[WireEvent], ids: Sequence[str]
) -> Iterator[Check]:
    """Events that are wrong must be neither read nor written."""
    case = Case(name=name, title=title, requirements=ids, role="consumer", verdict="refused")
    yield _check(carrier, case, partial(_does_not_read, carrier, events))
    run = partial(_does_not_write, carrier, events)
    yield _check(carrier, replace(case, role="producer"), run)


def _judges(
    carrier: Carrier, case: Case, message: Message, expected: WireEvent, verdict: Verdict
) -> Check:
    """A message is read by a verdict."""
    run = partial(_judge, carrier, message, expected, verdict)
    return _check(carrier, replace(case, verdict=verdict), run)


def _judge(
    carrier: Carrier, message: Message, expected: WireEvent, verdict: Verdict, codec: Codec
) -> None:
    judge_decode(codec, carrier.binding, message, expected, verdict=verdict)


def _reads(carrier: Carrier, events: Sequence[WireEvent], codec: Codec) -> None:
    judge_each(
        (
            odd(event),
            partial(
                judge_decode, codec, carrier.binding, carrier.write(event), after(event, carrier)
            ),
        )
        for event in events
    )


def _writes(carrier: Carrier, events: Sequence[WireEvent], codec: Codec) -> None:
    judge_each(
        (odd(event), partial(judge_encode, codec, carrier, event, after(event, carrier)))
        for event in events
    )


def _does_not_read(carrier: Carrier, events: Sequence[WireEvent], codec: Codec) -> None:
    judge_each(
        (
            odd(event),
            partial(
                judge_decode, codec, carrier.binding, carrier.write(event), None, verdict="refused"
            ),
        )
        for event in events
    )


def _does_not_write(carrier: Carrier, events: Sequence[WireEvent], codec: Codec) -> None:
    judge_each(
        (odd(event), partial(judge_encode_refused, codec, carrier, event)) for event in events
    )


def _of_values(carrier: Carrier) -> Iterator[Check]:
    """A check for each value that is read; what is written is judged in one for each type."""
    groups: dict[tuple[str, str, bool], list[tuple[int, Value]]] = {}
    for number, value in enumerate(VALUES):
        group = value.kind.lower().replace(" ", "-"), value.attribute, value.is_right
        groups.setdefault(group, []).append((number, value))
    for (kind, attribute, is_right), values in groups.items():
        ids = values[0][1].requirements
        events = [_event(value) for _, value in values]
        pair = _takes if is_right else _refuses
        article = "a" if is_right else "no"
        for (number, value), event in zip(values, events, strict=True):
            title = f"{attribute} {value.value!r} is {article} {value.kind}"
            yield next(pair(carrier, f"{kind}-{number}", title, [event], ids))
        word = "right" if is_right else "wrong"
        title = f"{attribute} is written if it is a {kind}, and only then"
        _, written = pair(carrier, f"{kind}-{attribute}-{word}", title, events, ids)
        yield written


def _event(value: Value) -> WireEvent:
    return WireEvent({**BASE, value.attribute: value.value})


def _of_characters(carrier: Carrier) -> Iterator[Check]:
    for group, (code_points, id_) in CHARACTER_GROUPS.items():
        for attribute in ("subject", "ext", "type"):
            events = [WireEvent({**BASE, attribute: f"a{chr(code)}b"}) for code in code_points]
            title = f"{attribute} holds none of the {group}"
            ids = [id_, "CORE-EXT-002"]
            yield from _refuses(carrier, f"{attribute}-{group}", title, events, ids)


def _of_native_values(carrier: Carrier) -> Iterator[Check]:
    ids = ["CORE-TYPE-003", "CORE-TYPE-INT-001", "CORE-TYPE-INT-002", "CORE-EXT-002"]
    ids.append("CBOR-005" if carrier.binding == "cbor" else "JSON-TYPE-002")
    for name, value in NATIVE_VALUES.get(carrier.binding, {}).items():
        for attribute in ("ext", "subject"):
            event = WireEvent({**BASE, attribute: value})
            slug, title = name.replace(" ", "-"), f"no attribute is this: {name}"
            yield next(_refuses(carrier, f"{attribute}-{slug}", title, [event], ids))


def _of_names(carrier: Carrier) -> Iterator[Check]:
    ids = ["CORE-NAME-001", "CORE-NAME-004", "CORE-GEN-003"]
    for name in NAMES:
        event = WireEvent({**BASE, name: "x"})
        yield from _takes(carrier, f"name-{name}", f"{name!r} names an extension", [event], ids)
    for number, name in enumerate(NO_NAMES):
        if name != "data_base64" or carrier.is_binary:  # it is a member of JSON
            yield _foreign_name(carrier, f"no-name-{number}", name)
    events = [WireEvent({**BASE, name: "x"}) for name in NO_NAMES]
    ids = ["CORE-NAME-001", "CORE-NAME-003", "CORE-EXT-002"]
    title = "a name of other characters, or of none, is no name"
    _, written = _refuses(carrier, "no-names", title, events, ids)
    yield written
    if carrier.is_binary:
        event = WireEvent({**BASE, "data": "x"})
        title = "no attribute is called data"
        yield from _refuses(carrier, "name-data", title, [event], ["CORE-NAME-006"])


def _foreign_name(carrier: Carrier, slug: str, name: str) -> Check:
    """Headers are also other people's: they may be dropped, but never become an attribute."""
    own = {"http": "HTTP-NAM-003", "mqtt": "MQTT-BIN-010", "kafka": "KAFKA-DET-004"}
    ids = ["CORE-NAME-001", "CORE-NAME-003"]
    ids += [own[carrier.binding]] if carrier.binding in own else []
    ids += ["JSON-SER-005"] if name == "data_base64" else []
    verdict: Verdict = "event" if carrier.binding == "mqtt" else "either"
    expected = WireEvent(BASE)
    if not carrier.is_binary:
        verdict = "refused"
    elif name.isascii() and name.isalpha() and carrier.binding in {"http", "nats"}:
        expected = WireEvent({**BASE, name.lower(): "x"})  # names have no case there
    message = carrier.write(WireEvent({**BASE, name: "x"}))
    title = f"{name!r} names no attribute"
    case = Case(name=slug, title=title, requirements=ids, role="consumer")
    return _judges(carrier, case, message, expected, verdict)


def _of_presence(carrier: Carrier) -> Iterator[Check]:
    for name, ids in _REQUIRED.items():
        event = WireEvent({key: value for key, value in BASE.items() if key != name})
        title = f"{name} is required, and nobody invents it"
        read, written = _refuses(carrier, f"without-{name}", title, [event], ids.split())
        if carrier.binding != "coap" or name != "specversion":  # there it has a default
            yield read
        yield written
    for name, id_ in _NOT_EMPTY.items():
        event = WireEvent({**BASE, name: ""})
        yield from _refuses(carrier, f"empty-{name}", f"{name} is not empty", [event], [id_])
    ids = "CORE-VER-001 CORE-VER-002"
    events = [WireEvent({**BASE, "specversion": version}) for version in _VERSIONS]
    title = "specversion is 1.0, to the letter"
    yield from _refuses(carrier, "versions", title, events, ids.split())


def _of_null(carrier: Carrier) -> Iterator[Check]:
    if carrier.is_binary:
        return
    is_cbor = carrier.binding == "cbor"
    ids = ["CBOR-004"] if is_cbor else ["JSON-NULL-002"]
    null: Any = Item(b"\xf6") if is_cbor else Raw("null")
    for name in ("subject", "time", "dataschema", "datacontenttype", "ext"):
        message = carrier.write(WireEvent({**BASE, name: null}))
        title = f"{name} that is null is absent"
        case = Case(name=f"as-null-{name}", title=title, requirements=ids, role="consumer")
        without = {key: value for key, value in BASE.items() if key != name}
        yield _judges(carrier, case, message, WireEvent(without), "event")
    for name in MINIMAL:
        event = WireEvent({**BASE, name: null})
        title = f"{name} that is null is absent, and required"
        required = [*ids, "CORE-ATTR-001"]
        yield next(_refuses(carrier, f"as-null-{name}", title, [event], required))


def _of_repetition(carrier: Carrier) -> Iterator[Check]:
    own = {
        "json": "JSON-DUP-001", "mqtt311": "JSON-DUP-001", "cbor": "CBOR-010",
        "http": "HTTP-NAM-004", "nats": "NATS-BIN-006", "mqtt": "MQTT-BIN-009",
        "kafka": "KAFKA-BIN-008",
    }  # fmt: skip
    ids = [own[carrier.binding]] if carrier.binding in own else []
    values: dict[str, str] = {**MINIMAL, "subject": "a", "ext": "a"}
    for name, value in values.items():
        for second in (value, "2"):
            message = _twice(carrier, name, value, second)
            kind = "alike" if second == value else "different"
            case = Case(
                name=f"twice-{kind}-{name}",
                title=f"{name} twice, {kind}",
                requirements=["CORE-ATTR-003", *ids],
                role="consumer",
            )
            yield _judges(carrier, case, message, WireEvent(BASE), "refused")


def _twice(carrier: Carrier, name: str, value: str, second: str) -> Message:
    message = carrier.write(WireEvent({**BASE, name: value}))
    again = carrier.write(WireEvent({name: second}))
    if carrier.is_binary:
        headers = [*message.headers, *again.headers]
        return Message(message.payload, message.content_type, headers)
    first, other = message.payload or b"", again.payload or b""
    if message.content_type == CBOR_TYPE:
        return Message(bytes([first[0] + 1]) + first[1:] + other[1:], CBOR_TYPE)
    return Message(first[:-1] + b"," + other[1:], message.content_type)
