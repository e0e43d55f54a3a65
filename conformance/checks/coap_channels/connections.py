"""What only connections have: CSM, Abort, Ping, BERT, whole events in a message (binding 11)."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from conformance.check import Check, CheckFailed
from conformance.checks.coap_live import (
    GET,
    POST,
    check,
    expect,
    expect_code,
    expect_events,
    url_of,
)
from conformance.peers.coap import Reply
from conformance.peers.coap_stream import CSM, PING, RELEASE, StreamDevice, frame
from conformance.peers.coap_websocket import PATH, WebSocketDevice, WebSocketRefused
from conformance.target import Target

_EVENT: Final = bytes.fromhex("b26365113235743d742e7803693d31ff7b2261223a317d")  # as SEC-02
_WITHOUT_ID: Final = b"\xb2ce\x45t=t.x"
_MARKER: Final = b"\xb2ce\x45t=t.x\x06i=last"
_LISTING: Final = b"\xbb.well-known\x04core"
_MAX_EVENT_BYTES: Final = 65536
_MAX_MESSAGE_BYTES: Final = _MAX_EVENT_BYTES + 2048
_DEFAULT_MESSAGE_BYTES: Final = 1152
_MANY_ROUTES: Final = {f"/sensors/{number:03}": {"type": "t"} for number in range(60)}
_BLOCK2: Final = 23

Connect = Callable[[Target], Any]
Row = tuple[str, str, str, str, Callable[[Connect, Target], Awaitable[None]]]
"""End of the id, title, requirements, verdict, and what runs."""


def checks() -> Iterator[Check]:
    """Return the checks of the classes tcp and ws."""
    for name, connect, rule in (("tcp", _tcp, "TCP-001"), ("ws", _ws, "WS-003")):
        for row, title, rules, verdict, run in (*_requests(rule), *_sizes(), *_signals()):
            yield check(f"{name}-{row}", title, rules, verdict, partial(run, connect))
    yield check("tcp-token", "A token of more than eight bytes ends the connection", "TCP-004",
                "7.05", _long_token)  # fmt: skip
    yield check("tcp-neighbour", "What came before a message format error is answered", "TCP-004",
                "2.04, 7.05", _neighbour)  # fmt: skip
    yield check("tcp-split", "A message may come in any pieces", "TCP-001", "2.04", _pieces)
    yield from _websocket_checks()


def _requests(rule: str) -> tuple[Row, ...]:
    """Return the rows about requests."""
    return (
        ("ids", "A request that comes twice brings two events with random ids",
         f"ID-005 {rule}", "2.04", _random_ids),
        ("id-kept", "An id of the producer's is kept", f"ID-005 {rule}", "2.04", _id_is_kept),
    )  # fmt: skip


def _sizes() -> tuple[Row, ...]:
    """Return the rows about large messages."""
    return (
        ("max-message-size", "The gateway announces room for a whole event", "TCP-005",
         "67584 or more", _announced),
        ("whole-event", "65536 bytes come in one message", "TCP-006", "2.04",
         partial(_whole, b"")),
        ("whole-message", "So they do with long attributes, up to what was announced",
         "TCP-006", "2.04", partial(_whole, _long_attributes())),
        ("too-large", "What is larger than an event may be is refused with a code", "LIM-002",
         "4.13", _too_large),
        ("bert", "A payload comes in blocks of 2048 and 100 bytes", "TCP-007", "2.04",
         partial(_bert, 2, 100)),
        ("bert-8", "A payload comes in blocks of 8192 and 1024 bytes", "TCP-007", "2.04",
         partial(_bert, 8, 1024)),
        ("bert-odd", "A BERT block that is no multiple of 1024 bytes is refused",
         "TCP-007 BLK-004", "4.00", _odd_bert),
        ("small-peer", "A peer that announces no size gets 1152 bytes at most", "TCP-009",
         "blocks", _small_peer),
        ("large-peer", "A peer that announces more gets the listing in one message",
         "TCP-009", "2.05", _large_peer),
        ("listing", "Blocks of a listing are what one message would hold", "TCP-009 DSC-001",
         "2.05", _listing_in_blocks),
    )  # fmt: skip


def _signals() -> tuple[Row, ...]:
    """Return the rows about signals and what ends a connection."""
    return (
        ("csm", "The gateway's first message is a CSM, whoever speaks first", "TCP-002",
         "7.01", _csm_comes_first),
        ("post-first", "A first message that is no CSM ends the connection", "TCP-003",
         "7.05", partial(_other_first, POST, _EVENT)),
        ("ping-first", "Also when it is a Ping", "TCP-003", "7.05",
         partial(_other_first, PING, b"")),
        ("cut-off", "An option that is cut off ends the connection", "TCP-004", "7.05",
         partial(_format_error, b"\xb9ce")),
        ("no-payload", "So does a marker without payload", "TCP-004", "7.05",
         partial(_format_error, b"\xb2ce\xff")),
        ("ping", "A Ping is answered with its token", "TCP-008", "7.03",
         partial(_ping, b"\x2a")),
        ("ping-empty", "Also with an empty token", "TCP-008", "7.03", partial(_ping, b"")),
        ("ping-between", "A Ping between two requests does not disturb them", "TCP-008",
         "7.03", _ping_between),
    )  # fmt: skip


def _websocket_checks() -> Iterator[Check]:
    rows = (
        ("subprotocol", "The subprotocol coap is chosen", "WS-001", "101", _subprotocol),
        ("no-subprotocol", "Without the subprotocol there is no connection", "WS-001", "refused",
         partial(_no_websocket, PATH, None)),
        ("other-subprotocol", "Nor with another one", "WS-001", "refused",
         partial(_no_websocket, PATH, ("mqtt",))),
        ("other-path", "Nor at another path", "WS-001", "refused",
         partial(_no_websocket, "/ce", ("coap",))),
        ("message", "A binary message is one request", "WS-002", "2.04", _one_message),
        ("fragments", "Also when it comes in fragments", "WS-002", "2.04", _fragments),
        ("length", "A message that says a length is malformed", "WS-002 WS-004", "closed",
         _with_length),
        ("text", "A text message ends the connection", "WS-004", "closed",
         partial(_bad_message, "01020762636545743d742e78")),
        ("empty", "So does a message that is none", "WS-004", "closed", partial(_bad_message, b"")),
        ("malformed", "And a malformed one", "WS-004", "closed",
         partial(_bad_message, b"\x01\x02\x07\xb9ce")),
    )  # fmt: skip
    for name, title, rules, verdict, run in rows:
        yield check(f"ws-{name}", title, rules, verdict, run)


def _tcp(target: Target) -> StreamDevice:
    return StreamDevice(url_of(target, "coap+tcp"))


def _ws(target: Target) -> WebSocketDevice:
    return WebSocketDevice(url_of(target, "coap+ws"))


@asynccontextmanager
async def _greeted(connect: Connect, target: Target, csm: bytes = b"") -> AsyncIterator[Any]:
    target.forget()
    async with connect(target) as device:
        await device.greet(csm)
        yield device


async def _post(device: Any, rest: bytes, code: str = "2.04") -> Reply:
    return expect_code(await device.ask(POST, b"\x07", rest), code, frame(POST, b"\x07", rest))


# --- requests -------------------------------------------------------------------------------------


async def _random_ids(connect: Connect, target: Target) -> None:
    async with _greeted(connect, target) as device:
        for _ in range(2):
            await _post(device, _WITHOUT_ID)
    expected = {"source": "coap://127.0.0.1", "type": "t.x", "data": None}
    events = await expect_events(target, expected, expected)
    first, second = (str(event.attributes["id"]) for event in events)
    expect(first != second, "two requests have one id", got=first)
    # Base64 is the shortest text for bytes, so 96 bits take 16 characters.
    expect(len(first) >= 16, "the id is too short", expected="96 bits or more", got=first)


async def _id_is_kept(connect: Connect, target: Target) -> None:
    async with _greeted(connect, target) as device:
        await _post(device, _EVENT)
    await expect_events(target, {"id": "1", "data": b'{"a":1}'})


async def _whole(options: bytes, connect: Connect, target: Target) -> None:
    payload = bytes(n % 251 for n in range(_MAX_EVENT_BYTES))
    async with _greeted(connect, target) as device:
        await _post(device, _WITHOUT_ID + options + b"\xff" + payload)
    await expect_events(target, {"type": "t.x", "data": payload})


def _long_attributes() -> bytes:
    """Write queries, behind another query, of about 1900 bytes: ext0=00..., ext1=00..., ..."""
    queries = [b"ext%d=" % number + b"0" * 250 for number in range(7)]
    return b"".join(b"\x0d" + bytes((len(query) - 13,)) + query for query in queries)


async def _too_large(connect: Connect, target: Target) -> None:
    async with _greeted(connect, target) as device:
        reply = await _post(device, _WITHOUT_ID + b"\xff" + bytes(_MAX_EVENT_BYTES + 1), "4.13")
        size = int.from_bytes(reply.options.get(60, b""), "big")
        expect(size == _MAX_EVENT_BYTES, "Size1 is another", expected="65536", got=size)
        await _post(device, _MARKER)
    await expect_events(target, {"id": "last"})


async def _bert(count: int, rest: int, connect: Connect, target: Target) -> None:
    payload = bytes(n % 253 for n in range(count * 1024 + rest))
    async with _greeted(connect, target) as device:
        head, options = payload[: count * 1024], b"\xb2ce\x11\x2a\x35t=t.x\xc1"
        await _post(device, options + b"\x0f\xff" + head, "2.31")
        await _post(device, options + bytes((count << 4 | 7,)) + b"\xff" + payload[len(head) :])
    await expect_events(target, {"data": payload})


async def _odd_bert(connect: Connect, target: Target) -> None:
    async with _greeted(connect, target) as device:
        await _post(device, b"\xb2ce\x11\x2a\x35t=t.x\xc1\x0f\xff" + bytes(1500), "4.00")
        await _post(device, _MARKER)
    await expect_events(target, {"id": "last"})


async def _pieces(target: Target) -> None:
    async with _greeted(_tcp, target) as device:
        for octet in frame(POST, b"\x07", _EVENT):
            await device.send_alone(bytes((octet,)))
        expect_code(await device.receive(), "2.04", _EVENT)
    await expect_events(target, {"id": "1"})


# --- signals --------------------------------------------------------------------------------------


async def _csm_comes_first(connect: Connect, target: Target) -> None:
    async with connect(target) as silent:
        expect_code(await silent.receive(), "7.01", b"")
    async with connect(target) as device:
        expect_code(await device.ask(CSM), "7.01", frame(CSM))


async def _announced(connect: Connect, target: Target) -> None:
    async with connect(target) as device:
        reply = await device.greet()
        size = int.from_bytes(reply.options.get(2, b""), "big")
        text = "the announced Max-Message-Size is too small"
        expect(size >= _MAX_MESSAGE_BYTES, text, expected=str(_MAX_MESSAGE_BYTES), got=size)


async def _other_first(code: int, rest: bytes, connect: Connect, target: Target) -> None:
    target.forget()
    async with connect(target) as device:
        expect_code(await device.receive(), "7.01", b"")
        expect_code(await device.ask(code, b"\x07", rest), "7.05", frame(code, b"\x07", rest))
        await device.expect_end()
    await _expect_marker(connect, target)


async def _format_error(rest: bytes, connect: Connect, target: Target) -> None:
    async with _greeted(connect, target) as device:
        expect_code(await device.ask(POST, b"\x07", rest), "7.05", frame(POST, b"\x07", rest))
        await device.expect_end()
    await _expect_marker(connect, target)


async def _expect_marker(connect: Connect, target: Target) -> None:
    """Send a good event on another connection; nothing may have come out before it."""
    async with connect(target) as device:
        await device.greet()
        await _post(device, _MARKER)
    await expect_events(target, {"id": "last"})


async def _long_token(target: Target) -> None:
    async with _greeted(_tcp, target) as device:
        device.send(b"\x09\x02" + bytes(9))
        expect_code(await device.receive(), "7.05", b"\x09\x02" + bytes(9))
        await device.expect_end()
    await _expect_marker(_tcp, target)


async def _neighbour(target: Target) -> None:
    async with _greeted(_tcp, target) as device:
        good, bad = frame(POST, b"\x07", _EVENT), frame(POST, b"\x08", b"\xb9ce")
        device.send(good + bad)
        expect_code(await device.receive(), "2.04", good)
        expect_code(await device.receive(), "7.05", bad)
        await device.expect_end()
    await expect_events(target, {"id": "1"})


async def _ping(token: bytes, connect: Connect, target: Target) -> None:
    async with _greeted(connect, target) as device:
        reply = expect_code(await device.ask(PING, token), "7.03", frame(PING, token))
        expect(reply.token == token, "the token is another", expected=token.hex(), got=reply.token)


async def _ping_between(connect: Connect, target: Target) -> None:
    async with _greeted(connect, target) as device:
        await _post(device, _EVENT)
        expect_code(await device.ask(PING, b"\x2b"), "7.03", frame(PING, b"\x2b"))
        await _post(device, _MARKER)
        if isinstance(device, StreamDevice):
            device.send_message(RELEASE, b"", b"")
    await expect_events(target, {"id": "1"}, {"id": "last"})


# --- what a peer takes ----------------------------------------------------------------------------


@asynccontextmanager
async def _with_many_routes(target: Target) -> AsyncIterator[Target]:
    async with target.variant(routes=_MANY_ROUTES) as one:
        yield one


async def _small_peer(connect: Connect, target: Target) -> None:
    async with _with_many_routes(target) as one, _greeted(connect, one) as device:
        reply = expect_code(await device.ask(GET, b"\x07", _LISTING), "2.05", _LISTING)
        size = len(reply.raw)
        expect(size <= _DEFAULT_MESSAGE_BYTES, "the answer is too large", expected="1152", got=size)
        expect(_BLOCK2 in reply.options, "the answer has no Block2 option", got=reply.options)


async def _large_peer(connect: Connect, target: Target) -> None:
    csm = b"\x23\x01\x00\x00"
    async with _with_many_routes(target) as one, _greeted(connect, one, csm) as device:
        reply = expect_code(await device.ask(GET, b"\x07", _LISTING), "2.05", _LISTING)
        expect(_BLOCK2 not in reply.options, "the listing comes in blocks", got=reply.options)
        _expect_links(reply.payload)


async def _listing_in_blocks(connect: Connect, target: Target) -> None:
    listing, block = b"", b""
    async with _with_many_routes(target) as one, _greeted(connect, one) as device:
        while True:
            request = _LISTING + (bytes((0xC0 | len(block),)) + block if block else b"")
            reply = expect_code(await device.ask(GET, b"\x07", request), "2.05", request)
            listing += reply.payload
            value = int.from_bytes(reply.options.get(_BLOCK2, b""), "big")
            if not value & 8:
                break
            following = (value >> 4) + max(len(reply.payload) // 1024, 1)
            following = following << 4 | value & 7
            block = following.to_bytes((following.bit_length() + 7) // 8, "big")
    _expect_links(listing)


def _expect_links(listing: bytes) -> None:
    paths = [link.partition(b">")[0].decode() for link in listing.split(b"<")[1:]]
    if sorted(paths) != sorted(_MANY_ROUTES):
        raise CheckFailed("other resources are listed", got=listing.decode("utf-8", "replace"))


# --- WebSockets -----------------------------------------------------------------------------------


async def _subprotocol(target: Target) -> None:
    async with _ws(target) as device:
        expect(device.subprotocol == "coap", "another was chosen", got=device.subprotocol)


async def _no_websocket(path: str, subprotocols: tuple[str, ...] | None, target: Target) -> None:
    try:
        async with WebSocketDevice(url_of(target, "coap+ws"), path, subprotocols) as device:
            raise CheckFailed("a WebSocket was opened", got=str(device.subprotocol))
    except WebSocketRefused:
        return


async def _one_message(target: Target) -> None:
    async with _greeted(_ws, target) as device:
        for number in range(3):
            await _post(device, _WITHOUT_ID + b"\x03i=%d" % number)
    await expect_events(target, {"id": "0"}, {"id": "1"}, {"id": "2"})


async def _fragments(target: Target) -> None:
    async with _greeted(_ws, target) as device:
        message = b"\x01\x02\x07" + _EVENT
        await device.send([message[:2], message[2:9], message[9:]])
        expect_code(await device.receive(), "2.04", message)
    await expect_events(target, {"id": "1"})


async def _with_length(target: Target) -> None:
    await _bad_message(frame(POST, b"\x07", b"\xb2ce\x45t=t.x"), target)


async def _bad_message(message: bytes | str, target: Target) -> None:
    async with _greeted(_ws, target) as device:
        await device.send(message)
        await device.expect_end()
    await _expect_marker(_ws, target)
