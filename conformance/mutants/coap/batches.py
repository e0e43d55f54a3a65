"""Mistakes in batches and base records (section 3.3)."""

import json
from collections.abc import Callable
from typing import Any

from bindings.coap import cbor_events, json_events
from bindings.coap import events as coap_events
from bindings.coap.cbor_events import BASE_KEY
from bindings.coap.diagnostics import BatchElementError
from bindings.coap.filling import Filling
from bindings.errors import InvalidEventError, TooManyEventsError
from bindings.event import Event
from bindings.wire import cbor
from conformance.mutants.coap.gateways import Entry, Gateways, around, entries, routed
from conformance.mutants.mutant import Patch
from gateway.sources.coap import requests

MUTANTS = Gateways()


def _batched(patch: Patch, content: str, wrong: Callable[..., list[Event]]) -> None:
    """Replace what decodes batches of a kind; `wrong` gets the right one first."""
    decoders: dict[Any, Any] = {**coap_events._BATCHED}  # noqa: SLF001 - the mistake is in there
    right = decoders[content]
    decoders[content] = lambda *args: wrong(right, *args)
    patch(coap_events, "_BATCHED", decoders)


@MUTANTS.wrong("BAT-001")
def batches_in_json_have_one_event(patch: Patch) -> None:
    """Of a batch in JSON the first event is taken."""
    _batched(patch, "JSON batch", lambda right, *args: right(*args)[:1])


@MUTANTS.wrong("BAT-002")
def batches_in_cbor_have_text_keys(patch: Patch) -> None:
    """In CBOR compact events are refused."""

    def wrong(record: Any) -> None:
        if record.is_compact:
            raise InvalidEventError("no compact event here")

    _records(patch, wrong)


@MUTANTS.wrong("BAT-003")
def one_event_is_a_batch(patch: Patch) -> None:
    """An event is taken for a batch of one."""

    def wrong(right: Any, payload: bytes, filling: Filling, most: int) -> list[Event]:
        return right(b"[" + payload + b"]" if payload[:1] == b"{" else payload, filling, most)  # type: ignore[no-any-return]

    _batched(patch, "JSON batch", wrong)


@MUTANTS.wrong("BAT-004")
def takes_what_is_good_of_a_batch(patch: Patch) -> None:
    """The valid events of a batch are taken, and the others dropped."""

    def wrong(right: Any, payload: bytes, filling: Filling, most: int) -> list[Event]:
        try:
            return right(payload, filling, most)  # type: ignore[no-any-return]
        except BatchElementError as error:
            elements = json.loads(payload)
            del elements[error.position]
            return wrong(right, json.dumps(elements).encode(), filling, most)

    _batched(patch, "JSON batch", wrong)


@MUTANTS.wrong("BAT-005")
def positions_from_1(patch: Patch) -> None:
    """The diagnostic counts the items of a batch from 1."""
    for module in (json_events, cbor_events):
        patch(module, "BatchElementError", lambda at, error: BatchElementError(at + 1, error))


@MUTANTS.wrong("BAT-005")
def nobody_says_which(patch: Patch) -> None:
    """The diagnostic does not say which item of a batch is invalid."""
    for module in (json_events, cbor_events):
        patch(module, "BatchElementError", lambda _, error: error)


@MUTANTS.wrong("BAT-008")
def empty_batches_are_refused(patch: Patch) -> None:
    """An empty batch is refused."""

    def wrong(right: Any, payload: bytes, filling: Filling, most: int) -> list[Event]:
        found: list[Event] = right(payload, filling, most)
        if not found:
            raise InvalidEventError("an empty batch")
        return found

    for content in ("JSON batch", "CBOR array", "CBOR sequence"):
        _batched(patch, content, wrong)


def _records(patch: Patch, change: Callable[[Any], None]) -> None:
    def wrong(right: Any, item: Any) -> Any:
        record = right(item)
        change(record)
        return record

    around(patch, cbor_events, "_read_record", wrong)


