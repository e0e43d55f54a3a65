"""The event: one CloudEvent whose attributes obey the type rules of CloudEvents 1.0.2.

An `Event` that exists is valid: every constructor path ends in `__post_init__`, which checks each
attribute by spec.md "Type System" and "Context Attributes". Decoders therefore only collect what
the wire said; they neither check twice nor fill anything in. `time` is kept as the text that
arrived, integers and booleans only where the format carried them as such.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from bindings.errors import InvalidEventError, excerpt

if TYPE_CHECKING:
    from cloudevents.core.v1.event import CloudEvent

AttributeValue = str | int | bool | bytes
"""What an attribute can hold; URI, URI-reference and Timestamp stay text."""

CORE_ATTRIBUTES: Final = frozenset(
    {"specversion", "id", "source", "type", "datacontenttype", "dataschema", "subject", "time"}
)
REQUIRED_ATTRIBUTES: Final = ("specversion", "id", "source", "type")
INTEGER_MIN: Final = -(2**31)
INTEGER_MAX: Final = 2**31 - 1

# spec.md "Naming Conventions": lower-case ASCII letters and digits. The 20-character limit is a
# SHOULD NOT and is not enforced, because Knative itself uses longer names.
_NAME = re.compile(r"[a-z0-9]+")

# spec.md "Type System", String: no C0 and C1 controls, no surrogates, no noncharacters.
_FORBIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
    + "".join(chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(1, 17))
    + "]"
)

# RFC 3339 section 5.6; letters may be lower-case, seconds may be 60 (a leap second). What it can't
# tell is how long a month is.
_TIME = re.compile(
    r"(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"[Tt](?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?"
    r"(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_DAYS: Final = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

# RFC 3986 appendix A: a URI-reference by its characters, then by what can't be told from them.
_URI_CHARACTERS = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
_URI_PARTS = re.compile(
    r"(?:([^:/?#]*):)?(?://([^/?#]*))?([^?#]*)(?:\?[^#]*)?(?:#(.*))?", re.DOTALL
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+\-.]*")
_AUTHORITY = re.compile(
    r"(?:[^@\[\]]*@)?(?:\[[0-9A-Fa-f:.vV~!$&'()*+,;=\-_G-Zg-z]+\]|[^@\[\]:]*)(?::\d*)?"
)

# RFC 2045 section 5.1 with RFC 2046's names: type "/" subtype *(";" parameter). No blank can be
# matched in two ways, or a hostile value would cost exponential time.
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 - a grammar, no password
_QUOTED = r'"(?:[\t !#-\[\]-~]|\\[\t -~])*"'
_MEDIA_TYPE = re.compile(
    rf"{_TOKEN}/{_TOKEN}[ \t]*(?:;[ \t]*(?:{_TOKEN}=(?:{_TOKEN}|{_QUOTED})[ \t]*)?)*"
)
_JSON_TYPE = re.compile(rf"{_TOKEN}/(?:{_TOKEN}\+)?json[ \t]*(?:;.*)?", re.IGNORECASE | re.DOTALL)

_Result = TypeVar("_Result")


def _remembered(check: Callable[[str], _Result]) -> Callable[[str], _Result]:
    """Make a check that remembers short values: producers send few sources, names and media types.

    A check costs 1 to 4 us, a memory 0.1 us. What raises is not remembered, and the two bounds keep
    what a hostile sender can occupy under 1 MiB a check.
    """
    remembering = lru_cache(maxsize=2048)(check)

    def checked(value: str) -> _Result:
        return remembering(value) if len(value) <= 128 else check(value)

    return wraps(check)(checked)


class Event(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One checked CloudEvent (spec.md 1.0.2).

    `data` holds the bytes of the payload: JSON as it stood on the wire, text in its own charset,
    anything else as it is. `None` means absent; `b""` means present and empty.

    Raises:
        InvalidEventError: an attribute breaks a rule; `attribute` names it.
    """

    id: str
    source: str
    type: str
    specversion: str = "1.0"
    datacontenttype: str | None = None
    dataschema: str | None = None
    subject: str | None = None
    time: str | None = None
    extensions: Mapping[str, AttributeValue] = {}
    data: bytes | None = None
    encoded: bytes | None = None
    """The JSON format bytes this event was decoded from, unchanged; `replace` drops them."""

    def __post_init__(self) -> None:
        if self.specversion != "1.0":
            raise InvalidEventError(
                f"specversion must be '1.0', not {excerpt(self.specversion)}",
                attribute="specversion",
                reason="specversion",
            )
        _check_text("id", self.id)
        _check_source(self.source)
        _check_type(self.type)
        if self.subject is not None:
            _check_text("subject", self.subject)
        if self.time is not None:
            _check_time(self.time)
        if self.datacontenttype is not None:
            _check_media_type(self.datacontenttype)
        if self.dataschema is not None:
            _check_dataschema(self.dataschema)
        if self.extensions:
            for name, value in self.extensions.items():
                check_extension(name, value)

    def __eq__(self, other: object) -> bool:
        """Compare what the event says; how it was written (`encoded`) is no part of it."""
        if not isinstance(other, Event):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash((self.id, self.source))

    def _key(self) -> tuple[object, ...]:
        # True == 1 in Python, and they are different attribute values.
        extensions = {name: (type(value), value) for name, value in self.extensions.items()}
        return (
            self.id, self.source, self.type, self.datacontenttype, self.dataschema,
            self.subject, self.time, extensions, self.data,
        )  # fmt: skip

    def replace(self, **changes: Any) -> "Event":
        """Return a checked copy with `changes`; its encoded form is forgotten."""
        changes.setdefault("encoded", None)
        return msgspec.structs.replace(self, **changes)

    def attributes(self) -> dict[str, AttributeValue]:
        """Return every attribute that is present, core first, by its wire name."""
        result: dict[str, AttributeValue] = {
            "specversion": self.specversion,
            "id": self.id,
            "source": self.source,
            "type": self.type,
        }
        if self.datacontenttype is not None:
            result["datacontenttype"] = self.datacontenttype
        if self.dataschema is not None:
            result["dataschema"] = self.dataschema
        if self.subject is not None:
            result["subject"] = self.subject
        if self.time is not None:
            result["time"] = self.time
        if self.extensions:
            result.update(self.extensions)
        return result

    @property
    def key(self) -> str:
        """What order is kept by: `partitionkey` if the event has one, else `source`."""
        value = self.extensions.get("partitionkey")
        return value if isinstance(value, str) else self.source

    @property
    def has_json_data(self) -> bool:
        """Whether the data is JSON by its media type (json-format.md 3.1); absent means no."""
        return self.datacontenttype is not None and is_json_type(self.datacontenttype)

    def to_sdk(self) -> "CloudEvent":
        """Return the event as the official Python SDK's type (needs `cloudevents-gateway[sdk]`)."""
        from bindings.sdk import to_sdk  # noqa: PLC0415 - the SDK is optional

        return to_sdk(self)

    @classmethod
    def from_sdk(cls, event: "CloudEvent") -> "Event":
        """Make an event of the official Python SDK's type."""
        from bindings.sdk import from_sdk  # noqa: PLC0415 - the SDK is optional

        return from_sdk(event)


