"""MQTT 5 properties (section 2.2.2): which exist, where they may stand, and their encoding."""

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Final, Literal, cast

from bindings.memory import Memory
from bindings.wire.header_fields import HeaderFields
from bindings.wire.mqtt.reason import malformed, protocol_error
from bindings.wire.mqtt.shape import Shapes

PropertyValue = int | str | bytes
UserProperties = Sequence[tuple[str, str]]


class Property(IntEnum):
    """Table 2-4, but for User Property, which is kept as pairs."""

    PAYLOAD_FORMAT_INDICATOR = 0x01
    MESSAGE_EXPIRY_INTERVAL = 0x02
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION_DATA = 0x09
    SUBSCRIPTION_IDENTIFIER = 0x0B
    SESSION_EXPIRY_INTERVAL = 0x11
    ASSIGNED_CLIENT_IDENTIFIER = 0x12
    SERVER_KEEP_ALIVE = 0x13
    AUTHENTICATION_METHOD = 0x15
    AUTHENTICATION_DATA = 0x16
    REQUEST_PROBLEM_INFORMATION = 0x17
    WILL_DELAY_INTERVAL = 0x18
    REQUEST_RESPONSE_INFORMATION = 0x19
    RESPONSE_INFORMATION = 0x1A
    SERVER_REFERENCE = 0x1C
    REASON_STRING = 0x1F
    RECEIVE_MAXIMUM = 0x21
    TOPIC_ALIAS_MAXIMUM = 0x22
    TOPIC_ALIAS = 0x23
    MAXIMUM_QOS = 0x24
    RETAIN_AVAILABLE = 0x25
    MAXIMUM_PACKET_SIZE = 0x27
    WILDCARD_SUBSCRIPTION_AVAILABLE = 0x28
    SUBSCRIPTION_IDENTIFIER_AVAILABLE = 0x29
    SHARED_SUBSCRIPTION_AVAILABLE = 0x2A

    __hash__ = int.__hash__  # that of an Enum is ten times slower


Properties = Mapping[Property, PropertyValue]

USER_PROPERTY: Final = 0x26


