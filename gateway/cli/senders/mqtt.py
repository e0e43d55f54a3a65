"""`ce-gateway send mqtt://...`: PUBLISH at QoS 0, 1 or 2, MQTT 5 or 3.1.1."""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Final, cast
from urllib.parse import unquote, urlsplit

from bindings.binding import Message
from bindings.errors import CloudEventError
from bindings.event import Event
from bindings.mqtt import MQTT, MQTT311
from bindings.wire.mqtt import (
    V5,
    V311,
    Ack,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketError,
    PacketReader,
    PacketType,
    Peer,
    Ping,
    Property,
    Publish,
    ReasonCode,
    Version,
    encode,
    encode_ack,
)
from bindings.wire.mqtt.reason import describe
from gateway.cli.senders import Plain, SendError, SendOptions
from gateway.config.records import TlsConfig
from gateway.errors import GatewayError
from gateway.tls import client_context

_KEEP_ALIVE_SECONDS: Final = 30
_RETURN_CODES: Final = {  # 3.1.1 section 3.2.2.3
    1: "unacceptable protocol version",
    2: "identifier rejected",
    3: "server unavailable",
    4: "bad user name or password",
    5: "not authorized",
}


class MqttSender:
    """Publishes to the topic in the URL's path (`mqtt://host/sensors/1`).

    It answers with the last acknowledgement, `PUBACK 0x00 Success`; at QoS 0 there is none.
    """

    def __init__(self, url: str, options: SendOptions) -> None:
        parts = urlsplit(url)
        self._topic = unquote(parts.path.removeprefix("/"))
        if not self._topic or set(self._topic) & set("+#\0"):
            raise SendError("no topic: write mqtt://host/TOPIC, without wildcards")
        self._secure = parts.scheme == "mqtts"
        self._host = parts.hostname or "localhost"
        self._port = parts.port or (8883 if self._secure else 1883)
        self._username = options.username or (parts.username and unquote(parts.username)) or None
        self._password = options.password or (parts.password and unquote(parts.password)) or None
        self._options = options
        self._version: Version = V311 if options.version == "3.1.1" else V5
        self._session: _Session | None = None

    async def open(self) -> None:
        options = self._options
        where = f"{self._host}:{self._port}"
        connect = Connect(
            self._version,
            "",
            keep_alive=_KEEP_ALIVE_SECONDS,
            username=self._username,
            password=None if self._password is None else self._password.encode(),
        )
        try:
            await self._connect(connect)
        except TimeoutError as error:
            await self.close()
            raise SendError(f"{where}: no CONNACK within {options.timeout:g} s") from error
        except (OSError, GatewayError) as error:
            raise SendError(f"no connection to {where}: {error}") from error
        except SendError:
            await self.close()
            raise

    async def _connect(self, connect: Connect) -> None:
        options = self._options
        context: ssl.SSLContext | None = None
        if self._secure:
            context = client_context(
                TlsConfig(
                    cert=options.cert, key=options.key, ca=options.ca,
                    verify=not options.insecure,
                )
            )  # fmt: skip
        async with asyncio.timeout(options.timeout):
            _, session = await asyncio.get_running_loop().create_connection(
                lambda: _Session(connect), self._host, self._port, ssl=context
            )
            self._session = session
            await session.connected

    async def send(self, message: Event | Plain) -> str:
        session = self._session
        if session is None:
            raise SendError("not connected")
        try:
            packet = self._packet(message)
            async with asyncio.timeout(self._options.timeout):
                return await session.publish(packet)
        except TimeoutError as error:
            raise SendError(f"no answer within {self._options.timeout:g} s") from error
        except (CloudEventError, ValueError) as error:
            raise SendError(f"MQTT can't carry this: {error}") from error

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.leave()
            await session.closed.wait()

    def _packet(self, message: Event | Plain) -> Publish:
        if isinstance(message, Plain):
            encoded = Message(message.payload, message.content_type)
        elif self._version == V311:
            encoded = MQTT311.encode(message, "structured")
        else:
            encoded = MQTT.encode(message, self._options.mode)
        return Publish(
            self._topic,
            encoded.payload or b"",
            self._options.qos,
            content_type=encoded.content_type,
            user_properties=encoded.headers,
        )


