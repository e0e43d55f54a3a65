"""Records as bytes."""

import struct
from zlib import crc32

import pytest

from gateway.spool.record import HEAD_BYTES, Stop, encode, parse, read_head


def by_hand(sequence, data):
    checked = struct.pack("<IQ", len(data), sequence) + data
    return b"\xf1CEr" + struct.pack("<I", crc32(checked)) + checked


def test_records_stand_as_the_document_says():
    assert encode([b"one", b""], 7) == by_hand(7, b"one") + by_hand(8, b"")


def test_parse_returns_what_was_encoded():
    data = encode([b"one", b"", b"three"], 7)
    parsed = parse(b"xx" + data, 2, 7, 10, 1 << 20)
    assert parsed.records == [(7, b"one"), (8, b""), (9, b"three")]
    assert (parsed.offset, parsed.size) == (2 + len(data), 8)
    assert (parsed.stop, parsed.needed) == (Stop.SHORT, HEAD_BYTES)


def test_parse_stops_at_the_limits():
    data = encode([b"one", b"two", b"three"], 1)
    assert [n for n, _ in parse(data, 0, 1, 2, 1 << 20).records] == [1, 2]
    assert [n for n, _ in parse(data, 0, 1, 9, 4).records] == [1, 2]
    assert parse(data, 0, 1, 2, 1 << 20).stop is Stop.ENOUGH


def test_parse_says_how_much_it_needs():
    data = encode([b"one", b"two"], 1)
    parsed = parse(data[:-1], 0, 1, 9, 1 << 20)
    assert (parsed.stop, parsed.needed) == (Stop.SHORT, HEAD_BYTES + 3)


@pytest.mark.parametrize("zeros", [20, 21, 4096])
def test_zeros_are_no_record(zeros):
    assert parse(bytes(zeros), 0, 0, 9, 1 << 20) == ([], 0, 0, Stop.DAMAGED, 0)


def test_a_record_with_another_number_is_not_the_expected_one():
    assert parse(encode([b"one"], 5), 0, 4, 9, 1 << 20).stop is Stop.DAMAGED


@pytest.mark.parametrize("at", range(HEAD_BYTES + 3))
def test_every_byte_is_checked(at):
    data = bytearray(encode([b"one"], 5) + bytes(300))
    data[at] ^= 0x40
    assert parse(bytes(data), 0, 5, 9, 1 << 20).records == []


def test_a_head_is_known_by_its_marker():
    data = encode([b"one"], 5)
    assert read_head(data) == (3, 5)
    assert read_head(data[:19]) is None
    assert read_head(data[1:] + b"x") is None
