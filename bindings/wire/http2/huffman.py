"""The Huffman code of HPACK (RFC 7541 5.2 and appendix B), for decoding.

The code is canonical: within one length codes count up in the order of the symbols, so that the
lengths say it all.
"""

from functools import cache
from typing import Final

_SYMBOLS_BY_LENGTH: Final[dict[int, bytes]] = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\x00$@[]~",
    14: b"^}",
    15: b"<`{",
    19: b"\\\xc3\xd0",
    20: b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2",
    21: b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6",
    22: bytes.fromhex("8184858688929a9c a0a3a4a9aaadb2b5 b9babbbdbec4c6e4 e8e9"),
    23: bytes.fromhex("0187898a8b8c8d8f 93959697989b9d9e a5a6a8aeafb4b6b7 bcbfc5e7ef"),
    24: b"\x09\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed",
    25: b"\xc7\xcf\xea\xeb",
    26: bytes.fromhex("c0c1c8c9cacdd2d5 dadbeef0f2f3ff"),
    27: bytes.fromhex("cbccd3d4d6dddedf f1f4f5f6f7f8fafb fcfdfe"),
    28: bytes.fromhex("020304050607080b 0c0e0f1011121314 151718191a1b1c1d 1e1f7fdcf9"),
    30: b"\n\r\x16",  # and EOS, the last one
}
_REJECT: Final = -1

# A state is an inner node of the tree, by number; its row tells what four more bits lead to: the
# next state and the symbols that were completed on the way (one at most, codes being 5 bits long).
_Row = list[tuple[int, bytes]]


def decode_huffman(data: bytes) -> bytes:
    """Return the octets that `data` stands for.

    Raises:
        ValueError: it holds EOS, or its end is no padding (RFC 7541 5.2).
    """
    rows, may_end = _machine()
    state = 0
    found = bytearray()
    for octet in data:
        state, symbol = rows[state][octet >> 4]
        found += symbol
        if state < 0:
            break
        state, symbol = rows[state][octet & 15]
        found += symbol
        if state < 0:
            break
    if state not in may_end:
        raise ValueError("a Huffman-coded string that does not end as it has to")
    return bytes(found)


@cache
def _machine() -> tuple[list[_Row], frozenset[int]]:
    """Return the rows of all states, and the states that a string may end in."""
    nodes = _tree()
    rows: list[_Row] = []
    for start in range(len(nodes)):
        row: _Row = []
        for nibble in range(16):
            node, symbol = start, b""
            for shift in (3, 2, 1, 0):
                child = nodes[node][nibble >> shift & 1]
                if child is None:  # EOS, or a code that nobody has
                    node = _REJECT
                    break
                if isinstance(child, bytes):
                    symbol, node = child, 0
                else:
                    node = child
            row.append((node, symbol))
        rows.append(row)
    # Padding: up to seven bits, all ones, as EOS begins.
    padding = [0]
    for _ in range(7):
        child = nodes[padding[-1]][1]
        assert isinstance(child, int)  # noqa: S101 - for the type checker: EOS has 30 bits
        padding.append(child)
    return rows, frozenset(padding)


def _tree() -> list[list[int | bytes | None]]:
    """Return the inner nodes, each with what 0 and 1 lead to: a node's number or a symbol."""
    nodes: list[list[int | bytes | None]] = [[None, None]]
    code, last = 0, 0
    for length, symbols in _SYMBOLS_BY_LENGTH.items():
        code <<= length - last
        last = length
        for symbol in symbols:
            node = 0
            for shift in range(length - 1, 0, -1):
                bit = code >> shift & 1
                child = nodes[node][bit]
                if child is None:
                    child = nodes[node][bit] = len(nodes)
                    nodes.append([None, None])
                assert isinstance(child, int)  # noqa: S101 - for the type checker: a prefix code
                node = child
            nodes[node][code & 1] = bytes((symbol,))
            code += 1
    return nodes
