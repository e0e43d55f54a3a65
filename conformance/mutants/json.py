"""Mistakes in the JSON event format, wherever an envelope is read or written."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

import bindings.event
import bindings.json_format
from bindings.binding import ContentMode, Message
from bindings.event import Event
from conformance.forms import Refused, WireEvent
from conformance.mutants.edits import Members, changed, each_member, is_envelope, or_instead
from conformance.mutants.mutant import Catalogue, Decode, Encode, Patch
from conformance.reference import json_event

MUTANTS = Catalogue("json", "mqtt311", "http", "nats", "mqtt", "kafka")


def _members(message: Message) -> Mapping[str, str]:
    """Return the members of an envelope; none if it is no envelope."""
    try:
        return json_event.members(message.payload or b"") if is_envelope(message) else {}
    except ValueError:
        return {}


def _sent(message: Message, change: Any) -> Message:
    return each_member(message, change) if is_envelope(message) else message


def _rewritten(members: Members, name: str, text: str) -> Members:
    return {**members, name: text} if name in members else members


@MUTANTS.encoding(18, "JSON-SER-009 JSON-SER-008")
def json_data_as_a_string_of_json(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """JSON data is written as a string that holds its text."""
    message = encode(event, mode)
    if not json_event.is_json_type(event.attributes.get("datacontenttype", "")):
        return message
    return _sent(message, lambda m: _rewritten(m, "data", json.dumps(m.get("data"))))


@MUTANTS.decoding(18, "JSON-DES-006 JSON-DES-005")
def json_strings_are_parsed_again(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A JSON string that holds JSON text is read as what that text says."""
    data = _members(message).get("data", "")
    inner = json.loads(data) if data.startswith('"') else None
    events = decode(message)
    if not isinstance(inner, str) or json_event.parse(inner.encode()) is None:
        return events
    return [WireEvent(event.attributes, inner.encode()) for event in events]


