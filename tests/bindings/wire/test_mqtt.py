"""MQTT packets against bytes that are written out from MQTT 5.0 and 3.1.1."""

import contextlib
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindings.binding import Message
from bindings.errors import CloudEventError
from bindings.mqtt import MQTT
from bindings.wire.mqtt import (
    V5,
    V311,
    Ack,
    Connack,
    Connect,
    Disconnect,
    PacketError,
    PacketReader,
    PacketType,
    Peer,
    Ping,
    Property,
    Publish,
    RawPacket,
    ReasonCode,
    Suback,
    Subscribe,
    Subscription,
    Unsubscribe,
    Will,
    encode,
    encode_ack,
    encode_pubacks,
    parse,
)
from bindings.wire.mqtt import property as wire_property
from bindings.wire.mqtt.property import read_varint, write_varint
from bindings.wire.mqtt.reason import describe
from bindings.wire.mqtt.shape import Shapes

EVENT_PROPERTIES = [
    ("specversion", "1.0"), ("id", "1"), ("source", "/s"), ("type", "t"), ("subject", "é %"),
]  # fmt: skip

# peer that sends it, version, bytes, packet
VECTORS = [
    # pitfall 50: a binary-mode event
    (
        Peer.CLIENT, V5,
        ("30 55 0001 74 4f 03 000a 746578742f706c61696e 26 000b 7370656376657273696f6e 0003 312e30"
         "26 0002 6964 0001 31 26 0006 736f75726365 0002 2f73 26 0004 74797065 0001 74"
         "26 0007 7375626a656374 0004 c3a92025 6869"),
        Publish("t", b"hi", content_type="text/plain", user_properties=EVENT_PROPERTIES,
                properties={Property.CONTENT_TYPE: "text/plain"}),
    ),
    # 3.1.1 figure 3.11: topic a/b, packet identifier 10, QoS 1
    (Peer.CLIENT, V311, "32 07 0003 612f62 000a", Publish("a/b", b"", 1, 10)),
    (
        Peer.CLIENT, V311, "3d 08 0003 612f62 000a 78",
        Publish("a/b", b"x", 2, 10, dup=True, retain=True),
    ),
    (
        Peer.CLIENT, V5, "30 09 0001 74 05 09 0002 0102",
        Publish("t", b"", properties={Property.CORRELATION_DATA: b"\1\2"}),
    ),
    (
        Peer.CLIENT, V5, "10 17 0004 4d515454 05 06 0000 00 0000 04 03 0001 78 0001 77 0000",
        Connect(V5, "", will=Will("w", b"", content_type="x",
                                  properties={Property.CONTENT_TYPE: "x"})),
    ),
    # 3.1.1 section 3.1.2.10: protocol name, level, flags 0xCE, keep alive 10
    (
        Peer.CLIENT, V311,
        "10 1b 0004 4d515454 04 ce 000a 0001 63 0001 77 0002 6869 0001 75 0002 7077",
        Connect(V311, "c", True, 10, "u", b"pw", Will("w", b"hi", 1)),
    ),
    # 5.0 section 3.1.2: figure 3-6 with session expiry 10 as in its property example
    (
        Peer.CLIENT, V5,
        ("10 29 0004 4d515454 05 e6 000a 05 11 0000000a 0001 63"
         "07 18 00000005 01 01 0001 77 0002 6869 0001 75 0002 7077"),
        Connect(V5, "c", True, 10, "u", b"pw",
                Will("w", b"hi", 0, True, properties={Property.WILL_DELAY_INTERVAL: 5,
                                                      Property.PAYLOAD_FORMAT_INDICATOR: 1}),
                {Property.SESSION_EXPIRY_INTERVAL: 10}),
    ),
    (Peer.CLIENT, V5, "10 10 0004 4d515454 05 40 0000 00 0000 0001 70",
     Connect(V5, "", False, 0, None, b"p")),
    # 3.1.1 figure 3.20: topic filters a/b with QoS 1 and c/d with QoS 2
    (
        Peer.CLIENT, V311, "82 0e 000a 0003 612f62 01 0003 632f64 02",
        Subscribe(10, [Subscription("a/b", 1), Subscription("c/d", 2)]),
    ),
    (
        Peer.CLIENT, V5, "82 0b 000a 02 0b 05 0003 612f23 2d",
        Subscribe(10, [Subscription("a/#", 1, True, True, 2)],
                  {Property.SUBSCRIPTION_IDENTIFIER: 5}),
    ),
    (Peer.CLIENT, V311, "a2 0c 000a 0003 612f62 0003 632f64", Unsubscribe(10, ["a/b", "c/d"])),
    (Peer.CLIENT, V5, "a2 08 000a 00 0003 612f62", Unsubscribe(10, ["a/b"])),
    (Peer.CLIENT, V5, "62 02 0102", Ack(PacketType.PUBREL, 258)),
    (Peer.CLIENT, V5, "62 03 0102 92", Ack(PacketType.PUBREL, 258, 0x92)),
    (Peer.CLIENT, V5, "c0 00", Ping(PacketType.PINGREQ)),
    (Peer.CLIENT, V5, "e0 00", Disconnect()),
    (Peer.CLIENT, V5, "e0 01 04", Disconnect(4)),
    (
        Peer.CLIENT, V5, "e0 07 00 05 11 00000000",
        Disconnect(0, {Property.SESSION_EXPIRY_INTERVAL: 0}),
    ),
    (Peer.SERVER, V311, "20 02 01 00", Connack(0, True)),
    (Peer.SERVER, V311, "20 02 00 05", Connack(5)),
    (
        Peer.SERVER, V5, "20 06 00 00 03 21 0014",
        Connack(0, False, {Property.RECEIVE_MAXIMUM: 20}),
    ),
    (
        Peer.SERVER, V5, "20 08 00 86 05 1f 0002 6e6f",
        Connack(0x86, False, {Property.REASON_STRING: "no"}),
    ),
    (Peer.SERVER, V5, "40 02 0001", Ack(PacketType.PUBACK, 1)),
    (Peer.SERVER, V5, "40 03 0001 10", Ack(PacketType.PUBACK, 1, 0x10)),
    (
        Peer.SERVER, V5, "50 09 0001 99 05 1f 0002 6e6f",
        Ack(PacketType.PUBREC, 1, 0x99, {Property.REASON_STRING: "no"}),
    ),
    (Peer.SERVER, V311, "70 02 0001", Ack(PacketType.PUBCOMP, 1)),
    (Peer.SERVER, V311, "90 05 000a 00 02 80", Suback(PacketType.SUBACK, 10, (0, 2, 0x80))),
    (Peer.SERVER, V5, "90 05 000a 00 01 87", Suback(PacketType.SUBACK, 10, (1, 0x87))),
    (Peer.SERVER, V311, "b0 02 000a", Suback(PacketType.UNSUBACK, 10)),
    (Peer.SERVER, V5, "b0 04 000a 00 11", Suback(PacketType.UNSUBACK, 10, (0x11,))),
    (Peer.SERVER, V5, "d0 00", Ping(PacketType.PINGRESP)),
    (Peer.SERVER, V5, "e0 01 8b", Disconnect(0x8B)),
    (Peer.SERVER_RAW, V5, "20 03 00 00 00", RawPacket(0x20, b"\0\0\0")),
]  # fmt: skip


