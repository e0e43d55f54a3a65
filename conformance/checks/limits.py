"""Sizes: 64 KiB arrive, in data or in attributes; what is above the limit is refused."""

from collections.abc import Iterator
from functools import partial
from typing import Final

from conformance.check import Check, CheckFailed
from conformance.checks.live import Case, Scene, live_check, scene
from conformance.forms import WireEvent
from conformance.peers.dialogue import WAYS, Answer
from conformance.target import Target

FAMILY: Final = "limits"

SIZE: Final = 65_536
_LIMIT: Final = 4096
"""Of the gateway that is started to be small."""
_CODES: Final = {"http": (413,), "mqtt": (0x95, 0x97), "mqtt-qos2": (0x95, 0x97)}


def checks() -> Iterator[Check]:
    """Return the checks of each way to talk."""
    for way in WAYS:
        for name, title, ids, run in (
            (
                "64-kib",
                "An event with 65,536 bytes of data arrives whole.",
                ("GW-LIM-001", "CORE-SIZE-003", "CORE-SIZE-004"),
                _send_large,
            ),
            (
                "64-kib-base64",
                "65,536 bytes that are no text arrive whole.",
                ("GW-LIM-001", "CORE-SIZE-002", "CORE-SIZE-003"),
                _send_bytes,
            ),
            (
                "many-attributes",
                "60,000 bytes of attributes, 60 of them, arrive whole.",
                ("GW-LIM-001", "CORE-SIZE-001", "CORE-SIZE-003", "CORE-SIZE-004"),
                _send_attributes,
            ),
            ("at-limit", "An event at the limit arrives.", ("GW-LIM-002",), _send_at_limit),
            (
                "above-limit",
                "A byte more than the limit is refused, and the next event arrives.",
                ("GW-LIM-002", "GW-MSG-001"),
                _send_above_limit,
            ),
        ):
            if way == "mqtt311" and name == "64-kib-base64":
                continue  # its envelope is above 64 KiB
            yield live_check(FAMILY, Case(way, name, title, ids, partial(run, way)))


async def _send(at: Scene, event: WireEvent) -> None:
    at.send(at.message(event))
    await at.expect("yes")
    await at.expect_events(event)


async def _send_large(way: str, target: Target) -> None:
    async with scene(way, target) as at:
        await _send(at, at.event(_text(SIZE - _envelope(at))))


async def _send_bytes(way: str, target: Target) -> None:
    async with scene(way, target) as at:
        data = bytes(n * 7 % 256 for n in range(SIZE))
        await _send(at, at.event(data, datacontenttype="application/octet-stream"))


async def _send_attributes(way: str, target: Target) -> None:
    async with scene(way, target) as at:
        more = {f"ext{number:02}": "v" * 1000 for number in range(60)}
        await _send(at, at.event(None, **more))


async def _send_at_limit(way: str, target: Target) -> None:
    async with scene(way, target, limits={"max_event_bytes": _LIMIT}) as at:
        await _send(at, at.event(_text(_LIMIT - _envelope(at))))


async def _send_above_limit(way: str, target: Target) -> None:
    async with scene(way, target, limits={"max_event_bytes": _LIMIT}) as at:
        at.send(at.message(at.event(_text(_LIMIT - _envelope(at) + 1))))
        try:
            answer: Answer | None = await at.answer()
        except CheckFailed:
            answer = None  # closed
        if way != "mqtt311" and answer is not None:
            codes = _CODES.get(way, ())
            if answer.word != "no" or (codes and answer.code not in codes):
                words = " or ".join(hex(code) if code < 256 else str(code) for code in codes)
                raise at.failed("too large an event", words or "a refusal", answer.text)
        async with at.other() as other:
            marker = other.event()
            other.send(other.message(marker))
            await other.expect("yes")
        await at.expect_events(marker)


def _text(size: int) -> bytes:
    return b"0123456789abcdef" * (size // 16) + b"x" * (size % 16)


def _envelope(at: Scene) -> int:
    """Return the bytes that the payload has besides the data."""
    return len(at.message(at.event(b"")).payload or b"")
