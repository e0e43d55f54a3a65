"""MQTT control packets, versions 3.1.1 and 5, bytes to records and back, without I/O.

`PacketReader` keeps what a read left over and turns each read into a list of packets; `encode`
makes the bytes of one. Both are strict: what the specification forbids raises `PacketError`, which
carries the reason code to disconnect with and the good packets that came before the bad one.

Sections are those of MQTT Version 5.0 (OASIS Standard, 7 March 2019).
"""

from bindings.wire.mqtt.encode import encode, encode_ack, encode_pubacks
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
from bindings.wire.mqtt.property import Property
from bindings.wire.mqtt.reader import PacketReader, Peer, parse
from bindings.wire.mqtt.reason import PacketError, ReasonCode

__all__ = [
    "V5",
    "V311",
    "Ack",
    "Connack",
    "Connect",
    "Disconnect",
    "Packet",
    "PacketError",
    "PacketReader",
    "PacketType",
    "Peer",
    "Ping",
    "Property",
    "Publish",
    "RawPacket",
    "ReasonCode",
    "Suback",
    "Subscribe",
    "Subscription",
    "Unsubscribe",
    "Version",
    "Will",
    "encode",
    "encode_ack",
    "encode_pubacks",
    "parse",
]