@pytest.mark.parametrize(("peer", "version", "data", "packet"), VECTORS)
def test_the_bytes_of_the_specification_and_the_packet_are_the_same(peer, version, data, packet):
    data = bytes.fromhex(data)
    packets, taken, _ = parse(data, peer, version)
    assert [normal(each) for each in packets] == [normal(packet)]
    assert taken == len(data)
    assert encode(packet, version) == data


def normal(packet):
    return {
        name: [tuple(pair) if name == "user_properties" else pair for pair in value]
        if isinstance(value, (list, tuple))
        else value
        for name in type(packet).__struct_fields__
        for value in [getattr(packet, name)]
    }


@pytest.mark.parametrize(("peer", "version", "data", "packet"), VECTORS)
def test_a_packet_byte_by_byte_is_the_same_packet(peer, version, data, packet):
    reader = PacketReader(peer, version)
    data = bytes.fromhex(data)
    packets = []
    for position in range(len(data)):
        assert packets == []
        packets += reader.feed(data[position : position + 1])
    assert [normal(each) for each in packets] == [normal(packet)]
    assert reader.held == 0


def test_one_read_brings_many_packets_and_the_rest_waits():
    publish = bytes.fromhex("30 06 0001 74 00 6869")
    reader = PacketReader(Peer.CLIENT)
    packets = reader.feed(publish * 3 + publish[:4])
    assert [packet.payload for packet in packets] == [b"hi"] * 3
    assert reader.held == 4
    assert len(reader.feed(publish[4:] + publish)) == 2


