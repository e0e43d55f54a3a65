"""Mistakes in the binding of CAN (docs/bindings/can.md)."""

import json
from collections.abc import Sequence
from urllib.parse import unquote

from msgspec.structs import replace

from bindings.binding import ContentMode, Message
from conformance.forms import Refused, WireEvent
from conformance.mutants.edits import changed, each_header
from conformance.mutants.mutant import Catalogue, Decode, Encode

MUTANTS = Catalogue("can", "can-dbc", prefix="can-")
_EFF, _RTR, _ERR = 0x80, 0x40, 0x20


def _flags(message: Message) -> int:
    """Return the byte of a record that holds EFF, RTR and ERR."""
    payload = message.payload or b""
    return payload[3] if len(payload) > 3 else 0


def _without_flags(message: Message, flags: int) -> Message:
    payload = bytearray(message.payload or b"")
    if len(payload) > 3:
        payload[3] &= ~flags
    return replace(message, payload=bytes(payload))


@MUTANTS.decoding("frames", "CAN-MAP-002")
def remote_frames_are_events(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A remote frame becomes an event without data."""
    return decode(_without_flags(message, 0 if _flags(message) & _ERR else _RTR))


@MUTANTS.decoding("frames", "CAN-MAP-003")
def error_frames_are_events(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """An error frame becomes an event."""
    return decode(_without_flags(message, _ERR | _RTR if _flags(message) & _ERR else 0))


@MUTANTS.decoding("identifiers", "CAN-ATT-009")
def small_identifiers_are_short(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """An extended id that fits 11 bits is written with 3 digits."""
    return [
        changed(event, canid=f"{int(event.attributes['canid'], 16):03X}")
        for event in decode(message)
    ]


@MUTANTS.decoding("identifiers", "CAN-ATT-009")
def identifiers_in_small_letters(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """An id is written in small letters."""
    return [changed(event, canid=event.attributes["canid"].lower()) for event in decode(message)]


@MUTANTS.decoding("identifiers", "CAN-ATT-002 CAN-ATT-001")
def frames_of_one_moment_are_one(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Frames of one timestamp have one id."""
    return decode(each_header(message, lambda n, v: None if n == "occurrence" else (n, v)))


@MUTANTS.decoding("channels", "CAN-ATT-004")
def channels_as_they_are(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A channel's slashes stay in the source."""
    return [
        changed(event, source=event.attributes["source"].replace("%2F", "/"))
        for event in decode(message)
    ]


@MUTANTS.decoding("times", "CAN-ATT-008 CAN-ATT-001")
def times_of_microseconds(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A timestamp loses its digits after the sixth."""
    return decode(each_header(message, lambda n, v: (n, v[:17] if n == "timestamp" else v)))


@MUTANTS.decoding("data", "CAN-ATT-012 CAN-REC-005")
def padding_is_data(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """The bytes behind a frame's length are data."""
    payload = message.payload or b""
    events = decode(message)
    return [
        WireEvent(event.attributes, payload[8:]) if event.data and len(payload) == 16 else event
        for event in events
    ]


@MUTANTS.decoding("data", "CAN-ATT-014")
def frames_without_data_are_empty(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A frame of length 0 becomes an event with empty data."""
    return [WireEvent(event.attributes, event.data or b"") for event in decode(message)]


@MUTANTS.decoding("data", "CAN-ATT-013")
def data_that_reads_as_text_is_text(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Bytes that are printable are said to be text."""
    return [
        changed(event, datacontenttype="text/plain")
        if event.data and event.data.isascii() and event.data.decode().isprintable()
        else event
        for event in decode(message)
    ]


@MUTANTS.decoding("CAN FD", "CAN-REC-002")
def lengths_that_there_are_not(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A CAN FD frame of 9 bytes is taken for one of 8."""
    payload = bytearray(message.payload or b"")
    if len(payload) == 72 and 8 < payload[4] < 12:
        payload[4] = 8
    return decode(replace(message, payload=bytes(payload)))


@MUTANTS.decoding("CAN FD", "CAN-ATT-010")
def flags_are_dropped(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """The flags of a CAN FD frame do not become an attribute."""
    return [changed(event, canfdflags=None) for event in decode(message)]


@MUTANTS.encoding("CAN FD", "CAN-ENC-007 CAN-ENC-008")
def long_data_is_cut(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """Of data that no classical frame holds, the first 8 bytes are sent."""
    if event.data is not None and len(event.data) > 8 and "canfdflags" not in event.attributes:
        return encode(WireEvent(event.attributes, event.data[:8]), mode)
    return encode(event, mode)


@MUTANTS.encoding("CAN FD", "CAN-ENC-007 CAN-ENC-008")
def odd_lengths_are_padded(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """Data of 9 bytes is padded to 12, and nobody can tell them apart."""
    if event.data is not None and len(event.data) == 9 and "canfdflags" in event.attributes:
        return encode(WireEvent(event.attributes, event.data + b"\x00" * 3), mode)
    return encode(event, mode)


@MUTANTS.encoding("identifiers", "CAN-ENC-002")
def identifiers_of_any_length(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """A canid of two digits is filled up."""
    canid = event.attributes.get("canid")
    if isinstance(canid, str) and len(canid) == 2:
        return encode(changed(event, canid=f"0{canid}"), mode)
    return encode(event, mode)


@MUTANTS.encoding("channels", "CAN-ENC-001")
def channels_stay_encoded(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """A channel is sent with its percent-encoding."""
    source = str(event.attributes.get("source", ""))
    message = encode(event, mode)
    place = source.removeprefix("/can/")
    return each_header(
        message, lambda n, v: (n, place if n == "channel" and v == unquote(place) else v)
    )


@MUTANTS.encoding("data", "CAN-ENC-009")
def text_is_sent_as_bytes(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """Data of a type that a frame can't name is sent all the same."""
    try:
        return encode(event, mode)
    except Refused:
        if not str(event.attributes.get("datacontenttype", "")).startswith("text/"):
            raise
        return encode(changed(event, datacontenttype=None), mode)


@MUTANTS.decoding("signals", "CAN-SIG-006", bindings=("can-dbc",))
def no_number_is_zero(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A signal that is NaN or infinite is 0."""
    return [
        WireEvent(event.attributes, (event.data or b"").replace(b"null", b"0"))
        for event in decode(message)
    ]


@MUTANTS.decoding("signals", "CAN-SIG-005", bindings=("can-dbc",))
def named_values_are_numbers(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A value that has a name in the database is a number all the same."""
    events = []
    for event in decode(message):
        data = event.data
        if event.attributes.get("datacontenttype") == "application/json":
            values = json.loads(data or b"{}")
            numbers = {n: 0 if isinstance(v, str) else v for n, v in values.items()}
            data = json.dumps(numbers, separators=(",", ":")).encode()
        events.append(WireEvent(event.attributes, data))
    return events


@MUTANTS.decoding("signals", "CAN-SIG-008", bindings=("can-dbc",))
def short_frames_are_bytes(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A frame that its message does not fit is taken for one of no database."""
    try:
        return decode(message)
    except Refused:
        payload = message.payload or b""
        attributes = {
            "specversion": "1.0",
            "id": "1",
            "source": "/can/can0",
            "type": "can.frame.v1",
        }
        return [WireEvent(attributes, payload[8:])]
