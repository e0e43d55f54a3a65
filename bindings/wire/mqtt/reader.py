"""From what a read brought to a list of packets.

`parse` has no state; `PacketReader` adds the bytes that are left over. One call handles all that
the socket held, as the cost of a packet is small against that of a call, a wake-up or a write.
"""

from enum import Enum
from typing import Final

from bindings.wire.mqtt.decode import (
    CLIENT_DECODERS,
    RECEIVER_DECODERS,
    SERVER_DECODERS,
    decode_publish,
)
from bindings.wire.mqtt.packet import V5, V311, Packet, PacketType, Version
from bindings.wire.mqtt.property import read_varint
from bindings.wire.mqtt.reason import PacketError, ReasonCode, malformed, protocol_error

PROTOCOL_LIMIT: Final = 268_435_455 + 5
"""The longest packet there can be, in bytes (section 2.1.4)."""


class Peer(Enum):
    """Who is at the other end, and so which packets may come."""

    CLIENT = 0
    """A client; we are the server."""
    SERVER = 1
    """A server; we are the client."""
    SERVER_RAW = 2
    """A server whose packets another library handles, all but PUBLISH and PUBREL."""


_DECODERS: Final = {
    Peer.CLIENT: SERVER_DECODERS,
    Peer.SERVER: CLIENT_DECODERS,
    Peer.SERVER_RAW: RECEIVER_DECODERS,
}
_CONNECT: Final = PacketType.CONNECT << 4
_AUTH: Final = PacketType.AUTH << 4


def parse(  # noqa: C901, PLR0912 - the loop that every packet goes through
    buffer: bytes, peer: Peer, version: Version = V5, limit: int = PROTOCOL_LIMIT
) -> tuple[list[Packet], int, int]:
    """Return the whole packets in `buffer`, how many bytes they took, and how many are needed next.

    It stops after a CONNECT, since what follows depends on the version that it chose.

    Args:
        buffer: what was received, beginning with a packet.
        peer: who sent it.
        version: what CONNECT agreed on; of no matter to CONNECT itself.
        limit: the longest packet taken, in bytes, header included.

    Returns:
        The packets; the bytes they took; from there on, the length the buffer must have for a
        further call to make sense.

    Raises:
        PacketError: a packet is wrong; `packets` holds those before it.
    """
    packets: list[Packet] = []
    decoders = _DECODERS[peer]
    pos, size = 0, len(buffer)
    try:
        while size - pos >= 2:
            first, length = buffer[pos], buffer[pos + 1]
            start = pos + 2
            if length > 0x7F:
                if size - pos >= 3 and 0 < buffer[pos + 2] < 0x80:  # two bytes, as most events
                    length = length & 0x7F | buffer[pos + 2] << 7
                    start = pos + 3
                else:
                    try:
                        length, start = _read_length(buffer, pos + 1, version)
                    except IndexError:
                        break
            end = start + length
            if end - pos > limit:
                raise _too_large(end - pos, limit)
            if end > size:
                return packets, pos, end - pos
            if first >> 4 == 3:  # PUBLISH: both sides may send it, and nearly all packets are
                packets.append(decode_publish(first, buffer, start, end, version))
            else:
                decode = decoders.get(first >> 4)
                if decode is None:
                    raise _unexpected(first, version)
                packets.append(decode(first, buffer, start, end, version))
                if first == _CONNECT:
                    return packets, end, 2
            pos = end
    except PacketError as error:
        error.packets = packets
        raise
    except (IndexError, UnicodeDecodeError) as error:
        wrong = malformed(
            "a packet is too short" if isinstance(error, IndexError) else "a string is no UTF-8"
        )
        wrong.packets = packets
        raise wrong from error
    return packets, pos, 2 if size - pos < 2 else size - pos + 1


def _read_length(buffer: bytes, pos: int, version: Version) -> tuple[int, int]:
    if version == V5:
        return read_varint(buffer, pos)
    # 3.1.1 does not say that the length must be as short as can be (section 2.2.3).
    value = 0
    for shift in (0, 7, 14, 21):
        byte = buffer[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
    raise malformed("the remaining length has more than four bytes")


def _too_large(length: int, limit: int) -> PacketError:
    text = f"a packet of {length} bytes; the limit is {limit}"
    return PacketError(ReasonCode.PACKET_TOO_LARGE, text)


def _unexpected(first: int, version: Version) -> PacketError:
    kind = first >> 4
    if not kind or (first & 0xF0 == _AUTH and version == V311):
        return malformed(f"packet type {kind}")
    return protocol_error(f"{PacketType(kind).name} must not be sent by this side")


class PacketReader:
    """One direction of one connection: bytes in, packets out.

    Attributes:
        version: set it when CONNECT has been read.
        limit: the longest packet taken, in bytes.
    """

    __slots__ = ("_needed", "_peer", "_rest", "limit", "version")

    def __init__(self, peer: Peer, version: Version = V5, limit: int = PROTOCOL_LIMIT) -> None:
        self._peer = peer
        self.version: Version = version
        self.limit = limit
        self._rest = bytearray()
        self._needed = 2

    @property
    def held(self) -> int:
        """Bytes of a packet that is not complete."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets that `data` completes; `b""` looks again after a CONNECT.

        Raises:
            PacketError: a packet is wrong; `packets` holds those before it. The reader is of no
                further use then.
        """
        rest = self._rest
        if rest:
            rest += data
            # Without this a packet in many pieces would be copied once for each.
            if len(rest) < self._needed:
                return []
            data = bytes(rest)
            rest.clear()
        packets, taken, self._needed = parse(data, self._peer, self.version, self.limit)
        if taken < len(data):
            rest += memoryview(data)[taken:]
        return packets
