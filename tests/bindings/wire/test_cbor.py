"""CBOR against the examples of RFC 8949 (appendices A and F) and against cbor2."""

import io
import math
import tracemalloc

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindings.wire.cbor import (
    MAX_DEPTH,
    CborError,
    Encoded,
    Map,
    Simple,
    Tagged,
    decode,
    encode,
    iter_array,
    iter_sequence,
)
from tests.helpers import examples


def plain(value):
    """Return a decoded value with maps as lists of pairs, so that it can be written down."""
    if isinstance(value, Map):
        return {"map": [(plain(key), plain(item)) for key, item, _ in value]}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, Tagged):
        return Tagged(value.number, plain(value.value))
    return value


# Appendix A: the item, its value, and whether the encoding is the deterministic one.
EXAMPLES = [
    ("00", 0), ("01", 1), ("0a", 10), ("17", 23), ("1818", 24), ("1819", 25), ("1864", 100),
    ("1903e8", 1000), ("1a000f4240", 1000000), ("1b000000e8d4a51000", 1000000000000),
    ("1bffffffffffffffff", 18446744073709551615), ("3bffffffffffffffff", -18446744073709551616),
    ("20", -1), ("29", -10), ("3863", -100), ("3903e7", -1000),
    ("f90000", 0.0), ("f93c00", 1.0), ("fb3ff199999999999a", 1.1), ("f93e00", 1.5),
    ("f97bff", 65504.0), ("fa47c35000", 100000.0), ("fa7f7fffff", 3.4028234663852886e38),
    ("fb7e37e43c8800759c", 1.0e300), ("f90001", 5.960464477539063e-8), ("f90400", 0.00006103515625),
    ("f9c400", -4.0), ("fbc010666666666666", -4.1), ("f97c00", math.inf), ("f9fc00", -math.inf),
    ("f4", False), ("f5", True), ("f6", None), ("f7", Simple(23)), ("f0", Simple(16)),
    ("f8ff", Simple(255)),
    ("c074323031332d30332d32315432303a30343a30305a", Tagged(0, "2013-03-21T20:04:00Z")),
    ("c11a514b67b0", Tagged(1, 1363896240)), ("c1fb41d452d9ec200000", Tagged(1, 1363896240.5)),
    ("c249010000000000000000", Tagged(2, bytes.fromhex("010000000000000000"))),
    ("d74401020304", Tagged(23, b"\1\2\3\4")), ("d818456449455446", Tagged(24, b"dIETF")),
    ("d82076687474703a2f2f7777772e6578616d706c652e636f6d", Tagged(32, "http://www.example.com")),
    ("40", b""), ("4401020304", b"\1\2\3\4"), ("60", ""), ("6161", "a"), ("6449455446", "IETF"),
    ("62225c", '"\\'), ("62c3bc", "ü"), ("63e6b0b4", "水"), ("64f0908591", "𐅑"),
    ("80", []), ("83010203", [1, 2, 3]), ("8301820203820405", [1, [2, 3], [4, 5]]),
    ("98190102030405060708090a0b0c0d0e0f101112131415161718181819", [*range(1, 26)]),
    ("a0", {"map": []}), ("a201020304", {"map": [(1, 2), (3, 4)]}),
    ("a26161016162820203", {"map": [("a", 1), ("b", [2, 3])]}),
    ("826161a161626163", ["a", {"map": [("b", "c")]}]),
]  # fmt: skip
INDEFINITE = [
    ("5f42010243030405ff", b"\1\2\3\4\5"), ("7f657374726561646d696e67ff", "streaming"),
    ("9fff", []), ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
    ("9f01820203820405ff", [1, [2, 3], [4, 5]]), ("83018202039f0405ff", [1, [2, 3], [4, 5]]),
    ("83019f0203ff820405", [1, [2, 3], [4, 5]]),
    ("bf61610161629f0203ffff", {"map": [("a", 1), ("b", [2, 3])]}),
    ("826161bf61626163ff", ["a", {"map": [("b", "c")]}]),
    ("bf6346756ef563416d7421ff", {"map": [("Fun", True), ("Amt", -2)]}),
    ("5fff", b""), ("7fff", ""), ("5f40ff", b""),
]  # fmt: skip
NOT_SHORTEST = [
    ("1800", 0), ("190017", 23), ("1b0000000000000001", 1), ("3a00000000", -1), ("5800", b""),
    ("7a0000000161", "a"), ("980101", [1]), ("b8010102", {"map": [(1, 2)]}),
    ("d8000a", Tagged(0, 10)), ("fa7f800000", math.inf), ("fb7ff0000000000000", math.inf),
    ("fb3ff8000000000000", 1.5),
]  # fmt: skip


@pytest.mark.parametrize(("encoded", "value"), EXAMPLES + INDEFINITE + NOT_SHORTEST)
def test_an_item_of_the_rfc_is_read(encoded, value):
    got = decode(bytes.fromhex(encoded))
    assert plain(got) == value
    assert type(plain(got)) is type(value)


