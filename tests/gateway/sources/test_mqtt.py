"""The client of a broker, against a broker that is a script of bytes; Mosquitto is in tests/e2e."""

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
import time

import paho.mqtt.client
import pytest
from pydantic import ValidationError

from gateway.config.worker import Place
from gateway.delivery import ACCEPTED, BUSY, Outcome, Reason, Settlement
from gateway.sources import keeper
from gateway.sources.mqtt import MqttSource, MqttSourceConfig
from gateway.sources.mqtt.client import BrokerClient
from gateway.sources.mqtt.keep_alive import Due, KeepAlive
from gateway.spool import StoreError
from tests.helpers import RecordingIntake

REFUSED = Settlement(Outcome.REJECTED, Reason.SINK_REFUSED)
WRAP = {"type": "t", "source": "/s", "subject": "{topic}"}
CONNACK, PINGREQ, PINGRESP = b"\x20\x03\x00\x00\x00", b"\xc0\x00", b"\xd0\x00"
DISCONNECT = b"\xe0\x00"


def publish(topic, *, qos=1, mid=1, dup=False, level=5, payload=b"hi", properties=b""):
    name = topic.encode()
    body = struct.pack("!H", len(name)) + name + (struct.pack("!H", mid) if qos else b"")
    body += (bytes([len(properties)]) + properties if level == 5 else b"") + payload
    length, size = len(body), b""
    while True:
        length, digit = divmod(length, 128)
        size += bytes([digit | (128 if length else 0)])
        if not length:
            break
    return bytes([0x30 | qos << 1 | dup << 3]) + size + body


def json_event(event_id, **fields):
    """An event of the specification's section 3.2 of the MQTT binding: the content type tells."""
    payload = b'{"specversion":"1.0","id":"%b","source":"/s","type":"t"}' % event_id.encode()
    content_type = b"application/cloudevents+json"
    properties = b"\x03" + struct.pack("!H", len(content_type)) + content_type
    return publish("a", payload=payload, properties=properties, **fields)


class Connection:
    """The broker's side of one connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def read(self, *, pings=False):
        """Return the next packet, keep-alive left out."""
        async with asyncio.timeout(10):
            while True:
                head = await self.reader.readexactly(2)
                assert head[1] < 128
                packet = head + await self.reader.readexactly(head[1])
                if packet != PINGREQ or pings:
                    return packet
                self.send(PINGRESP)

    def send(self, *packets):
        self.writer.write(b"".join(packets))

    async def accept(self, *, present=False, level=5, codes=b"\x01"):
        """Answer CONNECT and SUBSCRIBE; return both."""
        connect = await self.read()
        assert connect[0] == 0x10
        properties = b"\0" if level == 5 else b""
        self.send(bytes([0x20, 2 + len(properties), present, 0]) + properties)
        subscribe = await self.read()
        assert subscribe[0] == 0x82
        answer = subscribe[2:4] + properties + codes
        self.send(bytes([0x90, len(answer)]) + answer)
        return connect, subscribe

    async def ended(self):
        async with asyncio.timeout(10):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    def drop(self):
        self.writer.transport.abort()


class Broker:
    def __init__(self, context=None):
        self.context = context
        self.waiting = asyncio.Queue()
        self.connections = []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._take, "127.0.0.1", 0, ssl=self.context)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exc_info):
        self.server.close()
        for connection in self.connections:
            connection.writer.close()
            with contextlib.suppress(OSError):
                await connection.writer.wait_closed()
        await self.server.wait_closed()

    def _take(self, reader, writer):
        connection = Connection(reader, writer)
        self.connections.append(connection)
        self.waiting.put_nowait(connection)

    async def connection(self):
        async with asyncio.timeout(10):
            return await self.waiting.get()


def config(broker, **changes):
    fields = {
        "name": "plant",
        "protocol": "mqtt",
        "url": f"mqtt://127.0.0.1:{broker.port}",
        "client_id": "gw-1",
        "subscribe": [{"topic": "a/#"}],
        "event": WRAP,
    }
    return MqttSourceConfig(**{**fields, **changes})


@contextlib.asynccontextmanager
async def connecting(intake, **changes):
    """Yield a broker, a source that connects to it, their connection, and the call of `open`."""
    async with Broker() as broker:
        source = MqttSource(config(broker, **changes))
        opening = asyncio.ensure_future(source.open(intake))
        try:
            yield broker, source, await broker.connection(), opening
        finally:
            opening.cancel()
            await source.close()


@contextlib.asynccontextmanager
async def running(intake, *, present=False, level=5, **changes):
    """Yield a broker, a source that has subscribed there, and their connection."""
    version = "5" if level == 5 else "3.1.1"
    async with connecting(intake, version=version, **changes) as (
        broker,
        source,
        connection,
        opening,
    ):
        await connection.accept(present=present, level=level)
        await opening
        yield broker, source, connection


def test_paho_has_the_private_names_that_the_seam_uses():
    """If this fails after an update of paho, read gateway/sources/mqtt/client.py again."""
    client = paho.mqtt.client.Client(paho.mqtt.client.CallbackAPIVersion.VERSION2)
    for name in (
        "_create_socket", "_in_packet", "_last_bytes_received", "_loop_rc_handle",
        "_last_msg_out", "_out_packet", "_packet_handle", "_sock", "_sock_close",
        "_sock_recv", "_sock_send",
    ):  # fmt: skip
        assert hasattr(client, name), name
    assert set(client._in_packet) == {
        "command", "have_remaining", "remaining_count", "remaining_mult", "remaining_length",
        "packet", "to_process", "pos",
    }  # fmt: skip
    assert BrokerClient.loop_read is not paho.mqtt.client.Client.loop_read


@contextlib.asynccontextmanager
async def bare_client():
    """Yield a client whose CONNECT has been read, the broker's socket, and what it calls."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    settings = {
        "name": "s", "protocol": "mqtt", "url": "mqtt://h", "client_id": "c",
        "subscribe": [{"topic": "a"}],
    }  # fmt: skip
    lost = []
    client = BrokerClient(
        MqttSourceConfig(**settings), ours, lambda _: None, lambda _: None, lambda: lost.append(1)
    )
    try:
        client.start()
        await asyncio.get_running_loop().sock_recv(theirs, 1024)
        yield client, theirs, lost
    finally:
        client.abort()
        theirs.close()


async def test_the_keep_alive_is_the_brokers_if_it_names_one():
    """MQTT 5 3.2.2.3.14: Server Keep Alive."""
    async with bare_client() as (client, theirs, _):
        theirs.sendall(b"\x20\x06\x00\x00\x03\x13\x00\x01")
        read = asyncio.get_running_loop().sock_recv
        async with asyncio.timeout(10):
            assert (await read(theirs, 1024))[0] == 0x82
            assert await read(theirs, 1024) == PINGREQ
        first = client._timer
        theirs.sendall(b"\x20\x06\x00\x00\x03\x13\x00\x02")  # which it must not do
        async with asyncio.timeout(10):
            while client.keepalive != 2:
                await asyncio.sleep(0)
        assert first.cancelled()  # or two would look
        client.abort()
        assert client._timer.cancelled()


@pytest.mark.timeout(30)  # if paho waits for its own lock, nothing else ends it
async def test_a_ping_that_is_due_at_connack_may_find_the_socket_broken():
    async with bare_client() as (client, theirs, lost):
        client._last_msg_out -= 3600
        theirs.sendall(CONNACK)
        theirs.close()
        async with asyncio.timeout(10):
            await client.lost
    assert lost == [1]


async def test_a_ping_stands_behind_what_a_full_socket_does_not_take_and_stands_there_once():
    async with bare_client() as (client, theirs, _):
        client.send(b"x" * 2_000_000)
        assert client._out_packet
        keep_alive = KeepAlive(1)
        for _ in range(2):
            client._last_msg_out -= 3600
            client._tick(keep_alive)
            client._timer.cancel()
        received = b""
        async with asyncio.timeout(20):
            while not received.endswith(PINGREQ):
                received += await asyncio.get_running_loop().sock_recv(theirs, 100_000)
        assert received == b"x" * 2_000_000 + PINGREQ
        assert not client._out_packet


@pytest.mark.parametrize("answers", [True, False])
async def test_who_was_suspended_reads_before_it_gives_up(answers):
    async with bare_client() as (client, theirs, lost):
        now = time.monotonic()
        keep_alive = KeepAlive(1)
        client._last_msg_out = client._last_bytes_received = now - 20
        assert keep_alive.look(now - 10, now - 20, now - 20) is Due.PING
        if answers:
            theirs.sendall(PINGRESP)
        client._tick(keep_alive)
        assert client.lost.done() is not answers
        assert lost == [] if answers else [1]


async def test_a_broker_that_stays_silent_is_given_up(caplog):
    intake = RecordingIntake(lambda _: None)
    async with running(intake, keep_alive=1) as (broker, _, connection):
        assert await connection.read(pings=True) == PINGREQ
        await connection.ended()
        await (await broker.connection()).accept()
    assert "Keep alive timeout" in caplog.text


async def test_a_message_before_connack_ends_the_connection():
    """MQTT-3.2.0-1: CONNACK is the first packet of a server."""
    intake = RecordingIntake()
    async with connecting(intake) as (broker, _, connection, opening):
        assert (await connection.read())[0] == 0x10
        connection.send(publish("a"))
        assert await connection.ended() == b"\xe0\x01\x82"
        await (await broker.connection()).accept()
        await opening
    assert intake.events == []


async def test_what_the_socket_does_not_take_at_once_follows_in_order():
    async with bare_client() as (client, theirs, _):
        sent = [bytes([number]) * 300_000 for number in range(1, 5)]
        for data in sent:
            client.send(data)
        received = b""
        async with asyncio.timeout(20):
            while len(received) < 1_200_000:
                received += await asyncio.get_running_loop().sock_recv(theirs, 100_000)
        client.send(b"end")
        async with asyncio.timeout(20):
            received += await asyncio.get_running_loop().sock_recv(theirs, 100)
    assert received == b"".join(sent) + b"end"


async def test_what_follows_of_an_answer_is_not_taken_for_a_packet_that_ends_the_connection():
    async with bare_client() as (client, theirs, lost):
        data = b"\x40" + b"\xe0" * 600_000  # wherever it is cut: 0xE0 begins DISCONNECT, too
        client.send(data)
        received = b""
        async with asyncio.timeout(20):
            while len(received) < len(data):
                received += await asyncio.get_running_loop().sock_recv(theirs, 100_000)
        assert not lost
        client.send(b"end")
        async with asyncio.timeout(20):
            assert await asyncio.get_running_loop().sock_recv(theirs, 100) == b"end"


