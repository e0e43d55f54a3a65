"""What a change of binding or mode can't keep, each loss with its reason.

What is not declared here must arrive: the data lattice and the relays judge by this table, and
docs/conformance/loss-table.md shows it. A binding of a stranger declares the names of its own
losses (`conformance.checks.generic`).
"""

import base64
from collections.abc import Callable
from typing import Final

import msgspec

from conformance.forms import WireEvent
from conformance.reference.carrier import HEADER_CARRIERS, Carrier
from conformance.reference.headers import canonical

DOCUMENT: Final = "docs/conformance/loss-table.md"


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a carrier can't say.

    Attributes:
        name: by which a binding declares it.
        carriers: names of the carriers that lose it.
        lost: what goes in.
        arrives: what comes out.
        reason: why that is right, with the document's section.
        apply: makes of an event what is left of it.
    """

    name: str
    carriers: tuple[str, ...]
    lost: str
    arrives: str
    reason: str
    apply: Callable[[WireEvent], WireEvent] = lambda event: event


def _without_empty(event: WireEvent) -> WireEvent:
    return WireEvent(event.attributes, event.data or None)


def _as_text(event: WireEvent) -> WireEvent:
    return WireEvent(
        {name: canonical(value) for name, value in event.attributes.items()}, event.data
    )


def _bytes_as_text(event: WireEvent) -> WireEvent:
    return WireEvent(
        {
            name: base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value
            for name, value in event.attributes.items()
        },
        event.data,
    )


_HEADERS: Final = tuple(carrier.name for carrier in HEADER_CARRIERS)
_JSON: Final = (
    "json", "mqtt311",
    *(f"{carrier.binding}-structured" for carrier in HEADER_CARRIERS),
)  # fmt: skip

LOSSES: Final = (
    Loss(
        name="empty",
        carriers=tuple(name for name in _HEADERS if name != "kafka-binary"),
        lost="data that is present and empty",
        arrives="no data",
        reason="The payload is the data, and a payload of no bytes is all that both look like. "
        "Kafka alone has a null value (kafka-protocol-binding.md 3.2.2).",
        apply=_without_empty,
    ),
    Loss(
        name="types",
        carriers=_HEADERS,
        lost="that an extension is an Integer, a Boolean or Binary",
        arrives="its canonical string",
        reason="Headers hold text, and a reader that has no definition of the extension must not "
        "guess (spec.md, Type System).",
        apply=_as_text,
    ),
    Loss(
        name="binary-type",
        carriers=_JSON,
        lost="that an extension is Binary",
        arrives="its Base64 text",
        reason="JSON has strings for both (json-format.md 2.2).",
        apply=_bytes_as_text,
    ),
    Loss(
        name="layout",
        carriers=(*_JSON, "cbor"),
        lost="blanks, escapes and the spelling of numbers in JSON data",
        arrives="the same JSON value",
        reason="The data is a value of the envelope, and may be written anew with it "
        "(json-format.md 3.1). This gateway keeps the bytes all the same.",
    ),
    Loss(
        name="content-type",
        carriers=(*_JSON, "cbor"),
        lost="that data has no content type, when it is not Base64 and no byte string",
        arrives="application/json, or application/cbor from CBOR",
        reason="What the format implies is made explicit, as no other binding implies it "
        "(json-format.md 3.2, cbor-format.md 3.2).",
    ),
    Loss(
        name="malformed",
        carriers=(*_JSON, "cbor", "coap-binary"),
        lost="data that is not what its content type says",
        arrives="the same bytes, or a refusal; never other bytes",
        reason="Serialization may fail (json-format.md 3.1, cbor-format.md 3.1.1); a CoAP payload "
        "has to be well-formed (docs/bindings/coap.md).",
    ),
    Loss(
        name="subset",
        carriers=("coap-binary",),
        lost="an event with an attribute of more than 255 bytes",
        arrives="a refusal",
        reason="A Uri-Query option holds no more (RFC 7252 5.10); structured mode has no such "
        "limit.",
    ),
)


def after(event: WireEvent, *carriers: Carrier) -> WireEvent:
    """Return what is left of an event that has gone through some carriers."""
    names = {carrier.name for carrier in carriers}
    for loss in LOSSES:
        if not names.isdisjoint(loss.carriers):
            event = loss.apply(event)
    return event


def may_refuse(name: str, *carriers: Carrier) -> bool:
    """Whether one of some carriers may refuse what the loss of that name is about."""
    (loss,) = (loss for loss in LOSSES if loss.name == name)
    return any(carrier.name in loss.carriers for carrier in carriers)


def table() -> str:
    """Return the table as a document."""
    rows = [
        f"| `{loss.name}` | {', '.join(loss.carriers)} | {loss.lost} | {loss.arrives} | "
        f"{loss.reason} |"
        for loss in LOSSES
    ]
    return "\n".join(
        [
            "# What a change of binding can't keep",
            "",
            "An event that is relayed from one binding and mode to another loses what stands here,",
            "and nothing else: the conformance suite demands the rest byte for byte. Made by",
            "`conformance.losses.table`.",
            "",
            "| Name | Where | What goes in | What comes out | Why |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )
