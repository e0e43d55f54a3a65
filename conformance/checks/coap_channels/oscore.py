"""Requests that are protected with OSCORE (RFC 8613, binding section 10.3)."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from conformance.check import Check
from conformance.checks.coap_live import check, expect, expect_code, expect_events
from conformance.peers import coap_oscore, credentials
from conformance.peers.coap import Device
from conformance.peers.coap_oscore import ECHO, OSCORE, Inner, next_number, opened, with_echo
from conformance.target import Target

CONTEXT: Final = {
    "label": credentials.OSCORE_LABEL,
    "sender_id": credentials.GATEWAY_ID.hex(),
    "recipient_id": credentials.DEVICE_ID.hex(),
    "master_secret": credentials.MASTER_SECRET.hex(),
    "master_salt": credentials.MASTER_SALT.hex(),
}
_SOURCE: Final = f"/devices/{credentials.OSCORE_LABEL}"
_URI_QUERY: Final = 15

# What is inside: code, options, payload. The first is what SEC-07 sends.
_EVENT: Final = bytes.fromhex("02b26365113235743d742e7803693d31ff7b2261223a317d")
_WITHOUT_ID: Final = b"\x02\xb2ce\x11\x32\x35t=t.x\xff1"
_MARKER: Final = b"\x02\xb2ce\x45t=t.x\x06i=last"
_NOWHERE: Final = b"\x02\xb1x\x45t=t.x"


def checks() -> Iterator[Check]:
    """Return the checks of the class oscore."""
    rows = (
        ("event", "A protected event arrives, with the source of its context",
         "SEC-002 SEC-009 SEC-014", "2.04", _event),
        ("inner-path", "The path inside counts, not the one outside", "SEC-009", "2.04",
         _inner_path),
        ("other-source", "A context does not speak for others; the answer is protected",
         "SEC-014 SEC-015", "4.03", _other_source),
        ("error-inside", "An error of the request inside is protected", "SEC-014", "4.04",
         _error_inside),
        ("outer-query", "A query outside says nothing", "SEC-010", "2.04", _outer_query),
        ("outer-format", "A Content-Format outside says nothing", "SEC-010", "2.04",
         _outer_format),
        ("replay", "A Partial IV that was there before is refused, and brings no event",
         "SEC-011 SEC-014", "4.01", _replay),
        ("next", "The same request with another Partial IV is another one", "SEC-011", "2.04",
         _next),
        ("unknown-kid", "A context that nobody has is refused", "SEC-012", "4.01",
         partial(_refused, _unknown_kid, "4.01")),
        ("unknown-kid-context", "So is one with a kid context that nobody has", "SEC-012", "4.01",
         partial(_refused, _unknown_kid_context, "4.01")),
        ("changed", "A ciphertext that was changed is refused", "SEC-013", "4.00",
         partial(_refused, _changed, "4.00")),
        ("cut-off", "A ciphertext that is cut off is refused", "SEC-013", "4.00",
         partial(_refused, _cut_off, "4.00")),
        ("no-ciphertext", "A request without ciphertext is refused", "SEC-013", "4.00",
         partial(_refused, _no_ciphertext, "4.00")),
        ("reserved-bits", "An option with reserved bits is malformed", "SEC-021", "4.02",
         partial(_refused, partial(_malformed, b"\x29\x14"), "4.02")),
        ("no-kid", "An option without kid is malformed in a request", "SEC-021", "4.02",
         partial(_refused, partial(_malformed, b"\x01\x14"), "4.02")),
        ("option-cut-off", "An option that is cut off is malformed", "SEC-021", "4.02",
         partial(_refused, partial(_malformed, b"\x0b\x14"), "4.02")),
        ("first", "After a start the first request has to repeat an Echo option", "SEC-020",
         "4.01", _first),
        ("wrong-echo", "A wrong Echo option is no proof", "SEC-020", "4.01", _wrong_echo),
        ("ids", "Two protected messages of one event without id have two ids", "ID-006", "2.04",
         _two_ids),
        ("id-of-number", "An id comes from context and Partial IV alone", "ID-006", "2.04",
         _id_of_number),
    )  # fmt: skip
    for name, title, rules, verdict, run in rows:
        yield check(f"oscore-{name}", title, rules, verdict, run)


@asynccontextmanager
async def _gateway(target: Target) -> AsyncIterator[tuple[Target, Device]]:
    """Start a gateway that knows the device's context, and a device that it has not seen yet."""
    async with target.variant(oscore=[CONTEXT]) as one, Device(one.url) as device:
        yield one, device


@asynccontextmanager
async def _known(target: Target) -> AsyncIterator[tuple[Target, Device]]:
    """The same after a first request, which is forgotten."""
    async with _gateway(target) as (one, device):
        await _post(device, _MARKER)
        await one.events(1)
        one.forget()
        yield one, device


async def _post(device: Device, inner: bytes, code: str = "2.04") -> Inner:
    """Send a protected request whose last option is a query."""
    answer, _ = await coap_oscore.ask(device, inner, _URI_QUERY)
    expect(answer.code == code, "the code inside is another", expected=code, got=answer)
    return answer


async def _event(target: Target) -> None:
    async with _known(target) as (one, device):
        number = next_number()
        device.send(coap_oscore.request(_EVENT, number))
        reply = await device.receive()
        expect_code(reply, "2.04", b"")
        expect(OSCORE in reply.options, "the answer is not protected", got=reply.raw.hex())
        expect(opened(reply, number).code == "2.04", "another code is inside")
        event = {"id": "1", "source": _SOURCE, "type": "t.x", "data": b'{"a":1}'}
        await expect_events(one, event)


async def _inner_path(target: Target) -> None:
    async with _known(target) as (one, device):
        number = next_number()
        # Uri-Path is 11 = 9 + 2.
        device.send(coap_oscore.request(_EVENT, number, outer=b"\x27nowhere"))
        answer = opened(await device.receive(), number)
        expect(answer.code == "2.04", "the path outside counted", expected="2.04", got=answer)
        await expect_events(one, {"id": "1"})


async def _other_source(target: Target) -> None:
    async with _known(target) as (one, device):
        await _post(device, b"\x02\xb3own\x45t=t.x\x0d\x02s=/devices/dev2", "4.03")
        await _post(device, _MARKER)
        await expect_events(one, {"id": "last"})


async def _error_inside(target: Target) -> None:
    async with _known(target) as (one, device):
        await _post(device, _NOWHERE, "4.04")
        await _post(device, _MARKER)
        await expect_events(one, {"id": "last"})


async def _outer_query(target: Target) -> None:
    async with _known(target) as (one, device):
        number = next_number()
        device.send(coap_oscore.request(_EVENT, number, outer=b"\x64i=99"))  # 15 = 9 + 6
        answer = opened(await device.receive(), number)
        expect(answer.code == "2.04", "the request was refused", expected="2.04", got=answer)
        await expect_events(one, {"id": "1"})


async def _outer_format(target: Target) -> None:
    async with _known(target) as (one, device):
        number = next_number()
        device.send(coap_oscore.request(_EVENT, number, outer=b"\x31\x3c"))  # 12 = 9 + 3: CBOR
        answer = opened(await device.receive(), number)
        expect(answer.code == "2.04", "the request was refused", expected="2.04", got=answer)
        await expect_events(one, {"id": "1", "datacontenttype": "application/json"})


async def _replay(target: Target) -> None:
    async with _known(target) as (one, device):
        number = next_number()
        captured = coap_oscore.request(_EVENT, number)
        device.send(captured)
        expect(opened(await device.receive(), number).code == "2.04", "the first was refused")
        device.send(captured[:2] + b"\xee\xee" + captured[4:])
        reply = expect_code(await device.receive(), "4.01", captured)
        expect(OSCORE not in reply.options, "this error is not protected", got=reply.raw.hex())
        await _post(device, _MARKER)
        await expect_events(one, {"id": "1"}, {"id": "last"})


