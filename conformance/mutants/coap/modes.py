"""Mistakes about content type, data, modes and what is filled in (sections 2, 3.0.5, 3.4)."""

import json
from typing import Any

import cbor2
from msgspec.structs import replace

from bindings.coap import Moment, Request, content_formats
from bindings.coap import events as coap_events
from bindings.coap.filling import Filling
from bindings.errors import InvalidEventError
from bindings.event import Event, is_json_type
from conformance.mutants.coap.gateways import (
    Gateways,
    around,
    changed,
    decoding,
    events,
    routed,
    understood,
)
from conformance.mutants.mutant import Patch
from gateway.sources.coap import source

MUTANTS = Gateways()


# --- content type ---------------------------------------------------------------------------------


@MUTANTS.wrong("BIN-002 BIN-001", 75)
def content_format_0_is_none(patch: Patch) -> None:
    """Content-Format 0 is taken for the absence of one."""

    def wrong(request: Request) -> None:
        request.content_format = request.content_format or None

    understood(patch, wrong)


@MUTANTS.wrong("MODE-008", 75)
def no_content_format_is_json(patch: Patch) -> None:
    """On a structured route no Content-Format means JSON."""

    def wrong(right: Any, request: Request, payload: bytes, route: Any, *rest: Any) -> Any:
        if route.mode == "structured" and request.content_format is None:
            request.content_format = content_formats.JSON
        return right(request, payload, route, *rest)

    decoding(patch, wrong)


@MUTANTS.wrong("MODE-010")
def no_content_format_is_a_json_array(patch: Patch) -> None:
    """On a batch route any other Content-Format, or none, means JSON."""

    def wrong(right: Any, request: Request, payload: bytes, route: Any, *rest: Any) -> Any:
        if route.mode == "batch" and request.content_format not in {60, 63}:
            request.content_format = content_formats.JSON
        return right(request, payload, route, *rest)

    decoding(patch, wrong)


def _numbers(patch: Patch, more: dict[int, str]) -> None:
    patch.everywhere(content_formats, "MEDIA_TYPES", {**content_formats.MEDIA_TYPES, **more})


@MUTANTS.wrong("BIN-004", 76)
def content_codings_are_ignored(patch: Patch) -> None:
    """Deflated JSON and CBOR are taken for JSON and CBOR."""
    _numbers(patch, {11050: "application/json", 11060: "application/cbor"})


@MUTANTS.wrong("BIN-001", 76)
def text_without_charset(patch: Patch) -> None:
    """Content-Format 0 becomes text/plain, without its charset."""
    _numbers(patch, {0: "text/plain"})


@MUTANTS.wrong("BIN-001", 76)
def sensor_data_is_octets(patch: Patch) -> None:
    """Formats that are seldom used become application/octet-stream."""
    _numbers(patch, dict.fromkeys((47, 61, 62, 110, 112, 310, 432), "application/octet-stream"))


@MUTANTS.wrong("BIN-003", 77)
def unknown_numbers_are_octets(patch: Patch) -> None:
    """A Content-Format that is not known becomes application/octet-stream."""

    def wrong(request: Request) -> None:
        if request.content_format is not None and (
            request.content_format not in content_formats.MEDIA_TYPES
        ):
            request.content_format = 42

    understood(patch, wrong)


@MUTANTS.wrong("MODE-011", 77)
def numbers_that_nobody_has_registered(patch: Patch) -> None:
    """The lab numbers are understood without having been enabled."""
    routed(patch, lab_formats=True)


@MUTANTS.wrong("MODE-005")
def no_lab_numbers(patch: Patch) -> None:
    """The lab numbers are not understood, though they have been enabled."""
    routed(patch, lab_formats=False)


def _agreeing(patch: Patch, content_type: Any) -> None:
    """Make the content type of Content-Format and query, given the right way to."""
    around(patch, coap_events, "_content_type", content_type)


@MUTANTS.wrong("BIN-007")
def the_query_has_the_content_type(patch: Patch) -> None:
    """The datacontenttype of the query wins over the Content-Format."""
    _agreeing(patch, lambda right, number, named: named or right(number, None))


@MUTANTS.wrong("BIN-006")
def the_number_has_the_content_type(patch: Patch) -> None:
    """The text of the query is replaced by that of the Content-Format."""
    _agreeing(patch, lambda right, number, named: right(number, None if number else named))


