"""The control packets (section 3) as records; what 3.1.1 lacks is empty there."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, Literal

import msgspec

from bindings.wire.mqtt.property import Properties, UserProperties

Version = Literal[4, 5]
"""The protocol level as it stands in CONNECT."""
V311: Final = 4
V5: Final = 5


class PacketType(IntEnum):
    """Section 2.1.2."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class Will(msgspec.Struct, frozen=True):
    """What CONNECT leaves to be published when the connection breaks (section 3.1.2.5)."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    content_type: str = ""
    user_properties: UserProperties = ()
    properties: Properties = {}


class Connect(msgspec.Struct, frozen=True):
    """Section 3.1; `clean_start` is 3.1.1's Clean Session, `keep_alive` is in seconds."""

    version: Version
    client_id: str
    clean_start: bool = True
    keep_alive: int = 0
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None
    properties: Properties = {}
    user_properties: UserProperties = ()


class Connack(msgspec.Struct, frozen=True):
    """Section 3.2; in 3.1.1 `code` is its own return code, 0 to 5."""

    code: int
    session_present: bool = False
    properties: Properties = {}
    user_properties: UserProperties = ()


class Publish(msgspec.Struct, frozen=True, gc=False):
    """Section 3.3.

    Attributes:
        topic: empty only where a topic alias stands for it.
        payload: the application message.
        qos: 0, 1 or 2.
        packet_id: 0 for QoS 0.
        dup: the sender may have sent it before.
        retain: the RETAIN flag.
        content_type: the property; "" when absent.
        user_properties: in the order of the wire, duplicates included.
        properties: the others.
    """

    topic: str
    payload: bytes
    qos: int = 0
    packet_id: int = 0
    dup: bool = False
    retain: bool = False
    content_type: str = ""
    user_properties: UserProperties = ()
    properties: Properties = {}


class Ack(msgspec.Struct, frozen=True):
    """PUBACK, PUBREC, PUBREL or PUBCOMP (sections 3.4 to 3.7)."""

    type: PacketType
    packet_id: int
    code: int = 0
    properties: Properties = {}


class Subscription(msgspec.Struct, frozen=True):
    """One topic filter of SUBSCRIBE and its options (section 3.8.3.1)."""

    filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


class Subscribe(msgspec.Struct, frozen=True):
    """Section 3.8."""

    packet_id: int
    subscriptions: Sequence[Subscription]
    properties: Properties = {}


class Unsubscribe(msgspec.Struct, frozen=True):
    """Section 3.10."""

    packet_id: int
    filters: Sequence[str]


class Suback(msgspec.Struct, frozen=True):
    """SUBACK or UNSUBACK (sections 3.9 and 3.11); 3.1.1's UNSUBACK has no codes."""

    type: PacketType
    packet_id: int
    codes: Sequence[int] = ()
    properties: Properties = {}


class Ping(msgspec.Struct, frozen=True):
    """PINGREQ or PINGRESP (sections 3.12 and 3.13)."""

    type: PacketType


class Disconnect(msgspec.Struct, frozen=True):
    """Section 3.14; 3.1.1's has no code."""

    code: int = 0
    properties: Properties = {}


class RawPacket(msgspec.Struct, frozen=True, gc=False):
    """A packet left undecoded: its first byte, and what follows the remaining length."""

    first: int
    body: bytes


Packet = (
    Connect
    | Connack
    | Publish
    | Ack
    | Subscribe
    | Unsubscribe
    | Suback
    | Ping
    | Disconnect
    | RawPacket
)
