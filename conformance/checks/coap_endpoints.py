"""What is known by its endpoint: repetitions, generated ids, payloads in blocks (3.4.2, 4.1, 5.2).

Two devices send the same bytes, or one device sends them to two gateways.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from conformance.check import Check
from conformance.checks.coap_live import check, expect, expect_code, expect_events
from conformance.peers.coap import Device
from conformance.target import Target

# CON POST /t with Content-Format 50 and 1, without an id.
_WITHOUT_ID: Final = bytes.fromhex("41025320abb1741132ff31")
_WINDOWS: Final = 2
"""How often two copies are sent: generated ids change every 256 s, and once in between at most."""


def checks() -> Iterator[Check]:
    """Return the checks of endpoints."""
    rows = (
        ("same-bytes", "The same bytes from two endpoints are two requests, with two ids",
         "DUP-001 ID-004", _same_bytes),
        ("two-gateways", "Another gateway, or one that was started anew, gives a copy the same id",
         "ID-003", _two_gateways),
        ("blocks", "The same blocks from two endpoints are parts of two payloads", "BLK-011",
         _blocks),
    )  # fmt: skip
    for name, title, rules, run in rows:
        yield check(f"endpoints-{name}", title, rules, "2.04", run, family="endpoints")


@asynccontextmanager
async def _two_devices(target: Target) -> AsyncIterator[tuple[Device, Device]]:
    target.forget()
    async with Device(target.url) as one, Device(target.url) as other:
        yield one, other


async def _ask(device: Device, request: bytes, code: str = "2.04") -> None:
    device.send(request)
    expect_code(await device.receive(), code, request)


async def _same_bytes(target: Target) -> None:
    async with _two_devices(target) as devices:
        for device in devices:
            await _ask(device, _WITHOUT_ID)
    first, second = await expect_events(target, {"data": b"1"}, {"data": b"1"})
    ids = first.attributes["id"], second.attributes["id"]
    expect(len({*ids}) == len(ids), "the events have the same id", got=ids)


async def _two_gateways(target: Target) -> None:
    ids: list[object] = []
    async with AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(target.variant()) for _ in range(2)]
        device = await stack.enter_async_context(Device(gateways[0].url))
        for copy in range(_WINDOWS):
            request = _WITHOUT_ID + bytes((0x30 + copy,))
            ids.clear()
            for gateway in gateways:
                gateway.forget()
                device.turn_to(gateway.url)
                await _ask(device, request)
                (event,) = await expect_events(gateway, {"data": request[-2:]})
                ids.append(event.attributes["id"])
            if ids[0] == ids[1]:
                return
    expect(ids[0] == ids[1], "the ids differ", got=ids)


def _block(number: int, payload: bytes) -> bytes:
    """Write a CON POST /t with Content-Format 42 and Block1 of 16 bytes; number 1 is the last."""
    value = bytes((number << 4 | (number == 0) << 3,))
    return bytes((0x41, 2, 0x53, 0x30 + number, 0xAB)) + b"\xb1t\x11\x2a\xd1\x02" + value + (
        b"\xff" + payload
    )  # fmt: skip


async def _blocks(target: Target) -> None:
    letters = (b"a", b"b")
    async with _two_devices(target) as devices:
        for device, letter in zip(devices, letters, strict=True):
            await _ask(device, _block(0, letter * 16), "2.31")
        for device, letter in zip(devices, letters, strict=True):
            await _ask(device, _block(1, letter))
    await expect_events(target, *({"data": letter * 17} for letter in letters))
