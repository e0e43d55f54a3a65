"""What any binding has to keep to, judged by its codec alone: a stranger's, of any protocol.

What goes into `encode` has to come out of `decode`, in each mode: the values of the type lattice,
the data of the data lattice, the sets of attributes. What a binding can't keep it declares by name
in an attribute `losses: frozenset[str]`; nothing else may be lost:

    empty         empty data arrive as no data
    layout        JSON data arrive as the same value in other bytes (structured mode may always)
    content-type  data without a content type are given one
    malformed     data that are not what their content type says are refused
    subset        events that the protocol has no room for are refused
    defaults      attributes that a message lacks are filled in

Attributes may come back as their canonical strings. Whatever comes in, the answer is an event that
is one, or a refusal, and never another exception.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from bindings.binding import ContentMode, Message
from bindings.errors import InvalidEventError
from conformance.check import Check, CheckFailed, Unsupported
from conformance.checks.data_lattice import CONTENT_TYPES, DATA, is_malformed
from conformance.checks.judging import (
    BASE,
    MINIMAL,
    Case,
    check,
    decoding,
    encoding,
    failed,
    judge_each,
    judge_encode_refused,
    odd,
)
from conformance.checks.values import CHARACTER_GROUPS, LEAST, NO_NAMES, SETS, VALUES
from conformance.checks.vectors import message_text
from conformance.codec import Codec
from conformance.forms import Refused, WireEvent
from conformance.reference.carrier import Carrier
from conformance.reference.compare import difference, shown
from conformance.reference.headers import canonical

FAMILY: Final = "generic"
LOSSES: Final = frozenset({"empty", "layout", "content-type", "malformed", "subset", "defaults"})
_MODES: Final[tuple[ContentMode, ...]] = ("binary", "structured")
_MESSAGES: Final = 400
"""How many messages of chance a check tries; each comes of its seed and is the same every time."""


def checks_for(name: str) -> Iterator[Check]:
    """Return the checks of the binding of that name, for a codec that has it."""
    for mode in _MODES:
        place = _Place(name, mode)
        yield from _right_values(place)
        yield from _data(place)
        yield from _sets(place)
        yield from _wrong_values(place)
        yield from _messages(place)


def losses_of(codec: Codec, name: str) -> frozenset[str]:
    """Return what a binding declares to lose.

    Raises:
        CheckFailed: there is no loss of such a name.
    """
    declared: Callable[[str], frozenset[str]] = getattr(codec, "losses", lambda _: frozenset())
    losses = declared(name)
    if not losses <= LOSSES:
        unknown = ", ".join(sorted(losses - LOSSES))
        raise CheckFailed(f"unknown losses: {unknown}", expected=", ".join(sorted(LOSSES)))
    return losses


class _Place(Carrier):
    """A binding and mode whose messages nobody but the codec can read."""

    __slots__ = ()

    @property
    def name(self) -> str:
        return f"{self.binding}-{self.mode}"


def _check(place: Carrier, name: str, title: str, ids: str, run: Callable[[Codec], None]) -> Check:
    is_reading = name.startswith("read")
    case = Case(
        name=f"{place.binding}-{place.mode}-{name}",
        title=title,
        requirements=ids.split(),
        role="consumer" if is_reading else "producer",
    )
    return check(FAMILY, [place], case, run)


def _right_values(place: Carrier) -> Iterator[Check]:
    groups: dict[str, list[WireEvent]] = {}
    for value in VALUES:
        if value.is_right:
            event = WireEvent({**BASE, value.attribute: value.value})
            groups.setdefault(f"{value.kind} {value.attribute}", []).append(event)
    for group, events in groups.items():
        yield _check(
            place,
            f"types-{group.replace(' ', '-')}",
            f"every {group} arrives",
            "CORE-TYPE-001 CORE-TYPE-005 CORE-TYPE-007 CORE-GEN-005",
            partial(_judge_all, place, {odd(event): event for event in events}),
        )


def _data(place: Carrier) -> Iterator[Check]:
    for name, content_type in CONTENT_TYPES.items():
        attributes: dict[str, Any] = dict(BASE)
        if content_type:
            attributes["datacontenttype"] = content_type
        events = {kind: WireEvent(attributes, data) for kind, data in DATA.items()}
        yield _check(
            place,
            f"data-{name.replace(' ', '-')}",
            f"data under {content_type or 'no content type'} arrives",
            "CORE-DATA-001 CORE-DCT-006",
            partial(_judge_all, place, events),
        )


def _sets(place: Carrier) -> Iterator[Check]:
    for name, event in (*SETS.items(), *LEAST.items()):
        ids = "CORE-GEN-005 CORE-EXT-003 CORE-TIME-004"
        title = f"every attribute arrives, and nothing else: {name}"
        run = partial(_judge_all, place, {name: event})
        yield _check(place, f"attributes-{name.replace(' ', '-')}", title, ids, run)


def _judge_all(place: Carrier, events: Mapping[str, WireEvent], codec: Codec) -> None:
    losses = losses_of(codec, place.binding)
    judge_each(
        (name, partial(_judge, codec, place, event, losses)) for name, event in events.items()
    )


def _judge(codec: Codec, place: Carrier, event: WireEvent, losses: frozenset[str]) -> None:
    asked = encoding(place, event)
    try:
        message = codec.encode(place.binding, event, place.mode)
    except Refused as refusal:
        if "subset" in losses or ("malformed" in losses and is_malformed(event)):
            return
        raise failed("refused an event that is right", event, str(refusal), asked) from refusal
    asked = decoding(place.binding, message)
    try:
        events = list(codec.decode(place.binding, message))
    except Refused as refusal:
        raise failed("refused its own message", event, str(refusal), asked) from refusal
    if len(events) != 1:
        raise failed(f"{len(events)} events of one", event, message_text(message), asked)
    expected = _as_text(_after(event, events[0], losses))
    exact = place.mode == "binary" and "layout" not in losses
    differs = difference(expected, _as_text(events[0]), exact=exact)
    if differs:
        raise failed(differs, expected, shown(events[0]), asked)


def _after(event: WireEvent, got: WireEvent, losses: frozenset[str]) -> WireEvent:
    attributes, data = dict(event.attributes), event.data
    if "empty" in losses and not data and not got.data:
        data = got.data
    given = got.attributes.get("datacontenttype")
    if "content-type" in losses and data is not None and given is not None:
        attributes.setdefault("datacontenttype", given)
    return WireEvent(attributes, data)


def _as_text(event: WireEvent) -> WireEvent:
    texts = {name: canonical(value) for name, value in event.attributes.items()}
    return WireEvent(texts, event.data)


def _wrong_values(place: Carrier) -> Iterator[Check]:
    groups: dict[str, tuple[str, list[WireEvent]]] = {}
    for value in VALUES:
        if not value.is_right:
            event = WireEvent({**BASE, value.attribute: value.value})
            ids = " ".join(value.requirements)
            groups.setdefault(value.kind, (ids, []))[1].append(event)
    for group, (code_points, id_) in CHARACTER_GROUPS.items():
        events = [WireEvent({**BASE, "subject": f"a{chr(code)}"}) for code in code_points]
        groups[group] = id_, events
    names = [WireEvent({**BASE, name: "x"}) for name in (*NO_NAMES, "data")]
    groups["name"] = "CORE-NAME-001 CORE-NAME-003 CORE-NAME-006", names
    without = [
        WireEvent({name: value for name, value in BASE.items() if name != left_out})
        for left_out in MINIMAL
    ]
    groups["missing"] = "CORE-ATTR-001", without
    for group, (ids, events) in groups.items():
        name = f"refused-{group.replace(' ', '-')}"
        run = partial(_judge_refused, place, events)
        yield _check(place, name, f"an event that is none is refused: {group}", ids, run)


def _judge_refused(place: Carrier, events: Sequence[WireEvent], codec: Codec) -> None:
    judge_each((odd(event), partial(judge_encode_refused, codec, place, event)) for event in events)


def _messages(place: Carrier) -> Iterator[Check]:
    for name, title, ids, judge in (
        ("read-bytes", "any bytes bring an event or a refusal", "CORE-ATTR-001", _judge_bytes),
        ("read-damaged", "a damaged message brings an event or a refusal", "CORE-ATTR-001",
         _judge_damaged),
        ("read-lacking", "a message that lacks a header brings no event with one invented",
         "CORE-ATTR-001 CORE-TIME-004", _judge_lacking),
        ("read-twice", "a message with a header twice is refused", "CORE-ATTR-003", _judge_twice),
        ("read-alone", "no message leaves a trace in the next", "CORE-GEN-005", _judge_alone),
        ("same", "one event makes one message, every time", "CORE-GEN-005", _judge_same),
    ):  # fmt: skip
        yield _check(place, name, title, ids, partial(judge, place))


def _judge_any(codec: Codec, place: Carrier, message: Message) -> None:
    """Demand an event that is one, or a refusal."""
    asked = decoding(place.binding, message)
    try:
        for event in codec.decode(place.binding, message):
            event.checked()
    except Refused:
        return
    except InvalidEventError as error:
        raise failed("brought an event that is none", None, str(error), asked) from error
    except Unsupported:
        raise
    except Exception as error:
        raise failed("neither an event nor a refusal", None, repr(error), asked) from error


def _judge_bytes(place: Carrier, codec: Codec) -> None:
    chance = random.Random(f"{place.name} bytes")  # noqa: S311 - repeatable, no secret
    content_types = ["", "text/plain", "application/cloudevents+json", "\u00e9", ";", "a" * 300]
    for number in range(_MESSAGES):
        payload = chance.randbytes(chance.choice((0, 1, 2, 8, 40, 300)))
        headers = [(_text(chance), _text(chance)) for _ in range(chance.randrange(4))]
        content_type = content_types[number % len(content_types)]
        _judge_any(codec, place, Message(payload, content_type, headers))
    for content_type in content_types:
        _judge_any(codec, place, Message(None, content_type))


def _text(chance: random.Random) -> str:
    alphabet = 'aceid-_: "%\\\t\n\x00\x7f\u00e9\u212a\udcff\uffff=01'
    return "".join(chance.choice(alphabet) for _ in range(chance.randrange(12)))


def _sent(codec: Codec, place: Carrier) -> list[Message]:
    """Return messages of events that are right, as far as the binding has room for them.

    Raises:
        CheckFailed: it refuses them all, so that nothing can be shown.
        Unsupported: it does, and has declared that it has no room for some.
    """
    messages = []
    for event in SETS.values():
        try:
            messages.append(codec.encode(place.binding, event, place.mode))
        except Refused:
            continue
    if not messages and "subset" in losses_of(codec, place.binding):
        raise Unsupported("it has no room for any of the events that are tried")
    if not messages:
        raise CheckFailed("every event is refused", expected="a message of one at least")
    return messages


def _judge_damaged(place: Carrier, codec: Codec) -> None:
    chance = random.Random(f"{place.name} damaged")  # noqa: S311 - repeatable, no secret
    for message in _sent(codec, place):
        for _ in range(_MESSAGES // 10):
            _judge_any(codec, place, _damaged(message, chance))


def _damaged(message: Message, chance: random.Random) -> Message:
    payload, headers = bytearray(message.payload or b""), list(message.headers)
    for _ in range(chance.randrange(1, 4)):
        if payload and chance.random() < 0.6:
            place = chance.randrange(len(payload))
            kind = chance.randrange(3)
            if kind == 0:
                payload[place] ^= 1 << chance.randrange(8)
            elif kind == 1:
                del payload[place:]
            else:
                payload[place:place] = chance.randbytes(3)
        elif headers:
            place = chance.randrange(len(headers))
            name, value = headers[place]
            headers[place] = (
                (_text(chance), value) if chance.random() < 0.5 else (name, _text(chance))
            )
    return Message(bytes(payload), message.content_type, headers)


def _judge_lacking(place: Carrier, codec: Codec) -> None:
    if losses_of(codec, place.binding) & {"defaults", "subset"}:
        return
    event = WireEvent(MINIMAL)
    try:
        message = codec.encode(place.binding, event, place.mode)
    except Refused as refusal:
        asked = encoding(place, event)
        raise failed("refused an event that is right", event, str(refusal), asked) from refusal
    for at in range(len(message.headers)):
        headers = [*message.headers[:at], *message.headers[at + 1 :]]
        less = Message(message.payload, message.content_type, headers)
        try:
            events = list(codec.decode(place.binding, less))
        except Refused:
            continue
        if any(event.attributes.keys() >= MINIMAL.keys() for event in events):
            text = f"without {message.headers[at][0]}, an attribute was invented"
            raise failed(text, None, shown(events[0]), decoding(place.binding, less))


def _judge_twice(place: Carrier, codec: Codec) -> None:
    for message in _sent(codec, place):
        for name, _ in message.headers:
            more = [*message.headers, (name, "2")]
            again = Message(message.payload, message.content_type, more)
            try:
                events = list(codec.decode(place.binding, again))
            except Refused:
                continue
            asked = decoding(place.binding, again)
            raise failed(f"took {name} twice", None, " ".join(map(shown, events)), asked)


def _judge_alone(place: Carrier, codec: Codec) -> None:
    messages = _sent(codec, place)
    first = [list(codec.decode(place.binding, message)) for message in messages]
    for message, before in zip(messages, first, strict=True):
        if not before:
            raise failed("no event of its own message", None, "", decoding(place.binding, message))
    for message, before in reversed(list(zip(messages, first, strict=True))):
        again = list(codec.decode(place.binding, message))
        if again != before:
            asked = decoding(place.binding, message)
            raise failed("other messages left a trace", before[0], shown(again[0]), asked)


def _judge_same(place: Carrier, codec: Codec) -> None:
    first, second = _sent(codec, place), _sent(codec, place)
    for one, other in zip(first, second, strict=True):
        if one != other:
            raise failed("two messages of one event", None, message_text(other), message_text(one))
