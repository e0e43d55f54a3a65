"""Mistakes in compact CBOR (section 3.2.4)."""

import base64
import json
from collections.abc import Callable
from typing import Any

import bindings.cbor_format
from bindings.coap import cbor_events
from bindings.coap.cbor_events import BASE_KEY, KEYS
from bindings.coap.content_formats import MEDIA_TYPES
from bindings.errors import InvalidEventError
from bindings.event import Event, is_json_type
from bindings.wire import cbor
from conformance.mutants.coap.gateways import Entry, Gateways, around, changed, entries, events
from conformance.mutants.mutant import Patch

MUTANTS = Gateways()


def _expanding(patch: Patch, change: Callable[[str, Any], Any]) -> None:
    """Read short forms in another way, where `change` gives anything but None."""

    def wrong(right: Any, name: str, value: Any) -> Any:
        other = change(name, value)
        return right(name, value) if other is None else other

    around(patch, cbor_events, "_expanded", wrong)


def _reading_data(patch: Patch, wrong: Any) -> None:
    around(patch, cbor_events, "read_data", wrong)


def _is_json(attributes: dict[str, Any]) -> bool:
    return is_json_type(str(attributes.get("datacontenttype", "")))


@MUTANTS.wrong("CMP-001")
def compact_by_the_first_key(patch: Patch) -> None:
    """Compact CBOR is known by the key 0."""

    def wrong(found: list[Entry]) -> list[Entry]:
        if any(key == 0 and type(key) is int for key, _, _ in found):
            return found
        return [(f"k{key}" if type(key) is int else key, v, e) for key, v, e in found]

    entries(patch, wrong)


@MUTANTS.wrong("CMP-002")
def keys_in_another_order(patch: Patch) -> None:
    """The keys of subject and dataschema are exchanged."""
    patch(cbor_events, "KEYS", {**KEYS, 5: "dataschema", 7: "subject"})


@MUTANTS.wrong("CMP-003")
def ids_in_hexadecimal(patch: Patch) -> None:
    """An id that is an integer is read in hexadecimal."""
    _expanding(patch, lambda n, v: f"{v:x}" if n == "id" and type(v) is int and v >= 0 else None)


@MUTANTS.wrong("CMP-004")
def ids_in_base64(patch: Patch) -> None:
    """An id that is a byte string is read in Base64."""
    _expanding(
        patch,
        lambda n, v: base64.b64encode(v).decode() if n == "id" and isinstance(v, bytes) else None,
    )


@MUTANTS.wrong("CMP-005", 84)
def times_in_milliseconds(patch: Patch) -> None:
    """A time that is a number counts milliseconds."""
    around(
        patch, cbor_events, "_since_1970", lambda right, seconds, *rest: right(seconds / 1e3, *rest)
    )


@MUTANTS.wrong("CMP-006")
def times_before_1970(patch: Patch) -> None:
    """A time of 0 or less is counted from 1970."""
    around(
        patch,
        cbor_events,
        "_since_1970",
        lambda _, seconds, base, __: seconds if base is None else base + seconds,
    )


@MUTANTS.wrong("CMP-007")
def numbers_for_media_types(patch: Patch) -> None:
    """A datacontenttype that is a number is not looked up."""
    _expanding(patch, lambda n, v: str(v) if n == "datacontenttype" and type(v) is int else None)


@MUTANTS.wrong("CMP-008")
def other_numbers_are_octets(patch: Patch) -> None:
    """A datacontenttype whose number is not known becomes application/octet-stream."""
    _expanding(
        patch,
        lambda n, v: (
            "application/octet-stream"
            if n == "datacontenttype" and type(v) is int and v not in MEDIA_TYPES
            else None
        ),
    )


@MUTANTS.wrong("CMP-009", 86)
def bytes_become_base64(patch: Patch) -> None:
    """A byte string under a JSON type becomes a JSON string of Base64."""

    def wrong(right: Any, attributes: dict[str, Any], value: Any, *rest: Any, **more: Any) -> Any:
        if isinstance(value, bytes) and _is_json(attributes):
            return json.dumps(base64.b64encode(value).decode()).encode()
        return right(attributes, value, *rest, **more)

    _reading_data(patch, wrong)


