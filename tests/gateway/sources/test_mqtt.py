"""The client of a broker, against a broker that is a script of bytes; Mosquitto is in tests/e2e."""

import asyncio
import contextlib
import logging
import ssl
import struct

import paho.mqtt.client
import pytest
from pydantic import ValidationError

from gateway.delivery import ACCEPTED, BUSY, Outcome, Reason, Settlement
from gateway.sources.mqtt import MqttSource, MqttSourceConfig
from gateway.sources.mqtt.client import BrokerClient
from tests.helpers import RecordingIntake

REFUSED = Settlement(Outcome.REJECTED, Reason.SINK_REFUSED)
WRAP = {"type": "t", "source": "/s", "subject": "{topic}"}
PINGREQ, PINGRESP, DISCONNECT = b"\xc0\x00", b"\xd0\x00", b"\xe0\x00"


def publish(topic, *, qos=1, mid=1, dup=False, level=5, payload=b"hi"):
    name = topic.encode()
    body = struct.pack("!H", len(name)) + name + (struct.pack("!H", mid) if qos else b"")
    body += (b"\0" if level == 5 else b"") + payload
    length, size = len(body), b""
    while True:
        length, digit = divmod(length, 128)
        size += bytes([digit | (128 if length else 0)])
        if not length:
            break
    return bytes([0x30 | qos << 1 | dup << 3]) + size + body


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
async def running(intake, *, present=False, level=5, **changes):
    """Yield a broker, a source that has subscribed there, and their connection."""
    async with Broker() as broker:
        version = "5" if level == 5 else "3.1.1"
        source = MqttSource(config(broker, version=version, **changes))
        opening = asyncio.ensure_future(source.open(intake))
        try:
            connection = await broker.connection()
            await connection.accept(present=present, level=level)
            await opening
            yield broker, source, connection
        finally:
            opening.cancel()
            await source.close()


def test_paho_has_the_private_names_that_the_seam_uses():
    """If this fails after an update of paho, read gateway/sources/mqtt/client.py again."""
    client = paho.mqtt.client.Client(paho.mqtt.client.CallbackAPIVersion.VERSION2)
    for name in (
        "_create_socket", "_in_packet", "_last_bytes_received", "_loop_rc_handle",
        "_out_packet", "_packet_handle", "_ping_t", "_sock", "_sock_close", "_sock_recv",
    ):  # fmt: skip
        assert hasattr(client, name), name
    assert set(client._in_packet) == {
        "command", "have_remaining", "remaining_count", "remaining_mult", "remaining_length",
        "packet", "to_process", "pos",
    }  # fmt: skip
    assert BrokerClient.loop_read is not paho.mqtt.client.Client.loop_read


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


@pytest.mark.parametrize(("level", "answer"), [(5, "40 11 0001 83 0d 1f 000a"), (4, "40 02 0001")])
async def test_a_refused_event_is_refused_where_the_version_can_say_so(level, answer):
    settlement = Settlement(Outcome.REJECTED, Reason.SINK_REFUSED, detail="status 400")
    intake = RecordingIntake(lambda _: settlement)
    async with running(intake, level=level) as (_, _, connection):
        connection.send(publish("a", level=level))
        packet = await connection.read()
    assert packet == bytes.fromhex(answer) + (b"status 400" if level == 5 else b"")
    assert intake.rejections == ([] if level == 5 else [("sink_refused", "status 400")])


async def test_what_is_no_event_is_answered_0x99_and_its_neighbour_lives():
    intake = RecordingIntake()
    async with running(intake, event=None) as (_, _, connection):
        event = b'{"specversion":"1.0","id":"1","source":"/s","type":"t"}'
        good = bytes.fromhex("03 0020") + b"application/cloudevents+json;v=1"
        body = b"\0\1a\0\2" + bytes([len(good)]) + good + event
        connection.send(publish("a", mid=1), bytes([0x32, len(body)]) + body)
        refusal = await connection.read()
        assert (refusal[0], refusal[2:5]) == (0x40, b"\0\1\x99")
        assert await connection.read() == b"\x40\x02\x00\x02"
    assert [reason for reason, _ in intake.rejections] == ["not_an_event"]
    assert [event.id for event in intake.events] == ["1"]


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
    async with Broker() as broker:
        source = MqttSource(config(broker))
        opening = asyncio.ensure_future(source.open(intake))
        connection = await broker.connection()
        await connection.read()
        connection.send(b"\x20\x03\x01\x00\x00", publish("a", mid=9, dup=True))
        packets = [await connection.read(), await connection.read()]
        assert b"\x40\x02\x00\x09" in packets
        assert not opening.done()  # SUBACK is what it waits for
        subscribe = next(packet for packet in packets if packet[0] == 0x82)
        connection.send(b"\x90\x04" + subscribe[2:4] + b"\x00\x01")
        await opening
        await source.close()


async def test_a_subscription_that_is_refused_is_an_error_in_the_log_and_not_ready(caplog):
    async with Broker() as broker:
        source = MqttSource(config(broker))
        opening = asyncio.ensure_future(source.open(RecordingIntake()))
        connection = await broker.connection()
        await connection.accept(codes=b"\x87")
        async with asyncio.timeout(5):
            while not caplog.records:
                await asyncio.sleep(0)
        assert not opening.done()
        opening.cancel()
        await source.close()
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


async def test_the_keep_alive_survives_a_long_stall():
    intake = RecordingIntake(lambda _: None)
    async with running(intake, keep_alive=1) as (_, _, connection):
        connection.send(*(publish("a", mid=mid) for mid in range(1, 8)))
        await intake.wait_for(lambda i: len(i.deliveries) == 7)
        intake.room.clear()
        connection.send(publish("b", mid=8))
        assert await connection.read(pings=True) == PINGREQ
        connection.send(PINGRESP)  # it stays unread in the socket, and nobody gives up
        for mid in range(1, 8):  # our answers make further PINGREQ needless for a while
            await asyncio.sleep(0.2)
            intake.deliveries[mid - 1].settle(ACCEPTED)
            assert await connection.read() == bytes([0x40, 2, 0, mid])
        assert await connection.read(pings=True) == PINGREQ
        intake.room.set()
        await intake.wait_for(lambda i: len(i.deliveries) == 8)
        intake.deliveries[7].settle(ACCEPTED)
        assert await connection.read() == b"\x40\x02\x00\x08"


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
