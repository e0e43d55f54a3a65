"""Structured and batch mode in CBOR: text keys, the compact form, base records (binding section 3).

The compact form has integer keys for what every event has, and says id, time and datacontenttype in
fewer bytes. A base record is a map with key -1: no event, but what the following ones start from.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Final

import msgspec

from bindings.cbor_format import (
    malformed,
    read_attribute,
    read_data,
    read_item,
    read_members,
    text_key,
)
from bindings.coap.content_formats import MEDIA_TYPES
from bindings.coap.diagnostics import BatchElementError
from bindings.coap.filling import Filling
from bindings.errors import InvalidEventError, TooManyEventsError, UnknownEncodingError, excerpt
from bindings.event import AttributeValue, Event, event_from_attributes
from bindings.wire import cbor

KEYS: Final = {
    0: "specversion",
    1: "type",
    2: "source",
    3: "id",
    4: "time",
    5: "subject",
    6: "datacontenttype",
    7: "dataschema",
    8: "data",
}
"""The integer keys of the compact form (section 3.2.4)."""

BASE_KEY: Final = -1
"""Marks a base record (section 3.3.3)."""


class _Record(msgspec.Struct):
    """What one map says.

    Attributes:
        attributes: those that are present, but for a time in seconds.
        content: the item under `data`, and its exact bytes.
        seconds: the time, where it is a number.
        is_compact: whether a key is an integer.
        is_base: whether it is a base record.
    """

    attributes: dict[str, AttributeValue] = {}
    content: tuple[cbor.Value, bytes] | None = None
    seconds: float | None = None
    is_compact: bool = False
    is_base: bool = False


class _Base(msgspec.Struct):
    """What base records have said so far.

    Attributes:
        attributes: what events start from.
        seconds: the time to which later numeric times are added, since 1970.
    """

    attributes: dict[str, AttributeValue] = {}
    seconds: float | None = None


def decode_structured(payload: bytes, filling: Filling) -> Event:
    """Decode one event.

    Raises:
        InvalidEventError: the payload is none.
        UnknownEncodingError: a number of a Content-Format that has no media type here.
    """
    record = _read_record(read_item(payload))
    if record.is_base:
        raise _wrong_base("a base record outside a batch")
    return _event(record, _Base(), filling)


def decode_array(payload: bytes, filling: Filling, max_events: int) -> list[Event]:
    """Decode an array of events, which may be empty.

    Args:
        payload: the array.
        filling: what its events are completed with.
        max_events: the most that are taken, base records included.

    Raises:
        InvalidEventError: the payload is none, or one of the events is invalid.
        UnknownEncodingError: as above.
        TooManyEventsError: it holds more than `max_events`; only so many have been read.
    """
    return _batch(_first(cbor.iter_array(payload), max_events), filling)


def decode_sequence(payload: bytes, filling: Filling, max_events: int) -> list[Event]:
    """Decode a CBOR sequence (RFC 8742) of events, which may be empty.

    Args:
        payload: the sequence.
        filling: as above.
        max_events: as above.

    Raises:
        InvalidEventError: the payload is none, or one of the events is invalid.
        UnknownEncodingError: as above.
        TooManyEventsError: as above.
    """
    return _batch(_first(cbor.iter_sequence(payload), max_events), filling)


def _first(items: Iterator[cbor.Value], max_events: int) -> Sequence[cbor.Value]:
    try:
        found = list(islice(items, max_events + 1))
    except cbor.CborError as error:
        raise malformed(error) from None
    if len(found) > max_events:
        raise TooManyEventsError(max_events)
    return found


def _batch(items: Sequence[cbor.Value], filling: Filling) -> list[Event]:
    base = _Base()
    events = []
    for position, item in enumerate(items):
        try:
            record = _read_record(item)
            if record.is_base:
                _rebase(base, record, filling)
            else:
                events.append(_event(record, base, filling, position))
        except InvalidEventError as error:
            raise BatchElementError(position, error) from error
    return events


def _rebase(base: _Base, record: _Record, filling: Filling) -> None:
    if record.content is not None:
        raise _wrong_base("a base record has data")
    base.attributes.update(record.attributes)
    if record.seconds is not None:
        base.seconds = _since_1970(record.seconds, None, filling)
        base.attributes["time"] = _timestamp(base.seconds)
    elif "time" in record.attributes:
        base.seconds = None


def _event(record: _Record, base: _Base, filling: Filling, position: int | None = None) -> Event:
    attributes = record.attributes
    if record.seconds is not None:
        attributes["time"] = _timestamp(_since_1970(record.seconds, base.seconds, filling))
    for name, value in {**filling.defaults(), **base.attributes}.items():
        attributes.setdefault(name, value)
    if "id" not in attributes:
        attributes["id"] = filling.new_id(position)
    data = None
    if record.content is not None:
        data = read_data(attributes, *record.content, text_is_json=not record.is_compact)
        attributes.setdefault("datacontenttype", "application/octet-stream")
    event = event_from_attributes(attributes, data)
    filling.check_agreement(event)
    return event


def _read_record(item: cbor.Value) -> _Record:
    members = read_members(item)
    record = _Record(is_compact=any(type(key) is int for key, _, _ in members))
    seen = set()
    for key, value, encoded in members:
        if type(key) is int and key == BASE_KEY:
            if value is not True:
                raise _wrong_base("the mark of a base record is true")
            record.is_base = True
            continue
        name = _named(key)
        if name in seen:
            raise InvalidEventError(
                f"{name} has an integer and a text key",
                attribute=name,
                reason="duplicate_attribute",
            )
        seen.add(name)
        if name == "data":
            record.content = value, encoded
        elif type(value) is str:
            record.attributes[name] = value
        else:
            _read_attribute(record, key, name, value)
    return record


def _read_attribute(record: _Record, key: cbor.Value, name: str, value: cbor.Value) -> None:
    if record.is_compact:
        if value is None or isinstance(value, cbor.Tagged):
            raise InvalidEventError(
                f"the compact form has no {excerpt(value)} for {excerpt(name[:50])}",
                attribute=name[:50],
                reason="attribute_type",
            )
        if type(key) is int:
            if name == "time" and type(value) in {int, float}:
                record.seconds = value  # type: ignore[assignment]
                return
            value = _expanded(name, value)
    attribute = read_attribute(name, value)
    if attribute is not None:
        record.attributes[name] = attribute


def _named(key: cbor.Value) -> str:
    """Return the attribute that a key stands for, or `data`."""
    if type(key) is not int:
        return text_key(key)
    name = KEYS.get(key)
    if name is None:
        raise InvalidEventError(
            f"the key {key} stands for nothing", attribute=str(key), reason="attribute_name"
        )
    return name


def _expanded(name: str, value: cbor.Value) -> cbor.Value:
    """Return the text that a short form under an integer key stands for."""
    if name == "id":
        if type(value) is int and value >= 0:
            return str(value)
        if isinstance(value, bytes):
            return value.hex()
    if name == "datacontenttype" and type(value) is int and value >= 0:
        if value not in MEDIA_TYPES:
            raise UnknownEncodingError(f"Content-Format {value} is not taken here")
        return MEDIA_TYPES[value]
    return value


def _since_1970(seconds: float, base: float | None, filling: Filling) -> float:
    """Return the time that a number stands for: after the base, since 1970, or before reception."""
    if base is not None:
        return base + seconds
    return seconds if seconds > 0 else round(filling.moment.seconds, 3) + seconds


def _timestamp(seconds: float) -> str:
    try:
        time = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise InvalidEventError(
            f"time is no time: {excerpt(seconds)}", attribute="time", reason="attribute_type"
        ) from None
    precision = "auto" if time.microsecond % 1000 or not time.microsecond else "milliseconds"
    return time.isoformat(timespec=precision).removesuffix("+00:00") + "Z"


def _wrong_base(text: str) -> InvalidEventError:
    return InvalidEventError(text, reason="base_record")
