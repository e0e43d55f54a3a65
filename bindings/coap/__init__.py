"""CloudEvents over CoAP (docs/bindings/coap.md): the pure codec, for the source and for clients.

    content_formats   Content-Format numbers and media types
    attributes        attributes as Uri-Query options
    request           what a request's options say, and which are refused
    identifier        the id of an event that has none
    protected         what a message under OSCORE shows, and what is inside
    identity          who has shown credentials, and which sources are its own
    filling           what a gateway knows beside the request, and fills in
    events            from a complete request to events
    json_events       structured and batch mode in JSON
    cbor_events       the same in CBOR, compact form and base records included
    diagnostics       what to tell the producer

`COAP` is the binding as other protocols have it: one message of attributes and payload, nothing
filled in. A gateway does more, as constrained devices leave out what it can know: `decode_request`.
"""

from collections.abc import Sequence
from typing import Final

from bindings.binding import (
    EVENT_MEDIA_TYPE,
    ContentMode,
    Message,
    claims_structured,
    decode_structured,
)
from bindings.coap import content_formats
from bindings.coap.attributes import checked_value, read_attributes, write_attributes
from bindings.coap.diagnostics import diagnostic
from bindings.coap.events import decode_request
from bindings.coap.filling import Moment, Peer, Route, RouteMode
from bindings.coap.identifier import assembly_key, generate_id
from bindings.coap.identity import Identity, default_source
from bindings.coap.request import Request, RequestError, read_request
from bindings.errors import NotAnEventError
from bindings.event import Event, event_from_attributes
from bindings.json_format import encode_event
from bindings.wire.coap import Number, Option, from_uint

__all__ = [
    "COAP",
    "Identity",
    "Moment",
    "Peer",
    "Request",
    "RequestError",
    "Route",
    "RouteMode",
    "assembly_key",
    "content_formats",
    "decode_request",
    "default_source",
    "diagnostic",
    "generate_id",
    "read_request",
    "request_options",
]

STRUCTURED_PATH: Final = "/ce/s"
AUTO_PATH: Final = "/ce"


class CoapBinding:
    """The headers of a message are its Uri-Query options, its content type a media type.

    CoAP selects structured mode by path and Content-Format 50; in a `Message` that is the
    CloudEvents media type at the content type, as everywhere.
    """

    name = "coap"
    losses: Final = frozenset({"empty", "defaults"})

    def decode(self, message: Message) -> Sequence[Event]:
        if claims_structured(message.content_type):
            return decode_structured(message)
        # What came with a lone surrogate was no UTF-8, and becomes so again to be refused.
        attributes = read_attributes(
            f"{name}={value}".encode("utf-8", "surrogatepass") for name, value in message.headers
        )
        if not attributes:
            raise NotAnEventError("no attributes in the query, no CloudEvents content type")
        attributes.setdefault("specversion", "1.0")
        if message.content_type:
            attributes.setdefault("datacontenttype", message.content_type)
        return (event_from_attributes(attributes, message.payload or None),)

    def encode(self, event: Event, mode: ContentMode) -> Message:
        content_type = event.datacontenttype or ""
        # A reader could not tell a nested event from structured mode, so the envelope has to.
        if mode == "structured" or claims_structured(content_type):
            return Message(encode_event(event), EVENT_MEDIA_TYPE, address=STRUCTURED_PATH)
        return Message(event.data or b"", content_type, write_attributes(event), address=AUTO_PATH)


COAP: Final = CoapBinding()


def request_options(message: Message) -> list[Option]:
    """Return the options of the POST that carries an encoded message, but for its path.

    Raises:
        InvalidEventError: the content type is too long for a Uri-Query.
    """
    options: list[Option] = []
    content_type = message.content_type
    if content_type == EVENT_MEDIA_TYPE:
        options.append((Number.CONTENT_FORMAT, from_uint(content_formats.JSON)))
    elif content_type:
        number = content_formats.number_of(content_type)
        if number is not None:
            options.append((Number.CONTENT_FORMAT, from_uint(number)))
        if number is None or content_formats.MEDIA_TYPES[number] != content_type:
            # No number says this, or not with this spelling.
            text = checked_value("datacontenttype", content_type)
            options.append((Number.URI_QUERY, b"c=" + text.encode()))
    options += [(Number.URI_QUERY, f"{name}={value}".encode()) for name, value in message.headers]
    return options
