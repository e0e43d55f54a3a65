"""Mistakes about the types of attributes and their values, in every binding at once."""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

import bindings.binding
import bindings.event
import bindings.json_format
from bindings.binding import ContentMode, Message
from bindings.errors import InvalidEventError
from conformance.forms import WireEvent
from conformance.mutants.edits import each_extension, each_value, read_otherwise
from conformance.mutants.mutant import Catalogue, Decode, Encode, Patch

MUTANTS = Catalogue()

_NO_CONTROLS = "[\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"


@MUTANTS.encoding(2, "CORE-TYPE-BOOL-001 CORE-TYPE-005")
def booleans_as_python_writes_them(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """A Boolean is written True or False."""
    return encode(each_value(event, lambda v: str(v) if isinstance(v, bool) else v), mode)


@MUTANTS.decoding(2, "CORE-TYPE-007")
def guesses_booleans(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """The text true becomes a Boolean, though nobody declared the extension."""
    guess = {"true": True, "false": False}
    return [
        each_extension(event, lambda v: guess.get(v, v) if isinstance(v, str) else v)
        for event in decode(message)
    ]


@MUTANTS.decoding(3, "CORE-TYPE-BOOL-001 JSON-TYPE-001 CBOR-002")
def booleans_are_read_as_integers(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """A Boolean is read as the Integer 1 or 0."""
    return [
        each_value(event, lambda v: int(v) if isinstance(v, bool) else v)
        for event in decode(message)
    ]


@MUTANTS.encoding(3, "CORE-TYPE-BOOL-001 JSON-TYPE-001 CBOR-002")
def booleans_are_written_as_integers(
    encode: Encode, event: WireEvent, mode: ContentMode
) -> Message:
    """A Boolean is written 1 or 0, as it is an int in Python."""
    return encode(each_value(event, lambda v: int(v) if isinstance(v, bool) else v), mode)


@MUTANTS.encoding(4, "CORE-TYPE-BIN-001 CORE-TYPE-005")
def bytes_as_python_writes_them(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """A Binary attribute is written b'Ma'."""
    return encode(each_value(event, lambda v: str(v) if isinstance(v, bytes) else v), mode)


@MUTANTS.encoding(4, "CORE-TYPE-BIN-001 CORE-TYPE-005")
def bytes_in_the_alphabet_of_urls(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """A Binary attribute is written in the Base64 of URLs."""
    return encode(
        each_value(
            event, lambda v: base64.urlsafe_b64encode(v).decode() if isinstance(v, bytes) else v
        ),
        mode,
    )


@MUTANTS.patching(5, "CORE-TYPE-INT-001")
def integers_of_64_bits(patch: Patch) -> None:
    """Integers have 64 bits."""
    patch(bindings.event, "INTEGER_MAX", 2**63 - 1)
    patch(bindings.event, "INTEGER_MIN", -(2**63))


@MUTANTS.decoding(5, "CORE-TYPE-007")
def guesses_integers(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Text that Python's int() takes becomes an Integer."""

    def guess(value: Any) -> Any:
        try:
            return int(value) if isinstance(value, str) else value
        except ValueError:
            return value

    return [each_extension(event, guess) for event in decode(message)]


@MUTANTS.patching(5, "CORE-TYPE-INT-002 CORE-TYPE-003")
def fractions_are_cut_to_integers(patch: Patch) -> None:
    """A number with a fraction is read as the Integer below it."""
    right = bindings.json_format._attribute  # noqa: SLF001 - the mistake is in there

    def cut(name: str, text: str) -> Any:
        return int(float(text)) if re.fullmatch(r"-?\d+\.\d+", text) else right(name, text)

    patch(bindings.json_format, "_attribute", cut)


@MUTANTS.patching(6, "CORE-TYPE-STR-001")
def control_characters_in_strings(patch: Patch) -> None:
    """A String holds U+0000 to U+001F."""
    patch(bindings.event, "_FORBIDDEN", re.compile(_NO_CONTROLS + "\x7f-\x9f]"))


@MUTANTS.patching(6, "CORE-TYPE-STR-001")
def delete_and_c1_in_strings(patch: Patch) -> None:
    """A String holds U+007F to U+009F."""
    patch(bindings.event, "_FORBIDDEN", re.compile(_NO_CONTROLS + "\x00-\x1f]"))


@MUTANTS.patching(6, "CORE-TYPE-STR-002")
def noncharacters_of_higher_planes(patch: Patch) -> None:
    """Of the noncharacters, only those of the first plane are refused."""
    patch(bindings.event, "_FORBIDDEN", re.compile(_NO_CONTROLS + "\x00-\x1f\x7f-\x9f]"))


@MUTANTS.encoding(7, "CORE-TYPE-STR-003", crash=UnicodeEncodeError)
def lone_surrogates_crash(encode: Encode, event: WireEvent, mode: ContentMode) -> Message:
    """An event with a lone surrogate is no refusal, but an error of the language."""
    for value in event.attributes.values():
        str(value).encode()
    return encode(event, mode)


@MUTANTS.decoding(7, "CORE-TYPE-STR-003")
def lone_surrogates_are_replaced(decode: Decode, message: Message) -> Sequence[WireEvent]:
    """Half a surrogate pair in JSON is read as a replacement character."""
    high, low = rb"\\ud[89ab][0-9a-f]{2}", rb"\\ud[c-f][0-9a-f]{2}"
    lone = rb"(?i)" + high + rb"(?!" + low + rb")|(?<!" + high + rb")" + low
    payload = re.sub(lone, rb"\\ufffd", message.payload) if message.payload else message.payload
    return decode(msgspec.structs.replace(message, payload=payload))


def _times(patch: Patch, is_time: Callable[[str], Any]) -> None:
    def check(value: str) -> None:
        try:
            fits = bool(is_time(value))
        except ValueError:
            fits = False
        if not fits:
            raise InvalidEventError("no time", attribute="time", reason="attribute_type")

    patch(bindings.event, "_check_time", check)


def _times_too(patch: Patch, is_time: Callable[[str], Any]) -> None:
    right = bindings.event._check_time  # noqa: SLF001 - the mistake is in there
    _times(patch, lambda value: right(value) is None and is_time(value))


@MUTANTS.patching(8, "CORE-TYPE-TS-001 CORE-TIME-003")
def times_by_iso_8601(patch: Patch) -> None:
    """A time is what Python's fromisoformat takes."""
    _times(patch, datetime.fromisoformat)


@MUTANTS.patching(8, "CORE-TYPE-TS-001 CORE-TIME-003")
def times_by_a_pattern_only(patch: Patch) -> None:
    """A time is judged by its digits, so that there is a 31st of February."""
    pattern = r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)"
    _times(patch, re.compile(pattern, re.ASCII).fullmatch)


@MUTANTS.patching(8, "CORE-TYPE-TS-001 CORE-TIME-003")
def times_without_leap_seconds(patch: Patch) -> None:
    """A time with second 60 is refused."""
    _times_too(patch, lambda value: ":60" not in value[16:19])


@MUTANTS.patching(8, "CORE-TYPE-TS-001 CORE-TIME-003")
def times_with_capital_letters_only(patch: Patch) -> None:
    """A time with a small t or z is refused."""
    _times_too(patch, str.isupper)


@MUTANTS.patching(9, "CORE-GEN-005 CORE-TIME-003 CORE-TYPE-006")
def times_in_microseconds(patch: Patch) -> None:
    """A time loses its digits after the sixth."""
    read_otherwise(patch, lambda a: {**a, **_cut_time(a, 6)})


@MUTANTS.patching(9, "CORE-GEN-005 CORE-TIME-003 CORE-TYPE-006")
def times_in_milliseconds(patch: Patch) -> None:
    """A time loses its digits after the third."""
    read_otherwise(patch, lambda a: {**a, **_cut_time(a, 3)})


def _cut_time(attributes: Mapping[str, Any], digits: int) -> dict[str, Any]:
    if "time" not in attributes:
        return {}
    return {"time": re.sub(rf"(\.\d{{{digits}}})\d+", r"\1", attributes["time"])}


@MUTANTS.patching(9, "CORE-GEN-005 CORE-TIME-003 CORE-TYPE-006")
def times_lose_their_zone(patch: Patch) -> None:
    """A time of another zone is said to be of UTC."""
    read_otherwise(
        patch,
        lambda a: {**a, "time": re.sub(r"[+-]\d\d:\d\d$", "Z", a["time"])} if "time" in a else a,
    )


@MUTANTS.patching(15, "CORE-DSC-002 CORE-TYPE-URI-001")
def a_relative_dataschema(patch: Patch) -> None:
    """A dataschema is any reference."""
    right = bindings.event._check_uri_reference  # noqa: SLF001 - the mistake is in there
    patch(bindings.event, "_check_dataschema", lambda value: right("dataschema", value))


@MUTANTS.patching(15, "CORE-SRC-004 CORE-TYPE-URI-002")
def an_absolute_source(patch: Patch) -> None:
    """A source has to be an absolute URI."""
    right = bindings.event._check_uri_reference  # noqa: SLF001 - the mistake is in there

    def check(value: str) -> None:
        if right("source", value)[1] is None:
            raise InvalidEventError("no URI", attribute="source", reason="attribute_type")

    patch(bindings.event, "_check_source", check)


@MUTANTS.patching(15, "CORE-GEN-005 CORE-TYPE-URI-002")
def a_normalised_source(patch: Patch) -> None:
    """A URI is read with its scheme and host in small letters."""
    read_otherwise(
        patch,
        lambda a: {**a, **{n: a[n].lower() for n in ("source", "dataschema") if n in a}},
    )
