"""Mistakes in MQTT 5's properties and in MQTT 3.1.1's payload."""

from collections.abc import Sequence
from urllib.parse import unquote

from msgspec.structs import replace

from bindings.binding import BATCH_MEDIA_TYPE, EVENT_MEDIA_TYPE, ContentMode, Message
from conformance.forms import Refused, WireEvent
from conformance.mutants.edits import changed, each_header, is_structured, or_instead
from conformance.mutants.mutant import Catalogue, Decode, Encode
from conformance.reference import headers

MUTANTS = Catalogue("mqtt")


@MUTANTS.decoding(50, "MQTT-BIN-006")
def mqtt_names_are_read_with_a_prefix(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Attributes are User Properties with the prefix ce-."""
    return decode(each_header(message, lambda n, v: (n[3:], v) if n.startswith("ce-") else None))


@MUTANTS.decoding(50, "MQTT-BIN-006 MQTT-BIN-010")
def mqtt_names_are_read_with_a_prefix_too(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Attributes are User Properties with the prefix ce- or without."""
    return decode(each_header(message, lambda n, v: (n.removeprefix("ce-"), v)))


@MUTANTS.encoding(50, "MQTT-BIN-006")
def mqtt_names_are_written_with_a_prefix(
    encode: Encode, event: WireEvent, mode: ContentMode
) -> Message:
    """Attributes are sent as User Properties with the prefix ce-."""
    return each_header(encode(event, mode), lambda n, v: (f"ce-{n}", v))


@MUTANTS.decoding(51, "MQTT-BIN-007")
def mqtt_values_are_decoded(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Values of User Properties are percent-decoded."""
    return decode(each_header(message, lambda n, v: (n, unquote(v))))


@MUTANTS.encoding(51, "MQTT-BIN-007")
def mqtt_values_are_encoded(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """Values of User Properties are percent-encoded."""
    return each_header(encode(event, mode), lambda n, v: (n, headers.escape(v)))


@MUTANTS.encoding(52, "MQTT-DET-004 MQTT-MODE-002", bindings=("mqtt311",))
def mqtt_311_in_binary_mode(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """In MQTT 3.1.1 the payload is the data, and attributes are lost."""
    return encode(event, mode) if mode == "structured" else Message(event.data)


@MUTANTS.decoding(52, "MQTT-DET-005")
def mqtt_payloads_are_searched(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A message without a content type is an event if its payload looks like one."""

    def search(message: Message) -> Sequence[WireEvent]:
        if message.content_type:
            raise Refused("no event")
        return decode(replace(message, content_type=EVENT_MEDIA_TYPE))

    return or_instead(decode, message, search)


@MUTANTS.decoding(53, "MQTT-BIN-008")
def mqtt_a_second_content_type_is_refused(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A User Property datacontenttype is refused, even if it says the same."""
    if not is_structured(message) and "datacontenttype" in dict(message.headers):
        raise Refused("datacontenttype twice")
    return decode(message)


@MUTANTS.decoding(53, "MQTT-BIN-008")
def mqtt_a_second_content_type_is_ignored(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A User Property datacontenttype that says something else is ignored."""
    return decode(each_header(message, lambda n, v: None if n == "datacontenttype" else (n, v)))


@MUTANTS.decoding(53, "MQTT-BIN-008 MQTT-BIN-001")
def mqtt_a_second_content_type_is_believed(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A User Property datacontenttype wins over the Content Type."""
    content_type = dict(message.headers).get("datacontenttype", message.content_type)
    rest = each_header(message, lambda n, v: None if n == "datacontenttype" else (n, v))
    return decode(message if is_structured(message) else replace(rest, content_type=content_type))


@MUTANTS.encoding(53, "MQTT-BIN-001")
def mqtt_the_content_type_is_a_property(
    encode: Encode, event: WireEvent, mode: ContentMode
) -> Message:
    """The datacontenttype is sent as a User Property, and not as the Content Type."""
    message = encode(event, mode)
    if is_structured(message) or not message.content_type:
        return message
    more = [*message.headers, ("datacontenttype", message.content_type)]
    return replace(message, content_type="", headers=more)


@MUTANTS.decoding(54, "MQTT-BIN-009 CORE-ATTR-003")
def mqtt_the_last_of_two_properties_wins(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Of two User Properties of one name, the last is taken."""
    return decode(replace(message, headers=list(dict(message.headers).items())))


@MUTANTS.decoding(54, "MQTT-BIN-009 CORE-ATTR-003")
def mqtt_the_first_of_two_properties_wins(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Of two User Properties of one name, the first is taken."""
    first = dict(reversed(message.headers))
    return decode(replace(message, headers=list(first.items())))


@MUTANTS.decoding(56, "MQTT-BIN-010")
def mqtt_foreign_properties_are_attributes(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A User Property X-Trace is the attribute xtrace."""
    return decode(each_header(message, lambda n, v: (n.lower().replace("-", ""), v)))


@MUTANTS.decoding(56, "MQTT-BIN-010 CORE-EXT-006")
def mqtt_foreign_properties_are_refused(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A User Property that names no attribute makes a message invalid."""
    if any(name != name.lower() or "-" in name for name, _ in message.headers):
        raise Refused("no name")
    return decode(message)


@MUTANTS.decoding(56, "MQTT-BIN-010 MQTT-BIN-003")
def mqtt_unknown_properties_are_foreign(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A User Property that no document names is no extension."""
    return [changed(event, region=None, ext=None) for event in decode(message)]


@MUTANTS.decoding(56, "MQTT-DET-003")
def mqtt_plain_messages_are_broken_events(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A plain message with properties of its own is taken for an event that lacks something."""
    try:
        return decode(message)
    except Refused as refusal:
        raise Refused(str(refusal), "invalid_event") from refusal


@MUTANTS.encoding(17, "MQTT-V5-001")
def mqtt_properties_of_any_length(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """A User Property of more than 65535 bytes is sent."""
    long = {n: v for n, v in event.attributes.items() if isinstance(v, str) and len(v) > 30000}
    message = encode(changed(event, **dict.fromkeys(long, "long")), mode)
    return each_header(message, lambda n, v: (n, str(long.get(n, v))))


@MUTANTS.decoding(36, "MQTT-MODE-001", bindings=("mqtt", "kafka", "nats"))
def batches_where_there_are_none(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A batch is read in a binding that has none."""
    payload = message.payload or b""
    if message.content_type.startswith(BATCH_MEDIA_TYPE) and payload[:1] == b"[":
        return decode(replace(message, payload=payload[1:-1], content_type=EVENT_MEDIA_TYPE))
    return decode(message)


@MUTANTS.decoding(34, "MQTT-DET-001 MQTT-STR-004 KAFKA-DET-001", bindings=("mqtt", "kafka"))
def properties_win_over_an_envelope(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Attributes beside an envelope win over those in it."""
    events = decode(message)
    if not is_structured(message):
        return events
    copies = {name.removeprefix("ce_"): value for name, value in message.headers}
    return [changed(event, **copies) for event in events]
