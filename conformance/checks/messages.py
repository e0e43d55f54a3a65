"""Messages to a live gateway: the events they bring, or a refusal in the protocol's words.

The vectors of HTTP, MQTT and NATS are sent as they are, and the telling events in every content
mode. After each a marker is sent, so that nothing has to be waited for that does not come.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from bindings.binding import ContentMode, Message
from conformance.check import Check, CheckFailed
from conformance.checks.live import Case, Scene, different, live_check, scene
from conformance.checks.telling import TELLING, renamed
from conformance.checks.vectors import event_of, message_of, vectors, verdict_groups
from conformance.forms import WireEvent
from conformance.peers import mqtt
from conformance.peers.dialogue import Answer
from conformance.reference.carrier import Carrier
from conformance.reference.compare import shown
from conformance.target import Target

FAMILY: Final = "messages"

_WAYS: Final = {"http": "http", "mqtt": "mqtt", "mqtt311": "mqtt311", "nats": "nats"}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD = re.compile(r"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_MODES: Final[Mapping[str, Sequence[ContentMode]]] = {
    "http": ("binary", "structured"),
    "mqtt": ("binary", "structured"),
    "mqtt-qos2": ("binary",),
    "mqtt311": ("structured",),
    "nats": ("binary", "structured"),
    "jetstream": ("binary", "structured"),
}
_MANY: Final = 16
"""Messages at once; some servers take no more than 20 that are not answered (Receive Maximum)."""
_RULES: Final = {
    "http": ("CORE-GEN-001", "HTTP-MET-001", "HTTP-DAT-001"),
    "mqtt": ("CORE-GEN-001", "MQTT-BIN-002", "MQTT-BIN-003"),
    "mqtt311": ("CORE-GEN-001", "MQTT-DET-004", "MQTT-STR-002"),
    "nats": ("CORE-GEN-001", "NATS-BIN-001", "NATS-BIN-002"),
}


def checks() -> Iterator[Check]:
    """Return a check for each vector that can be sent, and for each telling event."""
    for name in ("http", "mqtt", "nats"):
        for binding, vector in vectors(name):
            if binding in _WAYS and "decode" in vector and _can_be_sent(binding, vector):
                yield from _of_vector(_WAYS[binding], vector)
    for way, modes in _MODES.items():
        for mode in modes:
            for name in TELLING:
                yield _of_event(way, mode, name)
        yield live_check(FAMILY, _neighbours(way))
        yield live_check(FAMILY, _order(way))


def _can_be_sent(binding: str, vector: Mapping[str, Any]) -> bool:
    """Whether a message can be written at all; the rest of the vectors is for codecs only."""
    message = message_of(vector["decode"])
    if binding.startswith("mqtt"):
        return mqtt.can_be_sent(message)
    fields = [("Content-Type", message.content_type), *message.headers]
    return all(_TOKEN.fullmatch(name) and _FIELD.fullmatch(value) for name, value in fields)


def _of_vector(way: str, vector: Mapping[str, Any]) -> Iterator[Check]:
    """Return a check for each group of profiles with one verdict."""
    for profiles, any_of in verdict_groups(vector, vector["expect"]):
        is_refused = all("error" in one for one in any_of)
        case = Case(
            way,
            vector["id"],
            vector["note"],
            [*vector["requirements"], *(["GW-ACK-007"] if is_refused else [])],
            partial(_send_vector, way, vector, any_of),
            " or ".join("refused" if "error" in one else "taken" for one in any_of),
            profiles,
        )
        yield live_check(FAMILY, case)


async def _send_vector(
    way: str, vector: Mapping[str, Any], any_of: Sequence[Mapping[str, Any]], target: Target
) -> None:
    async with scene(way, target) as at:
        at.send(message_of(vector["decode"]))
        answer = await _answered(at)
        least = min(0 if "error" in one else len(_events_of(one)) for one in any_of)
        got = await _until_marker(at, least)
        wrong = [_wrong(at, expect, got, answer) for expect in any_of]
        if "" not in wrong:
            expected = " or ".join(map(repr, any_of))
            text = f"{' '.join(map(shown, got)) or 'no event'}; the answer: {answer}"
            raise at.failed(wrong[0], expected, text)


async def _answered(at: Scene) -> Answer | None:
    """Return the answer; None where the connection was closed instead."""
    try:
        return await at.answer()
    except CheckFailed:
        return None


def _events_of(expect: Mapping[str, Any]) -> list[WireEvent]:
    found = expect["events"] if "events" in expect else [expect["event"]]
    return [event_of(one) for one in found]


async def _until_marker(at: Scene, least: int) -> list[WireEvent]:
    """Send a marker from another connection; return the events that came before it.

    Behind a broker the marker may overtake, so as many events as there should be are waited for.
    """
    async with at.other() as other:
        marker = other.event()
        other.send(other.message(marker))
        await other.expect("yes")
    await at.came(1)
    with suppress(CheckFailed):
        await at.target.events(least + 1, 1.0)
    return [
        event for event in await at.target.events(1) if event.attributes.get("source") != at.source
    ]


def _wrong(
    at: Scene, expect: Mapping[str, Any], got: Sequence[WireEvent], answer: Answer | None
) -> str:
    """Return what is wrong by one verdict, for people; "" if nothing is."""
    if "error" in expect:
        if got:
            return "an event was made of a message that has to be refused"
        return "" if at.target.is_broker else _wrong_refusal(at.way, expect["error"], answer)
    events = _events_of(expect)
    if answer is None or (answer.word != "yes" and not at.target.is_broker):
        return "a message that is right was refused"
    if len(got) != len(events):
        return f"{len(got)} events came out"
    texts = [different(one, other) for one, other in zip(events, got, strict=True)]
    return "; ".join(filter(None, texts))


def _wrong_refusal(way: str, kind: str, answer: Answer | None) -> str:
    if answer is None or way == "mqtt311":  # closed, or the PUBACK that can only say yes
        return ""
    if answer.word != "no":
        return "a message that has to be refused was acknowledged"
    if way == "http" and kind == "unknown_encoding" and answer.code != 415:
        return "an unknown format is answered by 415 (http-webhook.md 2.2)"
    if way == "http" and not 400 <= answer.code < 500:
        return "the sender's mistake is answered by 4xx"
    return ""


def _of_event(way: str, mode: ContentMode, name: str) -> Check:
    binding = way if way in _RULES else {"mqtt-qos2": "mqtt"}.get(way, "nats")
    ids = _RULES[binding]
    case = Case(
        way,
        f"telling-{mode}-{name}",
        f"An event arrives whole in {mode} mode: {name}.",
        ids[:1] if mode == "structured" and binding != "mqtt311" else ids,
        partial(_send_event, way, mode, name),
        "taken",
        Carrier(binding, mode).profiles,
    )
    return live_check(FAMILY, case)


async def _send_event(way: str, mode: ContentMode, name: str, target: Target) -> None:
    async with scene(way, target) as at:
        event = renamed(TELLING[name], id=at.event().attributes["id"], source=at.source)
        at.send(at.message(event, mode))
        await at.expect("yes")
        await at.expect_events(event, mode=mode)


def _neighbours(way: str) -> Case:
    return Case(
        way,
        "neighbours",
        "A message that is refused does not keep its neighbours in the same write from arriving.",
        ("GW-MSG-001",),
        partial(_send_neighbours, way),
    )


async def _send_neighbours(way: str, target: Target) -> None:
    async with scene(way, target) as at:
        first, last = at.event(), at.event()
        at.send(at.message(first), _no_event(way), at.message(last))
        await at.expect("yes")
        await at.expect("no", "yes") if way == "mqtt311" else await at.expect("no")
        await at.expect("yes")
        await at.expect_events(first, last)


def _no_event(way: str) -> Message:
    """Return a message that claims to be an event and lacks nearly everything."""
    if way == "mqtt311":
        return Message(b'{"specversion":"1.0"}')
    prefix = "" if way.startswith("mqtt") else "ce-"
    headers = [(f"{prefix}{name}", "x") for name in ("id", "source", "type")]
    return Message(b"1", "", [*headers, (f"{prefix}specversion", "9.9")])


def _order(way: str) -> Case:
    return Case(
        way,
        "order",
        "Events of one source leave in the order in which they came, each answered.",
        ("GW-MSG-002", "CORE-TERM-001", "CORE-ID-003"),
        partial(_send_many, way),
    )


async def _send_many(way: str, target: Target) -> None:
    async with scene(way, target) as at:
        events = [at.event(f"{number}".encode()) for number in range(_MANY)]
        at.send(*map(at.message, events))
        for _ in events:
            await at.expect("yes")
        await at.expect_events(*events)