def test_reading_stops_after_connect_as_its_version_decides_about_the_rest():
    reader = PacketReader(Peer.CLIENT)
    data = bytes.fromhex("10 0d 0004 4d515454 04 02 0000 0001 63  30 05 0001 74 6869")
    assert [type(packet) for packet in reader.feed(data)] == [Connect]
    reader.version = V311
    assert [packet.payload for packet in reader.feed(b"")] == [b"hi"]


# Table 2-1 of section 1.5.5
@pytest.mark.parametrize(
    ("value", "data"),
    [
        (0, "00"), (127, "7f"), (128, "8001"), (16383, "ff7f"), (16384, "808001"),
        (2097151, "ffff7f"), (2097152, "80808001"), (268435455, "ffffff7f"),
    ],
)  # fmt: skip
def test_variable_byte_integers(value, data):
    data = bytes.fromhex(data)
    assert write_varint(value) == data
    assert read_varint(data, 0) == (value, len(data))


WRONG = [
    # framing
    (Peer.CLIENT, V5, "30 80808080 01", 0x81, "remaining length of five bytes"),
    (Peer.CLIENT, V311, "30 80808080 01", 0x81, "remaining length of five bytes"),
    (Peer.CLIENT, V5, "c0 80 00", 0x81, "remaining length longer than needed [MQTT-1.5.5-1]"),
    (Peer.CLIENT, V5, "00 00", 0x81, "packet type 0"),
    (Peer.CLIENT, V5, "20 02 00 00", 0x82, "a client's CONNACK"),
    (Peer.SERVER, V5, "10 00", 0x82, "a server's CONNECT"),
    (Peer.CLIENT, V5, "f0 00", 0x82, "AUTH without a method"),
    (Peer.CLIENT, V311, "f0 00", 0x81, "AUTH in 3.1.1"),
    # reserved flags [MQTT-2.1.3-1]
    (Peer.CLIENT, V5, "c1 00", 0x81, "PINGREQ"),
    (Peer.CLIENT, V5, "60 02 0001", 0x81, "PUBREL"),
    (Peer.CLIENT, V5, "80 06 0001 00 0001 61 00", 0x81, "SUBSCRIBE"),
    (Peer.CLIENT, V5, "11 0e 0004 4d515454 05 02 0000 00 0001 63", 0x81, "CONNECT"),
    (Peer.CLIENT, V5, "e2 00", 0x81, "DISCONNECT"),
    # PUBLISH
    (Peer.CLIENT, V5, "36 06 0001 74 0001 00", 0x81, "QoS 3 [MQTT-3.3.1-4]"),
    (Peer.CLIENT, V5, "38 04 0001 74 00", 0x81, "DUP at QoS 0 [MQTT-3.3.1-2]"),
    (Peer.CLIENT, V5, "32 06 0001 74 0000 00", 0x82, "packet identifier 0 [MQTT-2.2.1-2]"),
    (Peer.CLIENT, V5, "30 04 0001 2b 00", 0x90, "wildcard + [MQTT-3.3.2-2]"),
    (Peer.CLIENT, V5, "30 04 0001 23 00", 0x90, "wildcard # [MQTT-3.3.2-2]"),
    (Peer.CLIENT, V5, "30 03 0000 00", 0x82, "no topic and no alias"),
    (Peer.CLIENT, V311, "30 02 0000", 0x82, "no topic [MQTT-4.7.3-1]"),
    (Peer.CLIENT, V5, "30 04 0001 00 00", 0x81, "U+0000 in the topic [MQTT-1.5.4-2]"),
    (Peer.CLIENT, V5, "30 06 0003 eda080 00", 0x81, "a surrogate in the topic [MQTT-1.5.4-1]"),
    (Peer.CLIENT, V5, "30 04 0001 ff 00", 0x81, "no UTF-8 in the topic"),
    (Peer.CLIENT, V5, "30 04 0003 7474", 0x81, "the topic longer than the packet"),
    (Peer.CLIENT, V5, "30 03 0001 74", 0x81, "no property length"),
    (Peer.CLIENT, V5, "30 03 0001 74 00 00", 0x81, "no property length, zeros behind"),
    (Peer.SERVER, V5, "90 02 000a 00 00", 0x81, "SUBACK without properties, zeros behind"),
    (Peer.CLIENT, V5, "32 04 0001 74 00", 0x81, "half a packet identifier"),
    (Peer.CLIENT, V311, "32 04 0001 74 00 c000", 0x81, "the same, and a packet behind"),
    (Peer.CLIENT, V5, "30 04 0001 74 05", 0x81, "properties longer than the packet"),
    # properties (section 2.2.2)
    (Peer.CLIENT, V5, "30 06 0001 74 02 7f 00", 0x81, "unknown property"),
    (Peer.CLIENT, V5, "30 07 0001 74 03 21 0001", 0x81, "receive maximum in PUBLISH"),
    (Peer.CLIENT, V5, "30 08 0001 74 04 01 00 01 00", 0x82, "payload format twice"),
    (Peer.CLIENT, V5, "30 0c 0001 74 08 03 0001 61 03 0001 62", 0x82, "content type twice"),
    (Peer.CLIENT, V5, "30 06 0001 74 02 01 02", 0x82, "payload format 2"),
    (Peer.CLIENT, V5, "30 06 0001 74 02 0b 00", 0x82, "subscription identifier 0"),
    (Peer.CLIENT, V5, "30 08 0001 74 04 08 0001 23", 0x82, "wildcard in the response topic"),
    (Peer.CLIENT, V5, "30 0a 0001 74 06 26 0001 00 0000", 0x81, "U+0000 in a user property"),
    (Peer.CLIENT, V5, "30 0a 0001 74 06 26 0000 0001 ff", 0x81, "no UTF-8 in a user property"),
    (Peer.CLIENT, V5, "30 09 0001 74 05 26 0001 61 0009", 0x81, "a user property too long"),
    (Peer.CLIENT, V5, "30 0b 0001 74 04 26 0001 61 0001 61 00", 0x81, "a property across the end"),
    (Peer.CLIENT, V5, "10 10 0004 4d515454 05 02 0000 03 21 0000 0000", 0x82,
     "receive maximum 0"),
    (Peer.CLIENT, V5, "10 0f 0004 4d515454 05 02 0000 02 17 02 0000", 0x82, "request problem 2"),
    (Peer.CLIENT, V5, "10 11 0004 4d515454 05 02 0000 04 16 0001 00 0000", 0x82, "data, no method"),
    # CONNECT
    (Peer.CLIENT, V5, "10 0d 0004 4d515454 03 02 0000 0001 63", 0x84, "level 3"),
    (Peer.CLIENT, V5, "10 0f 0006 4d5149736470 03 02 003c 0001 61", 0x84, "MQIsdp"),
    (Peer.CLIENT, V5, "10 0e 0004 4d515454 05 03 0000 00 0001 63", 0x81, "reserved flag"),
    (Peer.CLIENT, V5, "10 0e 0004 4d515454 05 0a 0000 00 0001 63", 0x81, "will QoS, no will"),
    (Peer.CLIENT, V5, "10 0e 0004 4d515454 05 22 0000 00 0001 63", 0x81, "will retain, no will"),
    (Peer.CLIENT, V5, "10 0e 0004 4d515454 05 1e 0000 00 0001 63", 0x81, "will QoS 3"),
    (Peer.CLIENT, V311, "10 10 0004 4d515454 04 42 0000 0001 63 0001 70", 0x81, "no user"),
    (Peer.CLIENT, V5, "10 0f 0004 4d515454 05 02 0000 00 0001 63 00", 0x81, "a byte too much"),
    (Peer.CLIENT, V5, "10 0d 0004 4d515454 05 02 0000 00 0001", 0x81, "a byte too few"),
    (Peer.CLIENT, V311, "10 12 0004 4d515454 04 06 0000 0001 63 0001 23 0000", 0x90, "will to #"),
    # acknowledgements
    (Peer.CLIENT, V5, "62 02 0000", 0x82, "packet identifier 0"),
    (Peer.CLIENT, V5, "62 01 00 00", 0x81, "one byte"),
    (Peer.CLIENT, V311, "62 03 0001 00", 0x81, "a reason code in 3.1.1"),
    (Peer.CLIENT, V5, "62 03 0001 80", 0x82, "a reason code that PUBREL does not have"),
    (Peer.SERVER, V5, "40 05 0001 00 00 00", 0x81, "a byte too much"),
    # SUBSCRIBE, UNSUBSCRIBE and their answers
    (Peer.CLIENT, V5, "82 03 0001 00", 0x82, "no filter [MQTT-3.8.3-2]"),
    (Peer.CLIENT, V5, "a2 03 0001 00", 0x82, "no filter [MQTT-3.10.3-2]"),
    (Peer.CLIENT, V5, "82 06 0001 00 0000 00", 0x81, "an empty filter [MQTT-4.7.3-1]"),
    (Peer.CLIENT, V5, "82 07 0001 00 0001 61 03", 0x82, "QoS 3"),
    (Peer.CLIENT, V5, "82 06 0001 00 0001 61 32 00", 0x81, "no options, and a packet behind"),
    (Peer.CLIENT, V5, "82 07 0001 00 0001 61 30", 0x82, "retain handling 3"),
    (Peer.CLIENT, V5, "82 07 0001 00 0001 61 40", 0x81, "reserved options [MQTT-3.8.3-5]"),
    (Peer.CLIENT, V311, "82 06 0001 0001 61 04", 0x81, "reserved options in 3.1.1"),
    (Peer.SERVER, V5, "90 01 00 00", 0x81, "SUBACK of one byte"),
    (Peer.SERVER, V311, "b0 03 0001 00", 0x81, "UNSUBACK with codes in 3.1.1"),
    # CONNACK and DISCONNECT
    (Peer.SERVER, V5, "20 03 02 00 00", 0x81, "reserved flags [MQTT-3.2.2-1]"),
    (Peer.SERVER, V5, "20 03 01 86 00", 0x81, "refused, with a session [MQTT-3.2.2-6]"),
    (Peer.SERVER, V5, "20 03 00 05 00", 0x82, "return code 5 in version 5"),
    (Peer.CLIENT, V5, "e0 01 01", 0x82, "reason code 1"),
    (Peer.CLIENT, V311, "e0 01 00", 0x81, "a body in 3.1.1"),
    (Peer.CLIENT, V5, "c0 01 00", 0x81, "PINGREQ with a body"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("peer", "version", "data", "code", "what"), WRONG, ids=[row[4] for row in WRONG]
)
def test_what_the_specification_forbids_has_its_reason_code(peer, version, data, code, what):
    good = bytes.fromhex("c000" if peer == Peer.CLIENT else "d000")
    with pytest.raises(PacketError) as raised:
        parse(good + bytes.fromhex(data), peer, version)
    assert raised.value.code == code, what
    assert [type(packet) for packet in raised.value.packets] == [Ping]  # its neighbour lives


def test_a_subscription_identifier_may_stand_twice_in_what_a_server_sends():
    (packet,), _, _ = parse(bytes.fromhex("30 08 0001 74 04 0b 01 0b 02"), Peer.SERVER, V5)
    assert packet.properties == {Property.SUBSCRIPTION_IDENTIFIER: 2}


def test_3_1_1_allows_a_remaining_length_longer_than_needed():
    packets, taken, _ = parse(bytes.fromhex("c0 80 00"), Peer.CLIENT, V311)
    assert packets == [Ping(PacketType.PINGREQ)]
    assert taken == 3


def test_a_packet_above_the_limit_is_refused_by_its_header():
    parse(bytes.fromhex("30 08 0001 74 00 31323334"), Peer.CLIENT, V5, limit=10)
    with pytest.raises(PacketError) as raised:
        parse(bytes.fromhex("30 09"), Peer.CLIENT, V5, limit=10)
    assert raised.value.code == ReasonCode.PACKET_TOO_LARGE


def test_the_byte_order_mark_is_kept():
    (packet,), _, _ = parse(bytes.fromhex("30 06 0003 efbbbf 00"), Peer.CLIENT, V5)
    assert packet.topic == "\ufeff"  # [MQTT-1.5.4-3]


def test_an_acknowledgement_takes_the_shortest_form():
    assert encode_ack(PacketType.PUBACK, 1, 0, V5) == bytes.fromhex("40 02 0001")
    assert encode_ack(PacketType.PUBREL, 1, 0, V5) == bytes.fromhex("62 02 0001")
    assert encode_ack(PacketType.PUBREC, 1, 0x99, V311) == bytes.fromhex("50 02 0001")


def test_acknowledgements_of_a_list_are_as_those_of_each():
    assert encode_pubacks([1, 0x1234, 65535]) == bytes.fromhex("40020001 40021234 4002FFFF")
    assert encode_pubacks([]) == b""


@pytest.mark.parametrize("topic", ["a\0", "x" * 65536])
def test_what_can_not_be_written_is_an_error(topic):
    with pytest.raises(ValueError, match="MQTT strings"):
        encode(Publish(topic, b""), V5)


def test_the_content_type_of_a_will_is_its_property():
    will = Will("w", b"", content_type="x")
    assert encode(Connect(V5, "", will=will), V5) == bytes.fromhex(
        "10 17 0004 4d515454 05 06 0000 00 0000 04 03 0001 78 0001 77 0000"
    )


def test_a_packet_that_no_length_can_say_is_an_error():
    with pytest.raises(ValueError, match="at most 268435455"):
        encode(Publish("t", bytes(268_435_455)), V311)


def test_reason_codes_are_shown_as_people_read_them():
    assert describe(0x99) == "0x99 Payload format invalid"
    assert describe(0x7F) == "0x7F"


@given(
    st.sampled_from(Peer),
    st.sampled_from([V311, V5]),
    st.lists(st.binary(max_size=60) | st.sampled_from([bytes.fromhex(row[2]) for row in VECTORS])),
)
def test_no_bytes_raise_anything_but_the_codecs_own_error(peer, version, pieces):
    reader = PacketReader(peer, version, 1000)
    with contextlib.suppress(PacketError):
        for piece in pieces:
            reader.feed(piece)


@given(st.data())
def test_a_packet_with_one_byte_changed_raises_nothing_else_either(data):
    peer, version, text, _ = data.draw(st.sampled_from(VECTORS))
    packet = bytearray(bytes.fromhex(text))
    packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PacketError):
        parse(bytes(packet), peer, version)


