"""Field sections of HTTP/2 (RFC 7541) without a dynamic table.

We write literals without indexing and read what a peer writes that may use no table of ours (we
announce SETTINGS_HEADER_TABLE_SIZE 0). So each block stands alone: equal bytes mean equal fields,
and what was decoded once may be remembered.
"""

from typing import Final

from bindings.wire.http2.frame import ErrorCode, Http2Error
from bindings.wire.http2.huffman import decode_huffman

# RFC 7541 appendix A, from index 1.
_STATIC: Final = (
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
)
_STATIC_NAMES: Final = {name: index for index, (name, _) in reversed([*enumerate(_STATIC, 1)])}
_MAX_KNOWN: Final = 1024
_MAX_KNOWN_BYTES: Final = 256
_LITERAL: Final = 0x00
_NEVER_INDEXED: Final = 0x10
# RFC 7541 7.1.3: not to be put into any table on the way.
_SECRET: Final = frozenset({b"authorization", b"cookie", b"proxy-authorization"})


def encode_field(name: bytes, value: bytes) -> bytes:
    """Return a field as a literal without indexing; credentials as never indexed (6.2).

    Args:
        name: in lower case.
        value: any octets.
    """
    return field_name(name) + encode_integer(len(value), 7) + value


def field_name(name: bytes) -> bytes:
    """Return the beginning of a literal field, up to its value."""
    first = _NEVER_INDEXED if name in _SECRET else _LITERAL
    index = _STATIC_NAMES.get(name)
    if index is not None:
        return encode_integer(index, 4, first)
    return bytes((first,)) + encode_integer(len(name), 7) + name


def encode_indexed(name: bytes, value: bytes) -> bytes:
    """Return a field of the static table as its index.

    Raises:
        ValueError: the table does not have it.
    """
    return bytes((0x80 | _STATIC.index((name, value)) + 1,))


def encode_integer(number: int, bits: int, first: int = 0) -> bytes:
    """Return an integer with a prefix of `bits` bits (5.1); `first` holds the bits above it."""
    most = (1 << bits) - 1
    if number < most:
        return bytes((first | number,))
    octets = bytearray((first | most,))
    number -= most
    while number >= 0x80:
        octets.append(0x80 | number & 0x7F)
        number >>= 7
    octets.append(number)
    return bytes(octets)


class BlockDecoder:
    """Reads blocks; remembers Huffman-coded strings, as most of them come again and again."""

    def __init__(self) -> None:
        self._known: dict[bytes, bytes] = {}

    def decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """Return names and values in the order of the wire.

        Raises:
            Http2Error: COMPRESSION_ERROR; it can't be decoded, or needs a dynamic table.
        """
        fields: list[tuple[bytes, bytes]] = []
        position, end = 0, len(block)
        try:
            while position < end:
                first = block[position]
                if first & 0x80:
                    index, position = _integer(block, position, 0x7F)
                    fields.append(_entry(index))
                    continue
                if first & 0xE0 == 0x20:
                    size, position = _integer(block, position, 0x1F)
                    if size or fields:
                        reason = f"a table of {size} octets, or not at the beginning"
                        raise Http2Error(ErrorCode.COMPRESSION_ERROR, reason)
                    continue
                index, position = _integer(block, position, 0x3F if first & 0x40 else 0x0F)
                if index:
                    name = _entry(index)[0]
                else:
                    name, position = self._string(block, position)
                value, position = self._string(block, position)
                fields.append((name, value))
        except (ValueError, IndexError) as error:
            raise Http2Error(ErrorCode.COMPRESSION_ERROR, f"a field section: {error}") from None
        return fields

    def _string(self, block: bytes, position: int) -> tuple[bytes, int]:
        is_coded = block[position] & 0x80
        length, start = _integer(block, position, 0x7F)
        end = start + length
        if end > len(block):
            raise ValueError("it breaks off")
        text = block[start:end]
        if not is_coded:
            return text, end
        found = self._known.get(text)
        if found is None:
            found = decode_huffman(text)
            if length <= _MAX_KNOWN_BYTES:
                if len(self._known) >= _MAX_KNOWN:
                    self._known.clear()
                self._known[text] = found
        return found, end


def _integer(block: bytes, position: int, most: int) -> tuple[int, int]:
    """Return the integer whose prefix is in the bits of `most`, and where it ends."""
    number = block[position] & most
    position += 1
    if number < most:
        return number, position
    for shift in (0, 7, 14, 21):  # more is nothing that could be meant here
        octet = block[position]
        position += 1
        number += (octet & 0x7F) << shift
        if octet < 0x80:
            return number, position
    raise ValueError("an integer out of bounds")


def _entry(index: int) -> tuple[bytes, bytes]:
    if not 1 <= index <= len(_STATIC):
        raise ValueError(f"index {index} with a table of size 0")
    return _STATIC[index - 1]
