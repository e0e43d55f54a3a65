"""CBOR (RFC 8949): bytes to values and back, strictly.

Written here because a general decoder does too much for an event that comes from a stranger: it
makes dates of tags, keeps the last of two equal keys, and forgets how an item was written. This one
refuses what is not well-formed, text that is no UTF-8, a key that stands in a map twice and what is
nested too deep; it believes no length that the bytes do not bear out; tags mean nothing to it. Each
entry of a map comes with the exact bytes of its value, so that data can be passed on as it arrived.

What is written is deterministic (section 4.2.1): shortest forms, definite lengths, sorted keys.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

MAX_DEPTH: Final = 16
"""How many arrays, maps and tags may stand in each other, the outermost included."""

Value: TypeAlias = "int | float | str | bytes | bool | list[Value] | Map | Tagged | Simple | None"
"""A data item: integers of 64 bits, arrays as lists, everything else by its own type."""


class CborError(ValueError):
    """Bytes that are no valid CBOR, or a value that CBOR can't hold here.

    Attributes:
        is_duplicate: whether what is wrong is a key that stands in a map twice.
    """

    def __init__(self, text: str, *, is_duplicate: bool = False) -> None:
        super().__init__(text)
        self.is_duplicate = is_duplicate


class Map(tuple[tuple["Value", "Value", bytes], ...]):
    """A map's entries in order: key, value, and the bytes that the value was encoded in."""

    __slots__ = ()


class Tagged(NamedTuple):
    """A tag (section 3.4): its number and what it is put on."""

    number: int
    value: "Value"


class Simple(NamedTuple):
    """A simple value (section 3.3) but for false, true and null; 23 is `undefined`."""

    number: int


class Encoded(NamedTuple):
    """An item to be written that is encoded already."""

    item: bytes


Writable: TypeAlias = "Value | Encoded | Mapping[str, Writable]"
"""What can be written."""

_BREAK: Final = b"\xff"
_ARRAY: Final = 4
"""The major type."""
_INDEFINITE: Final = 31
_FLOATS: Final = {25: struct.Struct(">e"), 26: struct.Struct(">f"), 27: struct.Struct(">d")}
_CONSTANTS: Final = {20: False, 21: True, 22: None}
_NAN: Final = b"\xf9\x7e\x00"


def decode(data: bytes, *, max_depth: int = MAX_DEPTH) -> Value:
    """Return the one item that `data` is.

    Raises:
        CborError: it is none, or bytes follow it.
    """
    value, end = _read(data, 0, max_depth)
    if end != len(data):
        raise CborError(f"{len(data) - end} bytes follow the item")
    return value


def iter_sequence(data: bytes) -> Iterator[Value]:
    """Yield the items of a CBOR sequence (RFC 8742), which may be empty, each when it is asked for.

    Raises:
        CborError: one of them is none.
    """
    position = 0
    while position < len(data):
        value, position = _read(data, position, MAX_DEPTH)
        yield value


def iter_array(data: bytes) -> Iterator[Value]:
    """Yield the items of the array that `data` is, each when it is asked for.

    Raises:
        CborError: it is none, one of its items is none, or bytes follow it.
    """
    if not data or data[0] >> 5 != _ARRAY:
        raise CborError("an array is expected")
    position, count = 1, data[0] & 31
    if 24 <= count < 28:
        count, position = _read_argument(data, position, count)
    elif 28 <= count < _INDEFINITE:
        raise CborError(f"no item starts with {data[0]:#04x}")
    if data[0] & 31 == _INDEFINITE:
        while data[position : position + 1] != _BREAK:
            value, position = _read(data, position, MAX_DEPTH)
            yield value
        position += 1
    else:
        for _ in range(count):
            value, position = _read(data, position, MAX_DEPTH)
            yield value
    if position != len(data):
        raise CborError(f"{len(data) - position} bytes follow the item")


def encode(value: Writable) -> bytes:
    """Return the deterministic encoding of `value`.

    Raises:
        CborError: an integer of more than 64 bits, or text with a lone surrogate.
    """
    if isinstance(value, str):
        try:
            content = value.encode("utf-8")
        except UnicodeEncodeError:
            raise CborError("text with a lone surrogate") from None
        return _head(3, len(content)) + content
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if value is None or isinstance(value, bool):
        return b"\xf6" if value is None else b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, Encoded):
        return value.item
    return _encode_rare(value)


def _read(data: bytes, position: int, depth: int) -> tuple[Value, int]:
    """Return the item at `position` and where it ends."""
    if position >= len(data):
        raise _ends_early()
    initial = data[position]
    position += 1
    if initial < 24:  # a small number, the commonest of items
        return initial, position
    argument = initial & 31
    if initial >= 0xE0:
        return _read_simple_or_float(data, position, argument)
    if argument >= 28:
        return _read_indefinite(data, position, depth, initial)
    if argument >= 24:
        argument, position = _read_argument(data, position, argument)
    return _READERS[initial >> 5](data, position, depth, argument)


def _read_argument(data: bytes, position: int, info: int) -> tuple[int, int]:
    end = position + (1 << (info - 24))
    if end > len(data):
        raise _ends_early()
    return int.from_bytes(data[position:end], "big"), end


