"""Mistakes in JSON, CBOR, compact CBOR and batches (sections 3.2 and 3.3)."""

import base64
import binascii
import json
import re
from collections.abc import Callable
from typing import Any

import bindings.cbor_format
import bindings.json_format
from bindings.coap import cbor_events, json_events
from bindings.coap import events as coap_events
from bindings.coap.attributes import SHORT_NAMES
from bindings.coap.filling import Filling
from bindings.errors import InvalidEventError
from bindings.event import Event
from bindings.wire import cbor
from bindings.wire.cbor import CborError
from conformance.mutants.coap.gateways import Gateways, around, changed
from conformance.mutants.mutant import Patch

MUTANTS = Gateways()

Members = dict[str, Any]
Entry = tuple[Any, Any, bytes]


# --- JSON -----------------------------------------------------------------------------------------


def _payloads(patch: Patch, change: Callable[[bytes], bytes]) -> None:
    """Change the bytes of every envelope in JSON before they are read."""
    around(
        patch,
        json_events,
        "_completed",
        lambda right, payload, *rest: right(change(payload), *rest),
    )


def _members(patch: Patch, change: Callable[[Members], Members]) -> None:
    """Change the members of every envelope in JSON, of two of one name the last."""

    def wrong(payload: bytes) -> bytes:
        try:
            members = json.loads(payload)
        except ValueError:
            return payload
        if not isinstance(members, dict):
            return payload
        return json.dumps(change(members), ensure_ascii=False).encode(errors="surrogatepass")

    _payloads(patch, wrong)


def _attributes(patch: Patch, change: Callable[[Any], Any]) -> None:
    """Change the value of every attribute in an envelope."""
    _members(
        patch,
        lambda members: {
            name: value if name in {"data", "data_base64"} else change(value)
            for name, value in members.items()
        },
    )


@MUTANTS.wrong("JSON-001")
def members_that_are_not_known_are_dropped(patch: Patch) -> None:
    """Of an envelope in JSON only core attributes and data are read."""
    known = {*SHORT_NAMES.values(), "data", "data_base64"}
    _members(patch, lambda members: {n: v for n, v in members.items() if n in known})


@MUTANTS.wrong("JSON-002")
def an_array_of_one_event(patch: Patch) -> None:
    """An array of an event is taken for the event."""
    _payloads(patch, lambda payload: payload.strip(b"[]"))


@MUTANTS.wrong("JSON-003")
def the_last_of_two_members(patch: Patch) -> None:
    """Of a member that stands there twice the last counts."""
    _members(patch, lambda members: members)


@MUTANTS.wrong("JSON-004")
def data_before_base64(patch: Patch) -> None:
    """Beside data the member data_base64 is ignored."""
    _members(
        patch,
        lambda m: {n: v for n, v in m.items() if n != "data_base64" or "data" not in m},
    )


@MUTANTS.wrong("JSON-005")
def members_in_any_case(patch: Patch) -> None:
    """Names of members are read in small letters, without hyphens and underscores."""
    _members(
        patch,
        lambda members: {
            n if n == "data_base64" else re.sub("[-_]", "", n.lower()) or "x": v
            for n, v in members.items()
        },
    )


@MUTANTS.wrong("JSON-006")
def objects_are_text(patch: Patch) -> None:
    """An attribute that is an object, an array or a fraction becomes its text."""
    _attributes(patch, lambda v: json.dumps(v) if isinstance(v, dict | list | float) else v)


@MUTANTS.wrong("JSON-007")
def null_is_text(patch: Patch) -> None:
    """An attribute that is null becomes the text null."""
    _attributes(patch, lambda value: "null" if value is None else value)


@MUTANTS.wrong("JSON-008")
def null_data_is_no_data(patch: Patch) -> None:
    """Data of null is taken for none."""
    _members(patch, lambda m: {n: v for n, v in m.items() if (n, v) != ("data", None)})


@MUTANTS.wrong("JSON-009")
def json_is_not_said(patch: Patch) -> None:
    """JSON data without datacontenttype stays without."""

    def wrong(right: Any, payload: bytes, filling: Filling) -> Event:
        event: Event = right(payload, filling)
        is_said = b'"datacontenttype"' in payload
        return event if is_said else changed(event, datacontenttype=None, encoded=None)

    _structured(patch, "JSON event", wrong)


def _structured(patch: Patch, content: str, wrong: Any) -> None:
    decoders: dict[Any, Any] = {**coap_events._STRUCTURED}  # noqa: SLF001 - the mistake is in there
    right = decoders[content]
    decoders[content] = lambda *args: wrong(right, *args)
    patch(coap_events, "_STRUCTURED", decoders)


@MUTANTS.wrong("JSON-010")
def byte_order_marks(patch: Patch) -> None:
    """A byte order mark is skipped."""
    _payloads(patch, lambda payload: payload.removeprefix(b"\xef\xbb\xbf"))


@MUTANTS.wrong("JSON-011")
def base64_is_text(patch: Patch) -> None:
    """What is in data_base64 is not decoded."""
    patch(bindings.json_format, "decode_base64", lambda _, text: text.encode())


@MUTANTS.wrong("JSON-012")
def base64_with_anything_between(patch: Patch) -> None:
    """Characters that are no Base64 are skipped, and padding is added."""

    def wrong(name: str, text: str) -> bytes:
        try:
            return base64.b64decode(text + "===")
        except (binascii.Error, ValueError):
            raise InvalidEventError("no Base64", attribute=name) from None

    patch(bindings.json_format, "decode_base64", wrong)