@MUTANTS.wrong("BAT-009 BAT-013")
def base_records_are_events(patch: Patch) -> None:
    """Key -1 is ignored, and a base record taken for an event."""

    def wrong(record: Any) -> None:
        record.is_base = False

    _records(patch, wrong)


@MUTANTS.wrong("BAT-012")
def base_records_with_data(patch: Patch) -> None:
    """The data of a base record is ignored."""

    def wrong(record: Any) -> None:
        if record.is_base:
            record.content = None

    _records(patch, wrong)


@MUTANTS.wrong("BAT-013")
def base_records_anywhere(patch: Patch) -> None:
    """Key -1 is ignored in structured mode."""

    def wrong(right: Any, payload: bytes, **more: Any) -> Any:
        item = right(payload, **more)
        if isinstance(item, cbor.Map):
            return cbor.Map(entry for entry in item if entry[0] != BASE_KEY)
        return item

    around(patch, cbor_events, "read_item", wrong)


@MUTANTS.wrong("BAT-014")
def base_records_by_their_first_key(patch: Patch) -> None:
    """Key -1 is looked for at the beginning of a map only."""

    def wrong(found: list[Entry]) -> list[Entry]:
        return [
            (9 if position and entry[0] == BASE_KEY else entry[0], *entry[1:])
            for position, entry in enumerate(found)
        ]

    entries(patch, wrong)


@MUTANTS.wrong("BAT-010")
def base_records_win(patch: Patch) -> None:
    """Attributes of a base record replace those of the events."""

    def wrong(right: Any, record: Any, base: Any, *rest: Any) -> Any:
        record.attributes.update(base.attributes)
        return right(record, base, *rest)

    around(patch, cbor_events, "_event", wrong)


def _is_base(item: Any) -> bool:
    return isinstance(item, cbor.Map) and any(key == BASE_KEY for key, _, _ in item)


@MUTANTS.wrong("BAT-010")
def base_records_for_all(patch: Patch) -> None:
    """A base record holds for the events before it too."""
    around(
        patch,
        cbor_events,
        "_batch",
        lambda right, items, filling: right(
            sorted(items, key=lambda item: not _is_base(item)), filling
        ),
    )


@MUTANTS.wrong("BAT-011")
def base_times_are_defaults(patch: Patch) -> None:
    """The time of an event is not added to that of the base record."""
    around(
        patch,
        cbor_events,
        "_since_1970",
        lambda right, seconds, _, filling: right(seconds, None, filling),
    )


# --- how many -------------------------------------------------------------------------------------


@MUTANTS.wrong("LIM-007")
def batches_of_less_than_1000(patch: Patch) -> None:
    """A batch holds 999 items at most."""
    routed(patch, max_batch_events=999)


@MUTANTS.wrong("LIM-008")
def batches_without_bound(patch: Patch) -> None:
    """A batch holds as many items as there is room for in its bytes."""
    routed(patch, max_batch_events=1 << 30)


@MUTANTS.wrong("LIM-008")
def base_records_are_not_counted(patch: Patch) -> None:
    """Base records do not count towards the items of a batch."""

    def wrong(right: Any, items: Any, most: int) -> Any:
        found = list(items)
        return right(iter(found), most + sum(map(_is_base, found)))

    around(patch, cbor_events, "_first", wrong)


@MUTANTS.wrong("LIM-008")
def bad_request_for_too_many(patch: Patch) -> None:
    """A batch of too many items is answered 4.00."""

    def wrong(limit: int) -> InvalidEventError:
        return InvalidEventError("too many", attribute=str(limit))

    for module in (json_events, cbor_events):
        patch(module, "TooManyEventsError", wrong)


@MUTANTS.wrong("LIM-009")
def nobody_says_how_many(patch: Patch) -> None:
    """The diagnostic does not say how many items a batch may have."""
    around(
        patch,
        requests,
        "diagnostic",
        lambda right, error: "too many" if isinstance(error, TooManyEventsError) else right(error),
    )
