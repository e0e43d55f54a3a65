"""Events and messages in the form in which they are judged: plain, unchecked, with a JSON form.

`bindings.Event` checks itself, so a wrong implementation could not even say what it made of a
message. `WireEvent` holds whatever it says. The JSON form is what adapters read and write
(docs/conformance/adapters.md): bytes are Base64 text, absent bytes are null.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from bindings.binding import Message
from bindings.errors import CloudEventError
from bindings.event import Event, event_from_attributes

__all__ = ["Message", "Refused", "WireEvent"]


class Instant(str):
    """A Timestamp that an implementation holds parsed; equal to every text of that instant."""

    __slots__ = ()

    def is_at(self, text: object) -> bool:
        """Whether `text` is a timestamp of the same instant."""
        try:
            return datetime.fromisoformat(self.upper()) == datetime.fromisoformat(str(text).upper())
        except (ValueError, TypeError):
            return False


class WireEvent(msgspec.Struct, frozen=True, eq=False):
    """What an implementation says that an event holds.

    Attributes:
        attributes: every attribute that is present, by wire name, `specversion` included.
        data: the payload's bytes; None when there is no data.
        parsed: the implementation holds JSON data as a value, and `data` is one of its texts.
    """

    attributes: Mapping[str, Any]
    data: bytes | None = None
    parsed: bool = False

    def __eq__(self, other: object) -> bool:
        """Compare with the types of values (True is no 1); parsed JSON and times by their value."""
        if not isinstance(other, WireEvent):
            return NotImplemented
        return (
            self.attributes.keys() == other.attributes.keys()
            and all(
                _same_value(value, other.attributes[name])
                for name, value in self.attributes.items()
            )
            and _same_data(self, other)
        )

    def __hash__(self) -> int:
        return hash(self.attributes.get("id"))

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


def _same_value(one: object, other: object) -> bool:
    if isinstance(one, Instant):
        return one.is_at(other)
    if isinstance(other, Instant):
        return other.is_at(one)
    return type(one) is type(other) and one == other


def _same_data(one: WireEvent, other: WireEvent) -> bool:
    if one.data == other.data:
        return True
    if not (one.parsed or other.parsed) or one.data is None or other.data is None:
        return False
    try:
        return _canonical(one.data) == _canonical(other.data)
    except ValueError:
        return False


def _canonical(data: bytes) -> str:
    """Return JSON text that differs when the value does: 1 and true do; 0, -0 and 0.0 do not."""
    value = json.loads(data, parse_int=lambda digits: float(digits) + 0.0)
    return json.dumps(value, sort_keys=True)


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

    Where an implementation holds values parsed, `json` stands in place of `data`, and an attribute
    is `{"instant": text}`.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is none.
    """
    attributes = {name: _value_from_json(value) for name, value in form["attributes"].items()}
    if "json" in form:
        return WireEvent(attributes, json.dumps(form["json"]).encode(), parsed=True)
    return WireEvent(attributes, bytes_from_json(form.get("data")))


def _value_from_json(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"base64"}:
            return bytes_from_json(value["base64"])
        if value.keys() == {"instant"}:
            return Instant(value["instant"])
    return value


def events_from_json(forms: Sequence[Mapping[str, Any]]) -> list[WireEvent]:
    """Return the events of their JSON forms."""
    return [event_from_json(form) for form in forms]
