"""Mistakes in Kafka's headers, and with values that are null."""

import struct
from collections.abc import Sequence
from urllib.parse import unquote

from msgspec.structs import replace

from bindings.binding import EVENT_MEDIA_TYPE, ContentMode, Message
from conformance.forms import Refused, WireEvent
from conformance.mutants.edits import changed, each_header, is_structured, or_instead
from conformance.mutants.mutant import Catalogue, Decode, Encode
from conformance.reference import headers

MUTANTS = Catalogue("kafka")


@MUTANTS.encoding(64, "KAFKA-BIN-006")
def kafka_names_are_written_with_a_hyphen(
    encode: Encode, event: WireEvent, mode: ContentMode
) -> Message:
    """The prefix that is sent is ce-, as in HTTP."""
    return each_header(encode(event, mode), lambda n, v: (n.replace("ce_", "ce-", 1), v))


@MUTANTS.decoding(64, "KAFKA-BIN-006")
def kafka_names_are_read_with_a_hyphen(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """The prefix ce- is read too."""
    return decode(each_header(message, lambda n, v: (n.replace("ce-", "ce_", 1), v)))


@MUTANTS.decoding(64, "KAFKA-DET-004")
def kafka_names_in_any_case(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Header keys are compared without case."""
    return decode(each_header(message, lambda n, v: (n.lower(), v)))


@MUTANTS.encoding(65, "KAFKA-BIN-003")
def kafka_no_data_is_an_empty_value(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """An event without data is sent with an empty value."""
    message = encode(event, mode)
    return replace(message, payload=message.payload or b"")


@MUTANTS.encoding(65, "KAFKA-BIN-003")
def kafka_empty_data_is_a_tombstone(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """An event with empty data is sent with a null value."""
    message = encode(event, mode)
    return replace(message, payload=message.payload or None)


@MUTANTS.decoding(65, "KAFKA-BIN-003")
def kafka_an_empty_value_is_no_data(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """An empty value is read as no data."""
    return decode(replace(message, payload=message.payload or None))


@MUTANTS.decoding(65, "KAFKA-BIN-003")
def kafka_a_null_value_is_empty_data(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A null value is read as empty data."""
    return decode(replace(message, payload=message.payload or b""))


@MUTANTS.encoding(65, "KAFKA-BIN-003")
def kafka_no_data_is_the_word_null(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """An event without data is sent with the JSON text null."""
    message = encode(event, mode)
    return replace(message, payload=b"null") if message.payload is None else message


@MUTANTS.decoding(66, "KAFKA-BIN-003", crash=TypeError)
def kafka_tombstones_crash(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A null value is an error of the language."""
    if message.payload is None:
        raise TypeError("object of type 'NoneType' has no len()")
    return decode(message)


@MUTANTS.decoding(66, "KAFKA-BIN-003")
def kafka_tombstones_are_no_events(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A message with a null value is refused, whatever its headers say."""
    if message.payload is None:
        raise Refused("a tombstone")
    return decode(message)


@MUTANTS.encoding(67, "KAFKA-KEY-005 KAFKA-KEY-004")
def kafka_the_key_takes_partitionkey(
    encode: Encode, event: WireEvent, mode: ContentMode
) -> Message:
    """The attribute that is the record's key is not sent as a header."""
    return encode(changed(event, partitionkey=None), mode)


@MUTANTS.decoding(67, "KAFKA-KEY-006")
def kafka_the_key_is_an_attribute(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """What is known of the record's key becomes partitionkey."""
    key = dict(message.headers).get("kafka_key")
    return [changed(event, partitionkey=key) if key else event for event in decode(message)]


@MUTANTS.decoding(68, "KAFKA-META-001")
def kafka_the_topic_is_an_attribute(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """The topic becomes the extension kafkatopic."""
    topic = {"kafkatopic": message.address} if message.address else {}
    return [changed(event, **topic) for event in decode(message)]


@MUTANTS.decoding(68, "KAFKA-META-001 CORE-EXT-006")
def kafka_foreign_headers_are_attributes(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Headers without the prefix become extensions."""
    return decode(
        each_header(
            message,
            lambda n, v: (n if n.startswith("ce_") else "ce_" + n.replace("_", "").lower(), v),
        )
    )


@MUTANTS.encoding(69, "KAFKA-BIN-007")
def kafka_integers_as_four_bytes(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """An Integer is sent as four bytes."""
    numbers = {f"ce_{n}": v for n, v in event.attributes.items() if type(v) is int}
    return each_header(
        encode(event, mode),
        lambda n, v: (n, struct.pack(">i", numbers[n]).decode("latin-1") if n in numbers else v),
    )


@MUTANTS.decoding(69, "KAFKA-BIN-007")
def kafka_four_bytes_are_an_integer(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A value of four bytes that is no text is read as an Integer."""

    def read(name: str, value: str) -> tuple[str, str]:
        raw = value.encode("utf-8", "surrogateescape")
        is_number = len(raw) == 4 and not value.isprintable()
        return name, str(int.from_bytes(raw, "big", signed=True)) if is_number else value

    return decode(each_header(message, read))


@MUTANTS.decoding(69, "KAFKA-BIN-005")
def kafka_bytes_that_are_no_utf_8_are_replaced(
    decode: Decode, message: Message
) -> Sequence[WireEvent]:
    """A value that is no UTF-8 is read with replacement characters."""
    return decode(
        each_header(
            message,
            lambda n, v: (n, v.encode("utf-8", "surrogateescape").decode("utf-8", "replace")),
        )
    )


@MUTANTS.decoding(51, "KAFKA-BIN-005 KAFKA-BIN-007")
def kafka_values_are_decoded(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Values are percent-decoded."""
    return decode(each_header(message, lambda n, v: (n, unquote(v))))


@MUTANTS.encoding(51, "KAFKA-BIN-007")
def kafka_values_are_encoded(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """Values are percent-encoded."""
    return each_header(encode(event, mode), lambda n, v: (n, headers.escape(v)))


@MUTANTS.encoding(70, "KAFKA-STR-001")
def kafka_envelopes_without_a_header(
    encode: Encode, event: WireEvent, mode: ContentMode
) -> Message:
    """An envelope is sent without content-type."""
    message = encode(event, mode)
    return replace(message, content_type="") if is_structured(message) else message


@MUTANTS.decoding(70, "KAFKA-DET-005")
def kafka_values_are_searched(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A record without content-type is an event if its value looks like one."""

    def search(message: Message) -> Sequence[WireEvent]:
        if message.content_type:
            raise Refused("no event")
        return decode(replace(message, content_type=EVENT_MEDIA_TYPE))

    return or_instead(decode, message, search)


@MUTANTS.encoding("structured mode", "KAFKA-STR-003 KAFKA-STR-002")
def kafka_envelopes_as_tombstones(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """The envelope of an event without data is not sent."""
    message = encode(event, mode)
    return replace(message, payload=None) if event.data is None else message


@MUTANTS.decoding("binary mode", "KAFKA-BIN-008 CORE-ATTR-003")
def kafka_the_last_of_two_headers_wins(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Of two headers of one key, the last is taken."""
    return decode(replace(message, headers=list(dict(message.headers).items())))