text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@given(
    text.filter(lambda topic: topic and not set(topic) & {"+", "#"}),
    st.binary(max_size=300),
    st.sampled_from([(0, 0), (1, 1), (2, 65535)]),
    st.lists(st.tuples(text, text), max_size=5),
    text,
)
def test_what_is_written_is_read_again(topic, payload, qos, user, content_type):
    packet = Publish(topic, payload, *qos, content_type=content_type, user_properties=user)
    (read,), _, _ = parse(encode(packet, V5), Peer.CLIENT, V5)
    assert (read.topic, read.payload, read.qos, read.packet_id) == (topic, payload, *qos)
    assert (list(read.user_properties), read.content_type) == (user, content_type)


def publish_with(properties):
    """Write a PUBLISH with user properties by hand (sections 3.3 and 2.2.2)."""
    block = b"".join(
        b"\x26" + b"".join(len(text).to_bytes(2, "big") + text for text in pair)
        for pair in properties
    )
    body = b"\0\1t" + write_varint(len(block)) + block + b"data"
    return b"\x30" + write_varint(len(body)) + body


@pytest.mark.parametrize("other", ["a", "\u00e9", "\U0001f600", "b" * 128, "c" * 300])
@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 0x0126, 65535])
def test_user_properties_of_all_lengths_are_read_beside_others(size, other):
    pairs = [("n" * size, other), (other, "v" * size), ("", "\x01\x7f"), ("&", "&\x26")]
    data = publish_with([(name.encode(), value.encode()) for name, value in pairs])
    packets, taken, _ = parse(data * 2, Peer.CLIENT, V5)
    assert taken == 2 * len(data)
    assert [packet.user_properties for packet in packets] == [pairs, pairs]
    assert [packet.payload for packet in packets] == [b"data", b"data"]


