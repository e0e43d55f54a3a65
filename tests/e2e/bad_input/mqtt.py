"""Bad MQTT packets, and bad events in good ones."""

from collections.abc import Sequence

from tests.e2e.bad_input.peers import (
    JSON_EVENT,
    connect,
    packet,
    properties,
    publish,
    text,
    user,
    varint,
)

LIMIT = 65536  # DESIGN: limits.max_event_bytes


def topic_publish(first: int, topic: bytes, *rest: bytes) -> bytes:
    return packet(first, text(topic), *rest)


NONE = properties()
# What breaks MQTT 5, and the reason code of DISCONNECT (MQTT 5 sections 2, 3 and 4.13).
MQTT5_ERRORS: dict[str, tuple[bytes, int]] = {
    "packet type 0": (b"\x00\x00", 0x81),
    "AUTH without a method": (b"\xf0\x00", 0x82),
    "a server's CONNACK": (b"\x20\x02\x00\x00", 0x82),
    "a server's SUBACK": (b"\x90\x04\x00\x01\x00\x00", 0x82),
    "second CONNECT": (connect(5, b"again"), 0x82),
    "QoS 3": (topic_publish(0x36, b"t", b"\0\1", NONE), 0x81),
    "DUP with QoS 0": (topic_publish(0x38, b"t", NONE), 0x81),
    "PUBREL without its flags": (b"\x60\x02\x00\x01", 0x81),
    "SUBSCRIBE without its flags": (packet(0x80, b"\0\1", NONE, text(b"a"), b"\0"), 0x81),
    "flags in PINGREQ": (b"\xc1\x00", 0x81),
    "PINGREQ with a body": (b"\xc0\x01\x00", 0x81),
    "flags in DISCONNECT": (b"\xe1\x00", 0x81),
    "unknown DISCONNECT code": (b"\xe0\x01\x01", 0x82),
    "length of five bytes": (b"\x30\xff\xff\xff\xff\x01", 0x81),
    "length longer than needed": (b"\x30\x85\x00\x00\x01t\x00", 0x81),
    "topic no UTF-8": (topic_publish(0x32, b"\xff\xfe", b"\0\1", NONE), 0x81),
    "topic with a surrogate": (topic_publish(0x32, b"\xed\xa0\x80", b"\0\1", NONE), 0x81),
    "topic overlong": (topic_publish(0x32, b"\xc0\xaf", b"\0\1", NONE), 0x81),
    "topic with U+0000": (topic_publish(0x32, b"a\0b", b"\0\1", NONE), 0x81),
    "topic longer than the packet": (packet(0x30, b"\xff\xff", b"t", NONE), 0x81),
    "topic with +": (topic_publish(0x32, b"a/+", b"\0\1", NONE), 0x90),
    "topic with #": (topic_publish(0x30, b"#", NONE), 0x90),
    "no topic": (topic_publish(0x30, b"", NONE), 0x82),
    "packet identifier 0": (topic_publish(0x32, b"t", b"\0\0", NONE), 0x82),
    "no packet identifier": (topic_publish(0x32, b"t"), 0x81),
    "empty PUBLISH": (b"\x30\x00", 0x81),
    "properties longer than the packet": (topic_publish(0x30, b"t", b"\x7f"), 0x81),
    "properties' length of five bytes": (
        topic_publish(0x30, b"t", b"\xff\xff\xff\xff\x01"), 0x81,
    ),
    "property cut off": (topic_publish(0x30, b"t", properties(b"\x03\x00\x09ab")), 0x81),
    "unknown property": (topic_publish(0x30, b"t", properties(b"\x7f\x00")), 0x81),
    # Section 2.2.2.2: an identifier that is not valid for its packet type is malformed.
    "property of CONNECT": (topic_publish(0x30, b"t", properties(b"\x11\0\0\0\1")), 0x81),
    "property of a will": (topic_publish(0x30, b"t", properties(b"\x18\0\0\0\1")), 0x81),
    "content type twice": (
        topic_publish(0x30, b"t", properties(b"\x03\0\1a", b"\x03\0\1a")), 0x82,
    ),
    "content type no UTF-8": (topic_publish(0x30, b"t", properties(b"\x03\0\1\xff")), 0x81),
    "user property no UTF-8": (
        topic_publish(0x30, b"t", properties(user(b"id", b"\xff"))), 0x81,
    ),
    "user property with U+0000": (
        topic_publish(0x30, b"t", properties(user(b"id", b"\0"))), 0x81,
    ),
    "response topic with a wildcard": (
        topic_publish(0x30, b"t", properties(b"\x08\0\1#")), 0x82,
    ),
    "subscription identifier": (topic_publish(0x30, b"t", properties(b"\x0b\1")), 0x82),
    "topic alias 0": (topic_publish(0x30, b"t", properties(b"\x23\0\0")), 0x94),
    "topic alias too large": (topic_publish(0x30, b"t", properties(b"\x23\xff\xff")), 0x94),
    "topic alias twice": (
        topic_publish(0x30, b"t", properties(b"\x23\0\1", b"\x23\0\1")), 0x82,
    ),
    "topic alias of nothing": (topic_publish(0x30, b"", properties(b"\x23\0\1")), 0x82),
    "packet too large": (b"\x30" + varint(200_000), 0x95),
    "largest packet": (b"\x30\xff\xff\xff\x7f", 0x95),
    "SUBSCRIBE without a filter": (packet(0x82, b"\0\1", NONE), 0x82),
    "SUBSCRIBE with packet identifier 0": (
        packet(0x82, b"\0\0", NONE, text(b"a"), b"\0"), 0x82,
    ),
    "SUBSCRIBE with reserved options": (
        packet(0x82, b"\0\1", NONE, text(b"a"), b"\xc0"), 0x81,
    ),
    "SUBSCRIBE cut off": (packet(0x82, b"\0\1", NONE, text(b"a")), 0x81),
    "UNSUBSCRIBE without a filter": (packet(0xA2, b"\0\1", NONE), 0x82),
    "more than the receive maximum": (
        b"".join(topic_publish(0x34, b"t", bytes((1, n)), NONE, b"x") for n in range(101)), 0x93,
    ),
}  # fmt: skip
# In MQTT 3.1.1 the server has no such word: it closes (section 4.8).
MQTT3_ERRORS: dict[str, bytes] = {
    "packet type 0": b"\x00\x00",
    "packet type 15": b"\xf0\x00",
    "second CONNECT": connect(4, b"again"),
    "QoS 3": topic_publish(0x36, b"t", b"\0\1"),
    "DUP with QoS 0": topic_publish(0x38, b"t"),
    "flags in PINGREQ": b"\xc1\x00",
    "length of five bytes": b"\x30\xff\xff\xff\xff\x01",
    "topic no UTF-8": topic_publish(0x30, b"\xff"),
    "topic with a wildcard": topic_publish(0x30, b"a/#"),
    "no topic": topic_publish(0x30, b""),
    "packet identifier 0": topic_publish(0x32, b"t", b"\0\0"),
    "packet too large": b"\x30" + varint(200_000),
    "DISCONNECT with a body": b"\xe0\x01\x00",
}


