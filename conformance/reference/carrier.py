"""Where an event can be: a binding and a content mode."""

from typing import Final, NamedTuple

from bindings.binding import ContentMode, Message
from conformance.check import PROFILES, Profile
from conformance.forms import WireEvent
from conformance.reference import cbor_event, headers, json_event
from conformance.reference.headers import Misread

JSON_TYPE: Final = "application/cloudevents+json"
CBOR_TYPE: Final = "application/cloudevents+cbor"
BATCH_TYPE: Final = "application/cloudevents-batch+json"


class Carrier(NamedTuple):
    """One place for an event."""

    binding: str
    mode: ContentMode

    @property
    def name(self) -> str:
        """Its name: the binding's if there is one mode only."""
        return self.binding if self.binding in _ONE_MODE else f"{self.binding}-{self.mode}"

    @property
    def profiles(self) -> frozenset[Profile]:
        """The profiles whose documents have it."""
        if self.binding == "cbor" or self.name == "nats-binary":
            return frozenset({"main", "lenient"})
        return frozenset(PROFILES)

    @property
    def is_binary(self) -> bool:
        """Whether attributes are headers, and so text."""
        return self.mode == "binary"

    def write(self, event: WireEvent, *, implied: bool = False) -> Message:
        """Return the message; `implied` leaves the format to say what data is."""
        if self.is_binary:
            return headers.write(self.binding, event)
        if self.binding == "cbor":
            return Message(cbor_event.write(event, implied=implied), CBOR_TYPE)
        payload = json_event.write(event, implied=implied)
        return Message(payload, "" if self.binding == "mqtt311" else JSON_TYPE)

    def read(self, message: Message) -> WireEvent:
        """Return what a message says.

        Raises:
            Misread: it is no such message.
        """
        payload = message.payload or b""
        media_type = message.content_type.partition(";")[0].strip(" \t").lower()
        if self.binding == "cbor":
            _demand(media_type, CBOR_TYPE)
            return cbor_event.read(payload)
        if self.is_binary and not media_type.startswith("application/cloudevents"):
            return headers.read(self.binding, message)
        if self.binding != "mqtt311":
            _demand(media_type, JSON_TYPE)
        return json_event.read(payload)


def _demand(media_type: str, expected: str) -> None:
    if media_type != expected:
        raise Misread(f"the content type is {media_type or 'absent'}, not {expected}")


_ONE_MODE: Final = ("json", "cbor", "mqtt311")

HEADER_CARRIERS: Final = tuple(Carrier(binding, "binary") for binding in headers.RULES)
FORMAT_CARRIERS: Final = tuple(Carrier(binding, "structured") for binding in _ONE_MODE)
CARRIERS: Final = (
    *FORMAT_CARRIERS,
    *HEADER_CARRIERS,
    *(Carrier(binding, "structured") for binding in headers.RULES),
)
ENCODINGS: Final = (*FORMAT_CARRIERS, *HEADER_CARRIERS)
"""Each way to write an attribute once."""
