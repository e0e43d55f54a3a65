"""The records that adapters' configurations are made of, with the types of their values.

One record per table of the file; unknown keys are errors. An adapter subclasses `SourceConfig` or
`SinkConfig`. Each field's description is the reference documentation, with unit and reason.
"""

import re
from collections.abc import Collection, Hashable, Iterable
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    WithJsonSchema,
    model_validator,
)

from bindings.wrap import Wrapper
from gateway.config.problems import Keys
from gateway.config.worker import Place

_DURATION = re.compile(
    r"P(?:(?P<weeks>\d+(?:\.\d+)?)W)?(?:(?P<days>\d+(?:\.\d+)?)D)?"
    r"(?:T(?:(?P<hours>\d+(?:\.\d+)?)H)?(?:(?P<minutes>\d+(?:\.\d+)?)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?",
    re.ASCII,
)
_UNIT_SECONDS = {
    "weeks": 604800.0,
    "days": 86400.0,
    "hours": 3600.0,
    "minutes": 60.0,
    "seconds": 1.0,
}
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)?", re.ASCII)
_UNIT_BYTES = {
    "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
    "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip


def parse_duration(value: object) -> float:
    """Return seconds of an ISO 8601 duration (`PT0.2S`, `P1DT2H`) or of a number of seconds.

    Raises:
        ValueError: it is neither, is negative, or has years or months, whose length is not fixed.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not 0 <= value < float("inf"):
            raise ValueError("a duration must not be negative or infinite")
        return float(value)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or not any(match.groups()) or str(value).endswith("T"):
        raise ValueError("expected an ISO 8601 duration such as PT0.2S or PT5M, or seconds")
    return sum(
        _UNIT_SECONDS[unit] * float(text) for unit, text in match.groupdict().items() if text
    )


def parse_size(value: object) -> int:
    """Return bytes of a number or of a text such as `64KiB` or `1GB`.

    Raises:
        ValueError: it is neither, or negative.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError("a size must not be negative")
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected bytes, or a size such as 64KiB or 1GiB")
    return int(match[1]) * _UNIT_BYTES[match[2] or "B"]


_EVERY_HOST = frozenset({"0.0.0.0", "::"})  # noqa: S104 - to compare with


class Address(NamedTuple):
    """A host and a port; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def overlaps(self, other: "Address") -> bool:
        """Whether two listeners can't have both."""
        if self.port == 0 or self.port != other.port:
            return False
        return self.host == other.host or not {self.host, other.host}.isdisjoint(_EVERY_HOST)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")


def parse_address(value: object) -> Address:
    """Return the address of `host:port` or `[ipv6]:port`.

    Raises:
        ValueError: it is no such text, or the port is above 65535.
    """
    if isinstance(value, Address):
        return value
    match = (
        re.fullmatch(r"(?:\[([^\]]+)\]|([^:\[\]]*)):(\d{1,5})", value)
        if isinstance(value, str)
        else None
    )
    if match is None:
        raise ValueError("expected host:port, such as 0.0.0.0:5683 or [::]:5683")
    if int(match[3]) > 65535:
        raise ValueError("expected host:port, with a port of at most 65535")
    return Address(match[1] or match[2] or "0.0.0.0", int(match[3]))  # noqa: S104 - ":5683" asks for it


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": ["string", "number"], "examples": ["PT0.2S", 5]}),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"type": ["integer", "string"], "examples": ["64KiB", 65536]}),
]
Listen = Annotated[
    Address,
    BeforeValidator(parse_address),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["0.0.0.0:5683"]}),
]


