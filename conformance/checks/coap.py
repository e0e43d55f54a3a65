"""The cases of the CoAP binding on the wire: datagrams in, datagrams and events out.

The cases are data (conformance/vectors/coap.json, which explains its own form). Each runs from a
port of its own. Those that need a secured channel or a connection are in `coap_channels`.
"""

import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from importlib.resources import files
from typing import Any, Final

from bindings.event import is_json_type
from conformance.check import Check, CheckFailed
from conformance.forms import WireEvent
from conformance.peers.coap import Device, Reply
from conformance.requirements import strongest
from conformance.target import SinkAnswer, Target

Case = Mapping[str, Any]

SINKS: Final[Mapping[str, SinkAnswer]] = {
    "ok": "accept",
    "slow": "slow",
    "down": "down",
    "reject": "reject",
    "busy": "busy",
    "hang": "hang",
}
ANONYMOUS_SOURCE: Final = "coap://127.0.0.1"
"""The default source of whoever sends from here without credentials."""

_IN_MILLISECONDS: Final = re.compile(r"[^.]+\.[0-9]{3}Z").fullmatch
"""A time in UTC with three digits behind the seconds."""
_EMPTY: Final = {"ack": b"\x60\x00", "reset": b"\x70\x00"}


def checks() -> Iterator[Check]:
    """Return a check for each case that datagrams can tell."""
    for case in cases():
        if "steps" in case:
            yield Check(
                id=f"coap-{case['id'].lower()}",
                title=case["requirement"],
                binding="coap",
                family="datagrams",
                requirements=tuple(case["requirements"]),
                level=strongest(case["requirements"]),
                role="consumer",
                verdict=verdict_of(case),
                needs="target",
                run=partial(_run, case),
            )


@cache
def cases() -> Sequence[Case]:
    """Return every case of the binding."""
    text = files("conformance").joinpath("vectors", "coap.json").read_text("utf-8")
    found: list[Case] = json.loads(text)["cases"]
    return found


def verdict_of(case: Case) -> str:
    """Return what the last answer of a case should be, in a few words."""
    expected = case["steps"][-1].get("expect") or case["steps"][-1].get("receive")
    if expected == "none":
        return "no answer"
    code = expected.get("code", "")
    return code if isinstance(code, str) else " or ".join(code)


async def _run(case: Case, target: Target) -> None:
    async with given(case, target) as one, Device(one.url) as device:
        await converse(case, device)
        await check_events(case, one)


@asynccontextmanager
async def given(case: Case, target: Target, *, anew: bool = False) -> AsyncIterator[Target]:
    """Set the gateway up as a case demands, while the context lasts.

    Args:
        case: tells how its sink answers, and what else is different.
        target: the usual one.
        anew: start another one in any case.
    """
    async with AsyncExitStack() as stack:
        settings = settings_of(case)
        if settings or anew:
            target = await stack.enter_async_context(target.variant(**settings))
        target.forget()
        target.sink_answers(SINKS[sink_of(case)])
        stack.callback(target.sink_answers, "accept")
        yield target


def sink_of(case: Case) -> str:
    """Return how the sink of a case answers."""
    return str(case.get("given", {}).get("sink", "ok"))


async def converse(case: Case, device: Device) -> list[Reply]:
    """Let a device take the steps of a case; return the answers.

    Raises:
        CheckFailed: one is wrong.
    """
    conversation = _Conversation(device)
    await conversation.run(case["steps"])
    await device.expect_silence()
    return [reply for reply in conversation.replies if reply is not None]


def settings_of(case: Case) -> dict[str, Any]:
    """Return how the gateway of a case differs from the others'."""
    of_case = case.get("given", {})
    settings: dict[str, Any] = {}
    if "max_event_size" in of_case:
        settings["limits"] = {"max_event_bytes": of_case["max_event_size"]}
    if "inflight" in of_case:
        settings["inflight_per_endpoint"] = of_case["inflight"]
    elif of_case.get("sink") == "hang":
        settings["sink_timeout"] = 1
    return settings


