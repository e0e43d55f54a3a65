"""CPU time of decode, encode and the pipeline, in this process, without I/O.

The event: 200 bytes of JSON data and eight attributes; id and time differ from event to event, the
rest repeats over 200 devices, as in a fleet.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import uvloop

from bindings.binding import Message
from bindings.event import Event
from bindings.http import HTTP
from bindings.kafka import KAFKA
from bindings.mqtt import MQTT
from bindings.nats import NATS
from bindings.wire import mqtt, nats
from gateway.delivery import Delivery
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.router import Route
from gateway.target import Target
from tests.benchmarks.machine import spread, table

COUNT = 2000
ROUNDS = 7


def make_events(count: int = COUNT) -> list[Event]:
    """Return events of 200 bytes of data and eight attributes."""
    data = json.dumps({"temperature": 21.5, "unit": "C", "pad": "x" * 155}).encode()
    assert len(data) == 200, len(data)
    return [
        Event(
            id=f"b3c1f2d4-{number:08d}",
            source=f"/devices/dev{number % 200}",
            type="com.example.temperature.v1",
            datacontenttype="application/json",
            subject=f"room-{number % 50}",
            time=f"2026-11-22T10:{number // 60 % 60:02d}:{number % 60:02d}.123Z",
            extensions={"partitionkey": f"dev{number % 200}"},
            data=data,
        )
        for number in range(count)
    ]


def measure(work: Callable[[Any], object], items: Sequence[object]) -> list[float]:
    """Return CPU microseconds per item of each round."""
    figures = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for item in items:
            work(item)
        figures.append((time.process_time() - started) / len(items) * 1e6)
    return figures


def fresh(message: Message) -> Message:
    """Return a copy whose strings are new objects, as from a socket: no cached hashes."""
    return Message(
        message.payload,
        message.content_type,
        [(name.encode().decode(), value.encode().decode()) for name, value in message.headers],
        message.address,
    )


def run() -> None:
    """Print the tables."""
    events = make_events()
    rows = []
    for binding in (HTTP, MQTT, NATS, KAFKA):
        for mode in ("binary", "structured"):
            messages = [fresh(binding.encode(event, mode)) for event in events]
            # What was decoded from structured mode keeps its bytes, and encode copies them.
            plain = [event.replace() for event in events]
            rows.append(
                (
                    binding.name,
                    mode,
                    spread(measure(binding.decode, messages)),
                    spread(measure(lambda event, b=binding, m=mode: b.encode(event, m), plain)),
                )
            )
    print("\nCPU microseconds per event, median (best .. worst) of 7 rounds of 2000 events.")
    table(("binding", "mode", "decode", "encode"), rows)
    table(
        ("bytes of a connection to messages, 100 a read", "CPU us per message"),
        [
            ("MQTT 5 PUBLISH, user properties", spread(mqtt_bytes(events[:100]))),
            ("NATS HMSG, headers", spread(nats_bytes(events[:100]))),
        ],
    )
    table(
        ("pipeline, events per list", "CPU us per event"),
        [(str(size), spread(uvloop.run(pipeline(size, events)))) for size in (1, 16, 256)],
    )


def mqtt_bytes(events: Sequence[Event]) -> list[float]:
    """Return CPU microseconds to parse a PUBLISH that carries one of `events` in binary mode."""
    packets = []
    for number, event in enumerate(events, 1):
        message = MQTT.encode(event, "binary")
        assert message.payload is not None
        publish = mqtt.Publish(
            "devices/1/events", message.payload, 1, number,
            content_type=message.content_type, user_properties=message.headers,
        )  # fmt: skip
        packets.append(mqtt.encode(publish, mqtt.V5))
    reader = mqtt.PacketReader(mqtt.Peer.SERVER)
    return [each / len(events) for each in measure(reader.feed, [b"".join(packets)] * 20)]


def nats_bytes(events: Sequence[Event]) -> list[float]:
    """Return CPU microseconds to parse an HMSG that carries one of `events` in binary mode."""
    messages = []
    for event in events:
        message = NATS.encode(event, "binary")
        assert message.payload is not None
        header = nats.encode_headers(message.headers)
        sizes = len(header), len(header) + len(message.payload)
        messages.append(b"HMSG devices.1 7 _INBOX.1 %d %d\r\n" % sizes)
        messages.append(header + message.payload + b"\r\n")
    parser = nats.Parser()

    def read(data: bytes) -> None:
        for message in parser.feed(data)[0]:
            nats.parse_headers(message.header)

    return [each / len(events) for each in measure(read, [b"".join(messages)] * 20)]


class NullSink:
    """Takes everything at once."""

    async def open(self) -> None: ...

    async def send(self, events: Sequence[Event], timeout: float | None = None) -> tuple[()]:
        return ()

    async def close(self) -> None: ...


async def pipeline(size: int, events: Sequence[Event]) -> list[float]:
    """Return CPU microseconds per event from submit to settle, a null sink behind it."""
    route = Route(name="bench", sinks=["null"])
    target = Target(name="null", sink=NullSink(), address="null")
    running = Pipeline([route], {"null": target}, Metrics())
    running.start()
    intake = running.intake("bench")
    settled = 0

    def on_settled(_: object) -> None:
        nonlocal settled
        settled += 1

    figures = []
    for _ in range(ROUNDS):
        settled = 0
        started = time.process_time()
        for start in range(0, len(events), size):
            chunk = events[start : start + size]
            await intake.submit([Delivery((event,), on_settled) for event in chunk])
        while settled < len(events):
            await asyncio.sleep(0)
        figures.append((time.process_time() - started) / len(events) * 1e6)
    await running.close()
    return figures
