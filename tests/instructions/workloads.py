"""The hot functions on fixed inputs. Each workload prepares `count` events, and returns the work.

What is prepared is not counted: lists are cut as a read would bring them, strings are new objects.
"""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import uvloop

from bindings.binding import Message
from bindings.coap import Moment, Peer, Route, decode_request, read_request
from bindings.event import Event
from bindings.http import HTTP
from bindings.json_format import decode_event, encode_event
from bindings.kafka import KAFKA
from bindings.nats import NATS
from bindings.wire import coap
from bindings.wire import nats as nats_wire
from bindings.wire.mqtt import PacketReader, Publish, encode_pubacks
from bindings.wire.mqtt import Peer as MqttPeer
from gateway.delivery import Delivery
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.router import Route as EventRoute
from gateway.sources.mqtt_message import MessageDecoder
from gateway.spool import Spool
from gateway.target import Target
from tests.instructions import inputs

Work = Callable[[], object]
READ: Final = 128
"""Messages that a read brings."""
_ROUTE: Final = Route(any_source=True)
_PEER: Final = Peer(b"127.0.0.1:5683", "coap://127.0.0.1")
_MOMENT: Final = Moment(1764000000.0, "2025-11-24T16:00:00Z")


def _reads(messages: Sequence[bytes]) -> list[bytes]:
    return [b"".join(messages[at : at + READ]) for at in range(0, len(messages), READ)]


def _events(first: int, count: int) -> list[Event]:
    """Return events as binary mode brings them: nothing of them is encoded yet."""
    return [
        HTTP.decode(Message(inputs.DATA, "application/json", inputs.http_headers(number)))[0]
        for number in range(first, first + count)
    ]


def _fresh(pairs: inputs.Attributes) -> inputs.Attributes:
    return [(name.encode().decode(), value.encode().decode()) for name, value in pairs]


def mqtt_publish(first: int, count: int) -> Work:
    reads = _reads([inputs.mqtt_publish(first + number) for number in range(count)])
    reader = PacketReader(MqttPeer.SERVER_RAW)
    decoder = MessageDecoder(None, 1 << 20)

    def work() -> None:
        for read in reads:
            for packet in reader.feed(read):
                assert isinstance(packet, Publish)
                decoder.decode(packet, 5, {})

    return work


def mqtt_puback(first: int, count: int) -> Work:
    identifiers = [number % 65535 + 1 for number in range(first, first + count)]

    def work() -> None:
        for at in range(0, count, READ):
            encode_pubacks(identifiers[at : at + READ])

    return work


def nats_message(first: int, count: int) -> Work:
    reads = _reads([inputs.nats_message(first + number) for number in range(count)])
    parser = nats_wire.Parser()

    def work() -> None:
        for read in reads:
            for message in parser.feed(read)[0]:
                headers = nats_wire.parse_headers(message.header)
                content_type = headers.get("content-type")
                NATS.decode(Message(message.payload, content_type, headers.pairs, message.subject))

    return work


def http_decode(first: int, count: int) -> Work:
    messages = [
        Message(inputs.DATA, "application/json", _fresh(inputs.http_headers(first + number)), "/")
        for number in range(count)
    ]

    def work() -> None:
        for message in messages:
            HTTP.decode(message)

    return work


def coap_request(first: int, count: int) -> Work:
    datagrams = [inputs.coap_request(first + number) for number in range(count)]

    def work() -> None:
        for datagram in datagrams:
            message = coap.parse(datagram)
            decode_request(read_request(message), message.payload, _ROUTE, _PEER, _MOMENT)

    return work


def json_encode(first: int, count: int) -> Work:
    events = _events(first, count)

    def work() -> None:
        for event in events:
            encode_event(event)

    return work


def json_decode(first: int, count: int) -> Work:
    payloads = [inputs.structured(first + number) for number in range(count)]

    def work() -> None:
        for payload in payloads:
            decode_event(payload)

    return work


def kafka_encode(first: int, count: int) -> Work:
    events = _events(first, count)

    def work() -> None:
        for event in events:
            KAFKA.encode(event, "structured")

    return work


class _NullSink:
    async def open(self) -> None: ...

    async def send(self, events: Sequence[Event], timeout: float | None = None) -> tuple[()]:
        return ()

    async def close(self) -> None: ...


def pipeline(size: int, first: int, count: int) -> Work:
    """From `submit` to `settle`, in lists of `size`."""
    events = _events(first, count)
    loop = uvloop.new_event_loop()
    running = Pipeline(
        [EventRoute(name="bench", sinks=["null"])],
        {"null": Target(name="null", sink=_NullSink(), address="null")},
        Metrics(),
    )
    loop.run_until_complete(_start(running))
    intake = running.intake("bench")

    async def submit() -> None:
        settled = 0

        def on_settled(_: object) -> None:
            nonlocal settled
            settled += 1

        for start in range(0, count, size):
            chunk = events[start : start + size]
            await intake.submit([Delivery((event,), on_settled) for event in chunk])
            while settled < start + len(chunk):
                await asyncio.sleep(0)

    return lambda: loop.run_until_complete(submit())


async def _start(running: Pipeline) -> None:
    running.start()


def spool(first: int, count: int) -> Work:
    """Append and read, in lists of `READ`; both threads.

    Without `done`, which saves by the clock.
    """
    records = [inputs.structured(first + number) for number in range(count)]
    loop = uvloop.new_event_loop()
    folder = Path(tempfile.mkdtemp(prefix="instructions-"))
    log = Spool(folder / "lane", max_bytes=1 << 28, min_free_share=0.0)

    async def prepare() -> None:
        log.open()

    async def store() -> None:
        stored = asyncio.Event()
        for start in range(0, count, READ):
            log.append(records[start : start + READ], lambda _first, _error: stored.set())
            await stored.wait()
            stored.clear()
        while log.read(READ, 1 << 20):
            pass

    loop.run_until_complete(prepare())
    return lambda: loop.run_until_complete(store())


WORKLOADS: Final[dict[str, Callable[[int, int], Work]]] = {
    "MQTT PUBLISH, parse and decode": mqtt_publish,
    "MQTT PUBACK, encode": mqtt_puback,
    "NATS message, parse and decode": nats_message,
    "HTTP binary, decode": http_decode,
    "CoAP request, parse and decode": coap_request,
    "JSON event, encode": json_encode,
    "JSON event, decode": json_decode,
    "Kafka structured, encode": kafka_encode,
    "pipeline, lists of 1": partial(pipeline, 1),
    "pipeline, lists of 256": partial(pipeline, 256),
    "spool, append and read": spool,
}
