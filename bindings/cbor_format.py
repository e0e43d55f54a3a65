"""The CBOR event format (cbor-format.md, a working draft of 1.0.3), in both directions.

An event is a map with text keys. Tag 0 on a time and tag 32 on a URI are accepted and taken off,
other tags (tag 1 among them), floats and integers of more than 32 bits are no attribute values.

An `Event` holds the bytes of its data, so each kind of item has a rule:

| item | content type | data |
|---|---|---|
| byte string | any, or none | those bytes, never decoded again; no content type is invented |
| any other | none | the exact bytes of the item, and the content type is `application/cbor` |
| any other | `*/cbor`, `*/*+cbor` | the exact bytes of the item |
| text | any other | the text in the charset of the content type; JSON if that is JSON |
| any other | JSON | the equivalent JSON value |
| any other | any other | the exact bytes of the item |

The way back takes the first row that restores the same bytes, beginning with text and embedded
items. What is written is deterministic CBOR, but for an embedded item, which stays as it is.
"""

import json
import math
import re
from typing import Final

import msgspec

from bindings.errors import InvalidEventError, excerpt
from bindings.event import (
    AttributeValue,
    Event,
    event_from_attributes,
    is_json_type,
    is_valid_name,
)
from bindings.json_format import decode_text, encode_text, is_json
from bindings.wire import cbor

MEDIA_TYPE: Final = "application/cloudevents+cbor"
CBOR_TYPE: Final = "application/cbor"

_CBOR_TYPE = re.compile(r"[^/;]+/(?:[^/;]+\+)?cbor[ \t]*(?:;.*)?", re.IGNORECASE | re.DOTALL)
_ENCODER: Final = msgspec.json.Encoder()
_TIME_TAG: Final = 0
_URI_TAG: Final = 32
_URI_ATTRIBUTES: Final = frozenset({"source", "dataschema"})
_TEXT_ATTRIBUTES: Final = frozenset({"specversion", "id", "type", "subject", "datacontenttype"})


def decode_event(payload: bytes) -> Event:
    """Decode one event.

    Raises:
        InvalidEventError: the payload is no CBOR map with text keys that is a valid CloudEvent.
    """
    attributes: dict[str, AttributeValue] = {}
    content: tuple[cbor.Value, bytes] | None = None
    for key, value, encoded in read_members(read_item(payload)):
        name = text_key(key)
        if name == "data":
            content = value, encoded
        elif (attribute := read_attribute(name, value)) is not None:
            attributes[name] = attribute
    data = None if content is None else read_data(attributes, *content)
    return event_from_attributes(attributes, data)


def encode_event(event: Event) -> bytes:
    """Encode one event; `time` is tagged, as the schema of the format demands."""
    members: dict[str, cbor.Writable] = dict(event.attributes())
    if event.time is not None:
        members["time"] = cbor.Tagged(_TIME_TAG, event.time)
    if event.data is not None:
        members["data"] = _item(event.data, event.datacontenttype)
    return cbor.encode(members)


def read_item(payload: bytes) -> cbor.Value:
    """Return the item that a payload is.

    Raises:
        InvalidEventError: it is none.
    """
    try:
        return cbor.decode(payload)
    except cbor.CborError as error:
        raise malformed(error) from None


def malformed(error: cbor.CborError) -> InvalidEventError:
    """Return what an error in CBOR means for an event."""
    return InvalidEventError(
        str(error), reason="duplicate_attribute" if error.is_duplicate else "cbor"
    )


def read_members(item: cbor.Value) -> cbor.Map:
    """Return the entries of what should be an event.

    Raises:
        InvalidEventError: it is no map.
    """
    if not isinstance(item, cbor.Map):
        raise InvalidEventError("an event is a CBOR map", reason="cbor")
    return item


def text_key(key: cbor.Value) -> str:
    """Return a key that names an attribute.

    Raises:
        InvalidEventError: it is no text.
    """
    if isinstance(key, str):
        return key
    raise InvalidEventError(
        f"the key {excerpt(key)} is no text", attribute=excerpt(key)[:50], reason="attribute_name"
    )


def read_attribute(name: str, value: cbor.Value) -> AttributeValue | None:
    """Return the value of an attribute, not yet checked by its type; None where it is absent.

    Raises:
        InvalidEventError: an item that is no attribute value.
    """
    if isinstance(value, str | int | bytes):  # and bool
        return value
    if value is None:
        if not is_valid_name(name):
            raise InvalidEventError(
                f"{excerpt(name)} is no attribute name",
                attribute=name[:50],
                reason="attribute_name",
            )
        return None
    if isinstance(value, cbor.Tagged) and isinstance(value.value, str):
        if value.number == _TIME_TAG and name not in _URI_ATTRIBUTES | _TEXT_ATTRIBUTES:
            return value.value
        if value.number == _URI_TAG and name not in _TEXT_ATTRIBUTES | {"time"}:
            return value.value
    raise InvalidEventError(
        f"{excerpt(name[:50])} must be text, a boolean, a 32-bit integer or bytes, "
        f"not {excerpt(value)}",
        attribute=name[:50],
        reason="attribute_type",
    )


def read_data(
    attributes: dict[str, AttributeValue],
    value: cbor.Value,
    encoded: bytes,
    *,
    text_is_json: bool = True,
) -> bytes:
    """Return the bytes of an event's data; its content type is added where an item implies it.

    Args:
        attributes: the event's attributes.
        value: the item.
        encoded: its exact bytes.
        text_is_json: whether text under a JSON type is the JSON itself, and not a JSON string.

    Raises:
        InvalidEventError: the content type can't hold it.
    """
    if isinstance(value, bytes):
        return value
    content_type = attributes.setdefault("datacontenttype", CBOR_TYPE)
    # What is no text is refused when the event is made.
    if not isinstance(content_type, str) or is_cbor_type(content_type):
        return encoded
    if is_json_type(content_type):
        if not isinstance(value, str) or not text_is_json:
            return _encode_json(_json(value))
        data = value.encode()
        if not is_json(data):
            raise InvalidEventError("the text in data is no JSON", reason="json")
        return data
    return encode_text(value, content_type) if isinstance(value, str) else encoded


def is_cbor_type(media_type: str) -> bool:
    """Whether a media type is CBOR: `*/cbor` or `*/*+cbor`, parameters aside (section 3.1.1)."""
    return _CBOR_TYPE.fullmatch(media_type) is not None


def _json(value: cbor.Value) -> object:
    """Return the same value as the types of JSON."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, cbor.Map) and all(isinstance(key, str) for key, _, _ in value):
        return {key: _json(item) for key, item, _ in value}
    if isinstance(value, list):
        return [_json(item) for item in value]
    raise InvalidEventError("data is JSON by its type, and JSON has no such value", reason="json")


def _encode_json(value: object) -> bytes:
    try:
        return _ENCODER.encode(value)
    except OverflowError:  # CBOR's negative integers have a bit more than msgspec's
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _item(data: bytes, content_type: str | None) -> cbor.Writable:
    """Return the item that a reader makes the same bytes of."""
    if content_type is None:
        return data
    if is_cbor_type(content_type):
        try:
            value = cbor.decode(data, max_depth=cbor.MAX_DEPTH - 1)
        except cbor.CborError:
            return data
        # A byte string would be taken for the data itself.
        return data if isinstance(value, bytes) else cbor.Encoded(data)
    if is_json_type(content_type):
        return data.decode() if is_json(data) else data
    text = decode_text(data, content_type)
    return text if text is not None and _is_utf8(text) else data


def _is_utf8(text: str) -> bool:
    """Whether UTF-8 can hold a text; some charsets bring forth lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
