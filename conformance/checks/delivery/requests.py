"""What a delivery looks like on the wire, and what becomes of events when its connection dies."""

import base64
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from conformance.check import Check, CheckFailed
from conformance.checks.deliveries import (
    DOWN,
    Deliveries,
    Family,
    shown,
)
from conformance.forms import WireEvent
from conformance.reference import headers, json_event
from conformance.reference.carrier import BATCH_TYPE, JSON_TYPE
from conformance.reference.compare import difference
from conformance.reference.compare import shown as shown_event
from conformance.reference.delivered import read_delivery
from conformance.target import Delivering, Request, Response

HTTP: Final = Family("requests", "delivery", "delivery", role="producer", needs="delivering")
KNATIVE: Final = Family("requests", "knative", "delivery", role="producer", needs="delivering")
CORE: Final = Family("requests", "delivery", "delivery", role="intermediary", needs="delivering")

LARGEST: Final = 65536
"""Bytes of an event on the wire that everybody forwards (spec.md "Size Limits")."""

_TEXT: Final = 'caf\u00e9 100% "\U0001f600" a+b'

EVENTS: Final[dict[str, dict[str, Any]]] = {
    "least": {"data": None},
    "all-attributes": {
        "subject": "a b/c",
        "time": "2018-04-05T17:31:00Z",
        "dataschema": "https://example.com/schema#v1",
    },
    "extensions": {"count": -42, "flag": True, "word": "x", "digest": b"\x00\xff\x10"},
    "unicode": {"subject": _TEXT, "word": _TEXT},
    "trace": {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
    "json-spelling": {"data": b'{"n": 1.50, "z": [ ],\r\n"e": "\\u00e9"}'},
    "json-null": {"data": b"null"},
    "json-charset": {"datacontenttype": "application/json; charset=utf-8"},
    "json-suffix": {"datacontenttype": "application/vnd.acme+json", "data": b"[1]"},
    "text": {"data": b"a,b\r\nc,d\r\n", "datacontenttype": "text/csv"},
    "bytes": {"data": bytes(range(256)), "datacontenttype": "application/octet-stream"},
    "xml": {"data": b"\xef\xbb\xbf<a/>\n", "datacontenttype": "application/xml"},
    "odd-type": {"data": b"x", "datacontenttype": 'multipart/mixed; boundary="a b"'},
    "type-without-data": {"data": None, "datacontenttype": "application/json"},
}
"""What a delivery may hold: data and attributes over those of a plain event."""

_IDS: Final = {
    "least": "HTTP-NAM-001 HTTP-MET-001 HTTP-CT-003 HTTP-STR-004",
    "extensions": "HTTP-VAL-001 HTTP-MET-001",
    "unicode": "HTTP-VAL-002 HTTP-ENC-001 HTTP-ENC-003 HTTP-ENC-004 HTTP-ENC-006",
    "trace": "HTTP-MET-003 KN-009",
    "json-charset": "HTTP-CT-001",
    "json-suffix": "HTTP-CT-001",
    "odd-type": "HTTP-CT-001 HTTP-CT-004",
    "type-without-data": "HTTP-CT-001",
}
_BINARY_IDS: Final = "HTTP-DAT-001 HTTP-DATA-001 KN-001 KN-002"
_STRUCTURED_IDS: Final = "HTTP-STR-001 HTTP-STR-002 KN-001 KN-002"


def checks() -> Iterator[Check]:
    """Return the checks of requests."""
    for name in EVENTS:
        ids = _IDS.get(name, "HTTP-MET-001")
        yield HTTP.check(
            f"usual-{name}", f"an event ({name}) is delivered whole in the mode that is usual",
            "KN-001", partial(_usual, name), "the same event",
        )  # fmt: skip
        binary = " ".join(one for one in ids.split() if "STR" not in one)
        yield HTTP.check(
            f"binary-{name}", f"an event ({name}) is delivered whole in binary mode",
            f"{binary} {_BINARY_IDS}", partial(_in_mode, "binary", name), "the same event",
        )  # fmt: skip
        yield HTTP.check(
            f"structured-{name}", f"an event ({name}) is delivered whole in structured mode",
            _STRUCTURED_IDS, partial(_in_mode, "structured", name), "the same event",
        )  # fmt: skip
    yield HTTP.check(
        "no-content-type", "data without a content type gets none in binary mode", "HTTP-CT-003",
        _no_content_type, "no Content-Type",
    )  # fmt: skip
    yield HTTP.check(
        "one-length", "a request says once, in one way, how long it is", "KN-001", _length,
        "one length",
    )  # fmt: skip
    yield KNATIVE.check("post", "events are delivered by POST", "KN-003", _post, "POST")
    yield KNATIVE.check(
        "options-fail", "a probe by OPTIONS that fails stops no delivery", "KN-004",
        _options_fail, "delivered",
    )  # fmt: skip
    yield HTTP.check(
        "no-batch", "events are not batched unless it was asked for", "HTTP-BAT-001",
        _no_batch, "one event a request",
    )  # fmt: skip
    yield HTTP.check(
        "batch", "a batch that was asked for has the batch's media type", "HTTP-BTC-002",
        _batch, "a batch",
    )  # fmt: skip
    yield from _about_connections()
    for mode in ("binary", "structured"):
        yield CORE.check(
            f"largest-{mode}", f"an event of 64 KiB on the wire is delivered in {mode} mode",
            "CORE-SIZE-001 CORE-SIZE-003", partial(_largest, mode), "delivered",
        )  # fmt: skip


def _about_connections() -> Iterator[Check]:
    for name, what, answer in (
        ("after-answer", "after an answer", Response(close=True)),
        ("said-close", "as it said", Response(close=True, headers=[("Connection", "close")])),
    ):
        yield KNATIVE.check(
            f"closed-{name}", f"a connection that the sink closes {what} loses no event",
            "KN-001 KN-006", partial(_closed_between, answer), "delivered",
        )  # fmt: skip
    yield KNATIVE.check(
        "closed-unanswered", "an event whose reused connection dies unanswered is sent again",
        "KN-006", _dies_reused, "repeated",
    )  # fmt: skip
    yield KNATIVE.check(
        "same-identity", "each attempt has the same id and source, the trace may change",
        "KN-006 KN-009", _same_identity, "the same event",
    )  # fmt: skip


def _event(deliveries: Deliveries, name: str) -> WireEvent:
    return deliveries.event(name, **EVENTS[name])


async def _usual(name: str, sender: Delivering) -> None:
    deliveries = Deliveries(sender)
    event = _event(deliveries, name)
    await sender.send(event)
    (request, *_) = await deliveries.wait(name)
    _judge(request, event)


async def _in_mode(mode: str, name: str, sender: Delivering) -> None:
    async with sender.variant(sink={"mode": mode}) as one:
        deliveries = Deliveries(one)
        event = _event(deliveries, name)
        await one.send(event)
        (request, *_) = await deliveries.wait(name)
    structured = (request.header("content-type") or "").startswith(JSON_TYPE)
    if structured != (mode == "structured"):
        raise CheckFailed("the mode is another", expected=mode, got=shown(request))
    _judge(request, event)


def _judge(request: Request, event: WireEvent) -> None:
    """Demand that a request says what an event says, by the text of the binding."""
    try:
        (got,) = read_delivery(request)
    except ValueError as error:
        raise CheckFailed(
            f"the request brings not one event: {error}",
            expected=shown_event(event),
            got=shown(request),
        ) from None
    structured = (request.header("content-type") or "").startswith(JSON_TYPE)
    different = difference(_in_json(event) if structured else _in_headers(event), got, exact=False)
    if different:
        raise CheckFailed(
            different,
            expected=shown_event(event),
            got=shown(request),
            reproduce=json_event.write(event).decode(),
        )


def _in_json(event: WireEvent) -> WireEvent:
    """Return what JSON can say of an event: Binary is Base64 text."""
    return WireEvent(
        {
            name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
            for name, value in event.attributes.items()
        },
        event.data,
    )


def _in_headers(event: WireEvent) -> WireEvent:
    """Return what headers can say of an event: text."""
    texts = {name: headers.canonical(value) for name, value in event.attributes.items()}
    return WireEvent(texts, event.data)


async def _no_content_type(sender: Delivering) -> None:
    async with sender.variant(sink={"mode": "binary"}) as one:
        deliveries = Deliveries(one)
        events = [
            deliveries.event("data", b"\x00\x01", datacontenttype=None),
            deliveries.event("nothing", None),
        ]
        await one.send(*events)
        for event, name in zip(events, ("data", "nothing"), strict=True):
            (request, *_) = await deliveries.wait(name)
            if request.header("content-type") is not None:
                raise CheckFailed("a Content-Type was made up", got=shown(request))
            _judge(request, event)


async def _length(sender: Delivering) -> None:
    deliveries = Deliveries(sender)
    await sender.send(deliveries.event("data"), deliveries.event("nothing", None))
    for name in ("data", "nothing"):
        (request, *_) = await deliveries.wait(name)
        names = [name.lower() for name, _ in request.headers]
        for field in ("host", "content-length", "content-type"):
            if names.count(field) > 1:
                raise CheckFailed(f"{field} stands there twice", got=shown(request))
        length, coding = request.header("content-length"), request.header("transfer-encoding")
        if request.header("host") is None:
            raise CheckFailed("there is no Host field", got=shown(request))
        if (length is None) == (coding is None):
            raise CheckFailed(
                "it takes either Content-Length or Transfer-Encoding", got=shown(request)
            )
        if length is not None and length != str(len(request.body)):
            raise CheckFailed(
                "Content-Length is wrong", expected=str(len(request.body)), got=length
            )


async def _post(sender: Delivering) -> None:
    deliveries = Deliveries(sender)
    await deliveries.send("one", "two")
    for name in ("one", "two"):
        for request in await deliveries.wait(name):
            if request.method != "POST":
                raise CheckFailed("another method", expected="POST", got=shown(request))


async def _options_fail(sender: Delivering) -> None:
    deliveries = Deliveries(sender, {}, Response(status=405))
    await deliveries.send("event")
    await deliveries.wait("event")


async def _no_batch(sender: Delivering) -> None:
    deliveries = Deliveries(sender)
    names = [f"event{number}" for number in range(20)]
    await sender.send(*(deliveries.event(name, source="/conformance/one") for name in names))
    for name in names:
        for request in await deliveries.wait(name):
            if (request.header("content-type") or "").lower().startswith(BATCH_TYPE):
                raise CheckFailed("the events came as a batch", got=shown(request))
    requests = await deliveries.all()
    if len(requests) != len(names):
        raise CheckFailed(
            "not one request for each event", expected=str(len(names)), got=str(len(requests))
        )


async def _batch(sender: Delivering) -> None:
    async with sender.variant(sink={"batch": True}) as one:
        deliveries = Deliveries(one)
        names = ("one", "two", "three")
        await deliveries.send(*names)
        for name in names:
            (request, *_) = await deliveries.wait(name)
            if request.header("content-type") != BATCH_TYPE:
                raise CheckFailed(
                    "it is no batch, or doesn't say so", expected=BATCH_TYPE, got=shown(request)
                )


async def _closed_between(answer: Response, sender: Delivering) -> None:
    deliveries = Deliveries(sender, dict.fromkeys(("one", "two", "three"), answer))
    for name in ("one", "two", "three"):
        await deliveries.send(name)
        await deliveries.wait(name)
    await deliveries.pass_marker()
    for name in ("one", "two", "three"):
        await deliveries.expect_count(name, 1, "an event that was delivered was sent again")


async def _dies_reused(sender: Delivering) -> None:
    deliveries = Deliveries(sender, {"second": [Response(status=0)]})
    for name in ("first", "second"):
        await deliveries.send(name)
        await deliveries.wait(name)
    await deliveries.wait("second", 2)
    await deliveries.pass_marker()
    await deliveries.expect_count("second", 2, "the event was sent too often")


async def _same_identity(sender: Delivering) -> None:
    deliveries = Deliveries(sender, {"event": [DOWN, Response(status=0), DOWN]})
    event = deliveries.event("event", **EVENTS["trace"])
    await sender.send(event)
    requests: Sequence[Request] = await deliveries.wait("event", 4)
    for request in requests:
        (got,) = read_delivery(request)
        for name in ("id", "source", "type"):
            if got.attributes.get(name) != event.attributes[name]:
                raise CheckFailed(
                    f"{name} is another",
                    expected=str(event.attributes[name]),
                    got=shown(request),
                    reproduce=deliveries.story("event"),
                )


async def _largest(mode: str, sender: Delivering) -> None:
    async with sender.variant(sink={"mode": mode}) as one:
        deliveries = Deliveries(one)
        bare = deliveries.event("large", b'""')
        overhead = len(json_event.write(bare))
        if mode == "binary":
            fields = headers.write("http", bare).headers
            overhead = sum(len(name) + len(value) + 4 for name, value in fields) + 2
        event = deliveries.event("large", b'"' + b"x" * (LARGEST - overhead) + b'"')
        await one.send(event)
        (request, *_) = await deliveries.wait("large")
        _judge(request, event)
