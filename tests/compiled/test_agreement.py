"""Plain Python and the compiled modules say the same of any bytes, and neither crashes."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiled.builds import Builds
from tests.compiled.inputs import corpus_of, damaged
from tests.compiled.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_they_agree_on_well_formed_messages(builds, target):
    assert builds.difference([(target, data) for data in corpus_of(target)]) == ""


@pytest.mark.parametrize("target", TARGETS)
def test_they_agree_on_every_beginning_of_a_message(builds, target):
    beginnings = [(target, data[:size]) for data in corpus_of(target) for size in range(len(data))]
    assert builds.difference(beginnings) == ""


@pytest.mark.parametrize("target", TARGETS)
def test_they_agree_on_damaged_messages(builds, target):
    chance = random.Random(target)
    corpus = corpus_of(target)
    assert builds.difference([(target, damaged(corpus, chance)) for _ in range(1500)]) == ""


@pytest.mark.parametrize("target", TARGETS)
def test_they_agree_on_any_bytes(builds, target):
    @given(st.binary(max_size=80))
    def agree(data):
        assert builds.difference([(target, data)]) == ""

    agree()


def test_a_difference_is_told_with_its_bytes(builds):
    class Other:
        def ask(self, questions):
            self.count = len(questions)

        def answers(self):
            return ["(2, b'\\x01')"] * self.count

    told = Builds(builds.plain, Other()).difference([("cbor_item", b"\x01")])
    assert told == "cbor_item: 01\nplain:    (1, b'\\x01')\ncompiled: (2, b'\\x01')"
