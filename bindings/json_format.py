"""The JSON event format (json-format.md 1.0.2), single events and batches, in both directions.

`data` is never parsed: JSON comes in and goes out as the slice of bytes it was on the wire, so that
no number, key order or escape changes. What is strict here is strict because two readers of one
message must not see two events: duplicate members, `data` beside `data_base64`, sloppy Base64,
byte order marks and lone surrogates are refused.

Three choices that the specification leaves open:

- A string of non-JSON `data` becomes bytes in the charset of the media type, UTF-8 by default.
- Non-string `data` under a media type that is not JSON is kept as its JSON text.
- JSON data that is no well-formed UTF-8 JSON is written as `data_base64`: the media type stays, the
  bytes stay, and the envelope stays JSON.
"""

import binascii
import codecs
import re
from functools import lru_cache
from typing import Final

import msgspec

from bindings.errors import InvalidEventError, NotAnEventError, TooManyEventsError, excerpt
from bindings.event import (
    AttributeValue,
    Event,
    event_from_attributes,
    is_json_type,
    is_valid_name,
)

_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ELEMENTS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_STRING: Final = msgspec.json.Decoder(str)
_STRINGS: Final = msgspec.json.Decoder(dict[str, str])
_ANY: Final = msgspec.json.Decoder(msgspec.Raw)
_ENCODER: Final = msgspec.json.Encoder()
_BLANKS: Final = b" \t\r\n"
_BRACE: Final = ord("}")
# The JSON grammar has already seen to leading zeros and signs.
_INTEGER = re.compile(r"-?[0-9]{1,10}")
_TEXT_TYPE = re.compile(r"text/.*|[^/;]+/(?:[^/;]+\+)?xml[ \t]*(?:;.*)?", re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(r';[ \t]*([^=;" \t]+)=(?:"((?:[^"\\]|\\.)*)"|([^;" \t]*))')
# Python's names for what is no charset.
_NO_CHARSETS: Final = frozenset(
    {"idna", "punycode", "raw_unicode_escape", "undefined", "unicode_escape"}
)
_LITERALS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}


def decode_event(payload: bytes) -> Event:
    """Decode one event; its `encoded` is `payload`.

    Raises:
        InvalidEventError: the payload is no JSON object that is a valid CloudEvent.
    """
    _check_utf8(payload)
    return _usual_event(payload) or _event(_members(payload), payload)


def decode_bare_event(payload: bytes) -> Event:
    """Decode an event that nothing but its payload announces (NATS without headers, MQTT 3.1.1).

    Raises:
        NotAnEventError: the payload is no JSON object with a `specversion` member.
        InvalidEventError: it is one, and breaks a rule.
    """
    if b'"specversion"' in payload:
        try:
            members = _MEMBERS.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            members = {}
        if "specversion" in members:
            _check_utf8(payload)
            _check_each_once(members, payload)
            return _event(members, payload)
    raise NotAnEventError("the payload is no JSON object with a specversion")


def decode_batch(payload: bytes, *, max_events: int = 0) -> list[Event]:
    """Decode a batch, which may be empty; one invalid event makes the whole batch invalid.

    Args:
        payload: the batch.
        max_events: the most that are taken; 0 is no limit.

    Raises:
        InvalidEventError: the payload is no JSON array of valid CloudEvents.
        TooManyEventsError: it holds more than `max_events`, which have not been looked at.
    """
    _check_utf8(payload)
    try:
        elements = _ELEMENTS.decode(payload)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _malformed(error) from None
    if 0 < max_events < len(elements):
        raise TooManyEventsError(max_events)
    events: list[Event] = []
    for element in elements:
        try:
            events.append(decode_event(bytes(element)))
        except InvalidEventError as error:
            text = f"event {len(events)} of the batch: {error}"
            raise InvalidEventError(text, attribute=error.attribute, reason=error.reason) from None
    return events


class _Attributes(
    msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="specversion", tag="1.0"
):
    """The attributes that every event may have, as the encoder takes them: in their order.

    With the extension that events have most often; others are encoded on their own.
    """

    id: str
    source: str
    type: str
    datacontenttype: str | None = None
    dataschema: str | None = None
    subject: str | None = None
    time: str | None = None
    partitionkey: AttributeValue | None = None


