"""Mistakes in the CBOR event format."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

import bindings.cbor_format
import bindings.event
from bindings.binding import ContentMode, Message
from bindings.event import Event
from bindings.wire import cbor
from conformance.forms import Refused, WireEvent
from conformance.mutants.edits import changed
from conformance.mutants.mutant import Catalogue, Decode, Encode, Patch
from conformance.reference import cbor_event

MUTANTS = Catalogue("cbor")


def _members(message: Message) -> dict[str, tuple[Any, bytes]]:
    try:
        return cbor_event.members(message.payload or b"")
    except ValueError:
        return {}


@MUTANTS.decoding(84, "CBOR-002 CORE-TIME-003 CORE-GEN-005")
def cbor_times_as_dates(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A time is made a date of the language and loses digits."""
    return [
        changed(event, time=re.sub(r"(\.\d{6})\d+", r"\1", event.attributes["time"]))
        if "time" in event.attributes
        else event
        for event in decode(message)
    ]


@MUTANTS.patching(84, "CBOR-002 CORE-TYPE-003")
def cbor_times_as_epochs(patch: Patch) -> None:
    """A time may be a number of seconds."""
    right = bindings.cbor_format.read_attribute

    def read(name: str, value: Any) -> Any:
        if isinstance(value, cbor.Tagged) and value.number == 1 and isinstance(value.value, int):
            moment = datetime.fromtimestamp(value.value, UTC)
            return moment.isoformat()
        return right(name, value)

    patch.everywhere(bindings.cbor_format, "read_attribute", read)


@MUTANTS.patching(85, "CBOR-010 CORE-ATTR-003")
def cbor_the_last_of_two_keys_wins(patch: Patch) -> None:
    """Of two entries of one key, the last is taken."""
    right = cbor._read_map  # noqa: SLF001 - the mistake is in there

    def read_map(data: bytes, position: int, depth: int, count: int | None) -> Any:
        try:
            return right(data, position, depth, count)
        except cbor.CborError as error:
            if not error.is_duplicate or count is None:
                raise
        entries: dict[Any, Any] = {}
        for _ in range(count):
            key, start = cbor._read(data, position, depth)  # noqa: SLF001 - the same
            value, position = cbor._read(data, start, depth)  # noqa: SLF001 - the same
            entries[key] = key, value, data[start:position]
        return cbor.Map(entries.values()), position

    readers = [read_map if read is right else read for read in cbor._READERS]  # noqa: SLF001 - the same
    patch(cbor, "_READERS", tuple(readers))


@MUTANTS.patching(85, "CBOR-005 CORE-TYPE-INT-001")
def cbor_integers_of_64_bits(patch: Patch) -> None:
    """An Integer of CBOR has 64 bits."""
    patch(bindings.event, "INTEGER_MAX", 2**64 - 1)
    patch(bindings.event, "INTEGER_MIN", -(2**64))


@MUTANTS.patching(85, "CORE-TYPE-003")
def cbor_floats_are_integers(patch: Patch) -> None:
    """A float is cut to an Integer."""
    right = bindings.cbor_format.read_attribute

    def read(name: str, value: Any) -> Any:
        return right(name, int(value) if isinstance(value, float) else value)

    patch.everywhere(bindings.cbor_format, "read_attribute", read)


@MUTANTS.patching(85, "CORE-TYPE-003")
def cbor_undefined_is_absent(patch: Patch) -> None:
    """An attribute that is undefined is taken for absent."""
    right = bindings.cbor_format.read_attribute

    def read(name: str, value: Any) -> Any:
        return None if value == cbor.Simple(23) else right(name, value)

    patch.everywhere(bindings.cbor_format, "read_attribute", read)


@MUTANTS.decoding(86, "CBOR-022 CBOR-023 CBOR-015")
def cbor_implied_stays_implied(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Data without a content type is not said to be CBOR where nothing implies it."""
    known = "datacontenttype" in _members(message)
    return [event if known else changed(event, datacontenttype=None) for event in decode(message)]


@MUTANTS.decoding(86, "CBOR-022 CBOR-023 CBOR-015")
def cbor_implied_is_json(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Data without a content type is said to be JSON, as in the JSON format."""
    return [
        changed(event, datacontenttype="application/json")
        if event.attributes.get("datacontenttype") == "application/cbor"
        else event
        for event in decode(message)
    ]


@MUTANTS.decoding(86, "CBOR-020 CBOR-013 CBOR-014")
def cbor_bytes_are_decoded_again(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A byte string that holds an item is said to be CBOR."""
    data = _members(message).get("data", (None, b""))[0]
    events = decode(message)
    if not isinstance(data, bytes) or not data or not cbor_event.is_item(data):
        return events
    return [changed(event, datacontenttype="application/cbor") for event in events]


@MUTANTS.patching(86, "CBOR-016 CBOR-019")
def cbor_in_a_byte_string(patch: Patch) -> None:
    """Data that is CBOR is written as a byte string."""
    right = bindings.cbor_format.encode_event

    def encode(event: Event) -> bytes:
        if event.datacontenttype != "application/cbor" or event.data is None:
            return right(event)
        return right(event.replace(datacontenttype="application/cbos")).replace(b"cbos", b"cbor")

    patch.everywhere(bindings.cbor_format, "encode_event", encode)


@MUTANTS.decoding(86, "CBOR-018 CORE-DATA-001")
def cbor_null_data_is_absent(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Data that is null is read as none."""
    events = decode(message)
    if _members(message).get("data") != (None, b"\xf6"):
        return events
    return [WireEvent(event.attributes) for event in events]


@MUTANTS.encoding("types", "CBOR-002")
def cbor_binary_as_text(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """A Binary attribute is written as Base64 text, as in JSON."""
    texts = {
        name: bindings.event.canonical_text(value)
        for name, value in event.attributes.items()
        if isinstance(value, bytes)
    }
    return encode(changed(event, **texts), mode)


@MUTANTS.encoding("types", "CBOR-010 CBOR-002")
def cbor_numbers_as_text(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """An Integer is written as text."""
    texts = {n: str(v) for n, v in event.attributes.items() if type(v) is int}
    return encode(changed(event, **texts), mode)


@MUTANTS.decoding("types", "CBOR-004")
def cbor_null_attributes_are_refused(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """An attribute that is null is refused."""
    if any(value is None for name, (value, _) in _members(message).items() if name != "data"):
        raise Refused("null")
    return decode(message)


@MUTANTS.encoding("envelope", "CBOR-009")
def cbor_without_its_format(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """An event is sent as application/cbor."""
    return replace(encode(event, mode), content_type="application/cbor")
