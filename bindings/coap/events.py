"""From a complete request to its events (binding sections 3.0.5 to 3.4)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from bindings.binding import media_type_of
from bindings.coap import cbor_events, content_formats, json_events
from bindings.coap.attributes import read_attributes
from bindings.coap.filling import Filling, Moment, Peer, Route, RouteMode
from bindings.coap.identity import is_source_allowed
from bindings.coap.request import Request, RequestError
from bindings.errors import InvalidEventError, UnknownEncodingError
from bindings.event import Event, event_from_attributes, is_json_type
from bindings.json_format import is_json
from bindings.wire.coap import Code

Content = Literal["binary", "JSON event", "JSON batch", "CBOR event", "CBOR array", "CBOR sequence"]

_CONTENTS: Final[Mapping[RouteMode, Mapping[int, Content]]] = {
    "auto": {
        content_formats.LAB_EVENT_JSON: "JSON event",
        content_formats.LAB_BATCH_JSON: "JSON batch",
        content_formats.LAB_EVENT_CBOR: "CBOR event",
        content_formats.LAB_BATCH_CBOR: "CBOR array",
    },
    "structured": {content_formats.JSON: "JSON event", content_formats.CBOR: "CBOR event"},
    "batch": {
        content_formats.JSON: "JSON batch",
        content_formats.CBOR: "CBOR array",
        content_formats.CBOR_SEQUENCE: "CBOR sequence",
    },
}
"""What a Content-Format means on a route; what is not here is binary, or refused."""

_STRUCTURED: Final[Mapping[Content, Callable[[bytes, Filling], Event]]] = {
    "JSON event": json_events.decode_structured,
    "CBOR event": cbor_events.decode_structured,
}
_BATCHED: Final[Mapping[Content, Callable[[bytes, Filling, int], list[Event]]]] = {
    "JSON batch": json_events.decode_batch,
    "CBOR array": cbor_events.decode_array,
    "CBOR sequence": cbor_events.decode_sequence,
}


def decode_request(
    request: Request, payload: bytes, route: Route, peer: Peer, moment: Moment
) -> Sequence[Event]:
    """Return the events of a request whose payload is complete; an empty batch has none.

    Nothing of a request is returned unless all of it is valid.

    Raises:
        RequestError: 4.01, 4.03 or 4.06.
        UnknownEncodingError: 4.15.
        InvalidEventError: 4.00.
        TooManyEventsError: 4.13.
    """
    if route.needs_identity and not peer.is_authenticated:
        raise RequestError("credentials needed", Code.UNAUTHORIZED, reason="unauthenticated")
    if request.accept is not None and request.accept not in content_formats.ACCEPTED_ANSWERS:
        raise RequestError("no such answer", Code.NOT_ACCEPTABLE, reason="not_acceptable")
    content = content_of(route, request.content_format)
    query = read_attributes(request.queries)
    filling = Filling(request, payload, route, peer, moment, query)
    if content == "binary":
        events: Sequence[Event] = (_binary(request, payload, filling),)
    elif content in _STRUCTURED:
        events = (_STRUCTURED[content](payload, filling),)
    else:
        for name in ("id", "time"):  # they differ from event to event (section 3.2.5)
            query.pop(name, None)
        events = _BATCHED[content](payload, filling, route.max_batch_events)
    if not route.any_source:
        default = route.defaults.get("source", peer.source)
        roots = (default, peer.source, *peer.may_speak_for)
        for event in events:
            if event.source != default and not is_source_allowed(event.source, roots):
                raise RequestError(
                    "that source is not yours", Code.FORBIDDEN, reason="foreign_source"
                )
    return events


def content_of(route: Route, content_format: int | None) -> Content:
    """Return what a payload holds by route and Content-Format (section 3.0.5).

    Raises:
        UnknownEncodingError: a format that this route does not take.
    """
    if route.mode == "auto" and content_format not in content_formats.LAB:
        return "binary"
    if content_format is not None and (route.mode != "auto" or route.lab_formats):
        content = _CONTENTS[route.mode].get(content_format)
        if content is not None:
            return content
    shown = "none" if content_format is None else str(content_format)
    raise UnknownEncodingError(f"Content-Format {shown} is not taken here")


def _binary(request: Request, payload: bytes, filling: Filling) -> Event:
    attributes = filling.query
    content_type = _content_type(request.content_format, attributes.get("datacontenttype"))
    filling.complete(attributes)
    if not content_type and payload:
        content_type = "application/octet-stream"
    if content_type:
        attributes["datacontenttype"] = content_type
    if not payload:
        return event_from_attributes(attributes, None)
    if is_json_type(content_type):
        if not is_json(payload):
            raise InvalidEventError("the payload is no JSON", reason="json")
    elif media_type_of(content_type) == "text/plain":
        try:
            payload.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidEventError("the payload is no UTF-8", reason="charset") from error
    return event_from_attributes(attributes, payload)


def _content_type(number: int | None, named: str | None) -> str:
    """Return the media type that Content-Format and `c=` agree on, "" without both (2.1)."""
    if number is None:
        return named or ""
    registered = content_formats.MEDIA_TYPES.get(number)
    if registered is None:
        raise UnknownEncodingError(f"Content-Format {number} is not taken here")
    if named is None:
        return registered
    if content_formats.comparable(named) != content_formats.comparable(registered):
        raise InvalidEventError(
            "datacontenttype differs from the Content-Format",
            attribute="datacontenttype",
            reason="duplicate_attribute",
        )
    return named