def event_from_attributes(
    attributes: Mapping[str, AttributeValue],
    data: bytes | None,
    *,
    encoded: bytes | None = None,
) -> Event:
    """Make an event of wire names and values; nothing is invented.

    Raises:
        InvalidEventError: a required attribute is missing, or a value breaks its type's rule.
    """
    extensions: dict[str, Any] = dict(attributes)
    pop = extensions.pop
    core = pop("specversion", None), pop("id", None), pop("source", None), pop("type", None)
    if None in core:
        name = REQUIRED_ATTRIBUTES[core.index(None)]
        raise InvalidEventError(
            f"required attribute {name!r} is missing", attribute=name, reason="missing_attribute"
        )
    optional = (
        pop("datacontenttype", None),
        pop("dataschema", None),
        pop("subject", None),
        pop("time", None),
    )
    for value in core + optional:
        if not isinstance(value, str) and value is not None:
            raise _not_text(attributes)
    specversion, id_, source, type_ = core
    datacontenttype, dataschema, subject, time = optional
    return Event(
        id=id_,
        source=source,
        type=type_,
        specversion=specversion,
        datacontenttype=datacontenttype,
        dataschema=dataschema,
        subject=subject,
        time=time,
        extensions=extensions,
        data=data,
        encoded=encoded,
    )


def _not_text(attributes: Mapping[str, AttributeValue]) -> InvalidEventError:
    name = next(
        name for name in CORE_ATTRIBUTES if not isinstance(attributes.get(name), str | None)
    )
    return _wrong_type(name, f"{name} must be a string, not {excerpt(attributes[name])}")


