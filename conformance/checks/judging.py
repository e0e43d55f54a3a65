"""How the families put a question to a codec and judge its answer."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal

import msgspec

from bindings.binding import Message
from conformance.check import Check, CheckFailed, Profile, Role, Unsupported
from conformance.checks.vectors import keeps_layout, message_text, question
from conformance.codec import Codec
from conformance.forms import Refused, WireEvent, event_to_json, message_to_json
from conformance.reference.carrier import Carrier
from conformance.reference.compare import difference, shown
from conformance.reference.headers import Misread
from conformance.requirements import level_of, profiles_of

Verdict = Literal["event", "refused", "either"]

MINIMAL: Final = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
"""The attributes of the least event."""

BASE: Final = {**MINIMAL, "time": "2018-04-05T17:31:00Z"}
"""Attributes to which a check adds what it is about. An implementation that invents a time fails
where nothing may be invented (`transparency`), and not everywhere."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What a check is about.

    Attributes:
        name: unique in its family.
        title: one sentence: what should happen.
        requirements: ids of the registry; one may stand there twice.
        role: who is judged.
        verdict: what is expected.
        profiles: under which profiles; None takes those of the requirements.
    """

    name: str
    title: str
    requirements: Sequence[str]
    role: Role
    verdict: str = "event"
    profiles: frozenset[Profile] | None = None


def check(
    family: str, carriers: Sequence[Carrier], case: Case, run: Callable[[Codec], None]
) -> Check:
    """Return a check of a generated family, for the profiles that have all its carriers.

    It counts for the last carrier's binding.
    """
    ids = tuple(dict.fromkeys(case.requirements))
    profiles = profiles_of(ids) if case.profiles is None else case.profiles
    for carrier in carriers:
        profiles &= carrier.profiles
    return Check(
        id=f"{family.replace(' ', '-')}-{case.name}",
        title=case.title,
        binding=carriers[-1].binding,
        family=family,
        requirements=ids,
        level=level_of(ids, role=case.role, verdict=case.verdict),
        role=case.role,
        profiles=profiles,
        verdict=case.verdict,
        run=run,
    )


def odd(event: WireEvent) -> str:
    """Return what an event has that the base has not, and what it lacks of the least one."""
    odd = {name: value for name, value in event.attributes.items() if BASE.get(name) != value}
    missing = MINIMAL.keys() - event.attributes.keys()
    return ", ".join([*(f"{name}={value!r}" for name, value in odd.items()), *missing])


def judge_decode(
    codec: Codec,
    binding: str,
    message: Message,
    expected: WireEvent | None,
    *,
    verdict: Verdict = "event",
    exact: bool = True,
) -> None:
    """Demand that a message brings an event, or a refusal.

    Args:
        codec: what is judged.
        binding: the message's binding.
        message: the message.
        expected: the event; None if there can be none.
        verdict: `either` takes a refusal as well as the event.
        exact: see `difference`.

    Raises:
        CheckFailed: neither came.
    """
    try:
        events = list(codec.decode(binding, message))
    except Refused as refusal:
        if verdict != "event":
            return
        raise failed(
            "refused what is right", expected, str(refusal), decoding(binding, message)
        ) from refusal
    if verdict == "refused" or expected is None:
        got = " ".join(map(shown, events))
        raise failed("took what is wrong", None, got, decoding(binding, message))
    if len(events) != 1:
        raise failed(f"{len(events)} events", expected, "", decoding(binding, message))
    differs = difference(expected, events[0], exact=exact and keeps_layout(codec))
    if differs:
        raise failed(differs, expected, shown(events[0]), decoding(binding, message))


def judge_encode(
    codec: Codec, carrier: Carrier, event: WireEvent, expected: WireEvent, *, exact: bool = True
) -> Message:
    """Demand that an event makes a message that says it, and return the message.

    Raises:
        CheckFailed: it was refused, or says something else.
    """
    asked = encoding(carrier, event)
    try:
        message = codec.encode(carrier.binding, event, carrier.mode)
    except Refused as refusal:
        raise failed("refused an event that is right", expected, str(refusal), asked) from refusal
    judge_message(carrier, message, expected, asked, exact=exact and keeps_layout(codec))
    return message


def judge_message(
    carrier: Carrier, message: Message, expected: WireEvent, asked: str, *, exact: bool = True
) -> None:
    """Demand that a message says an event, by the document's text.

    Raises:
        CheckFailed: it does not.
    """
    try:
        got = carrier.read(message)
    except (Misread, ValueError) as error:
        text = f"no {carrier.name} message: {error}"
        raise failed(text, expected, message_text(message), asked) from error
    differs = difference(expected, got, exact=exact)
    if differs:
        raise failed(differs, expected, message_text(message), asked)


def judge_encode_refused(codec: Codec, carrier: Carrier, event: WireEvent) -> None:
    """Demand that an event is refused.

    Raises:
        CheckFailed: it was taken.
    """
    try:
        message = codec.encode(carrier.binding, event, carrier.mode)
    except Refused:
        return
    raise failed("sent what is wrong", None, message_text(message), encoding(carrier, event))


def relayed(codec: Codec, source: Carrier, message: Message, target: Carrier) -> list[Message]:
    """Return what a message becomes elsewhere.

    Raises:
        CheckFailed: it was refused.
    """
    try:
        return list(codec.relay(source.binding, message, target.binding, target.mode))
    except Refused as refusal:
        raise CheckFailed(
            "refused what is right",
            expected="to be handed on",
            got=str(refusal),
            reproduce=relaying(source, message, target),
        ) from refusal


def judge_relay(
    codec: Codec,
    source: Carrier,
    message: Message,
    target: Carrier,
    expected: WireEvent,
    *,
    exact: bool = True,
) -> Message:
    """Demand that a message becomes one other that says `expected`, and return it.

    Raises:
        CheckFailed: it does not.
    """
    messages = relayed(codec, source, message, target)
    asked = relaying(source, message, target)
    if len(messages) != 1:
        raise failed(f"{len(messages)} messages of one event", expected, "", asked)
    judge_message(target, messages[0], expected, asked, exact=exact and keeps_layout(codec))
    return messages[0]


def judge_each(cases: Iterable[tuple[str, Callable[[], object]]]) -> None:
    """Judge cases of one rule, each by its name, and tell of all that fail.

    Raises:
        CheckFailed: one or more do; the first is shown in full.
        Unsupported: what is judged offers none of them.
    """
    total, names, first, without = 0, [], None, None
    for name, judge in cases:
        try:
            judge()
        except CheckFailed as failure:
            names.append(name)
            first = first or failure
        except Unsupported as unsupported:
            without = unsupported
            continue
        total += 1
    if without is not None and not total:
        raise without
    if first is not None:
        more = ", ..." if len(names) > 5 else ""
        text = f"{len(names)} of {total} ({', '.join(names[:5])}{more}): {first}"
        raise CheckFailed(
            text, expected=first.expected, got=first.got, reproduce=first.reproduce
        ) from first


def failed(text: str, expected: WireEvent | None, got: str, asked: str) -> CheckFailed:
    """Return a failure."""
    wanted = "to be refused" if expected is None else shown(expected)
    return CheckFailed(text, expected=wanted, got=got, reproduce=asked)


def decoding(binding: str, message: Message) -> str:
    """Return the line that asks an adapter to decode."""
    return question("decode", binding, message=message_to_json(message))


def encoding(carrier: Carrier, event: WireEvent) -> str:
    """Return the line that asks an adapter to encode."""
    form: Any = event_to_json(event)
    return question("encode", carrier.binding, mode=carrier.mode, event=form)


def relaying(source: Carrier, message: Message, target: Carrier) -> str:
    """Return the line that asks an adapter to relay."""
    fields = {"message": message_to_json(message), "to": target.binding, "mode": target.mode}
    return question("relay", source.binding, **fields)
