"""Structured and batch mode in JSON (binding section 3.2.2)."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from bindings.coap.diagnostics import BatchElementError
from bindings.coap.filling import Filling
from bindings.errors import InvalidEventError, TooManyEventsError
from bindings.event import Event
from bindings.json_format import decode_event

_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ELEMENTS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ENCODER: Final = msgspec.json.Encoder()


def decode_structured(payload: bytes, filling: Filling) -> Event:
    """Decode one event.

    Raises:
        InvalidEventError: the payload is none.
    """
    event = decode_event(_completed(payload, filling.defaults(), filling.new_id))
    filling.check_agreement(event)
    return event


def decode_batch(payload: bytes, filling: Filling, max_events: int) -> list[Event]:
    """Decode an array of events, which may be empty.

    Args:
        payload: the array.
        filling: what its events are completed with.
        max_events: the most that are taken.

    Raises:
        InvalidEventError: the payload is none, or one of the events is invalid.
        TooManyEventsError: it holds more than `max_events`, which have not been looked at.
    """
    elements = _decode_json(_ELEMENTS, payload)
    if len(elements) > max_events:
        raise TooManyEventsError(max_events)
    defaults = filling.defaults()
    events = []
    for position, element in enumerate(elements):
        new_id = partial(filling.new_id, position)
        try:
            event = decode_event(_completed(bytes(element), defaults, new_id))
            filling.check_agreement(event)
        except InvalidEventError as error:
            raise BatchElementError(position, error) from error
        events.append(event)
    return events


def _completed(payload: bytes, defaults: Mapping[str, str], new_id: Callable[[], str]) -> bytes:
    """Return the JSON object with the members that it lacks put in front.

    So the event keeps an encoded form, which a structured sink sends without encoding it again.
    What else is wrong with the object is left for `decode_event` to find.
    """
    members = _decode_json(_MEMBERS, payload)
    lacking = {name: value for name, value in defaults.items() if _lacks(members, name)}
    if "id" not in defaults and _lacks(members, "id"):
        lacking["id"] = new_id()
    if not lacking:
        return payload
    if not lacking.keys().isdisjoint(members):
        return _without_nulls(payload, members, lacking)
    start = payload.index(b"{")
    separator = b"," if members else b""
    return _ENCODER.encode(lacking)[:-1] + separator + payload[start + 1 :]


def _lacks(members: Mapping[str, msgspec.Raw], name: str) -> bool:
    """Whether an attribute is absent; `null` means that it is (section 3.2.2)."""
    value = members.get(name)
    return value is None or bytes(value) == b"null"


def _without_nulls(
    payload: bytes, members: Mapping[str, msgspec.Raw], added: Mapping[str, str]
) -> bytes:
    """Return the object with `added` in the place of `null`."""
    # Rebuilding would hide a member that stands there twice; the hook's last call has them all.
    try:
        pairs = json.loads(
            payload, object_pairs_hook=lambda pairs: pairs, parse_int=str, parse_float=str
        )
    except RecursionError as error:
        raise InvalidEventError("the payload is nested too deep", reason="json") from error
    if len(pairs) != len(members):
        raise InvalidEventError("a member stands twice", reason="duplicate_attribute")
    return _ENCODER.encode({**members, **added})


def _decode_json(decoder: "msgspec.json.Decoder[Any]", payload: bytes) -> Any:
    try:
        if not payload.isascii():
            payload.decode("utf-8")
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEventError("the payload is no JSON of the kind", reason="json") from error
