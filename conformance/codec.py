"""A codec under test: messages to events and back, without I/O of the protocol.

Ours and those of Python modules are called directly; any other language is judged through an
adapter, a program that reads a JSON line for each question and writes one for each answer
(docs/conformance/adapters.md).
"""

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.resources import files
from importlib.util import find_spec
from typing import Any, Final, Protocol

from bindings import cbor_format
from bindings.binding import Binding, ContentMode, Message
from bindings.can import CanBinding, parse_dbc
from bindings.errors import CloudEventError
from bindings.http import HTTP
from bindings.json_format import decode_event
from bindings.mqtt import MQTT311, MQTT_BARE_JSON
from conformance.check import Unsupported
from conformance.forms import Refused, WireEvent
from gateway.registry import load, names


class Codec(Protocol):
    """What is judged by checks that need a codec."""

    @property
    def title(self) -> str:
        """Name and version, for reports."""

    @property
    def bindings(self) -> Sequence[str]:
        """The bindings it has, by their names in the vectors: `json`, `http`, `mqtt`, ..."""

    def decode(self, binding: str, message: Message) -> Sequence[WireEvent]:
        """Return the events in a message.

        Raises:
            Refused: it took the message for wrong.
            Unsupported: it has no such binding or mode.
        """

    def encode(self, binding: str, event: WireEvent, mode: ContentMode) -> Message:
        """Return the message that carries the event.

        Raises:
            Refused: it took the event for wrong.
            Unsupported: it has no such binding or mode.
        """

    def relay(
        self, binding: str, message: Message, target: str, mode: ContentMode
    ) -> Sequence[Message]:
        """Return the messages in which an intermediary hands the events of a message on.

        Raises:
            Refused: it took the message for wrong.
            Unsupported: it has no such binding or mode.
        """

    def close(self) -> None:
        """Give up what it holds."""


class JsonFormat:
    """The JSON event format under the interface of a binding: the payload is one event."""

    name = "json"

    def decode(self, message: Message) -> Sequence[Any]:
        return (decode_event(message.payload or b""),)

    def encode(self, event: Any, mode: ContentMode) -> Message:
        del mode
        return HTTP.encode(event, "structured")


class CborFormat:
    """The CBOR event format under the interface of a binding: the payload is one event."""

    name = "cbor"

    def decode(self, message: Message) -> Sequence[Any]:
        return (cbor_format.decode_event(message.payload or b""),)

    def encode(self, event: Any, mode: ContentMode) -> Message:
        del mode
        return Message(cbor_format.encode_event(event), cbor_format.MEDIA_TYPE)


_EXTRAS: Final = {"can-dbc": "cantools is missing: pip install 'cloudevents-gateway[can]'"}
"""Why a binding is not there that could be."""


class BindingCodec:
    """Codec of objects that are a `bindings.binding.Binding`."""

    def __init__(self, title: str, bindings: Mapping[str, Binding]) -> None:
        self.title = title
        self._bindings = dict(bindings)

    @property
    def bindings(self) -> Sequence[str]:
        return tuple(self._bindings)

    def decode(self, binding: str, message: Message) -> Sequence[WireEvent]:
        try:
            return [WireEvent.of(event) for event in self._named(binding).decode(message)]
        except CloudEventError as error:
            raise Refused.by(error) from error

    def encode(self, binding: str, event: WireEvent, mode: ContentMode) -> Message:
        try:
            return self._named(binding).encode(event.checked(), mode)
        except CloudEventError as error:
            raise Refused.by(error) from error

    def relay(
        self, binding: str, message: Message, target: str, mode: ContentMode
    ) -> Sequence[Message]:
        try:
            events = self._named(binding).decode(message)
            return [self._named(target).encode(event, mode) for event in events]
        except CloudEventError as error:
            raise Refused.by(error) from error

    def losses(self, binding: str) -> frozenset[str]:
        """Return what a binding declares that it can't keep (conformance/checks/generic.py)."""
        return frozenset(getattr(self._named(binding), "losses", ()))

    def close(self) -> None: ...

    def _named(self, binding: str) -> Binding:
        found = self._bindings.get(binding)
        if found is None:
            raise Unsupported(_EXTRAS.get(binding, f"there is no binding {binding!r}"))
        return found


def own_codec() -> BindingCodec:
    """Return the codec of every binding that is registered, and of the variants of ours."""
    registered: dict[str, Binding] = {}
    for name in names("bindings"):
        registered[name] = load("bindings", name)
    variants: dict[str, Binding] = {
        "json": JsonFormat(),
        "cbor": CborFormat(),
        "mqtt311": MQTT311,
        "mqtt-bare-json": MQTT_BARE_JSON,
    }
    return BindingCodec("cloudevents-gateway", {**variants, **_can_with_database(), **registered})


def _can_with_database() -> dict[str, Binding]:
    """Return the CAN codec that knows the database of its vectors, if cantools is there."""
    if find_spec("cantools") is None:
        return {}
    text = files("conformance").joinpath("vectors", "can.json").read_text("utf-8")
    return {"can-dbc": CanBinding(parse_dbc(["\n".join(json.loads(text)["database"])]))}


def binding_at(place: str) -> Binding:
    """Return the Binding at `module:NAME`.

    Raises:
        ValueError: it is no such place, or there is something else.
        ImportError, AttributeError: nothing is there.
    """
    module, separator, attribute = place.partition(":")
    if not separator or not module or not attribute:
        raise ValueError(f"{place!r} is not module:NAME")
    binding: Binding = getattr(import_module(module), attribute)
    missing = [name for name in ("name", "decode", "encode") if not hasattr(binding, name)]
    if missing:
        raise ValueError(f"it is no Binding: it has no {' and no '.join(missing)}")
    return binding
