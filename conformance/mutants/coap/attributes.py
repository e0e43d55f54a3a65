"""Mistakes about names and values in the query (sections 3.1.3, 3.2.5)."""

import re
import unicodedata
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import bindings.event
from bindings.coap import Request
from bindings.coap import events as coap_events
from bindings.coap.attributes import SHORT_NAMES, WAIT
from bindings.coap.filling import Filling
from bindings.errors import InvalidEventError
from bindings.event import Event
from bindings.wire.coap import Number
from conformance.mutants.coap.gateways import (
    Gateways,
    around,
    changed,
    decoding,
    events,
    options,
)
from conformance.mutants.mutant import Patch

MUTANTS = Gateways()

_CORE: Final = frozenset(SHORT_NAMES.values())


def _queries(patch: Patch, change: Callable[[bytes], bytes | None]) -> None:
    """Change every Uri-Query option before it is read; one that becomes None is left out."""

    def wrong(right: Any, queries: Iterable[bytes]) -> Any:
        read = [change(query) for query in queries]
        return right([query for query in read if query is not None])

    around(patch, coap_events, "read_attributes", wrong)


def _name(query: bytes) -> str:
    return query.partition(b"=")[0].decode(errors="replace")


def _attribute(query: bytes) -> str:
    name = _name(query)
    return SHORT_NAMES.get(name, name.removeprefix("ce-"))


def _drop(patch: Patch, is_wrong: Callable[[bytes], object]) -> None:
    _queries(patch, lambda query: None if is_wrong(query) else query)


# --- names ----------------------------------------------------------------------------------------


@MUTANTS.wrong("ATTR-001", 80)
def values_are_cut_at_the_second_sign(patch: Patch) -> None:
    """A value with an equals sign is cut off there."""
    _queries(patch, lambda query: b"=".join(query.split(b"=")[:2]))


@MUTANTS.wrong("ATTR-001", 80)
def values_end_at_an_ampersand(patch: Patch) -> None:
    """A value with an ampersand is cut off there, as in the query of a URI."""
    _queries(patch, lambda query: query.partition(b"&")[0])


@MUTANTS.wrong("ATTR-002")
def flags_are_ignored(patch: Patch) -> None:
    """A Uri-Query option without an equals sign is ignored."""
    _drop(patch, lambda query: b"=" not in query)


@MUTANTS.wrong("ATTR-002")
def flags_are_true(patch: Patch) -> None:
    """A Uri-Query option without an equals sign is an extension that is true."""
    _queries(patch, lambda query: query if b"=" in query else query + b"=true")


@MUTANTS.wrong("ATTR-003")
def four_letters(patch: Patch) -> None:
    """Of the one-letter names those of the REQUIRED attributes are known."""
    _drop(patch, lambda query: _name(query) in {"j", "m", "d", "c"})


@MUTANTS.wrong("ATTR-004", 79)
def no_option_for_extensions(patch: Patch) -> None:
    """There is a place for each core attribute only, and extensions are lost."""
    _drop(patch, lambda query: b"=" in query and _attribute(query) not in {*_CORE, "data", WAIT})


@MUTANTS.wrong("ATTR-004", 79)
def options_for_attributes(patch: Patch) -> None:
    """Core attributes have short names only."""
    _drop(patch, lambda query: _name(query) in _CORE)


@MUTANTS.wrong("ATTR-005")
def no_prefix(patch: Patch) -> None:
    """Names with the prefix ce- are ignored."""
    _drop(patch, lambda query: query.startswith(b"ce-"))


@MUTANTS.wrong("ATTR-006 DOWN-005")
def w_is_an_attribute(patch: Patch) -> None:
    """The query w=N becomes an extension."""
    _queries(patch, lambda query: b"ce-" + query if _name(query) == WAIT else query)


@MUTANTS.wrong("DOWN-005 ATTR-006")
def w_is_refused(patch: Patch) -> None:
    """The query w=N is refused where there are no commands."""
    _queries(patch, lambda query: b"?" + query if _name(query) == WAIT else query)


