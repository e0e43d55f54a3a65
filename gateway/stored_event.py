"""How an event stands in a spool's record: the whole event and the name of the source it came by.

The first byte of a record says how the rest is to be read, so that a later version can write
another form and still read these:

- 1: MessagePack array of the source's name and the JSON format bytes that the event was decoded
  from. Nothing is encoded again, and what a structured sink sends stays the same to the byte.
- 2: MessagePack array of the fields of `_Fields`, for events that came in any other form.

A checksum is the spool's business. What passes it is checked here like what a stranger sent:
`Event` validates each attribute.
"""

import sys
import time
from typing import Any, Final, NamedTuple

import msgspec

from bindings.errors import CloudEventError, InvalidEventError
from bindings.event import Event
from bindings.json_format import decode_event
from gateway.delivery import ACCEPTED, Delivery, Settlement

_JSON: Final = 1
_FIELDS: Final = 2
_JSON_PREFIX: Final = bytes([_JSON])
_FIELDS_PREFIX: Final = bytes([_FIELDS])


class StoredEvent(NamedTuple):
    """What a record holds.

    Attributes:
        event: as it was accepted.
        source: the gateway's name of the source that it came by, for dead letters.
    """

    event: Event
    source: str


class _Json(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    source_name: str
    payload: bytes


class _Fields(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    source_name: str
    id: str
    source: str
    type: str
    datacontenttype: str | None
    dataschema: str | None
    subject: str | None
    time: str | None
    extensions: dict[str, Any]  # one of `AttributeValue`, which is for `Event` to check
    data: bytes | None


# `Event.extensions` may be another mapping, which MessagePack's encoder does not know.
_encode: Final = msgspec.msgpack.Encoder(enc_hook=dict).encode
_decode_json: Final = msgspec.msgpack.Decoder(_Json).decode
_decode_fields: Final = msgspec.msgpack.Decoder(_Fields).decode


def encode(event: Event, source: str) -> bytes:
    """Return the record of an event that came by the source of this name."""
    if event.encoded is not None:
        return _JSON_PREFIX + _encode((source, event.encoded))
    return _FIELDS_PREFIX + _encode(
        (
            source,
            event.id,
            event.source,
            event.type,
            event.datacontenttype,
            event.dataschema,
            event.subject,
            event.time,
            event.extensions,
            event.data,
        )
    )


def decode(record: bytes) -> StoredEvent:
    """Read a record back; the event equals the one that was encoded, `encoded` included.

    Raises:
        CloudEventError: the record is damaged, of a later version, or holds no valid event.
    """
    form = record[0] if record else None
    try:
        if form == _JSON:
            json = _decode_json(memoryview(record)[1:])
            return StoredEvent(_decode_payload(json.payload), json.source_name)
        if form == _FIELDS:
            return _event_of(_decode_fields(memoryview(record)[1:]))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEventError(f"damaged record: {error}", reason="stored_event") from None
    raise CloudEventError(f"record of unknown form {form}", reason="stored_event")


def delivery_of(record: bytes, sequence: int) -> Delivery:
    """Return what a record holds, to be delivered; its sender was answered when it was stored.

    Raises:
        CloudEventError: as `decode`.
    """
    event, source = decode(record)
    delivery = Delivery((event,), _already_answered)
    delivery.settle(ACCEPTED)
    delivery.source = source
    delivery.sequence = sequence
    delivery.received_at = time.monotonic()
    return delivery


def _already_answered(_settlement: Settlement) -> None:
    """Nobody waits."""


def _decode_payload(payload: bytes) -> Event:
    try:
        return decode_event(payload)
    except InvalidEventError:
        # How deep JSON may be nested depends on the stack above it, which was a source's when the
        # event was accepted and is a longer one now.
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(2 * limit)
        try:
            return decode_event(payload)
        finally:
            sys.setrecursionlimit(limit)


def _event_of(fields: _Fields) -> StoredEvent:
    event = Event(
        id=fields.id,
        source=fields.source,
        type=fields.type,
        datacontenttype=fields.datacontenttype,
        dataschema=fields.dataschema,
        subject=fields.subject,
        time=fields.time,
        extensions=fields.extensions,
        data=fields.data,
    )
    return StoredEvent(event, fields.source_name)