@MUTANTS.wrong("BIN-005")
def content_types_have_numbers(patch: Patch) -> None:
    """The datacontenttype of the query is ignored."""
    _agreeing(patch, lambda right, number, _: right(number, None))


@MUTANTS.wrong("BIN-008")
def octets_without_content_type(patch: Patch) -> None:
    """Data that comes with no content type has none."""

    def wrong(event: Event) -> Event:
        is_implied = event.datacontenttype == "application/octet-stream"
        return changed(event, datacontenttype=None) if is_implied else event

    events(patch, wrong)


# --- data -----------------------------------------------------------------------------------------


@MUTANTS.wrong("BIN-010")
def no_payload_is_empty_data(patch: Patch) -> None:
    """A request without payload gives an event with empty data."""
    events(patch, lambda event: changed(event, data=event.data or b""))


@MUTANTS.wrong("BIN-011")
def no_payload_no_content_type(patch: Patch) -> None:
    """Without payload there is no datacontenttype."""
    events(patch, lambda e: e if e.data is not None else changed(e, datacontenttype=None))


@MUTANTS.wrong("BIN-012")
def json_is_not_looked_at(patch: Patch) -> None:
    """Data that says it is JSON is not checked."""
    patch(coap_events, "is_json", lambda _: True)


@MUTANTS.wrong("BIN-012")
def json_as_python_reads_it(patch: Patch) -> None:
    """NaN and Infinity are taken for JSON."""

    def wrong(payload: bytes) -> bool:
        try:
            json.loads(payload)
        except ValueError:
            return False
        return True

    patch(coap_events, "is_json", wrong)


@MUTANTS.wrong("BIN-013")
def json_data_with_each_name_once(patch: Patch) -> None:
    """JSON data is refused when a name stands in it twice."""

    def wrong(event: Event) -> Event:
        if event.data and is_json_type(event.datacontenttype or ""):
            json.loads(event.data, object_pairs_hook=_each_once)
        return event

    events(patch, wrong)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise InvalidEventError("a name stands in data twice")
    return dict(pairs)


@MUTANTS.wrong("BIN-014")
def text_is_not_looked_at(patch: Patch) -> None:
    """Text that is no UTF-8 is taken."""
    patch(coap_events, "media_type_of", lambda _: "")


@MUTANTS.wrong("BIN-015")
def null_is_no_data(patch: Patch) -> None:
    """The payload null is taken for no data."""
    events(patch, lambda event: changed(event, data=None) if event.data == b"null" else event)


@MUTANTS.wrong("BIN-015")
def data_is_text(patch: Patch) -> None:
    """Data that is no UTF-8 is decoded with replacement characters."""
    events(patch, lambda e: changed(e, data=e.data and e.data.decode(errors="replace").encode()))


@MUTANTS.wrong("BIN-016", 86)
def cbor_becomes_json(patch: Patch) -> None:
    """Data in CBOR is converted to JSON."""

    def wrong(event: Event) -> Event:
        if event.data is None or not (event.datacontenttype or "").endswith("cbor"):
            return event
        text = json.dumps(cbor2.loads(event.data), default=repr)
        return changed(event, datacontenttype="application/json", data=text.encode())

    events(patch, wrong)


# --- modes ----------------------------------------------------------------------------------------


@MUTANTS.wrong("MODE-006 MODE-004", 77)
def modes_by_looking_at_the_payload(patch: Patch) -> None:
    """JSON that looks like an event is taken for structured mode on an auto route."""

    def wrong(right: Any, request: Request, payload: bytes, route: Any, *rest: Any) -> Any:
        if request.content_format == content_formats.JSON and b'"specversion"' in payload:
            route = replace(route, mode="structured")
        return right(request, payload, route, *rest)

    decoding(patch, wrong)


@MUTANTS.wrong("MODE-006", 77)
def cbor_is_an_event(patch: Patch) -> None:
    """Content-Format 60 is taken for structured mode on every route."""

    def wrong(right: Any, request: Request, payload: bytes, route: Any, *rest: Any) -> Any:
        if request.content_format == content_formats.CBOR and route.mode == "auto":
            route = replace(route, mode="structured")
        return right(request, payload, route, *rest)

    decoding(patch, wrong)


