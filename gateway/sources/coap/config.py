"""The CoAP source's table in the configuration."""

import re
from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import ClassVar, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from bindings.errors import InvalidEventError
from bindings.wrap import Template
from gateway.config.problems import Keys
from gateway.config.records import (
    Address,
    Duration,
    EventTemplate,
    Listen,
    Record,
    Size,
    SourceConfig,
)
from gateway.config.worker import Place
from gateway.sources.coap.oscore_config import OscoreContexts
from gateway.sources.coap.psk import PreSharedKey, check_identities

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@A-Z]+")
"""As browsers send it: in lower case and without a path (RFC 6454 6.2)."""


class CoapRoute(Record):
    """One event resource."""

    mode: Literal["auto", "structured", "batch"] = Field(
        "auto",
        description="auto: attributes in the query, data in the payload; "
        "structured: one event in the payload, in JSON or CBOR; batch: events in a JSON or CBOR "
        "array or a CBOR sequence",
    )
    type: str | None = Field(None, description="type of events that name none; templates allowed")
    source: str | None = Field(
        None,
        description="source of events that name none, such as /devices/{device}; default: "
        "/devices/{device}, the label of its credentials, or else coap://{device}, its IP address",
    )
    subject: str | None = Field(
        None, description="subject of events that name none; templates allowed"
    )
    source_policy: Literal["own", "any"] = Field(
        "own",
        description="own: an event's source must be the sender's own or below it, else 4.03; "
        "any: whatever the sender says",
    )
    authentication: Literal["none", "required"] = Field(
        "none", description="required: senders without credentials are answered 4.01"
    )
    max_event_bytes: Size | None = Field(
        None, description="largest payload, blocks put together; default: `limits.max_event_bytes`"
    )
    lab_formats: bool | None = Field(
        None, description="as `lab_formats` of the source, for this route"
    )
    fill_time: bool = Field(
        default=True, description="give events without `time` the time of their reception"
    )
    title: str | None = Field(None, description="what /.well-known/core calls it, for people")
    hidden: bool = Field(default=False, description="leave it out of /.well-known/core")

    @field_validator("title")
    @classmethod
    def _is_one_line(cls, title: str | None) -> str | None:
        if title is not None and not title.isprintable():
            raise ValueError("a title is one line of text")
        return title

    def templates(self, event: EventTemplate | None) -> dict[str, Template]:
        """Return the templates of attributes that events lack, by attribute.

        Args:
            event: the source's `event:` table; it gives an auto route what that does not say.

        Raises:
            ValueError: one is malformed.
        """
        texts: dict[str, str | None] = {
            "type": self.type,
            "source": self.source,
            "subject": self.subject,
        }
        if event is not None and self.mode == "auto":
            table: Mapping[str, str | None] = {
                "type": event.type,
                "source": event.source,
                "subject": event.subject,
                "dataschema": event.dataschema,
                **event.extensions,
            }
            texts = {name: texts.get(name) or text for name, text in table.items()}
        return {
            name: Template(text, uri=name in {"source", "dataschema"})
            for name, text in texts.items()
            if text is not None
        }


DEFAULT_ROUTES: Final = {
    "/ce": CoapRoute(mode="auto"),
    "/ce/s": CoapRoute(mode="structured"),
    "/ce/b": CoapRoute(mode="batch"),
}


