"""Mistakes about which attributes there are and what they are called, in every binding at once."""

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import bindings.binding
import bindings.event
import bindings.json_format
from bindings.binding import Message
from bindings.event import Event
from conformance.forms import WireEvent
from conformance.mutants.edits import changed, read_otherwise
from conformance.mutants.mutant import Catalogue, Decode, Patch

MUTANTS = Catalogue()


def _filling(patch: Patch, **values: Any) -> None:
    """Give every event that is read the attributes that it lacks."""
    right = bindings.event.event_from_attributes

    def filled(attributes: Mapping[str, Any], data: bytes | None, **more: Any) -> Event:
        return right({**values, **attributes}, data, **more)

    patch.everywhere(bindings.event, "event_from_attributes", filled)


@MUTANTS.patching(1, "CORE-ID-004")
def makes_up_an_id(patch: Patch) -> None:
    """An event without an id gets one."""
    _filling(patch, id=str(uuid.uuid4()))


@MUTANTS.patching(1, "CORE-SRC-003")
def makes_up_a_source(patch: Patch) -> None:
    """An event without a source gets one."""
    _filling(patch, source="/unknown")


@MUTANTS.patching(1, "CORE-TYP-001")
def makes_up_a_type(patch: Patch) -> None:
    """An event without a type gets one."""
    _filling(patch, type="unknown")


@MUTANTS.patching(1, "CORE-VER-003")
def makes_up_a_version(patch: Patch) -> None:
    """An event without a specversion is taken for one of 1.0."""
    _filling(patch, specversion="1.0")


@MUTANTS.patching(1, "CORE-TIME-004")
def makes_up_a_time(patch: Patch) -> None:
    """An event without a time gets the time at which it was read."""
    _filling(patch, time="2026-01-01T00:00:00Z")


@MUTANTS.patching(10, "CORE-SUB-001")
def an_empty_subject_is_absent(patch: Patch) -> None:
    """An empty subject is taken for none."""
    read_otherwise(
        patch, lambda a: {name: v for name, v in a.items() if (name, v) != ("subject", "")}
    )


@MUTANTS.patching(10, "CORE-SRC-004")
def an_empty_source_is_a_reference(patch: Patch) -> None:
    """An empty source is taken, as it is a URI-reference."""
    right = bindings.event._check_source  # noqa: SLF001 - the mistake is in there
    patch(bindings.event, "_check_source", lambda value: value and right(value))


def _names(patch: Patch, is_valid: Any) -> None:
    patch.everywhere(bindings.event, "is_valid_name", is_valid)


@MUTANTS.patching(11, "CORE-NAME-001")
def names_with_capitals_and_signs(patch: Patch) -> None:
    """A name holds capitals, hyphens and underscores."""
    _names(patch, re.compile("(?!data$)[A-Za-z0-9_-]+").fullmatch)


@MUTANTS.patching(11, "CORE-NAME-004")
def names_of_20_characters(patch: Patch) -> None:
    """A name of more than 20 characters is refused."""
    _names(patch, re.compile("(?!data$)[a-z0-9]{1,20}").fullmatch)


@MUTANTS.patching(11, "CORE-NAME-001")
def names_that_begin_with_a_letter(patch: Patch) -> None:
    """A name that begins with a digit is refused."""
    _names(patch, re.compile("(?!data$)[a-z][a-z0-9]*").fullmatch)


@MUTANTS.patching(12, "CORE-NAME-001")
def names_that_end_with_a_line(patch: Patch) -> None:
    """A name may end with a line feed, as the dollar sign of a regular expression has it."""
    _names(patch, re.compile("^(?!data$)[a-z0-9]+$").match)


@MUTANTS.patching(12, "CORE-NAME-001")
def names_of_any_alphabet(patch: Patch) -> None:
    """A name holds letters and digits of every alphabet."""
    _names(patch, lambda name: name.isalnum() and name == name.lower() and name != "data")


@MUTANTS.patching(13, "CORE-NAME-006")
def an_attribute_called_data(patch: Patch) -> None:
    """An attribute may be called data."""
    _names(patch, re.compile("[a-z0-9]+").fullmatch)


@MUTANTS.decoding(14, "CORE-VER-001 CORE-TYPE-003", bindings=("json",))
def a_version_that_is_a_number(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A specversion that is the JSON number 1.0 is taken."""
    payload = re.sub(rb'("specversion": ?)(1.0)', rb'\1"\2"', message.payload or b"")
    return decode(Message(payload, message.content_type))


@MUTANTS.patching(14, "CORE-VER-001 CORE-VER-002")
def versions_of_a_patch(patch: Patch) -> None:
    """A specversion of 1.0.2 is taken for 1.0."""
    read_otherwise(
        patch,
        lambda a: {**a, "specversion": "1.0"} if a.get("specversion") == "1.0.2" else a,
    )


@MUTANTS.patching(16, "CORE-DCT-004 JSON-SER-006")
def json_types_by_case(patch: Patch) -> None:
    """Only small letters make a media type JSON."""
    _json_types(patch, re.compile(r"[^/;]+/(?:[^/;]+\+)?json[ \t]*(?:;.*)?").fullmatch)


@MUTANTS.patching(16, "JSON-SER-006")
def json_types_of_application_only(patch: Patch) -> None:
    """Only application/json is JSON."""
    _json_types(patch, re.compile(r"(?i)application/json[ \t]*(?:;.*)?").fullmatch)


@MUTANTS.patching(16, "JSON-SER-006")
def json_types_by_prefix(patch: Patch) -> None:
    """What begins with application/json is JSON, such as application/json-seq."""
    right = bindings.event.is_json_type
    _json_types(patch, lambda text: text.startswith("application/json") or right(text))


def _json_types(patch: Patch, is_json: Any) -> None:
    patch.everywhere(bindings.event, "is_json_type", is_json)


@MUTANTS.patching(16, "CORE-GEN-005 CORE-DCT-006")
def a_content_type_without_parameters(patch: Patch) -> None:
    """A datacontenttype loses its parameters."""
    read_otherwise(
        patch, lambda a: _content_type(a, a.get("datacontenttype", "").partition(";")[0])
    )


@MUTANTS.patching(16, "CORE-GEN-005 CORE-DCT-006 CORE-DCT-004")
def a_content_type_in_small_letters(patch: Patch) -> None:
    """A datacontenttype is read in small letters."""
    read_otherwise(patch, lambda a: _content_type(a, a.get("datacontenttype", "").lower()))


def _content_type(attributes: dict[str, Any], content_type: str) -> dict[str, Any]:
    return {**attributes, "datacontenttype": content_type} if content_type else attributes


@MUTANTS.decoding("extensions", "CORE-EXT-003 CORE-GEN-005")
def extensions_that_are_not_known_are_dropped(
    decode: Decode, message: Message
) -> Sequence[WireEvent]:
    """Only extensions that a document names are read."""
    known = {"traceparent", "tracestate", "partitionkey", "sequence"}
    return [
        changed(event, **{n: None for n in event.attributes if len(n) < 3 and n not in known})
        for event in decode(message)
    ]