def _contents(patch: Patch, mode: str, contents: dict[int, str | None]) -> None:
    """Change what Content-Formats mean in a mode; None is nothing."""
    found: dict[Any, Any] = {**coap_events._CONTENTS}  # noqa: SLF001 - the mistake is in there
    found[mode] = {**found[mode], **contents}
    patch(coap_events, "_CONTENTS", found)


@MUTANTS.wrong("MODE-007 MODE-002")
def structured_mode_is_cbor(patch: Patch) -> None:
    """On a structured route JSON is answered 4.15."""
    _contents(patch, "structured", {50: None})


@MUTANTS.wrong("MODE-003 MODE-007")
def structured_mode_is_json(patch: Patch) -> None:
    """On a structured route CBOR is answered 4.15."""
    _contents(patch, "structured", {60: None})


@MUTANTS.wrong("MODE-001 MODE-009")
def no_batches(patch: Patch) -> None:
    """A batch is answered 4.15."""
    _contents(patch, "batch", {50: None, 60: None, 63: None})


@MUTANTS.wrong("MODE-009")
def sequences_for_arrays(patch: Patch) -> None:
    """On a batch route 60 and 63 both mean a CBOR sequence."""
    _contents(patch, "batch", {60: "CBOR sequence"})


# --- filling --------------------------------------------------------------------------------------


@MUTANTS.wrong("FILL-001")
def versions_are_required(patch: Patch) -> None:
    """An event without specversion is refused."""

    def wrong(right: Any, request: Request, payload: bytes, *rest: Any) -> Any:
        names = {query.partition(b"=")[0] for query in request.queries}
        if not names & {b"v", b"specversion", b"ce-specversion"} and b"specversion" not in payload:
            raise InvalidEventError("no specversion")
        return right(request, payload, *rest)

    decoding(patch, wrong)


@MUTANTS.wrong("FILL-005")
def ids_are_required(patch: Patch) -> None:
    """An event without id is refused."""

    def wrong(*_: Any) -> str:
        raise InvalidEventError("no id")

    patch(Filling, "new_id", wrong)


@MUTANTS.wrong("FILL-002")
def routes_without_type(patch: Patch) -> None:
    """The default type of the route is not used."""
    routed(patch, defaults={})


@MUTANTS.wrong("FILL-003")
def an_unknown_type(patch: Patch) -> None:
    """An event without type on a route without default gets one."""

    def wrong(right: Any, request: Request, payload: bytes, route: Any, *rest: Any) -> Any:
        defaults = {"type": "com.example.unknown", **route.defaults}
        return right(request, payload, replace(route, defaults=defaults), *rest)

    decoding(patch, wrong)


@MUTANTS.wrong("FILL-004 SEC-004")
def sources_with_port(patch: Patch) -> None:
    """The default source has the port of the sender."""

    def wrong(right: Any, request: Any, payload: Any, route: Any, peer: Any, now: Any) -> Any:
        return right(request, payload, route, replace(peer, source=peer.source + ":40000"), now)

    decoding(patch, wrong)


@MUTANTS.wrong("FILL-006")
def events_without_time(patch: Patch) -> None:
    """An event without time stays so."""
    routed(patch, fill_time=False)


@MUTANTS.wrong("FILL-006")
def times_in_seconds(patch: Patch) -> None:
    """The time of the reception is given in seconds."""

    def wrong(right: Any) -> Moment:
        moment: Moment = right()
        return Moment(moment.seconds, moment.text[:19] + "Z")

    around(patch, source, "moment", wrong)


@MUTANTS.wrong("FILL-007")
def routes_before_producers(patch: Patch) -> None:
    """The default type of the route replaces the type of the producer."""

    def wrong(right: Any, request: Any, payload: Any, route: Any, *rest: Any) -> list[Event]:
        found: list[Event] = right(request, payload, route, *rest)
        given = route.defaults.get("type")
        return [changed(event, type=given) if given else event for event in found]

    decoding(patch, wrong)


@MUTANTS.wrong("FILL-007 VAL-010")
def times_of_reception(patch: Patch) -> None:
    """The time of the reception replaces the time of the producer."""

    def wrong(right: Any, *args: Any) -> list[Event]:
        found: list[Event] = right(*args)
        return [changed(event, time=args[-1].text) for event in found]

    decoding(patch, wrong)
