"""The CBOR event format (cbor-format.md): one event to bytes and back, with a small codec."""

import math
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from conformance.forms import WireEvent
from conformance.reference.headers import Misread
from conformance.reference.json_event import charset, is_json_type, parse

_CBOR_TYPE = re.compile(r"[^/;]+/(?:[^/;]+\+)?cbor[ \t]*(?:;.*)?", re.IGNORECASE | re.DOTALL)
_SIMPLE: Final[dict[int, Any]] = {20: False, 21: True, 22: None}


class Item(bytes):
    """An item that is encoded already."""

    __slots__ = ()


class Tag(NamedTuple):
    """A tagged item."""

    number: int
    value: Any


def write(event: WireEvent, *, implied: bool = False) -> bytes:
    """Return the event as a map; `implied` writes data as an item of no content type."""
    members: dict[str, Any] = dict(event.attributes)
    if event.data is not None:
        content_type = event.attributes.get("datacontenttype")
        members["data"] = Item(event.data) if implied else _data(event.data, content_type)
    return item(members)


def _data(data: bytes, content_type: str | None) -> Any:
    if content_type is None:
        return data
    if is_cbor_type(content_type):
        return Item(data) if is_item(data) else data
    is_text = content_type.lower().startswith("text/")
    if is_text or (is_json_type(content_type) and parse(data) is not None):
        try:
            return data.decode(charset(content_type))
        except UnicodeError:
            pass
    return data


def read(payload: bytes) -> WireEvent:
    """Return the event that a map says; an item that is no bytes makes CBOR explicit.

    Raises:
        Misread: it is no such map.
    """
    found = members(payload)
    data: bytes | None = None
    encoded = found.pop("data", None)
    attributes = {name: _attribute(value) for name, (value, _) in found.items()}
    attributes = {name: value for name, value in attributes.items() if value is not None}
    if encoded is not None:
        value, raw = encoded
        if isinstance(value, bytes):
            data = value
        else:
            content_type = attributes.setdefault("datacontenttype", "application/cbor")
            is_text = isinstance(value, str) and not is_cbor_type(content_type)
            data = value.encode(charset(content_type)) if is_text else raw
    return WireEvent(attributes, data)


def _attribute(value: Any) -> Any:
    if isinstance(value, Tag) and value.number in {0, 32}:
        return value.value
    if isinstance(value, str | int | bytes | None):
        return value
    raise Misread(f"no attribute value: {value!r}")


def is_cbor_type(content_type: str) -> bool:
    """Whether data of a media type is CBOR (cbor-format.md 3.1.1)."""
    return _CBOR_TYPE.fullmatch(content_type) is not None


def is_item(data: bytes) -> bool:
    """Whether bytes are exactly one item."""
    try:
        return _read(data, 0)[1] == len(data)
    except Misread:
        return False


def item(value: Any) -> bytes:
    """Return an item of a value."""
    if isinstance(value, Item):
        return bytes(value)
    if isinstance(value, bool | None):
        return {False: b"\xf4", True: b"\xf5", None: b"\xf6"}[value]
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        return _head(3, len(text)) + text
    if isinstance(value, Mapping):
        entries = b"".join(item(key) + item(entry) for key, entry in value.items())
        return _head(5, len(value)) + entries
    raise TypeError(f"not written here: {value!r}")


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    size = next(size for size in (1, 2, 4, 8) if number < 1 << 8 * size)
    return bytes([major << 5 | 23 + size.bit_length()]) + number.to_bytes(size, "big")


def members(payload: bytes) -> dict[str, tuple[Any, bytes]]:
    """Return the entries of a map with text keys: each value and the bytes it stands in.

    Raises:
        Misread: it is none, or a key stands there twice.
    """
    if not payload or payload[0] >> 5 != 5:
        raise Misread("no CBOR map")
    count, place = _number(payload, 0)
    found: dict[str, tuple[Any, bytes]] = {}
    for _ in range(count):
        key, start = _read(payload, place)
        value, place = _read(payload, start)
        if not isinstance(key, str) or key in found:
            raise Misread(f"no key: {key!r}")
        found[key] = value, payload[start:place]
    if place != len(payload):
        raise Misread("bytes follow the map")
    return found


def _read(data: bytes, place: int) -> tuple[Any, int]:
    number, end = _number(data, place)
    major = data[place] >> 5
    value: Any
    if major < 2:
        value = number if major == 0 else -1 - number
    elif major < 4:
        value, end = _string(data, major, end, number)
    elif major < 6:
        value, end = _sequence(data, end, number if major == 4 else 2 * number)
    elif major == 6:
        value, end = _read(data, end)
        value = Tag(number, value)
    else:  # a float or a simple value that no attribute is
        value = _SIMPLE.get(data[place] & 31, math.nan)
    return value, end


def _number(data: bytes, place: int) -> tuple[int, int]:
    if place >= len(data):
        raise Misread("the item has no end")
    low = data[place] & 31
    if low < 24:
        return low, place + 1
    size = 1 << low - 24
    if low > 27 or place + 1 + size > len(data):
        raise Misread("no item, or one of indefinite length, which none has to write")
    return int.from_bytes(data[place + 1 : place + 1 + size], "big"), place + 1 + size


def _string(data: bytes, major: int, place: int, length: int) -> tuple[Any, int]:
    end = place + length
    if end > len(data):
        raise Misread("a string has no end")
    raw = data[place:end]
    try:
        return (raw if major == 2 else raw.decode("utf-8")), end
    except UnicodeDecodeError:
        raise Misread("text that is no UTF-8") from None


def _sequence(data: bytes, place: int, count: int) -> tuple[list[Any], int]:
    found = []
    if count > len(data):
        raise Misread("a length beyond the bytes")
    for _ in range(count):
        value, place = _read(data, place)
        found.append(value)
    return found, place
