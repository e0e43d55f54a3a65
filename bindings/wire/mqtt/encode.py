"""Packets to bytes (section 3)."""

import struct
from collections.abc import Callable, Sequence
from itertools import repeat
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
    Unsubscribe,
    Version,
)
from bindings.wire.mqtt.property import (
    Properties,
    Property,
    write_binary,
    write_properties,
    write_text,
    write_varint,
)

_FLAGS: Final = {PacketType.PUBREL: 2, PacketType.SUBSCRIBE: 2, PacketType.UNSUBSCRIBE: 2}
_MAX_PAYLOAD: Final = 268_435_455
_pack_puback = struct.Struct(">2sH").pack


def encode(packet: Packet, version: Version) -> bytes:
    """Return the bytes of a packet; what 3.1.1 has no place for is left out there.

    Raises:
        ValueError: it can't be written: a string above 65535 bytes, or one with U+0000.
    """
    return _ENCODERS[type(packet)](packet, version)


def encode_ack(
    type_: PacketType,
    packet_id: int,
    code: int,
    version: Version,
    properties: Properties | None = None,
) -> bytes:
    """Return PUBACK, PUBREC, PUBREL or PUBCOMP (sections 3.4 to 3.7) in the shortest form.

    3.1.1 has no place for `code` and `properties`: it can say yes only.
    """
    head = type_ << 4 | (2 if type_ == PacketType.PUBREL else 0)
    if version == V311 or not (code or properties):
        return bytes((head, 2, packet_id >> 8, packet_id & 0xFF))
    if not properties:
        return bytes((head, 3, packet_id >> 8, packet_id & 0xFF, code))
    body = packet_id.to_bytes(2, "big") + bytes((code,)) + write_properties(properties)
    return _packet(type_, body)


def encode_pubacks(packet_ids: Sequence[int]) -> bytes:
    """Return a PUBACK (section 3.4) of success for each identifier, alike in both versions."""
    return b"".join(map(_pack_puback, repeat(b"\x40\x02"), packet_ids))


def _packet(type_: PacketType, body: bytes) -> bytes:
    return bytes((type_ << 4 | _FLAGS.get(type_, 0),)) + write_varint(len(body)) + body


def _publish(packet: Publish, version: Version) -> bytes:
    head = write_text(packet.topic)
    if packet.qos:
        head += packet.packet_id.to_bytes(2, "big")
    if version == V5:
        properties = packet.properties
        if packet.content_type and Property.CONTENT_TYPE not in properties:
            properties = {**properties, Property.CONTENT_TYPE: packet.content_type}
        head += write_properties(properties, packet.user_properties)
    length = len(head) + len(packet.payload)
    if length > _MAX_PAYLOAD:
        raise ValueError(f"MQTT packets hold at most {_MAX_PAYLOAD} bytes, not {length}")
    first = PacketType.PUBLISH << 4 | packet.dup << 3 | packet.qos << 1 | packet.retain
    return b"".join((bytes((first,)), write_varint(length), head, packet.payload))


def _ack(packet: Ack, version: Version) -> bytes:
    return encode_ack(packet.type, packet.packet_id, packet.code, version, packet.properties)


def _raw(packet: RawPacket, _version: Version) -> bytes:
    return bytes((packet.first,)) + write_varint(len(packet.body)) + packet.body


def _ping(packet: Ping, _version: Version) -> bytes:
    return bytes((packet.type << 4, 0))


def _connack(packet: Connack, version: Version) -> bytes:
    body = bytes((packet.session_present, packet.code))
    if version == V5:
        body += write_properties(packet.properties, packet.user_properties)
    return _packet(PacketType.CONNACK, body)


def _suback(packet: Suback, version: Version) -> bytes:
    body = packet.packet_id.to_bytes(2, "big")
    if version == V5:
        body += write_properties(packet.properties)
    if version == V5 or packet.type == PacketType.SUBACK:
        body += bytes(packet.codes)
    return _packet(packet.type, body)


def _connect(packet: Connect, _version: Version) -> bytes:
    will = packet.will
    flags = packet.clean_start << 1 | (packet.username is not None) << 7
    flags |= (packet.password is not None) << 6
    if will is not None:
        flags |= 4 | will.qos << 3 | will.retain << 5
    parts = [
        write_text("MQTT"),
        bytes((packet.version, flags)),
        packet.keep_alive.to_bytes(2, "big"),
    ]
    if packet.version == V5:
        parts.append(write_properties(packet.properties, packet.user_properties))
    parts.append(write_text(packet.client_id))
    if will is not None:
        if packet.version == V5:
            properties = will.properties
            if will.content_type and Property.CONTENT_TYPE not in properties:
                properties = {**properties, Property.CONTENT_TYPE: will.content_type}
            parts.append(write_properties(properties, will.user_properties))
        parts += [write_text(will.topic), write_binary(will.payload)]
    if packet.username is not None:
        parts.append(write_text(packet.username))
    if packet.password is not None:
        parts.append(write_binary(packet.password))
    return _packet(PacketType.CONNECT, b"".join(parts))


def _disconnect(packet: Disconnect, version: Version) -> bytes:
    if version == V311 or not (packet.code or packet.properties):
        return b"\xe0\x00"
    body = bytes((packet.code,))
    if packet.properties:
        body += write_properties(packet.properties)
    return _packet(PacketType.DISCONNECT, body)


def _subscribe(packet: Subscribe, version: Version) -> bytes:
    parts = [packet.packet_id.to_bytes(2, "big")]
    if version == V5:
        parts.append(write_properties(packet.properties))
    for each in packet.subscriptions:
        options = each.qos
        if version == V5:
            options |= each.no_local << 2
            options |= each.retain_as_published << 3
            options |= each.retain_handling << 4
        parts += [write_text(each.filter), bytes((options,))]
    return _packet(PacketType.SUBSCRIBE, b"".join(parts))


def _unsubscribe(packet: Unsubscribe, version: Version) -> bytes:
    parts = [packet.packet_id.to_bytes(2, "big")]
    if version == V5:
        parts.append(b"\0")
    parts += [write_text(filter_) for filter_ in packet.filters]
    return _packet(PacketType.UNSUBSCRIBE, b"".join(parts))


_ENCODERS: Final[dict[type, Callable[[Any, Version], bytes]]] = {
    Ack: _ack,
    Connack: _connack,
    Connect: _connect,
    Disconnect: _disconnect,
    Ping: _ping,
    Publish: _publish,
    RawPacket: _raw,
    Suback: _suback,
    Subscribe: _subscribe,
    Unsubscribe: _unsubscribe,
}