few_names = st.sampled_from(["id", "ids", "", "type", "\u00e9"])


@given(st.lists(st.lists(st.tuples(few_names, few_names), max_size=5), max_size=8))
def test_names_are_told_from_those_of_the_message_before(messages):
    data = b"".join(
        publish_with([(name.encode(), value.encode()) for name, value in pairs])
        for pairs in messages
    )
    packets, _, _ = parse(data, Peer.CLIENT, V5)
    assert [list(packet.user_properties) for packet in packets] == messages


@pytest.mark.parametrize("other", [b"a", "\u00e9".encode(), b"c" * 300])
@pytest.mark.parametrize("wrong", [(b"\0", b"v"), (b"n", b"v\0"), (b"n", b"\0" * 300)])
def test_a_null_character_in_a_user_property_is_malformed(wrong, other):
    with pytest.raises(PacketError) as raised:
        parse(publish_with([(other, other), wrong]), Peer.CLIENT, V5)
    assert raised.value.code == ReasonCode.MALFORMED_PACKET


@pytest.mark.parametrize("text", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80"])
def test_a_user_property_that_is_no_utf_8_is_malformed_though_its_neighbour_completes_it(text):
    for pair in ((text, b""), (b"", text)):
        with pytest.raises(PacketError) as raised:
            parse(publish_with([pair, (b"\xc3\xa9", b"x")]), Peer.CLIENT, V5)
        assert raised.value.code == ReasonCode.MALFORMED_PACKET


def test_no_property_is_read_from_what_stands_behind_the_properties():
    # A value of 5 bytes, of which 2 are in the properties and 3 are payload; a number likewise.
    for text in ("30 0f 0001 74 08 26 0001 61 0005 6161 616161", "30 08 0001 74 02 02 00 000000"):
        with pytest.raises(PacketError) as raised:
            parse(bytes.fromhex(text), Peer.CLIENT, V5)
        assert raised.value.code == ReasonCode.MALFORMED_PACKET


NAMES = st.sampled_from(
    [
        "specversion",
        "id",
        "source",
        "type",
        "i",
        "ide",
        "",
        "é",
        "specversiom",
        "\0",
        "partitionkey",
    ]
)
CORE = (("specversion", "1.0"), ("id", "1"), ("source", "/s"), ("type", "t"))


@st.composite
def publish_packets(draw):
    """Return the bytes of a PUBLISH, right or wrong, whose names are much like those of others."""
    user = list(CORE[: draw(st.sampled_from([0, 2, 4, 4, 4]))])
    user += draw(
        st.lists(st.tuples(NAMES, st.sampled_from(["", "1.0", "x", "é", "\0"])), max_size=3)
    )
    if draw(st.booleans()):
        user = draw(st.permutations(user))
    pieces = [
        b"\x26" + b"".join(len(t.encode()).to_bytes(2, "big") + t.encode() for t in pair)
        for pair in user
    ]
    if draw(st.booleans()):
        pieces.insert(draw(st.integers(0, len(pieces))), b"\x03\x00\x04text")
    block = bytearray(b"".join(pieces))
    if block and draw(st.integers(0, 3)) == 0:
        block[draw(st.integers(0, len(block) - 1))] = draw(st.sampled_from([0, 1, 0x26, 255]))
    if block and draw(st.integers(0, 5)) == 0:
        del block[draw(st.integers(0, len(block) - 1)) :]
    rest = b"\x00\x01t" + write_varint(len(block)) + block + b"{}"
    return b"\x30" + write_varint(len(rest)) + rest


@given(st.lists(publish_packets(), min_size=2, max_size=6))
def test_a_packet_says_the_same_whatever_came_before_it(packets):
    def read(data, binding):
        try:
            [packet], _, _ = parse(data, Peer.CLIENT)
        except PacketError as error:
            return str(error)
        user = list(packet.user_properties)
        message = Message(packet.payload, packet.content_type, packet.user_properties)
        try:
            return user, packet.properties, list(binding.decode(message))
        except CloudEventError as error:
            return user, packet.properties, str(error)

    def read_and_learn(data, binding):
        wire_property._shapes._left = 1
        return read(data, binding)

    def read_alone(data):
        wire_property._SEEN.clear()
        wire_property._latest[0] = ((), [])
        wire_property._by_length.clear()
        return read(data, msgspec.structs.replace(MQTT))

    expected = [read_alone(data) for data in packets]
    binding = msgspec.structs.replace(MQTT)
    for _ in range(2):
        assert [read_and_learn(data, binding) for data in packets] == expected
    assert [read(data, binding) for data in reversed(packets)] == expected[::-1]


CONTENT_TYPE = bytes.fromhex("03 000a 746578742f706c61696e")


def publish_of(block):
    """Write a PUBLISH whose properties are these bytes."""
    rest = b"\0\1t" + write_varint(len(block)) + block
    return b"\x30" + write_varint(len(rest)) + rest


def read_often(block):
    """Read properties so often that their shape is known."""
    for _ in range(2000):
        parse(publish_of(block), Peer.CLIENT)
    assert len(block) in wire_property._by_length or not wire_property._BY_SHAPE


@pytest.mark.parametrize(
    ("learned", "next_one", "text"),
    [
        ("26 0001 61 0002 7878", "26 0001 61 0002 7800", "0000"),
        ("26 0001 61 0002 7878", "26 0001 61 0002 0078", "0000"),
        ("26 0001 61 0002 7878", "26 0001 61 0003 7878", "longer than the properties"),
        ("26 0001 61 0002 7878", "26 0001 00 0002 7878", "0000"),
        ("26 0001 61 0002 7878", "26 0001 61 0002 c328", "no UTF-8"),
        ("01 01 26 0001 61 0001 78", "01 02 26 0001 61 0001 78", "must be 0 or 1"),
        ("23 0001 26 0001 61 0001 78", "23 0001 23 0001 03 0001 78", "stands twice"),
    ],
)
def test_what_is_wrong_is_told_of_a_block_that_is_nearly_like_those_before(learned, next_one, text):
    read_often(bytes.fromhex(learned))
    with pytest.raises(PacketError, match=text):
        parse(publish_of(bytes.fromhex(next_one)), Peer.CLIENT)


@pytest.mark.parametrize(
    ("learned", "next_one", "user", "properties"),
    [
        # A value as long that looks like the piece that follows in the other.
        ("26 0001 61 0003 787878 26 0001 62 0000", "26 0001 61 0003 26 01 01 26 0001 62 0000",
         [("a", "&\x01\x01"), ("b", "")], {}),
        # As long, and cut otherwise.
        ("26 0001 61 0002 7878 26 0001 61 0001 79", "26 0001 61 0001 78 26 0001 61 0002 7979",
         [("a", "x"), ("a", "yy")], {}),
        # Two bytes are one character.
        ("26 0001 61 0002 7878", "26 0001 61 0002 c3a9", [("a", "é")], {}),
        # Characters that mean something to an expression, and line ends.
        ("26 0002 2e2a 0002 285b", "26 0002 2e2a 0002 0a5d", [(".*", "\n]")], {}),
        ("26 0002 2e2a 0002 285b", "26 0002 6161 0002 285b", [("aa", "([")], {}),
        ("02 00000041 26 0001 61 0001 78", "02 00000042 26 0001 61 0001 79",
         [("a", "y")], {Property.MESSAGE_EXPIRY_INTERVAL: 0x42}),
        ("26 0001 61 0001 78 03 0001 41", "26 0001 61 0001 79 03 0001 42",
         [("a", "y")], {Property.CONTENT_TYPE: "B"}),
        ("09 0006 260001610000 26 0001 62 0001 78", "09 0006 260001610000 26 0001 62 0001 79",
         [("b", "y")], {Property.CORRELATION_DATA: bytes.fromhex("260001610000")}),
    ],
)  # fmt: skip
def test_a_block_that_is_nearly_like_those_before_is_read_for_what_it_is(
    learned, next_one, user, properties
):
    read_often(bytes.fromhex(learned))
    for _ in range(2):
        [[packet], _, _] = parse(publish_of(bytes.fromhex(next_one)), Peer.CLIENT)
        assert (packet.user_properties, packet.properties) == (user, properties)


def test_properties_of_another_packet_than_publish_have_no_shape_of_its():
    read_often(CONTENT_TYPE + bytes.fromhex("26 0001 61 0002 7878"))
    block = CONTENT_TYPE + bytes.fromhex("26 0001 61 0002 7979")
    rest = bytes.fromhex("0004 4d515454 05 02 0000") + bytes((len(block),)) + block + b"\0\0"
    with pytest.raises(PacketError, match="must not stand in CONNECT"):
        parse(b"\x10" + bytes((len(rest),)) + rest, Peer.CLIENT)


def test_shapes_are_learned_rarely_and_kept_within_bounds():
    shapes = Shapes()
    assert [number for number in range(1, 5000) if shapes.is_due()] == [
        16, 48, 112, 240, 496, 1008, 2032, 3056, 4080,
    ]  # fmt: skip
    for size in range(1, 3000):
        shapes.learn("x" * size, [slice(0, 1)], {}, ("a",))
        for name in "bcdefg" if size % 100 == 0 else "":
            shapes.learn("x" * size, [slice(0, 1)], {}, (name,))
    assert 0 < len(shapes.by_length) <= 256
    assert max(shapes.by_length) <= 2048
    assert max(map(len, shapes.by_length.values())) == 4
    assert [names for _, _, names in shapes.by_length[2000]] == [("g",), ("f",), ("e",), ("d",)]


def test_many_values_make_a_shape_too_large_to_be_learned():
    shapes = Shapes()
    for count in range(1, 400):
        values = [slice(5 * end, 5 * end) for end in range(1, count + 1)]
        shapes.learn("&\0\0\0\0" * count, values, {}, ("",) * count)
    sizes = [
        sys.getsizeof(match.__self__) for row in shapes.by_length.values() for match, _, _ in row
    ]
    assert len(sizes) > 50
    assert max(sizes) <= 20_000


def test_names_of_properties_are_remembered_within_bounds():
    for number in range(600):
        name = b"%05d" % number * (100 if number % 3 == 0 else 1)
        one = b"\x26" + len(name).to_bytes(2, "big") + name + b"\x00\x00"
        rest = b"\x00\x01t" + write_varint(len(one) * 9) + one * 9
        parse(b"\x30" + write_varint(len(rest)) + rest, Peer.CLIENT)
    assert 0 < len(wire_property._SEEN) <= 256
    assert max(len("".join(names)) for names in wire_property._SEEN) <= 4096