@MUTANTS.wrong("CMP-010")
def bytes_without_content_type(patch: Patch) -> None:
    """Bytes without datacontenttype have none."""

    def wrong(event: Event) -> Event:
        is_implied = event.datacontenttype == "application/octet-stream"
        return changed(event, datacontenttype=None) if is_implied else event

    events(patch, wrong)


@MUTANTS.wrong("CMP-011", 86)
def embedded_values_stay(patch: Patch) -> None:
    """An embedded value stays CBOR, though its type is JSON."""

    def wrong(right: Any, attributes: Any, value: Any, encoded: bytes, **more: Any) -> Any:
        if _is_json(attributes) and not isinstance(value, bytes):
            return encoded
        return right(attributes, value, encoded, **more)

    _reading_data(patch, wrong)


@MUTANTS.wrong("CMP-012", 86)
def what_json_lacks_is_null(patch: Patch) -> None:
    """What has no equivalent in JSON becomes null."""

    def wrong(right: Any, value: Any) -> Any:
        try:
            return right(value)
        except InvalidEventError:
            return None

    around(patch, bindings.cbor_format, "_json", wrong)


@MUTANTS.wrong("CMP-013")
def texts_stay_encoded(patch: Patch) -> None:
    """An embedded text is the data with its head, whatever the media type."""

    def wrong(right: Any, attributes: Any, value: Any, encoded: bytes, **more: Any) -> Any:
        if isinstance(value, str) and not _is_json(attributes):
            attributes.setdefault("datacontenttype", "application/cbor")
            return encoded
        return right(attributes, value, encoded, **more)

    _reading_data(patch, wrong)


@MUTANTS.wrong("CMP-013")
def texts_in_utf_8(patch: Patch) -> None:
    """An embedded text is encoded in UTF-8, whatever the charset."""
    patch(bindings.cbor_format, "encode_text", lambda text, _: text.encode())


@MUTANTS.wrong("CMP-014", 86)
def embedded_values_are_json(patch: Patch) -> None:
    """An embedded value without datacontenttype becomes JSON."""

    def wrong(right: Any, attributes: dict[str, Any], value: Any, *rest: Any, **more: Any) -> Any:
        if not isinstance(value, bytes):
            attributes.setdefault("datacontenttype", "application/json")
        return right(attributes, value, *rest, **more)

    _reading_data(patch, wrong)


@MUTANTS.wrong("CMP-015")
def compact_events_without_extensions(patch: Patch) -> None:
    """Text keys beside integer keys are ignored."""
    entries(patch, lambda found: [e for e in found if type(e[0]) is int] or found)


@MUTANTS.wrong("CMP-016", 85)
def the_last_of_two_spellings(patch: Patch) -> None:
    """Of an attribute with an integer key and a text key the last counts."""

    def wrong(found: list[Entry]) -> list[Entry]:
        named = [(KEYS.get(e[0], "") if type(e[0]) is int else e[0], e) for e in found]
        return list({str(name or entry[0]): entry for name, entry in named}.values())

    entries(patch, wrong)


@MUTANTS.wrong("CMP-017")
def other_keys_are_ignored(patch: Patch) -> None:
    """An integer key that stands for nothing is ignored."""
    known = {*KEYS, BASE_KEY}
    entries(patch, lambda found: [e for e in found if type(e[0]) is not int or e[0] in known])


@MUTANTS.wrong("CMP-018")
def numbers_become_text(patch: Patch) -> None:
    """A type or source that is a number becomes its digits."""
    _expanding(patch, lambda n, v: str(v) if n in {"type", "source"} else None)


@MUTANTS.wrong("CMP-019")
def embedded_values_are_written_anew(patch: Patch) -> None:
    """The bytes of an embedded value are those of another encoder."""

    def wrong(right: Any, attributes: Any, value: Any, _: bytes, **more: Any) -> Any:
        # 1a 00 00 00 01 and the like: some encoders have one length of integers.
        anew = (
            b"\x1a" + value.to_bytes(4, "big")
            if type(value) is int
            else b"\xbf" + (cbor.encode(value)[1:] + b"\xff")
        )
        return right(attributes, value, anew, **more)

    _reading_data(patch, wrong)
