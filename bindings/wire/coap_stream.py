"""CoAP messages over connections (RFC 8323 3.2 and 4.2): how long one is, and how it is written.

Over TCP and TLS a message starts with its length. Over WebSockets, where the frame says it, that
nibble is 0 and nothing follows it; the rest is the same.
"""

from typing import Final, NamedTuple

_EXTENSIONS: Final = ((13, 1, 13), (14, 2, 269), (15, 4, 65805))
"""A nibble, how many bytes extend it, and what they are added to."""


class Head(NamedTuple):
    """What the first bytes of a message say."""

    token_start: int
    token_length: int
    """4 bits; what is above 8 is reserved."""
    length: int
    """How many bytes options, payload marker and payload have."""

    @property
    def size(self) -> int:
        """How many bytes the whole message has."""
        return sum(self)


def read_head(octets: bytes | bytearray, position: int = 0) -> Head | None:
    """Return what the message at `position` says of itself, None when that is not all there yet."""
    if len(octets) <= position:
        return None
    length, token_length = octets[position] >> 4, octets[position] & 15
    if length < 13:
        return Head(2, token_length, length)
    _, more, offset = _EXTENSIONS[length - 13]
    start = position + 1
    if len(octets) < start + more:
        return None
    length = int.from_bytes(octets[start : start + more], "big") + offset
    return Head(2 + more, token_length, length)


def head(token_length: int, length: int, code: int) -> bytes:
    """Return what stands in front of the token of a message over TCP or TLS."""
    if length < 13:
        return bytes((length << 4 | token_length, code))
    nibble, more, offset = next(
        extension for extension in reversed(_EXTENSIONS) if length >= extension[2]
    )
    extended = (length - offset).to_bytes(more, "big")
    return bytes((nibble << 4 | token_length, *extended, code))


def from_websocket(message: bytes) -> bytes:
    """Return the content of a WebSocket message in the form that it has over TCP.

    Raises:
        ValueError: it is shorter than it says, or its length is not 0 (RFC 8323 4.2).
    """
    if len(message) < 2:
        raise ValueError("no header")
    token_length = message[0]
    if token_length > 15:
        raise ValueError("over WebSockets the length is 0")
    length = len(message) - 2 - token_length
    if length < 0:
        raise ValueError("the token is longer than the message")
    return head(token_length, length, message[1]) + message[2:]


def to_websocket(message: bytes) -> bytes:
    """Return a message in the form that it has over TCP as the content of a WebSocket message."""
    start = _EXTENSIONS[(message[0] >> 4) - 13][1] + 1 if message[0] >> 4 > 12 else 1
    return bytes((message[0] & 15,)) + message[start:]
