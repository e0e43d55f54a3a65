"""Protected messages, byte for byte as in appendix C of RFC 8613."""

import pytest

from conformance.check import CheckFailed
from conformance.peers import coap_oscore
from conformance.peers.coap import read
from conformance.peers.coap_oscore import derive, opened, partial_iv, protect, with_echo


def test_keys_are_those_of_c_1():
    assert derive(b"", "Key", 16).hex() == "f0910ed7295e6ad4b54fc793154302ff"
    assert derive(b"\x01", "Key", 16).hex() == "ffb14e093c94c9cac9471648b4f98710"
    assert derive(b"", "IV", 13).hex() == "4622d4dd6d944168eefb54987c"


def test_a_request_is_the_one_of_c_4():
    option, sealed = protect(bytes.fromhex("01b3747631"), 20)
    assert option.hex() == "0914"
    assert sealed.hex() == "612f1092f1776f1c1668b3825e"


@pytest.mark.parametrize(
    "answer",
    [
        "64445d1f0000397490ffdbaad1e9a7e7b2a813d3c31524378303cdafae119106",  # C.7
        "64445d1f00003974920100ff4d4c13669384b67354b2b6175ff4b8658c666a6cf88e",  # C.8
    ],
)
def test_answers_of_c_7_and_c_8_are_opened(answer):
    inner = opened(read(bytes.fromhex(answer)), 20)
    assert (inner.code, inner.options, inner.payload) == ("2.05", {}, b"Hello World!")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("64445d1f00003974", "not protected"),
        ("64445d1f0000397490ffdbaad1e9a7e7b2a813d3c31524378303cdafae119107", "decrypted"),
        ("64445d1f0000397490ff00", "decrypted"),
    ],
)
def test_what_is_not_protected_with_this_context_fails(answer, text):
    with pytest.raises(CheckFailed, match=text):
        opened(read(bytes.fromhex(answer)), 20)


def test_partial_ivs_are_short_and_never_used_again():
    assert [partial_iv(n).hex() for n in (0, 20, 255, 256)] == ["00", "14", "ff", "0100"]
    numbers = [coap_oscore.next_number() for _ in range(3)]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] < 1 << 40


@pytest.mark.parametrize(
    ("last_option", "delta"), [(15, "d8e0"), (12, "d8e3"), (11, "d8e4")]
)  # 252 less the last option and 13
def test_an_echo_option_stands_behind_the_last(last_option, delta):
    assert with_echo(b"\x02\xff1", last_option, b"8 octets") == (
        b"\x02" + bytes.fromhex(delta) + b"8 octets\xff1"
    )
