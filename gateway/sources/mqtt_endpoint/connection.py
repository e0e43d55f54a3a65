"""One device's connection: packets in, answers out, one submit for each read."""

import asyncio
from collections.abc import Sequence
from typing import Final, cast

from bindings.errors import CloudEventError
from bindings.wire.mqtt import (
    V5,
    V311,
    Ack,
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
    Subscribe,
    Unsubscribe,
    Will,
    encode,
)
from bindings.wire.mqtt.reason import protocol_error
from gateway.sources.backlog import Gate
from gateway.sources.mqtt_endpoint.admission import (
    OVERHEAD_BYTES,
    client_id_of,
    common_name,
    connack_of,
    connack_of_refusal,
    expiry_of,
    refusal,
    refused_subscription,
)
from gateway.sources.mqtt_endpoint.alias import TopicAliases
from gateway.sources.mqtt_endpoint.session import Host, Session

_CONNECT: Final = b"\x10"
_PINGRESP: Final = b"\xd0\x00"
_LINGER_SECONDS: Final = 5.0
"""A peer that does not take our last words is cut off after that."""


class Connection(asyncio.Protocol):
    """The server's side of one connection.

    Args:
        host: what the connections share.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        limit = host.config.limits.max_event_bytes + OVERHEAD_BYTES
        self._reader = PacketReader(Peer.CLIENT, V311, limit)
        self._gate: Gate | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._session: Session | None = None
        self._connect: Connect | None = None
        self._will: Will | None = None
        self._aliases = TopicAliases()
        self._batch: list[Publish | Ack] = []
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._last_heard = 0.0
        self._closing = False
        self._write_blocked = False
        self._reading_paused = False
        self.closed: asyncio.Future[None] = self._loop.create_future()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = self._transport = cast("asyncio.Transport", transport)  # uvloop's is its own
        host = self._host
        if len(host.connections) >= host.config.max_connections:
            host.intake.rejected("too_many_connections", "a device was not let in", 0)
            self._closing = True
            transport.abort()
            return
        host.connections.add(self)
        self._deadline = self._loop.call_later(host.config.connect_timeout, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why is of no matter
        self._closing = True
        self._detach()
        if not self._is_shut:
            self._host.connections.discard(self)
        for timer in (self._deadline, self._stall, self._linger):
            if timer is not None:
                timer.cancel()
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._last_heard = self._loop.time()
        again = True
        while again and not self._closing:
            again = self._read(data)
            data = b""

    def pause_writing(self) -> None:
        # A peer that sends and does not take its answers must not fill our memory.
        self._write_blocked = True
        self._update_reading()

    def resume_writing(self) -> None:
        self._write_blocked = False
        self._update_reading()

    # For the source and the session

    def take_over(self, *, resumed: bool) -> None:
        """End the connection, as the same client has come again (section 3.1.4, [MQTT-3.1.4-3])."""
        will = self._will
        if resumed and will is not None and will.properties.get(Property.WILL_DELAY_INTERVAL):
            self._will = None  # the new connection came within the delay (section 3.1.3.2.2)
        self._detach()
        self._end(ReasonCode.SESSION_TAKEN_OVER)

    def drain(self) -> None:
        """Read nothing any more, and end the connection once everything is answered."""
        self._will = None
        self._update_reading()
        self._progress()

    def abort(self) -> None:
        """End the connection without a word."""
        self._will = None
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # Packets

    def _read(self, data: bytes) -> bool:
        """Handle what `data` completes; return whether to look again, in another version."""
        error: PacketError | None = None
        packets: Sequence[Packet]
        try:
            if self._connect is None and not self._reader.held and data[:1] != _CONNECT:
                raise protocol_error("the first packet is no CONNECT")  # [MQTT-3.1.0-1]
            packets = self._reader.feed(data)
        except PacketError as wrong:
            error, packets = wrong, wrong.packets
        try:
            for packet in packets:
                self._handle(packet)
                if self._closing:
                    break
        except PacketError as wrong:
            error = wrong
        self._submit()
        if error is not None and not self._closing:
            self._fail(error)
        return bool(packets) and isinstance(packets[-1], Connect)

    def _handle(self, packet: Packet) -> None:
        if isinstance(packet, Publish):
            self._publish(packet)
        elif isinstance(packet, Connect):
            self._admit(packet)
        elif self._session is None:
            raise protocol_error("a packet before CONNECT was answered")
        elif isinstance(packet, Ack):
            if packet.type != PacketType.PUBREL:
                raise protocol_error(f"{packet.type.name}, but nothing was sent")
            self._batch.append(packet)
        elif isinstance(packet, Ping):
            self._write(_PINGRESP)
        elif isinstance(packet, (Subscribe, Unsubscribe)):
            version = self._session.version
            self._write(encode(refused_subscription(packet, version), version))
        elif isinstance(packet, Disconnect):
            self._leave(packet)

    def _publish(self, packet: Publish) -> None:
        if self._connect is None:
            raise protocol_error("a packet before CONNECT was answered")
        if self._connect.version == V5:
            if Property.SUBSCRIPTION_IDENTIFIER in packet.properties:  # [MQTT-3.3.4-6]
                raise protocol_error("a client's PUBLISH with a subscription identifier")
            packet = self._aliases.resolve(packet)
        self._batch.append(packet)

    def _submit(self) -> None:
        session, batch = self._session, self._batch
        if session is None or not batch:
            return
        self._batch = []
        receiver, limit = session.receiver, self._host.config.receive_maximum
        session.gate.submit(receiver.take(batch), self._on_room)
        if receiver.used_quota > limit and session.version == V5:
            self._fail(
                PacketError(ReasonCode.RECEIVE_MAXIMUM_EXCEEDED, f"more than {limit} messages")
            )
        self._update_reading()

    # Beginning and end

    def _admit(self, connect: Connect) -> None:
        if self._connect is not None:
            raise protocol_error("a second CONNECT")  # [MQTT-3.1.0-2]
        host, config = self._host, self._host.config
        self._reader.version = connect.version
        code = ReasonCode.SERVER_UNAVAILABLE if host.draining else refusal(connect, config)
        if code is not None:
            if not host.draining:
                host.intake.rejected("refused_connection", code.text, 0)
            self._refuse(code, connect.version)
            return
        client_id = client_id_of(connect)
        older = host.find(client_id)
        if older is not None:
            older.take_over(resumed=not connect.clean_start)
        session, present = host.session(client_id, clean=connect.clean_start)
        self._connect, self._will, self._session = connect, connect.will, session
        session.connection = self
        session.version = connect.version
        session.expires_after = expiry_of(connect, config)
        session.facts = self._facts(connect, client_id)
        session.on_progress = self._progress
        self._gate = session.gate
        self._gate.submit((), self._on_room)
        session.receiver.connect(
            self._write,
            connect.version,
            reason_strings=bool(connect.properties.get(Property.REQUEST_PROBLEM_INFORMATION, 1)),
        )
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._write(
            encode(connack_of(connect, config, client_id, present=present), connect.version)
        )
        self._watch()

    def _facts(self, connect: Connect, client_id: str) -> dict[str, str]:
        assert self._transport is not None  # noqa: S101 - a packet has come
        device = common_name(self._transport.get_extra_info("peercert"))
        if device is None and self._host.config.users:
            device = connect.username
        return {"client_id": client_id, **({"device": device} if device is not None else {})}

    def _leave(self, packet: Disconnect) -> None:
        assert self._session is not None  # noqa: S101 - checked by the caller
        assert self._connect is not None  # noqa: S101 - as there is a session
        expiry = packet.properties.get(Property.SESSION_EXPIRY_INTERVAL)
        if isinstance(expiry, int):
            if expiry and not self._connect.properties.get(Property.SESSION_EXPIRY_INTERVAL):
                raise protocol_error("a session that should end is to be kept")  # 3.14.2.2.2
            self._session.expires_after = min(float(expiry), self._host.config.session_expiry)
        if packet.code == ReasonCode.SUCCESS:
            self._will = None  # [MQTT-3.14.4-3]
        self._submit()  # what stood before it in the same read
        self._detach()
        self._close()

    def _watch(self) -> None:
        """Arm the keep-alive: half as long again as was agreed (section 3.1.2.10)."""
        assert self._connect is not None  # noqa: S101 - called after CONNECT
        patience = self._connect.keep_alive * 1.5
        if not patience or self._closing:
            return
        silent = self._loop.time() - self._last_heard
        if self._reading_paused:
            silent = 0.0  # it may have spoken, and we did not listen
        if silent >= patience:
            self._detach()
            self._end(ReasonCode.KEEP_ALIVE_TIMEOUT)
            return
        self._deadline = self._loop.call_later(patience - silent, self._watch)

    def _fail(self, error: PacketError) -> None:
        """End the connection because of what the peer sent (section 4.13)."""
        self._host.intake.rejected("mqtt_protocol", str(error))
        if self._session is None:
            # Only an unknown version is worth a word: CONNACK 1, which 3.1 and 3.1.1 know.
            if error.code == ReasonCode.UNSUPPORTED_PROTOCOL_VERSION:
                self._refuse(error.code, V311)
            else:
                self._close()
            return
        self._detach()
        self._end(error.code)

    def _refuse(self, code: ReasonCode, version: int) -> None:
        connack = connack_of_refusal(code, version)
        if connack is not None:
            self._write(encode(connack, V5 if version == V5 else V311))
        self._close()

    def _end(self, code: ReasonCode) -> None:
        """Say why (MQTT 5 only) and close."""
        if self._connect is not None and self._connect.version == V5 and not self._closing:
            self._write(encode(Disconnect(code), V5))
        self._close()

    def _close(self) -> None:
        if self._closing or self._transport is None:
            return
        self._closing = True
        self._transport.close()
        self._linger = self._loop.call_later(_LINGER_SECONDS, self._transport.abort)

    def _detach(self) -> None:
        """Give the session back, and publish the will if the connection broke."""
        session = self._session
        if session is None:
            return
        self._session = None
        will, self._will = self._will, None
        if will is not None:
            self._publish_will(session, will)
        session.connection = None
        session.on_progress = _nothing
        if self._transport is not None and not self._transport.is_closing():
            session.receiver.flush()  # else the answers wait for a repetition
        session.receiver.disconnect()
        self._host.release(session)

    def _publish_will(self, session: Session, will: Will) -> None:
        host = self._host
        try:
            events = host.decoder.decode(will, session.version, session.facts)
        except CloudEventError as error:
            session.receiver.keep(will, error)
            return
        session.gate.submit(session.receiver.offer(events), self._on_room)

    # Flow

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    @property
    def _is_shut(self) -> bool:
        return self._gate is not None and self._gate.is_shut

    def _on_room(self) -> None:
        if self.closed.done():
            self._host.connections.discard(self)  # what it brought took up its place until now
        self._update_reading()

    def _progress(self) -> None:
        session = self._session
        if self._host.draining and (
            session is None or (session.receiver.is_idle and not self._is_shut)
        ):
            self._will = None
            self._detach()
            self._end(ReasonCode.SERVER_SHUTTING_DOWN)
        elif self._reading_paused:
            self._update_reading()

    def _update_reading(self) -> None:
        transport = self._transport
        if transport is None or self._closing or transport.is_closing():
            return
        stalls = self._is_shut or self._write_blocked
        if stalls and self._stall is None:
            self._stall = self._loop.call_later(self._host.config.stall_timeout, self._give_up)
        elif not stalls and self._stall is not None:
            self._stall.cancel()
            self._stall = None
        pause = stalls or self._host.draining or self._is_full()
        if pause and not self._reading_paused:
            transport.pause_reading()
        elif not pause and self._reading_paused:
            self._last_heard = self._loop.time()
            transport.resume_reading()
        self._reading_paused = pause

    def _is_full(self) -> bool:
        """Whether a 3.1.1 client, which knows no receive maximum, has sent enough."""
        session = self._session
        return (
            session is not None
            and session.version == V311
            and session.receiver.unanswered >= self._host.config.receive_maximum
        )

    def _give_up(self) -> None:
        self._detach()
        self._end(ReasonCode.QUOTA_EXCEEDED)


def _nothing() -> None:
    """Nobody waits for this."""
