"""Through a running gateway: each way in and each way out, nothing lost and nothing invented.

What may be lost is declared (`conformance.losses`); what comes out is read by the suite itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from bindings.binding import ContentMode
from conformance.check import Check, CheckFailed
from conformance.checks.telling import TELLING, renamed
from conformance.forms import WireEvent
from conformance.losses import after
from conformance.own.gateway import Arrival, OwnGateway, source_of
from conformance.reference.carrier import Carrier
from conformance.reference.compare import difference, shown
from conformance.requirements import strongest

FAMILY: Final = "through the gateway"

WAYS_IN: Final[tuple[tuple[str, ContentMode], ...]] = (
    ("http", "binary"), ("http", "structured"), ("mqtt", "binary"), ("mqtt", "structured"),
    ("mqtt311", "structured"), ("nats", "binary"), ("nats", "structured"),
    ("jetstream", "binary"), ("coap", "binary"), ("coap", "structured"),
)  # fmt: skip
WAYS_OUT: Final[Mapping[str, Carrier]] = {
    "http-binary": Carrier("http", "binary"),
    "http-structured": Carrier("http", "structured"),
    "http-batch": Carrier("http", "structured"),
    "nats-binary": Carrier("nats", "binary"),
    "nats-structured": Carrier("nats", "structured"),
    "kafka-binary": Carrier("kafka", "binary"),
    "kafka-structured": Carrier("kafka", "structured"),
}
LARGE: Final = "64-kib"
_LARGE_BYTES: Final = 65_000
"""With its envelope it has 64 KiB at most, in every mode."""
_RULES: Final = {
    "http-binary": "HTTP-MET-001 HTTP-DAT-001",
    "http-structured": "HTTP-STR-001",
    "http-batch": "HTTP-BTC-002",
    "nats-binary": "NATS-BIN-001 NATS-BIN-002 NATS-BIN-004",
    "nats-structured": "NATS-STR-002",
    "kafka-binary": "KAFKA-BIN-004 KAFKA-KEY-003 KAFKA-MODE-004",
    "kafka-structured": "KAFKA-KEY-001",
}


def checks() -> Iterator[Check]:
    """Return a check for each way in, way out and event."""
    for way, mode in WAYS_IN:
        for sink in WAYS_OUT:
            for name in (*TELLING, LARGE):
                if name != LARGE or way != "coap":  # which takes that in blocks: checks/coap.py
                    yield _check(way, mode, sink, name)


def _check(way: str, mode: ContentMode, sink: str, name: str) -> Check:
    source = _carrier(way, mode)
    ids = ["CORE-GEN-005", "CORE-EXT-003", *_RULES[sink].split()]
    if name == LARGE:
        ids = ["CORE-SIZE-003", "CORE-SIZE-002"]
    return Check(
        id=f"gateway-{way}-{mode}-to-{sink}-{name}",
        title=f"An event goes through whole, {way} {mode} to {sink}: {name}.",
        binding=WAYS_OUT[sink].binding,
        family=FAMILY,
        requirements=tuple(ids),
        level=strongest(ids),
        role="intermediary",
        profiles=source.profiles & WAYS_OUT[sink].profiles,
        verdict="taken",
        needs="gateway",
        run=partial(_run, way, mode, sink, name),
    )


def _carrier(way: str, mode: ContentMode) -> Carrier:
    return Carrier("nats" if way == "jetstream" else way, mode)


async def _run(way: str, mode: ContentMode, sink: str, name: str, gateway: OwnGateway) -> None:
    source = source_of(way, mode, name)
    template = TELLING.get(name) or renamed(
        WireEvent(TELLING["all-attributes"].attributes, b"x" * _LARGE_BYTES)
    )
    event = renamed(template, source=source, id=name)
    carrier = _carrier(way, mode)
    await gateway.carry(way, mode, name, event)
    arrivals = gateway.arrivals(sink, source)
    expected = after(_taken(event, carrier, arrivals), carrier, WAYS_OUT[sink])
    got = " ".join(shown(one.event) for one in arrivals)
    if len(arrivals) != 1:
        raise CheckFailed(f"it came out {len(arrivals)} times", expected=shown(expected), got=got)
    text = difference(expected, arrivals[0].event)
    key = event.attributes.get("partitionkey", "").encode() if sink == "kafka-binary" else b""
    if (arrivals[0].key or b"") != key:
        text += f"; the key is {arrivals[0].key!r}, not {key!r}"
    if text:
        raise CheckFailed(text, expected=shown(expected), got=got)


def _taken(event: WireEvent, carrier: Carrier, arrivals: Sequence[Arrival]) -> WireEvent:
    """Return what a way in makes of an event by its own document, besides what it loses."""
    if carrier.binding != "coap":
        return event
    untyped = event.data and "datacontenttype" not in event.attributes
    if untyped and carrier.is_binary:  # COAP-BIN-008
        event = renamed(event, datacontenttype="application/octet-stream")
    for arrival in arrivals[:1]:  # COAP-FILL-006: the time of receipt, which checks/coap.py knows
        event = renamed(event, time=event.attributes.get("time", arrival.event.attributes["time"]))
    return event