def _read_simple_or_float(data: bytes, position: int, info: int) -> tuple[Value, int]:
    if info >= 28:
        raise CborError("a break where nothing is open, or a reserved form")
    if info < 24:
        return (_CONSTANTS[info] if info in _CONSTANTS else Simple(info)), position
    argument, end = _read_argument(data, position, info)
    if info in _FLOATS:
        value: float = _FLOATS[info].unpack_from(data, position)[0]
        return value, end
    if argument < 32:
        raise CborError(f"simple value {argument} takes one byte")
    return Simple(argument), end


def _read_unsigned(_data: bytes, position: int, _depth: int, argument: int) -> tuple[Value, int]:
    return argument, position


def _read_negative(_data: bytes, position: int, _depth: int, argument: int) -> tuple[Value, int]:
    return -1 - argument, position


def _read_bytes(data: bytes, position: int, _depth: int, length: int) -> tuple[bytes, int]:
    end = position + length
    if end > len(data):
        raise _ends_early()
    return data[position:end], end


def _read_text(data: bytes, position: int, _depth: int, length: int) -> tuple[str, int]:
    end = position + length
    if end > len(data):
        raise _ends_early()
    try:
        return str(data[position:end], "utf-8"), end
    except UnicodeDecodeError:
        raise CborError("text is no UTF-8") from None


def _read_array(
    data: bytes, position: int, depth: int, count: int | None
) -> tuple[list[Value], int]:
    """Read `count` items, or up to the break where that is None."""
    depth = _deeper(depth)
    values: list[Value] = []
    while len(values) != count:
        if count is None and data[position : position + 1] == _BREAK:
            return values, position + 1
        value, position = _read(data, position, depth)
        values.append(value)
    return values, position


def _read_map(data: bytes, position: int, depth: int, count: int | None) -> tuple[Map, int]:
    """Read `count` entries, or up to the break where that is None."""
    depth = _deeper(depth)
    entries: list[tuple[Value, Value, bytes]] = []
    keys: set[int | str | bytes] = set()
    while len(entries) != count:
        if count is None and data[position : position + 1] == _BREAK:
            return Map(entries), position + 1
        key, start = _read(data, position, depth)
        value, position = _read(data, start, depth)
        # 1, 1.0 and true are equal in Python and three keys in CBOR; and one key may be written in
        # several ways.
        keys.add(key if type(key) is str or type(key) is int else encode(key))
        entries.append((key, value, data[start:position]))
        if len(keys) != len(entries):
            raise CborError("a key stands in a map twice", is_duplicate=True)
    return Map(entries), position


def _read_tagged(data: bytes, position: int, depth: int, number: int) -> tuple[Tagged, int]:
    value, position = _read(data, position, _deeper(depth))
    return Tagged(number, value), position


_READERS: Final[tuple[Callable[[bytes, int, int, int], tuple[Value, int]], ...]] = (
    _read_unsigned,
    _read_negative,
    _read_bytes,
    _read_text,
    _read_array,
    _read_map,
    _read_tagged,
)
"""What reads the rest of an item, by major type: data, position, depth left, argument."""


def _deeper(depth: int) -> int:
    """Return the depth that is left within an array, a map or a tag."""
    if depth == 0:
        raise CborError("nested too deep")
    return depth - 1


def _read_indefinite(data: bytes, position: int, depth: int, initial: int) -> tuple[Value, int]:
    if initial == 0x9F:
        return _read_array(data, position, depth, None)
    if initial == 0xBF:
        return _read_map(data, position, depth, None)
    if initial not in {0x5F, 0x7F}:
        raise CborError(f"no item starts with {initial:#04x}")
    chunks: list[Any] = []
    while data[position : position + 1] != _BREAK:
        # Each piece has to be valid by itself: no character stands in two (section 3.2.3).
        chunk = data[position] if position < len(data) else initial
        if chunk >> 5 != initial >> 5 or chunk & 31 == initial & 31:
            raise CborError("a string in pieces ends early, or one is no string of its kind")
        value, position = _read(data, position, depth)
        chunks.append(value)
    return (b"".join(chunks) if initial == 0x5F else "".join(chunks)), position + 1


def _ends_early() -> CborError:
    return CborError("the bytes end within an item")


def _encode_rare(
    value: "float | list[Value] | Map | Tagged | Simple | Mapping[str, Writable]",
) -> bytes:
    if isinstance(value, float):
        return _encode_float(value)
    if isinstance(value, Tagged):
        return _head(6, value.number) + encode(value.value)
    if isinstance(value, Simple):
        return _head(7, value.number)
    if isinstance(value, Mapping):
        return _encode_map([(encode(key), encode(item)) for key, item in value.items()])
    if isinstance(value, Map):
        return _encode_map([(encode(key), encode(item)) for key, item, _ in value])
    return _head(4, len(value)) + b"".join(map(encode, value))


def _encode_map(entries: list[tuple[bytes, bytes]]) -> bytes:
    return _head(5, len(entries)) + b"".join(key + item for key, item in sorted(entries))


def _encode_float(value: float) -> bytes:
    if value != value:  # noqa: PLR0124 - only NaN differs from itself
        return _NAN
    for info, form in _FLOATS.items():
        try:
            content = form.pack(value)
        except OverflowError:
            continue
        if form.unpack(content)[0] == value:
            return bytes((0xE0 | info,)) + content
    raise AssertionError("a double holds every float")


def _head(major: int, argument: int) -> bytes:
    """Return the shortest head (section 3) of a major type with its argument."""
    if argument < 24:
        return bytes((major << 5 | argument,))
    for info, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument >> 8 * width == 0:
            return bytes((major << 5 | info,)) + argument.to_bytes(width, "big")
    raise CborError("an integer of more than 64 bits")