async def test_writing_to_a_socket_that_is_broken_ends_the_connection():
    async with bare_client() as (client, theirs, lost):
        client.pause()  # so that it is the writing that tells
        theirs.close()
        client.send(b"x")
        assert client.lost.done()
        assert lost == [1]
        client.send(b"y")


async def test_connect_and_subscribe_are_what_the_configuration_says():
    async with Broker() as broker:
        source = MqttSource(
            config(
                broker,
                share="gws",
                username="u",
                password="p",
                keep_alive="PT20S",
                session_expiry="PT1M",
                receive_maximum=7,
                subscribe=[{"topic": "a/+", "qos": 2}],
            )
        )
        opening = asyncio.ensure_future(source.open(RecordingIntake()))
        connection = await broker.connection()
        connect, subscribe = await connection.accept(codes=b"\x02")
        await opening
        await source.close()
    # 5.0 section 3.1: no clean start, user name, password; expiry 60 s, receive maximum 7
    assert connect == bytes.fromhex(
        "10 1f 0004 4d515454 05 c0 0014 08 11 0000003c 21 0007 0004 67772d31 0001 75 0001 70"
    )
    # 3.8.3.1: QoS 2, retained messages for new subscriptions only
    assert subscribe[4:] == b"\0\0\x0e$share/gws/a/+\x12"


async def test_qos_1_is_acknowledged_when_accepted_in_order_of_receipt():
    intake = RecordingIntake(lambda _: None)
    async with running(intake) as (_, _, connection):
        connection.send(*(publish(f"a/{mid}", mid=mid) for mid in (3, 1, 2)))
        await intake.wait_for(lambda i: len(i.deliveries) == 3)
        for delivery in reversed(intake.deliveries):
            delivery.settle(ACCEPTED)
            await asyncio.sleep(0)  # else all of them leave together, whatever the order
            await asyncio.sleep(0)
        answers = [await connection.read() for _ in range(3)]
    assert answers == [b"\x40\x02\x00\x03", b"\x40\x02\x00\x01", b"\x40\x02\x00\x02"]


async def test_qos_2_is_received_when_accepted_and_delivered_once():
    intake = RecordingIntake(lambda _: None)
    async with running(intake) as (_, _, connection):
        connection.send(publish("a", qos=2, mid=5), publish("a", qos=2, mid=5, dup=True))
        await intake.wait_for(lambda i: i.deliveries)
        intake.deliveries[0].settle(ACCEPTED)
        assert await connection.read() == b"\x50\x02\x00\x05"
        connection.send(publish("a", qos=2, mid=5, dup=True))
        assert await connection.read() == b"\x50\x02\x00\x05"
        connection.send(b"\x62\x02\x00\x05")
        assert await connection.read() == b"\x70\x02\x00\x05"
    assert len(intake.deliveries) == 1


@pytest.mark.parametrize("level", [5, 4])
@pytest.mark.parametrize(("qos", "answer"), [(1, b"\x40\x02\x00\x01"), (2, b"\x50\x02\x00\x01")])
async def test_a_broker_is_never_told_a_refusal(level, qos, answer):
    """It would forget the message all the same, once the pipeline has said that nobody wants it."""
    settlement = Settlement(Outcome.REJECTED, Reason.SINK_REFUSED, detail="status 400")
    intake = RecordingIntake(lambda _: None)
    async with running(intake, level=level) as (_, _, connection):
        connection.send(publish("a", qos=qos, level=level))
        await intake.wait_for(lambda i: i.deliveries)
        intake.deliveries[0].settle(settlement)
        assert await connection.read() == answer
    assert intake.rejections == [("sink_refused", "status 400")]


@pytest.mark.parametrize("level", [5, 4])
async def test_what_is_no_event_is_acknowledged_when_it_is_kept_in_its_turn(level):
    intake = RecordingIntake()
    intake.keeping = []
    async with running(intake, level=level, event=None, keep_alive=3) as (_, _, connection):
        connection.send(
            publish("a/b", mid=1, level=level, payload=b"no event"),
            publish("a", mid=2, level=level, payload=b"nor this", qos=2),
            json_event("good", mid=3, level=level),
            publish("a", qos=0, level=level, payload=b"most of all this"),
        )
        await intake.wait_for(lambda i: i.events)
        assert [event.id for event in intake.events] == ["good"]
        assert [message.address for message in intake.kept] == ["a/b", "a", "a"]
        assert intake.kept[0].payload == b"no event"
        intake.keeping[2](None)
        intake.keeping[1](None)
        assert await connection.read(pings=True) == PINGREQ  # the first thing that it says
        intake.keeping[0](None)
        assert await connection.read() == b"\x40\x02\x00\x01"
        assert await connection.read() == b"\x50\x02\x00\x02"
        assert await connection.read() == b"\x40\x02\x00\x03"
        connection.send(b"\x62\x02\x00\x02")
        assert await connection.read() == b"\x70\x02\x00\x02"
    assert {reason for reason, _ in intake.rejections} == {"not_an_event"}


