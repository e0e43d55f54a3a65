"""Wire vectors: messages of known bytes, the event or refusal they bring, and the way back.

A vector (conformance/vectors/*.json) is judged by one of four rules: `decode` a message, `encode`
an event (which makes `message`, or has to be refused), `relay` from one binding to another, or
`attributes`, which are written in every binding without the code under test. `expect` is the
verdict, and so is each under `or` where the text leaves it open; under `profiles` a vector may
list, by profile, other verdicts of which any one will do.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote

from bindings.binding import Message
from conformance.check import Check, CheckFailed, Profile, Role
from conformance.codec import Codec
from conformance.forms import Refused, WireEvent, event_to_json, message_to_json
from conformance.reference.carrier import Carrier
from conformance.reference.compare import difference
from conformance.requirements import level_of, profiles_of

FILES: Final = ("core", "json", "cbor", "http", "mqtt", "nats", "kafka", "can")
_BINDINGS: Final = ("json", "http", "mqtt", "nats", "kafka")
Vector = Mapping[str, Any]
Expectation = Mapping[str, Any]


def checks() -> Iterator[Check]:
    """Return a check for each vector and verdict."""
    for name in FILES:
        for binding, vector in vectors(name):
            yield from checks_of(vector, binding)


def checks_of(vector: Vector, binding: str) -> Iterator[Check]:
    """Return the checks of one vector."""
    if "attributes" in vector:
        yield from _attribute_checks(vector)
    elif "encode" in vector:
        expect = vector.get("message") or vector["expect"]
        yield from _checks(vector, binding, "producer", _encode, expect)
    else:
        yield from _decode_checks(vector, binding)


@cache
def vectors(name: str) -> Sequence[tuple[str, Vector]]:
    """Return the vectors of a file, each with the binding it is for."""
    file = files("conformance").joinpath("vectors", f"{name}.json")
    if not file.is_file():
        return ()
    content = json.loads(file.read_text("utf-8"))
    return [(vector.get("binding", content["binding"]), vector) for vector in content["vectors"]]


def _decode_checks(vector: Vector, binding: str) -> Iterator[Check]:
    yield from _checks(vector, binding, "consumer", _decode, vector["expect"])
    if "relay" in vector:
        relay = {**vector, "id": f"{vector['id']}-relayed"}
        yield from _checks(relay, binding, "intermediary", _relay, vector["relay"])


def _attribute_checks(vector: Vector) -> Iterator[Check]:
    for binding, message in as_messages(vector["attributes"]):
        if binding in vector.get("only", _BINDINGS):
            expect = vector["expect"]
            if "error" not in expect:
                expect = {"event": {"attributes": vector["attributes"]}}
            one = {**vector, "id": f"{binding}-{vector['id']}", "wire": message}
            yield from _checks(one, binding, "consumer", _decode, expect)


def _checks(
    vector: Vector,
    binding: str,
    role: Role,
    judge: Callable[[Vector, str, Sequence[Expectation], Codec], None],
    expect: Expectation,
) -> Iterator[Check]:
    """Make a check for each group of profiles with one verdict."""
    ids = tuple(vector["requirements"])
    for profiles, any_of in verdict_groups(vector, expect):
        verdict = " or ".join(map(_verdict, any_of))
        yield Check(
            id=vector["id"],
            title=vector["note"],
            binding=binding,
            family="vectors",
            requirements=ids,
            level=level_of(ids, role=role, verdict=verdict),
            role=role,
            profiles=profiles,
            verdict=verdict,
            run=partial(judge, vector, binding, any_of),
        )


def verdict_groups(
    vector: Vector, expect: Expectation
) -> Iterator[tuple[frozenset[Profile], Sequence[Expectation]]]:
    """Yield each group of profiles with what is expected there, of which anything will do.

    Args:
        vector: what stands under `or` is as good as `expect`; `profiles` has other verdicts.
        expect: the usual verdict.
    """
    others: Mapping[Profile, Sequence[Expectation]] = vector.get("profiles", {})
    usual = profiles_of(vector["requirements"]) - others.keys()
    if usual:
        yield usual, [expect, *vector.get("or", ())]
    for name, any_of in others.items():
        yield frozenset({name}), any_of


def _verdict(expect: Expectation) -> str:
    return f"refused: {expect['error']}" if "error" in expect else "taken"


def _decode(vector: Vector, binding: str, any_of: Sequence[Expectation], codec: Codec) -> None:
    message = vector["wire"] if "wire" in vector else message_of(vector["decode"])
    got: Sequence[WireEvent] | Refused
    try:
        got = list(codec.decode(binding, message))
    except Refused as refusal:
        got = refusal
    if any(_fits(expect, got) for expect in any_of):
        return
    raise CheckFailed(
        vector["note"],
        expected=" or ".join(map(_expectation_text, any_of)),
        got=_outcome_text(got),
        reproduce=question("decode", binding, message=message_to_json(message)),
    )


def _fits(expect: Expectation, got: Sequence[WireEvent] | Refused) -> bool:
    if isinstance(got, Refused):
        kinds = {expect.get("error"), "not_valid", ""}
        return "error" in expect and (got.kind in kinds or expect["error"] == "not_valid")
    return "error" not in expect and got == _events_of(expect)


def _encode(vector: Vector, binding: str, any_of: Sequence[Expectation], codec: Codec) -> None:
    case = vector["encode"]
    event = event_of(case["event"])
    asked = question("encode", binding, mode=case["mode"], event=event_to_json(event))
    if "error" in any_of[0]:
        _refuse(codec, binding, event, case["mode"], asked)
        return
    sent = encoded(codec, binding, event, case["mode"], asked)
    exact = keeps_layout(codec)
    if not any(same_message(sent, message_of(expect), binding, exact=exact) for expect in any_of):
        raise CheckFailed(
            vector["note"],
            expected=message_text(message_of(any_of[0])),
            got=message_text(sent),
            reproduce=asked,
        )


def _refuse(codec: Codec, binding: str, event: WireEvent, mode: Any, asked: str) -> None:
    try:
        sent = codec.encode(binding, event, mode)
    except Refused:
        return
    raise CheckFailed(
        "took an event that it has no message for", got=message_text(sent), reproduce=asked
    )


def _relay(vector: Vector, binding: str, any_of: Sequence[Expectation], codec: Codec) -> None:
    message, target, mode = message_of(vector["decode"]), any_of[0]["binding"], any_of[0]["mode"]
    asked = question("relay", binding, message=message_to_json(message), to=target, mode=mode)
    try:
        (sent,) = codec.relay(binding, message, target, mode)
    except Refused as refusal:
        raise CheckFailed("refused what is right", got=str(refusal), reproduce=asked) from refusal
    wanted = [message_of(expect["message"]) for expect in any_of]
    exact = keeps_layout(codec)
    if not any(same_message(sent, message, target, exact=exact) for message in wanted):
        raise CheckFailed(
            vector["note"],
            expected=message_text(wanted[0]),
            got=message_text(sent),
            reproduce=asked,
        )


def keeps_layout(codec: Codec) -> bool:
    """Whether JSON has to stay the same bytes; a codec that holds values may write it anew."""
    return not getattr(codec, "rewrites_json", False)


def encoded(codec: Codec, binding: str, event: WireEvent, mode: Any, asked: str) -> Message:
    """Encode an event that has to be taken.

    Raises:
        CheckFailed: the codec refused it.
    """
    try:
        return codec.encode(binding, event, mode)
    except Refused as refusal:
        raise CheckFailed(
            "refused an event that is right", got=str(refusal), reproduce=asked
        ) from refusal


def same_message(sent: Message, expected: Message, binding: str, *, exact: bool = True) -> bool:
    """Whether two messages are the same but for the order of their headers.

    Only Kafka tells a payload that is absent from one that is empty.

    Args:
        sent: what was written.
        expected: what should be.
        binding: the binding of both.
        exact: whether it has to be the same bytes, and not only say the same by the document.
    """
    payload, wanted = sent.payload, expected.payload
    if binding != "kafka":
        payload, wanted = payload or b"", wanted or b""
    is_same = (
        payload == wanted
        and sent.content_type == expected.content_type
        and sorted(sent.headers) == sorted(expected.headers)
    )
    return is_same or (not exact and _says_the_same(sent, expected, binding))


def _says_the_same(sent: Message, expected: Message, binding: str) -> bool:
    carrier = Carrier(binding, "structured" if binding == "json" else "binary")
    try:
        return not difference(carrier.read(expected), carrier.read(sent), exact=False)
    except ValueError:
        return False


def question(do: str, binding: str, **fields: Any) -> str:
    """Return the line that asks an adapter the same."""
    return json.dumps({"do": do, "binding": binding, **fields})


def _events_of(expect: Expectation) -> list[WireEvent]:
    items = expect["events"] if "events" in expect else [expect["event"]]
    return [event_of(item) for item in items]


def _outcome_text(got: Sequence[WireEvent] | Refused) -> str:
    if isinstance(got, Refused):
        return f"refused ({got.kind or 'no kind given'}): {got}"
    return " ".join(json.dumps(event_to_json(event), default=repr) for event in got) or "no event"


def _expectation_text(expect: Expectation) -> str:
    if "error" in expect:
        return "to be refused" + ("" if expect["error"] == "not_valid" else f": {expect['error']}")
    return " ".join(json.dumps(event_to_json(event)) for event in _events_of(expect))


def message_text(message: Message) -> str:
    """Return a message for people."""
    return json.dumps(message_to_json(message))


def bytes_of(item: Mapping[str, Any], key: str) -> bytes | None:
    """Return the bytes that a vector writes as text or, under `{key}_hex`, in hex."""
    if f"{key}_hex" in item:
        return bytes.fromhex(item[f"{key}_hex"])
    text = item.get(key)
    return None if text is None else str(text).encode("utf-8", "surrogatepass")


def message_of(item: Mapping[str, Any]) -> Message:
    """Return the message that a vector describes."""
    headers = [(name, value) for name, value in item.get("headers", ())]
    return Message(bytes_of(item, "payload"), item.get("content_type", ""), headers)


def event_of(item: Mapping[str, Any]) -> WireEvent:
    """Return the event that a vector describes."""
    attributes = {
        name: bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
        for name, value in item["attributes"].items()
    }
    return WireEvent(attributes, bytes_of(item, "data"))


def as_messages(attributes: Mapping[str, Any]) -> Iterable[tuple[str, Message]]:
    """Write attributes in every binding that can, without the code under test."""
    yield "json", Message(json.dumps(attributes).encode())
    if not all(isinstance(value, str) for value in attributes.values()):
        return
    escaped = {
        name: quote(value, safe="!#$&'()*+,/:;=?@[]\\^`{|}~") for name, value in attributes.items()
    }
    yield "nats", Message(b"", "", [(f"ce-{name}", value) for name, value in escaped.items()])
    content_type = attributes.get("datacontenttype", "")
    rest = {name: value for name, value in attributes.items() if name != "datacontenttype"}
    yield "http", Message(b"", content_type, [(f"ce-{name}", escaped[name]) for name in rest])
    yield "mqtt", Message(b"", content_type, list(rest.items()))
    yield "kafka", Message(None, content_type, [(f"ce_{name}", rest[name]) for name in rest])
