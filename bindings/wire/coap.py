"""CoAP datagrams (RFC 7252 section 3) to messages and back; strict, without any I/O.

`parse` is on the hot path of the CoAP source: one call a datagram. What it lets through obeys the
message format; whether options and payload make sense is decided above (`bindings.coap`).
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec

VERSION_BITS: Final = 0x40
"""Version 1 in the two highest bits of the first byte; the only one there is."""
PAYLOAD_MARKER: Final = 0xFF
_EXTENDED_DELTA: Final = 0xD0
"""An option whose first byte is not below this has its delta in further bytes, or is no option."""
EMPTY: Final = 0x00
"""Code 0.00: an empty message, which is a ping (CON), a bare acknowledgement or a reset."""


class Type(IntEnum):
    """Message types (RFC 7252 section 3)."""

    CON = 0
    NON = 1
    ACK = 2
    RST = 3


class Code(IntEnum):
    """Methods and response codes that the binding uses (RFC 7252 12.1, 7959, 8516)."""

    GET = 0x01
    POST = 0x02
    CHANGED = 0x44
    CONTENT = 0x45
    CONTINUE = 0x5F
    BAD_REQUEST = 0x80
    UNAUTHORIZED = 0x81
    BAD_OPTION = 0x82
    FORBIDDEN = 0x83
    NOT_FOUND = 0x84
    METHOD_NOT_ALLOWED = 0x85
    NOT_ACCEPTABLE = 0x86
    REQUEST_ENTITY_INCOMPLETE = 0x88
    REQUEST_ENTITY_TOO_LARGE = 0x8D
    UNSUPPORTED_CONTENT_FORMAT = 0x8F
    TOO_MANY_REQUESTS = 0x9D
    INTERNAL_SERVER_ERROR = 0xA0
    BAD_GATEWAY = 0xA2
    SERVICE_UNAVAILABLE = 0xA3
    GATEWAY_TIMEOUT = 0xA4
    PROXYING_NOT_SUPPORTED = 0xA5


class Number(IntEnum):
    """Option numbers (RFC 7252 12.2 and its updates)."""

    IF_MATCH = 1
    URI_HOST = 3
    ETAG = 4
    IF_NONE_MATCH = 5
    OBSERVE = 6
    URI_PORT = 7
    OSCORE = 9
    URI_PATH = 11
    CONTENT_FORMAT = 12
    MAX_AGE = 14
    URI_QUERY = 15
    HOP_LIMIT = 16
    ACCEPT = 17
    Q_BLOCK1 = 19
    EDHOC = 21
    BLOCK2 = 23
    BLOCK1 = 27
    SIZE2 = 28
    Q_BLOCK2 = 31
    PROXY_URI = 35
    PROXY_SCHEME = 39
    SIZE1 = 60
    ECHO = 252
    NO_RESPONSE = 258
    REQUEST_TAG = 292


Option = tuple[int, bytes]
"""An option's number and value."""


class Message(msgspec.Struct, frozen=True):
    """One CoAP message.

    Attributes:
        type: CON, NON, ACK or RST.
        code: class in the upper three bits, detail in the lower five (0x44 is 2.04).
        mid: message id, 16 bits.
        token: 0 to 8 bytes.
        options: in the order of the wire, which is ascending by number.
        payload: b"" when there is none; CoAP has no empty payload.
    """

    type: int
    code: int
    mid: int
    token: bytes = b""
    options: Sequence[Option] = ()
    payload: bytes = b""


class MessageFormatError(Exception):
    """A datagram that breaks the message format (RFC 7252 section 3).

    Attributes:
        reply: the reset to send back (RFC 7252 4.2), or b"" where silence is asked for: for
            anything but a confirmable message, another version, or less than a header.
    """

    def __init__(self, text: str, reply: bytes = b"") -> None:
        super().__init__(text)
        self.reply = reply


def parse(datagram: bytes) -> Message:
    """Return the message in a datagram.

    Raises:
        MessageFormatError: it is none; `reply` is what to send back, if anything.
    """
    if len(datagram) < 4 or datagram[0] & 0xC0 != VERSION_BITS:
        raise MessageFormatError("no CoAP version 1 header")
    first, code = datagram[0], datagram[1]
    mid = datagram[2] << 8 | datagram[3]
    end = 4 + (first & 0x0F)
    # RFC 7252 12.1: classes 1, 6 and 7 are reserved; 7 is signalling, which UDP does not have.
    if end > 12 or code >> 5 in _RESERVED_CLASSES or (code == EMPTY and len(datagram) > 4):
        raise _format_error(
            datagram, "reserved token length or code, or an empty message with content"
        )
    if end > len(datagram):
        raise _format_error(datagram, "the token is longer than the datagram")
    try:
        options, payload = parse_options(datagram, end)
    except ValueError as error:
        raise _format_error(datagram, str(error)) from error
    return Message(first >> 4 & 3, code, mid, datagram[4:end], options, payload)