def encode_event(event: Event) -> bytes:
    """Encode one event; bytes it was decoded from are returned as they were."""
    if event.encoded is not None:
        return event.encoded
    content_type, data, extensions = event.datacontenttype, event.data, event.extensions
    only, more = None, b""
    if extensions:
        if len(extensions) == 1:
            only = extensions.get("partitionkey")
        if only is None:
            more = _ENCODER.encode(extensions if type(extensions) is dict else dict(extensions))
    head = _ENCODER.encode(
        _Attributes(
            event.id,
            event.source,
            event.type,
            content_type,
            event.dataschema,
            event.subject,
            event.time,
            only,
        )
    )
    if data is None:
        return b"".join((head[:-1], b",", more[1:])) if more else head
    name = b',"data":'
    if content_type is None or not is_json_type(content_type):
        text = decode_text(data, content_type or "")
        if text is None:
            name = b',"data_base64":'
        data = _ENCODER.encode(data if text is None else text)
    elif not is_json(data):
        name, data = b',"data_base64":', _ENCODER.encode(data)
    # One object of pieces, each without the brace towards the next.
    if more:
        return b"".join((head[:-1], b",", more[1:-1], name, data, b"}"))
    return b"".join((head[:-1], name, data, b"}"))


def is_json(data: bytes) -> bool:
    """Whether `data` is well-formed JSON in UTF-8 without a byte order mark."""
    try:
        if not data.isascii():
            data.decode("utf-8")
        _ANY.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def encode_text(text: str, content_type: str) -> bytes:
    """Return `text` in the charset of its media type, UTF-8 if that names none.

    Raises:
        InvalidEventError: the charset is unknown or lacks a character.
    """
    try:
        return text.encode(_codec(content_type))
    except (UnicodeError, LookupError):
        raise InvalidEventError(
            f"data can't be written in the charset of {excerpt(content_type)}", reason="charset"
        ) from None


def decode_text(data: bytes, content_type: str) -> str | None:
    """Return textual data as a string, or None if a reader could not get the same bytes back."""
    codec = _codec(content_type) if _is_text_type(content_type) else ""
    if not codec:
        return None
    try:
        text = data.decode(codec)
        if codec != "utf-8":
            text.encode("utf-8")  # UTF-7 may bring half of a character
        return text if text.encode(codec) == data else None
    except UnicodeError:
        return None


def decode_base64(name: str, text: str) -> bytes:
    """Decode Base64 strictly (RFC 4648 section 4: padding, no other characters, zero spare bits).

    Raises:
        InvalidEventError: `text` is not what an encoder makes of any bytes.
    """
    try:
        data = binascii.a2b_base64(text)
    except ValueError:  # binascii.Error, and characters outside ASCII
        data = b""
    if binascii.b2a_base64(data, newline=False).decode("ascii") != text:
        raise InvalidEventError(
            f"{name} is no Base64: {excerpt(text)}", attribute=name, reason="base64"
        )
    return data


def _check_utf8(payload: bytes) -> None:
    if not payload.isascii():
        try:
            payload.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidEventError(
                f"JSON is not UTF-8 (byte {error.start})", reason="json"
            ) from None


def _malformed(error: Exception) -> InvalidEventError:
    return InvalidEventError(f"not the JSON format of events: {error}", reason="json")


def _members(payload: bytes) -> dict[str, msgspec.Raw]:
    try:
        members = _MEMBERS.decode(payload)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _malformed(error) from None
    _check_each_once(members, payload)
    return members


def _check_each_once(members: dict[str, msgspec.Raw], payload: bytes) -> None:
    # msgspec keeps the last of two equal members; the bytes of the other are then missing in
    # the sum. Only where escapes make names longer have the members to be counted one by one.
    values = b"".join(members.values())
    rest = 1 + 4 * len(members) + len("".join(members))
    if (
        len(payload) - len(values) == rest
        or len(payload.translate(None, _BLANKS)) - len(values.translate(None, _BLANKS)) == rest
    ):
        return
    try:
        count = len(_PAIRS.decode(payload))
    except RecursionError as error:  # one frame deeper than where `members` came from
        raise _malformed(error) from None
    if count != len(members):
        raise InvalidEventError(
            "a member stands in the JSON object twice", reason="duplicate_attribute"
        )