async def test_what_can_not_be_kept_stays_unacknowledged_until_it_can(monkeypatch):
    monkeypatch.setattr(keeper, "FIRST_DELAY", 0.01)
    intake = RecordingIntake()
    intake.keep_error = StoreError("no room", full=True)
    async with running(intake, event=None, keep_alive=3) as (_, _, connection):
        connection.send(publish("a", mid=1, payload=b"1"), json_event("2", mid=2))
        await intake.wait_for(lambda i: len(i.rejections) == 3)
        assert await connection.read(pings=True) == PINGREQ
        intake.keep_error = None
        assert await connection.read() == b"\x40\x02\x00\x01"
        assert await connection.read() == b"\x40\x02\x00\x02"
    assert [message.payload for message in intake.kept] == [b"1"]


async def test_reading_stops_when_too_much_waits_to_be_kept(monkeypatch):
    monkeypatch.setattr(keeper, "FIRST_DELAY", 0.01)
    intake = RecordingIntake()
    intake.keep_error = StoreError("no room", full=True)
    async with running(intake, event=None, limits={"inflight": 5}) as (_, source, connection):
        first = b"".join(publish("a", qos=0, payload=bytes(60000)) for _ in range(100))
        connection.send(first, json_event("last"))
        async with asyncio.timeout(10):
            while not source._client.paused:
                await asyncio.sleep(0)
        # What one read brought beyond the limit, and no more.
        assert 5 <= source._backlog.keeper.weight <= 5 + 256 * 1024 // 60000
        intake.keep_error = None
        assert await connection.read() == b"\x40\x02\x00\x01"
    assert len(intake.kept) == 100
    assert source._backlog.keeper.weight == 0


async def test_what_is_not_kept_when_the_gateway_ends_stays_with_the_broker():
    intake = RecordingIntake()
    intake.keeping = []
    async with running(intake, event=None) as (_, source, connection):
        connection.send(*(publish("a", mid=mid, payload=b"%d" % mid) for mid in (1, 2)))
        await intake.wait_for(lambda i: len(i.keeping) == 2)
        draining = asyncio.ensure_future(source.drain())
        await asyncio.sleep(0)
        intake.keeping[0](None)
        assert await connection.read() == b"\x40\x02\x00\x01"
        intake.keeping[1](StoreError("no room", full=True))
        assert await connection.read() == DISCONNECT
        await draining
    assert len(intake.rejections) == 2


async def test_a_released_event_is_held_and_submitted_again_and_never_refused():
    def answer(delivery):
        seen.append(delivery.events[0].subject)
        return BUSY if seen.count("a") == 1 and seen[-1] == "a" else ACCEPTED

    seen = []
    intake = RecordingIntake(answer)
    async with running(intake) as (_, _, connection):
        connection.send(publish("a", mid=1), publish("b", mid=2))
        assert await connection.read() == b"\x40\x02\x00\x01"
        assert await connection.read() == b"\x40\x02\x00\x02"  # it waited for its turn
    assert seen == ["a", "b", "a"]
    assert intake.events[0].id == intake.events[2].id


async def test_a_stale_answer_is_not_sent_on_a_new_connection():
    """A broker that lost the session counts from 1 again: the old answer would be the new one's."""
    intake = RecordingIntake(lambda _: None)
    async with running(intake) as (broker, _, connection):
        connection.send(publish("a/old", mid=1))
        await intake.wait_for(lambda i: i.deliveries)
        connection.drop()
        second = await broker.connection()
        await second.accept(present=False)
        second.send(publish("a/new", mid=1))
        await intake.wait_for(lambda i: len(i.deliveries) == 2)
        intake.deliveries[0].settle(ACCEPTED)
        second.send(publish("a/third", qos=2, mid=2))
        await intake.wait_for(lambda i: len(i.deliveries) == 3)
        intake.deliveries[2].settle(ACCEPTED)
        intake.deliveries[1].settle(ACCEPTED)
        assert await second.read() == b"\x40\x02\x00\x01"
        assert await second.read() == b"\x50\x02\x00\x02"


async def test_every_connect_is_like_the_first():
    async with Broker() as broker:
        source = MqttSource(config(broker, receive_maximum=7))
        opening = asyncio.ensure_future(source.open(RecordingIntake()))
        said = []
        for present in (False, True, False):
            connection = await broker.connection()
            said.append(await connection.accept(present=present))
            await opening
            connection.drop()
        await source.close()
    # 5.0 section 3.1.2.4: never a clean start; the session is kept a day
    connect = bytes.fromhex("10 19 0004 4d515454 05 00 001e 08 11 00015180 21 0007 0004 67772d31")
    assert [each[0] for each in said] == [connect] * 3
    assert [each[1][4:] for each in said] == [b"\0\0\x03a/#\x11"] * 3


async def test_what_is_settled_while_it_connects_again_is_no_packet_before_connect():
    """Section 3.1: the first packet has to be CONNECT; and without CONNACK there is no session."""
    intake = RecordingIntake(lambda _: None)
    async with running(intake) as (broker, _, connection):
        connection.send(*(publish(f"a/{mid}", mid=mid) for mid in (1, 2, 3)))
        await intake.wait_for(lambda i: len(i.deliveries) == 3)
        connection.drop()
        second = await broker.connection()
        intake.deliveries[0].settle(ACCEPTED)
        assert (await second.read())[0] == 0x10
        intake.deliveries[1].settle(ACCEPTED)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second.send(b"\x20\x03\x01\x00\x00")
        subscribe = await second.read()
        assert subscribe[0] == 0x82  # and no PUBACK before it
        intake.deliveries[2].settle(ACCEPTED)
        await asyncio.sleep(0)
        second.send(b"\x90\x04" + subscribe[2:4] + b"\x00\x01")
        # Each is answered when it has come on this connection, in that order.
        second.send(*(publish(f"a/{mid}", mid=mid, dup=True) for mid in (2, 3, 1)))
        assert [(await second.read())[2:] for _ in range(3)] == [b"\0\2", b"\0\3", b"\0\1"]
    assert len(intake.deliveries) == 3