@MUTANTS.wrong("ATTR-007")
def names_of_one_letter(patch: Patch) -> None:
    """Any letter is the name of an extension."""
    _queries(
        patch,
        lambda q: b"ce-" + q if len(_name(q)) == 1 and _name(q) not in {*SHORT_NAMES, WAIT} else q,
    )


@MUTANTS.wrong("ATTR-007")
def names_in_any_case(patch: Patch) -> None:
    """Names are read in small letters."""
    _queries(patch, lambda query: re.sub(rb"^[^=]*", lambda name: name[0].lower(), query))


@MUTANTS.wrong("ATTR-007")
def other_names_are_ignored(patch: Patch) -> None:
    """A query whose name can't be that of an attribute is for somebody else."""
    _drop(patch, lambda query: b"=" in query and not re.fullmatch("[a-z0-9]+", _attribute(query)))


@MUTANTS.wrong("ATTR-008")
def data_in_the_query(patch: Patch) -> None:
    """The name data is ignored."""
    _drop(patch, lambda query: _attribute(query) == "data")


@MUTANTS.wrong("ATTR-009")
def the_last_of_two_attributes(patch: Patch) -> None:
    """Of an attribute that stands there twice the last counts."""

    def wrong(right: Any, queries: Iterable[bytes]) -> dict[str, str]:
        merged: dict[str, str] = {}
        for query in queries:
            merged.update(right([query]))
        return merged

    around(patch, coap_events, "read_attributes", wrong)


@MUTANTS.wrong("ATTR-009")
def two_spellings_of_an_attribute(patch: Patch) -> None:
    """An attribute may stand there in two spellings."""

    def wrong(right: Any, queries: Iterable[bytes]) -> Any:
        first = {_name(query): query for query in queries}
        by_attribute = {_attribute(query): query for query in first.values()}
        is_twice = len(first) != len(list(queries))
        return right(list(queries) if is_twice else list(by_attribute.values()))

    around(patch, coap_events, "read_attributes", wrong)


@MUTANTS.wrong("ATTR-010")
def long_queries_are_cut(patch: Patch) -> None:
    """A Uri-Query of more than 255 bytes is cut off there."""
    options(
        patch,
        lambda found: [(n, v[:255]) if n == Number.URI_QUERY else (n, v) for n, v in found],
    )


# --- attributes in query and payload --------------------------------------------------------------


def _in_mode(patch: Patch, modes: set[str], change: Callable[[Request], None]) -> None:
    def wrong(right: Any, request: Request, payload: bytes, route: Any, *rest: Any) -> Any:
        if route.mode in modes:
            change(request)
        return right(request, payload, route, *rest)

    decoding(patch, wrong)


def _forget_queries(request: Request) -> None:
    request.queries = ()


@MUTANTS.wrong("ATTR-013")
def queries_of_structured_events_are_ignored(patch: Patch) -> None:
    """The query of a structured event is ignored."""
    _in_mode(patch, {"structured"}, _forget_queries)


@MUTANTS.wrong("ATTR-014")
def queries_may_contradict(patch: Patch) -> None:
    """An attribute of the query that differs from the event is ignored."""
    patch(Filling, "check_agreement", lambda _, __: None)


@MUTANTS.wrong("ATTR-015")
def queries_of_batches_are_ignored(patch: Patch) -> None:
    """The query of a batch is ignored."""
    _in_mode(patch, {"batch"}, _forget_queries)


@MUTANTS.wrong("ATTR-016")
def ids_of_batches_are_refused(patch: Patch) -> None:
    """An id or time in the query of a batch is refused."""

    def wrong(request: Request) -> None:
        if {_attribute(query) for query in request.queries} & {"id", "time"}:
            raise InvalidEventError("one id for all")

    _in_mode(patch, {"batch"}, wrong)


# --- values ---------------------------------------------------------------------------------------


def _values(patch: Patch, change: Callable[[str], str]) -> None:
    """Change each value that is UTF-8."""

    def wrong(query: bytes) -> bytes:
        name, sign, value = query.partition(b"=")
        try:
            return name + sign + change(value.decode()).encode()
        except UnicodeDecodeError:
            return query

    _queries(patch, wrong)