@MUTANTS.decoding(19, "JSON-DES-005 JSON-DES-009 JSON-SER-014")
def json_strings_lose_their_quotes(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A JSON string is handed on as its bare text."""
    data = _members(message).get("data", "")
    events = decode(message)
    if not data.startswith('"'):
        return events
    return [WireEvent(event.attributes, json.loads(data).encode()) for event in events]


@MUTANTS.decoding(20, "JSON-DES-010 JSON-DES-009 CORE-DCT-002")
def implied_json_stays_implied(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Data without a content type is not said to be JSON where nothing implies it."""
    members = _members(message)
    events = decode(message)
    if "data" not in members or "datacontenttype" in members:
        return events
    return [changed(event, datacontenttype=None) for event in events]


@MUTANTS.decoding(21, "JSON-DES-003 JSON-SER-004")
def base64_data_is_octets(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Base64 data without a content type is said to be application/octet-stream."""
    return _typed(decode, message, "application/octet-stream")


@MUTANTS.decoding(21, "JSON-DES-003 JSON-SER-004")
def base64_data_is_json(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Base64 data without a content type is said to be JSON."""
    return _typed(decode, message, "application/json")


def _typed(decode: Decode, message: Message, content_type: str) -> Sequence[WireEvent]:
    members = _members(message)
    events = decode(message)
    if "data_base64" not in members or "datacontenttype" in members:
        return events
    return [changed(event, datacontenttype=content_type) for event in events]


@MUTANTS.decoding(22, "JSON-SER-015")
def null_data_is_absent(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Data that is null is read as none."""
    events = decode(message)
    if _members(message).get("data") != "null":
        return events
    return [WireEvent(event.attributes) for event in events]


@MUTANTS.encoding(22, "JSON-SER-015 CORE-DATA-001 CORE-MODE-001 JSON-ENV-003")
def absent_data_is_null(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """An event without data is written with data that is null."""
    message = encode(event, mode)
    return _sent(message, lambda m: {"data": "null", **m} if event.data is None else m)


@MUTANTS.decoding(23, "JSON-SER-014")
def false_data_is_absent_when_read(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Data that is 0, false, or an empty string, list or map is read as none."""
    data = _members(message).get("data", "1")
    events = decode(message)
    return events if json.loads(data) else [WireEvent(event.attributes) for event in events]


@MUTANTS.encoding(23, "JSON-SER-008 CORE-DATA-001")
def false_data_is_absent_when_written(
    encode: Encode, event: WireEvent, mode: ContentMode
) -> Message:
    """Data that is 0, false, or an empty string, list or map is not written."""
    if (event.data or b"") in {b"0", b"false", b'""', b"[]", b"{}"}:
        return encode(WireEvent(event.attributes), mode)
    return encode(event, mode)


@MUTANTS.decoding(24, "JSON-NULL-002", crash=TypeError)
def null_attributes_crash(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """An attribute that is null is an error of the language."""
    for name, text in _members(message).items():
        if text == "null" and name != "data":
            raise TypeError("argument of type 'NoneType' is not iterable")
    return decode(message)


@MUTANTS.decoding(24, "JSON-NULL-002")
def null_attributes_are_text(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """An extension that is null is read as the text null."""
    null = [name for name, text in _members(message).items() if text == "null" and name == "ext"]
    return [changed(event, **dict.fromkeys(null, "null")) for event in decode(message)]


@MUTANTS.decoding(25, "JSON-SER-013")
def data_wins_over_base64(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Of data and data_base64, the first is taken and the second ignored."""
    return _one_of_both(decode, message, "data_base64")


@MUTANTS.decoding(25, "JSON-SER-013")
def base64_wins_over_data(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Of data and data_base64, the second is taken and the first ignored."""
    return _one_of_both(decode, message, "data")


def _one_of_both(decode: Decode, message: Message, ignored: str) -> Sequence[WireEvent]:
    members = _members(message)
    if {"data", "data_base64"} <= members.keys():
        message = each_member(message, lambda m: {n: v for n, v in m.items() if n != ignored})
    return decode(message)


@MUTANTS.patching(26, "JSON-DUP-001")
def the_last_of_two_members_wins(patch: Patch) -> None:
    """Of two members of one name, the last is taken."""
    patch(bindings.json_format, "_check_each_once", lambda *_: None)


@MUTANTS.patching(27, "JSON-SER-010")
def nan_is_written(patch: Patch) -> None:
    """Data that is NaN or Infinity is written as JSON."""
    right = bindings.json_format.is_json
    words = {b"NaN", b"Infinity", b"-Infinity"}
    patch.everywhere(bindings.json_format, "is_json", lambda data: data in words or right(data))


@MUTANTS.decoding(27, "JSON-ENV-005")
def nan_is_read(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """NaN and Infinity are read as JSON."""
    payload = message.payload or b""
    for word in (b"-Infinity", b"Infinity", b"NaN"):
        payload = payload.replace(b":" + word, b":1")
    return decode(replace(message, payload=payload))


@MUTANTS.decoding(28, "JSON-DES-011")
def numbers_are_floats(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Numbers in data become floats of 64 bits."""
    return [WireEvent(event.attributes, _through_floats(event)) for event in decode(message)]


def _through_floats(event: WireEvent) -> bytes | None:
    data = event.data
    if data is None or not json_event.is_json_type(event.attributes.get("datacontenttype", "")):
        return data
    return re.sub(rb"\b\d{16,}\b", lambda number: b"%d" % int(float(number[0])), data)


@MUTANTS.patching(29, "JSON-DES-001")
def sloppy_base64(patch: Patch) -> None:
    """Characters that are no Base64 are skipped."""
    _base64(patch, base64.b64decode)


@MUTANTS.patching(29, "JSON-DES-001")
def base64_with_spare_bits(patch: Patch) -> None:
    """Bits of Base64 that no byte needs may be anything."""
    _base64(patch, lambda text: base64.b64decode(text, validate=True))


@MUTANTS.patching(29, "JSON-DES-001")
def base64_without_padding(patch: Patch) -> None:
    """The padding of Base64 may be missing."""
    right = bindings.json_format.decode_base64
    _base64(patch, lambda text: right("", text + "=" * (-len(text.rstrip("=")) % 4)))


def _base64(patch: Patch, decode: Any) -> None:
    right = bindings.json_format.decode_base64

    def wrong(name: str, text: str) -> bytes:
        try:
            return bytes(decode(text))
        except ValueError:
            return right(name, text)

    patch.everywhere(bindings.json_format, "decode_base64", wrong)


@MUTANTS.encoding(29, "JSON-SER-002")
def base64_in_the_alphabet_of_urls(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """Binary data is written in the Base64 of URLs."""
    text = base64.urlsafe_b64encode(event.data or b"").decode()
    return _sent(encode(event, mode), lambda m: _rewritten(m, "data_base64", f'"{text}"'))


@MUTANTS.patching(30, "JSON-SER-011 JSON-SER-012")
def every_charset_is_utf_8_when_written(patch: Patch) -> None:
    """Text of any charset is written as UTF-8, with replacements for what is none."""
    right = bindings.json_format.decode_text

    def wrong(data: bytes, content_type: str) -> str | None:
        is_text = content_type.startswith("text/") or right(data, content_type) is not None
        return data.decode("utf-8", "replace") if is_text else None

    patch.everywhere(bindings.json_format, "decode_text", wrong)


@MUTANTS.patching(30, "JSON-DES-007")
def every_charset_is_utf_8_when_read(patch: Patch) -> None:
    """A string becomes UTF-8, whatever charset its content type names."""
    patch.everywhere(bindings.json_format, "encode_text", lambda text, _: text.encode())


@MUTANTS.patching(31, "JSON-ENV-003 JSON-DES-011", only="untouched")
def structured_events_are_written_anew(patch: Patch) -> None:
    """An envelope that is handed on unchanged is written anew all the same."""
    right = bindings.json_format.encode_event

    def anew(event: Event) -> bytes:
        return right(event.replace(data=event.data))

    patch.everywhere(bindings.json_format, "encode_event", anew)


@MUTANTS.decoding(32, "JSON-ENV-005")
def byte_order_marks_are_skipped(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A byte order mark before the envelope is skipped."""
    return decode(replace(message, payload=(message.payload or b"").removeprefix(b"\xef\xbb\xbf")))


@MUTANTS.decoding(32, "JSON-ENV-005")
def other_encodings_are_guessed(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """An envelope in UTF-16 is read."""

    def guess(message: Message) -> Sequence[WireEvent]:
        payload = message.payload or b""
        try:
            text = payload.decode(json.detect_encoding(payload))
        except UnicodeError as error:
            raise Refused(str(error)) from error
        return decode(replace(message, payload=text.encode("utf-8", "replace")))

    return or_instead(decode, message, guess)


@MUTANTS.encoding(32, "JSON-ENV-005 CORE-GEN-002")
def a_byte_order_mark_is_written(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """An envelope is written with a byte order mark."""
    message = encode(event, mode)
    if not is_envelope(message):
        return message
    return replace(message, payload=b"\xef\xbb\xbf" + (message.payload or b""))


@MUTANTS.encoding("envelope", "JSON-ENV-002")
def an_envelope_is_called_json(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """An envelope is sent as application/json."""
    message = encode(event, mode)
    return (
        replace(message, content_type="application/json")
        if message.content_type.startswith("application/cloudevents+json")
        else message
    )


@MUTANTS.encoding("envelope", "JSON-ATTR-001 JSON-ENV-003")
def extensions_in_an_object(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """Extensions are written in a member of their own, as versions before 1.0 had it."""

    def nested(members: Members) -> Members:
        known = bindings.event.CORE_ATTRIBUTES | {"data", "data_base64"}
        inner = ",".join(f'"{n}":{v}' for n, v in members.items() if n not in known)
        outer = {name: value for name, value in members.items() if name in known}
        return {**outer, "extensions": f"{{{inner}}}"} if inner else outer

    return _sent(encode(event, mode), nested)


@MUTANTS.encoding("types", "JSON-TYPE-002 JSON-TYPE-001")
def integers_as_strings(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """An Integer is written as a string."""
    numbers = {n: str(v) for n, v in event.attributes.items() if type(v) is int}
    message = encode(event, mode)
    return _sent(message, lambda m: {**m, **{n: f'"{v}"' for n, v in numbers.items()}})


@MUTANTS.encoding("types", "JSON-TYPE-002")
def integers_with_a_fraction(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """An Integer is written as a number with a fraction."""
    numbers = {n: str(v) for n, v in event.attributes.items() if type(v) is int}
    message = encode(event, mode)
    return _sent(message, lambda m: {**m, **{n: f"{v}.0" for n, v in numbers.items()}})


@MUTANTS.decoding("types", "JSON-TYPE-004 JSON-TYPE-001")
def integers_are_read_as_strings(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """An Integer is read as a String."""
    return [
        changed(event, **{n: str(v) for n, v in event.attributes.items() if type(v) is int})
        for event in decode(message)
    ]
