"""The data lattice: what data can be, under which content type, from each carrier to each other.

The message that goes in is written here and the one that comes out is read here; `codec.relay`
does the rest. What need not arrive stands in the table of losses (`conformance.losses`).
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from conformance.check import Check, CheckFailed
from conformance.checks.judging import (
    BASE,
    Case,
    check,
    judge_each,
    judge_relay,
)
from conformance.codec import Codec
from conformance.forms import Refused, WireEvent
from conformance.losses import after, may_refuse
from conformance.reference import cbor_event, json_event
from conformance.reference.carrier import CARRIERS, Carrier

FAMILY: Final = "data lattice"

DATA: Final[Mapping[str, bytes | None]] = {
    "absent": None,
    "empty": b"",
    "null": b"null",
    "zero": b"0",
    "false": b"false",
    "empty string": b'""',
    "empty list": b"[]",
    "empty map": b"{}",
    "text": "h\u00e9 \u20ac \U0001f600 %20".encode(),
    "string": b'"I\'m just a string"',
    "JSON": b'{"a": [1, "x", null], "b": {"c": true}}',
    "JSON in a string": b'"{\\"a\\":1}"',
    "big numbers": b"[9007199254740993,0.1000000000000000055,1E400,-0.0,12345678901234567890123]",
    "CBOR": bytes.fromhex("a1616102"),
    "bytes": bytes(range(256)),
    "another charset": b"\xe9t\xe9",
    "line ends": b"\xef\xbb\xbfa\r\nb\n",
}

CONTENT_TYPES: Final = {
    "no type": None,
    "json": "application/json",
    "json-case": "Text/JSON ; v=1",
    "json-suffix": "application/vnd.a.b+json; charset=utf-8",
    "text": "text/plain",
    "latin-1": "text/plain; charset=iso-8859-1",
    "binary": "application/octet-stream",
    "cbor": "application/cbor",
}

_IN: Final = {
    "json": "JSON-DES-004 JSON-DES-005 JSON-DES-006 JSON-DES-011 JSON-SER-006",
    "text": "JSON-DES-007",
    "bytes": "JSON-DES-001 JSON-SER-003 JSON-SER-013",
}
_OUT: Final = {
    "json": "JSON-SER-006 JSON-SER-008 JSON-SER-009 JSON-DES-011",
    "text": "JSON-SER-011",
    "bytes": "JSON-SER-001 JSON-SER-002 JSON-SER-003 JSON-SER-013",
}
_CBOR: Final = {
    "json": "CBOR-017 CBOR-021",
    "text": "CBOR-017 CBOR-021",
    "bytes": "CBOR-012 CBOR-013 CBOR-014 CBOR-020",
    "cbor": "CBOR-014 CBOR-016 CBOR-019",
}
_HEADERS: Final = {
    "http": "HTTP-DATA-001 HTTP-DAT-001 HTTP-CT-001 CORE-MODE-001",
    "nats": "NATS-BIN-001 CORE-MODE-001",
    "mqtt": "MQTT-BIN-001 MQTT-BIN-002 CORE-MODE-001",
    "kafka": "KAFKA-BIN-001 KAFKA-BIN-002 KAFKA-MODE-002 CORE-MODE-001",
    "coap": "CORE-MODE-001",
}


def checks() -> Iterator[Check]:
    """Return a check for each source, target and content type."""
    for source in CARRIERS:
        for target in CARRIERS:
            for name in CONTENT_TYPES:
                yield _explicit(source, target, name)
            yield _nothing(source, target)
            if not source.is_binary:
                yield _implied(source, target)


def _explicit(source: Carrier, target: Carrier, name: str) -> Check:
    content_type = CONTENT_TYPES[name]
    case = Case(
        name=f"{source.name}-to-{target.name}-{name.replace(' ', '-')}",
        title=f"data under {content_type or 'no content type'} arrives",
        requirements=[*_ids(source, name, _IN), *_ids(target, name, _OUT)],
        role="intermediary",
    )
    return check(FAMILY, [source, target], case, partial(_judge, source, target, content_type))


def _ids(carrier: Carrier, name: str, table: Mapping[str, str]) -> list[str]:
    """Return which rules tell how a carrier holds data of a content type."""
    is_untyped = CONTENT_TYPES[name] is None
    if carrier.is_binary:
        untyped = ["HTTP-CT-003"] if is_untyped and carrier.binding == "http" else []
        return [*_HEADERS[carrier.binding].split(), *untyped]
    kind = {"no type": "bytes", "binary": "bytes", "latin-1": "text"}.get(name, name)
    kind = kind.partition("-")[0]
    if carrier.binding == "cbor":
        return ["CORE-DCT-006", *_CBOR[kind].split()]
    implied = "JSON-DES-003" if table is _IN else "JSON-SER-004"
    more = [implied] if is_untyped else ["CORE-DCT-006"]
    return [*more, *table.get(kind, table["bytes"]).split()]


def _judge(source: Carrier, target: Carrier, content_type: str | None, codec: Codec) -> None:
    judge_each(
        (name, partial(_judge_one, codec, source, target, _event(data, content_type)))
        for name, data in DATA.items()
        if not _is_nothing(name, source, target)
    )


def _is_nothing(name: str, *carriers: Carrier) -> bool:
    """Whether the text lets data be taken for none: data of no bytes, and a null in JSON."""
    is_in_envelope = not all(carrier.is_binary for carrier in carriers)
    return name == "empty" or (name == "null" and is_in_envelope)


def _nothing(source: Carrier, target: Carrier) -> Check:
    """That there is no data, data of no bytes and a null may be told apart, and need not."""
    case = Case(
        name=f"{source.name}-to-{target.name}-nothing",
        title="data of no bytes is not the same as no data, nor is a null",
        requirements=["CORE-DATA-001", "JSON-SER-015"],
        role="intermediary",
    )
    return check(FAMILY, [source, target], case, partial(_judge_nothing, source, target))


def _judge_nothing(source: Carrier, target: Carrier, codec: Codec) -> None:
    cases = [
        (name, content_type)
        for name in ("empty", "null")
        if _is_nothing(name, source, target)
        for content_type in CONTENT_TYPES.values()
    ]
    judge_each(
        (
            f"{name} {content_type}",
            partial(_judge_one, codec, source, target, _event(DATA[name], content_type)),
        )
        for name, content_type in cases
    )


def _event(data: bytes | None, content_type: str | None) -> WireEvent:
    attributes: dict[str, Any] = dict(BASE)
    if content_type:
        attributes["datacontenttype"] = content_type
    return WireEvent(attributes, data)


def _judge_one(codec: Codec, source: Carrier, target: Carrier, event: WireEvent) -> None:
    exact = source.is_binary and target.is_binary
    expected = after(event, source, target)
    message = source.write(event)
    try:
        judge_relay(codec, source, message, target, expected, exact=exact)
    except CheckFailed as failure:
        refused = isinstance(failure.__cause__, Refused)
        if refused and is_malformed(event) and may_refuse("malformed", source, target):
            return
        raise


def is_malformed(event: WireEvent) -> bool:
    """Whether data is not what its content type says."""
    content_type, data = event.attributes.get("datacontenttype"), event.data
    if data is None or content_type is None:
        return False
    if json_event.is_json_type(content_type):
        return json_event.parse(data) is None
    if cbor_event.is_cbor_type(content_type):
        return not cbor_event.is_item(data)
    if not content_type.startswith("text/"):
        return False
    try:
        data.decode(json_event.charset(content_type))
    except UnicodeError:
        return True
    return False


def _implied(source: Carrier, target: Carrier) -> Check:
    """What a format implies becomes explicit in every other, and stays what it is in its own."""
    is_cbor = source.binding == "cbor"
    ids = "CBOR-015 CBOR-022 CBOR-023" if is_cbor else "JSON-DES-009 JSON-DES-010 JSON-SER-007"
    if not is_cbor and target.binding == "cbor":
        ids += " CBOR-015"
    case = Case(
        name=f"{source.name}-to-{target.name}-implied",
        title=f"data that is {'CBOR' if is_cbor else 'JSON'} by its format says so elsewhere",
        requirements=["CORE-DCT-001", "CORE-DCT-002", *ids.split()],
        role="intermediary",
    )
    return check(FAMILY, [source, target], case, partial(_judge_implied, source, target))


def _judge_implied(source: Carrier, target: Carrier, codec: Codec) -> None:
    is_cbor = source.binding == "cbor"
    content_type = "application/cbor" if is_cbor else "application/json"
    names = ("CBOR", "zero") if is_cbor else ("zero", "false", "string", "JSON", "big numbers")
    judge_each(
        (name, partial(_judge_one_implied, codec, source, target, _event(DATA[name], content_type)))
        for name in names
    )


def _judge_one_implied(codec: Codec, source: Carrier, target: Carrier, event: WireEvent) -> None:
    without = WireEvent(BASE, event.data)
    message = source.write(without, implied=True)
    judge_relay(codec, source, message, target, after(event, source, target), exact=False)
