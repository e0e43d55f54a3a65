"""An MQTT broker that does nothing but send the load to who subscribes.

It speaks MQTT 5 and 3.1.1 as far as a subscriber needs it, honours Receive Maximum, and has as many
messages under way as that and its own window allow, in large writes: the broker of a subscriber
that does not keep up. Several connections share the load, as with a shared subscription. What a
connection leaves unacknowledged is sent again to the next one.
"""

import asyncio
from collections import deque
from typing import Any, Final

import uvloop

from tests.benchmarks.frames import BLOCK, PACKET_IDS, MqttFrames, packet_id
from tests.benchmarks.generators.load import Load
from tests.benchmarks.worker import options
from tests.e2e.servers import HOST

_ACKS: Final = b"".join(
    b"\x40\x02" + packet_id(number).to_bytes(2, "big") for number in range(PACKET_IDS)
)
_HIGH_WATER: Final = 1 << 18
_RECEIVE_MAXIMUM: Final = 0x21
_LENGTHS: Final = {
    0x01: 1, 0x02: 4, 0x11: 4, 0x17: 1, 0x19: 1, 0x21: 2, 0x22: 2, 0x24: 1, 0x27: 4,
}  # fmt: skip
"""Of the properties of CONNECT that have a fixed length (MQTT 5 2.2.2.2)."""


class Broker:
    """The load, and who has subscribed to it."""

    def __init__(self, load: Load, version: int, qos: int, window: int) -> None:
        self.load = load
        self.qos = qos
        self.window = window
        self.again: deque[int] = deque()
        self.subscribers: list[Connection] = []
        self._frames = {version: MqttFrames(version, qos)}
        self._turn = 0

    def pump(self) -> None:
        """Send what may be sent, in turns."""
        for _ in range(len(self.subscribers)):
            self._turn = (self._turn + 1) % len(self.subscribers)
            self.subscribers[self._turn].pump()

    def frames(self, version: int) -> MqttFrames:
        if version not in self._frames:
            self._frames[version] = MqttFrames(version, self.qos)
        return self._frames[version]


