"""The relays' checks: ours passes, and each known mistake of others is found."""

import pytest

from bindings.binding import Message
from conformance.check import PROFILES
from conformance.checks.transparency import checks
from conformance.forms import WireEvent
from conformance.reference.carrier import CARRIERS
from conformance.suite import of_profile
from tests.conformance.checks.harness import OWN, Mistaken, failed, with_attributes

EVERY = list(checks())


@pytest.mark.parametrize("profile", PROFILES)
def test_our_codec_passes_in_every_profile(profile):
    assert failed(of_profile(EVERY, profile), OWN) == {}


def test_every_pair_is_relayed():
    names = {check.id for check in EVERY}
    for source in CARRIERS:
        for target in CARRIERS:
            assert f"transparency-{source.name}-to-{target.name}" in names


def only(binding, change):
    return lambda name, event: change(name, event) if name == binding else event


@pytest.mark.parametrize(
    ("event", "example"),
    [
        (with_attributes(lambda a: {"time": "2018-04-05T17:31:00Z", **a}),
         "json-to-http-binary-least"),
        (with_attributes(lambda a: {**a, "id": "fresh"}), "kafka-binary-to-json"),
        (with_attributes(lambda a: {n: v for n, v in a.items() if n != "traceparent"}),
         "http-binary-to-mqtt-binary"),
        (only("kafka", with_attributes(lambda a: {**a, "kafkaoffset": 5})),
         "kafka-binary-metadata"),
        (with_attributes(lambda a: {n: v for n, v in a.items() if n != "partitionkey"}),
         "kafka-binary-decoded"),
        (with_attributes(lambda a: {n: str(v) if isinstance(v, bool) else v
                                    for n, v in a.items()}), "json-to-json"),
        (with_attributes(lambda a: {n: v for n, v in a.items() if n in {
            "specversion", "id", "source", "type", "subject", "time", "datacontenttype"}}),
         "nats-structured-to-coap-structured"),
    ],
)  # fmt: skip
def test_a_mistake_in_reading_is_found(event, example):
    assert f"transparency-{example}" in failed(EVERY, Mistaken(event=event), example)


def test_credentials_that_become_attributes_are_found():
    def leaking(binding, message):
        names = {"Authorization": "ce-authorization"} if binding == "http" else {}
        headers = [(names.get(name, name), value) for name, value in message.headers]
        return Message(message.payload, message.content_type, headers)

    assert failed(EVERY, Mistaken(message=leaking), "http-binary-metadata")


def test_a_batch_sent_unasked_and_a_batch_cut_short_are_found():
    def batched(binding, message):
        if message.content_type != "application/cloudevents+json" or binding == "mqtt311":
            return message
        return Message(b"[" + message.payload + b"]", "application/cloudevents-batch+json")

    assert failed(EVERY, Mistaken(sent=batched), "http-structured-encoded")

    class FirstOnly(Mistaken):
        def decode(self, binding, message):
            return super().decode(binding, message)[:1]

    assert failed(EVERY, FirstOnly(), "batch-to-kafka-binary")


def test_a_route_that_changes_an_event_is_found():
    def lossy(binding, event):
        if binding != "coap":
            return event
        return WireEvent({**event.attributes, "subject": "x"}, event.data)

    found = failed(EVERY, Mistaken(event=lossy), "http-binary-to-kafka-binary")
    assert "transparency-http-binary-to-kafka-binary-by-any-route" in found
    assert "transparency-http-binary-to-kafka-binary" not in found


def test_a_relay_that_changes_a_message_again_and_again_is_found():
    def nested(_, event):
        return WireEvent({**event.attributes, "hop": event.attributes.get("hop", "") + "1"})

    assert failed(EVERY, Mistaken(event=nested), "mqtt-binary-again")


def test_a_property_that_is_too_long_is_found():
    class Unlimited(Mistaken):
        def encode(self, binding, event, mode):
            sent = super().encode(binding, event, mode)
            if binding != "mqtt" or mode != "binary" or sent.headers:
                return sent
            headers = [(name, str(value)) for name, value in event.attributes.items()]
            return Message(b"", "", headers)

    assert failed(EVERY, Unlimited(), "mqtt-binary-longest")
