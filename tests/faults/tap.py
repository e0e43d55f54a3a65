"""Taps: what stands between the gateway and a broker, reads along and may cut the connection.

A tap sees what the gateway has acknowledged, which no broker tells. MQTT's judges each PUBACK: it
has to be about a message of its own connection, which has arrived at the sink.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable
from typing import Any, Final, Protocol, Self

from tests.e2e.servers import HOST, free_port
from tests.faults.ledger import Ledger

_EVENT: Final = re.compile(rb'"key":"([a-z0-9-]+)","n":(\d+),"filler"')
"""The beginning of the data of `Sample`, wherever it stands in a message."""


def event_in(data: bytes) -> tuple[str, int] | None:
    """Return key and number of the event that a message holds."""
    found = _EVENT.search(data)
    return (found[1].decode(), int(found[2])) if found else None


class Watcher(Protocol):
    """Reads along on one connection; returns what is passed on."""

    def from_gateway(self, data: bytes) -> bytes:
        """Take what the gateway sent."""

    def from_broker(self, data: bytes) -> bytes:
        """Take what the broker sent."""


class Tap:
    """Listens for the gateway, connects each connection to the broker.

    Args:
        port: of the broker.
        watcher: makes the watcher of a connection.
    """

    def __init__(self, port: int, watcher: Callable[[], Watcher]) -> None:
        self.port = free_port()
        self._broker_port = port
        self._watcher = watcher
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Link(self), HOST, self.port)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        if self._server is not None:
            await self._server.wait_closed()

    def cut(self) -> None:
        """End all connections, without a word, in both directions."""
        for link in list(self._links):
            link.end()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


class _Link(asyncio.Protocol):
    """The gateway's side of a connection; `_BrokerSide` is the other one."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self.watcher = tap._watcher()
        self.transport: Any = None
        self._broker: _BrokerSide | None = None
        self._early: list[bytes] = []
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._tap._links.add(self)
        self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        try:
            _, self._broker = await asyncio.get_running_loop().create_connection(
                lambda: _BrokerSide(self), HOST, self._tap._broker_port
            )
        except OSError:
            self.end()
            return
        for data in self._early:
            self._broker.transport.write(data)
        self._early.clear()
        if self.transport.is_closing():
            self.end()

    def data_received(self, data: bytes) -> None:
        data = self.watcher.from_gateway(data)
        if self._broker is None:
            self._early.append(data)
        else:
            self._broker.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tap._links.discard(self)
        if self._broker is not None:
            self._broker.transport.close()  # what was written still arrives

    def end(self) -> None:
        self.transport.abort()
        if self._broker is not None:
            self._broker.transport.abort()


class _BrokerSide(asyncio.Protocol):
    def __init__(self, link: _Link) -> None:
        self._link = link
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._link.transport.is_closing():
            self._link.transport.write(self._link.watcher.from_broker(data))

    def connection_lost(self, exc: Exception | None) -> None:
        with contextlib.suppress(RuntimeError):
            self._link.transport.close()


class MqttWatch:
    """What all connections of an MQTT tap have seen.

    Attributes:
        stale: acknowledgements that no message of their connection asked for, and of messages that
            had not arrived at the sink.
        acknowledged: how many were right.
        sessions: of each CONNACK, whether the session was there.
        repeated: messages with DUP.
        messages: all of them.

    Args:
        ledger: where arrivals at the sink are looked up; None: what is acknowledged need not have
            arrived, as there is a spool.
        acknowledges: the gateway's acknowledgement is the one that counts: put it in the ledger.
    """

    def __init__(self, ledger: Ledger | None, *, acknowledges: bool = False) -> None:
        self.stale: list[str] = []
        self.acknowledged = 0
        self.repeated = 0
        self.sessions: list[bool] = []
        self.messages = 0
        self._ledger = ledger
        self._acknowledges = acknowledges

    @property
    def resumptions(self) -> int:
        """How often the gateway has had its session again."""
        return len(self.sessions)

    def connection(self) -> Watcher:
        return _MqttConnection(self)

    def acknowledge(self, event: tuple[str, int] | None, packet_id: int) -> None:
        """Judge an acknowledgement; `event` is what its connection's message had."""
        if event is None:
            self.stale.append(f"PUBACK {packet_id} of no message")
            return
        if self._acknowledges and self._ledger is not None:
            self._ledger.ack(*event)
        if self._ledger is not None and not self._ledger.account.arrivals(*event):
            self.stale.append(f"PUBACK {packet_id} of {event[0]}-{event[1]}, which had not arrived")
        self.acknowledged += 1


