"""The endpoint, asked in bytes that are written out from the specification."""

import asyncio
import contextlib
import socket
import ssl
import struct

import pytest
from pydantic import ValidationError

from gateway.delivery import ACCEPTED, BUSY, Outcome, Reason, Settlement
from gateway.errors import GatewayError
from gateway.sources.mqtt_endpoint import MqttEndpointConfig, MqttEndpointSource
from tests.helpers import RecordingIntake

REFUSED = Settlement(Outcome.REJECTED, Reason.SINK_REFUSED, detail="400")
WRAP = {"type": "t", "source": "/{client_id}", "subject": "{topic}"}
# Session expiry: none. Receive maximum 100, packet size 131072, topic aliases 16, wildcards,
# subscription identifiers and shared subscriptions 0; retaining is available, so absent.
FEATURES = "21 0064  27 00020000  22 0010  28 00  29 00  2a 00"


def text(value):
    data = value.encode()
    return struct.pack("!H", len(data)) + data


def packet(first, body):
    assert len(body) < 16384
    length = len(body)
    size = bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])
    return bytes([first]) + size + body


def connect(client_id="dev", *, level=5, flags=0x02, keep_alive=0, properties=b"", rest=b""):
    head = text("MQTT") + bytes([level, flags]) + struct.pack("!H", keep_alive)
    if level == 5:
        head += bytes([len(properties)]) + properties
    return packet(0x10, head + text(client_id) + rest)


def publish(topic="a/b", payload=b"hi", *, qos=0, mid=0, flags=0, level=5, properties=b""):
    body = text(topic) + (struct.pack("!H", mid) if qos else b"")
    if level == 5:
        body += bytes([len(properties)]) + properties
    return packet(0x30 | qos << 1 | flags, body + payload)


