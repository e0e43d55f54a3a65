"""Events and messages in the form in which they are judged: plain, unchecked, with a JSON form.

`bindings.Event` checks itself, so a wrong implementation could not even say what it made of a
message. `WireEvent` holds whatever it says. The JSON form is what adapters read and write
(docs/conformance/adapters.md): bytes are Base64 text, absent bytes are null.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from bindings.binding import Message
from bindings.errors import CloudEventError
from bindings.event import Event, event_from_attributes

__all__ = ["Message", "Refused", "WireEvent"]


class WireEvent(msgspec.Struct, frozen=True):
    """What an implementation says that an event holds.

    Attributes:
        attributes: every attribute that is present, by wire name, `specversion` included.
        data: the payload's bytes; None when there is no data.
    """

    attributes: Mapping[str, Any]
    data: bytes | None = None

    def __eq__(self, other: object) -> bool:
        """Compare with the types of values: True is no 1."""
        if not isinstance(other, WireEvent):
            return NotImplemented
        return self.data == other.data and _typed(self.attributes) == _typed(other.attributes)

    def __hash__(self) -> int:
        return hash(self.data)

    @classmethod
    def of(cls, event: Event) -> "WireEvent":
        """Return what a checked event holds."""
        return cls(event.attributes(), event.data)

    def checked(self) -> Event:
        """Return the checked event.

        Raises:
            bindings.errors.InvalidEventError: it breaks a rule.
        """
        return event_from_attributes(self.attributes, self.data)


def _typed(attributes: Mapping[str, Any]) -> dict[str, tuple[type, Any]]:
    return {name: (type(value), value) for name, value in attributes.items()}


class Refused(Exception):  # noqa: N818 - to refuse is the right answer to many messages
    """The implementation refused a message or an event.

    Attributes:
        kind: `invalid_event`, `unknown_encoding`, `not_an_event`, or "" when it doesn't say.
    """

    def __init__(self, text: str, kind: str = "") -> None:
        super().__init__(text)
        self.kind = kind

    @classmethod
    def by(cls, error: CloudEventError) -> "Refused":
        """Return the refusal that one of our errors stands for."""
        return cls(str(error), error.default_reason)


def bytes_to_json(value: bytes | None) -> str | None:
    """Return Base64 text."""
    return None if value is None else base64.b64encode(value).decode("ascii")


def bytes_from_json(value: Any) -> bytes | None:
    """Return the bytes of Base64 text, None of null.

    Raises:
        ValueError: it is neither.
    """
    if value is None:
        return None
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError) as error:
        raise ValueError(f"no Base64 text and not null: {value!r}: {error}") from None


def message_to_json(message: Message) -> dict[str, Any]:
    """Return a message's JSON form."""
    return {
        "payload": bytes_to_json(message.payload),
        "content_type": message.content_type,
        "headers": [list(header) for header in message.headers],
    }


def message_from_json(form: Mapping[str, Any]) -> Message:
    """Return the message of a JSON form.

    Raises:
        ValueError, KeyError, TypeError: it is none.
    """
    headers = [(str(name), str(value)) for name, value in form.get("headers", ())]
    return Message(bytes_from_json(form["payload"]), form.get("content_type") or "", headers)


def event_to_json(event: WireEvent) -> dict[str, Any]:
    """Return an event's JSON form; binary attributes are `{"base64": ...}`."""
    return {
        "attributes": {
            name: {"base64": bytes_to_json(value)} if isinstance(value, bytes) else value
            for name, value in event.attributes.items()
        },
        "data": bytes_to_json(event.data),
    }


def event_from_json(form: Mapping[str, Any]) -> WireEvent:
    """Return the event of a JSON form.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is none.
    """
    attributes = {
        name: bytes_from_json(value["base64"])
        if isinstance(value, dict) and value.keys() == {"base64"}
        else value
        for name, value in form["attributes"].items()
    }
    return WireEvent(attributes, bytes_from_json(form.get("data")))


def events_from_json(forms: Sequence[Mapping[str, Any]]) -> list[WireEvent]:
    """Return the events of their JSON forms."""
    return [event_from_json(form) for form in forms]