class _MqttConnection:
    def __init__(self, watch: MqttWatch) -> None:
        self._watch = watch
        self._pending: dict[int, tuple[str, int] | None] = {}
        self._up, self._down = MqttPackets(), MqttPackets()

    def from_gateway(self, data: bytes) -> bytes:
        for first, body in self._up.feed(data):
            if first >> 4 == 4:
                packet_id = int.from_bytes(body[:2], "big")
                self._watch.acknowledge(self._pending.pop(packet_id, None), packet_id)
        return data

    def from_broker(self, data: bytes) -> bytes:
        for first, body in self._down.feed(data):
            if first >> 4 == 2:
                self._watch.sessions.append(bool(body[0] & 1))
            elif first >> 4 == 3 and first & 6:
                self._watch.repeated += first >> 3 & 1
                at = 2 + int.from_bytes(body[:2], "big")
                packet_id = int.from_bytes(body[at : at + 2], "big")
                self._pending[packet_id] = event_in(body)
                self._watch.messages += 1
        return data


class MqttPackets:
    """Cuts a stream into packets: their first byte and their body."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        self._buffer += data
        found = []
        while (packet := self._next()) is not None:
            found.append(packet)
        return found

    def _next(self) -> tuple[int, bytes] | None:
        length = shift = 0
        for end, byte in enumerate(self._buffer[1:5], 2):
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                if len(self._buffer) < end + length:
                    return None
                packet = self._buffer[0], bytes(self._buffer[end : end + length])
                del self._buffer[: end + length]
                return packet
        return None


class NatsWatch:
    """What all connections of a NATS tap to a stream have seen, and its acknowledgements.

    Attributes:
        stale: acknowledgements of messages that had not arrived at the sink, or of a stream that
            is no more.
        acknowledged: how many were right.
        repeated: messages whose event had come before.
        swallowed: how many were not passed on.
        swallows: pass no acknowledgement on.
        generation: counted up by whoever makes the stream anew.
        messages: those that went to the gateway.
        resumptions: how often it has asked for some.

    Args:
        ledger: where arrivals at the sink are looked up; None: what is acknowledged need not have
            arrived, as there is a spool.
    """

    def __init__(self, ledger: Ledger | None) -> None:
        self.stale: list[str] = []
        self.acknowledged = 0
        self.repeated = 0
        self.swallowed = 0
        self.swallows = False
        self.generation = 0
        self.messages = self.resumptions = 0
        self._ledger = ledger
        self._tokens: dict[bytes, tuple[int, tuple[str, int] | None]] = {}
        self._seen: set[tuple[str, int] | None] = set()

    def connection(self) -> Watcher:
        return _NatsConnection(self)

    def message(self, token: bytes, body: bytes) -> None:
        event = event_in(body)
        self._tokens[token] = self.generation, event
        self.repeated += event in self._seen
        self._seen.add(event)
        self.messages += 1

    def acknowledge(self, token: bytes) -> bool:
        """Judge an acknowledgement; returns whether it may go on."""
        known = self._tokens.get(token)
        if known is None or known[1] is None:
            self.stale.append(f"acknowledgement {token!r} of no message")
            return True
        generation, (key, number) = known
        if generation != self.generation:
            self.stale.append(f"acknowledgement of {key}-{number} to a new stream")
        elif self._ledger is not None and not self._ledger.account.arrivals(key, number):
            self.stale.append(f"acknowledgement of {key}-{number}, which had not arrived")
        self.acknowledged += 1
        self.swallowed += self.swallows
        return not self.swallows


class _NatsConnection:
    def __init__(self, watch: NatsWatch) -> None:
        self._watch = watch
        self._up, self._down = NatsLines(), NatsLines()

    def from_gateway(self, data: bytes) -> bytes:
        passed = []
        for words, whole, body in self._up.feed(data):
            self._watch.resumptions += whole.startswith(b"PUB $JS.API.CONSUMER.MSG.NEXT.")
            is_ack = words[0] == b"PUB" and words[1].startswith(b"$JS.ACK.") and body[:4] == b"+ACK"
            if not is_ack or self._watch.acknowledge(words[1]):
                passed.append(whole)
        return b"".join(passed)

    def from_broker(self, data: bytes) -> bytes:
        for words, _, body in self._down.feed(data):
            for word in words[2:5]:
                if word.startswith(b"$JS.ACK."):
                    self._watch.message(word, body)
        return data


class NatsLines:
    """Cuts a stream into operations: their words, all their bytes, and what follows the line."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[tuple[list[bytes], bytes, bytes]]:
        self._buffer += data
        found, start = [], 0
        while True:
            end = self._buffer.find(b"\r\n", start)
            if end < 0:
                break
            end += 2
            words = self._buffer[start:end].split()
            size = 0
            if words and words[0] in {b"PUB", b"HPUB", b"MSG", b"HMSG"}:
                size = int(words[-1]) + 2
            if len(self._buffer) < end + size:
                break
            whole = self._buffer[start : end + size]
            found.append((words or [b""], whole, self._buffer[end : end + size]))
            start = end + size
        self._buffer = self._buffer[start:]
        return found
