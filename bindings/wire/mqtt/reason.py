"""MQTT 5 reason codes (section 2.4) and the error that carries one."""

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bindings.wire.mqtt.packet import Packet


class ReasonCode(IntEnum):
    """Section 2.4, by the specification's names; below 0x80 is success."""

    SUCCESS = 0x00
    GRANTED_QOS_1 = 0x01
    GRANTED_QOS_2 = 0x02
    DISCONNECT_WITH_WILL_MESSAGE = 0x04
    NO_MATCHING_SUBSCRIBERS = 0x10
    NO_SUBSCRIPTION_EXISTED = 0x11
    CONTINUE_AUTHENTICATION = 0x18
    RE_AUTHENTICATE = 0x19
    UNSPECIFIED_ERROR = 0x80
    MALFORMED_PACKET = 0x81
    PROTOCOL_ERROR = 0x82
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83
    UNSUPPORTED_PROTOCOL_VERSION = 0x84
    CLIENT_IDENTIFIER_NOT_VALID = 0x85
    BAD_USER_NAME_OR_PASSWORD = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    BANNED = 0x8A
    SERVER_SHUTTING_DOWN = 0x8B
    BAD_AUTHENTICATION_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    SESSION_TAKEN_OVER = 0x8E
    TOPIC_FILTER_INVALID = 0x8F
    TOPIC_NAME_INVALID = 0x90
    PACKET_IDENTIFIER_IN_USE = 0x91
    PACKET_IDENTIFIER_NOT_FOUND = 0x92
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    MESSAGE_RATE_TOO_HIGH = 0x96
    QUOTA_EXCEEDED = 0x97
    ADMINISTRATIVE_ACTION = 0x98
    PAYLOAD_FORMAT_INVALID = 0x99
    RETAIN_NOT_SUPPORTED = 0x9A
    QOS_NOT_SUPPORTED = 0x9B
    USE_ANOTHER_SERVER = 0x9C
    SERVER_MOVED = 0x9D
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E
    CONNECTION_RATE_EXCEEDED = 0x9F
    MAXIMUM_CONNECT_TIME = 0xA0
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2

    @property
    def text(self) -> str:
        """The code as a person reads it: `0x99 Payload format invalid`."""
        return f"0x{self:02X} {self.name.replace('_', ' ').capitalize()}"


def describe(code: int) -> str:
    """Return a reason code as a person reads it, also one that the specification lacks."""
    try:
        return ReasonCode(code).text
    except ValueError:
        return f"0x{code:02X}"


class PacketError(Exception):
    """The peer broke the protocol; the connection has to end.

    Attributes:
        code: what to say in DISCONNECT or CONNACK (section 4.13).
        packets: the good packets that stood in the same bytes before the bad one.
    """

    def __init__(self, code: ReasonCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.packets: Sequence[Packet] = ()


def malformed(text: str) -> PacketError:
    """Return the error for bytes that can't be parsed (section 1.2, Malformed Packet)."""
    return PacketError(ReasonCode.MALFORMED_PACKET, text)


def protocol_error(text: str) -> PacketError:
    """Return the error for what can be parsed and is not allowed (section 1.2, Protocol Error)."""
    return PacketError(ReasonCode.PROTOCOL_ERROR, text)