@_remembered
def is_json_type(media_type: str) -> bool:
    """Whether a media type is JSON: `*/json` or `*/*+json`, parameters aside (json-format 3.1)."""
    return _JSON_TYPE.fullmatch(media_type) is not None


@_remembered
def is_valid_name(name: str) -> bool:
    """Whether `name` may name an attribute; `data` may not (spec.md "Naming Conventions")."""
    return _NAME.fullmatch(name) is not None and name != "data"


def check_extension(name: str, value: object) -> None:
    """Check an extension attribute's name and value.

    Raises:
        InvalidEventError: the name is no attribute name, or the value is of no attribute type.
    """
    if not is_valid_name(name):
        raise InvalidEventError(
            f"{excerpt(name)} is no attribute name: lower-case letters and digits, and not 'data'",
            attribute=name[:50],
            reason="attribute_name",
        )
    if isinstance(value, str):
        if not (value.isascii() and value.isprintable()) and _FORBIDDEN.search(value):
            raise _forbidden(name, value)
    elif isinstance(value, int):  # bool is an int, and in range
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            raise _wrong_type(name, f"{name} is outside the 32 bits of Integer: {excerpt(value)}")
    elif not isinstance(value, bytes):
        raise _wrong_type(
            name, f"{name} must be a string, integer, boolean or bytes, not {excerpt(value)}"
        )


def canonical_text(value: AttributeValue) -> str:
    """Return a value's canonical string (spec.md "Type System"): true/false, decimal, Base64."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    import base64  # noqa: PLC0415 - binary attributes are rare

    return base64.b64encode(value).decode("ascii")


def _forbidden(name: str, value: str) -> InvalidEventError:
    return InvalidEventError(
        f"{name} holds a control character, surrogate or noncharacter: {excerpt(value)}",
        attribute=name,
        reason="forbidden_character",
    )


def _wrong_type(name: str, text: str) -> InvalidEventError:
    return InvalidEventError(text, attribute=name, reason="attribute_type")


def _check_text(name: str, value: str) -> None:
    if not value:
        raise InvalidEventError(
            f"{name} must not be empty", attribute=name, reason="empty_attribute"
        )
    # Most values are printable ASCII, and both of these run in C.
    if not (value.isascii() and value.isprintable()) and _FORBIDDEN.search(value):
        raise _forbidden(name, value)


def _check_time(value: str) -> None:
    match = _TIME.fullmatch(value)
    if match:
        day = int(match[3])
        if day <= 28:
            return
        year, month = int(match[1]), int(match[2])
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        if day <= _DAYS[month] and (month != 2 or leap):
            return
    raise _wrong_type("time", f"time is no RFC 3339 timestamp: {excerpt(value)}")


@_remembered
def is_media_type(value: str) -> bool:
    """Whether `value` is a media type with well-formed parameters (RFC 2046)."""
    return _MEDIA_TYPE.fullmatch(value) is not None


def _check_media_type(value: str) -> None:
    if not is_media_type(value):
        raise _wrong_type(
            "datacontenttype", f"datacontenttype is no media type (RFC 2046): {excerpt(value)}"
        )


@_remembered
def _check_type(value: str) -> None:
    _check_text("type", value)


@_remembered
def _check_source(value: str) -> None:
    _check_uri_reference("source", value)


@_remembered
def _check_dataschema(value: str) -> None:
    if _check_uri_reference("dataschema", value)[1] is None:
        raise _wrong_type("dataschema", f"dataschema must be an absolute URI, not {excerpt(value)}")


def _check_uri_reference(name: str, value: str) -> "re.Match[str]":
    if not value:
        raise InvalidEventError(
            f"{name} must not be empty", attribute=name, reason="empty_attribute"
        )
    if _FORBIDDEN.search(value):
        raise _forbidden(name, value)
    parts = _URI_PARTS.fullmatch(value)
    if (
        parts is None
        or not _URI_CHARACTERS.fullmatch(value)
        or (parts[1] is not None and not _SCHEME.fullmatch(parts[1]))
        or (parts[2] is not None and not _AUTHORITY.fullmatch(parts[2]))
        or (parts[4] is not None and "#" in parts[4])
        or "[" in parts[3]
        or "]" in parts[3]
    ):
        raise _wrong_type(name, f"{name} is no URI-reference (RFC 3986 4.1): {excerpt(value)}")
    return parts
