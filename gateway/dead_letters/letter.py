"""A dead letter: what could not be delivered or decoded, and everything that is known of it."""

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from bindings.binding import Message
from bindings.event import Event
from bindings.json_format import decode_event, is_json

ERROR_EXTENSIONS: Final = ("knativeerrordest", "knativeerrorcode", "knativeerrordata")
"""What Knative adds to an event that it gives to a dead-letter sink."""

# A pretty-printed event has line breaks; in JSON they stand between tokens only.
_LINE_BREAKS_TO_BLANKS: Final = bytes.maketrans(b"\r\n", b"  ")


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An event that no sink took, or a message that brought no event.

    It has either `event` or `message`, and bytes are kept as they came.

    Attributes:
        id: its number in the store, from 1 and never used again; 0 before it is stored.
        route: the route that it was on; "" if none, as with a message.
        source: the gateway's source that it came through: its name in the configuration.
        sink: the name of the sink that did not take it; "" if it never came so far.
        sequence: its number in the spool of that route and sink. The same event with the same
            number is stored once, however often it is put.
        event: the event in JSON format.
        protocol: of a message.
        message: what could not be decoded.
        reason: a word of a small set: a `Reason`, or that of a `CloudEventError`.
        detail: one line for people, never event data.
        status: HTTP status or the sink protocol's error number, when there was an answer.
        attempts: how often a sink was asked.
        first_time: of the first attempt, as `utc_text` writes it.
        last_time: of the last one.
        error_dest: what `knativeerrordest` says.
        error_code: what `knativeerrorcode` says.
        error_data: what `knativeerrordata` says, in Base64.
        replays: how often it was replayed in vain.
        replayed_at: when for the last time; None is never.
    """

    reason: str
    first_time: str
    last_time: str
    id: int = 0
    route: str = ""
    source: str = ""
    sink: str = ""
    sequence: int | None = None
    event: bytes | None = None
    protocol: str = ""
    message: Message | None = None
    detail: str = ""
    status: int | None = None
    attempts: int = 0
    error_dest: str = ""
    error_code: int | None = None
    error_data: str = ""
    replays: int = 0
    replayed_at: str | None = None

    def __post_init__(self) -> None:
        if (self.event is None) == (self.message is None):
            raise ValueError("a dead letter has an event or a message")

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        if self.event is not None:
            return len(self.event)
        if self.message is None:
            return 0
        headers = sum(len(name) + len(value) for name, value in self.message.headers)
        return len(self.message.payload or b"") + headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What lists show of a dead letter: everything but data, payload and headers.

    Attributes:
        event_id: attribute id; None of a message.
        event_source: attribute source.
        event_type: attribute type.
        address: where a message was sent: topic, subject, path.
        size: bytes of the event in JSON format, or of the payload.
    """

    id: int
    route: str
    source: str
    sink: str
    event_id: str | None
    event_source: str | None
    event_type: str | None
    protocol: str
    address: str
    reason: str
    detail: str
    status: int | None
    attempts: int
    first_time: str
    last_time: str
    replays: int
    replayed_at: str | None
    size: int


class _Identity(msgspec.Struct):
    id: str
    source: str
    type: str


_IDENTITY: Final = msgspec.json.Decoder(_Identity)


def utc_text(moment: datetime) -> str:
    """Return a moment as RFC 3339 in UTC, always as long, so that texts sort as moments do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def identity_of(event: bytes) -> tuple[str | None, str | None, str | None]:
    """Return id, source and type of an event in JSON format; its data is not parsed."""
    try:
        found = _IDENTITY.decode(event)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, None, None
    return found.id, found.source, found.type


def event_of(letter: DeadLetter) -> Event:
    """Return the event to be sent again: the same id, without what Knative said of earlier errors.

    Raises:
        ValueError: it is a message.
        InvalidEventError: what is stored is no event.
    """
    if letter.event is None:
        raise ValueError("a message that could not be decoded has no event")
    event = decode_event(letter.event)
    if any(name in event.extensions for name in ERROR_EXTENSIONS):
        kept = {
            name: value for name, value in event.extensions.items() if name not in ERROR_EXTENSIONS
        }
        return event.replace(extensions=kept)
    return event


def as_json(letter: DeadLetter) -> bytes:
    """Return everything as JSON in one line; the event stands in it as it was stored."""
    members: dict[str, object] = {
        name: getattr(letter, name)
        for name in letter.__struct_fields__
        if name not in {"event", "message", "protocol"}
    }
    if letter.event is not None:
        if is_json(letter.event):
            members["event"] = msgspec.Raw(letter.event.translate(_LINE_BREAKS_TO_BLANKS))
        else:
            members["event_base64"] = letter.event
    if letter.message is not None:
        # Not msgspec: names and addresses may hold bytes that are no UTF-8, as surrogates.
        members["message"] = msgspec.Raw(_message_json(letter.protocol, letter.message).encode())
    return msgspec.json.encode(members)


def _message_json(protocol: str, message: Message) -> str:
    payload = message.payload
    return json.dumps(
        {
            "protocol": protocol,
            "address": message.address,
            "content_type": message.content_type,
            "headers": [list(header) for header in message.headers],
            "payload_base64": None if payload is None else base64.b64encode(payload).decode(),
        }
    )
