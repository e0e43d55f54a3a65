"""What is asked of both builds: each target takes any bytes, and says in words what became of them.

Everything that can be seen is said: values with their types, texts of errors and what they carry.
"""

import asyncio
import logging
import re
import zlib
from collections.abc import Callable
from typing import Any, Final, cast

from bindings.binding import Message
from bindings.event import Event
from bindings.http import HTTP
from bindings.kafka import KAFKA
from bindings.mqtt import MQTT
from bindings.nats import NATS
from bindings.wire import cbor, coap, nats
from bindings.wire.http1_request import PlainPosts
from bindings.wire.mqtt import PacketReader, Peer, decode, encode, parse
from bindings.wire.mqtt import property as properties
from gateway.delivery import ACCEPTED, DRAINING, Delivery, settle_all
from gateway.sinks.http import HttpSink, HttpSinkConfig
from gateway.sinks.http.connection import Connection
from gateway.sources.http import HttpSourceConfig
from gateway.sources.http.connection import Connection as Receiver
from gateway.sources.http.listener import Listener
from tests.compiled.pipeline import pipeline_lists

Target = Callable[[bytes], object]

logging.getLogger("gateway.sinks.http").setLevel(logging.CRITICAL)  # its losses are meant


def said(call: Callable[..., object], *arguments: object) -> object:
    """Return a call's result, or its error with all that it carries."""
    try:
        return call(*arguments)
    except Exception as error:
        carried = {name: value for name, value in vars(error).items() if name != "__notes__"}
        # The text of an IndexError is Python's or Cython's own, and goes no further than `parse`.
        text = "" if type(error) is IndexError else str(error)
        return type(error).__name__, text, carried


def cut(data: bytes) -> list[bytes]:
    """Return the pieces of a stream, cut somewhere."""
    seed = zlib.crc32(data)
    first, second = sorted((seed % (len(data) + 1), (seed >> 16) % (len(data) + 1)))
    return [data[:first], data[first:second], data[second:]]


def mqtt(data: bytes, peer: Peer, version: Any) -> object:
    found = said(parse, data, peer, version)
    packets: Any = found[0] if isinstance(found[0], list) else found[2].get("packets", ())
    written = [said(encode, packet, other) for packet in packets for other in (4, 5)]
    return found, written, said(parse, data, peer, version, 40)


def mqtt_stream(data: bytes) -> object:
    reader = PacketReader(Peer.SERVER)
    return [(said(reader.feed, piece), reader.held) for piece in cut(data)]


def mqtt_parts(data: bytes) -> object:
    """Ask the functions that every packet goes through, from any position to any end."""
    start, end = len(data) // 3, len(data)
    calls: list[tuple[Any, ...]] = [
        (properties.read_varint, data, start),
        (properties.read_text, data, start),
        (properties.read_binary, data, start),
    ]
    for stop in (start, end):
        calls += [
            (properties.read_properties, data, start, stop, place) for place in properties.Place
        ]
    for stop in (end, end - 2):
        calls += [
            (decode.decode_publish, first, data, start, stop, version)
            for first in range(0x30, 0x40)
            for version in (4, 5)
        ]
    return [said(*call) for call in calls]


