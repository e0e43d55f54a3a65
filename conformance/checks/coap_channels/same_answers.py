"""The datagram cases on other channels: the same bytes come back, and the same events out.

Over DTLS each case runs as it is. Over TCP and WebSockets, which have no message layer, each
confirmable request is sent without it (binding section 11); options and payload of the answer are
those of the acknowledgement over UDP.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, Protocol, Self

from conformance.check import Check, CheckFailed
from conformance.checks.coap import (
    ANONYMOUS_SOURCE,
    Case,
    cases,
    check_events,
    converse,
    differences,
    given,
    sink_of,
    verdict_of,
)
from conformance.checks.coap_live import url_of
from conformance.peers.coap import Device, Reply
from conformance.peers.coap_dtls import DtlsDevice
from conformance.peers.coap_stream import StreamDevice
from conformance.peers.coap_websocket import WebSocketDevice
from conformance.requirements import strongest
from conformance.target import Target

OWN_SOURCE: Final = "/devices/dev1"

IDENTITY: Final[Mapping[str, str]] = {
    "SEC-01": "a route that needs authentication is open to it",
    "SEC-60": "a route that needs authentication is open to it",
    "ORD-65": "a route that needs authentication is open to it",
    "SEC-102": "its own source is another",
    "SEC-103": "its own source is another",
    "SEC-106": "its own source is another",
}
"""Cases with another answer for a device that has shown who it is; see `dtls`."""

ADDRESS: Final[Mapping[str, str]] = {
    "BAT-62": "the diagnostic is too long for an address that is not verified",
    "SEC-104": "the listing is too long for an address that is not verified",
    "SEC-105": "the diagnostic is too long for an address that is not verified",
    "BLK-103": "the block size is the one of BERT; see `connections`",
    "BLK-111": "the block size is the one of BERT; see `connections`",
}
"""Cases with another answer on a connection."""

_MAX_AGE: Final = 14


class Speaker(Protocol):
    """A device on a connection."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *error: object) -> None: ...
    async def greet(self, options: bytes = b"") -> Reply: ...
    async def ask(self, code: int, token: bytes = b"", rest: bytes = b"") -> Reply: ...


_STREAMS: Final = {
    "coap+tcp": ("tcp", StreamDevice, "COAP-TCP-001"),
    "coap+ws": ("ws", WebSocketDevice, "COAP-WS-003"),
}


def checks() -> Iterator[Check]:
    """Return a check for each case and channel, and one for those that take their time."""
    datagrams = [case for case in cases() if "steps" in case]
    for case in datagrams:
        if case["id"] not in IDENTITY and not is_slow(case):
            yield _check(case, "dtls", partial(_over_dtls, case))
    slow = [case for case in datagrams if is_slow(case)]
    ids = tuple(dict.fromkeys(one for case in slow for one in case["requirements"]))
    yield Check(
        id="coap-dtls-slow-sinks",
        title="Over DTLS a sink that takes its time is waited for as over UDP",
        binding="coap",
        family="same answers",
        requirements=ids,
        level=strongest(ids),
        role="consumer",
        verdict="the same",
        needs="target",
        run=partial(_slow_over_dtls, slow),
    )
    for scheme, (name, device, rule) in _STREAMS.items():
        for case in datagrams:
            if case["id"] not in ADDRESS and is_for_connections(case):
                yield _check(case, name, partial(_over_stream, case, scheme, device), rule)


def _check(case: Case, channel: str, run: Callable[[Target], Awaitable[None]], *more: str) -> Check:
    ids = (*case["requirements"], *more)
    return Check(
        id=f"coap-{channel}-{case['id'].lower()}",
        title=f"{case['requirement']}: over {channel.upper()} as over UDP",
        binding="coap",
        family="same answers",
        requirements=ids,
        level=strongest(ids),
        role="consumer",
        verdict=verdict_of(case),
        needs="target",
        run=run,
    )


def is_slow(case: Case) -> bool:
    """Whether a case waits for its sink."""
    return sink_of(case) in {"slow", "hang"}


def is_for_connections(case: Case) -> bool:
    """Whether a case has nothing but confirmable requests that are new and answered at once."""
    sent = [step.get("send") for step in case["steps"]]
    return (
        not is_slow(case) and len(set(sent)) == len(sent) and all(map(_is_request, case["steps"]))
    )


