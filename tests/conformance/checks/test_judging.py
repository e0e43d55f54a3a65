"""How an answer is judged: what passes, what fails, and how a failure can be shown again."""

import json

import pytest

from bindings.binding import Message
from conformance.check import CheckFailed
from conformance.checks.judging import (
    MINIMAL,
    Case,
    check,
    judge_decode,
    judge_each,
    judge_encode,
    judge_encode_refused,
    judge_relay,
    odd,
)
from conformance.forms import WireEvent
from conformance.reference.carrier import Carrier
from tests.conformance.checks.harness import OWN, Mistaken, with_attributes

HTTP = Carrier("http", "binary")
NATS = Carrier("nats", "binary")
EVENT = WireEvent({**MINIMAL, "subject": "a"})
WRONG = WireEvent({**MINIMAL, "subject": ""})
ADDS = Mistaken(event=with_attributes(lambda attributes: {**attributes, "more": "x"}))


def case(**changes):
    fields = {"name": "n", "title": "t", "requirements": ["HTTP-DEC-007"], "role": "consumer"}
    return Case(**{**fields, **changes})


def test_a_check_takes_level_and_profiles_from_its_requirements_and_places():
    ids = ["HTTP-ENC-009", "HTTP-ENC-010"]
    made = check("some family", [HTTP], case(requirements=ids), lambda _: None)
    assert (made.id, made.binding, made.level) == ("some-family-n", "http", "SHOULD")
    assert made.profiles == {"1.0.2", "main", "lenient"}
    assert check("f", [HTTP, NATS], case(), lambda _: None).profiles == {"main", "lenient"}
    lenient = case(profiles=frozenset({"lenient"}))
    assert check("f", [HTTP], lenient, lambda _: None).profiles == {"lenient"}


def test_a_requirement_that_stands_there_twice_counts_once():
    made = check("f", [HTTP], case(requirements=["HTTP-DEC-007"] * 2), lambda _: None)
    assert made.requirements == ("HTTP-DEC-007",)


def test_the_event_a_refusal_or_either_may_be_demanded():
    right, wrong = HTTP.write(EVENT), HTTP.write(WRONG)
    judge_decode(OWN, "http", right, EVENT)
    judge_decode(OWN, "http", right, EVENT, verdict="either")
    judge_decode(OWN, "http", wrong, None, verdict="refused")
    judge_decode(OWN, "http", wrong, EVENT, verdict="either")
    with pytest.raises(CheckFailed, match="took what is wrong"):
        judge_decode(OWN, "http", right, None, verdict="refused")
    with pytest.raises(CheckFailed, match="refused what is right"):
        judge_decode(OWN, "http", wrong, WRONG)
    with pytest.raises(CheckFailed, match="invented: more"):
        judge_decode(ADDS, "http", right, EVENT, verdict="either")


def test_a_failure_says_how_to_ask_again():
    with pytest.raises(CheckFailed) as caught:
        judge_decode(ADDS, "http", HTTP.write(EVENT), EVENT)
    question = json.loads(caught.value.reproduce)
    assert question["do"] == "decode"
    assert question["binding"] == "http"
    assert ["ce-subject", "a"] in question["message"]["headers"]
    assert '"subject": "a"' in caught.value.expected
    assert '"more": "x"' in caught.value.got


def test_a_message_is_read_by_the_document_and_not_by_the_codec():
    judge_encode(OWN, HTTP, EVENT, EVENT)
    bare = Mistaken(sent=lambda _, message: Message(b"", "", [("subject", "a")]))
    with pytest.raises(CheckFailed, match="lost: id"):
        judge_encode(bare, HTTP, EVENT, EVENT)
    twice = Mistaken(sent=lambda _, m: Message(b"", "", [*m.headers, *m.headers]))
    with pytest.raises(CheckFailed, match="no http-binary message"):
        judge_encode(twice, HTTP, EVENT, EVENT)
    with pytest.raises(CheckFailed, match="refused an event that is right"):
        judge_encode(OWN, HTTP, WRONG, WRONG)


def test_an_event_that_is_none_has_to_be_refused():
    judge_encode_refused(OWN, HTTP, WRONG)
    with pytest.raises(CheckFailed, match="sent what is wrong"):
        judge_encode_refused(OWN, HTTP, EVENT)


def test_a_relay_brings_one_message_that_says_the_event():
    judge_relay(OWN, HTTP, HTTP.write(EVENT), NATS, EVENT)
    with pytest.raises(CheckFailed, match="invented: more"):
        judge_relay(ADDS, HTTP, HTTP.write(EVENT), NATS, EVENT)
    with pytest.raises(CheckFailed, match="refused what is right"):
        judge_relay(OWN, HTTP, HTTP.write(WRONG), NATS, EVENT)
    structured = Carrier("http", "structured")
    empty = Message(b"[]", "application/cloudevents-batch+json")
    with pytest.raises(CheckFailed, match="0 messages"):
        judge_relay(OWN, structured, empty, NATS, EVENT)


def test_all_cases_of_a_rule_are_tried_and_named():
    def fail():
        raise CheckFailed("this way", got="that")

    judge_each([("a", lambda: None)])
    with pytest.raises(CheckFailed, match=r"2 of 3 \(b, c\): this way") as caught:
        judge_each([("a", lambda: None), ("b", fail), ("c", fail)])
    assert caught.value.got == "that"


def test_an_event_is_named_by_what_is_odd_about_it():
    assert odd(WireEvent({**MINIMAL, "ext": 5})) == "ext=5"
    assert odd(WireEvent({"specversion": "1.0", "id": "1", "source": "/s"})) == "type"
