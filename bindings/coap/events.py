"""From a complete request to its events, with what the gateway fills in (binding 5 to 7, 9.3)."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal

import msgspec

from bindings.binding import media_type_of
from bindings.coap import content_formats
from bindings.coap.attributes import read_attributes
from bindings.coap.identifier import generate_id
from bindings.coap.identity import is_source_allowed
from bindings.coap.request import Request, RequestError
from bindings.errors import CloudEventError, InvalidEventError, UnknownEncodingError
from bindings.event import Event, canonical_text, event_from_attributes, is_json_type
from bindings.json_format import decode_event, is_json
from bindings.wire.coap import Code

RouteMode = Literal["auto", "structured", "batch"]
Content = Literal["binary", "event", "batch"]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """An event resource: what requests to one path mean.

    Attributes:
        mode: what it takes; `auto` is binary unless a CloudEvents Content-Format says otherwise.
        defaults: attributes of events that lack them: type, subject, ...
        any_source: whether a peer may claim a source that is not its own.
        needs_identity: whether a peer without credentials is refused.
        lab_formats: whether the experimental Content-Formats are understood.
        fill_time: whether an event without time gets the time of its reception.
        max_event_bytes: the largest payload.
    """

    mode: RouteMode = "auto"
    defaults: Mapping[str, str] = {}
    any_source: bool = False
    needs_identity: bool = False
    lab_formats: bool = False
    fill_time: bool = True
    max_event_bytes: int = 65536


class Peer(msgspec.Struct, frozen=True):
    """Who sent a request.

    Attributes:
        endpoint: transport, address, port and security context, as bytes that differ when they do;
            over a stream, where nothing is retransmitted, random for each request (section 7.3).
        source: the source of its events when they name none (section 9.1).
        is_authenticated: whether it has shown credentials.
        may_speak_for: sources besides its own that it may use (section 9.3).
    """

    endpoint: bytes
    source: str
    is_authenticated: bool = False
    may_speak_for: tuple[str, ...] = ()


class Moment(msgspec.Struct, frozen=True):
    """When a request was received.

    Attributes:
        seconds: wall clock, since 1970.
        text: the same as an RFC 3339 timestamp.
    """

    seconds: float
    text: str


class BatchElementError(InvalidEventError):
    """One event of a batch is invalid, and so the whole batch.

    Attributes:
        position: which one, counted from 0.
    """

    def __init__(self, position: int, error: InvalidEventError) -> None:
        super().__init__(
            f"event {position}: {error}", attribute=error.attribute, reason=error.reason
        )
        self.position = position


def diagnostic(error: CloudEventError) -> str:
    """Return what to tell the producer, in at most 64 ASCII characters; never event data (8.3)."""
    if not isinstance(error, InvalidEventError):
        return str(error)[:64]
    words = error.reason.replace("_", " ")
    if error.attribute:
        words = f"{error.attribute[:20]!a}: {words}"
    if isinstance(error, BatchElementError):
        words = f"event {error.position}: {words}"
    return words[:64]


_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ELEMENTS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ENCODER: Final = msgspec.json.Encoder()


def decode_request(
    request: Request, payload: bytes, route: Route, peer: Peer, moment: Moment
) -> Sequence[Event]:
    """Return the events of a request whose payload is complete; an empty batch has none.

    Nothing of a request is returned unless all of it is valid.

    Raises:
        RequestError: 4.01, 4.03 or 4.06.
        UnknownEncodingError: 4.15.
        InvalidEventError: 4.00.
    """
    if route.needs_identity and not peer.is_authenticated:
        raise RequestError("credentials needed", Code.UNAUTHORIZED, reason="unauthenticated")
    if request.accept is not None and request.accept not in content_formats.ACCEPTED_ANSWERS:
        raise RequestError("no such answer", Code.NOT_ACCEPTABLE, reason="not_acceptable")
    content = content_of(route, request.content_format)
    attributes = read_attributes(request.queries)
    fill = _Fill(request, payload, route, peer, moment, attributes)
    if content == "binary":
        events: Sequence[Event] = (_binary(request, payload, attributes, fill),)
    elif content == "event":
        events = (_structured(payload, fill.defaults(), attributes, fill.new_id),)
    else:
        for name in ("id", "time"):  # they differ from event to event (section 6.4)
            attributes.pop(name, None)
        events = _batch(payload, fill, attributes)
    if not route.any_source:
        for event in events:
            if not is_source_allowed(event.source, fill.own_source, peer.may_speak_for):
                raise RequestError(
                    "that source is not yours", Code.FORBIDDEN, reason="foreign_source"
                )
    return events


def content_of(route: Route, content_format: int | None) -> Content:
    """Return what a payload holds by route and Content-Format (section 6).

    Raises:
        UnknownEncodingError: a format that this route does not take, or that is not decoded here.
    """
    if route.mode == "auto":
        if content_format not in content_formats.LAB:
            return "binary"
        if route.lab_formats and content_format == content_formats.LAB_EVENT_JSON:
            return "event"
        if route.lab_formats and content_format == content_formats.LAB_BATCH_JSON:
            return "batch"
    elif content_format == content_formats.JSON:
        return "event" if route.mode == "structured" else "batch"
    elif content_format == content_formats.CBOR or (
        route.mode == "batch" and content_format == content_formats.CBOR_SEQUENCE
    ):
        raise UnknownEncodingError("CBOR events are not decoded here")
    shown = "none" if content_format is None else str(content_format)
    raise UnknownEncodingError(f"Content-Format {shown} is not taken here")


class _Fill:
    """What the gateway fills in for one request (section 7.1)."""

    def __init__(
        self,
        request: Request,
        payload: bytes,
        route: Route,
        peer: Peer,
        moment: Moment,
        attributes: Mapping[str, str],
    ) -> None:
        self._request = request
        self._payload = payload
        self._route = route
        self._peer = peer
        self._moment = moment
        self._attributes = attributes
        self._id = ""
        self.own_source = route.defaults.get("source", peer.source)

    def new_id(self, position: int | None = None) -> str:
        """Return an id for the event, or for the one at a position of the batch (section 7.3)."""
        if not self._id:
            self._id = generate_id(
                self._request.message, self._payload, self._peer.endpoint, self._moment.seconds
            )
        return self._id if position is None else f"{self._id}.{position}"

    def defaults(self) -> dict[str, str]:
        """Return what an event without it gets, but for a new id; the query before the route."""
        defaults = {"specversion": "1.0", **self._route.defaults, **self._attributes}
        defaults.setdefault("source", self._peer.source)
        if self._route.fill_time:
            defaults.setdefault("time", self._moment.text)
        return defaults

    def complete(self, attributes: dict[str, str]) -> None:
        """Add to a binary-mode event what it lacks; `attributes` is changed."""
        for name, value in self._route.defaults.items():
            attributes.setdefault(name, value)
        attributes.setdefault("specversion", "1.0")
        attributes.setdefault("source", self._peer.source)
        if "id" not in attributes:
            attributes["id"] = self.new_id()
        if self._route.fill_time and "time" not in attributes:
            attributes["time"] = self._moment.text


def _binary(request: Request, payload: bytes, attributes: dict[str, str], fill: _Fill) -> Event:
    content_type = _content_type(request.content_format, attributes.get("datacontenttype"))
    fill.complete(attributes)
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
    """Return the media type that Content-Format and `c=` agree on, "" without both (5.1)."""
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


def _structured(
    payload: bytes,
    defaults: Mapping[str, str],
    query: Mapping[str, str],
    new_id: Callable[[], str],
) -> Event:
    event = decode_event(_completed(payload, defaults, new_id))
    if query:
        present = event.attributes()
        for name, value in query.items():
            if canonical_text(present.get(name, value)) != value:
                raise InvalidEventError(
                    f"{name} differs between query and event",
                    attribute=name,
                    reason="duplicate_attribute",
                )
    return event


def _completed(payload: bytes, defaults: Mapping[str, str], new_id: Callable[[], str]) -> bytes:
    """Return the JSON object with the members that it lacks put in front.

    So the event keeps an encoded form, which a structured sink sends without encoding it again.
    What else is wrong with the object is left for `decode_event` to find.
    """
    members = _decode_json(_MEMBERS, payload)
    lacking = {name: value for name, value in defaults.items() if _lacks(members, name)}
    if "id" not in defaults and _lacks(members, "id"):
        lacking["id"] = new_id()
    if not lacking:
        return payload
    if not lacking.keys().isdisjoint(members):
        return _without_nulls(payload, members, lacking)
    start = payload.index(b"{")
    separator = b"," if members else b""
    return _ENCODER.encode(lacking)[:-1] + separator + payload[start + 1 :]


def _lacks(members: Mapping[str, msgspec.Raw], name: str) -> bool:
    """Whether an attribute is absent; `null` means that it is (section 6.1)."""
    value = members.get(name)
    return value is None or bytes(value) == b"null"


def _without_nulls(
    payload: bytes, members: Mapping[str, msgspec.Raw], added: Mapping[str, str]
) -> bytes:
    """Return the object with `added` in the place of `null`."""
    # Rebuilding would hide a member that stands there twice; the hook's last call has them all.
    try:
        pairs = json.loads(
            payload, object_pairs_hook=lambda pairs: pairs, parse_int=str, parse_float=str
        )
    except RecursionError as error:
        raise InvalidEventError("the payload is nested too deep", reason="json") from error
    if len(pairs) != len(members):
        raise InvalidEventError("a member stands twice", reason="duplicate_attribute")
    return _ENCODER.encode({**members, **added})


def _batch(payload: bytes, fill: _Fill, query: Mapping[str, str]) -> list[Event]:
    elements = _decode_json(_ELEMENTS, payload)
    defaults = fill.defaults()
    events = []
    for position, element in enumerate(elements):
        new_id = partial(fill.new_id, position)
        try:
            events.append(_structured(bytes(element), defaults, query, new_id))
        except InvalidEventError as error:
            raise BatchElementError(position, error) from error
    return events


def _decode_json(decoder: "msgspec.json.Decoder[Any]", payload: bytes) -> Any:
    try:
        if not payload.isascii():
            payload.decode("utf-8")
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEventError("the payload is no JSON of the kind", reason="json") from error