@pytest.mark.parametrize(("encoded", "value"), EXAMPLES)
def test_a_value_of_the_rfc_is_written_in_its_shortest_form(encoded, value):
    del value
    assert encode(decode(bytes.fromhex(encoded))).hex() == encoded


@pytest.mark.parametrize("encoded", ["f97e00", "fa7fc00000", "fb7ff8000000000000", "f97e01"])
def test_not_a_number_is_read_in_any_form_and_written_in_one(encoded):
    value = decode(bytes.fromhex(encoded))
    assert math.isnan(value)
    assert encode(value).hex() == "f97e00"


# Appendix F, and what else is no valid item.
MALFORMED = (
    "18 19 1a 1b 1901 1a0102 1b01020304050607 38 58 78 98 9a01ff00 b8 d8 f8 f900 fa0000 fb000000 "
    "41 61 5affffffff00 5bffffffffffffffff010203 7affffffff00 7b7fffffffffffffff010203 81 "
    "818181818181818181 8200 a1 a20102 a100 a2000000 c0 5f4100 7f6100 9f 9f0102 bf bf01020302 "
    "819f 9f8000 9f9f9f9f9fffffffff 9f819f819f9fffffff 1c 1d 1e 3c 3d 3e 5c 5d 5e 7c 7d 7e 9c 9d "
    "9e bc bd be dc dd de fc fd fe f800 f801 f818 f81f 5f00ff 5f21ff 5f6100ff 5f80ff 5fa0ff "
    "5fc000ff 5fe0ff 7f4100ff 5f5f4100ffff 7f7f6100ffff ff 81ff 8200ff a1ff a1ff00 a100ff "
    "a20000ff 9f81ff 9f829f819f9fffffffff bf00ff bf000000ff 1f 3f df c0ff 61ff 62c328 63eda080 "
    "62c080 64f4908080 7f61c361bcff "
)


@pytest.mark.parametrize("encoded", ["", *MALFORMED.split()])
def test_what_is_no_item_is_refused(encoded):
    with pytest.raises(CborError) as caught:
        decode(bytes.fromhex(encoded))
    assert not caught.value.is_duplicate


@pytest.mark.parametrize("encoded", ["0000", "a000", "f600", "60ff"])
def test_trailing_bytes_are_refused_and_make_a_sequence(encoded):
    with pytest.raises(CborError, match="1 bytes follow"):
        decode(bytes.fromhex(encoded))


def test_a_sequence_holds_any_number_of_items():
    assert list(iter_sequence(b"")) == []
    items = list(iter_sequence(bytes.fromhex("01820203a0f6")))
    assert plain(items) == [1, [2, 3], {"map": []}, None]
    with pytest.raises(CborError):
        list(iter_sequence(bytes.fromhex("0118")))


@pytest.mark.parametrize("encoded", ["80", "9fff", "9800", "9b0000000000000000"])
def test_an_array_may_be_empty(encoded):
    assert list(iter_array(bytes.fromhex(encoded))) == []


@pytest.mark.parametrize("encoded", ["820102", "9f0102ff", "98020102", "9a000000020102"])
def test_the_items_of_an_array_come_one_by_one(encoded):
    assert list(iter_array(bytes.fromhex(encoded))) == [1, 2]
    # What is wrong behind an item does not matter before the next one is asked for.
    assert next(iter_array(bytes.fromhex(encoded)[:-1] + b"\x1c")) == 1


@pytest.mark.parametrize(
    "encoded",
    ["", "00", "a0", "d9d9f780", "9c", "9e", "98", "9f", "9f01", "8201", "8100ff", "9fff00",
     "9bffffffffffffffff00"],
)  # fmt: skip
def test_what_is_not_one_array_has_no_items(encoded):
    with pytest.raises(CborError):
        list(iter_array(bytes.fromhex(encoded)))


def test_the_items_of_an_array_may_be_nested_as_deep_as_any_item():
    deepest = b"\x81" * 15 + b"\x80"
    assert list(iter_array(b"\x81" + deepest)) == [decode(deepest)]
    with pytest.raises(CborError, match="nested too deep"):
        list(iter_array(b"\x82" + deepest + b"\x81" + deepest))


@pytest.mark.parametrize(
    "encoded",
    ["a201020103", "a2616101616102", "bf01020103ff", "a201021801f6",  # 1 in two forms
     "a26161017f6161ff02",  # "a" in two forms
     "a2f93c0001fb3ff000000000000002", "a2f501f502", "a2f97e0001fa7fc0000002",
     "a28101018101f6", "a2a101020103a201020103", "82a201020102",
     "a24161014161f6", "a1f6a201020103"],
)  # fmt: skip
def test_a_key_that_stands_in_a_map_twice_is_refused(encoded):
    with pytest.raises(CborError) as caught:
        decode(bytes.fromhex(encoded))
    assert caught.value.is_duplicate


def test_keys_that_are_equal_in_python_only_are_different_keys():
    encoded = bytes.fromhex("a70101f93c0002f503f4040005613106413107")
    assert len(decode(encoded)) == 7


