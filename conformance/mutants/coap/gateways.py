"""How a mistake is put into a CoAP gateway: at a seam of the product, around what is right."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from bindings.coap import Moment, Peer, Request, Route, cbor_events
from bindings.event import Event
from bindings.wire import cbor
from bindings.wire.coap import Message, Option
from conformance.mutants.mutant import Catalogue, Patch, WrongProduct
from gateway.sources.coap import requests, source
from gateway.sources.coap.exchange import Exchange

Wrong = Callable[..., Any]
"""Stands in the place of a function, which is its first argument."""


class Gateways(Catalogue):
    """Wrong gateways.

    Args:
        families: of the checks that have to find them.
    """

    def __init__(self, *families: str) -> None:
        super().__init__(needs="target", protocol="coap", prefix="coap-")
        self._families = families or ("datagrams",)

    def wrong(
        self,
        rules: str,
        pitfall: int | None = None,
        *,
        families: tuple[str, ...] = (),
        only: str = "",
    ) -> Callable[[WrongProduct], WrongProduct]:
        """Collect a function that puts a mistake into a gateway.

        Args:
            rules: ids without `COAP-`, with blanks between; the first has the family that it
                breaks.
            pitfall: the number of the known one that it is.
            families: of the checks that have to find this one; those of the catalogue if none.
            only: part of the ids of these checks.
        """
        family = rules.partition("-")[0]
        ids = " ".join(f"COAP-{rule}" for rule in rules.split())
        fields = {"families": families or self._families, "rule": family, "only": only}
        return self.patching(family if pitfall is None else pitfall, ids, **fields)


def around(patch: Patch, holder: Any, name: str, wrong: Wrong) -> None:
    """Replace an attribute that is a function by another that may call it."""
    right = getattr(holder, name)

    def replaced(*args: Any, **named: Any) -> Any:
        return wrong(right, *args, **named)

    patch(holder, name, replaced)


def arriving(patch: Patch, change: Callable[[bytes], bytes]) -> None:
    """Change every datagram before it is parsed."""
    around(patch, source, "parse", lambda right, datagram: right(change(datagram)))


def parsed(patch: Patch, change: Callable[[Message], Message]) -> None:
    """Change every message that was in a datagram."""
    around(patch, source, "parse", lambda right, datagram: change(right(datagram)))


def options(patch: Patch, change: Callable[[list[Option]], Sequence[Option]]) -> None:
    """Change the options of a request before they are judged."""

    def wrong(right: Any, message: Message) -> Any:
        return right(msgspec.structs.replace(message, options=list(change(list(message.options)))))

    around(patch, requests, "read_request", wrong)


def without(patch: Patch, *numbers: int) -> None:
    """Ignore options."""
    options(patch, lambda found: [option for option in found if option[0] not in numbers])


def understood(patch: Patch, change: Callable[[Request], None]) -> None:
    """Change what the options of a request say; may raise."""

    def wrong(right: Any, message: Message) -> Request:
        request: Request = right(message)
        change(request)
        return request

    around(patch, requests, "read_request", wrong)


Decoding = Callable[[Request, bytes, Route, Peer, Moment], Sequence[Event]]


def decoding(
    patch: Patch,
    wrong: Callable[[Decoding, Request, bytes, Route, Peer, Moment], Sequence[Event]],
) -> None:
    """Replace what makes events of a whole request."""
    around(patch, requests, "decode_request", wrong)


def routed(patch: Patch, **fields: Any) -> None:
    """Change fields of every route."""
    decoding(
        patch,
        lambda right, request, payload, route, peer, moment: right(
            request, payload, msgspec.structs.replace(route, **fields), peer, moment
        ),
    )


def events(patch: Patch, change: Callable[[Event], Event]) -> None:
    """Change every event of a request."""
    decoding(patch, lambda right, *args: [change(event) for event in right(*args)])


def changed(event: Event, **fields: Any) -> Event:
    """Return the event with other fields, as unchecked as a wrong gateway has it."""
    return msgspec.structs.replace(event, **fields)


def answers(patch: Patch, change: Callable[[Exchange, bytes], bytes]) -> None:
    """Change every answer over UDP: code, options and payload."""

    def wrong(right: Any, self: Any, exchange: Exchange, answer: bytes) -> None:
        right(self, exchange, change(exchange, answer) if answer else answer)

    around(patch, source.CoapSource, "_finish", wrong)


def codes(patch: Patch, replaced: dict[int, int]) -> None:
    """Answer with other codes."""
    answers(patch, lambda _, answer: bytes((replaced.get(answer[0], answer[0]),)) + answer[1:])


Entry = tuple[Any, Any, bytes]
"""Key, value, and the bytes of the value."""


def entries(patch: Patch, change: Callable[[list[Entry]], list[Entry]]) -> None:
    """Change the entries of each map that should be an event."""
    around(
        patch,
        cbor_events,
        "read_members",
        lambda right, item: cbor.Map(change(list(right(item)))),
    )