def _is_request(step: Case) -> bool:
    datagram = bytes.fromhex(step.get("send", ""))
    expected = step.get("expect", "none")
    return (
        len(datagram) > 4
        and datagram[0] & 0xF0 == 0x40
        and 0 < datagram[1] < 0x20
        and isinstance(expected, dict)
        and expected.get("type", "ACK") == "ACK"
        and expected.get("code", "0.00") != "0.00"
    )


# --- DTLS -----------------------------------------------------------------------------------------


async def _over_dtls(case: Case, target: Target, *, anew: bool = False) -> None:
    url_of(target, "coaps")
    in_plain, protected = await _both(case, target, anew=anew)
    for position, (one, other) in enumerate(zip(in_plain, protected, strict=True)):
        if _comparable(one) != _comparable(other):
            raise CheckFailed(
                f"answer {position} differs from the one over UDP",
                expected=one.raw.hex(),
                got=other.raw.hex(),
                reproduce=" ".join(step["send"] for step in case["steps"] if "send" in step),
            )


async def _both(case: Case, target: Target, *, anew: bool) -> tuple[list[Reply], list[Reply]]:
    """Return the answers over UDP and DTLS; those of DTLS twice if there is no UDP."""
    channels = ("coap", "coaps") if "coap" in target.urls else ("coaps", "coaps")
    if anew:
        one, other = await asyncio.gather(
            *(_replies(case, target, scheme, anew=True) for scheme in channels)
        )
        return one, other
    one = await _replies(case, target, channels[0])
    return one, await _replies(case, target, channels[1])


async def _replies(case: Case, target: Target, scheme: str, *, anew: bool = False) -> list[Reply]:
    async with given(case, target, anew=anew) as one:
        url = url_of(one, scheme)
        async with Device(url) if scheme == "coap" else DtlsDevice(url) as device:
            if isinstance(device, DtlsDevice):
                await device.connect()
            replies = await converse(case, device)
        # Over UDP too: what is still under way would be taken for the other channel's.
        await check_events(case, one, OWN_SOURCE if scheme == "coaps" else ANONYMOUS_SOURCE)
        return replies


def _comparable(reply: Reply) -> tuple[object, ...]:
    """Return what has to be the same: all but how an answer is sent, message ids and Max-Age.

    With the ACK or apart from it, and under which id, is judged by each case; Max-Age is given at
    random around a value, so that devices do not come back at once.
    """
    version_and_token_length = reply.raw[0] & 0xCF
    kind = "answer" if reply.type in {"ACK", "CON"} else reply.type
    return version_and_token_length, kind, reply.code, reply.token, _body(reply)


def _body(reply: Reply) -> object:
    if _MAX_AGE in reply.options:
        return reply.options | {_MAX_AGE: b""}, reply.payload
    return reply.body


async def _slow_over_dtls(slow: Sequence[Case], target: Target) -> None:
    failures = await asyncio.gather(
        *(_over_dtls(case, target, anew=True) for case in slow), return_exceptions=True
    )
    for case, failure in zip(slow, failures, strict=True):
        if isinstance(failure, CheckFailed):
            failure.args = (f"{case['id']}: {failure}",)
        if failure is not None:
            raise failure


# --- TCP and WebSockets ---------------------------------------------------------------------------


async def _over_stream(
    case: Case, scheme: str, device: Callable[[str], Speaker], target: Target
) -> None:
    url_of(target, scheme)
    datagrams = await _replies(case, target, "coap") if "coap" in target.urls else ()
    async with given(case, target) as one, device(url_of(one, scheme)) as line:
        await line.greet()
        for position, step in enumerate(case["steps"]):
            request = bytes.fromhex(step["send"])
            body = 4 + (request[0] & 15)
            reply = await line.ask(request[1], request[4:body], request[body:])
            wrong = [*differences(reply, _without_message_layer(step["expect"]), request)]
            if datagrams and _body(reply) != _body(datagrams[position]):
                wrong.append(f"over UDP it was {datagrams[position].body.hex()}")
            if wrong:
                raise CheckFailed("; ".join(wrong), got=reply.raw.hex(), reproduce=step["send"])
        await check_events(case, one)


def _without_message_layer(expected: Case) -> Case:
    about_datagrams = {"type", "mid", "max_ratio"}
    return {name: value for name, value in expected.items() if name not in about_datagrams}
