"""Known deviations of an implementation: told once, so that they don't hide everything else.

An SDK that gives every event a `time` fails nearly each case for this one reason. An adapter that
declares `"invents": ["time"]` has one check that fails for it, and all other cases are judged net
of it: an attribute of that name is dropped from an answer when the question did not carry it.
Required attributes can't be declared: whoever makes up an `id` takes a message that is no event.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal

import msgspec

from bindings.binding import ContentMode, Message
from conformance.check import Check, CheckFailed
from conformance.codec import Codec
from conformance.forms import Refused, WireEvent, event_to_json, message_to_json
from conformance.reference.carrier import CARRIERS, Carrier
from conformance.requirements import profiles_of, strongest


class Deviations(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter may declare in its answer to `hello`.

    Attributes:
        invents: attributes that are added to events that came without them, or to messages.
        no_null: bindings in which absent data is refused, or is the same as empty data.
    """

    invents: tuple[Literal["time", "datacontenttype"], ...] = ()
    no_null: tuple[Literal["kafka"], ...] = ()


_REQUIREMENTS: Final = {
    "time": ("CORE-TIME-004",),
    "datacontenttype": ("HTTP-CT-003",),
    "kafka": ("KAFKA-BIN-003",),
}
"""What is broken by whoever declares it."""

