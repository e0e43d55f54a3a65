"""What the tests of families share: our codec, codecs with one mistake, and who fails."""

from collections.abc import Callable, Iterable, Sequence

from bindings.binding import Message
from conformance.check import Check, CheckFailed, Unsupported
from conformance.codec import own_codec
from conformance.forms import WireEvent

OWN = own_codec()


class Mistaken:
    """Our codec with mistakes on the way in or out.

    Args:
        message: what it takes a message for.
        event: what it makes of a decoded event.
        sent: what it makes of a message that it sends.
        given: what it takes an event for that it is to encode.
    """

    title = "mistaken"

    def __init__(
        self,
        *,
        message: Callable[[str, Message], Message] = lambda _, message: message,
        event: Callable[[str, WireEvent], WireEvent] = lambda _, event: event,
        sent: Callable[[str, Message], Message] = lambda _, message: message,
        given: Callable[[str, WireEvent], WireEvent] = lambda _, event: event,
    ) -> None:
        self._message, self._event, self._sent, self._given = message, event, sent, given
        self.bindings = OWN.bindings
        self.losses = OWN.losses

    def decode(self, binding: str, message: Message) -> Sequence[WireEvent]:
        events = OWN.decode(binding, self._message(binding, message))
        return [self._event(binding, event) for event in events]

    def encode(self, binding: str, event: WireEvent, mode: str) -> Message:
        return self._sent(binding, OWN.encode(binding, self._given(binding, event), mode))

    def relay(self, binding: str, message: Message, target: str, mode: str) -> Sequence[Message]:
        return [self.encode(target, event, mode) for event in self.decode(binding, message)]

    def close(self) -> None: ...


def failed(checks: Iterable[Check], codec, only: str = "") -> dict[str, CheckFailed]:
    """Return what fails among the checks whose id holds `only`, by id."""
    found = {}
    for check in checks:
        if only not in check.id:
            continue
        try:
            check.run(codec)
        except CheckFailed as failure:
            found[check.id] = failure
        except Unsupported:
            continue
    return found


def with_attributes(change: Callable[[dict], dict]) -> Callable[[str, WireEvent], WireEvent]:
    """Return a change of an event's attributes, in every binding."""
    return lambda _, event: WireEvent(change(dict(event.attributes)), event.data)
