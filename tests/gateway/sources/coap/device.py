"""A CoAP source on a loopback socket, and devices that talk to it byte by byte."""

import asyncio
import socket
from contextlib import asynccontextmanager

from gateway.config.records import Address
from gateway.sources.coap import CoapSource, CoapSourceConfig
from tests.helpers import RecordingIntake

TYPES = ("CON", "NON", "ACK", "RST")
PING = bytes.fromhex("4000fffe")
RESET = bytes.fromhex("7000fffe")
POST_T = bytes.fromhex("4102123407b1741132ff7b2261223a317d")  # CON POST /t, CF 50, {"a":1}
NON_T = bytes.fromhex("5102123407b1741132ff7b2261223a317d")


def config(**changes):
    changes.setdefault("listen", Address("127.0.0.1", 0))
    changes.setdefault("ack_after", 0.3)
    changes.setdefault("sink_timeout", 5)
    changes.setdefault("routes", routes())
    return CoapSourceConfig(name="field", protocol="coap", **changes)


def routes(max_event_bytes=65536):
    any_source = {"source_policy": "any"}
    return {
        "/ce": {"mode": "auto", "max_event_bytes": max_event_bytes, **any_source},
        "/ce/s": {"mode": "structured", **any_source},
        "/ce/b": {"mode": "batch", **any_source},
        "/t": {"mode": "auto", "type": "com.acme.temp.v1", **any_source},
        "/lab": {"mode": "auto", "lab_formats": True, **any_source},
        "/auth": {"mode": "auto", "authentication": "required", **any_source},
        "/own": {"mode": "auto"},
    }


@asynccontextmanager
async def running(intake, **changes):
    async with opened(config(**changes), intake) as source:
        yield source


@asynccontextmanager
async def running_untimed(intake, **changes):
    """A source whose time to acknowledge never comes, so that only a repetition is told to wait.

    No configuration may say that, as devices repeat after 2 s; those of the tests do as they like.
    """
    never = {"ack_after": 3600.0, "sink_timeout": 7200.0}
    async with opened(config(**changes).model_copy(update=never), intake) as source:
        yield source


@asynccontextmanager
async def opened(record, intake):
    source = CoapSource(record)
    await source.open(intake)
    try:
        yield source
    finally:
        await source.close()


class Device:
    """A UDP socket of its own port that talks to the source, and may turn to another one."""

    def __init__(self, source=None):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(("127.0.0.1", 0))
        if source is not None:
            self.turn_to(source)

    def turn_to(self, source):
        self.socket.connect(source.address)

    def send(self, datagram):
        self.socket.send(bytes.fromhex(datagram) if isinstance(datagram, str) else datagram)

    async def receive(self, seconds=5):
        async with asyncio.timeout(seconds):
            return await asyncio.get_running_loop().sock_recv(self.socket, 2048)

    async def ask(self, datagram):
        self.send(datagram)
        return await self.receive()

    async def expect_silence(self):
        """A ping overtakes nothing: if its reset comes first, there was no answer before."""
        assert await self.ask(PING) == RESET

    async def expect_silence_but(self, answers):
        """Wait for the reset of a ping; what comes before it is appended."""
        self.send(PING)
        while (datagram := await self.receive()) != RESET:
            answers.append(datagram)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def fields(datagram):
    """Take a message apart without our codec."""
    token_length = datagram[0] & 15
    options, number, position = {}, 0, 4 + token_length
    while position < len(datagram) and datagram[position] != 0xFF:
        delta, length = datagram[position] >> 4, datagram[position] & 15
        position += 1
        for name in ("delta", "length"):
            value = delta if name == "delta" else length
            if value == 13:
                value, position = datagram[position] + 13, position + 1
            elif value == 14:
                value = int.from_bytes(datagram[position : position + 2], "big") + 269
                position += 2
            delta, length = (value, length) if name == "delta" else (delta, value)
        number += delta
        options[number] = datagram[position : position + length]
        position += length
    return {
        "type": TYPES[datagram[0] >> 4 & 3],
        "code": f"{datagram[1] >> 5}.{datagram[1] & 31:02}",
        "mid": datagram[2:4],
        "token": datagram[4 : 4 + token_length],
        "options": options,
        "payload": datagram[position + 1 :],
    }


def post(mid, *, options=b"\xb1t\x11\x32", payload=b"1", kind=0x41):
    return (
        bytes((kind, 2))
        + mid.to_bytes(2, "big")
        + b"\x07"
        + options
        + (b"\xff" + payload if payload else b"")
    )


class CountingIntake(RecordingIntake):
    """Remembers how large each list was; has room for `free` deliveries."""

    def __init__(self, *arguments, free=10**9):
        super().__init__(*arguments)
        self.lists = []
        self.free = free

    def try_submit(self, deliveries):
        if len(deliveries) > self.free:
            return False
        self.free -= len(deliveries)
        self.lists.append(len(deliveries))
        return super().try_submit(deliveries)
