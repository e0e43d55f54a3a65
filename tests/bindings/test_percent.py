"""Percent-encoding of header values."""

import contextlib
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindings.errors import InvalidEventError
from bindings.percent import is_plain, percent_decode, percent_encode
from tests.bindings.strategies import texts
from tests.helpers import examples


@settings(max_examples=examples(200))
@given(texts)
def test_a_header_value_is_printable_ascii_that_a_foreign_decoder_reads(text):
    encoded = percent_encode(text)
    assert all("!" <= char <= "~" and char != '"' for char in encoded)
    assert unquote(encoded, errors="strict") == text
    assert percent_decode("subject", encoded) == text


def test_each_ascii_character_is_escaped_or_not_as_the_specification_says():
    for code in range(128):
        expected = chr(code)
        if code <= 0x20 or code == 0x7F or expected in '"%':
            expected = f"%{code:02X}"
        assert percent_encode(chr(code)) == expected
        assert percent_decode("x", expected) == chr(code)


def test_the_edges_of_utf_8_are_escaped_byte_for_byte():
    assert percent_encode("\x80\u07ff\u0800\uffef\U00010000\U0010fffd") == (
        "%C2%80%DF%BF%E0%A0%80%EF%BF%AF%F0%90%80%80%F4%8F%BF%BD"
    )


@settings(max_examples=examples(300))
@given(st.text(st.characters(max_codepoint=0xFF), max_size=12))
def test_any_header_value_is_decoded_or_refused_by_name(text):
    with contextlib.suppress(InvalidEventError):
        assert "\ufffd" not in percent_decode("subject", text)


@pytest.mark.parametrize("text", ["%C0%A0", "100%", '"a', "\xff", "\u20ac", "\udcff"])
def test_a_value_that_can_not_be_decoded_is_named(text):
    with pytest.raises(InvalidEventError) as caught:
        percent_decode("subject", text)
    assert (caught.value.attribute, caught.value.reason) == ("subject", "header_encoding")


def test_a_quoted_value_is_unquoted():
    assert percent_decode("subject", ' "a \\"b\\" %41" ') == 'a "b" A'


@settings(max_examples=examples(300))
@given(st.lists(st.text(max_size=4), max_size=4))
def test_values_are_plain_together_if_each_of_them_is(values):
    assert bool(is_plain("".join(values))) == all(is_plain(value) for value in values)
    for value in filter(is_plain, values):
        assert percent_decode("x", value) == value == percent_encode(value)
