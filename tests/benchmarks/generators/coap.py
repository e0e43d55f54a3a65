"""CoAP endpoints (RFC 7252) that POST with CON, each with a few requests under way.

An answer may come with the acknowledgement or after it. What is not answered is repeated after two
seconds, with the same message ID, as section 4.2 says.
"""

import asyncio
import time
from typing import Any, Final

import uvloop

from tests.benchmarks.frames import Frames, coap_options
from tests.benchmarks.generators.load import Load
from tests.benchmarks.worker import options
from tests.e2e.servers import HOST

_REPEAT: Final = 2.0
_CON, _NON, _ACK, _RST = range(4)


class Client:
    """The load, and the endpoints."""

    def __init__(self, load: Load, window: int) -> None:
        self.load = load
        self.window = window
        self.frames = Frames(coap_options)
        self.endpoints: list[Endpoint] = []
        self._turn = 0

    def pump(self) -> None:
        """Send what may be sent, each endpoint in its turn."""
        load, endpoints = self.load, self.endpoints
        room = load.room()
        misses = 0
        while room and misses < len(endpoints):
            endpoint = endpoints[self._turn]
            self._turn = (self._turn + 1) % len(endpoints)
            if len(endpoint.under_way) < self.window:
                endpoint.send(load.next)
                load.sent(1)
                room -= 1
                misses = 0
            else:
                misses += 1

    def repeat(self) -> None:
        """Repeat what has had no answer; called every now and then."""
        now = time.monotonic()
        for endpoint in self.endpoints:
            endpoint.repeat(now)
        asyncio.get_running_loop().call_later(_REPEAT / 4, self.repeat)


class Endpoint(asyncio.DatagramProtocol):
    """A socket; the token is the event's number, and the message ID its lower half."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._load = client.load
        self._transport: Any = None
        self._next_id = 0
        self.under_way: dict[bytes, tuple[int, bytes, float]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._client.endpoints.append(self)

    def send(self, number: int) -> None:
        """Send a request."""
        token = number.to_bytes(4, "big")
        self._next_id = (self._next_id + 1) & 0xFFFF
        head = b"\x44\x02" + self._next_id.to_bytes(2, "big") + token
        datagram = head + self._client.frames.take(number, 1)
        self.under_way[token] = (number, datagram, time.monotonic())
        self._transport.sendto(datagram)

    def repeat(self, now: float) -> None:
        """Repeat what has waited for long."""
        for token, (number, datagram, sent) in list(self.under_way.items()):
            if now - sent > _REPEAT:
                self.under_way[token] = (number, datagram, now)
                self._transport.sendto(datagram)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        kind, code = data[0] >> 4 & 3, data[1]
        if kind == _CON:  # a separate answer
            self._transport.sendto(b"\x60\x00" + data[2:4])
        if code == 0:
            return
        found = self.under_way.pop(data[4:8], None)
        if found is None:
            return
        if code >> 5 == 2:
            self._load.answered(found[0])
        else:
            self._load.refused += 1
        load = self._load
        if load.room():
            self.send(load.next)
            load.sent(1)


async def _send(*, port: int, endpoints: int = 200, window: int = 4, **load: Any) -> None:
    client = Client(Load(**load), window)
    loop = asyncio.get_running_loop()
    for _ in range(endpoints):
        await loop.create_datagram_endpoint(lambda: Endpoint(client), remote_addr=(HOST, port))
    client.repeat()
    await client.load.run(client.pump)


if __name__ == "__main__":
    uvloop.run(_send(**options()))