class Place(IntEnum):
    """Where a property may stand: a packet type, or the Will within CONNECT."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 4
    ACK = 8  # PUBACK, PUBREC, PUBREL, PUBCOMP
    SUBSCRIBE = 16
    SUBACK = 32  # and UNSUBACK
    UNSUBSCRIBE = 64
    DISCONNECT = 128
    WILL = 256


Kind = Literal["flag", "two", "four", "varint", "text", "binary"]
_ANSWER: Final = Place.CONNACK | Place.ACK | Place.SUBACK | Place.DISCONNECT
_MESSAGE: Final = Place.PUBLISH | Place.WILL

_ROWS: Final[Sequence[tuple[Property, Kind, int]]] = (
    (Property.PAYLOAD_FORMAT_INDICATOR, "flag", _MESSAGE),
    (Property.MESSAGE_EXPIRY_INTERVAL, "four", _MESSAGE),
    (Property.CONTENT_TYPE, "text", _MESSAGE),
    (Property.RESPONSE_TOPIC, "text", _MESSAGE),
    (Property.CORRELATION_DATA, "binary", _MESSAGE),
    (Property.SUBSCRIPTION_IDENTIFIER, "varint", Place.PUBLISH | Place.SUBSCRIBE),
    (
        Property.SESSION_EXPIRY_INTERVAL,
        "four",
        Place.CONNECT | Place.CONNACK | Place.DISCONNECT,
    ),
    (Property.ASSIGNED_CLIENT_IDENTIFIER, "text", Place.CONNACK),
    (Property.SERVER_KEEP_ALIVE, "two", Place.CONNACK),
    (Property.AUTHENTICATION_METHOD, "text", Place.CONNECT | Place.CONNACK),
    (Property.AUTHENTICATION_DATA, "binary", Place.CONNECT | Place.CONNACK),
    (Property.REQUEST_PROBLEM_INFORMATION, "flag", Place.CONNECT),
    (Property.WILL_DELAY_INTERVAL, "four", Place.WILL),
    (Property.REQUEST_RESPONSE_INFORMATION, "flag", Place.CONNECT),
    (Property.RESPONSE_INFORMATION, "text", Place.CONNACK),
    (Property.SERVER_REFERENCE, "text", Place.CONNACK | Place.DISCONNECT),
    (Property.REASON_STRING, "text", _ANSWER),
    (Property.RECEIVE_MAXIMUM, "two", Place.CONNECT | Place.CONNACK),
    (Property.TOPIC_ALIAS_MAXIMUM, "two", Place.CONNECT | Place.CONNACK),
    (Property.TOPIC_ALIAS, "two", Place.PUBLISH),
    (Property.MAXIMUM_QOS, "flag", Place.CONNACK),
    (Property.RETAIN_AVAILABLE, "flag", Place.CONNACK),
    (Property.MAXIMUM_PACKET_SIZE, "four", Place.CONNECT | Place.CONNACK),
    (Property.WILDCARD_SUBSCRIPTION_AVAILABLE, "flag", Place.CONNACK),
    (Property.SUBSCRIPTION_IDENTIFIER_AVAILABLE, "flag", Place.CONNACK),
    (Property.SHARED_SUBSCRIPTION_AVAILABLE, "flag", Place.CONNACK),
)
_TABLE: Final[Mapping[int, tuple[Property, Kind, int]]] = {row[0]: row for row in _ROWS}
_NOT_ZERO: Final = frozenset(
    {Property.RECEIVE_MAXIMUM, Property.MAXIMUM_PACKET_SIZE, Property.SUBSCRIPTION_IDENTIFIER}
)
# An Enum is slow to be asked for its members.
_RESPONSE_TOPIC: Final = Property.RESPONSE_TOPIC
_PUBLISH: Final = Place.PUBLISH
_WIDTHS: Final = {"flag": 1, "two": 2, "four": 4}

# The names of user properties, and the bytes that stand before the value of each. Most messages
# have those of the message before, which one comparison for each tells: no name is read again.
_Names = tuple[tuple[str, ...], list[bytes]]
_SEEN: Final = Memory[tuple[str, ...], _Names](entries=256, characters=4096)
_latest: Final[list[_Names]] = [((), [])]

_BY_SHAPE: Final = __file__.endswith(".py")
"""Whether blocks are compared with shapes: compiled, one by one is as fast."""
_shapes: Final = Shapes()
_by_length: Final = _shapes.by_length
_pairs: Final = cast("Callable[[tuple[str, ...], list[str]], UserProperties]", HeaderFields)


def read_varint(buffer: bytes, pos: int) -> tuple[int, int]:
    """Return a Variable Byte Integer and where it ends (section 1.5.5).

    Raises:
        PacketError: more than four bytes, or more bytes than needed.
        IndexError: the buffer ends first.
    """
    value = buffer[pos]
    if value < 0x80:
        return value, pos + 1
    byte = buffer[pos + 1]
    if 0 < byte < 0x80:  # two bytes, as most have that one does not do for
        return value & 0x7F | byte << 7, pos + 2
    value = shift = 0
    while True:
        byte = buffer[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if not byte and shift:
                raise malformed("a variable byte integer is longer than needed")  # [MQTT-1.5.5-1]
            return value, pos
        shift += 7
        if shift > 21:
            raise malformed("a variable byte integer has more than four bytes")


def read_text(buffer: bytes, pos: int) -> tuple[str, int]:
    """Return a UTF-8 Encoded String and where it ends (section 1.5.4).

    It may reach past the packet into what follows; the caller compares the end.

    Raises:
        PacketError: it holds U+0000.
        UnicodeDecodeError: it is no UTF-8; surrogates are none either [MQTT-1.5.4-1].
        IndexError: the buffer ends first.
    """
    start = pos + 2
    end = start + (buffer[pos] << 8 | buffer[pos + 1])
    text = buffer[start:end].decode()
    if "\0" in text:
        raise malformed("a string holds U+0000")  # [MQTT-1.5.4-2]
    return text, end


def read_binary(buffer: bytes, pos: int) -> tuple[bytes, int]:
    """Return Binary Data (section 1.5.6) and where it ends, as `read_text` does."""
    start = pos + 2
    end = start + (buffer[pos] << 8 | buffer[pos + 1])
    return buffer[start:end], end


def read_properties(
    buffer: bytes, pos: int, end: int, place: Place
) -> tuple[Properties, UserProperties, int]:
    """Return the properties at `pos`, the user properties in their order, and where they end.

    Args:
        buffer: the bytes.
        pos: where the Property Length begins.
        end: where the packet ends.
        place: the packet they stand in.

    Raises:
        PacketError: a property that is unknown, out of place, repeated or of a forbidden value.
        UnicodeDecodeError: text that is no UTF-8.
        IndexError: the buffer ends first.
    """
    length = buffer[pos]
    if not length:
        return {}, (), pos + 1
    if length >= 0x80 and 0 < buffer[pos + 1] < 0x80:  # two bytes, as those of most events take
        length, pos = length & 0x7F | buffer[pos + 1] << 7, pos + 2
    else:
        length, pos = read_varint(buffer, pos)
    stop = pos + length
    if stop > end:
        raise malformed("the properties are longer than the packet")
    block = buffer[pos:stop]
    # Of ASCII, lengths included, a piece of the text is cheaper than a piece of the bytes decoded.
    text = block.decode() if block.isascii() else ""
    by_shape = _BY_SHAPE and text and place is _PUBLISH
    if by_shape:
        for match, properties, names in _by_length.get(length, ()):
            matched = match(text)
            if matched is not None:
                return properties, _pairs(names, list(matched.groups())), stop
    found, names, values = _read_one_by_one(block, text, place)
    if not values:
        return found, (), stop
    if by_shape and _shapes.is_due():
        _shapes.learn(text, _values_in(block), found, names)
    return found, _pairs(names, values), stop


def _read_one_by_one(
    block: bytes, text: str, place: Place
) -> tuple[Properties, tuple[str, ...], list[str]]:
    """Return the properties, and the names and the values of the user properties.

    Args:
        block: the properties without their length.
        text: the same, if it is ASCII; else "".
        place: the packet they stand in.
    """
    length, pos = len(block), 0
    found: dict[Property, PropertyValue] = {}
    values: list[str] = []
    names, marks = _latest[0]
    known, user = len(marks), USER_PROPERTY
    others: list[str] | None = None  # the names, once one is not that of the message before
    while pos < length:
        count = len(values)
        if count < known and block.startswith(marks[count], pos):
            middle = pos + len(marks[count])
        elif block[pos] == user:
            start = pos + 3
            middle = start + (block[pos + 1] << 8 | block[pos + 2])
            name = text[start:middle] if text else block[start:middle].decode()
            if "\0" in name:
                raise malformed("a user property holds U+0000")
            if others is None:
                others, known = list(names[:count]), 0
            others.append(name)
        else:
            pos = _read_property(block, pos, place, found)
            continue
        begin = middle + 2
        pos = begin + (block[middle] << 8 | block[middle + 1])
        value = text[begin:pos] if text else block[begin:pos].decode()
        if "\0" in value:
            raise malformed("a user property holds U+0000")
        values.append(value)
    if pos != length:
        raise malformed("a property is longer than the properties")
    if others is not None or 0 < len(values) < known:
        names = _see_names(names[: len(values)] if others is None else tuple(others))
    return found, names, values


def _values_in(block: bytes) -> list[slice]:
    """Return where the values of user properties stand in a block of PUBLISH that has no fault."""
    places: list[slice] = []
    pos = 0
    while pos < len(block):
        if block[pos] == USER_PROPERTY:
            middle = pos + 3 + (block[pos + 1] << 8 | block[pos + 2])
            pos = middle + 2 + (block[middle] << 8 | block[middle + 1])
            places.append(slice(middle + 2, pos))
        else:
            pos = _read_property(block, pos, _PUBLISH, {})
    return places


def _see_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Expect user properties of these names next; return the tuple that stands for them."""
    seen = _SEEN.get(names)
    if seen is None:
        marks = [b"\x26" + write_text(name) for name in names]
        seen = names, marks
        _SEEN.remember(names, seen, 50 * len(names) + len("".join(names)))
    _latest[0] = seen
    return seen[0]