class Record(BaseModel):
    """A table of the file: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class TlsConfig(Record):
    """TLS for a listener or a connection."""

    cert: Path | None = Field(
        default=None, description="PEM file with our certificate and its chain"
    )
    key: Path | None = Field(
        default=None, description="PEM file with the private key, if not in `cert`"
    )
    ca: Path | None = Field(
        default=None, description="PEM file with the CAs we trust; default: the system's"
    )
    verify: bool | None = Field(
        default=None,
        description="connections: check the server's certificate (default true); "
        "listeners: demand a client certificate (default: true when `ca` is set)",
    )

    @property
    def demands_certificate(self) -> bool:
        """Whether a listener takes nobody without a certificate."""
        return self.ca is not None if self.verify is None else self.verify


class LimitsConfig(Record):
    """Bounds on what is held in memory."""

    max_event_bytes: Size = Field(
        default=65536,
        description="largest message taken; "
        "CloudEvents asks for at least 64 KiB (spec.md, Size Limits)",
    )
    max_batch_events: int = Field(
        default=1000,
        ge=1,
        description="most events taken in one message, over HTTP and CoAP; while they are decoded "
        "everything else waits",
    )
    inflight: int = Field(
        default=1000,
        ge=1,
        description="events under way per route; beyond it sources wait or refuse",
    )


class EventTemplate(Record):
    """How to make an event of a plain payload (wrap); `{...}` stands for facts of the protocol."""

    type: str = Field(description="event type, such as com.acme.temp.v1")
    source: str = Field(description="event source, such as /plant/{topic[1]}")
    subject: str | None = Field(default=None, description="event subject, such as {topic}")
    datacontenttype: str = Field(
        default="auto",
        description="media type of the payload; "
        "auto: JSON if it parses, else UTF-8 text, else bytes",
    )
    dataschema: str | None = Field(default=None, description="URI of the payload's schema")
    extensions: dict[str, str] = Field(default={}, description="extension attributes, by name")

    @model_validator(mode="after")
    def _can_make_events(self) -> Self:
        self.wrapper()
        return self

    def wrapper(self) -> Wrapper:
        """Return what makes events by this table."""
        return Wrapper(
            type=self.type,
            source=self.source,
            subject=self.subject,
            datacontenttype=self.datacontenttype,
            dataschema=self.dataschema,
            extensions=self.extensions,
        )


class AdapterConfig(Record):
    """What every source and sink has."""

    name: str = Field(
        default="", exclude=True, description="the table's key in the file; set by the loader"
    )
    protocol: str = Field(description="which adapter: its entry-point name")
    tls: TlsConfig | None = Field(default=None, description="TLS; absent: as the URL's scheme says")
    username: str | None = Field(default=None, description="the protocol's user name")
    password: SecretStr | None = Field(
        default=None, description="its password; ${NAME} or ${file:PATH}"
    )


class SourceConfig(AdapterConfig):
    """What every source has.

    Attributes:
        datagram_listeners: the keys of type `Listen` that are about UDP; the others are about TCP.
    """

    datagram_listeners: ClassVar[frozenset[str]] = frozenset()

    limits: LimitsConfig = Field(
        default=LimitsConfig(), description="bounds of this source; default: the file's"
    )
    event: EventTemplate | None = Field(
        default=None, description="how to wrap a message that is no CloudEvent"
    )
    reuse_port: bool = Field(
        default=False, exclude=True, description="other workers listen at the same address"
    )

    def for_worker(self, place: Place) -> Self | None:
        """Return what one of several workers opens of this source; None: nothing.

        A source that says nothing else is opened by worker 0 alone.
        """
        return self if place.number == 0 else None

    def listening_beside(self, place: Place) -> Self | None:
        """Return the source of a worker that listens where the others do (SO_REUSEPORT)."""
        if place.is_retired:
            return None
        return self.model_copy(update={"reuse_port": not place.is_alone})

    def counted_keys(self) -> Iterable[tuple[Keys, Collection[Hashable]]]:
        """Yield cryptographic keys of which no nonce may be used twice, and where they stand.

        Two sources count on their own, so no such key may be in both.
        """
        return ()


class SinkConfig(AdapterConfig):
    """What every sink has."""
