"""A gateway that shuts down: what is under way is answered, what comes is not taken."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from conformance.check import Check, CheckFailed, Unsupported
from conformance.checks.live import Case, Scene, live_check, scene
from conformance.peers.dialogue import WAYS
from conformance.target import Target

FAMILY: Final = "drain"

_SILENCE_SECONDS: Final = 0.3
"""An answer that comes is there much sooner; nobody is left who could be asked something after."""


def checks() -> Iterator[Check]:
    """Return the checks of each way to talk."""
    for way in WAYS:
        yield live_check(
            FAMILY,
            Case(
                way,
                "drain",
                "A gateway that shuts down answers what its sink has, and acknowledges no more.",
                ("GW-DRN-001", "GW-DRN-002"),
                partial(_run, way),
            ),
        )


async def _run(way: str, target: Target) -> None:
    if target.is_broker:
        raise Unsupported("the broker acknowledges, not the gateway")
    # Some setting makes it a gateway of its own, which may be shut down.
    limits = {"max_event_bytes": 65_536}
    async with scene(way, target, "slow", limits=limits) as at, at.other() as idle:
        event = at.event()
        at.send(at.message(event))
        await at.came(1)
        _, answer = await asyncio.gather(at.target.drain(), at.answer())
        if answer.word != "yes":
            raise at.failed("what the sink has was not acknowledged", "yes", answer.text)
        await _send_more(at)
        await _refuse(idle)
        await at.expect_events(event)


async def _send_more(at: Scene) -> None:
    """Send on the connection that was in use and on a new one; neither may be acknowledged."""
    at.target.sink_answers("accept")
    try:
        at.send(at.message(at.event()))
        answer = await at.answer(_SILENCE_SECONDS)
        if answer.word == "yes":
            raise at.failed("a message was taken while shutting down", "a refusal", answer.text)
    except Unsupported:  # no reply
        return
    except CheckFailed as failed:
        if failed.got:
            raise
    async with AsyncExitStack() as stack:
        try:
            other = await stack.enter_async_context(at.other())
        except CheckFailed:  # it may not connect
            return
        await _refuse(other)


async def _refuse(at: Scene) -> None:
    """Send on a connection that was idle; it may end, or not be answered."""
    try:
        at.send(at.message(at.event()))
        answer = await at.answer(_SILENCE_SECONDS)
    except (CheckFailed, Unsupported):
        return
    if answer.word == "yes":
        raise at.failed("a message was taken while shutting down", "a refusal", answer.text)