class Device:
    """A socket that speaks bytes."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def send(self, *packets):
        self.writer.write(b"".join(packets))

    async def read(self):
        async with asyncio.timeout(5):
            head = await self.reader.readexactly(2)
            length = head[1]
            if length > 127:
                more = await self.reader.readexactly(1)
                head, length = head + more, length & 127 | more[0] << 7
            return head + await self.reader.readexactly(length)

    async def ended(self):
        async with asyncio.timeout(5):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True

    async def close(self):
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


class Bench:
    def __init__(self):
        self.sources, self.devices = [], []

    async def open(self, intake, **changes):
        fields = {"name": "devices", "protocol": "mqtt-endpoint", "listen": "127.0.0.1:0"}
        source = MqttEndpointSource(MqttEndpointConfig(**{**fields, "event": WRAP, **changes}))
        self.sources.append(source)
        await source.open(intake)
        return source

    async def dial(self, source, context=None):
        reader, writer = await asyncio.open_connection(*source.address, ssl=context)
        device = Device(reader, writer)
        self.devices.append(device)
        return device

    async def connected(self, source, *args, **kwargs):
        device = await self.dial(source)
        device.send(connect(*args, **kwargs))
        answer = await device.read()
        assert answer[0] == 0x20
        assert answer[3] == 0, answer.hex()
        return device


@pytest.fixture
async def bench():
    bench = Bench()
    yield bench
    for device in bench.devices:
        await device.close()
    for source in bench.sources:
        await source.close()


@pytest.fixture
def intake():
    return RecordingIntake()


# Connecting


async def test_connack_tells_a_v5_client_what_there_is(bench, intake):
    device = await bench.dial(await bench.open(intake))
    device.send(connect())
    assert await device.read() == packet(0x20, bytes.fromhex("00 00 11" + FEATURES))


async def test_connack_of_3_1_1_is_four_bytes(bench, intake):
    device = await bench.dial(await bench.open(intake))
    # MQTT 3.1.1 section 3.1: the bytes of figure 3.6, client identifier "a"
    device.send(bytes.fromhex("10 0d 0004 4d515454 04 02 000a 0001 61"))
    assert await device.read() == bytes.fromhex("20 02 00 00")


async def test_a_client_identifier_is_assigned_where_there_is_none(bench, intake):
    device = await bench.dial(await bench.open(intake))
    device.send(connect(""))
    answer = await device.read()
    assert answer[3] == 0
    assert b"\x12\x00\x25auto-" in answer


async def test_3_1_1_without_client_identifier_has_to_be_clean(bench, intake):
    device = await bench.dial(await bench.open(intake))
    device.send(connect("", level=4, flags=0))
    assert await device.read() == bytes.fromhex("20 02 00 02")
    assert await device.ended()


@pytest.mark.parametrize(
    ("level", "rest", "answer"),
    [
        (5, text("ann") + text("wrong"), 0x86),
        (4, text("ann") + text("wrong"), 4),
        (5, text("bob") + text("pw"), 0x86),
        (5, None, 0x87),
        (4, None, 5),
    ],
)
async def test_who_is_unknown_is_refused(bench, intake, level, rest, answer):
    source = await bench.open(intake, users={"ann": "pw"})
    device = await bench.dial(source)
    device.send(connect(level=level, flags=0xC2 if rest else 2, rest=rest or b""))
    assert (await device.read())[3] == answer
    assert await device.ended()


async def test_a_user_is_the_device_of_its_events(bench, intake):
    source = await bench.open(
        intake, users={"ann": "pw"}, event={"type": "t", "source": "/{device}"}
    )
    device = await bench.connected(source, flags=0xC2, rest=text("ann") + text("pw"))
    device.send(publish())
    await intake.wait_for(lambda i: i.events)
    assert intake.events[0].source == "/ann"


async def test_enhanced_authentication_is_refused(bench, intake):
    device = await bench.dial(await bench.open(intake))
    device.send(connect(properties=b"\x15" + text("SCRAM")))
    assert (await device.read())[3] == 0x8C


async def test_another_protocol_level_is_refused_with_return_code_1(bench, intake):
    device = await bench.dial(await bench.open(intake))
    device.send(bytes.fromhex("10 0f 0006 4d5149736470 03 02 003c 0001 61"))  # MQTT 3.1
    assert await device.read() == bytes.fromhex("20 02 00 01")
    assert await device.ended()


@pytest.mark.parametrize(
    "first",
    [
        publish(),
        bytes.fromhex("c000"),
        bytes.fromhex("e000"),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 9,
    ],
)
async def test_what_does_not_begin_with_connect_is_cut_off(bench, intake, first):
    device = await bench.dial(await bench.open(intake))
    device.send(first)
    assert await device.ended()
    assert intake.events == []


async def test_a_connection_without_connect_is_cut_off_in_time(bench, intake):
    device = await bench.dial(await bench.open(intake, connect_timeout=0.05))
    assert await device.ended()


async def test_more_connections_than_allowed_are_cut_off(bench, intake):
    source = await bench.open(intake, max_connections=1)
    first = await bench.connected(source)
    second = await bench.dial(source)
    assert await second.ended()
    first.send(bytes.fromhex("c000"))
    assert await first.read() == bytes.fromhex("d000")


async def test_a_second_connect_is_a_protocol_error(bench, intake):
    device = await bench.connected(await bench.open(intake))
    device.send(connect())
    assert await device.read() == bytes.fromhex("e0 01 82")
    assert await device.ended()


async def test_the_same_client_again_takes_over(bench, intake):
    source = await bench.open(intake)
    older = await bench.connected(source, "dev")
    newer = await bench.connected(source, "dev")
    assert await older.read() == bytes.fromhex("e0 01 8e")
    assert await older.ended()
    newer.send(publish(qos=1, mid=1))
    assert await newer.read() == bytes.fromhex("40 02 0001")


async def test_keep_alive_ends_a_silent_connection(bench, intake):
    device = await bench.connected(await bench.open(intake), keep_alive=1)
    assert await device.read() == bytes.fromhex("e0 01 8d")
    assert await device.ended()


async def test_a_port_that_is_taken_is_an_error(bench, intake):
    source = await bench.open(intake)
    with pytest.raises(GatewayError, match="can't listen"):
        await bench.open(intake, listen=str(source.address))


def test_an_open_listener_needs_users_or_certificates():
    fields = {"name": "d", "protocol": "mqtt-endpoint", "listen": "0.0.0.0:1883"}
    with pytest.raises(ValidationError, match="users is needed"):
        MqttEndpointConfig(**fields)
    MqttEndpointConfig(**fields, users={"a": "b"})
    MqttEndpointConfig(**fields, tls={"cert": "a.pem", "ca": "ca.pem"})


def test_a_template_that_can_not_work_is_a_configuration_error():
    with pytest.raises(ValidationError, match="topik"):
        MqttEndpointConfig(protocol="mqtt-endpoint", event={"type": "t", "source": "/{topik}"})


# Publishing


async def test_a_binary_event_of_the_specification_arrives(bench, intake):
    """The bytes of pitfall 50: names without prefix, values without percent-encoding."""
    device = await bench.connected(await bench.open(intake, event=None))
    device.send(
        bytes.fromhex(
            "30 55 0001 74 4f 03 000a 746578742f706c61696e"
            "26 000b 7370656376657273696f6e 0003 312e30  26 0002 6964 0001 31"
            "26 0006 736f75726365 0002 2f73  26 0004 74797065 0001 74"
            "26 0007 7375626a656374 0004 c3a92025  6869"
        )
    )
    await intake.wait_for(lambda i: i.events)
    (event,) = intake.events
    assert (event.id, event.source, event.type, event.subject) == ("1", "/s", "t", "é %")
    assert (event.datacontenttype, event.data) == ("text/plain", b"hi")


@pytest.mark.parametrize("level", [4, 5])
async def test_qos_1_is_acknowledged_when_accepted_and_not_before(bench, level):
    intake = RecordingIntake(lambda _: None)
    device = await bench.connected(await bench.open(intake), level=level)
    device.send(publish(qos=1, mid=7, level=level), bytes.fromhex("c000"))
    await intake.wait_for(lambda i: i.deliveries)
    assert await device.read() == bytes.fromhex("d000")  # the PINGRESP overtakes the PUBACK
    intake.deliveries[0].settle(ACCEPTED)
    assert await device.read() == bytes.fromhex("40 02 0007")


async def test_acknowledgements_leave_in_order_of_receipt_and_in_one_piece(bench):
    intake = RecordingIntake(lambda _: None)
    device = await bench.connected(await bench.open(intake))
    device.send(publish(qos=1, mid=3), publish(qos=2, mid=1), publish(qos=1, mid=2))
    await intake.wait_for(lambda i: len(i.deliveries) == 3)
    for delivery in reversed(intake.deliveries):
        delivery.settle(ACCEPTED)
    assert [await device.read() for _ in range(3)] == [
        bytes.fromhex("40 02 0003"), bytes.fromhex("50 02 0001"), bytes.fromhex("40 02 0002"),
    ]  # fmt: skip


async def test_qos_2_is_delivered_once_until_it_is_released(bench, intake):
    device = await bench.connected(await bench.open(intake))
    device.send(publish(qos=2, mid=9))
    assert await device.read() == bytes.fromhex("50 02 0009")
    device.send(publish(qos=2, mid=9, flags=8))
    assert await device.read() == bytes.fromhex("50 02 0009")
    device.send(bytes.fromhex("62 02 0009"))
    assert await device.read() == bytes.fromhex("70 02 0009")
    assert len(intake.events) == 1
    device.send(publish(qos=2, mid=9))  # free again
    assert await device.read() == bytes.fromhex("50 02 0009")
    assert len(intake.events) == 2


async def test_pubrel_of_an_unknown_identifier_is_answered_0x92(bench, intake):
    source = await bench.open(intake)
    device = await bench.connected(source)
    device.send(bytes.fromhex("62 02 0005"))
    assert await device.read() == bytes.fromhex("70 03 0005 92")
    old = await bench.connected(source, "old", level=4)
    old.send(bytes.fromhex("62 02 0005"))
    assert await old.read() == bytes.fromhex("70 02 0005")


@pytest.mark.parametrize(("qos", "first"), [(1, 0x40), (2, 0x50)])
async def test_a_refused_event_is_never_acknowledged_as_success(bench, qos, first):
    intake = RecordingIntake(lambda _: REFUSED)
    device = await bench.connected(await bench.open(intake))
    device.send(publish(qos=qos, mid=1))
    assert await device.read() == packet(first, bytes.fromhex("0001 83 06 1f 0003 343030"))


async def test_3_1_1_can_only_say_yes_so_a_refusal_is_counted(bench):
    intake = RecordingIntake(lambda _: REFUSED)
    device = await bench.connected(await bench.open(intake), level=4)
    device.send(publish(qos=1, mid=1, level=4))
    assert await device.read() == bytes.fromhex("40 02 0001")
    assert intake.rejections == [("sink_refused", "400")]


async def test_what_is_no_event_is_answered_0x99_and_its_neighbours_live(bench, intake):
    source = await bench.open(intake, event=None)
    device = await bench.connected(source, properties=b"\x17\x00")  # no reason strings, please
    good = b"".join(
        b"\x26" + text(name) + text(value)
        for name, value in {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}.items()
    )
    device.send(
        publish(qos=1, mid=1, properties=good),
        publish(qos=1, mid=2),
        publish(qos=1, mid=3, properties=good),
        publish(qos=2, mid=4),
    )
    answers = [await device.read() for _ in range(4)]
    assert answers == [
        bytes.fromhex("40 02 0001"), bytes.fromhex("40 03 0002 99"), bytes.fromhex("40 02 0003"),
        bytes.fromhex("50 03 0004 99"),
    ]  # fmt: skip
    assert [reason for reason, _ in intake.rejections] == ["not_an_event", "not_an_event"]
    assert len(intake.events) == 2


async def test_in_3_1_1_what_is_no_event_is_acknowledged_when_it_is_kept(bench, intake):
    device = await bench.connected(await bench.open(intake, event=None), level=4)
    intake.keeping = []
    device.send(publish("a", level=4, qos=1, mid=1), publish("b", level=4, qos=2, mid=2))
    await intake.wait_for(lambda i: len(i.keeping) == 2)
    device.send(b"\xc0\x00")
    assert await device.read() == b"\xd0\x00"  # PINGRESP, and nothing before it
    for on_kept in intake.keeping:
        on_kept(None)
    assert await device.read() == bytes.fromhex("40 02 0001")
    assert await device.read() == bytes.fromhex("50 02 0002")
    assert [(message.address, message.payload) for message in intake.kept] == [
        ("a", b"hi"), ("b", b"hi"),
    ]  # fmt: skip


async def test_in_5_what_is_no_event_is_kept_only_by_its_sender(bench, intake):
    device = await bench.connected(await bench.open(intake, event=None))
    device.send(publish(qos=1, mid=1))
    assert (await device.read())[4] == 0x99
    assert intake.kept == []


async def test_a_payload_above_the_limit_is_refused_by_itself(bench, intake):
    device = await bench.connected(
        await bench.open(intake, limits={"max_event_bytes": 100}), properties=b"\x17\x00"
    )
    device.send(publish(qos=1, mid=1, payload=b"x" * 101), publish(qos=1, mid=2))
    assert await device.read() == bytes.fromhex("40 03 0001 97")
    assert await device.read() == bytes.fromhex("40 02 0002")


async def test_text_that_claims_to_be_utf_8_and_is_not_is_refused(bench, intake):
    device = await bench.connected(await bench.open(intake), properties=b"\x17\x00")
    device.send(publish(qos=1, mid=1, payload=b"\xff", properties=b"\x01\x01"))
    assert await device.read() == bytes.fromhex("40 03 0001 99")


async def test_a_released_event_is_held_and_submitted_again(bench):
    outcomes = [BUSY, ACCEPTED]
    intake = RecordingIntake(lambda _: outcomes.pop(0))
    device = await bench.connected(await bench.open(intake))
    device.send(publish(qos=1, mid=1))
    assert await device.read() == bytes.fromhex("40 02 0001")
    first, second = intake.events
    assert first.id == second.id


async def test_topic_aliases_stand_for_topics(bench, intake):
    device = await bench.connected(await bench.open(intake))
    device.send(publish("a/b", properties=b"\x23\x00\x01"), publish("", properties=b"\x23\x00\x01"))
    await intake.wait_for(lambda i: len(i.events) == 2)
    assert [event.subject for event in intake.events] == ["a/b", "a/b"]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (publish("a", properties=b"\x23\x00\x00"), "94"),
        (publish("a", properties=b"\x23\x00\x11"), "94"),
        (publish("", properties=b"\x23\x00\x02"), "82"),
        (publish(""), "82"),
        (publish("a/+"), "90"),
        (publish("a\0"), "81"),
        (publish("a", qos=3, mid=1), "81"),
        (publish("a", qos=1, mid=0), "82"),
        (packet(0x30, b"\x00\x01\xff\x00"), "81"),
        (publish("a", properties=b"\x0b\x01"), "82"),
        (bytes.fromhex("30 ff ff ff 7f"), "95"),
        (bytes.fromhex("30 80 80 80 80 01"), "81"),
        (bytes.fromhex("00 00"), "81"),
        (bytes.fromhex("20 03 00 00 00"), "82"),
        (bytes.fromhex("f0 00"), "82"),
        (bytes.fromhex("c1 00"), "81"),
        (bytes.fromhex("40 02 0001"), "82"),
    ],
)  # fmt: skip
async def test_a_broken_packet_ends_the_connection_with_its_reason(bench, intake, wrong, code):
    device = await bench.connected(await bench.open(intake))
    device.send(publish("ok"), wrong)
    assert await device.read() == bytes.fromhex("e0 01" + code)
    assert await device.ended()
    assert [event.subject for event in intake.events] == ["ok"]  # the neighbour lives
    assert [reason for reason, _ in intake.rejections] == ["mqtt_protocol"]


async def test_more_than_the_receive_maximum_ends_the_connection(bench):
    intake = RecordingIntake(lambda _: None)
    device = await bench.connected(await bench.open(intake, receive_maximum=2))
    device.send(*(publish(qos=1, mid=mid) for mid in (1, 2, 3)))
    assert await device.read() == bytes.fromhex("e0 01 93")


@pytest.mark.parametrize(("level", "code"), [(5, "87"), (4, "80")])
async def test_subscribe_is_refused_and_unsubscribe_answered(bench, intake, level, code):
    device = await bench.connected(await bench.open(intake), level=level)
    properties = b"\x00" if level == 5 else b""
    device.send(
        packet(0x82, b"\x00\x01" + properties + text("a/#") + b"\x01" + text("b") + b"\x00")
    )
    assert await device.read() == packet(0x90, b"\x00\x01" + properties + bytes.fromhex(code * 2))
    device.send(packet(0xA2, b"\x00\x02" + properties + text("a/#")))
    assert await device.read() == packet(0xB0, b"\x00\x02" + (b"\x00\x11" if level == 5 else b""))


# Sessions


async def test_a_repetition_on_a_new_connection_joins_what_is_under_way(bench):
    intake = RecordingIntake(lambda _: None)
    source = await bench.open(intake)
    expiry = b"\x11\x00\x00\x00\x3c"
    device = await bench.connected(source, flags=0, properties=expiry)
    device.send(publish(qos=1, mid=1), publish(qos=2, mid=2))
    await intake.wait_for(lambda i: len(i.deliveries) == 2)
    await device.close()
    device = await bench.dial(source)
    device.send(connect(flags=0, properties=expiry))
    assert (await device.read())[2] == 1  # session present
    device.send(
        publish(qos=1, mid=1, flags=8), publish(qos=2, mid=2, flags=8), bytes.fromhex("c000")
    )
    assert await device.read() == bytes.fromhex("d000")
    for delivery in intake.deliveries:
        delivery.settle(ACCEPTED)
    assert await device.read() == bytes.fromhex("40 02 0001")
    assert await device.read() == bytes.fromhex("50 02 0002")
    assert len(intake.deliveries) == 2


async def test_what_was_settled_between_two_connections_is_answered_on_the_second(bench):
    intake = RecordingIntake(lambda _: None)
    source = await bench.open(intake)
    device = await bench.connected(source, level=4, flags=0)
    device.send(publish(qos=1, mid=1, level=4))
    await intake.wait_for(lambda i: i.deliveries)
    device.send(bytes.fromhex("e000"))
    assert await device.ended()
    intake.deliveries[0].settle(ACCEPTED)
    device = await bench.dial(source)
    device.send(connect(level=4, flags=0), publish(qos=1, mid=1, level=4, flags=8))
    assert await device.read() == bytes.fromhex("20 02 01 00")
    assert await device.read() == bytes.fromhex("40 02 0001")
    assert len(intake.deliveries) == 1


async def test_a_device_that_begins_its_identifiers_anew_loses_nothing(bench):
    intake = RecordingIntake(lambda _: None)
    source = await bench.open(intake)
    device = await bench.connected(source, level=4, flags=0)
    device.send(publish("old", qos=1, mid=1, level=4))
    await intake.wait_for(lambda i: i.deliveries)
    await device.close()
    device = await bench.connected(source, level=4, flags=0)
    device.send(publish("new", qos=1, mid=1, level=4), bytes.fromhex("c000"))
    assert await device.read() == bytes.fromhex("d000")
    assert [event.subject for event in intake.events] == ["old", "new"]
    intake.deliveries[0].settle(ACCEPTED)
    device.send(bytes.fromhex("c000"))
    assert await device.read() == bytes.fromhex("d000")  # the old one's answer is not the new one's
    intake.deliveries[1].settle(ACCEPTED)
    assert await device.read() == bytes.fromhex("40 02 0001")


async def test_a_clean_start_forgets_the_session(bench, intake):
    source = await bench.open(intake)
    expiry = b"\x11\x00\x00\x00\x3c"
    device = await bench.connected(source, flags=0, properties=expiry)
    device.send(publish(qos=2, mid=2))
    assert await device.read() == bytes.fromhex("50 02 0002")
    await device.close()
    device = await bench.dial(source)
    device.send(connect(flags=2, properties=expiry))
    assert (await device.read())[2] == 0
    device.send(publish(qos=2, mid=2, flags=8))
    assert await device.read() == bytes.fromhex("50 02 0002")
    assert len(intake.events) == 2


async def test_a_longer_session_expiry_than_ours_is_told(bench, intake):
    device = await bench.dial(await bench.open(intake, session_expiry=60))
    device.send(connect(properties=b"\x11\xff\xff\xff\xff"))
    assert b"\x11\x00\x00\x00\x3c" in await device.read()


# Wills


@pytest.mark.parametrize("level", [4, 5])
async def test_the_will_becomes_an_event_when_the_connection_breaks(bench, intake, level):
    source = await bench.open(intake)
    will = (b"\x00" if level == 5 else b"") + text("gone") + text("bye")
    device = await bench.connected(source, level=level, flags=0x0E, rest=will)
    device.writer.transport.abort()
    await intake.wait_for(lambda i: i.events)
    assert (intake.events[0].subject, intake.events[0].data) == ("gone", b"bye")


@pytest.mark.parametrize("level", [4, 5])
async def test_retained_messages_and_wills_are_events_like_others(bench, intake, level):
    source = await bench.open(intake)
    will = (b"\x00" if level == 5 else b"") + text("gone") + text("bye")
    device = await bench.connected(source, level=level, flags=0x26, rest=will)
    device.send(publish("a", qos=1, mid=1, flags=1, level=level))
    assert await device.read() == bytes.fromhex("40 02 0001")
    device.writer.transport.abort()
    await intake.wait_for(lambda i: len(i.events) == 2)
    assert [event.subject for event in intake.events] == ["a", "gone"]


@pytest.mark.parametrize("level", [4, 5])
async def test_a_will_that_is_no_event_is_kept_since_nobody_is_told(bench, intake, level):
    source = await bench.open(intake, event=None)
    will = (b"\x00" if level == 5 else b"") + text("gone") + text("bye")
    device = await bench.connected(source, level=level, flags=0x0E, rest=will)
    device.writer.transport.abort()
    await intake.wait_for(lambda i: i.kept)
    assert [(message.address, message.payload) for message in intake.kept] == [("gone", b"bye")]


@pytest.mark.parametrize(("bye", "count"), [("e000", 0), ("e00104", 1)])
async def test_a_disconnect_decides_about_the_will(bench, intake, bye, count):
    will = b"\x00" + text("gone") + text("bye")
    device = await bench.connected(await bench.open(intake), flags=0x06, rest=will)
    device.send(bytes.fromhex(bye))
    assert await device.ended()
    assert len(intake.events) == count


# Flow


async def test_reading_stops_while_there_is_no_room(bench, intake):
    source = await bench.open(intake)
    device = await bench.connected(source)
    intake.room.clear()
    device.send(publish("1", qos=1, mid=1))
    other = await bench.connected(source, "other")  # by then the first packet has been read
    other.send(bytes.fromhex("c000"))
    assert await other.read() == bytes.fromhex("d000")
    device.send(publish("2", qos=1, mid=2), publish("3", qos=1, mid=3))
    assert intake.events == []
    intake.room.set()
    assert [await device.read() for _ in range(3)] == [
        bytes.fromhex("40 02 0001"), bytes.fromhex("40 02 0002"), bytes.fromhex("40 02 0003"),
    ]  # fmt: skip
    assert [event.subject for event in intake.events] == ["1", "2", "3"]


async def test_reading_stops_over_tls_too(bench, intake, certificates):
    tls = {"cert": certificates.server_cert, "key": certificates.server_key}
    source = await bench.open(intake, tls=tls)
    device = await bench.dial(source, ssl.create_default_context(cafile=certificates.ca))
    device.send(connect())
    assert (await device.read())[3] == 0
    intake.room.clear()
    for mid in range(1, 91):
        device.send(publish(qos=1, mid=mid, payload=bytes(9000)))
    other = await bench.dial(source, ssl.create_default_context(cafile=certificates.ca))
    other.send(connect("other"))
    assert (await other.read())[3] == 0
    intake.room.set()
    answers = [await device.read() for _ in range(90)]
    assert [answer[3] for answer in answers] == list(range(1, 91))


async def test_a_stall_that_lasts_ends_the_connection_with_0x97(bench, intake):
    device = await bench.connected(await bench.open(intake, stall_timeout=0.05))
    intake.room.clear()
    device.send(publish(qos=1, mid=1))
    assert await device.read() == bytes.fromhex("e0 01 97")
    assert await device.ended()
    intake.room.set()


async def test_a_device_that_takes_no_answers_is_cut_off(bench, intake, monkeypatch):
    monkeypatch.setattr("gateway.sources.mqtt_endpoint.connection._LINGER_SECONDS", 0.1)
    source = await bench.open(intake, stall_timeout=0.2)
    device = await bench.connected(source)
    device.writer.transport.pause_reading()
    (connection,) = source._host.connections
    for transport, option in (
        (device.writer.transport, socket.SO_RCVBUF),
        (connection._transport, socket.SO_SNDBUF),
    ):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, 4096)
    async with asyncio.timeout(20):
        while not connection._write_blocked:
            device.send(b"\xc0\x00" * 100_000)
            await asyncio.sleep(0.01)
        await connection.closed


async def test_a_device_that_comes_back_in_a_stall_goes_on_in_order(bench, intake):
    source = await bench.open(intake)
    expiry = bytes.fromhex("11 0000ffff")
    device = await bench.connected(source, flags=0, properties=expiry)
    intake.room.clear()
    device.send(publish("1", qos=1, mid=1))
    await device.close()
    again = await bench.connected(source, flags=0, properties=expiry)
    again.send(publish("1", qos=1, mid=1, flags=8), publish("2", qos=1, mid=2))
    other = await bench.connected(source, "other")  # by then the gateway has read, or has not
    other.send(bytes.fromhex("c000"))
    await other.read()
    intake.room.set()
    assert [await again.read() for _ in range(2)] == [
        bytes.fromhex("40 02 0001"), bytes.fromhex("40 02 0002"),
    ]  # fmt: skip
    assert [event.subject for event in intake.events] == ["1", "2"]


async def test_what_a_lost_device_left_waiting_takes_up_its_place(bench, intake):
    """Else devices that come and go in a stall would fill the memory."""
    source = await bench.open(intake, max_connections=1)
    device = await bench.connected(source)
    intake.room.clear()
    device.send(publish("1"))
    await device.close()
    assert await (await bench.dial(source)).ended()
    intake.room.set()
    await intake.wait_for(lambda i: i.events)
    await bench.connected(source, "next")


async def test_drain_answers_what_is_under_way_and_refuses_what_comes(bench):
    intake = RecordingIntake(lambda _: None)
    source = await bench.open(intake)
    idle = await bench.connected(source, "idle")
    busy = await bench.connected(source, "busy")
    old = await bench.connected(source, "old", level=4)
    busy.send(publish(qos=1, mid=1))
    await intake.wait_for(lambda i: i.deliveries)
    draining = asyncio.ensure_future(source.drain())
    assert await idle.read() == bytes.fromhex("e0 01 8b")
    assert await old.ended()
    late = await bench.dial(source)
    late.send(connect("late"))
    assert (await late.read())[:4] == bytes.fromhex("20 03 00 88")
    intake.deliveries[0].settle(ACCEPTED)
    assert await busy.read() == bytes.fromhex("40 02 0001")
    assert await busy.read() == bytes.fromhex("e0 01 8b")
    for device in (idle, busy, old):
        await device.close()
    async with asyncio.timeout(5):
        await draining


# TLS


async def test_the_common_name_of_the_certificate_is_the_device(bench, intake, certificates):
    tls = {"cert": certificates.server_cert, "key": certificates.server_key, "ca": certificates.ca}
    source = await bench.open(intake, tls=tls, event={"type": "t", "source": "/{device}"})
    context = ssl.create_default_context(cafile=certificates.ca)
    context.load_cert_chain(certificates.client_cert, certificates.client_key)
    device = await bench.dial(source, context)
    device.send(connect(), publish(qos=1, mid=1))
    assert (await device.read())[3] == 0
    assert await device.read() == bytes.fromhex("40 02 0001")
    assert intake.events[0].source == "/device-1"