class _Conversation:
    """The steps of a case, and the answers so far."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.replies: list[Reply | None] = []
        self._sent: list[bytes] = []

    async def run(self, steps: Sequence[Case]) -> None:
        for step in steps:
            if "send_blockwise" in step:
                await self._send_blocks(step["expect"])
            elif "send" in step:
                await self._send(step)
            else:
                await self._receive(step)

    async def _send(self, step: Case) -> None:
        request = bytes.fromhex(step["send"])
        self._sent.append(request)
        self._device.send(request)
        if step["expect"] == "none":
            await self._device.expect_silence()
            self.replies.append(None)
            return
        reply = await self._device.receive(step.get("within_s", 5))
        expected = step["expect"]
        if "type" not in expected:  # an ACK with the answer, or an empty one and a CON (5.2.2)
            if reply.raw == _EMPTY["ack"] + request[2:4]:
                reply = await self._device.receive()
                expected = {**expected, "type": "CON"}
                if reply.type == "CON":
                    self._device.send(_EMPTY["ack"] + reply.mid)
            else:
                expected = {**expected, "type": "ACK", "mid": "same"}
        self._judge(reply, expected, step)

    async def _receive(self, step: Case) -> None:
        reply = await self._device.receive(step["within_s"])
        self._judge(reply, step["receive"], step)
        if "reply" in step:
            self._device.send(_EMPTY[step["reply"]] + reply.mid)

    def _judge(self, reply: Reply, expected: Case, step: Case) -> None:
        wrong = "; ".join(differences(reply, expected, self._sent[-1]))
        position = step.get("identical_to", expected.get("identical_to"))
        if not wrong and position is not None and reply != self.replies[position]:
            wrong = f"the bytes differ from the answer to step {position}"
        self.replies.append(reply)
        if wrong:
            raise CheckFailed(
                wrong,
                expected=json.dumps(expected),
                got=reply.raw.hex(),
                reproduce=" ".join(request.hex() for request in self._sent),
            )

    async def _send_blocks(self, expected: Case) -> None:
        payload = bytes(7 * n % 256 for n in range(65536))
        for number in range(64):
            request = _block(number, payload)
            self._sent = [request]
            self._device.send(request)
            reply = await self._device.receive()
            wanted = {"code": "2.31"} if number < 63 else expected
            self._judge(reply, wanted, {})


def _block(number: int, payload: bytes) -> bytes:
    """Write one block by hand: CON POST /ce, CF 42, Block1 of 1024 bytes, three queries."""
    chunk = payload[number * 1024 : number * 1024 + 1024]
    more = (number + 1) * 1024 < len(payload)
    value = number << 4 | more << 3 | 6
    encoded = value.to_bytes((value.bit_length() + 7) // 8, "big")
    head = bytes.fromhex("4102") + (0x2000 + number).to_bytes(2, "big") + b"\xab"
    options = b"\xb2ce\x11\x2a\x35t=t.x\x03i=1\x04s=/s"
    return head + options + bytes((0xC0 | len(encoded),)) + encoded + b"\xff" + chunk


def differences(reply: Reply, expected: Case, request: bytes) -> Iterator[str]:
    """Yield what is wrong about a reply, for people.

    Args:
        reply: what came.
        expected: the fields that a case names.
        request: what was sent last.
    """
    for name in ("type", "code"):
        allowed = expected.get(name, [])
        allowed = [allowed] if isinstance(allowed, str) else allowed
        if allowed and getattr(reply, name) not in allowed:
            yield f"{name} is {getattr(reply, name)}, not {' or '.join(allowed)}"
    if expected.get("mid") == "same" and reply.mid != request[2:4]:
        yield "the message id is another"
    wanted = {"same": request[4 : 4 + (request[0] & 15)], "empty": b""}
    token = wanted.get(expected.get("token", ""), reply.token)
    if reply.token != token:
        yield f"the token is {reply.token.hex() or 'empty'}, not {token.hex() or 'empty'}"
    for number, demands in expected.get("options", {}).items():
        yield from _option_differences(int(number), reply.options.get(int(number)), demands)
    yield from _payload_differences(reply.payload, expected.get("payload", {}))
    if len(reply.raw) > expected.get("max_ratio", len(reply.raw)) * len(request):
        yield f"{len(reply.raw)} bytes answer {len(request)}"


def _option_differences(number: int, value: bytes | None, wanted: Case) -> Iterator[str]:
    if value is None:
        yield f"option {number} is missing"
        return
    uint = int.from_bytes(value, "big")
    if uint != wanted.get("uint", uint):
        yield f"option {number} is {uint}, not {wanted['uint']}"
    low, high = wanted.get("uint_range", (uint, uint))
    if not low <= uint <= high:
        yield f"option {number} is {uint}, not {low} to {high}"
    if value.hex() != wanted.get("hex", value.hex()):
        yield f"option {number} is {value.hex()}, not {wanted['hex']}"


def _payload_differences(payload: bytes, wanted: Case) -> Iterator[str]:
    if wanted.get("contains", "").encode() not in payload:
        yield f"the payload does not hold {wanted['contains']!r}"
    if not payload.startswith(bytes.fromhex(wanted.get("hex_prefix", ""))):
        yield f"the payload does not start with {wanted['hex_prefix']}"
    if len(payload) > wanted.get("max_bytes", len(payload)):
        yield f"the payload has {len(payload)} bytes"
    if "excludes" in wanted and wanted["excludes"].encode() in payload:
        yield f"the payload holds {wanted['excludes']!r}"


async def check_events(case: Case, target: Target, default_source: str = ANONYMOUS_SOURCE) -> None:
    """Compare the events that came out with those of a case; wait for them at least.

    Where its sink takes none, wait until it was asked, so that its event is not the next case's.

    Args:
        case: its sink and its events.
        target: where they came out.
        default_source: of the device.

    Raises:
        CheckFailed: they differ.
    """
    if sink_of(case) not in {"ok", "slow"}:
        await target.asked()
        return
    expected = [
        members | {"source": default_source} if members["source"] == ANONYMOUS_SOURCE else members
        for members in case["events"]
    ]
    least = case.get("events_min", len(expected))
    events = await target.events(least)
    sent = " ".join(step["send"] for step in case["steps"] if "send" in step)
    if len(events) > case.get("events_max", len(expected)):
        raise CheckFailed(
            "too many events came out",
            expected=str(len(expected)),
            got=str(len(events)),
            reproduce=sent,
        )
    wrong = [
        text
        for event, members in zip(events, expected, strict=False)
        for text in _event_differences(event, members)
    ]
    wrong += _repetitions(events, expected)
    if wrong:
        raise CheckFailed(
            "; ".join(wrong),
            expected=json.dumps(expected),
            got=json.dumps([members_of(event) for event in events], default=repr),
            reproduce=sent,
        )


def members_of(event: WireEvent) -> dict[str, Any]:
    """Return the members of the JSON format, from what an implementation said."""
    members = dict(event.attributes)
    if event.data is not None:
        content_type = str(members.get("datacontenttype") or "")
        try:
            if is_json_type(content_type):
                return members | {"data": json.loads(event.data)}
            if content_type.startswith("text/"):
                return members | {"data": event.data.decode()}
        except ValueError:  # it is not what it says
            pass
        members["data_base64"] = base64.b64encode(event.data).decode()
    return members


def _event_differences(event: WireEvent, expected: Case) -> Iterator[str]:
    got = members_of(event)
    for name in expected.keys() - got.keys():
        yield f"{name} is missing"
    for name in got.keys() - expected.keys():
        yield f"{name} was made up: {got[name]!r}"
    for name in expected.keys() & got.keys():
        value, wanted = got[name], expected[name]
        if isinstance(wanted, dict) and "match" in wanted:
            fits = _matches(value, wanted)
        else:
            fits = type(value) is type(wanted) and value == wanted
        if not fits:
            yield f"{name} is {value!r}, not {wanted!r}"


def _matches(value: Any, wanted: Case) -> bool:
    match wanted["match"]:
        case "rfc3339-now":
            due = datetime.now(UTC) + timedelta(seconds=wanted.get("offset_s", 0))
            is_near = abs(due - datetime.fromisoformat(value)) < timedelta(seconds=20)
            return is_near and ("milliseconds" not in wanted or bool(_IN_MILLISECONDS(value)))
        case "sha256-of-bytes":
            digest = hashlib.sha256(base64.b64decode(value)).hexdigest()
            return bool(digest == wanted["value"])
        case "suffix":
            return len(value) > len(wanted["value"]) and str(value).endswith(wanted["value"])
        case "nonempty" | "unique":
            return bool(len(value) >= wanted.get("min_length", 1))
        case _:
            return True


def _repetitions(events: Sequence[WireEvent], expected: Sequence[Case]) -> Iterator[str]:
    for name in {name for members in expected for name in members}:
        values = [
            event.attributes.get(name)
            for event, members in zip(events, expected, strict=False)
            if members.get(name) == {"match": "unique"}
        ]
        if len(set(values)) != len(values):
            yield f"{name} is not unique: {values}"