@MUTANTS.wrong("VAL-002")
def values_are_percent_decoded(patch: Patch) -> None:
    """Percent-encoding is decoded, as in the query of a URI."""
    _queries(patch, unquote_to_bytes)


@MUTANTS.wrong("VAL-013 VAL-001")
def a_plus_is_a_blank(patch: Patch) -> None:
    """A plus sign becomes a blank, as in a form."""
    _values(patch, lambda value: value.replace("+", " "))


@MUTANTS.wrong("VAL-001")
def values_in_latin_1(patch: Patch) -> None:
    """Values are read as ISO 8859-1."""
    _queries(patch, lambda query: query.decode("latin-1").encode())


@MUTANTS.wrong("VAL-001")
def values_with_types(patch: Patch) -> None:
    """A value that looks like a Boolean or an Integer becomes one."""

    def guess(value: Any) -> Any:
        if isinstance(value, str) and re.fullmatch("-?[0-9]{1,9}", value):
            return int(value)
        return {"true": True, "false": False}.get(value, value)

    events(
        patch,
        lambda e: changed(e, extensions={name: guess(v) for name, v in e.extensions.items()}),
    )


@MUTANTS.wrong("VAL-004")
def what_is_no_utf_8_is_replaced(patch: Patch) -> None:
    """Bytes that are no UTF-8 become replacement characters."""
    _queries(patch, lambda query: query.decode(errors="replace").encode())


@MUTANTS.wrong("VAL-005")
def control_characters_are_dropped(patch: Patch) -> None:
    """Control characters are left out."""
    _values(patch, lambda value: re.sub("[\x00-\x1f\x7f-\x9f]", "", value))


@MUTANTS.wrong("VAL-006")
def empty_attributes_are_absent(patch: Patch) -> None:
    """An empty core attribute is taken for none."""
    _drop(patch, lambda query: query.endswith(b"=") and _attribute(query) in _CORE)


@MUTANTS.wrong("VAL-007")
def empty_extensions_are_absent(patch: Patch) -> None:
    """An empty extension is taken for none."""
    _drop(patch, lambda query: re.fullmatch(rb"[a-z0-9-]+=", query) and len(query) > 2)


@MUTANTS.wrong("VAL-008")
def versions_are_ignored(patch: Patch) -> None:
    """The specversion is not looked at."""
    _drop(patch, lambda query: _attribute(query) == "specversion")


def _unchecked(patch: Patch, name: str) -> None:
    patch(bindings.event, name, lambda *_: None)


@MUTANTS.wrong("VAL-009")
def times_are_not_looked_at(patch: Patch) -> None:
    """A time is any text."""
    _unchecked(patch, "_check_time")


@MUTANTS.wrong("VAL-010", 84)
def times_are_written_anew(patch: Patch) -> None:
    """A time is read, and written in another way."""

    def anew(text: str | None) -> str | None:
        try:
            return datetime.fromisoformat(text).isoformat() if text else text
        except ValueError:
            return text

    events(patch, lambda event: changed(event, time=anew(event.time)))


@MUTANTS.wrong("VAL-011")
def sources_are_not_looked_at(patch: Patch) -> None:
    """A source is any text."""
    _unchecked(patch, "_check_source")


@MUTANTS.wrong("VAL-012")
def schemas_are_not_looked_at(patch: Patch) -> None:
    """A dataschema is any text."""
    _unchecked(patch, "_check_dataschema")


def _text(event: Event, change: Callable[[str], str]) -> Event:
    """Change the values in which no rule says what a character means."""
    extensions = {
        name: change(value) if isinstance(value, str) else value
        for name, value in event.extensions.items()
    }
    return changed(event, subject=event.subject and change(event.subject), extensions=extensions)


@MUTANTS.wrong("VAL-013")
def blanks_are_stripped(patch: Patch) -> None:
    """Blanks at both ends of a value are left out."""
    events(patch, lambda event: _text(event, str.strip))


@MUTANTS.wrong("VAL-013")
def values_are_normalised(patch: Patch) -> None:
    """Values are brought into Unicode's composed form."""
    events(patch, lambda event: _text(event, lambda text: unicodedata.normalize("NFC", text)))
