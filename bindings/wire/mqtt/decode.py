"""Bytes to packets: one function for each type (section 3), all of the same shape.

A decoder gets the first byte, the buffer, where the variable header begins, where the packet ends
and the protocol version. It may read past `end` into the next packet, or run out of the buffer
(`IndexError`), before it notices that the packet is too short; `reader.parse` makes an error of
all of these. Nothing that was read so is ever returned.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from bindings.wire.mqtt.packet import (
    V5,
    V311,
    Ack,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Ping,
    Publish,
    RawPacket,
    Suback,
    Subscribe,
    Subscription,
    Unsubscribe,
    Version,
    Will,
)
from bindings.wire.mqtt.property import (
    Place,
    Properties,
    Property,
    UserProperties,
    read_binary,
    read_properties,
    read_text,
)
from bindings.wire.mqtt.reason import PacketError, ReasonCode, malformed, protocol_error

Decoder = Callable[[int, bytes, int, int, Version], Packet]

# An Enum is slow to be asked for its members.
_PUBLISH: Final = Place.PUBLISH
_CONTENT_TYPE: Final = Property.CONTENT_TYPE

# The reason codes that each acknowledgement may carry (tables 3-4 to 3-7, 3-8, 3-9, 3-1, 3-10).
_ERRORS: Final = frozenset(code for code in ReasonCode if code >= 0x80)
_RECEIVED: Final = frozenset({0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99})
_RELEASED: Final = frozenset({0x00, 0x92})
_ACK_CODES: Final = {
    PacketType.PUBACK: _RECEIVED,
    PacketType.PUBREC: _RECEIVED,
    PacketType.PUBREL: _RELEASED,
    PacketType.PUBCOMP: _RELEASED,
}


def decode_publish(first: int, buffer: bytes, pos: int, end: int, version: Version) -> Publish:
    """Decode PUBLISH (section 3.3); a topic alias and payload format are left to the caller."""
    qos = first >> 1 & 3
    if qos == 3 or (not qos and first & 8):
        # [MQTT-3.3.1-4] and [MQTT-3.3.1-2]
        raise malformed("PUBLISH with QoS 3" if qos else "PUBLISH with DUP and QoS 0")
    start = pos + 2
    pos = start + (buffer[pos] << 8 | buffer[pos + 1])
    if pos > end:
        raise malformed("the topic is longer than the packet")
    topic = buffer[start:pos].decode()
    if "\0" in topic:  # [MQTT-1.5.4-2]
        raise malformed("a string holds U+0000")
    if "+" in topic or "#" in topic:  # [MQTT-3.3.2-2]
        raise PacketError(ReasonCode.TOPIC_NAME_INVALID, "the topic holds a wildcard")
    packet_id = 0
    if qos:
        packet_id = buffer[pos] << 8 | buffer[pos + 1] if end - pos >= 2 else 0
        if not packet_id:
            _packet_id(buffer, pos, end)  # says what is wrong
        pos += 2
    properties: Properties = {}
    user: UserProperties = ()
    if version == V5:
        properties, user, pos = read_properties(buffer, pos, end, _PUBLISH)
    if pos > end:
        raise malformed("PUBLISH is too short")
    if not topic and Property.TOPIC_ALIAS not in properties:
        raise protocol_error("PUBLISH without a topic")  # section 3.3.2.1, [MQTT-4.7.3-1]
    # The property table says that it is text.
    content_type: Any = properties.get(_CONTENT_TYPE, "") if properties else ""
    return Publish(
        topic,
        buffer[pos:end],
        qos,
        packet_id,
        first & 8 != 0,
        first & 1 != 0,
        content_type,
        user,
        properties,
    )


def decode_ack(first: int, buffer: bytes, pos: int, end: int, version: Version) -> Ack:
    """Decode PUBACK, PUBREC, PUBREL or PUBCOMP (sections 3.4 to 3.7)."""
    type_ = PacketType(first >> 4)
    _check_flags(first, 2 if type_ == PacketType.PUBREL else 0)
    packet_id = _packet_id(buffer, pos, end)
    if end - pos == 2:  # most of them, and all of 3.1.1's
        return Ack(type_, packet_id)
    if version == V311:
        raise malformed(f"{type_.name} has {end - pos} bytes")
    code = _code(type_, buffer[pos + 2], _ACK_CODES[type_])
    properties: Properties = {}
    if end - pos > 3:
        properties, _, pos = read_properties(buffer, pos + 3, end, Place.ACK)
        _check_end(pos, end)
    return Ack(type_, packet_id, code, properties)


def decode_connect(first: int, buffer: bytes, pos: int, end: int, _version: Version) -> Connect:
    """Decode CONNECT (section 3.1); it says its version itself.

    Raises:
        PacketError: 0x84 when it is of another version than 3.1.1 and 5.
    """
    _check_flags(first, 0)
    name, pos = read_text(buffer, pos)
    level, flags = buffer[pos], buffer[pos + 1]
    if name != "MQTT" or level not in {V311, V5}:
        raise PacketError(
            ReasonCode.UNSUPPORTED_PROTOCOL_VERSION, f"protocol {name[:20]!r} level {level}"
        )
    version: Version = V5 if level == V5 else V311
    has_will, will_qos = flags & 4 != 0, flags >> 3 & 3
    if flags & 1 or will_qos == 3 or (not has_will and flags & 0x38):
        raise malformed(f"connect flags 0x{flags:02X}")  # [MQTT-3.1.2-3], -11 to -15
    if version == V311 and flags & 0xC0 == 0x40:
        raise malformed("a password without a user name")  # 3.1.1 [MQTT-3.1.2-22]
    keep_alive = buffer[pos + 2] << 8 | buffer[pos + 3]
    pos += 4
    properties: Properties = {}
    user: UserProperties = ()
    if version == V5:
        properties, user, pos = read_properties(buffer, pos, end, Place.CONNECT)
        _check_authentication(properties)
    client_id, pos = read_text(buffer, pos)
    will = None
    if has_will:
        will, pos = _will(buffer, pos, end, version, flags)
    username = password = None
    if flags & 0x80:
        username, pos = read_text(buffer, pos)
    if flags & 0x40:
        password, pos = read_binary(buffer, pos)
    _check_end(pos, end)
    return Connect(
        version,
        client_id,
        flags & 2 != 0,
        keep_alive,
        username,
        password,
        will,
        properties,
        user,
    )


def _will(buffer: bytes, pos: int, end: int, version: Version, flags: int) -> tuple[Will, int]:
    properties: Properties = {}
    user: UserProperties = ()
    if version == V5:
        properties, user, pos = read_properties(buffer, pos, end, Place.WILL)
    topic, pos = read_text(buffer, pos)
    payload, pos = read_binary(buffer, pos)
    if not topic or "+" in topic or "#" in topic:
        raise PacketError(
            ReasonCode.TOPIC_NAME_INVALID, "the will's topic is empty or holds a wildcard"
        )
    content_type = properties.get(Property.CONTENT_TYPE, "")
    assert isinstance(content_type, str)  # noqa: S101 - the property table says so
    return Will(
        topic, payload, flags >> 3 & 3, flags & 0x20 != 0, content_type, user, properties
    ), pos


def decode_connack(first: int, buffer: bytes, pos: int, end: int, version: Version) -> Connack:
    """Decode CONNACK (section 3.2)."""
    _check_flags(first, 0)
    flags, code = buffer[pos], buffer[pos + 1]
    if flags & 0xFE or (flags and code):  # [MQTT-3.2.2-1] and -6
        raise malformed(f"CONNACK flags 0x{flags:02X} with code 0x{code:02X}")
    properties: Properties = {}
    pos += 2
    if version == V5:
        _code(PacketType.CONNACK, code, _ERRORS | {0})
        properties, _, pos = read_properties(buffer, pos, end, Place.CONNACK)
    _check_end(pos, end)
    return Connack(code, flags != 0, properties)


def decode_subscribe(first: int, buffer: bytes, pos: int, end: int, version: Version) -> Subscribe:
    """Decode SUBSCRIBE (section 3.8)."""
    _check_flags(first, 2)
    packet_id = _packet_id(buffer, pos, end)
    pos += 2
    properties: Properties = {}
    if version == V5:
        properties, _, pos = read_properties(buffer, pos, end, Place.SUBSCRIBE)
    subscriptions: list[Subscription] = []
    while pos < end:
        filter_, pos = _topic_filter(buffer, pos)
        if pos >= end:
            raise malformed("a topic filter without options")
        options = buffer[pos]
        pos += 1
        if options & (0xC0 if version == V5 else 0xFC):
            raise malformed(f"subscription options 0x{options:02X}")  # [MQTT-3.8.3-5]
        if options & 3 == 3 or options & 0x30 == 0x30:
            raise protocol_error(f"subscription options 0x{options:02X}")  # section 3.8.3.1
        subscriptions.append(
            Subscription(filter_, options & 3, options & 4 != 0, options & 8 != 0, options >> 4)
        )
    _check_end(pos, end)
    if not subscriptions:
        raise protocol_error("SUBSCRIBE without a topic filter")  # [MQTT-3.8.3-2]
    return Subscribe(packet_id, subscriptions, properties)


def decode_unsubscribe(
    first: int, buffer: bytes, pos: int, end: int, version: Version
) -> Unsubscribe:
    """Decode UNSUBSCRIBE (section 3.10)."""
    _check_flags(first, 2)
    packet_id = _packet_id(buffer, pos, end)
    pos += 2
    if version == V5:
        _, _, pos = read_properties(buffer, pos, end, Place.UNSUBSCRIBE)
    filters: list[str] = []
    while pos < end:
        filter_, pos = _topic_filter(buffer, pos)
        filters.append(filter_)
    _check_end(pos, end)
    if not filters:
        raise protocol_error("UNSUBSCRIBE without a topic filter")  # [MQTT-3.10.3-2]
    return Unsubscribe(packet_id, filters)


def decode_suback(first: int, buffer: bytes, pos: int, end: int, version: Version) -> Suback:
    """Decode SUBACK or UNSUBACK (sections 3.9 and 3.11)."""
    _check_flags(first, 0)
    type_ = PacketType(first >> 4)
    packet_id = _packet_id(buffer, pos, end)
    pos += 2
    properties: Properties = {}
    if version == V5:
        properties, _, pos = read_properties(buffer, pos, end, Place.SUBACK)
    elif type_ == PacketType.UNSUBACK:
        _check_end(pos, end)
    if pos > end:
        raise malformed(f"{type_.name} is too short")
    return Suback(type_, packet_id, tuple(buffer[pos:end]), properties)


def decode_ping(first: int, _buffer: bytes, pos: int, end: int, _version: Version) -> Ping:
    """Decode PINGREQ or PINGRESP (sections 3.12 and 3.13)."""
    _check_flags(first, 0)
    _check_end(pos, end)
    return Ping(PacketType(first >> 4))


def decode_disconnect(
    first: int, buffer: bytes, pos: int, end: int, version: Version
) -> Disconnect:
    """Decode DISCONNECT (section 3.14)."""
    _check_flags(first, 0)
    if pos == end:
        return Disconnect()
    if version == V311:
        raise malformed("DISCONNECT has a body")
    code = _code(PacketType.DISCONNECT, buffer[pos], _ERRORS | {0x00, 0x04})
    properties: Properties = {}
    pos += 1
    if pos < end:
        properties, _, pos = read_properties(buffer, pos, end, Place.DISCONNECT)
        _check_end(pos, end)
    return Disconnect(code, properties)


def decode_raw(first: int, buffer: bytes, pos: int, end: int, _version: Version) -> RawPacket:
    """Return a packet as it is, for another library to decode."""
    return RawPacket(first, buffer[pos:end])


SERVER_DECODERS: Final[Mapping[int, Decoder]] = {
    PacketType.CONNECT: decode_connect,
    PacketType.PUBLISH: decode_publish,
    PacketType.PUBACK: decode_ack,
    PacketType.PUBREC: decode_ack,
    PacketType.PUBREL: decode_ack,
    PacketType.PUBCOMP: decode_ack,
    PacketType.SUBSCRIBE: decode_subscribe,
    PacketType.UNSUBSCRIBE: decode_unsubscribe,
    PacketType.PINGREQ: decode_ping,
    PacketType.DISCONNECT: decode_disconnect,
}
CLIENT_DECODERS: Final[Mapping[int, Decoder]] = {
    PacketType.CONNACK: decode_connack,
    PacketType.PUBLISH: decode_publish,
    PacketType.PUBACK: decode_ack,
    PacketType.PUBREC: decode_ack,
    PacketType.PUBREL: decode_ack,
    PacketType.PUBCOMP: decode_ack,
    PacketType.SUBACK: decode_suback,
    PacketType.UNSUBACK: decode_suback,
    PacketType.PINGRESP: decode_ping,
    PacketType.DISCONNECT: decode_disconnect,
}
RECEIVER_DECODERS: Final[Mapping[int, Decoder]] = {
    **dict.fromkeys(PacketType, decode_raw),
    PacketType.PUBLISH: decode_publish,
    PacketType.PUBREL: decode_ack,
}


def _packet_id(buffer: bytes, pos: int, end: int) -> int:
    if end - pos < 2:
        raise malformed("the packet identifier is cut off")
    packet_id = buffer[pos] << 8 | buffer[pos + 1]
    if not packet_id:
        raise protocol_error("packet identifier 0")  # [MQTT-2.2.1-3] and -4
    return packet_id


def _topic_filter(buffer: bytes, pos: int) -> tuple[str, int]:
    text, pos = read_text(buffer, pos)
    if not text:
        raise malformed("an empty topic filter")  # [MQTT-4.7.3-1]
    return text, pos


def _code(type_: PacketType, code: int, allowed: frozenset[int]) -> int:
    if code not in allowed:
        raise protocol_error(f"reason code 0x{code:02X} in {type_.name}")
    return code


def _check_flags(first: int, flags: int) -> None:
    if first & 15 != flags:  # [MQTT-2.1.3-1]
        raise malformed(f"flags {first & 15} in {PacketType(first >> 4).name}")


def _check_end(pos: int, end: int) -> None:
    if pos != end:
        raise malformed("the packet is longer or shorter than what it holds")


def _check_authentication(properties: Properties) -> None:
    if (
        Property.AUTHENTICATION_DATA in properties
        and Property.AUTHENTICATION_METHOD not in properties
    ):
        raise protocol_error("authentication data without a method")  # section 3.1.2.11.10