_LEAST: Final = WireEvent({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"})
_PREFIXES: Final = ("ce-", "ce_")
_FORMATS: Final = "application/cloudevents"
_DATA: Final = ("data", "data_base64")


class NetCodec:
    """A codec whose answers are freed of what it is known to do otherwise.

    Args:
        codec: what is judged.
        known: its deviations.
    """

    def __init__(self, codec: Codec, known: Deviations) -> None:
        self._codec = codec
        self._known = known
        self._invents = frozenset(known.invents)
        self.rewrites_json: bool = getattr(codec, "rewrites_json", False)
        self.title = codec.title
        self.bindings: Sequence[str] = codec.bindings

    def decode(self, binding: str, message: Message) -> Sequence[WireEvent]:
        is_empty = not message.payload and binding in self._known.no_null
        asked = msgspec.structs.replace(message, payload=b"") if is_empty else message
        events = self._codec.decode(binding, asked)
        return [
            WireEvent(
                _without(event.attributes, names),
                message.payload if is_empty and not event.data else event.data,
                event.parsed,
            )
            for event, names in zip(events, self._invented(message, len(events)), strict=True)
        ]

    def encode(self, binding: str, event: WireEvent, mode: ContentMode) -> Message:
        sent = self._codec.encode(binding, event, mode)
        sent = _freed(sent, self._invents - event.attributes.keys())
        return self._nulled(binding, sent) if event.data is None else sent

    def relay(
        self, binding: str, message: Message, target: str, mode: ContentMode
    ) -> Sequence[Message]:
        sent = self._codec.relay(binding, message, target, mode)
        invented = self._invented(message, len(sent))
        freed = [_freed(one, names) for one, names in zip(sent, invented, strict=True)]
        if "datacontenttype" in self._invents and _is_envelope(message):
            freed = [_plain(one) for one in freed]
        return [self._nulled(target, one) for one in freed] if _is_without_data(message) else freed

    def _nulled(self, binding: str, message: Message) -> Message:
        """Return a message of absent data as it should be."""
        if binding in self._known.no_null and message.payload == b"":
            return msgspec.structs.replace(message, payload=None)
        return message

    def close(self) -> None:
        self._codec.close()

    def _invented(self, message: Message, count: int) -> list[frozenset[str]]:
        """Return for each of `count` events of a message what it can have been given only."""
        carried = _carried(message)
        if len(carried) != count:
            carried = [frozenset[str]().union(*carried)] * count
        return [self._invents - names for names in carried]


def checks_of(codec: Codec, known: Deviations) -> Iterator[Check]:
    """Return the check of each deviation that is declared; each is asked of `codec` itself."""
    name: str
    for name in known.invents:
        title = f"An event without {name} is read and written without."
        yield _check(
            f"invents-{name}", title, codec.bindings[0], name, partial(_invents, name, codec)
        )
    for binding in known.no_null:
        title = "Absent data is a null value, and a null value is absent data."
        yield _check(
            f"no-null-{binding}", title, binding, binding, partial(_no_null, binding, codec)
        )


def _check(suffix: str, title: str, binding: str, key: str, run: Callable[[Any], None]) -> Check:
    ids = _REQUIREMENTS[key]
    return Check(
        id=f"deviation-{suffix}",
        title=title,
        binding=binding,
        family="deviations",
        requirements=ids,
        level=strongest(ids),
        role="consumer" if key == "kafka" else "intermediary",
        profiles=profiles_of(ids),
        verdict="event",
        run=run,
    )


def _invents(name: str, codec: Codec, _: object) -> None:
    """Demand that the least event becomes a message, and a message the least event."""
    for carrier in _carriers(codec):
        message = carrier.write(_LEAST)
        asked: dict[str, Any] = {"binding": carrier.binding, "message": message_to_json(message)}
        (got,) = NetCodec(codec, Deviations(no_null=("kafka",))).decode(carrier.binding, message)
        _demand(name, name not in got.attributes, {"do": "decode", **asked}, event_to_json(got))
        if name == "time":
            continue  # whoever makes an event may say when
        asked = {"binding": carrier.binding, "mode": carrier.mode, "event": event_to_json(_LEAST)}
        sent = codec.encode(carrier.binding, _LEAST, carrier.mode)
        _demand(
            name, sent == _freed(sent, {name}), {"do": "encode", **asked}, message_to_json(sent)
        )


def _demand(name: str, is_right: bool, asked: Any, got: Any) -> None:  # noqa: FBT001 - a condition
    if not is_right:
        raise CheckFailed(
            f"{name} is invented: all other checks are judged net of this",
            expected=f"no {name}",
            got=json.dumps(got),
            reproduce=json.dumps(asked),
        )


def _no_null(binding: str, codec: Codec, _: object) -> None:
    """Demand that the least event is read and written without a payload."""
    message = Carrier(binding, "binary").write(_LEAST)
    asked = {"do": "decode", "binding": binding, "message": message_to_json(message)}
    try:
        codec.decode(binding, message)
    except Refused as refusal:
        raise CheckFailed(
            "null is refused: all other checks are judged net of this",
            expected=json.dumps(event_to_json(_LEAST)),
            got=str(refusal),
            reproduce=json.dumps(asked),
        ) from refusal
    sent = codec.encode(binding, _LEAST, "binary")
    if sent.payload is not None:
        event = event_to_json(_LEAST)
        raise CheckFailed(
            "null is written as empty data: all other checks are judged net of this",
            expected=json.dumps(message_to_json(message)),
            got=json.dumps(message_to_json(sent)),
            reproduce=json.dumps(
                {"do": "encode", "binding": binding, "mode": "binary", "event": event}
            ),
        )


def _carriers(codec: Codec) -> list[Carrier]:
    return [carrier for carrier in CARRIERS if carrier.binding in codec.bindings]


def _carried(message: Message) -> list[frozenset[str]]:
    """Return the names of attributes of each event in a message, as far as they can be read."""
    names = frozenset(_attribute(name) for name, _ in message.headers)
    if _is_envelope(message):
        return [names | _set(event) for event in _members(message.payload)]
    return [names | {"datacontenttype"} if message.content_type else names]


def _set(event: Mapping[str, msgspec.Raw]) -> frozenset[str]:
    """Return the names of members that are not null, which is to be absent.

    `data` without `datacontenttype` implies one (json-format.md 3.1).
    """
    names = frozenset(name for name, value in event.items() if bytes(value) != b"null")
    return names | {"datacontenttype"} if "data" in event else names


def _is_without_data(message: Message) -> bool:
    """Whether a message of one event has none, where only Kafka tells absent data from empty."""
    if _is_envelope(message):
        return all(event.keys().isdisjoint(_DATA) for event in _members(message.payload))
    is_kafka = any(name.startswith("ce_") for name, _ in message.headers)
    return message.payload is None or (not message.payload and not is_kafka)


def _is_envelope(message: Message) -> bool:
    return message.content_type.lower().startswith(_FORMATS) or not (
        message.content_type or message.headers
    )


def _members(payload: bytes | None) -> list[Mapping[str, msgspec.Raw]]:
    """Return the members of a JSON object, or of each in an array; none of anything else."""
    try:
        found = msgspec.json.decode(
            payload or b"", type=dict[str, msgspec.Raw] | list[dict[str, msgspec.Raw]]
        )
    except msgspec.DecodeError:
        return [{}]
    return found if isinstance(found, list) else [found]


def _freed(message: Message, names: Collection[str]) -> Message:
    """Return a message without attributes of some names."""
    if not names:
        return message
    if _is_envelope(message):
        (event,) = _members(message.payload)
        if event.keys().isdisjoint(names):
            return message
        return msgspec.structs.replace(message, payload=msgspec.json.encode(_without(event, names)))
    content_type = "" if "datacontenttype" in names else message.content_type
    headers = [header for header in message.headers if _attribute(header[0]) not in names]
    return Message(message.payload, content_type, headers, message.address)


def _plain(message: Message) -> Message:
    """Return a message whose implied content type, made explicit, has no parameters."""
    if message.content_type != "application/json; charset=utf-8":
        return message
    return msgspec.structs.replace(message, content_type="application/json")


def _attribute(header: str) -> str:
    """Return the attribute that a header stands for, in any binding."""
    name = header.lower()
    return name[3:] if name.startswith(_PREFIXES) else name


def _without(attributes: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if name not in names}
