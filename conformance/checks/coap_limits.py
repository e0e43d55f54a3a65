"""What a CoAP gateway bounds, and what its operator may set (binding sections 4.2, 5.2, 5.3, 6.2).

The gateway of each check is one of its own, with small bounds.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

from conformance.check import Check, CheckFailed
from conformance.checks.coap_live import check, expect, expect_code, expect_events, url_of
from conformance.forms import Refused
from conformance.peers.coap import Device, Reply
from conformance.peers.coap_stream import StreamDevice
from conformance.target import Target

_MAX_AGE, _BLOCK2 = 14, 23
_LISTING: Final = b"\xbb.well-known\x04core"
_FLOOD: Final = 400
_FEW_DUPLICATES: Final = {"duplicates_max_bytes": 8192}


def checks() -> Iterator[Check]:
    """Return the checks of limits, settings and discovery."""
    rows = (
        ("duplicates-con", "When nothing more can be remembered a CON is answered 5.03", "LIM-003",
         "5.03", _flood_of_con),
        ("duplicates-non", "When nothing more can be remembered a NON is not taken", "LIM-003",
         "no answer", _flood_of_non),
        ("duplicates-kept", "A flood makes nobody forget a request that was just answered",
         "DUP-008", "2.04", partial(_remembered, 0x40)),
        ("duplicates-non-kept", "Also when it was a NON", "DUP-008", "no answer",
         partial(_remembered, 0x50)),
        ("assemblies", "When payloads in blocks take too much memory the oldest goes", "BLK-014",
         "4.08", _assemblies),
        ("ack-after", "An empty ACK after 2 s is too late to be configured", "ACK-006", "refused",
         partial(_refuse, {"ack_after": 2.0})),
        ("ack-after-19", "An empty ACK after 1.9 s is not", "ACK-006", "2.04",
         partial(_allow, {"ack_after": 1.9})),
        ("sink-timeout", "A sink may not take 93 s", "ACK-008", "refused",
         partial(_refuse, {"sink_timeout": 93.0})),
        ("sink-timeout-92", "A sink may take 92 s", "ACK-008", "2.04",
         partial(_allow, {"sink_timeout": 92.0})),
        ("discovery", "The listing has every route with its type, formats and size",
         "DSC-001 DSC-002 DSC-003 DSC-004", "2.05", _discovery),
        ("discovery-tcp", "It is the same on a connection", "DSC-001 DSC-002 DSC-003 DSC-004",
         "2.05", _discovery_over_tcp),
        ("discovery-chosen", "A query chooses among the links", "DSC-005", "2.05",
         _discovery_with_query),
    )  # fmt: skip
    for name, title, rules, verdict, run in rows:
        yield check(f"limits-{name}", title, rules, verdict, run, "limits")


def _post(mid: int, kind: int = 0x40) -> bytes:
    """Write a POST /ce?t=t.x&i=MID without token."""
    query = b"i=%d" % mid
    options = b"\xb2ce\x45t=t.x" + bytes((len(query),)) + query
    return bytes((kind, 2)) + mid.to_bytes(2, "big") + options


@asynccontextmanager
async def _small(target: Target, **settings: object) -> AsyncIterator[tuple[Target, Device]]:
    async with target.variant(**settings) as one, Device(one.url) as device:
        yield one, device


async def _ask(device: Device, request: bytes, code: str) -> Reply:
    device.send(request)
    return expect_code(await device.receive(), code, request)


# --- duplicates -----------------------------------------------------------------------------------


async def _flood(device: Device) -> list[Reply]:
    """Send requests until one is refused; return all answers.

    Raises:
        CheckFailed: none is.
    """
    replies: list[Reply] = []
    for mid in range(1, _FLOOD):
        device.send(_post(mid))
        replies.append(await device.receive())
        if replies[-1].code != "2.04":
            return replies
    raise CheckFailed("every request is remembered", expected="5.03", got=f"{_FLOOD} times 2.04")


async def _flood_of_con(target: Target) -> None:
    async with _small(target, **_FEW_DUPLICATES) as (one, device):
        replies = await _flood(device)
        expect_code(replies[-1], "5.03", _post(len(replies)))
        expect(_MAX_AGE in replies[-1].options, "there is no Max-Age", got=replies[-1].raw.hex())
        events = await one.events(len(replies) - 1)
        expect(len(events) == len(replies) - 1, "what was refused arrived too", got=len(events))


async def _flood_of_non(target: Target) -> None:
    async with _small(target, **_FEW_DUPLICATES) as (one, device):
        replies = await _flood(device)
        device.send(_post(0xAAAA, 0x50))
        await device.expect_silence()
        events = await one.events(len(replies) - 1)
        expect(len(events) == len(replies) - 1, "what was refused arrived too", got=len(events))


async def _remembered(kind: int, target: Target) -> None:
    async with _small(target, **_FEW_DUPLICATES) as (one, device):
        request = _post(0xBBBB, kind)
        device.send(request)
        first = await device.receive()
        replies = await _flood(device)
        device.send(request)
        if kind == 0x40:
            again = await device.receive()
            expect(again.raw == first.raw, "the answer is another", got=again.raw.hex())
        await device.expect_silence()
        events = await one.events(len(replies))
        expect(len(events) == len(replies), "there is a second event", got=len(events))


# --- blocks ---------------------------------------------------------------------------------------


async def _assemblies(target: Target) -> None:
    async with AsyncExitStack() as stack:
        settings = {"assembly_max_bytes": 8192}
        one = await stack.enter_async_context(target.variant(**settings))
        devices = [await stack.enter_async_context(Device(one.url)) for _ in range(20)]
        for number, device in enumerate(devices):
            await _ask(device, _block(number, 0, bytes(1024)), "2.31")
        await _ask(devices[0], _block(100, 1, b"x"), "4.08")
        await _ask(devices[-1], _block(101, 1, b"x"), "2.04")
        await expect_events(one, {"data": bytes(1024) + b"x"})


def _block(mid: int, number: int, payload: bytes) -> bytes:
    """Write a POST /ce?t=t.x with Block1 of 1024 bytes, of which number 0 is not the last."""
    value = bytes((number << 4 | (number == 0) << 3 | 6,))
    options = b"\xb2ce\x11\x2a\x35t=t.x\xc1"
    return b"\x40\x02" + mid.to_bytes(2, "big") + options + value + b"\xff" + payload


# --- settings -------------------------------------------------------------------------------------


async def _refuse(settings: dict[str, float], target: Target) -> None:
    try:
        async with target.variant(**{"sink_timeout": 5.0, **settings}):
            raise CheckFailed("these settings are taken", expected="a refusal", got=str(settings))
    except Refused as refusal:
        expect(next(iter(settings)) in str(refusal), "another setting is refused", got=refusal)


async def _allow(settings: dict[str, float], target: Target) -> None:
    async with _small(target, **settings) as (one, device):
        await _ask(device, _post(1), "2.04")
        await expect_events(one, {"id": "1"})


# --- discovery ------------------------------------------------------------------------------------

_LINKS: Final = (
    b'</ce>;rt="ce.bin";ct="0 42 50 60 110 112";sz=65536,'
    b'</ce/s>;rt="ce.str";ct="50 60";sz=65536,'
    b'</ce/b>;rt="ce.bat";ct="50 60 63";sz=500'
)
_ROUTES: Final = {
    "/ce": {"mode": "auto"},
    "/ce/s": {"mode": "structured"},
    "/ce/b": {"mode": "batch", "max_event_bytes": 500},
}


async def _discovery(target: Target) -> None:
    async with _small(target, routes=_ROUTES) as (_, device):
        _expect_links(await _links_of(device), _LINKS)


async def _discovery_with_query(target: Target) -> None:
    links = _LINKS.split(b",")
    async with _small(target, routes=_ROUTES) as (_, device):
        for query, found in (
            (b"rt=ce.*", links),
            (b"rt=ce.str", links[1:2]),
            (b"rt=ce.s", []),
            (b"ct=63", links[2:]),
            (b"href=/ce", links[:1]),
        ):
            option = bytes((0x40 | len(query),)) + query
            _expect_links(await _links_of(device, option), b",".join(found))


async def _links_of(device: Device, query: bytes = b"") -> bytes:
    """Read the listing in the blocks that the gateway chooses, none three times its request."""
    listing, block, mid = b"", b"", 0x1000
    delta = 0x80 if query else 0xC0
    while True:
        mid += 1
        more = bytes((delta | len(block),)) + block if block else b""
        request = b"\x40\x01" + mid.to_bytes(2, "big") + _LISTING + query + more
        reply = await _ask(device, request, "2.05")
        expect(len(reply.raw) <= 3 * len(request), "the answer is too long", got=len(reply.raw))
        listing += reply.payload
        value = int.from_bytes(reply.options.get(_BLOCK2, b""), "big")
        if not value & 8:
            return listing
        following = ((value >> 4) + 1) << 4 | value & 7
        block = following.to_bytes((following.bit_length() + 7) // 8, "big")


async def _discovery_over_tcp(target: Target) -> None:
    async with (
        target.variant(routes=_ROUTES) as one,
        StreamDevice(url_of(one, "coap+tcp")) as device,
    ):
        await device.greet()
        reply = expect_code(await device.ask(1, b"\x07", _LISTING), "2.05", _LISTING)
        _expect_links(reply.payload, _LINKS)


def _expect_links(listing: bytes, expected: bytes) -> None:
    links, wanted = listing.split(b","), expected.split(b",")
    same = sorted(links) == sorted(wanted)
    expect(same, "the links are others", expected=expected.decode(), got=listing.decode())
