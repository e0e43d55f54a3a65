"""paho's client with our own receive path, driven by the event loop.

This file is the seam: whatever it uses of paho's private names is checked by
`tests/gateway/sources/test_mqtt.py`, and the minor version of paho is pinned. paho gets a socket
that is connected already, so nothing in it blocks; everything runs in the event loop's thread.
While paho calls one of the functions at the end it holds a lock that closing needs: they write
nothing, as the socket may turn out to be broken.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.exception import MQTTException
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from bindings.wire.mqtt import (
    V5,
    V311,
    Ack,
    Disconnect,
    Packet,
    PacketError,
    PacketReader,
    PacketType,
    Peer,
    Ping,
    Publish,
    RawPacket,
    ReasonCode,
    Version,
    encode,
)
from bindings.wire.mqtt.reason import protocol_error
from gateway.sources.mqtt.config import MqttSourceConfig
from gateway.sources.mqtt.keep_alive import Due, KeepAlive

_READ_BYTES: Final = 256 * 1024
_MESSAGE_BYTES: Final = 1024
_SUCCESS: Final = MQTTErrorCode.MQTT_ERR_SUCCESS
_PING: Final = encode(Ping(PacketType.PINGREQ), V5)
_SMALLEST_LIMIT: Final = 16 * 2**20
"""A larger packet ends the connection; one above `max_event_bytes` only is refused by itself."""


class BrokerRefusedError(Exception):
    """The broker said no to CONNECT, or ended the connection; the text has its reason."""


class BrokerClient(paho.Client):
    """One connection to a broker.

    Args:
        config: the source's.
        sock: what `dial` returned.
        on_session: called with `session present` when CONNACK came, before any message.
        on_packets: takes PUBLISH and PUBREL packets, a list for each read.
        on_lost: called at once when the connection has ended, so that no answer is thought sent.

    Attributes:
        topics: what it subscribes to, with the QoS; known when CONNACK has come.
        granted: the reason codes of SUBACK, when it has come.
        heard: when the last message came or reading began or went on, in the loop's time.
        load: what messages weigh in memory: all bytes that were read, and 1 KiB for each message.
        lost: the reason, when the connection has ended.
        is_taken_over: whether it has ended since another client took the session (MQTT 5).
    """

    def __init__(
        self,
        config: MqttSourceConfig,
        sock: socket.socket | ssl.SSLSocket,
        on_session: Callable[[bool], None],
        on_packets: Callable[[Sequence[Publish | Ack]], None],
        on_lost: Callable[[], None],
    ) -> None:
        is_v5 = config.version == "5"
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=config.session_id,
            clean_session=None if is_v5 else config.clean,
            protocol=paho.MQTTv5 if is_v5 else paho.MQTTv311,
            reconnect_on_failure=False,
        )
        self.version: Version = V5 if is_v5 else V311
        self._config = config
        self._dialled = sock
        self._fd = sock.fileno()
        self._loop_ = asyncio.get_running_loop()
        self._on_session = on_session
        self._on_packets = on_packets
        self._on_lost = on_lost
        limit = max(_SMALLEST_LIMIT, 2 * config.limits.max_event_bytes)
        self._reader = PacketReader(Peer.SERVER_RAW, self.version, limit)
        self._paused = False
        self._greeted = False
        self._timer: asyncio.Handle | None = None
        self.topics = config.topics(shares=True)
        self.granted: asyncio.Future[Sequence[int]] = self._loop_.create_future()
        self.lost: asyncio.Future[str] = self._loop_.create_future()
        self.is_taken_over = False
        self.heard = self._loop_.time()
        self.load = 0
        self.suppress_exceptions = False
        if config.username is not None or config.password is not None:
            password = config.password.get_secret_value() if config.password else None
            self.username_pw_set(config.username, password)
        self.on_connect = self._connected
        self.on_disconnect = self._disconnected
        self.on_subscribe = self._subscribed
        self.on_socket_open = self._opened
        self.on_socket_close = self._closed
        self.on_socket_register_write = self._wants_write
        self.on_socket_unregister_write = self._wants_no_write

    def start(self) -> None:
        """Send CONNECT; the rest follows by itself."""
        config = self._config
        host, port = config.address
        properties = None
        if self.version == V5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 0 if config.clean else int(config.session_expiry)
            properties.ReceiveMaximum = config.receive_maximum
        self.connect_async(
            host,
            port,
            int(config.keep_alive),
            clean_start=config.clean,
            properties=properties,
        )
        self.reconnect()

    def subscribe_all(self) -> None:
        """Send SUBSCRIBE for every topic filter; `granted` gets the answer."""
        if self.granted.done():
            self.granted = self._loop_.create_future()
        if not self.topics:  # another worker has them
            self.granted.set_result([])
        elif self.version == V5:
            # Retained messages come with a new subscription, not again after each reconnection.
            self.subscribe(
                [(name, SubscribeOptions(qos=qos, retainHandling=1)) for name, qos in self.topics]
            )
        else:
            self.subscribe(list(self.topics))

    @property
    def paused(self) -> bool:
        """Whether reading has stopped."""
        return self._paused

    def pause(self) -> None:
        """Stop reading; the keep-alive goes on."""
        if not self._paused:
            self._paused = True
            if self._sock is not None:
                self._loop_.remove_reader(self._fd)

    def resume(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            self.heard = self._loop_.time()
            if self._sock is not None:
                self._loop_.add_reader(self._fd, self.loop_read)
                # TLS may hold bytes that the socket will never wake us for.
                self._loop_.call_soon(self.loop_read)

    def send(self, data: bytes) -> None:
        """Write whole packets, at once if the socket takes them."""
        if self._sock is None:
            return
        rest = data
        if not self._out_packet:
            # paho's own way, below, costs as much as all else that a small list does.
            try:
                sent = self._sock_send(data)
            except OSError:  # it is full, or broken and `loop_write` deals with that
                sent = 0
            if sent == len(data):
                self._last_msg_out = time.monotonic()
                return
            rest = data[sent:]
        self._out_packet.append(
            {
                "command": data[0],  # `rest` may begin with what paho takes for DISCONNECT
                "mid": 0,
                "qos": 1,
                "pos": 0,
                "to_process": len(rest),
                "packet": rest,
                "info": None,
            }
        )
        self.loop_write()

    def leave(self) -> None:
        """Send DISCONNECT and close the connection; the broker keeps the session."""
        if self._sock is not None:
            self.disconnect()
            self.loop_write()
        self.abort()

    def abort(self) -> None:
        """Close the connection without a word."""
        if self._sock is not None:
            self._sock_close()
        elif self._dialled.fileno() != -1:
            self._dialled.close()
        self._end("closed by us")

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:  # noqa: ARG002 - paho's signature
        """Read all that the socket holds, hand messages on and the rest to paho."""
        if self._sock is None or self._paused:
            return _SUCCESS
        try:
            data = self._receive()
        except BlockingIOError:
            return _SUCCESS
        except OSError:
            return self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
        self._last_bytes_received = time.monotonic()
        return self._handle(data)

    def _handle(self, data: bytes) -> MQTTErrorCode:
        error: PacketError | None = None
        packets: Sequence[Packet]
        try:
            packets = self._reader.feed(data)
        except PacketError as wrong:
            error, packets = wrong, wrong.packets
        messages = cast("Sequence[Publish | Ack]", packets)
        result = _SUCCESS
        if RawPacket in set(map(type, packets)):
            messages = [packet for packet in packets if isinstance(packet, (Publish, Ack))]
            for packet in packets:
                if isinstance(packet, RawPacket) and not result:
                    result = self._hand_to_paho(packet)
        if messages and not self._greeted:
            messages, error = (), protocol_error("PUBLISH before CONNACK")
        self.load += len(data) + _MESSAGE_BYTES * len(messages)
        if messages:
            self.heard = self._loop_.time()
            self._on_packets(messages)
        if error is not None:
            self._give_up(error)
        elif result and self._sock is not None:
            self._loop_rc_handle(result)
        return result

    def _receive(self) -> bytes:
        data = self._sock_recv(_READ_BYTES)
        if not data:
            raise ConnectionResetError("closed by the broker")
        if not isinstance(self._sock, ssl.SSLSocket):
            return data
        # TLS gives one record at a time, and many a broker writes a record for each message.
        parts, size = [data], len(data)
        while data and size < _READ_BYTES:
            try:
                data = self._sock_recv(_READ_BYTES)
            except BlockingIOError:
                break
            parts.append(data)
            size += len(data)
        if self._sock.pending():  # what is decrypted wakes nobody
            self._loop_.call_soon(self.loop_read)
        return b"".join(parts)

    def _hand_to_paho(self, packet: RawPacket) -> MQTTErrorCode:
        length = len(packet.body)
        self._in_packet = {
            "command": packet.first,
            "have_remaining": 1,
            "remaining_count": [],
            "remaining_mult": 1,
            "remaining_length": length,
            "packet": bytearray(packet.body),
            "to_process": 0,
            "pos": 0,
        }
        try:
            return self._packet_handle()
        except (MQTTException, IndexError, ValueError):
            # The broker broke the protocol in a packet that paho decodes.
            return MQTTErrorCode.MQTT_ERR_PROTOCOL

    def _give_up(self, error: PacketError) -> None:
        if self._sock is None:
            return
        self._end(f"the broker broke the protocol: {error}")
        if self.version == V5:
            self.send(encode(Disconnect(error.code), self.version))
        self.abort()

    def _keep_alive_from_now(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.keepalive:  # of CONNACK, if it named one
            # Not here: paho holds a lock while it calls us, and takes it to close a broken socket.
            self._timer = self._loop_.call_soon(self._tick, KeepAlive(self.keepalive))

    def _tick(self, keep_alive: KeepAlive) -> None:
        if self._paused:
            # What the broker says waits unread in the socket, so it must not seem silent.
            self._last_bytes_received = time.monotonic()
        # What paho had to queue it does not count as sent: that makes a ping too many at most.
        sent, heard = self._last_msg_out, self._last_bytes_received
        due = keep_alive.look(time.monotonic(), sent, heard)
        if due is Due.GIVE_UP:
            self.loop_read()  # whoever was suspended has yet to read what the broker said
            if self._last_bytes_received == heard:
                self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_KEEPALIVE)
        elif due is Due.PING and not self._is_ping_waiting():
            self.send(_PING)
        if self._sock is not None:
            self._timer = self._loop_.call_later(keep_alive.pause, self._tick, keep_alive)

    def _is_ping_waiting(self) -> bool:
        return bool(self._out_packet) and self._out_packet[-1]["packet"] is _PING

    def _end(self, reason: str) -> None:
        if self.lost.done():
            return
        self.lost.set_result(reason)
        self.granted.cancel()
        self._on_lost()

    def _create_socket(self) -> Any:
        return self._dialled

    # What paho calls; the arguments are paho's.

    def _connected(self, _c: Any, _u: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._end(f"the broker refused: {reason}")
            return
        # Absent is 1 (MQTT 5 3.2.2.3.13). 3.1.1 has neither; there a share was configured.
        shares = getattr(properties, "SharedSubscriptionAvailable", 1) == 1
        self.topics = self._config.topics(shares=shares)
        self._greeted = True
        self._keep_alive_from_now()
        self._on_session(flags.session_present)
        self.subscribe_all()
        # After SUBSCRIBE, so that nothing is missed between the two.
        left_over = self._config.left_over(self.topics) if flags.session_present else []
        if left_over and self._sock is not None:
            self.unsubscribe(left_over)

    def _subscribed(self, _c: Any, _u: Any, _mid: int, codes: Any, _properties: Any) -> None:
        if not self.granted.done():
            self.granted.set_result([code.value for code in codes])

    def _disconnected(self, _c: Any, _u: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.is_taken_over = reason == ReasonCode.SESSION_TAKEN_OVER
        # paho's word for an end without DISCONNECT tells a person nothing.
        text = str(reason)
        if self.is_taken_over:
            text = f"{text}: another client has the client_id {self._config.session_id!r}"
        self._end("the connection ended" if text == "Unspecified error" else text)

    def _opened(self, _c: Any, _u: Any, _sock: Any) -> None:
        if not self._paused:
            self._loop_.add_reader(self._fd, self.loop_read)

    def _closed(self, _c: Any, _u: Any, _sock: Any) -> None:
        self._loop_.remove_reader(self._fd)
        if self._timer is not None:
            self._timer.cancel()

    def _wants_write(self, _c: Any, _u: Any, _sock: Any) -> None:
        self._loop_.add_writer(self._fd, self.loop_write)

    def _wants_no_write(self, _c: Any, _u: Any, _sock: Any) -> None:
        self._loop_.remove_writer(self._fd)
