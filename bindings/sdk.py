"""The way to and from the official Python SDK's event, for users who hold its type.

Imported when first used: the SDK is an optional dependency. The SDK holds less than `Event` does:
times are cut to microseconds and a leap second to the second before it; JSON data is parsed, and
so its numbers become Python's.
"""

import datetime as dt
import json
import re
from typing import Any

from cloudevents.core.v1.event import CloudEvent

from bindings.errors import InvalidEventError, excerpt
from bindings.event import AttributeValue, Event, event_from_attributes, is_json_type
from bindings.json_format import decode_text, encode_text

_FRACTION = re.compile(r"\.(\d{1,6})\d*")


def to_sdk(event: Event) -> CloudEvent:
    """Return `event` as the SDK's type: JSON data parsed, text as `str`, the rest as bytes."""
    attributes: dict[str, Any] = dict(event.attributes())
    if event.time is not None:
        attributes["time"] = _to_datetime(event.time)
    made = CloudEvent(attributes, _to_data(event))
    if event.time is None:
        made.get_attributes().pop("time")  # the SDK invents one
    return made


def from_sdk(event: CloudEvent) -> Event:
    """Return the SDK's event as ours; parsed data without datacontenttype is `application/json`.

    A `str` under a JSON media type is a JSON string, as in the SDK's own JSON format.

    Raises:
        InvalidEventError: it breaks a rule that the SDK does not check.
    """
    attributes: dict[str, AttributeValue] = {}
    for name, value in event.get_attributes().items():
        if isinstance(value, dt.datetime):
            attributes[name] = value.isoformat().replace("+00:00", "Z")
        elif value is not None:
            attributes[name] = value
    data: Any = event.get_data()
    if data is None or isinstance(data, bytes):
        return event_from_attributes(attributes, data)
    content_type = attributes.setdefault("datacontenttype", "application/json")
    if isinstance(data, str) and isinstance(content_type, str) and not is_json_type(content_type):
        return event_from_attributes(attributes, encode_text(data, content_type))
    try:
        content = json.dumps(data, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidEventError(f"data is no JSON value: {excerpt(error)}", reason="json") from None
    return event_from_attributes(attributes, content)


def _to_data(event: Event) -> Any:
    if event.data is None:
        return None
    content_type = event.datacontenttype or ""
    if event.has_json_data:
        try:
            return json.loads(event.data)
        except (ValueError, RecursionError):
            return event.data
    text = decode_text(event.data, content_type)
    return event.data if text is None else text


def _to_datetime(time: str) -> dt.datetime:
    text = _FRACTION.sub(lambda match: f".{match[1]:0<6}", time.upper().replace(" ", "T"))
    return dt.datetime.fromisoformat(text[:17] + text[17:19].replace("60", "59") + text[19:])