@pytest.mark.parametrize("qos", [1, 2])
async def test_another_message_with_a_known_identifier_is_no_repetition_though_it_says_dup(qos):
    """A broker that was restored from an older state gives identifiers to other messages."""
    intake = RecordingIntake(lambda _: None)
    async with running(intake) as (broker, _, connection):
        connection.send(publish("a/1", qos=qos), publish("a/2", qos=qos, mid=2))
        await intake.wait_for(lambda i: len(i.deliveries) == 2)
        connection.drop()
        second = await broker.connection()
        await second.accept(present=True)
        second.send(publish("a/other", qos=qos, dup=True), publish("a/2", qos=qos, mid=2, dup=True))
        await intake.wait_for(lambda i: len(i.deliveries) == 3)
        for delivery in intake.deliveries[:2]:
            delivery.settle(ACCEPTED)
        await asyncio.sleep(0)
        intake.deliveries[2].settle(ACCEPTED)
        answer = b"\x40" if qos == 1 else b"\x50"
        assert await second.read() == answer + b"\x02\x00\x01"
        assert await second.read() == answer + b"\x02\x00\x02"
    assert [event.subject for event in intake.events] == ["a/1", "a/2", "a/other"]


async def test_who_is_taken_over_forgets_the_identifiers(caplog):
    """Who has the session meanwhile acknowledges there: the same bytes may be another message."""
    intake = RecordingIntake(lambda _: None)
    async with running(intake) as (broker, _, connection):
        connection.send(publish("a"))
        await intake.wait_for(lambda i: i.deliveries)
        connection.send(b"\xe0\x01\x8e")
        await connection.ended()
        second = await broker.connection()
        await second.accept(present=True)
        second.send(publish("a", dup=True))
        await intake.wait_for(lambda i: len(i.deliveries) == 2)
        intake.deliveries[0].settle(ACCEPTED)
        await asyncio.sleep(0)
        second.send(publish("a", mid=2))
        await intake.wait_for(lambda i: len(i.deliveries) == 3)
        intake.deliveries[2].settle(ACCEPTED)
        await asyncio.sleep(0)
        intake.deliveries[1].settle(ACCEPTED)
        assert await second.read() == b"\x40\x02\x00\x01"
        assert await second.read() == b"\x40\x02\x00\x02"
    assert "another client has the client_id 'gw-1'" in caplog.text


async def test_a_redelivery_joins_what_is_under_way():
    intake = RecordingIntake(lambda _: None)
    async with running(intake) as (broker, _, connection):
        connection.send(publish("a", mid=1), publish("a", mid=2))
        await intake.wait_for(lambda i: len(i.deliveries) == 2)
        connection.drop()
        second = await broker.connection()
        await second.accept(present=True)
        second.send(publish("a", mid=1, dup=True), publish("a", mid=2, dup=True))
        second.send(publish("a", mid=3))
        await intake.wait_for(lambda i: len(i.deliveries) == 3)
        for delivery in intake.deliveries:
            delivery.settle(ACCEPTED)
        answers = [await second.read() for _ in range(3)]
    assert answers == [b"\x40\x02\x00\x01", b"\x40\x02\x00\x02", b"\x40\x02\x00\x03"]
    assert len(intake.deliveries) == 3


async def test_messages_that_come_with_connack_are_taken():
    intake = RecordingIntake()
    async with connecting(intake) as (_, _, connection, opening):
        await connection.read()
        connection.send(b"\x20\x03\x01\x00\x00", publish("a", mid=9, dup=True))
        packets = [await connection.read(), await connection.read()]
        assert b"\x40\x02\x00\x09" in packets
        assert not opening.done()  # SUBACK is what it waits for
        subscribe = next(packet for packet in packets if packet[0] == 0x82)
        connection.send(b"\x90\x04" + subscribe[2:4] + b"\x00\x01")
        await opening


async def test_a_subscription_that_is_refused_is_an_error_in_the_log_and_not_ready(caplog):
    async with connecting(RecordingIntake()) as (_, _, connection, opening):
        await connection.accept(codes=b"\x87")
        async with asyncio.timeout(5):
            while not caplog.records:
                await asyncio.sleep(0)
        assert not opening.done()
    assert caplog.records[0].levelno == logging.ERROR
    assert "'a/#' (0x87 Not authorized)" in caplog.text


async def test_a_broker_that_refuses_is_tried_again_with_one_line_in_the_log(caplog):
    async with Broker() as broker:
        source = MqttSource(config(broker))
        opening = asyncio.ensure_future(source.open(RecordingIntake()))
        for _ in range(2):
            connection = await broker.connection()
            await connection.read()
            connection.send(b"\x20\x03\x00\x86\x00")
            await connection.ended()
        connection = await broker.connection()
        await connection.accept()
        await opening
        await source.close()
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 1
    assert "Bad user name or password" in lines[0]


