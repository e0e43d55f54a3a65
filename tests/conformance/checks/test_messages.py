import pytest

from conformance.checks import messages
from conformance.forms import WireEvent
from conformance.peers.dialogue import Answer
from gateway.sources.http import answers
from tests.conformance.checks.gateways import failures

CHECKS = list(messages.checks())


def main(checks):
    return [check for check in checks if "main" in check.profiles]


@pytest.mark.parametrize("protocol", ["http", "mqtt", "nats"])
async def test_our_source_passes(protocol):
    assert await failures(main(CHECKS), protocol) == {}


def test_vectors_and_events_are_sent_in_every_way():
    ways = {check.id.split("-live-")[0] for check in CHECKS}
    assert ways == {"http", "mqtt", "mqtt-qos2", "mqtt311", "nats", "jetstream"}
    assert len(CHECKS) > 270


def without(name):
    def change(events):
        return [
            WireEvent({k: v for k, v in one.attributes.items() if k != name}, one.data)
            for one in events
        ]

    return change


async def test_one_that_loses_an_attribute_fails():
    found = await failures(CHECKS, "http", {"events": without("subject")}, only=["telling"])
    assert found["http-live-telling-binary-unicode"] == "lost: subject"
    assert "http-live-telling-structured-percent" in found
    assert "http-live-telling-binary-least" not in found


async def test_one_that_invents_an_attribute_fails():
    def stamp(events):
        return [WireEvent({"time": "2026-01-01T00:00:00Z", **e.attributes}, e.data) for e in events]

    only = ["mqtt-live-telling-binary", "mqtt-live-mqtt-binary"]
    found = await failures(CHECKS, "mqtt", {"events": stamp}, only=only)
    assert found["mqtt-live-telling-binary-least"] == "invented: time"
    assert "mqtt-live-mqtt-binary" in found


async def test_one_that_changes_data_fails():
    def strip(events):
        return [WireEvent(e.attributes, e.data and e.data.strip()) for e in events]

    found = await failures(CHECKS, "nats", {"events": strip}, only=["nats-live-telling"])
    assert found["nats-live-telling-binary-line-ends"] == "other data"


async def test_one_that_delivers_in_another_order_or_twice_fails():
    only = [check for check in CHECKS if check.id == "mqtt-live-order"]
    assert await failures(only, "mqtt", {"events": lambda found: found[::-1]})
    twice = await failures(only, "mqtt", {"events": lambda found: found * 2})
    assert twice == {"mqtt-live-order": "too many events came out"}


async def test_one_that_takes_what_is_no_event_fails(monkeypatch):
    assert messages._wrong_refusal("http", "invalid_event", _answer("yes", 202))
    assert messages._wrong_refusal("http", "unknown_encoding", _answer("no", 400))
    assert not messages._wrong_refusal("http", "unknown_encoding", _answer("no", 415))
    assert messages._wrong_refusal("http", "invalid_event", _answer("no", 599))
    assert messages._wrong_refusal("mqtt", "invalid_event", _answer("yes", 0))
    assert not messages._wrong_refusal("mqtt311", "invalid_event", _answer("yes", 0))
    # And over the wire: one that takes every message.
    monkeypatch.setattr(answers, "answer_error", lambda _: answers.ACCEPTED)
    found = await failures(CHECKS, "http", only=["-neighbours", "-http-no-id"])
    assert found["http-live-neighbours"]
    assert found["http-live-http-no-id"] == "a message that has to be refused was acknowledged"


def _answer(word, code):
    return Answer(word=word, text="", code=code)
