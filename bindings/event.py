"""The event: one CloudEvent whose attributes obey the type rules of CloudEvents 1.0.2.

An `Event` that exists is valid: every constructor path ends in `__post_init__`, which checks each
attribute by spec.md "Type System" and "Context Attributes"; who makes a `CheckedEvent` has done so.
Decoders therefore only collect what the wire said; they neither check twice nor fill anything in.
`time` is kept as the text that arrived, integers and booleans only where the format has them.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bindings.errors import InvalidEventError, excerpt
from bindings.memory import Memory
from bindings.timestamp import is_timestamp, is_usual_timestamp

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

# RFC 3986 appendix A: a URI-reference by its characters, then by what can't be told from them.
_URI_CHARACTERS = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
_URI_PARTS = re.compile(
    r"(?:([^:/?#]*):)?(?://([^/?#]*))?([^?#]*)(?:\?[^#]*)?(?:#(.*))?", re.DOTALL
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+\-.]*")
_AUTHORITY = re.compile(
    r"(?:[^@\[\]]*@)?(?:\[[0-9A-Fa-f:.vV~!$&'()*+,;=\-_G-Zg-z]+\]|[^@\[\]:]*)(?::\d*)?"
)

# What nearly all sources are, and what can be told at once: of unreserved characters, with or
# without a scheme and a host. A fleet may have more sources than can be remembered.
_USUAL_REFERENCE = re.compile(
    r"[A-Za-z][A-Za-z0-9+\-.]*:(?:(?!//)[A-Za-z0-9\-._~/:]+"
    r"|//[A-Za-z0-9\-._~]+(?::[0-9]+)?(?:/[A-Za-z0-9\-._~/]*)?)"
    r"|(?!//)[A-Za-z0-9\-._~/]+"
)

# RFC 2045 section 5.1 with RFC 2046's names: type "/" subtype *(";" parameter). No blank can be
# matched in two ways, or a hostile value would cost exponential time.
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 - a grammar, no password
_QUOTED = r'"(?:[\t !#-\[\]-~]|\\[\t -~])*"'
_MEDIA_TYPE = re.compile(
    rf"{_TOKEN}/{_TOKEN}[ \t]*(?:;[ \t]*(?:{_TOKEN}=(?:{_TOKEN}|{_QUOTED})[ \t]*)?)*"
)
_JSON_TYPE = re.compile(rf"{_TOKEN}/(?:{_TOKEN}\+)?json[ \t]*(?:;.*)?", re.IGNORECASE | re.DOTALL)

# Of the values that few producers send many of, those that are known: sources, types and schemas
# that are right, and how media types and names were judged. What is wrong is not remembered.
KNOWN_SOURCES: Final = Memory[str, None]()
KNOWN_TYPES: Final = Memory[str, None]()
KNOWN_DATASCHEMAS: Final = Memory[str, None]()
KNOWN_MEDIA_TYPES: Final = Memory[str, bool]()
_JSON_TYPES: Final = Memory[str, bool]()
_NAMES: Final = Memory[str, bool]()

_set: Final = msgspec.structs.force_setattr


class Event(msgspec.Struct, frozen=True, kw_only=True, eq=False, gc=False):
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
    key: str = ""
    """What order is kept by: `partitionkey` if the event has one, else `source`; found out here."""

    def __post_init__(self) -> None:  # noqa: C901, PLR0912 - one check for each attribute
        if self.specversion != "1.0":
            raise InvalidEventError(
                f"specversion must be '1.0', not {excerpt(self.specversion)}",
                attribute="specversion",
                reason="specversion",
            )
        # Written out, as calls cost more than the checks. No forbidden character is printable, and
        # one method in C tells that of a text; what is not printable is looked at more closely.
        text: str | None = self.id
        if not (text and text.isprintable()):
            _check_text("id", self.id)
        if self.source not in KNOWN_SOURCES:
            _check_source(self.source)
        if self.type not in KNOWN_TYPES:
            _check_type(self.type)
        text = self.subject
        if text is not None and not (text and text.isprintable()):
            _check_text("subject", text)
        text = self.time
        if text is not None and not is_usual_timestamp(text):
            _check_time(text)
        text = self.datacontenttype
        if text is not None and not KNOWN_MEDIA_TYPES.get(text):
            _check_media_type(text)
        text = self.dataschema
        if text is not None and text not in KNOWN_DATASCHEMAS:
            _check_dataschema(text)
        key = self.source
        for name, value in self.extensions.items():
            if not (type(value) is str and value.isprintable() and _NAMES.get(name)):
                check_extension(name, value)
            if name == "partitionkey" and isinstance(value, str):
                key = value
        _set(self, "key", key)

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
        return Event(**{**msgspec.structs.asdict(self), "encoded": None, **changes})

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


class CheckedEvent(Event, frozen=True, kw_only=True, eq=False, gc=False):
    """An event of values that its maker has checked as `Event` would; it has to say the `key`, too.

    For who has all values at hand, and finds out most of them by what is known: see
    `bindings.header_layout`. There is no other difference.
    """

    # Nothing is left to do, which a function of C does in a quarter of the time.
    __post_init__ = callable  # type: ignore[assignment, misc]


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
    specversion, id_ = pop("specversion", None), pop("id", None)
    source, type_ = pop("source", None), pop("type", None)
    datacontenttype, dataschema = pop("datacontenttype", None), pop("dataschema", None)
    subject, time = pop("subject", None), pop("time", None)
    if not (
        type(specversion) is type(id_) is type(source) is type(type_) is str
        and (datacontenttype is None or type(datacontenttype) is str)
        and (dataschema is None or type(dataschema) is str)
        and (subject is None or type(subject) is str)
        and (time is None or type(time) is str)
    ):
        _check_core(attributes)
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


def _check_core(attributes: Mapping[str, AttributeValue]) -> None:
    for name in REQUIRED_ATTRIBUTES:
        if attributes.get(name) is None:
            raise InvalidEventError(
                f"required attribute {name!r} is missing",
                attribute=name,
                reason="missing_attribute",
            )
    for name in CORE_ATTRIBUTES:
        if not isinstance(attributes.get(name), str | None):
            raise _wrong_type(name, f"{name} must be a string, not {excerpt(attributes[name])}")


def is_json_type(media_type: str) -> bool:
    """Whether a media type is JSON: `*/json` or `*/*+json`, parameters aside (json-format 3.1)."""
    known = _JSON_TYPES.get(media_type)
    if known is None:
        known = _JSON_TYPE.fullmatch(media_type) is not None
        _JSON_TYPES.remember(media_type, known, len(media_type))
    return known


def is_valid_name(name: str) -> bool:
    """Whether `name` may name an attribute; `data` may not (spec.md "Naming Conventions")."""
    known = _NAMES.get(name)
    if known is None:
        known = _NAME.fullmatch(name) is not None and name != "data"
        _NAMES.remember(name, known, len(name))
    return known


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
        if not value.isprintable() and _FORBIDDEN.search(value):
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
    if not value.isprintable() and _FORBIDDEN.search(value):
        raise _forbidden(name, value)


def _check_type(value: str) -> None:
    _check_text("type", value)
    KNOWN_TYPES.remember(value, None, len(value))


def _check_time(value: str) -> None:
    if not is_timestamp(value):
        raise _wrong_type("time", f"time is no RFC 3339 timestamp: {excerpt(value)}")


def is_media_type(value: str) -> bool:
    """Whether `value` is a media type with well-formed parameters (RFC 2046)."""
    known = KNOWN_MEDIA_TYPES.get(value)
    if known is None:
        known = _MEDIA_TYPE.fullmatch(value) is not None
        KNOWN_MEDIA_TYPES.remember(value, known, len(value))
    return known


def _check_media_type(value: str) -> None:
    if not is_media_type(value):
        raise _wrong_type(
            "datacontenttype", f"datacontenttype is no media type (RFC 2046): {excerpt(value)}"
        )


def _check_source(value: str) -> None:
    if not _USUAL_REFERENCE.fullmatch(value):
        _check_uri_reference("source", value)
    KNOWN_SOURCES.remember(value, None, len(value))


def _check_dataschema(value: str) -> None:
    if _check_uri_reference("dataschema", value)[1] is None:
        raise _wrong_type("dataschema", f"dataschema must be an absolute URI, not {excerpt(value)}")
    KNOWN_DATASCHEMAS.remember(value, None, len(value))


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