def connect_with(level: bytes, *rest: bytes, name: bytes = b"MQTT") -> bytes:
    return packet(0x10, text(name), level, b"\0\x3c", *rest)


OLD_REFUSAL = b"\x20\x02\x00\x01"  # CONNACK of 3.1 and 3.1.1: unacceptable protocol version
# What is sent in the place of CONNECT, what it is answered, and how it is counted.
FIRST_PACKETS: dict[str, tuple[bytes, bytes, str]] = {
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", b"", "mqtt_protocol"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"", "mqtt_protocol"),
    "NULs": (b"\0" * 64, b"", "mqtt_protocol"),
    "PUBLISH": (publish(b"x", 1), b"", "mqtt_protocol"),
    "PINGREQ": (b"\xc0\x00", b"", "mqtt_protocol"),
    "empty CONNECT": (b"\x10\x00", b"", "mqtt_protocol"),
    "huge CONNECT": (b"\x10\xff\xff\xff\x7f", b"", "mqtt_protocol"),
    "length of five bytes": (b"\x10\xff\xff\xff\xff\x01", b"", "mqtt_protocol"),
    "another name": (
        connect_with(b"\5\2", NONE, text(b""), name=b"MQTX"), OLD_REFUSAL, "mqtt_protocol",
    ),
    "3.1": (connect_with(b"\3\2", text(b"a"), name=b"MQIsdp"), OLD_REFUSAL, "mqtt_protocol"),
    "version 6": (connect_with(b"\6\2", NONE, text(b"")), OLD_REFUSAL, "mqtt_protocol"),
    "name no UTF-8": (connect_with(b"\5\2", name=b"\xff\xff"), b"", "mqtt_protocol"),
    "reserved flag": (connect_with(b"\5\3", NONE, text(b"")), b"", "mqtt_protocol"),
    "flags of CONNECT": (b"\x11" + connect(5)[1:], b"", "mqtt_protocol"),
    "will QoS 3": (
        connect_with(b"\5\x1e", NONE, text(b""), NONE, text(b"t"), text(b"")), b"",
        "mqtt_protocol",
    ),
    "will QoS without a will": (connect_with(b"\5\x0a", NONE, text(b"")), b"", "mqtt_protocol"),
    "will cut off": (connect_with(b"\5\6", NONE, text(b""), NONE, text(b"t")), b"",
                     "mqtt_protocol"),
    "receive maximum 0": (
        connect_with(b"\5\2", properties(b"\x21\0\0"), text(b"")), b"", "mqtt_protocol",
    ),
    "bytes behind it": (connect(5, b"a", 2, b"x"), b"", "mqtt_protocol"),
    "client id with U+0000": (connect(5, b"a\0"), b"", "mqtt_protocol"),
    "client id no UTF-8": (connect(4, b"\xff"), b"", "mqtt_protocol"),
    "password without user, 3.1.1": (
        connect(4, b"a", 0x42, text(b"p")), b"", "mqtt_protocol",
    ),
    "no client id and no clean session, 3.1.1": (
        connect(4, b"", 0), b"\x20\x02\x00\x02", "refused_connection",
    ),
    "authentication method": (
        connect_with(b"\5\2", properties(b"\x15" + text(b"X")), text(b"")),
        b"\x20\x03\x00\x8c\x00", "refused_connection",
    ),
}  # fmt: skip


# Bad events in PUBLISH: payload, properties, reason. MQTT 5: PUBACK 0x99 (or 0x97), 3.1.1: PUBACK.
MQTT_EVENTS: dict[str, tuple[bytes, Sequence[bytes], str]] = {
    "no id": (b"{}", [user(b"specversion", b"1.0"), user(b"source", b"/s"), user(b"type", b"t")],
              "missing_attribute"),
    "id twice": (b"{}", [user(b"specversion", b"1.0"), user(b"id", b"1"), user(b"id", b"2")],
                 "duplicate_attribute"),
    "no JSON": (b"hello", [JSON_EVENT], "json"),
    "deep": (b"[" * 60_000, [JSON_EVENT], "json"),
    "batch": (b"[]", [b"\x03" + text(b"application/cloudevents-batch+json")], "unknown_encoding"),
    "avro": (b"x", [b"\x03" + text(b"application/cloudevents+avro")], "unknown_encoding"),
    "plain": (b"hello", [], "not_an_event"),
    "text that is none": (b"\xff", [b"\x01\x01", JSON_EVENT], "payload_format"),
    "too large": (b"x" * (LIMIT + 1), [JSON_EVENT], "too_large"),
}  # fmt: skip