class Connection(asyncio.Protocol):
    """A client."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._load = broker.load
        self._transport: Any = None
        self._buffer = b""
        self._version = 5
        self._window = broker.window
        self._paused = False
        self._under_way = 0
        # Ranges of numbers in the order of their acknowledgement, until one comes out of order.
        self._ranges: deque[list[int]] = deque()
        self._numbers: set[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._broker.subscribers:
            self._broker.subscribers.remove(self)
        self._scatter()
        self._broker.again.extend(sorted(self._numbers or ()))
        self._broker.pump()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.pump()

    def pump(self) -> None:
        """Send what may be sent on this connection."""
        load, broker, frames = self._load, self._broker, self._broker.frames(self._version)
        while not self._paused:
            room = self._window - self._under_way if broker.qos else BLOCK
            if room > 0 and broker.again:
                number = broker.again.popleft()
                frame = bytearray(frames.take(number, 1))
                frame[0] |= 8  # DUP
                self._transport.write(frame)
                self._expect(number, 1)
                continue
            count = min(load.room(), room, BLOCK - load.next % BLOCK)
            if count <= 0:
                return
            self._transport.write(frames.take(load.next, count))
            self._expect(load.next, count)
            load.sent(count)

    def _expect(self, first: int, count: int) -> None:
        if not self._broker.qos:
            return
        self._under_way += count
        if self._numbers is not None:
            self._numbers.update(range(first, first + count))
        elif self._ranges and self._ranges[-1][1] == first:
            self._ranges[-1][1] += count
        else:
            self._ranges.append([first, first + count])

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        at, size = 0, len(data)
        while at + 2 <= size:
            kind = data[at]
            if kind == 0x40 and data[at + 1] == 2 and self._numbers is None:
                taken = self._acknowledged_in_order(data, at)
                if taken:
                    at += taken
                    continue
            length, shift, body = 0, 0, at + 1
            while body < size:
                length |= (data[body] & 0x7F) << shift
                shift += 7
                body += 1
                if data[body - 1] < 0x80:
                    break
            else:
                break
            if body + length > size:
                break
            self._packet(kind, data[body : body + length])
            at = body + length
        self._buffer = data[at:]
        self.pump()

    def _acknowledged_in_order(self, data: bytes, at: int) -> int:
        """Take the PUBACKs that are the next expected ones; returns their bytes."""
        if not self._ranges:
            return 0
        first, end = self._ranges[0]
        place = first % PACKET_IDS
        count = min(end - first, (len(data) - at) // 4, PACKET_IDS - place)
        expected = _ACKS[place * 4 : (place + count) * 4]
        if not data.startswith(expected, at):
            count = 0
            while data.startswith(expected[count * 4 : count * 4 + 4], at + count * 4):
                count += 1
            if not count:
                return 0
        if first + count == end:
            self._ranges.popleft()
        else:
            self._ranges[0][0] += count
        self._under_way -= count
        self._load.answered(first, count)
        return count * 4

    def _packet(self, kind: int, body: bytes) -> None:
        match kind >> 4:
            case 1:
                self._connect(body)
            case 4:
                self._puback(body)
            case 8:
                self._subscribe(body)
            case 10:  # UNSUBSCRIBE
                reasons = b"\x00\x00" if self._version == 5 else b""
                self._reply(0xB0, body[:2] + reasons)
            case 12:
                self._transport.write(b"\xd0\x00")
            case 14:
                self._transport.close()
            case _:
                raise RuntimeError(f"packet type {kind >> 4}")

    def _connect(self, body: bytes) -> None:
        self._version = body[6]
        if self._version == 5:
            at = 11
            end = at + body[10]  # clients have less than 128 bytes of properties
            while at < end:
                name = body[at]
                if name == _RECEIVE_MAXIMUM:
                    maximum = int.from_bytes(body[at + 1 : at + 3], "big")
                    self._window = min(self._window, maximum)
                if name in _LENGTHS:
                    at += 1 + _LENGTHS[name]
                else:
                    for _ in range(2 if name == 0x26 else 1):
                        at += 2 + int.from_bytes(body[at + 1 : at + 3], "big")
                    at += 1
            self._reply(0x20, b"\x00\x00\x00")
        else:
            self._reply(0x20, b"\x00\x00")

    def _subscribe(self, body: bytes) -> None:
        at, filters = 2, 0
        if self._version == 5:
            at += 1 + body[2]
        while at < len(body):
            at += 3 + int.from_bytes(body[at : at + 2], "big")
            filters += 1
        properties = b"\x00" if self._version == 5 else b""
        self._reply(0x90, body[:2] + properties + bytes([self._broker.qos]) * filters)
        if self not in self._broker.subscribers:
            self._broker.subscribers.append(self)

    def _puback(self, body: bytes) -> None:
        self._scatter()
        assert self._numbers is not None
        place = int.from_bytes(body[:2], "big") - 1
        last = self._load.next - 1
        number = last - (last - place) % PACKET_IDS
        if number not in self._numbers:
            raise RuntimeError(f"a PUBACK for {place + 1}, which was not sent")
        self._numbers.remove(number)
        self._under_way -= 1
        if len(body) > 2 and body[2] >= 0x80:
            self._load.refused += 1
        else:
            self._load.answered(number)

    def _scatter(self) -> None:
        if self._numbers is None:
            self._numbers = set()
            for first, end in self._ranges:
                self._numbers.update(range(first, end))
            self._ranges.clear()

    def _reply(self, kind: int, body: bytes) -> None:
        self._transport.write(bytes([kind, len(body)]) + body)


async def _serve(*, version: int = 5, qos: int = 1, window: int = 1000, **load: Any) -> None:
    broker = Broker(Load(**load), version, qos, window)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(broker), HOST, 0)
    await broker.load.run(broker.pump, port=server.sockets[0].getsockname()[1])
    server.close()


if __name__ == "__main__":
    uvloop.run(_serve(**options()))