def _read_property(
    buffer: bytes, pos: int, place: Place, found: dict[Property, PropertyValue]
) -> int:
    entry = _TABLE.get(buffer[pos])
    if entry is None:
        raise malformed(f"unknown property 0x{buffer[pos]:02X}")
    name, kind, places = entry
    if not places & place:  # section 2.2.2.2: malformed, though it can be read
        raise malformed(f"property {name.name} must not stand in {place.name}")
    if name in found and (name != Property.SUBSCRIPTION_IDENTIFIER or place != Place.PUBLISH):
        raise protocol_error(f"property {name.name} stands twice")
    pos += 1
    value: PropertyValue
    if kind == "text":
        text, pos = read_text(buffer, pos)
        if name == _RESPONSE_TOPIC and ("#" in text or "+" in text):
            raise protocol_error("the response topic holds a wildcard")  # [MQTT-3.3.2-14]
        value = text
    elif kind == "binary":
        value, pos = read_binary(buffer, pos)
    else:
        value, pos = _read_number(buffer, pos, name, kind)
    found[name] = value
    return pos


def _read_number(buffer: bytes, pos: int, name: Property, kind: Kind) -> tuple[int, int]:
    if kind == "varint":
        value, pos = read_varint(buffer, pos)
    else:
        width = _WIDTHS[kind]
        value = int.from_bytes(buffer[pos : pos + width], "big")
        pos += width
    if kind == "flag" and value > 1:
        raise protocol_error(f"property {name.name} must be 0 or 1, not {value}")
    if not value and name in _NOT_ZERO:
        raise protocol_error(f"property {name.name} must not be 0")
    return value, pos


