"""Mistakes in HTTP's three modes and in what stands in which header."""

import json
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from bindings.binding import BATCH_MEDIA_TYPE, EVENT_MEDIA_TYPE, ContentMode, Message
from bindings.event import CORE_ATTRIBUTES
from conformance.forms import Refused, WireEvent
from conformance.mutants.edits import changed, each_header, is_structured, or_instead
from conformance.mutants.mutant import Catalogue, Decode, Encode
from conformance.reference import headers

MUTANTS = Catalogue("http")


@MUTANTS.decoding(34, "HTTP-DET-001 HTTP-STR-003")
def headers_tell_the_mode(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A structured message with copies in headers is read as a binary one."""
    if is_structured(message) and any(name.lower() == "ce-id" for name, _ in message.headers):
        binary = decode(replace(message, content_type="application/json"))
        return [changed(event, datacontenttype=message.content_type) for event in binary]
    return decode(message)


@MUTANTS.decoding(34, "HTTP-STR-004")
def headers_complete_an_envelope(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """What an envelope lacks is taken from headers."""

    def complete(message: Message) -> Sequence[WireEvent]:
        try:
            members = json.loads(message.payload or b"")
        except ValueError as error:
            raise Refused(str(error)) from error
        if not is_structured(message) or not isinstance(members, dict):
            raise Refused("no envelope")
        for name, value in message.headers:
            members.setdefault(name.removeprefix("ce-"), value)
        return decode(replace(message, payload=json.dumps(members).encode(), headers=()))

    return or_instead(decode, message, complete)


@MUTANTS.decoding(35, "HTTP-DET-003")
def any_json_object_is_searched(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """JSON that looks like an envelope is one, whatever it is called."""
    return or_instead(decode, message, lambda m: decode(_as_envelope(m)))


def _as_envelope(message: Message) -> Message:
    if message.content_type != "application/json":
        raise Refused("no JSON")
    return replace(message, content_type=EVENT_MEDIA_TYPE, headers=())


@MUTANTS.decoding(36, "HTTP-DET-002", crash=AttributeError)
def a_batch_crashes(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A batch is parsed as one event, and its list has no members."""
    if message.content_type.lower().startswith(BATCH_MEDIA_TYPE):
        raise AttributeError("'list' object has no attribute 'get'")
    return decode(message)


@MUTANTS.decoding(36, "HTTP-DET-002 HTTP-BTC-003")
def only_the_first_of_a_batch(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Of a batch, the first event is read."""
    return decode(message)[:1]


@MUTANTS.decoding(36, "CORE-BATCH-002 JSON-BAT-004")
def an_empty_batch_is_refused(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A batch without events is refused."""
    events = decode(message)
    if not events:
        raise Refused("no events")
    return events


@MUTANTS.decoding(36, "JSON-BAT-001 HTTP-BTC-004")
def a_batch_without_its_bad_events(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Events of a batch that are none are left out, and nobody is told."""

    def without(message: Message) -> Sequence[WireEvent]:
        found: list[WireEvent] = []
        for item in _batch(message):
            try:
                found += decode(Message(json.dumps(item).encode(), EVENT_MEDIA_TYPE))
            except Refused:
                continue
        return found

    return or_instead(decode, message, without)


def _batch(message: Message) -> list[Any]:
    try:
        items = json.loads(message.payload or b"")
    except ValueError as error:
        raise Refused(str(error)) from error
    if not isinstance(items, list) or not is_structured(message):
        raise Refused("no batch")
    return items


@MUTANTS.decoding(36, "HTTP-DET-001 CORE-DCT-004 HTTP-DET-002")
def content_types_by_case(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A content type in capitals is no event format."""
    if is_structured(message) and not message.content_type.startswith("application/cloudevents"):
        raise Refused("no format")
    return decode(message)


@MUTANTS.decoding(37, "HTTP-DET-004")
def formats_are_told_by_a_prefix(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """What begins with application/cloudevents is JSON."""
    if is_structured(message) and "batch" not in message.content_type.lower():
        return decode(replace(message, content_type=EVENT_MEDIA_TYPE))
    return decode(message)


@MUTANTS.decoding(37, "HTTP-DET-004 HTTP-DET-005")
def unknown_formats_are_binary(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A message in a format that is not known is read as a binary one."""

    def binary(message: Message) -> Sequence[WireEvent]:
        if not is_structured(message) or message.content_type.lower().endswith("json"):
            raise Refused("no event")
        events = decode(replace(message, content_type="a/b"))
        return [changed(event, datacontenttype=message.content_type) for event in events]

    return or_instead(decode, message, binary)


@MUTANTS.encoding(44, "HTTP-CT-004")
def the_content_type_is_encoded(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """Content-Type is percent-encoded like the values of ce- headers."""
    message = encode(event, mode)
    return replace(message, content_type=headers.escape(message.content_type))


@MUTANTS.encoding(44, "HTTP-CT-002 HTTP-CT-001")
def the_content_type_is_sent_twice(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """Beside Content-Type there is a ce-datacontenttype."""
    message = encode(event, mode)
    if is_structured(message) or not message.content_type:
        return message
    more = ("ce-datacontenttype", headers.escape(message.content_type))
    return replace(message, headers=[*message.headers, more])


@MUTANTS.decoding(44, "HTTP-CT-002")
def a_content_type_among_the_attributes(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A ce-datacontenttype is taken, and wins over Content-Type."""
    found = dict(message.headers).get("ce-datacontenttype", message.content_type)
    rest = each_header(message, lambda n, v: None if n == "ce-datacontenttype" else (n, v))
    return decode(rest if is_structured(message) else replace(rest, content_type=found))


@MUTANTS.decoding(45, "HTTP-NAM-004 CORE-ATTR-003")
def the_last_of_two_headers_wins(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Of two headers of one name, the last is taken."""
    last = {name.lower(): (name, value) for name, value in message.headers}
    return decode(replace(message, headers=list(last.values())))


@MUTANTS.decoding(45, "HTTP-NAM-004 CORE-ATTR-003")
def two_headers_are_joined(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Two headers of one name are read as one with a comma."""
    joined: dict[str, str] = {}
    for name, value in message.headers:
        key = name.lower()
        joined[key] = f"{joined[key]}, {value}" if key in joined else value
    return decode(replace(message, headers=list(joined.items())))


@MUTANTS.decoding(46, "HTTP-NAM-003 CORE-NAME-001")
def hyphens_in_names_are_dropped(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A header ce-my-ext is the attribute myext."""
    return decode(each_header(message, lambda n, v: (n[:3] + n[3:].replace("-", ""), v)))


@MUTANTS.decoding(46, "HTTP-NAM-002")
def header_names_by_case(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Only headers in small letters are read."""
    return decode(each_header(message, lambda n, v: (n, v) if n == n.lower() else None))


@MUTANTS.encoding(47, "HTTP-CT-003")
def no_content_type_is_octets(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """A message without a content type is sent as application/octet-stream."""
    message = encode(event, mode)
    return replace(message, content_type=message.content_type or "application/octet-stream")


@MUTANTS.decoding(47, "HTTP-CT-003 CORE-DCT-003")
def no_content_type_is_json(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A binary message without a content type is read as JSON."""
    return decode(replace(message, content_type=message.content_type or "application/json"))


@MUTANTS.encoding(48, "HTTP-CT-005")
def events_in_events_are_binary(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """An event whose data is an event is sent in binary mode."""
    nested = event.attributes.get("datacontenttype", "")
    if mode != "binary" or not nested.startswith("application/cloudevents"):
        return encode(event, mode)
    return replace(encode(changed(event, datacontenttype="a/b"), mode), content_type=nested)


@MUTANTS.encoding(49, "HTTP-BAT-001 JSON-BAT-003")
def an_event_is_sent_as_a_batch(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """A single event is sent as a batch of one."""
    message = encode(event, mode)
    if message.content_type != EVENT_MEDIA_TYPE:
        return message
    return Message(b"[" + (message.payload or b"") + b"]", BATCH_MEDIA_TYPE)


@MUTANTS.encoding("http", "HTTP-NAM-001")
def a_prefix_for_foreign_headers(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """Extensions are sent in headers with the prefix x-ce-."""
    core = {f"ce-{name}" for name in CORE_ATTRIBUTES}
    return each_header(encode(event, mode), lambda n, v: (n if n in core else f"x-{n}", v))


@MUTANTS.decoding("http", "HTTP-MET-002 HTTP-MET-003 CORE-EXT-006")
def headers_of_other_purposes_are_attributes(
    decode: Decode, message: Message
) -> Sequence[WireEvent]:
    """A plain header traceparent is the attribute."""
    return [
        changed(event, **{n: v for n, v in message.headers if n == "traceparent"})
        for event in decode(message)
    ]


@MUTANTS.encoding("http", "HTTP-STR-001")
def a_charset_and_no_format(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """An envelope is sent as application/cloudevents, without its format."""
    message = encode(event, mode)
    return replace(
        message, content_type=message.content_type.replace("cloudevents+json", "cloudevents")
    )