class _Session(asyncio.Protocol):
    """One connection; what is published in one turn of the loop leaves in one write."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._version = connect.version
        self._reader = PacketReader(Peer.SERVER, self._version)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._pending: dict[int, asyncio.Future[str]] = {}
        self._last_id = 0
        self._room = asyncio.Semaphore(0xFFFF)
        self._writable = asyncio.Event()
        self._writable.set()
        self._ping: asyncio.TimerHandle | None = None
        self._end = "the connection was closed"
        self.connected: asyncio.Future[None] = self._loop.create_future()
        self.closed = asyncio.Event()

    async def publish(self, packet: Publish) -> str:
        """Send a PUBLISH and return the last acknowledgement.

        Raises:
            SendError: refused, or the connection is lost.
        """
        await self._writable.wait()
        if not packet.qos:
            self._check_open()
            self._write(encode(packet, self._version))
            return "sent (QoS 0)"
        await self._room.acquire()
        try:
            self._check_open()
            packet_id = self._next_id()
            numbered = Publish(
                packet.topic,
                packet.payload,
                packet.qos,
                packet_id,
                content_type=packet.content_type,
                user_properties=packet.user_properties,
            )
            data = encode(numbered, self._version)
        except BaseException:
            self._room.release()
            raise
        answer: asyncio.Future[str] = self._loop.create_future()
        self._pending[packet_id] = answer
        self._write(data)
        # A caller that has lost patience leaves the identifier taken until the answer comes.
        return await answer

    def leave(self) -> None:
        """Send DISCONNECT and close; nothing more is expected."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            self._write(encode(Disconnect(), self._version))
            self._flush()
            transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is its own
        self._transport.write(encode(self._connect, self._version))
        self._ping = self._loop.call_later(_KEEP_ALIVE_SECONDS / 2, self._keep_alive)

    def data_received(self, data: bytes) -> None:
        error: PacketError | None = None
        packets: Sequence[Packet]
        try:
            packets = self._reader.feed(data)
        except PacketError as wrong:
            error, packets = wrong, wrong.packets
        for packet in packets:
            self._handle(packet)
        if error is not None:
            self._fail(f"the server broke the protocol: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ping is not None:
            self._ping.cancel()
        if exc is not None:
            self._end = str(exc)
        self._writable.set()
        if not self.connected.done():
            self.connected.set_exception(SendError(self._end))
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(SendError(self._end))
        for _ in range(len(self._pending)):
            self._room.release()
        self._pending.clear()
        self.closed.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _handle(self, packet: Packet) -> None:
        if isinstance(packet, Ack):
            self._acknowledged(packet)
        elif isinstance(packet, Connack) and not self.connected.done():
            self._accepted(packet)
        elif isinstance(packet, Disconnect):
            self._fail(f"DISCONNECT {describe(packet.code)}{_reason(packet)}")
        elif not isinstance(packet, Ping):
            self._fail(f"{type(packet).__name__.upper()}, which nobody asked for")

    def _accepted(self, packet: Connack) -> None:
        if packet.code:
            text = describe(packet.code)
            if self._version == V311:
                text = f"{packet.code} {_RETURN_CODES.get(packet.code, '')}"
            self._fail(f"CONNACK {text}{_reason(packet)}")
            return
        window = packet.properties.get(Property.RECEIVE_MAXIMUM, 0xFFFF)
        assert isinstance(window, int)  # noqa: S101 - the property table says so
        self._room = asyncio.Semaphore(window)
        self.connected.set_result(None)

    def _acknowledged(self, packet: Ack) -> None:
        if packet.type == PacketType.PUBREC and packet.code < ReasonCode.UNSPECIFIED_ERROR:
            self._write(encode_ack(PacketType.PUBREL, packet.packet_id, 0, self._version))
            return
        answer = self._pending.pop(packet.packet_id, None)
        if answer is None:
            return
        self._room.release()
        if answer.done():
            return
        text = packet.type.name
        if self._version == V5:
            text += f" {describe(packet.code)}{_reason(packet)}"
        if packet.code >= ReasonCode.UNSPECIFIED_ERROR:
            answer.set_exception(SendError(text))
        else:
            answer.set_result(text)

    def _fail(self, text: str) -> None:
        self._end = text
        if self._transport is not None:
            self._transport.close()

    def _check_open(self) -> None:
        if self.closed.is_set() or self._transport is None or self._transport.is_closing():
            raise SendError(self._end)

    def _next_id(self) -> int:
        while True:
            self._last_id = self._last_id % 0xFFFF + 1
            if self._last_id not in self._pending:
                return self._last_id

    def _keep_alive(self) -> None:
        self._write(encode(Ping(PacketType.PINGREQ), self._version))
        self._ping = self._loop.call_later(_KEEP_ALIVE_SECONDS / 2, self._keep_alive)

    def _write(self, data: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        if self._out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()


def _reason(packet: Ack | Connack | Disconnect) -> str:
    reason = packet.properties.get(Property.REASON_STRING)
    return f": {reason}" if isinstance(reason, str) else ""
