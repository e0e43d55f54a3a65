"""Small changes of plain messages and events, of which mistakes are made."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

import bindings.event
from bindings.binding import Message
from bindings.event import CORE_ATTRIBUTES, Event
from conformance.forms import Refused, WireEvent
from conformance.mutants.mutant import Decode, Patch
from conformance.reference import json_event

Attributes = dict[str, Any]
Members = dict[str, str]


def changed(event: WireEvent, **attributes: Any) -> WireEvent:
    """Return the event with other attributes; one that is None is left out."""
    merged = {**event.attributes, **attributes}
    kept = {name: value for name, value in merged.items() if value is not None}
    return WireEvent(kept, event.data)


def each_value(event: WireEvent, change: Callable[[Any], Any]) -> WireEvent:
    """Return the event with every attribute's value changed."""
    attributes = {name: change(value) for name, value in event.attributes.items()}
    return WireEvent(attributes, event.data)


def each_extension(event: WireEvent, change: Callable[[Any], Any]) -> WireEvent:
    """Return the event with every value changed of an attribute that is no core attribute."""
    return WireEvent(
        {
            name: value if name in CORE_ATTRIBUTES else change(value)
            for name, value in event.attributes.items()
        },
        event.data,
    )


def each_header(message: Message, change: Callable[[str, str], tuple[str, str] | None]) -> Message:
    """Return the message with every header changed; one that becomes None is left out."""
    headers = [change(name, value) for name, value in message.headers]
    return replace(message, headers=[header for header in headers if header is not None])


def is_structured(message: Message) -> bool:
    """Whether a message has an event in its payload, by its content type."""
    return message.content_type.lower().startswith("application/cloudevents")


def is_envelope(message: Message) -> bool:
    """Whether a message looks like one with a JSON envelope, whatever it is called."""
    media_type = message.content_type.partition(";")[0].strip().lower()
    return media_type == "application/cloudevents+json" or not (media_type or message.headers)


def each_member(message: Message, change: Callable[[Members], Members]) -> Message:
    """Return a JSON envelope with its members changed, each a JSON text; others as they are."""
    try:
        members = dict(json_event.members(message.payload or b""))
    except ValueError:
        return message
    return envelope(message, change(members))


def envelope(message: Message, members: Members) -> Message:
    """Return a message with an envelope of these members."""
    text = ",".join(f'"{name}":{value}' for name, value in members.items())
    return replace(message, payload=f"{{{text}}}".encode())


def or_instead(
    decode: Decode, message: Message, instead: Callable[[Message], Sequence[WireEvent]]
) -> Sequence[WireEvent]:
    """Decode; what is refused is taken by `instead`."""
    try:
        return decode(message)
    except Refused:
        return instead(message)


def read_otherwise(patch: Patch, change: Callable[[Attributes], Attributes]) -> None:
    """Change the attributes of every event that is read, before they are checked."""
    right = bindings.event.event_from_attributes

    def wrong(attributes: Mapping[str, Any], data: bytes | None, **more: Any) -> Event:
        return right(change(dict(attributes)), data, **more)

    patch.everywhere(bindings.event, "event_from_attributes", wrong)