def parse_options(octets: bytes, start: int = 0) -> tuple[list[Option], bytes]:
    """Return the options from `start` on and the payload behind them (RFC 7252 3.1).

    Raises:
        ValueError: a reserved nibble, a truncated option, a number above 65535, or a payload
            marker with nothing behind it.
    """
    options: list[Option] = []
    position, size, number, payload = start, len(octets), 0, b""
    while position < size:
        head = octets[position]
        position += 1
        length = head & 0x0F
        if head < _EXTENDED_DELTA:
            number += head >> 4
        elif head == PAYLOAD_MARKER:
            if position == size:
                raise ValueError("a payload marker without payload")
            payload = octets[position:]
            break
        else:
            delta, position = _extended(octets, position, head >> 4)
            number += delta
        if length > 12:
            if length == 13 and position < size:  # nearly every one of them
                length = octets[position] + 13
                position += 1
            else:
                length, position = _extended(octets, position, length)
        end = position + length
        if end > size:
            raise ValueError("an option is longer than the datagram")
        options.append((number, octets[position:end]))
        position = end
    if number > 0xFFFF:  # they only grow
        raise ValueError("an option number above 65535")
    return options, payload


def serialise(message: Message) -> bytes:
    """Return the datagram that carries `message`; its options may stand in any order.

    Raises:
        ValueError: the token is longer than 8 bytes, or an option than 65804.
    """
    token = message.token
    if len(token) > 8:
        raise ValueError("a token has at most 8 bytes")
    head = bytes((
        VERSION_BITS | message.type << 4 | len(token),
        message.code,
        message.mid >> 8,
        message.mid & 0xFF,
    ))  # fmt: skip
    parts = [head, token]
    if message.options:
        parts.append(serialise_options(message.options))
    if message.payload:
        parts += (b"\xff", message.payload)
    return b"".join(parts)


def serialise_options(options: Iterable[Option]) -> bytes:
    """Return options as on the wire, sorted by number; equal numbers keep their order.

    There is one spelling only: each delta and length has exactly one encoding (RFC 7252 3.1).
    """
    result = bytearray()
    previous = 0
    for number, value in sorted(options, key=_number_of):
        delta, delta_tail = _nibble(number - previous)
        length, length_tail = _nibble(len(value))
        result.append(delta << 4 | length)
        result += delta_tail
        result += length_tail
        result += value
        previous = number
    return bytes(result)


def reset(mid: int) -> bytes:
    """Return the RST that rejects the message `mid`."""
    return bytes((0x70, EMPTY, mid >> 8, mid & 0xFF))


def acknowledgement(mid: int) -> bytes:
    """Return the empty ACK: stop retransmitting, the answer comes later."""
    return bytes((0x60, EMPTY, mid >> 8, mid & 0xFF))


def to_uint(value: bytes) -> int:
    """Return the number in an option value; no bytes are 0 (RFC 7252 3.2)."""
    return int.from_bytes(value, "big")


def from_uint(number: int) -> bytes:
    """Return the shortest option value for a number."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


class Block(NamedTuple):
    """The value of a Block1 or Block2 option (RFC 7959 2.2)."""

    number: int
    more: bool
    size_exponent: int
    """SZX: the size is 2 ** (SZX + 4) bytes; 7 is reserved on UDP."""

    @property
    def is_bert(self) -> bool:
        """Whether it stands for several blocks of 1024 bytes, as over TCP (RFC 8323 6)."""
        return self.size_exponent == 7

    @property
    def size(self) -> int:
        return 16 << min(self.size_exponent, 6)

    @property
    def offset(self) -> int:
        return self.number * self.size

    def to_bytes(self) -> bytes:
        return from_uint(self.number << 4 | self.more << 3 | self.size_exponent)


def to_block(value: bytes) -> Block:
    """Return the block that an option value of at most 3 bytes names."""
    number = to_uint(value)
    return Block(number >> 4, bool(number & 8), number & 7)


def code_text(code: int) -> str:
    """Return a code as people write it: `2.04`."""
    return f"{code >> 5}.{code & 0x1F:02}"


_RESERVED_CLASSES: Final = frozenset({1, 6, 7})


def _format_error(datagram: bytes, text: str) -> MessageFormatError:
    confirmable = datagram[0] & 0x30 == 0
    return MessageFormatError(text, reset(datagram[2] << 8 | datagram[3]) if confirmable else b"")


def _extended(octets: bytes, position: int, nibble: int) -> tuple[int, int]:
    """Return a delta or length above 12 and where the next byte stands."""
    if nibble == 13 and position < len(octets):
        return octets[position] + 13, position + 1
    if nibble == 14 and position + 1 < len(octets):
        return (octets[position] << 8 | octets[position + 1]) + 269, position + 2
    if nibble == 15:
        raise ValueError("an option delta or length of 15 is reserved")
    raise ValueError("an option's extended delta or length is cut off")


def _nibble(number: int) -> tuple[int, bytes]:
    if number < 13:
        return number, b""
    if number < 269:
        return 13, bytes((number - 13,))
    if number < 65805:
        return 14, (number - 269).to_bytes(2, "big")
    raise ValueError("an option delta or length above 65804")


def _number_of(option: Option) -> int:
    return option[0]