async def _next(target: Target) -> None:
    async with _known(target) as (one, device):
        await _post(device, _EVENT)
        await _post(device, _EVENT)
        await expect_events(one, {"id": "1"}, {"id": "1"})


async def _refused(make: Callable[[], bytes], code: str, target: Target) -> None:
    async with _known(target) as (one, device):
        request = make()
        device.send(request)
        expect_code(await device.receive(), code, request)
        await _post(device, _MARKER)
        await expect_events(one, {"id": "last"})


def _unknown_kid() -> bytes:
    return coap_oscore.request(_EVENT, next_number(), kid=b"\x05")


def _unknown_kid_context() -> bytes:
    option, sealed = coap_oscore.protect(_EVENT, next_number())
    size = option[0] & 7
    option = bytes((option[0] | 0x10,)) + option[1 : 1 + size] + b"\x01\xaa" + option[1 + size :]
    return coap_oscore.unprotected(option, b"\xff" + sealed)


def _changed() -> bytes:
    request = coap_oscore.request(_EVENT, next_number())
    return request[:-1] + bytes((request[-1] ^ 1,))


def _cut_off() -> bytes:
    return coap_oscore.request(_EVENT, next_number())[:-20]


def _no_ciphertext() -> bytes:
    option, _ = coap_oscore.protect(_EVENT, next_number())
    return coap_oscore.unprotected(option, b"")


def _malformed(option: bytes) -> bytes:
    return coap_oscore.unprotected(option, b"\xff" + bytes(16))


async def _first(target: Target) -> None:
    async with _gateway(target) as (one, device):
        number = next_number()
        device.send(coap_oscore.request(_EVENT, number))
        answer = opened(await device.receive(), number)
        is_challenge = answer.code == "4.01" and ECHO in answer.options
        expect(is_challenge, "the first request is taken", expected="4.01 with Echo", got=answer)
        number = next_number()
        again = with_echo(_EVENT, _URI_QUERY, answer.options[ECHO])
        device.send(coap_oscore.request(again, number))
        answer = opened(await device.receive(), number)
        expect(answer.code == "2.04", "the repeated Echo is refused", expected="2.04", got=answer)
        await expect_events(one, {"id": "1"})


async def _wrong_echo(target: Target) -> None:
    async with _gateway(target) as (one, device):
        number = next_number()
        again = with_echo(_EVENT, _URI_QUERY, b"no proof")
        device.send(coap_oscore.request(again, number))
        answer = opened(await device.receive(), number)
        is_challenge = answer.code == "4.01" and ECHO in answer.options
        expect(is_challenge, "any Echo is taken", expected="4.01 with Echo", got=answer)
        await _post(device, _MARKER)
        await expect_events(one, {"id": "last"})


async def _two_ids(target: Target) -> None:
    async with _known(target) as (one, device):
        await _post(device, _WITHOUT_ID)
        await _post(device, _WITHOUT_ID)
        first, second = (str(event.attributes["id"]) for event in await one.events(2))
        expect(first != second, "two messages have one id", got=first)
        # Base64 is the shortest text for bytes, so 96 bits take 16 characters.
        expect(len(first) >= 16, "the id is too short", expected="96 bits or more", got=first)


async def _id_of_number(target: Target) -> None:
    number = next_number()
    found = []
    for payload in (b"1", b"2"):
        async with _known(target) as (one, device):
            # Each gateway is a new one; the numbers of `_known` were other ones.
            later = number + 1_000_000
            device.send(coap_oscore.request(_WITHOUT_ID[:-1] + payload, later))
            expect(opened(await device.receive(), later).code == "2.04", "it was refused")
            (event,) = await one.events(1)
            found.append(event.attributes["id"])
    expect(found[0] == found[1], "the id depends on something else", got=found)