@pytest.mark.parametrize("opening", ["81", "a100", "c0", "9f", "bf00", "a1"])
def test_nesting_ends_at_the_limit(opening):
    indefinite = opening in {"9f", "bf00"}
    # The last row nests in keys, each with a value behind it.
    closing = {"9f": "ff", "bf00": "ff", "a1": "00"}.get(opening, "")
    for depth, is_read in ((MAX_DEPTH, True), (MAX_DEPTH + 1, False), (50_000, False)):
        encoded = bytes.fromhex(opening * depth + "00" + closing * depth)
        if is_read:
            decode(encoded)
        else:
            with pytest.raises(CborError, match="nested too deep"):
                decode(encoded)
    assert indefinite == (closing == "ff")


@pytest.mark.parametrize("encoded", [
    "5b7fffffffffffffff", "9b0000000100000000", "bb00ffffffffffffff", "7a7fffffff61",
    "9a7fffffff00", "829a7fffffff00",
])  # fmt: skip
def test_a_length_that_is_a_lie_costs_no_memory(encoded):
    tracemalloc.start()
    with pytest.raises(CborError):
        decode(bytes.fromhex(encoded))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000


def test_each_entry_of_a_map_has_the_exact_bytes_of_its_value():
    items = ["1800", "fb3ff8000000000000", "9f01ff", "a20201011802", "7f6161ff", "d8207f60ff"]
    encoded = bytes.fromhex("a6" + "".join(f"{key:02x}{item}" for key, item in enumerate(items)))
    assert [item.hex() for _, _, item in decode(encoded)] == items


def test_what_is_encoded_already_is_written_as_it_is_and_keys_are_sorted_by_their_bytes():
    members = {"aa": Encoded(b"\x18\x00"), "b": 1, "a": {"z": b"", "": None}}
    assert encode(members).hex() == "a36161a260f6617a406162016261611800"
    # Section 4.2.1: 10, 100, -1, "z", "aa", [100], [-1], false.
    keys = ["0a", "1864", "20", "617a", "626161", "811864", "8120", "f4"]
    encoded = bytes.fromhex("a8" + "".join(f"{key}f6" for key in reversed(keys)))
    assert encode(decode(encoded)).hex() == "a8" + "".join(f"{key}f6" for key in keys)


@pytest.mark.parametrize("value", [2**64, -(2**64) - 1, "\ud800", ["a\udfff"]])
def test_what_cbor_has_no_room_for_is_not_written(value):
    with pytest.raises(CborError):
        encode(value)


# --- against cbor2 --------------------------------------------------------------------------------

scalars = st.one_of(
    st.integers(-(2**64), 2**64 - 1), st.booleans(), st.none(), st.floats(allow_nan=False),
    st.text(max_size=30), st.binary(max_size=300),
)  # fmt: skip
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=40,
)


def as_python(value):
    if isinstance(value, Map):
        return {key: as_python(item) for key, item, _ in value}
    return [as_python(item) for item in value] if isinstance(value, list) else value


def depth_of(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (1 + max(map(depth_of, inner), default=0)) if isinstance(value, dict | list) else 0


def same(one, other):
    """Whether two values are equal, types and signs of zero included."""
    return repr(one) == repr(other)


@settings(max_examples=examples(200))
@given(trees.filter(lambda value: depth_of(value) <= MAX_DEPTH), st.booleans())
def test_cbor2_and_we_read_each_other(value, shortest):
    encoded = cbor2.dumps(value, canonical=shortest)
    assert as_python(decode(encoded)) == value
    ours = encode(value)
    assert same(as_python(decode(ours)), cbor2.loads(ours))
    # With text keys, the order of RFC 7049 and that of RFC 8949 are one.
    assert ours == cbor2.dumps(value, canonical=True)


def changed(encoded):
    """Draw bytes of which one has another value."""
    return st.tuples(st.integers(0, len(encoded) - 1), st.integers(0, 255)).map(
        lambda change: encoded[: change[0]] + bytes((change[1],)) + encoded[change[0] + 1 :]
    )


def read_by_cbor2(encoded):
    """Return the items of a sequence, or None if cbor2 refuses one."""
    stream, values = io.BytesIO(encoded), []
    decoder = cbor2.CBORDecoder(stream, read_size=1)
    while stream.tell() < len(encoded):
        try:
            values.append(decoder.decode())
        except (cbor2.CBORDecodeError, OverflowError):
            return None
    return values


@settings(max_examples=examples(500))
@given(st.binary(max_size=40) | trees.map(cbor2.dumps).flatmap(changed))
def test_any_bytes_raise_only_the_named_error_and_are_read_as_cbor2_reads_them(encoded):
    try:
        values = list(iter_sequence(encoded))
    except CborError as error:
        values = None
        if error.is_duplicate or "nested" in str(error):
            return
    else:
        for value in values:
            assert encode(decode(encode(value))) == encode(value)
    if all(byte >> 5 != 6 for byte in encoded):  # cbor2 gives tags a meaning
        foreign = read_by_cbor2(encoded)
        assert (values is None) == (foreign is None)
        for one, other in zip(values or (), foreign or (), strict=True):
            if isinstance(one, int | str | bytes | float | None):
                assert same(one, other)