def _usual_event(payload: bytes) -> Event | None:
    """Return the event of an envelope in the usual form, or None to have it read by members.

    That is: attributes that are strings without escapes, and `data` behind them. If all before
    `,"data":` is an object once it is closed, and all behind it but the last brace is a JSON text,
    then the whole is the object of these attributes and this data, and nothing else.
    """
    position = payload.find(b'"data":')
    head = payload[:position].rstrip(_BLANKS)
    if position < 0 or head[-1:] != b"," or payload[-1] != _BRACE or b"\\" in head:
        return None
    content = payload[position + 7 : -1].strip(_BLANKS)
    try:
        attributes = _STRINGS.decode(head[:-1] + b"}")
        _ANY.decode(content)
    except (msgspec.DecodeError, RecursionError):
        return None
    # Each name and value has two quotes; there are more if a member has replaced another.
    if (
        not attributes
        or head.count(b'"') != 4 * len(attributes)
        or "data" in attributes
        or "data_base64" in attributes
    ):
        return None
    content_type = attributes.setdefault("datacontenttype", "application/json")
    if not is_json_type(content_type):
        content = _string_data(content, content_type)
    return event_from_attributes(attributes, content, encoded=payload)


class _Name:
    """A member name that equals no other, so that none replaces another in a dict."""

    __slots__ = ()

    def __init__(self, _name: str) -> None:
        pass


_PAIRS: Final = msgspec.json.Decoder(
    dict[_Name, msgspec.Raw], dec_hook=lambda made, name: made(name)
)


def _event(members: dict[str, msgspec.Raw], payload: bytes) -> Event:
    data = members.pop("data", None)
    data_base64 = members.pop("data_base64", None)
    if data is not None and data_base64 is not None:
        raise InvalidEventError("both data and data_base64 are present", reason="data_twice")
    attributes: dict[str, AttributeValue] = {}
    for name, raw in members.items():
        text = str(raw, "utf-8")
        if text[0] == '"' and "\\" not in text:
            attributes[name] = text[1:-1]
        elif (value := _attribute(name, text)) is not None:
            attributes[name] = value
    content: bytes | None = None
    if data is not None:
        content_type = attributes.setdefault("datacontenttype", "application/json")
        content = bytes(data)
        if not isinstance(content_type, str) or not is_json_type(content_type):
            content = _string_data(content, content_type)
    elif data_base64 is not None:
        content = _binary_data(str(data_base64, "utf-8"))
    return event_from_attributes(attributes, content, encoded=payload)


def _attribute(name: str, text: str) -> AttributeValue | None:
    if text[0] == '"':
        return _STRING.decode(text)
    if text in _LITERALS:
        if text == "null" and not is_valid_name(name):
            raise InvalidEventError(
                f"{excerpt(name)} is no attribute name",
                attribute=name[:50],
                reason="attribute_name",
            )
        return _LITERALS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    raise InvalidEventError(
        f"{excerpt(name[:50])} must be a string, boolean or 32-bit integer, not {excerpt(text)}",
        attribute=name[:50],
        reason="attribute_type",
    )


def _string_data(content: bytes, content_type: AttributeValue) -> bytes:
    if content[:1] != b'"' or not isinstance(content_type, str):
        return content
    return encode_text(_STRING.decode(content), content_type)


def _binary_data(text: str) -> bytes | None:
    if text == "null":
        return None
    if text[0] != '"':
        raise InvalidEventError(
            f"data_base64 must be a string, not {excerpt(text)}", reason="base64"
        )
    return decode_base64("data_base64", _STRING.decode(text))


@lru_cache(maxsize=1024)
def _is_text_type(media_type: str) -> bool:
    return _TEXT_TYPE.fullmatch(media_type) is not None


@lru_cache(maxsize=1024)
def _codec(media_type: str) -> str:
    """Return the codec of a media type's charset, UTF-8 if it names none, "" if it is unknown."""
    for name, quoted, plain in _PARAMETER.findall(media_type):
        if name.lower() == "charset":
            try:
                codec = codecs.lookup(quoted or plain)
            except (LookupError, ValueError):
                return ""
            # The flag tells text from transforms such as base64; CPython has no public name for it.
            is_text = getattr(codec, "_is_text_encoding", True)
            is_charset = is_text and codec.name.replace("-", "_") not in _NO_CHARSETS
            return codec.name if is_charset else ""
    return "utf-8"
