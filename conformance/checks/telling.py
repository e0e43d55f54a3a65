"""Events that show what a gateway loses or invents on the way."""

from collections.abc import Mapping
from typing import Any, Final

from conformance.forms import WireEvent

_BASE: Final[Mapping[str, Any]] = {
    "specversion": "1.0",
    "id": "e1",
    "source": "/conformance",
    "type": "com.example.telling",
}


def _event(data: bytes | None, content_type: str | None, **attributes: Any) -> WireEvent:
    found = {**_BASE, **attributes}
    if content_type is not None:
        found["datacontenttype"] = content_type
    return WireEvent(found, data)


TELLING: Final[Mapping[str, WireEvent]] = {
    "least": _event(None, None),
    "all-attributes": _event(
        b"21.5",
        "text/plain; charset=utf-8",
        subject="line 1/valve 2",
        time="2026-02-28T23:59:59.123456789+05:45",
        dataschema="http://example.com/schema?v=1#x",
        partitionkey="line-1",
        sequence="00000000001",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ),
    "types": _event(
        b"x", "text/plain", anumber=-2147483648, ayes=True, ano=False, bytesvalue=b"\x00\xff\xfe"
    ),
    "unicode": _event(
        "Grüße, 世界 😀".encode(), "text/plain;charset=utf-8", subject="Grüße, 世界 😀 é"
    ),
    "percent": _event(b"100%", "text/plain", subject='100 % of "%20" is %C3%A9 + a\\b'),
    "no-data": _event(None, "application/json"),
    "json": _event(b'{"celsius": 21.5, "unit": "\xc2\xb0C"}', "application/json"),
    "big-numbers": _event(
        b'{"a":12345678901234567890123,"b":1.10,"c":1e400,"d":-0.0}', "application/json"
    ),
    "json-null": _event(b"null", "application/json"),
    "json-text": _event(b'"text"', "application/vnd.example+json"),
    "bytes": _event(bytes(range(256)), "application/octet-stream"),
    "untyped": _event(b"\xff\x00{", None),
    "line-ends": _event(b"a\r\n\r\nb\n", "text/plain"),
    "long-name": _event(b"1", "text/plain", abcdefghijklmnopqrst="20 characters"),
}
"""By name; ids and sources are to be replaced by those of a scene."""


def renamed(event: WireEvent, **attributes: Any) -> WireEvent:
    """Return an event with other attributes."""
    return WireEvent({**event.attributes, **attributes}, event.data)