@pytest.mark.parametrize(
    ("wrong", "last_words"),
    [
        (b"\x30\x04\x00\x01\xff\x00", b"\xe0\x01\x81"),
        (b"\x00\x00", b"\xe0\x01\x81"),
        (b"\x20\x01\x00", b""),  # paho finds these two, and says nothing
        (b"\x90\x01\x00", b""),
    ],
)
async def test_a_broker_that_breaks_the_protocol_is_left_and_tried_again(wrong, last_words, caplog):
    intake = RecordingIntake()
    async with running(intake) as (broker, _, connection):
        connection.send(publish("a", qos=0), wrong)
        assert await connection.ended() == last_words
        await (await broker.connection()).accept()
    assert len(intake.events) == 1
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_connection_that_never_lasts_is_made_less_and_less_often():
    """As when two gateways have one client_id, and each takes the session from the other."""
    intake = RecordingIntake()
    async with running(intake) as (broker, _, _):
        moments = []
        for number in range(4):
            broker.connections[number].send(b"\xe0\x01\x8e")
            await broker.connections[number].ended()
            await (await broker.connection()).accept(present=True)
            moments.append(asyncio.get_running_loop().time())
    assert moments[3] - moments[2] > 0.75  # 0.2, 0.4 and 0.8 s before it


async def test_a_broker_that_is_away_is_looked_for_each_second_and_once_back_all_begins_anew(
    monkeypatch,
):
    pauses, goes_on, sleep = asyncio.Queue(), asyncio.Queue(), asyncio.sleep

    async def pause(seconds):
        pauses.put_nowait(seconds)
        await goes_on.get()

    monkeypatch.setattr("gateway.sources.mqtt.source.asyncio.sleep", pause)
    monkeypatch.setattr("gateway.sources.mqtt.source.random.random", lambda: 0.0)
    async with Broker() as broker:
        pass  # nobody listens there any more
    source = MqttSource(config(broker))
    opening = asyncio.ensure_future(source.open(RecordingIntake()))
    try:
        async with asyncio.timeout(10):
            for expected in (0.2, 0.4, 0.8, 1.0, 1.0, 1.0):
                assert await pauses.get() == expected
                goes_on.put_nowait(None)
            assert await pauses.get() == 1.0
            broker.server = await asyncio.start_server(broker._take, "127.0.0.1", broker.port)
            goes_on.put_nowait(None)
            (await broker.connection()).drop()  # it is there, but not yet itself
            for expected in (0.2, 0.4):
                assert await pauses.get() == expected
                goes_on.put_nowait(None)
                connection = await broker.connection()
                await connection.accept()
                await opening
                connection.drop()
            assert await pauses.get() == 0.8
    finally:
        monkeypatch.setattr("gateway.sources.mqtt.source.asyncio.sleep", sleep)
        opening.cancel()
        await source.close()
        broker.server.close()
        await broker.server.wait_closed()


async def test_the_keep_alive_survives_a_long_stall():
    intake = RecordingIntake(lambda _: None)
    async with running(intake, keep_alive=2) as (_, _, connection):
        connection.send(*(publish("a", mid=mid) for mid in range(1, 8)))
        await intake.wait_for(lambda i: len(i.deliveries) == 7)
        intake.room.clear()
        connection.send(publish("b", mid=8))
        assert await connection.read(pings=True) == PINGREQ
        connection.send(PINGRESP)  # it stays unread in the socket, and nobody gives up
        for mid in range(1, 8):  # our answers make further PINGREQ needless for a while
            await asyncio.sleep(0.35)
            intake.deliveries[mid - 1].settle(ACCEPTED)
            assert await connection.read() == bytes([0x40, 2, 0, mid])
        assert await connection.read(pings=True) == PINGREQ
        intake.room.set()
        await intake.wait_for(lambda i: len(i.deliveries) == 8)
        intake.deliveries[7].settle(ACCEPTED)
        assert await connection.read() == b"\x40\x02\x00\x08"


@pytest.mark.parametrize(("present", "clean", "said"), [(0, False, 1), (1, False, 0), (0, True, 0)])
async def test_a_session_that_the_broker_lost_is_told(caplog, present, clean, said):
    async with running(RecordingIntake(), clean=clean) as (broker, _, connection):
        connection.drop()
        second = await broker.connection()
        await second.accept(present=present)
        second.send(publish("a"))
        await second.read()
    assert caplog.text.count("the broker has lost the session") == said


async def test_the_identifiers_of_a_lost_session_mean_nothing():
    intake = RecordingIntake()
    async with running(intake) as (broker, _, connection):
        connection.send(publish("a", qos=2, mid=1))
        assert await connection.read() == b"\x50\x02\x00\x01"
        connection.drop()
        second = await broker.connection()
        await second.accept(present=False)
        second.send(b"\x62\x02\x00\x01")
        assert await second.read() == b"\x70\x03\x00\x01\x92"


async def test_a_release_on_a_new_connection_ends_the_exchange():
    intake = RecordingIntake()
    async with running(intake) as (broker, _, connection):
        connection.send(publish("a", qos=2, mid=1))
        assert await connection.read() == b"\x50\x02\x00\x01"
        connection.drop()
        second = await broker.connection()
        await second.accept(present=True)
        second.send(publish("a", qos=2, mid=1, dup=True), b"\x62\x02\x00\x01")
        assert await second.read() == b"\x50\x02\x00\x01"
        assert await second.read() == b"\x70\x02\x00\x01"
    assert len(intake.events) == 1