def mqtt_write(data: bytes) -> object:
    text = data.decode("utf-8", "surrogateescape")
    pairs = [(text[:at], text[at:]) for at in (0, len(text) // 2, len(text))]
    return [
        said(properties.write_varint, zlib.crc32(data) & 0xFFFFFFF),
        said(properties.write_text, text),
        said(properties.write_binary, data),
        said(properties.write_properties, {properties.Property.CORRELATION_DATA: data}, pairs),
    ]


def nats_stream(data: bytes) -> object:
    parser = nats.Parser()
    return [said(parser.feed, piece) for piece in cut(data)]


def nats_headers(data: bytes) -> object:
    found = said(nats.parse_headers, data)
    if not isinstance(found, nats.Headers):
        return found
    return found, said(nats.encode_headers, found.pairs), found.get("ce-id")


def header_bindings(data: bytes) -> object:
    """Ask the bindings with headers for the event of header lines, and for its message."""
    pairs = [line.partition(":")[::2] for line in data.decode("latin-1").split("\r\n")]
    found: list[object] = []
    for binding in (MQTT, NATS, KAFKA, HTTP):
        lines = [
            (binding.prefix + name.removeprefix("ce-"), value.strip()) for name, value in pairs
        ]
        required = [(binding.prefix + name, "1.0") for name in ("specversion", "id")]
        required += [(binding.prefix + name, "/t") for name in ("source", "type")]
        for headers in (pairs, lines, required + lines[1:3]):
            events = said(binding.decode, Message(data, "a/b", headers))
            found.append(events)
            if isinstance(events, tuple) and not isinstance(events[0], str):
                found += [
                    said(binding.encode, events[0], mode) for mode in ("binary", "structured")
                ]
    return found


def nats_write(data: bytes) -> object:
    text = data.decode("latin-1")
    half = len(data) // 2
    return [
        said(nats.encode_headers, [(text[:half], text[half:])]),
        nats.encode_publish(data[:half], data[half:], reply=data[:3], header=data[:half]),
        nats.parse_number(text),
    ]


def coap_datagram(data: bytes) -> object:
    found = said(coap.parse, data)
    if not isinstance(found, coap.Message):
        return found
    return found, said(coap.serialise, found)


def coap_options(data: bytes) -> object:
    found = [said(coap.parse_options, data, start) for start in (0, 1, len(data), len(data) + 1)]
    return found, coap.to_uint(data), coap.to_block(data[:3]), coap.to_block(data[:3]).to_bytes()


def cbor_item(data: bytes) -> object:
    found = said(cbor.decode, data)
    if isinstance(found, tuple) and found and found[0] == "CborError":
        return found
    return found, said(cbor.encode, found)


def cbor_rows(data: bytes) -> object:
    return [said(lambda: list(cbor.iter_sequence(data))), said(lambda: list(cbor.iter_array(data)))]


class _Transport:
    """Takes what is written; says what was done to it."""

    def __init__(self) -> None:
        self.did: list[object] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        self.did.append(data)

    def close(self) -> None:
        self.did.append("close")
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0


async def _post(sink: HttpSink, answers: list[bytes]) -> object:
    """Send events to a receiver that answers so, on a connection that one transport is."""
    pool = sink._pool
    assert pool is not None
    transport, ended = _Transport(), list[object]()
    connection = Connection(pool)
    connection.connection_made(cast("asyncio.Transport", transport))
    pool._idle.append(connection)
    events = [Event(id=str(number), source=f"/{number % 2}", type="t") for number in range(3)]
    sending = sink.start_sending(events, 5.0, ended.extend, ended.append)
    for answer in answers:
        if not transport.closing:
            connection.data_received(answer)
    found = [connection._request is None, [repr(failure) for failure in ended]]
    sending.cancel()
    transport.closing = True
    connection.connection_lost(None)
    return found, transport.did


async def _post_each(lists: list[list[bytes]]) -> object:
    sink = HttpSink(HttpSinkConfig(name="out", url="http://127.0.0.1:9/", connections=1))
    await sink.open()
    try:
        return [await _post(sink, answers) for answers in lists]
    finally:
        await sink.close()


def http_answers(data: bytes) -> object:
    """Ask what the sink makes of answers, whole and cut, and of those that it knows by heart."""
    known = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
    answers = [[data], cut(data), [known, data], [known, *cut(data)], [known, known, known]]
    return asyncio.run(_post_each(answers))


POST: Final = (
    b"POST /ce HTTP/1.1\r\nHost: h:1\r\nce-specversion: 1.0\r\nce-id: 7\r\nce-source: /s\r\n"
    b"ce-type: t\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"
)


def http_heads(data: bytes) -> object:
    """Ask for requests at a glance, of shapes that were seen once, often and never."""
    posts = PlainPosts()
    for name in (b"Host", b"ce-specversion", b"ce-id", b"ce-source", b"ce-type"):
        posts.learn_name(name)
    for name in (b"Content-Type", b"Content-Length", b"Authorization", data[:9]):
        posts.learn_name(name)
    posts.learn_target(b"/ce", b"h:1", "/ce")
    posts.learn_target(data[5:8], b"h:1", "")
    asked = [posts.read(request, 0, 9) for request in (data, POST, data, *[POST] * 20, data)]
    more = [said(posts.read, POST + data, start, 2**40) for start in (0, len(POST), -1, 2**40)]
    return asked, more


class _Intake:
    """Keeps what is submitted; says what was refused."""

    def __init__(self) -> None:
        self.taken: list[Delivery] = []
        self.refused: list[object] = []

    def try_submit(self, deliveries: list[Delivery]) -> bool:
        self.taken += deliveries
        return len(deliveries) < 3  # lists of more are too many at once

    def rejected(self, reason: str, detail: str, count: int = 1) -> None:
        self.refused.append((reason, detail, count))


class _Sender(_Transport):
    """A transport of the other side: reading can be stopped, and writing ended."""

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 1) if name == "peername" else None

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.did.append("eof")

    def pause_reading(self) -> None:
        self.did.append("pause")

    def resume_reading(self) -> None:
        self.did.append("resume")


async def _receive(listener: Listener, pieces: list[bytes]) -> object:
    """Let a listener's connection read pieces; its events are settled after each of them."""
    intake = cast("_Intake", listener.intake)
    transport, found = _Sender(), list[object]()
    connection = Receiver(listener)
    connection.connection_made(cast("asyncio.Transport", transport))
    for number, piece in enumerate(pieces):
        connection.data_received(piece)
        await asyncio.sleep(0)
        taken = [delivery for delivery in intake.taken if not delivery.settled]
        found.append([delivery.events for delivery in intake.taken])
        intake.taken = []
        settle_all(taken, DRAINING if number % 5 == 4 else ACCEPTED)
        await asyncio.sleep(0)
    connection.expire(2.0**60)
    found.append([connection.is_idle, connection.eof_received()])
    connection.connection_lost(None)
    refused, intake.refused = intake.refused, []
    did = [
        re.sub(rb"Date: [^\r]*", b"", one) if type(one) is bytes else one for one in transport.did
    ]
    return found, did, refused


async def _receive_each(lists: list[list[bytes]]) -> object:
    config = HttpSourceConfig.model_validate({"name": "in", "listen": "127.0.0.1:0", "path": "*"})
    listener = Listener(config, cast("Any", _Intake()))
    try:
        return [await _receive(listener, pieces) for pieces in lists]
    finally:
        await listener.close()


def http_requests(data: bytes) -> object:
    """Ask what the source makes of requests, whole and cut, pipelined, and of shapes it knows."""
    lists = [[data], cut(data), [POST * 2, data, POST], [POST] * 20, [data], [POST + data + POST]]
    return asyncio.run(_receive_each(lists))


TARGETS: Final[dict[str, Target]] = {
    f"mqtt {peer.name} {version}": lambda data, peer=peer, version=version: mqtt(
        data, peer, version
    )
    for peer in Peer
    for version in (4, 5)
} | {
    target.__name__: target
    for target in (
        mqtt_stream, mqtt_parts, mqtt_write, nats_stream, nats_headers, nats_write,
        header_bindings,
        coap_datagram, coap_options, cbor_item, cbor_rows,
        pipeline_lists,
        http_answers, http_requests, http_heads,
    )
}  # fmt: skip
MODULES: Final = frozenset(
    {
        "bindings.binding",
        "bindings.header_layout",
        "bindings.wire.cbor",
        "bindings.wire.coap",
        "bindings.wire.http1_request",
        "bindings.wire.mqtt.decode",
        "bindings.wire.mqtt.encode",
        "bindings.wire.mqtt.property",
        "bindings.wire.mqtt.reader",
        "bindings.wire.nats",
        "gateway.batch",
        "gateway.dispatcher",
        "gateway.intake",
        "gateway.key_queue",
        "gateway.lane",
        "gateway.running_route",
        "gateway.sinks.http.connection",
        "gateway.sinks.http.job",
        "gateway.sinks.http.pool",
        "gateway.sinks.http.sink",
        "gateway.sources.http.answers",
        "gateway.sources.http.connection",
        "gateway.sources.http.exchange",
        "gateway.sources.http.incoming",
        "gateway.sources.http.listener",
    }
)
"""What the targets go through."""
