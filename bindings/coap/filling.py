"""What a gateway knows of a request beside what it says, and fills in (binding section 3.4)."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from bindings.coap.identifier import generate_id, id_of
from bindings.coap.request import Request
from bindings.errors import InvalidEventError
from bindings.event import Event, canonical_text

RouteMode = Literal["auto", "structured", "batch"]


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
        max_batch_events: the most events of a batch, base records included.
    """

    mode: RouteMode = "auto"
    defaults: Mapping[str, str] = {}
    any_source: bool = False
    needs_identity: bool = False
    lab_formats: bool = False
    fill_time: bool = True
    max_event_bytes: int = 65536
    max_batch_events: int = 1000


class Peer(msgspec.Struct, frozen=True):
    """Who sent a request.

    Attributes:
        endpoint: transport, address, port and security context, as bytes that differ when they do;
            over a stream, where nothing is retransmitted, random for each request (section 3.4.2).
        source: the source of its events when they name none (section 10.1).
        is_authenticated: whether it has shown credentials.
        may_speak_for: sources besides its own that it may use (section 10.4).
        request_name: what no other request ever has, where the security layer knows such a thing;
            ids come from it alone then (section 3.4.2).
    """

    endpoint: bytes
    source: str
    is_authenticated: bool = False
    may_speak_for: tuple[str, ...] = ()
    request_name: bytes = b""


class Moment(msgspec.Struct, frozen=True):
    """When a request was received.

    Attributes:
        seconds: wall clock, since 1970.
        text: the same as an RFC 3339 timestamp.
    """

    seconds: float
    text: str


class Filling:
    """What the gateway fills in for one request (section 3.4.1).

    Attributes:
        query: the attributes in the query; without `id` and `time` for a batch, where they differ
            from event to event (section 3.2.5).
        moment: when the request was received.
    """

    def __init__(
        self,
        request: Request,
        payload: bytes,
        route: Route,
        peer: Peer,
        moment: Moment,
        query: dict[str, str],
    ) -> None:
        self._request = request
        self._payload = payload
        self._route = route
        self._peer = peer
        self.moment = moment
        self.query = query
        self._id = ""

    def new_id(self, position: int | None = None) -> str:
        """Return an id for the event, or for the one at a position of the batch (section 3.4.2)."""
        if not self._id:
            peer = self._peer
            self._id = (
                id_of(peer.request_name)
                if peer.request_name
                else generate_id(
                    self._request.message, self._payload, peer.endpoint, self.moment.seconds
                )
            )
        return self._id if position is None else f"{self._id}.{position}"

    def defaults(self) -> dict[str, str]:
        """Return what an event without it gets, but for a new id; the query before the route."""
        defaults = {"specversion": "1.0", **self._route.defaults, **self.query}
        defaults.setdefault("source", self._peer.source)
        if self._route.fill_time:
            defaults.setdefault("time", self.moment.text)
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
            attributes["time"] = self.moment.text

    def check_agreement(self, event: Event) -> None:
        """Refuse an event that says something else than the query (section 3.2.5).

        Raises:
            InvalidEventError: an attribute differs.
        """
        if not self.query:
            return
        present = event.attributes()
        for name, value in self.query.items():
            if canonical_text(present.get(name, value)) != value:
                raise InvalidEventError(
                    f"{name} differs between query and event",
                    attribute=name,
                    reason="duplicate_attribute",
                )
