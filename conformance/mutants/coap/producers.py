"""Wrong producers, and gateways that hand events on wrongly (sections 2.1, 3.1.3, 7)."""

from collections.abc import Sequence
from urllib.parse import quote

from msgspec.structs import replace

from bindings.binding import EVENT_MEDIA_TYPE, ContentMode, Message
from bindings.coap import attributes
from bindings.wire import cbor
from conformance.forms import WireEvent
from conformance.mutants.coap.gateways import around
from conformance.mutants.edits import changed, each_header
from conformance.mutants.mutant import Catalogue, Decode, Encode, Patch
from gateway.cli.senders import coap as sender

MUTANTS = Catalogue("coap", prefix="coap-")

_PRODUCER = {"families": ("producer",)}


@MUTANTS.encoding("BIN", "COAP-BIN-009", **_PRODUCER)
def content_types_in_the_query(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """The media type stands in the query, though it has a Content-Format."""
    message = encode(event, mode)
    if not message.content_type or message.content_type == EVENT_MEDIA_TYPE:
        return message
    headers = [*message.headers, ("c", message.content_type)]
    return replace(message, content_type="", headers=headers)


@MUTANTS.patching("ATTR", "COAP-ATTR-011", **_PRODUCER)
def long_names(patch: Patch) -> None:
    """Core attributes are written with their long names."""
    patch(attributes, "spelling", lambda attribute: attribute)


@MUTANTS.patching("ATTR", "COAP-ATTR-012", **_PRODUCER)
def queries_of_any_length(patch: Patch) -> None:
    """An attribute that does not fit is written into the query."""
    patch(attributes, "checked_value", lambda _, value: value)


@MUTANTS.patching("ATTR", "COAP-ATTR-012", **_PRODUCER)
def queries_of_255_characters(patch: Patch) -> None:
    """The length of a query is counted in characters."""
    right = attributes.checked_value

    def wrong(attribute: str, value: str) -> str:
        right(attribute, "x" * len(value))
        return value

    patch(attributes, "checked_value", wrong)


@MUTANTS.encoding("VAL", "COAP-VAL-003", **_PRODUCER)
def values_are_percent_encoded(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """Values are percent-encoded in options."""
    return each_header(encode(event, mode), lambda name, value: (name, quote(value)))


@MUTANTS.decoding("IOP", "COAP-IOP-001", **_PRODUCER)
def extensions_stay_behind(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Extensions are not handed on."""
    return [changed(event, traceparent=None) for event in decode(message)]


@MUTANTS.decoding("IOP", "COAP-IOP-001", **_PRODUCER)
def paths_become_attributes(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """An event gets an extension that says where it came from."""
    return [changed(event, via="coap") for event in decode(message)]


@MUTANTS.decoding("IOP", "COAP-IOP-002", **_PRODUCER)
def values_as_they_are_in_http(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Values are percent-encoded on the way in, and again on the way out."""

    def wrong(event: WireEvent) -> WireEvent:
        subject = event.attributes.get("subject")
        return changed(event, subject=quote(subject)) if isinstance(subject, str) else event

    return list(map(wrong, decode(message)))


@MUTANTS.patching("CBOR", "COAP-CBOR-013", **_PRODUCER)
def keys_in_the_order_of_the_event(patch: Patch) -> None:
    """Keys of CBOR are not sorted."""

    def wrong(entries: list[tuple[bytes, bytes]]) -> bytes:
        return bytes((0xA0 | len(entries),)) + b"".join(key + item for key, item in entries)

    patch(cbor, "_encode_map", wrong)


@MUTANTS.patching("PATH", "COAP-PATH-001", needs="sending", **_PRODUCER)
def events_are_put(patch: Patch) -> None:
    """Events are delivered with the method PUT."""
    around(
        patch,
        sender,
        "serialise",
        lambda right, message: right(replace(message, code=3) if message.code == 2 else message),
    )