async def test_reading_stops_while_there_is_no_room_and_order_is_kept():
    intake = RecordingIntake()
    async with running(intake, receive_maximum=1000) as (_, _, connection):
        intake.room.clear()
        connection.send(*(publish("a", mid=mid, payload=bytes(60000)) for mid in range(1, 200)))
        async with asyncio.timeout(10):
            while connection.writer.transport.get_write_buffer_size() == 0:
                await asyncio.sleep(0)
        assert intake.events == []
        intake.room.set()
        answers = [await connection.read() for _ in range(199)]
    assert [int.from_bytes(answer[2:4], "big") for answer in answers] == list(range(1, 200))


async def test_reading_stops_when_a_broker_sends_more_than_the_receive_maximum():
    intake = RecordingIntake(lambda _: None)
    async with running(intake, receive_maximum=2) as (_, _, connection):
        connection.send(*(publish("a", mid=mid) for mid in (1, 2, 3)))
        await intake.wait_for(lambda i: len(i.deliveries) == 3)
        connection.send(publish("a", mid=4))
        for delivery in intake.deliveries[:3]:
            delivery.settle(ACCEPTED)
        for mid in (1, 2, 3):
            assert (await connection.read())[3] == mid
        await intake.wait_for(lambda i: len(i.deliveries) == 4)


async def subscribing(connection, *packets):
    """Take CONNECT, answer that the session is present; return SUBACK, which is yet to be sent."""
    assert (await connection.read())[0] == 0x10
    connection.send(b"\x20\x03\x01\x00\x00", *packets)
    while (subscribe := await connection.read())[0] != 0x82:
        pass
    return b"\x90\x04" + subscribe[2:4] + b"\x00\x01"


async def test_suback_behind_a_backlog_is_read_though_nothing_is_taken():
    """As Mosquitto does: all that was not acknowledged comes before SUBACK."""
    intake = RecordingIntake()
    intake.room.clear()
    async with connecting(intake, receive_maximum=20) as (_, source, connection, opening):
        backlog = [publish("a", mid=mid, payload=bytes(60000)) for mid in range(1, 41)]
        suback = await subscribing(connection, *backlog)
        async with asyncio.timeout(5):
            while source._client.load < 40 * 60000:
                await asyncio.sleep(0)
            connection.send(suback)
            await opening
            while not source._client.paused:  # and no more than that is read
                await asyncio.sleep(0)
        assert intake.events == []
        intake.room.set()
        answers = [await connection.read() for _ in range(40)]
    assert [int.from_bytes(answer[2:4], "big") for answer in answers] == list(range(1, 41))


@pytest.mark.parametrize("size", [10, 60000])
async def test_a_backlog_that_is_too_large_to_be_held_waits_unread_and_suback_with_it(
    monkeypatch, size
):
    monkeypatch.setattr("gateway.sources.mqtt.source._CONNECT_SECONDS", 1.0)
    monkeypatch.setattr("gateway.sources.mqtt.source._MOST_AHEAD", 2**20)
    intake = RecordingIntake()
    intake.room.clear()
    async with connecting(intake, keep_alive=1) as (broker, source, connection, opening):
        count = 2**20 // size * 3 // 2 if size > 1024 else 30000
        backlog = [publish("a", mid=mid, payload=bytes(size)) for mid in range(1, count + 1)]
        connection.send(await subscribing(connection, *backlog))
        for _ in range(2):  # far beyond the deadline
            assert await connection.read(pings=True) == PINGREQ
            connection.send(PINGRESP)
        assert source._client.paused
        assert not opening.done()
        assert broker.waiting.empty()
        intake.room.set()
        answers = [await connection.read() for _ in range(count)]
        async with asyncio.timeout(5):
            await opening
    assert [int.from_bytes(answer[2:4], "big") for answer in answers] == list(range(1, count + 1))


@pytest.mark.parametrize("answers_connect", [True, False])
async def test_a_broker_that_never_answers_is_given_up(monkeypatch, answers_connect):
    monkeypatch.setattr("gateway.sources.mqtt.source._CONNECT_SECONDS", 3.0)
    async with connecting(RecordingIntake()) as (broker, _, connection, opening):
        if answers_connect:
            await subscribing(connection, publish("a"))
        else:
            assert (await connection.read())[0] == 0x10
        assert await connection.ended() in {b"", b"\x40\x02\x00\x01"}
        monkeypatch.undo()  # the second one has time, however busy the machine is
        second = await broker.connection()
        await second.accept()
        await opening


async def test_drain_answers_what_is_under_way_and_disconnects():
    intake = RecordingIntake(lambda _: None)
    async with running(intake) as (_, source, connection):
        connection.send(publish("a", mid=1), publish("b", mid=2))
        await intake.wait_for(lambda i: len(i.deliveries) == 2)
        draining = asyncio.ensure_future(source.drain())
        await asyncio.sleep(0)
        intake.deliveries[0].settle(ACCEPTED)
        assert await connection.read() == b"\x40\x02\x00\x01"
        intake.deliveries[1].settle(BUSY)  # it stays with the broker
        assert await connection.read() == DISCONNECT
        await draining


