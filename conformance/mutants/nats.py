"""Mistakes in NATS's headers and in its two ways of structured mode."""

from collections.abc import Sequence

from msgspec.structs import replace

from bindings.binding import EVENT_MEDIA_TYPE, ContentMode, Message
from conformance.forms import Refused, WireEvent
from conformance.mutants.edits import changed, each_header, is_structured, or_instead
from conformance.mutants.mutant import Catalogue, Decode, Encode
from conformance.reference import cbor_event

MUTANTS = Catalogue("nats")


@MUTANTS.decoding(58, "NATS-BIN-005")
def nats_content_type_is_an_attribute(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """The header Content-Type is read as datacontenttype."""
    events = decode(message)
    if is_structured(message) or not message.content_type:
        return events
    return [changed(event, datacontenttype=message.content_type) for event in events]


@MUTANTS.encoding(58, "NATS-BIN-005")
def nats_content_type_is_sent(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """In binary mode datacontenttype is sent as Content-Type."""
    message = encode(event, mode)
    if is_structured(message):
        return message
    content_type = str(event.attributes.get("datacontenttype", ""))
    rest = each_header(message, lambda n, v: None if n == "ce-datacontenttype" else (n, v))
    return replace(rest, content_type=content_type)


@MUTANTS.encoding(58, "NATS-BIN-005")
def nats_content_type_is_sent_too(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """In binary mode datacontenttype is sent as Content-Type as well."""
    message = encode(event, mode)
    content_type = str(event.attributes.get("datacontenttype", ""))
    return message if is_structured(message) else replace(message, content_type=content_type)


@MUTANTS.encoding(59, "NATS-STR-003")
def nats_envelopes_without_a_header(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """An envelope is sent without a Content-Type."""
    message = encode(event, mode)
    return replace(message, content_type="") if is_structured(message) else message


@MUTANTS.decoding(59, "NATS-DET-003 NATS-DET-001")
def nats_envelopes_need_a_header(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """An envelope without headers, as 1.0.2 has it, is refused."""
    if not message.content_type and not message.headers:
        raise Refused("no Content-Type")
    return decode(message)


@MUTANTS.decoding(59, "NATS-DET-003")
def nats_plain_messages_are_broken_events(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A plain message is taken for an event that lacks something."""
    try:
        return decode(message)
    except Refused as refusal:
        raise Refused(str(refusal), "invalid_event") from refusal


@MUTANTS.decoding(60, "NATS-BIN-006")
def nats_names_by_case(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Only headers in small letters are read."""
    return decode(each_header(message, lambda n, v: (n, v) if n == n.lower() else None))


@MUTANTS.decoding(60, "NATS-BIN-006 CORE-ATTR-003")
def nats_the_last_of_two_cases_wins(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Of two headers that differ in case only, the last is taken."""
    last = {name.lower(): value for name, value in message.headers}
    return decode(replace(message, headers=list(last.items())))


@MUTANTS.decoding(61, "NATS-DEC-006")
def nats_damaged_values_are_taken(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A replacement character that a client library put there is taken for a character."""
    return decode(each_header(message, lambda n, v: (n, v.replace("\ufffd", "%EF%BF%BD"))))


@MUTANTS.decoding(61, "NATS-DEC-006 NATS-DEC-005")
def nats_replacement_characters_are_refused(
    decode: Decode, message: Message
) -> Sequence[WireEvent]:
    """A replacement character is refused, though it was escaped."""
    if any("%EF%BF%BD" in value.upper() for _, value in message.headers):
        raise Refused("a replacement character")
    return decode(message)


@MUTANTS.decoding(62, "NATS-DET-002 NATS-BIN-001")
def nats_is_json_only(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Every message is read as an envelope."""
    return decode(Message(message.payload, EVENT_MEDIA_TYPE))


@MUTANTS.decoding(62, "NATS-DET-002")
def nats_mode_by_a_header(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A message is binary if it has a ce-specversion, whatever its Content-Type says."""
    if is_structured(message) and any(n.lower() == "ce-specversion" for n, _ in message.headers):
        return decode(replace(message, content_type=""))
    return decode(message)


@MUTANTS.decoding(63, "NATS-MODE-000", profile="1.0.2")
def nats_envelopes_of_1_0_2_are_refused(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """By the rules of 1.0.2 too, an envelope needs a Content-Type."""
    return nats_envelopes_need_a_header(decode, message)


@MUTANTS.decoding(63, "NATS-MODE-002 NATS-BIN-002")
def nats_without_binary_mode(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A message in binary mode is no event, as in 1.0.2."""
    if not is_structured(message) and message.headers:
        raise Refused("no binary mode")
    return decode(message)


@MUTANTS.decoding(37, "NATS-STR-001")
def nats_takes_other_formats(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """An envelope in CBOR is read, though NATS has JSON only."""

    def read(message: Message) -> Sequence[WireEvent]:
        if not message.content_type.endswith("+cbor"):
            raise Refused("no CBOR")
        try:
            return [cbor_event.read(message.payload or b"")]
        except ValueError as error:
            raise Refused(str(error)) from error

    return or_instead(decode, message, read)
