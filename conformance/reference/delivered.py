"""What an HTTP request delivers, in any content mode, read by the text of the documents alone."""

import json
from collections.abc import Iterator, Sequence

from bindings.binding import Message
from conformance.forms import WireEvent
from conformance.reference import cbor_event
from conformance.reference.carrier import BATCH_TYPE, CBOR_TYPE, Carrier
from conformance.reference.headers import Misread
from conformance.reference.json_event import read
from conformance.target import Request

__all__ = ["Misread", "message_of", "read_delivery"]


def message_of(request: Request) -> Message:
    """Return a request as a binding sees it."""
    headers = [pair for pair in request.headers if pair[0].lower() != "content-type"]
    return Message(request.body, request.header("content-type") or "", headers)


def read_delivery(request: Request) -> Sequence[WireEvent]:
    """Return the events that a request brings.

    Raises:
        Misread: it is no such request.
    """
    return list(_read(message_of(request)))


def _read(message: Message) -> Iterator[WireEvent]:
    media_type = message.content_type.partition(";")[0].strip(" \t").lower()
    if media_type == BATCH_TYPE:
        yield from map(read, _elements(message.payload or b""))
    elif media_type == CBOR_TYPE:
        yield cbor_event.read(message.payload or b"")
    elif media_type.startswith("application/cloudevents"):
        yield Carrier("http", "structured").read(message)
    else:
        yield Carrier("http", "binary").read(message)


def _elements(payload: bytes) -> Iterator[bytes]:
    """Yield the members of a JSON array, each as it is written."""
    text = payload.decode("utf-8").strip()
    place = 1
    if not text.startswith("["):
        raise Misread("a batch is an array")
    while text[place:].lstrip(" \t\r\n,") != "]":
        start = place + len(text[place:]) - len(text[place:].lstrip(" \t\r\n,"))
        _, place = json.JSONDecoder().raw_decode(text, start)
        yield text[start:place].encode()
