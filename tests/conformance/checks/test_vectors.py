"""Vectors as checks: ours passes, and verdicts go by profile."""

import pytest

from bindings.binding import Message
from conformance.check import PROFILES
from conformance.checks.vectors import bytes_of, checks, message_of, question, same_message
from conformance.suite import of_profile
from tests.conformance.checks.harness import OWN, Mistaken, failed, with_attributes

EVERY = [check for check in checks() if check.needs == "codec"]


@pytest.mark.parametrize("profile", PROFILES)
def test_our_codec_passes_in_every_profile(profile):
    assert failed(of_profile(EVERY, profile), OWN) == {}


def test_a_profile_has_one_verdict_for_each_vector():
    for profile in PROFILES:
        names = [check.id for check in of_profile(EVERY, profile)]
        assert len(names) == len(set(names))


def test_a_mistake_fails_what_it_breaks():
    inventing = Mistaken(event=with_attributes(lambda a: {"time": "2018-04-05T17:31:00Z", **a}))
    found = failed(EVERY, inventing, "minimal")
    assert "http-minimal" in found
    assert "json-minimal" in found


def test_bytes_are_written_as_text_or_in_hex():
    assert bytes_of({"payload": "\u00e9"}, "payload") == b"\xc3\xa9"
    assert bytes_of({"payload_hex": "00ff"}, "payload") == b"\x00\xff"
    assert bytes_of({"payload": None}, "payload") is None
    assert message_of({"payload": None, "headers": [["a", "b"]]}) == Message(None, "", [("a", "b")])


def test_the_order_of_headers_and_an_absent_payload_matter_where_the_protocol_tells_them():
    one = Message(b"", "", [("a", "1"), ("b", "2")])
    other = Message(None, "", [("b", "2"), ("a", "1")])
    assert same_message(one, other, "http")
    assert not same_message(one, other, "kafka")
    assert not same_message(one, Message(b"", "", [("a", "1")]), "http")


def test_a_question_is_one_line():
    assert "\n" not in question("decode", "http", message={"payload": "a\nb"})
