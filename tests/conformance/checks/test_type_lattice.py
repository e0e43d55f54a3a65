"""The type lattice's checks: ours passes, and each known mistake of others is found."""

import datetime as dt

import pytest

from bindings.binding import Message
from bindings.errors import CloudEventError
from conformance.check import PROFILES
from conformance.checks.judging import BASE
from conformance.checks.type_lattice import checks
from conformance.forms import WireEvent
from conformance.reference.carrier import ENCODINGS
from conformance.suite import of_profile
from tests.conformance.checks.harness import OWN, Mistaken, failed, with_attributes

EVERY = list(checks())


@pytest.mark.parametrize("profile", PROFILES)
def test_our_codec_passes_in_every_profile(profile):
    assert failed(of_profile(EVERY, profile), OWN) == {}


def test_eight_encodings_are_judged_both_ways():
    assert len(ENCODINGS) == 8
    for carrier in ENCODINGS:
        roles = {check.role for check in EVERY if f"-{carrier.name}-" in check.id}
        assert roles == {"consumer", "producer"}


def set_where_present(name, change):
    def changed(attributes):
        if name in attributes:
            attributes[name] = change(attributes[name])
        return attributes

    return with_attributes(changed)


def python_time(text):
    try:
        return dt.datetime.fromisoformat(text).isoformat()
    except (ValueError, TypeError):
        return text


def guessed(value):
    try:
        return int(value)
    except ValueError:
        return {"true": True, "false": False}.get(value, value)


@pytest.mark.parametrize(
    ("event", "example"),
    [
        (set_where_present("time", python_time), "json-read-timestamp-16"),
        (set_where_present("ext", guessed), "http-binary-read-undeclared-"),
        (set_where_present("source", str.lower), "kafka-binary-read-uri-reference-"),
        (set_where_present("datacontenttype", str.lower), "http-binary-read-media-type-"),
        (with_attributes(lambda a: {"seen": "x", **a}), "mqtt-binary-read-name-a"),
        (set_where_present("subject", str.strip), "json-read-string-"),
        (with_attributes(lambda a: {n: v for n, v in a.items() if len(n) <= 20}),
         "coap-binary-read-name-verylongextensionnamehere"),
    ],
)  # fmt: skip
def test_a_mistake_in_reading_is_found(event, example):
    assert failed(EVERY, Mistaken(event=event), f"type-lattice-{example}")


@pytest.mark.parametrize("name", ["id", "source", "type", "specversion"])
def test_an_invented_attribute_is_found(name):
    class Inventing(Mistaken):
        def decode(self, binding, message):
            try:
                return super().decode(binding, message)
            except Exception:
                return [WireEvent(BASE)]

    for example in (f"json-read-without-{name}", f"cbor-read-as-null-{name}"):
        assert failed(EVERY, Inventing(), example)


def test_taking_what_python_takes_is_found():
    class Lax(Mistaken):
        def encode(self, binding, event, mode):
            try:
                return super().encode(binding, event, mode)
            except Exception:
                return Message(b"")

    for kind in ("timestamp-time", "uri-dataschema", "uri-reference-source", "subject-c1",
                 "type-plane-ends", "ext-surrogates"):  # fmt: skip
        assert failed(EVERY, Lax(), f"kafka-binary-write-{kind}")


def test_a_boolean_written_by_the_host_language_is_found():
    def pythonic(_, message):
        headers = [
            (name, value.title() if value == "true" else value) for name, value in message.headers
        ]
        return Message(message.payload, message.content_type, headers)

    found = failed(EVERY, Mistaken(sent=pythonic), "write-boolean")
    assert "type-lattice-kafka-binary-write-boolean-ext-right" in found
    assert "type-lattice-json-write-boolean-ext-right" not in found


def test_the_last_of_two_equal_attributes_winning_is_found():
    def last(_, message):
        return Message(message.payload, message.content_type, list(dict(message.headers).items()))

    found = failed(EVERY, Mistaken(message=last), "read-twice")
    for name in ("http", "nats", "mqtt", "kafka"):
        assert f"type-lattice-{name}-binary-read-twice-different-id" in found


def test_an_exception_that_is_no_refusal_is_not_taken_for_one():
    class Crashing(Mistaken):
        def decode(self, binding, message):
            raise CloudEventError("not through the neutral form")

    with pytest.raises(CloudEventError):
        failed(EVERY[:1], Crashing())
