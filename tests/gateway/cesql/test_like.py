"""LIKE patterns against a naive matcher."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cesql.like import compile_pattern


def naive(pattern, text):
    """Match by trying everything, straight from the words of 3.4.3."""
    if not pattern:
        return not text
    if pattern[:2] in {r"\%", r"\_"}:
        return text[:1] == pattern[1] and naive(pattern[2:], text[1:])
    if pattern[0] == "%":
        return any(naive(pattern[1:], text[start:]) for start in range(len(text) + 1))
    return bool(text) and pattern[0] in {"_", text[0]} and naive(pattern[1:], text[1:])


@given(st.text("ab%_\\", max_size=8), st.text("ab%_\\", max_size=8))
def test_pattern_matches_as_the_naive_matcher_does(pattern, text):
    assert compile_pattern(pattern)(text) is naive(pattern, text)


@given(st.text("a%_", max_size=7), st.text("ab\n", max_size=9))
def test_pattern_of_wildcards_matches_as_the_naive_matcher_does(pattern, text):
    assert compile_pattern(pattern)(text) is naive(pattern, text)


@given(st.text(".*+?[](){}|^$\\/ab\n é🎈", max_size=12))
def test_other_characters_stand_for_themselves(text):
    assert compile_pattern(text)(text)
    assert compile_pattern("%" + text)("x" + text)
    assert compile_pattern("_%" + text + "y%")("x" + text + "yz")
    assert not compile_pattern("_" + text)(text)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("_b%", "ab", True),
        ("_b%", "abcd1", True),
        ("_b%", "b", False),
        ("_b%", "acd", False),
        ("_b*", "abc", False),
        (r"abc\%", "abc%", True),
        (r"abc\%", "abcd", False),
        ("a%", "a\nb", True),
        ("a_b", "a\nb", True),
        ("a_b", "a🎈b", True),
        ("ABC", "abc", False),
        ("", "", True),
        ("%", "", True),
        ("_", "", False),
        ("%%", "x", True),
    ],
)
def test_examples(pattern, text, expected):
    assert compile_pattern(pattern)(text) is expected


def test_many_wildcards_do_not_make_a_hostile_text_slow():
    matches = compile_pattern("%a_" * 20 + "%b")
    start = time.process_time()
    assert not matches("a" * 20000)
    assert time.process_time() - start < 2