@MUTANTS.wrong("JSON-013")
def extensions_are_text(patch: Patch) -> None:
    """Booleans and Integers become text."""
    _attributes(patch, lambda value: json.dumps(value) if isinstance(value, int) else value)


# --- CBOR -----------------------------------------------------------------------------------------


def _read(patch: Patch, change: Callable[[str, Any], Any]) -> None:
    """Change the item of each attribute before it is read."""
    around(
        patch,
        cbor_events,
        "read_attribute",
        lambda right, name, value: right(name, change(name, value)),
    )


def _entries(patch: Patch, change: Callable[[list[Entry]], list[Entry]]) -> None:
    """Change the entries of each map that should be an event."""
    around(
        patch,
        cbor_events,
        "read_members",
        lambda right, item: cbor.Map(change(list(right(item)))),
    )


def _items(patch: Patch, wrong: Any) -> None:
    around(patch, cbor_events, "read_item", wrong)


@MUTANTS.wrong("CBOR-001 CBOR-002", 84)
def epochs_are_times(patch: Patch) -> None:
    """A time with tag 1 is taken."""

    def wrong(_: str, value: Any) -> Any:
        is_epoch = isinstance(value, cbor.Tagged) and value.number == 1
        return "2026-01-02T03:04:05Z" if is_epoch else value

    _read(patch, wrong)


@MUTANTS.wrong("CBOR-002", 84)
def tagged_times_in_microseconds(patch: Patch) -> None:
    """A time with tag 0 loses its digits after the sixth."""

    def wrong(_: str, value: Any) -> Any:
        if isinstance(value, cbor.Tagged) and isinstance(value.value, str):
            return re.sub(r"(\.\d{6})\d+", r"\1", value.value)
        return value

    _read(patch, wrong)


@MUTANTS.wrong("CBOR-002", 84)
def text_without_tags(patch: Patch) -> None:
    """A time with tag 0 and a URI with tag 32 are refused."""
    _read(patch, lambda _, value: 1.5 if isinstance(value, cbor.Tagged) else value)


@MUTANTS.wrong("CBOR-003", 85)
def integers_of_64_bits(patch: Patch) -> None:
    """An Integer of more than 32 bits becomes text."""
    _read(patch, lambda _, v: str(v) if type(v) is int and not -(2**31) <= v < 2**31 else v)


@MUTANTS.wrong("CBOR-004", 85)
def floats_are_attributes(patch: Patch) -> None:
    """A float, an array or a map as an attribute becomes its text."""
    _read(patch, lambda _, v: repr(v) if isinstance(v, float | list | cbor.Map) else v)


@MUTANTS.wrong("CBOR-005")
def cbor_extensions_are_text(patch: Patch) -> None:
    """Booleans and Integers become text."""
    _read(patch, lambda _, value: json.dumps(value) if isinstance(value, int) else value)


@MUTANTS.wrong("CBOR-006")
def an_array_around_an_event(patch: Patch) -> None:
    """An array of an event is taken for the event."""

    def wrong(right: Any, payload: bytes, **more: Any) -> Any:
        item = right(payload, **more)
        return item[0] if isinstance(item, list) and item and not more else item

    _items(patch, wrong)


def _last_of_two(data: bytes, position: int, depth: int, count: int | None) -> tuple[Any, int]:
    """Read a map as most libraries do."""
    entries: dict[Any, Entry] = {}
    read = 0
    while read != count:
        if count is None and data[position : position + 1] == b"\xff":
            position += 1
            break
        key, start = cbor._read(data, position, depth - 1)  # noqa: SLF001 - the mistake is in there
        value, position = cbor._read(data, start, depth - 1)  # noqa: SLF001
        entries[repr(key)] = key, value, data[start:position]
        read += 1
    return cbor.Map(entries.values()), position


@MUTANTS.wrong("CBOR-007", 85)
def the_last_of_two_keys(patch: Patch) -> None:
    """Of a key that stands in a map twice the last counts."""
    readers = list(cbor._READERS)  # noqa: SLF001 - the mistake is in there
    readers[5] = _last_of_two
    patch(cbor, "_READERS", tuple(readers))
    patch(cbor, "_read_map", _last_of_two)


@MUTANTS.wrong("CBOR-008")
def bytes_behind_the_event(patch: Patch) -> None:
    """What follows the event is not looked at."""

    def wrong(right: Any, payload: bytes, **more: Any) -> Any:
        try:
            return cbor._read(payload, 0, 16)[0]  # noqa: SLF001 - the mistake is in there
        except CborError:
            return right(payload, **more)

    _items(patch, wrong)


@MUTANTS.wrong("CBOR-009 CBOR-011")
def strings_that_are_cut_off(patch: Patch) -> None:
    """A string that ends early is taken as far as it goes."""

    def octets(data: bytes, position: int, _: int, length: int) -> tuple[bytes, int]:
        return data[position : position + length], min(position + length, len(data))

    def text(*args: Any) -> tuple[str, int]:
        found, end = octets(*args)
        return found.decode(), end

    readers = list(cbor._READERS)  # noqa: SLF001 - the mistake is in there
    readers[2:4] = octets, text
    patch(cbor, "_READERS", tuple(readers))


@MUTANTS.wrong("CBOR-010")
def nested_as_deep_as_it_likes(patch: Patch) -> None:
    """Items may be nested 64 deep."""
    around(patch, cbor, "decode", lambda right, data, **_: right(data, max_depth=64))


@MUTANTS.wrong("CBOR-012")
def definite_lengths_only(patch: Patch) -> None:
    """Items of indefinite length are refused."""

    def wrong(*_: Any) -> Any:
        raise CborError("indefinite length")

    patch(cbor, "_read_indefinite", wrong)