def write_varint(value: int) -> bytes:
    """Return a Variable Byte Integer (section 1.5.5)."""
    if value < 0x80:
        return bytes((value,))
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def write_text(text: str) -> bytes:
    """Return a UTF-8 Encoded String (section 1.5.4).

    Raises:
        ValueError: it is longer than 65535 bytes, or can't be encoded (U+0000, surrogates).
    """
    encoded = text.encode()
    if b"\0" in encoded:
        raise ValueError("MQTT strings must not hold U+0000")
    return write_binary(encoded)


def write_binary(data: bytes) -> bytes:
    """Return Binary Data (section 1.5.6).

    Raises:
        ValueError: it is longer than 65535 bytes.
    """
    if len(data) > 0xFFFF:
        raise ValueError(f"MQTT strings hold at most 65535 bytes, not {len(data)}")
    return len(data).to_bytes(2, "big") + data


def write_properties(properties: Properties, user: UserProperties = ()) -> bytes:
    """Return properties with their length, in the order given, user properties last."""
    if not properties and not user:
        return b"\0"
    parts: list[bytes] = []
    for name, value in properties.items():
        kind = _TABLE[name][1]
        parts.append(bytes((name,)))
        if isinstance(value, str):
            parts.append(write_text(value))
        elif isinstance(value, bytes):
            parts.append(write_binary(value))
        elif kind == "varint":
            parts.append(write_varint(value))
        else:
            parts.append(value.to_bytes(_WIDTHS[kind], "big"))
    for key, text in user:
        parts.append(b"\x26" + write_text(key) + write_text(text))
    block = b"".join(parts)
    return write_varint(len(block)) + block
