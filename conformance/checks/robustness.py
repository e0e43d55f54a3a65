"""Bytes that are not the protocol: answered or cut off, and no harm to anybody else."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

from bindings.binding import Message
from conformance.check import Check, CheckFailed, Unsupported
from conformance.checks.live import Case, Scene, live_check, scene
from conformance.peers import mqtt
from conformance.peers.dialogue import dialogue
from conformance.peers.http_client import HttpClient
from conformance.peers.nats import NatsClient
from conformance.target import Target

FAMILY: Final = "robustness"

_EVENT: Final = (
    b"ce-specversion: 1.0\r\nce-id: 1\r\nce-source: /bad\r\nce-type: t\r\nContent-Type: a/b\r\n"
)
_POST: Final = b"POST %b HTTP/1.1\r\nHost: h\r\n" + _EVENT

HTTP: Final[Mapping[str, bytes]] = {
    "no-request-line": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n",
    "no-version": b"POST %b\r\nHost: h\r\n" + _EVENT + b"\r\n",
    "another-version": b"POST %b HTTP/3.7\r\nHost: h\r\n" + _EVENT + b"\r\n",
    "no-host": b"POST %b HTTP/1.1\r\n" + _EVENT + b"Content-Length: 0\r\n\r\n",
    "two-lengths": _POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "bad-length": _POST + b"Content-Length: -1\r\n\r\n",
    "length-and-chunks": _POST
    + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad-chunk": _POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n",
    "unknown-coding": _POST + b"Transfer-Encoding: gzip\r\n\r\n",
    "nul-in-value": _POST + b"ce-ext: a\0b\r\nContent-Length: 0\r\n\r\n",
    "blank-in-name": _POST + b"ce-ext : a\r\nContent-Length: 0\r\n\r\n",
    "bare-cr": _POST + b"ce-ext: a\rb\r\nContent-Length: 0\r\n\r\n",
    "head-without-end": _POST + b"ce-ext: " + b"x" * 300_000,
}
"""Requests that no server may take (RFC 9112, RFC 9110 5.5); `%b` is the path."""

_TOPIC: Final = mqtt.text("conformance/events")
_ATTRIBUTES: Final = b"".join(
    b"\x26" + mqtt.text(name) + mqtt.text(value)
    for name, value in (("specversion", "1.0"), ("id", "1"), ("source", "/bad"), ("type", "t"))
)


def _publish(properties: bytes, topic: bytes = _TOPIC, first: int = 0x32) -> bytes:
    return mqtt.frame(first, topic + b"\0\1" + mqtt.varint(len(properties)) + properties + b"x")


MQTT: Final[Mapping[str, bytes]] = {
    "length-of-five-bytes": b"\x32\xff\xff\xff\xff\x01",
    "reserved-type": b"\x00\x00",
    "qos-3": _publish(_ATTRIBUTES, first=0x36),
    "packet-id-0": mqtt.frame(0x32, _TOPIC + b"\0\0\0x"),
    "topic-with-wildcard": _publish(_ATTRIBUTES, mqtt.text("conformance/#")),
    "topic-no-utf8": _publish(_ATTRIBUTES, b"\0\2\xff\xfe"),
    "topic-with-nul": _publish(_ATTRIBUTES, mqtt.text("a\0b")),
    "topic-beyond-end": mqtt.frame(0x32, b"\xff\xffab"),
    "properties-beyond-end": mqtt.frame(0x32, _TOPIC + b"\0\1\x7f\x26"),
    "unknown-property": _publish(_ATTRIBUTES + b"\x7e\x00"),
    "two-content-types": _publish(_ATTRIBUTES + 2 * (b"\x03" + mqtt.text("text/plain"))),
    "property-of-connect": _publish(_ATTRIBUTES + b"\x21\0\1"),
    "no-utf8-in-user-property": _publish(_ATTRIBUTES + b"\x26\0\1e\0\2\xc3\x28"),
    "nul-in-user-property": _publish(_ATTRIBUTES + b"\x26" + mqtt.text("e") + mqtt.text("a\0")),
    "format-indicator-2": _publish(_ATTRIBUTES + b"\x01\x02"),
    "topic-alias-0": _publish(_ATTRIBUTES + b"\x23\0\0"),
    "flags-of-pubrel": b"\x60\x02\0\1",
    "connect-again": mqtt.connect(5, "again", clean=True),
    "connack-from-client": b"\x20\x03\0\0\0",
}
"""What a server answers by DISCONNECT or by closing (MQTT 5 sections 1.5, 2.1, 3.3, 4.13)."""

FIRST_PACKETS: Final[Mapping[str, bytes]] = {
    "publish-first": _publish(_ATTRIBUTES),
    "ping-first": mqtt.PINGREQ,
    "http-first": b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "another-protocol": mqtt.frame(0x10, mqtt.text("MQXX") + b"\x05\x02\0\0\0" + mqtt.text("a")),
    "version-9": mqtt.frame(0x10, mqtt.text("MQTT") + b"\x09\x02\0\0\0" + mqtt.text("a")),
    "reserved-flag": mqtt.frame(0x10, mqtt.text("MQTT") + b"\x05\x03\0\0\0" + mqtt.text("a")),
}
"""What a server closes at once (MQTT 5 section 3.1)."""

NATS: Final[Mapping[str, bytes]] = {
    "no-version": b"ce-id: 1\r\n\r\n",
    "no-colon": b"NATS/1.0\r\nce-id\r\n\r\n",
    "no-utf8": b"NATS/1.0\r\nce-id: \xff\xfe\r\nce-source: /bad\r\n\r\n",
    "no-end": b"NATS/1.0\r\nce-id: 1\r\nce-source: /bad",
    "cut-escape": b"NATS/1.0\r\nce-specversion: 1.0\r\nce-id: %4\r\nce-source: /bad\r\n"
    b"ce-type: %ff\r\n\r\n",
}
"""Blocks of headers that a server passes on as they are."""


def checks() -> Iterator[Check]:
    """Return a check for each piece of bad bytes."""
    ids = ("GW-ROB-001", "GW-ROB-002")
    for name, data in HTTP.items():
        title = f"A request that no server may take is refused: {name}."
        yield live_check(FAMILY, Case("http", f"bad-{name}", title, ids, partial(_http, data)))
    for name, data in MQTT.items():
        title = f"A packet that breaks the protocol ends its connection: {name}."
        yield live_check(FAMILY, Case("mqtt", f"bad-{name}", title, ids, partial(_mqtt, data)))
    for name, data in FIRST_PACKETS.items():
        title = f"A connection that begins otherwise than with CONNECT is closed: {name}."
        more = (*ids, "GW-MQTT-005")
        yield live_check(FAMILY, Case("mqtt", f"bad-{name}", title, more, partial(_first, data)))
    for name, data in NATS.items():
        title = f"Headers that can't be read bring no event: {name}."
        yield live_check(FAMILY, Case("nats", f"bad-{name}", title, ids, partial(_nats, data)))
    yield from map(partial(live_check, FAMILY), _of_http())


def _demand_gateway(target: Target) -> None:
    if target.is_broker:
        raise Unsupported("the broker would be judged, not the gateway")


async def _http(data: bytes, target: Target) -> None:
    async with scene("http", target) as at, at.other() as neighbour, HttpClient(at.url) as client:
        client.send(data.replace(b"%b", client.target.encode()))
        status = 0
        try:
            status = (await client.receive()).status
        except CheckFailed as failed:
            if failed.expected:  # neither answered nor closed
                raise
        if 200 <= status < 300:
            raise CheckFailed(
                "bytes that are no request were taken", expected="4xx", got=str(status)
            )
        await _unharmed(at, neighbour)


async def _unharmed(at: Scene, neighbour: Scene) -> None:
    """A connection that was there before works, and no event came of the bad bytes."""
    marker = neighbour.event()
    neighbour.send(neighbour.message(marker))
    await neighbour.expect("yes")
    await at.came(1)
    events = await at.target.events(1)
    if len(events) != 1:
        raise at.failed("an event was made of bad bytes", "none", repr(events[0].attributes))


async def _mqtt(data: bytes, target: Target) -> None:
    _demand_gateway(target)
    async with scene("mqtt", target) as at, at.other() as neighbour:
        client = mqtt.MqttClient(at.url)
        async with client:
            await client.open("")
            await _closed(client, data)
        await _unharmed(at, neighbour)


async def _first(data: bytes, target: Target) -> None:
    _demand_gateway(target)
    async with scene("mqtt", target) as at, at.other() as neighbour:
        async with mqtt.MqttClient(at.url) as client:
            await _closed(client, data)
        await _unharmed(at, neighbour)


async def _closed(client: mqtt.MqttClient, data: bytes) -> None:
    """Send bytes; an answer that is no yes may come, and then the end."""
    client.send(data)
    packet: mqtt.Packet | None = None
    while packet is None or packet.name not in {"PUBACK", "PUBREC"}:  # else refused, and no more
        try:
            packet = await client.receive()
        except CheckFailed as failed:
            if failed.expected:  # neither answered nor closed
                raise
            return
        if packet.code < 0x80 and packet.name != "CONNACK":
            sent = data.hex()
            raise CheckFailed("it was taken", expected="the end", got=str(packet), reproduce=sent)


async def _nats(block: bytes, target: Target) -> None:
    _demand_gateway(target)
    async with scene("nats", target) as at:
        async with NatsClient(at.url) as client:
            inbox = client.inbox()
            subject = getattr(dialogue("nats", at.url), "subject", "")
            size = f"{len(block)} {len(block) + 1}"
            client.send(f"HPUB {subject} {inbox} {size}\r\n".encode() + block + b"x\r\n")
            with suppress(CheckFailed):  # the server itself may cut it off
                await client.flush()
        async with at.other() as neighbour:
            await _unharmed(at, neighbour)


def _of_http() -> Iterator[Case]:
    yield Case(
        "http",
        "pipelined",
        "Requests that are sent at once are answered in their order.",
        ("GW-HTTP-001",),
        _pipeline,
    )
    for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD"):
        yield Case(
            "http",
            f"method-{method.lower()}",
            f"{method} is answered by 405 with Allow, or brings the event as POST does.",
            ("GW-HTTP-002", "HTTP-GEN-001"),
            partial(_method, method),
        )


async def _pipeline(target: Target) -> None:
    async with scene("http", target) as at:
        good, bad = at.event(), Message(b"", "application/cloudevents+unknown")
        at.send(at.message(good), bad, at.message(at.event()))
        codes = [(await at.answer()).code for _ in range(3)]
        if not (200 <= codes[0] < 300 and codes[1] >= 400 and 200 <= codes[2] < 300):
            raise at.failed("another order", "2xx, 4xx, 2xx", str(codes))


async def _method(method: str, target: Target) -> None:
    async with scene("http", target) as at, HttpClient(at.url) as client:
        post = b"%b %b HTTP/1.1\r\nHost: h\r\n" % (method.encode(), client.target.encode())
        client.send(post + _EVENT + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(5):
            head = await client.head()
        if head.status == 405 and not head.header("allow"):
            raise CheckFailed("405 without Allow", expected="Allow: POST", got=head.head)
        if head.status != 405 and not (200 <= head.status < 300 and method != "HEAD"):
            raise CheckFailed("another answer", expected="405 with Allow, or 2xx", got=head.head)
