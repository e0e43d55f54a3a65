"""Attributes as Uri-Query options and back (binding section 3.1.3)."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from bindings.errors import InvalidEventError, excerpt
from bindings.event import Event, canonical_text, is_valid_name

SHORT_NAMES: Final = {
    "t": "type",
    "i": "id",
    "s": "source",
    "j": "subject",
    "m": "time",
    "d": "dataschema",
    "c": "datacontenttype",
    "v": "specversion",
}
"""One-letter spellings of the core attributes, for constrained producers."""

WAIT: Final = "w"
"""No attribute: how many seconds to wait for a command (binding section 13)."""

PREFIX: Final = "ce-"
"""Names any attribute; the only way to name an extension of one letter."""

MAX_QUERY_BYTES: Final = 255
"""RFC 7252 5.10: a Uri-Query holds at most as much; what is longer needs structured mode."""


def read_attributes(queries: Iterable[bytes]) -> dict[str, str]:
    """Return the attributes that Uri-Query options name, not yet checked by type.

    Raises:
        InvalidEventError: no `=`, a name that is none, one attribute twice, or no UTF-8.
    """
    attributes: dict[str, str] = {}
    for query in queries:
        try:
            name, separator, value = query.decode().partition("=")
        except UnicodeDecodeError as error:
            raise InvalidEventError("a query is no UTF-8", reason="forbidden_character") from error
        if not separator:
            raise InvalidEventError("a query without '='", reason="attribute_name")
        attribute = _ATTRIBUTES.get(name)
        if attribute is None:
            if name == WAIT:
                continue  # this gateway has no commands to deliver: there is nothing to wait for
            attribute = _known_name(name) if len(name) <= _MAX_KNOWN else _long_name(name)
        if attribute in attributes:
            raise InvalidEventError(
                f"{attribute} stands in the query twice",
                attribute=attribute,
                reason="duplicate_attribute",
            )
        attributes[attribute] = value
    return attributes


def write_attributes(event: Event) -> list[tuple[str, str]]:
    """Return names and values of Uri-Query options for every attribute but `datacontenttype`.

    Core attributes take their one-letter names; `specversion` is left out, as 1.0 is what its
    absence means (binding section 3.4.1).

    Raises:
        InvalidEventError: a value too long for a Uri-Query; only structured mode can carry it.
    """
    queries = []
    for attribute, value in event.attributes().items():
        if attribute in {"specversion", "datacontenttype"}:
            continue
        queries.append((spelling(attribute), checked_value(attribute, canonical_text(value))))
    return queries


def spelling(attribute: str) -> str:
    """Return the shortest name of an attribute in a query."""
    if attribute in _LETTERS:
        return _LETTERS[attribute]
    return attribute if len(attribute) > 1 else PREFIX + attribute


def checked_value(attribute: str, value: str) -> str:
    """Return `value` if it fits into a Uri-Query beside its name.

    Raises:
        InvalidEventError: it does not.
    """
    if len(spelling(attribute)) + 1 + len(value.encode()) > MAX_QUERY_BYTES:
        raise InvalidEventError(
            f"{attribute} is too long for a Uri-Query; use structured mode", attribute=attribute
        )
    return value


_LETTERS: Final = {name: letter for letter, name in SHORT_NAMES.items()}
_ATTRIBUTES: Final = (
    SHORT_NAMES
    | {name: name for name in SHORT_NAMES.values()}
    | {PREFIX + name: name for name in SHORT_NAMES.values()}
)


def _long_name(name: str) -> str:
    attribute = name.removeprefix(PREFIX)
    if is_valid_name(attribute) and (len(attribute) > 1 or name != attribute):
        return attribute
    raise InvalidEventError(
        f"{excerpt(name)} names no attribute", attribute=name[:50], reason="attribute_name"
    )


_MAX_KNOWN: Final = 64
# The same few names come with every request; what raises is not remembered.
_known_name = lru_cache(maxsize=1024)(_long_name)