class CoapSourceConfig(SourceConfig):
    """A CoAP server over UDP, and by choice over DTLS, TCP, TLS and WebSockets (RFC 8323)."""

    datagram_listeners: ClassVar[frozenset[str]] = frozenset({"listen", "listen_dtls"})

    listen: Listen | None = Field(
        Address("0.0.0.0", 5683),  # noqa: S104 - devices are elsewhere
        description="where to listen (UDP); null for none; on a host with several addresses name "
        "one, since answers leave from the address that the system chooses",
    )
    listen_dtls: Listen | None = Field(
        None,
        description="where to listen for DTLS sessions (coaps), usually port 5684; needs `psk`",
    )
    psk: dict[str, PreSharedKey] = Field(
        {},
        description="pre-shared keys for DTLS by identity, which says what source is the sender's "
        "own, as /devices/IDENTITY",
    )
    max_sessions: int = Field(
        4096,
        ge=1,
        description="DTLS sessions at once, up to 100 KB each; one more ends the least used of the "
        "identity that has the most",
    )
    session_timeout: Duration = Field(
        86400.0,
        gt=0,
        description="how long a DTLS session may be silent; its sender has to begin another then",
    )
    listen_tcp: Listen | None = Field(
        None, description="where to listen for connections (coap+tcp), usually port 5683"
    )
    listen_tls: Listen | None = Field(
        None,
        description="where to listen for TLS connections (coaps+tcp), usually port 5684; "
        "needs `tls`, and with `tls.ca` a client's certificate says which source is its own",
    )
    listen_ws: Listen | None = Field(
        None,
        description="where to listen for WebSockets (coap+ws), usually port 80; "
        "the path is /.well-known/coap",
    )
    listen_wss: Listen | None = Field(
        None,
        description="where to listen for WebSockets over TLS (coaps+ws), usually port 443; "
        "needs `tls`, as `listen_tls` does",
    )
    ws_origins: list[str] = Field(
        [],
        description="web pages that may connect by WebSocket, such as https://app.example.com, "
        'or "*" for all; what is no browser sends no Origin and is never asked for one',
    )
    max_connections: int = Field(
        10_000, ge=1, description="connections at once; one more is closed unanswered"
    )
    message_timeout: Duration = Field(
        30.0,
        gt=0,
        description="how long a connection may be silent before its first message, "
        "and how long a message or a DTLS handshake may take; then it is aborted",
    )
    routes: dict[str, CoapRoute] = Field(
        DEFAULT_ROUTES,
        min_length=1,
        description="event resources by path; default: /ce (auto), /ce/s and /ce/b",
    )
    ack_after: Duration = Field(
        1.0,
        gt=0,
        lt=2,
        description="when a sender is told to wait; below the 2 s after which it sends again "
        "(ACK_TIMEOUT, RFC 7252 4.8)",
    )
    sink_timeout: Duration = Field(
        20.0,
        lt=93,
        description="when 5.04 is answered; below the 93 s that senders wait "
        "(MAX_TRANSMIT_WAIT, RFC 7252 4.8.2)",
    )
    lab_formats: bool = Field(
        default=False,
        description="understand the experimental Content-Formats 65060 and 65061; "
        "never in production (RFC 7252 12.3)",
    )
    inflight_per_endpoint: int = Field(
        16,
        ge=1,
        description="requests of one address and port under way; beyond it: 5.03, "
        "or the connection is read no further",
    )
    duplicates_max_bytes: Size = Field(
        64 * 2**20,
        description="memory for recognising repeated requests, about 170 bytes each for 247 s; "
        "when it is full entries leave after 47 s, and new requests are answered 5.03",
    )
    assembly_max_bytes: Size = Field(
        16 * 2**20,
        description="memory for payloads of which blocks are missing; the oldest go first",
    )
    oscore: OscoreContexts = Field(
        [],
        description="security contexts of OSCORE (RFC 8613), one for each device; each belongs to "
        "one source of one gateway, and to a host whose clock does not go back from start to start",
    )
    receive_buffer_bytes: Size = Field(
        4 * 2**20,
        description="socket buffer for bursts; the system may grant less (net.core.rmem_max)",
    )

    @property
    def has_streams(self) -> bool:
        """Whether it listens for connections of any kind."""
        return any((self.listen_tcp, self.listen_tls, self.listen_ws, self.listen_wss))

    def for_worker(self, place: Place) -> Self | None:
        if self.oscore:  # its keys count messages: two processes would use a nonce twice
            return super().for_worker(place)
        return self.listening_beside(place)

    def counted_keys(self) -> Iterable[tuple[Keys, Collection[Hashable]]]:
        for position, context in enumerate(self.oscore):
            yield ("oscore", position), context.keys

    @field_validator("routes")
    @classmethod
    def _have_paths(cls, routes: dict[str, CoapRoute]) -> dict[str, CoapRoute]:
        for path in routes:
            if not path.startswith("/") or "//" in path or (path.endswith("/") and path != "/"):
                raise ValueError(f"{path!r} is no path such as /ce/s")
            if any(len(segment.encode()) > 255 for segment in path.split("/")):
                raise ValueError(f"{path!r}: a segment has at most 255 bytes (RFC 7252 5.10)")
            if path == "/.well-known/core":
                raise ValueError("/.well-known/core lists the others (RFC 6690)")
        return routes

    @field_validator("ws_origins")
    @classmethod
    def _are_origins(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin such as https://app.example.com")
        return origins

    @field_validator("psk")
    @classmethod
    def _have_identities(cls, psk: dict[str, PreSharedKey]) -> dict[str, PreSharedKey]:
        check_identities(psk)
        return psk

    @model_validator(mode="after")
    def _templates_can_be_filled(self) -> "CoapSourceConfig":
        for path, route in self.routes.items():
            for name, template in route.templates(self.event).items():
                try:
                    template.fill({"path": path, "device": "192.0.2.1"})
                except InvalidEventError as error:
                    raise ValueError(f"{name} of the route {path}: {error}") from None
        return self

    @model_validator(mode="after")
    def _in_order(self) -> "CoapSourceConfig":
        if self.sink_timeout <= self.ack_after:
            raise ValueError("sink_timeout must be longer than ack_after")
        return self

    @model_validator(mode="after")
    def _listens(self) -> "CoapSourceConfig":
        if self.listen is None and self.listen_dtls is None and not self.has_streams:
            raise ValueError("a listener is needed: listen, listen_dtls, listen_tcp, ...")
        if (self.listen_dtls is not None) is not bool(self.psk):
            raise ValueError("listen_dtls and psk need each other")
        over_tls = {"listen_tls": self.listen_tls, "listen_wss": self.listen_wss}
        if self.tls is not None and not any(over_tls.values()):
            raise ValueError(
                "tls serves listen_tls and listen_wss only, as DTLS has pre-shared keys: "
                "add one of them, or remove tls"
            )
        for name, listen in over_tls.items():
            if listen is not None and (self.tls is None or self.tls.cert is None):
                raise ValueError(f"{name} needs a tls table with cert")
        return self