async def test_tls_records_that_wait_decrypted_are_read(certificates):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server_cert, certificates.server_key)
    intake = RecordingIntake()
    async with Broker(context) as broker:
        source = MqttSource(
            config(broker, url=f"mqtts://localhost:{broker.port}", tls={"ca": certificates.ca})
        )
        opening = asyncio.ensure_future(source.open(intake))
        connection = await broker.connection()
        await connection.accept()
        await opening
        connection.send(*(publish("a", mid=mid, payload=bytes(9000)) for mid in range(1, 101)))
        answers = [await connection.read() for _ in range(100)]
        await source.close()
    assert [answer[3] for answer in answers] == list(range(1, 101))


async def test_a_server_whose_certificate_is_unknown_is_not_trusted(certificates, caplog):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server_cert, certificates.server_key)
    async with Broker(context) as broker:
        source = MqttSource(config(broker, url=f"mqtts://localhost:{broker.port}"))
        opening = asyncio.ensure_future(source.open(RecordingIntake()))
        async with asyncio.timeout(5):
            while "certificate verify failed" not in caplog.text:
                await asyncio.sleep(0.01)
        assert not opening.done()
        opening.cancel()
        await source.close()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"url": "http://h"}, "mqtt://host:port"),
        ({"url": "mqtt://u:p@h"}, "username"),
        ({"client_id": ""}, "client_id is needed"),
        ({"subscribe": []}, "at least 1"),
        ({"subscribe": [{"topic": "a/b#"}]}, "whole level"),
        ({"subscribe": [{"topic": ""}]}, "1 to 65535"),
        ({"subscribe": [{"topic": "a", "qos": 3}]}, "0, 1 or 2"),
        ({"share": "a/b"}, "share name"),
        ({"version": "4"}, "'5' or '3.1.1'"),
        ({"event": {"type": "t", "source": "{nothing}"}}, "did you mean"),
    ],
)
def test_a_configuration_that_can_not_work_is_an_error(changes, text):
    fields = {
        "protocol": "mqtt",
        "url": "mqtt://h",
        "client_id": "c",
        "subscribe": [{"topic": "a"}],
    }
    with pytest.raises(ValidationError, match=text):
        MqttSourceConfig(**{**fields, **changes})


async def test_a_host_that_can_not_be_a_name_is_told(caplog):
    source = MqttSource(
        MqttSourceConfig(
            protocol="mqtt", url="mqtt://a..b", client_id="c", subscribe=[{"topic": "a"}]
        )
    )
    opening = asyncio.ensure_future(source.open(RecordingIntake()))
    async with asyncio.timeout(5):
        while "no connection" not in caplog.text:
            await asyncio.sleep(0.01)
    opening.cancel()
    await source.close()
    assert "died" not in caplog.text


def test_the_version_may_be_written_as_a_number():
    fields = {
        "protocol": "mqtt",
        "url": "mqtt://h",
        "client_id": "c",
        "subscribe": [{"topic": "a"}],
    }
    assert MqttSourceConfig(**fields, version=5).version == "5"
    assert MqttSourceConfig(**fields).address == ("h", 1883)
    assert MqttSourceConfig(**{**fields, "url": "mqtts://h"}).address == ("h", 8883)


@pytest.mark.parametrize(("number", "share"), [(0, b"\x01"), (1, b"\x01"), (0, b"\x00")])
async def test_workers_share_a_subscription_if_the_broker_can(number, share, caplog):
    async with Broker() as broker:
        source = MqttSource(config(broker).for_worker(Place(number, 2, "g")))
        opening = asyncio.ensure_future(source.open(RecordingIntake()))
        connection = await broker.connection()
        connect = await connection.read()
        assert connect.endswith(b"gw-1" if number == 0 else b"gw-1-1")
        connection.send(b"\x20\x05\x01\x00\x02\x2a" + share)  # session present; 3.2.2.3.13
        subscribe = await connection.read()
        shared, plain = b"\0\x0f$share/gw-1/a/#", b"\0\x03a/#"
        wanted, given_up = (shared, plain) if share == b"\x01" else (plain, shared)
        assert subscribe[4:] == b"\0" + wanted + b"\x11"  # 3.8.3.1: QoS 1, retain handling 1
        unsubscribe = await connection.read()
        assert unsubscribe[0] == 0xA2
        assert unsubscribe[4:] == b"\0" + given_up
        connection.send(b"\x90\x04" + subscribe[2:4] + b"\0\x01")
        connection.send(b"\xb0\x04" + unsubscribe[2:4] + b"\0\x11")
        await opening
        await source.close()
    assert ("no shared subscriptions" in caplog.text) == (share == b"\x00")


async def test_a_worker_that_is_to_take_nothing_is_ready_without_a_subscription(caplog):
    async with Broker() as broker:
        source = MqttSource(config(broker).for_worker(Place(1, 2, "g")))
        opening = asyncio.ensure_future(source.open(RecordingIntake()))
        connection = await broker.connection()
        await connection.read()
        connection.send(b"\x20\x05\x00\x00\x02\x2a\x00")
        await opening
        await source.close()
        assert (await connection.ended()).hex() in {"e000", "e00100", "e0020000", ""}
    assert "worker 0 takes all messages" in caplog.text
