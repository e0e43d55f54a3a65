"""MQTT 5 publishers at QoS 1, to a broker that the gateway reads or to the gateway itself.

One connection; PUBLISHes follow each other without waiting, as far as the server's Receive Maximum
goes. After a lost connection everything unacknowledged is sent again in the old order.
"""

import asyncio
from collections import deque
from typing import Any, Final

from tests.faults.ledger import Ledger
from tests.faults.producers.producer import RECONNECT_SECONDS, Producer
from tests.faults.sample import Sample

_WINDOW: Final = 16
_CONTENT_TYPE: Final = b"\x03"
_USER_PROPERTY: Final = b"\x26"
_CONNACK, _PUBACK, _DISCONNECT = 2, 4, 14


def text(value: str) -> bytes:
    """Return a UTF-8 string with its length (section 1.5.4)."""
    raw = value.encode()
    return len(raw).to_bytes(2, "big") + raw


def varint(number: int) -> bytes:
    """Return a variable byte integer (section 1.5.5)."""
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (128 if number else 0))
        if not number:
            return bytes(out)


class MqttProducer(Producer):
    """Publishes events, in binary and structured mode by turns; PUBACK is the acknowledgement.

    Attributes:
        login: user and password; empty for neither.

    Args:
        name: of the input.
        port: of the broker or the gateway.
        topic: the key follows it.
    """

    login: tuple[str, ...] = ()

    def __init__(
        self, name: str, port: int, sample: Sample, ledger: Ledger, *, topic: str, **load: Any
    ) -> None:
        super().__init__(name, sample, ledger, **load)
        self._port = port
        self._topic = topic
        self._unacked: dict[int, tuple[str, int]] = {}  # by packet identifier, in order
        self._again: deque[tuple[str, int]] = deque()
        self._last_id = 0
        self._room = asyncio.Event()
        self._client: _Client | None = None

    async def _run(self) -> None:
        while not (self.stopping and not self._unacked and not self._again):
            try:
                async with asyncio.timeout(5):
                    self._client = await self.connect(lambda: _Client(self), self._port)
                    await self._client.connected
            except (OSError, TimeoutError):
                self._leave()
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            try:
                await self._publish_all(self._client)
            finally:
                self._leave()

    async def _publish_all(self, client: "_Client") -> None:
        self._again.extendleft(reversed(self._unacked.values()))
        self._unacked.clear()
        turn = 0
        while not client.is_closed:
            if self.stopping and not self._again:
                if not self._unacked:
                    return
                await self._wait()
                continue
            if len(self._unacked) >= _WINDOW:
                await self._wait()
                continue
            if self._again:
                key, number = self._again.popleft()
            else:
                await self.pace.turn()
                if self.stopping or client.is_closed:
                    continue
                key = self.keys[turn % len(self.keys)]
                turn += 1
                if key in self.silent:
                    continue
                number = self.next_number(key)
            packet_id = self._next_id()
            self.ledger.intent(key, number)
            self._unacked[packet_id] = (key, number)
            client.write(self._packet(packet_id, key, number))

    async def _wait(self) -> None:
        self._room.clear()
        await self._room.wait()

    def _leave(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _next_id(self) -> int:
        while True:
            self._last_id = self._last_id % 0xFFFF + 1
            if self._last_id not in self._unacked:
                return self._last_id

    def _packet(self, packet_id: int, key: str, number: int) -> bytes:
        if number % 2:
            payload = self.sample.structured(key, number)
            properties = _CONTENT_TYPE + text("application/cloudevents+json")
        else:
            payload = self.sample.data(key, number)
            attributes = self.sample.attributes(key, number)
            properties = _CONTENT_TYPE + text(attributes.pop("datacontenttype"))
            for name, value in attributes.items():
                properties += _USER_PROPERTY + text(name) + text(value)
        body = text(f"{self._topic}/{key}") + packet_id.to_bytes(2, "big")
        body += varint(len(properties)) + properties + payload
        return b"\x32" + varint(len(body)) + body

    # for its connection

    def on_puback(self, packet_id: int, code: int) -> None:
        event = self._unacked.pop(packet_id, None)
        if event is not None:
            if code < 0x80:
                self.ledger.ack(*event)
            else:
                self.ledger.refuse(*event, f"{code:#04x}")
        self._room.set()

    def on_closed(self) -> None:
        self._room.set()


class _Client(asyncio.Protocol):
    def __init__(self, producer: MqttProducer) -> None:
        self._producer = producer
        self._buffer = bytearray()
        self._transport: Any = None
        self.connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def close(self) -> None:
        self.is_closed = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        login = self._producer.login
        flags = b"\xc2" if login else b"\x02"  # Clean Start
        body = text("MQTT") + b"\x05" + flags + b"\x00\x00\x00"  # no keep-alive
        body += text(f"device-{self._producer.name}") + b"".join(map(text, login))
        self.write(b"\x10" + varint(len(body)) + body)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if not self.connected.done():
            self.connected.set_exception(ConnectionResetError())
            self.connected.exception()  # maybe nobody waits any more
        self._producer.on_closed()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (packet := self._next_packet()) is not None:
            kind, body = packet
            if kind == _PUBACK:
                code = body[2] if len(body) > 2 else 0
                self._producer.on_puback(int.from_bytes(body[:2], "big"), code)
            elif kind == _CONNACK:
                if body[1]:
                    self.close()
                elif not self.connected.done():
                    self.connected.set_result(None)
            elif kind == _DISCONNECT:
                self.close()

    def _next_packet(self) -> tuple[int, bytes] | None:
        length = shift = 0
        for position, byte in enumerate(self._buffer[1:5], 2):
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                if len(self._buffer) < position + length:
                    return None
                kind, body = self._buffer[0] >> 4, bytes(self._buffer[position : position + length])
                del self._buffer[: position + length]
                return kind, body
        return None
