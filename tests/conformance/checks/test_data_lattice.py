"""The data lattice's checks: ours passes, and each known mistake of others is found."""

import base64
import json

import pytest

from bindings.binding import Message
from conformance.check import PROFILES
from conformance.checks.data_lattice import CONTENT_TYPES, DATA, checks, is_malformed
from conformance.forms import WireEvent
from conformance.reference.carrier import CARRIERS
from conformance.suite import of_profile
from tests.conformance.checks.harness import OWN, Mistaken, failed

EVERY = list(checks())


@pytest.mark.parametrize("profile", PROFILES)
def test_our_codec_passes_in_every_profile(profile):
    assert failed(of_profile(EVERY, profile), OWN) == {}


def test_every_pair_is_judged_under_every_content_type():
    assert len(EVERY) >= len(CARRIERS) ** 2 * len(CONTENT_TYPES)
    assert len({check.id for check in EVERY}) == len(EVERY)


def on_data(change):
    return lambda _, event: WireEvent(event.attributes, change(event))


def falsy_is_nothing(event):
    return None if event.data in {b"null", b"0", b"false", b'""', b"[]", b"{}"} else event.data


def through_floats(event):
    try:
        return json.dumps(json.loads(event.data)).encode()
    except (TypeError, ValueError):
        return event.data


def replaced(event):
    return event.data and event.data.decode("utf-8", "replace").encode()


def unquoted(event):
    is_string = event.data and event.data[:1] == event.data[-1:] == b'"'
    return event.data[1:-1] if is_string else event.data


def with_line_feeds(event):
    return event.data and event.data.replace(b"\r\n", b"\n")


@pytest.mark.parametrize(
    ("change", "example", "kind"),
    [
        (falsy_is_nothing, "http-binary-to-kafka-binary-json", "null, zero, false"),
        (through_floats, "json-to-http-binary-json", "big numbers"),
        (replaced, "mqtt-binary-to-json-binary", "bytes"),
        (unquoted, "http-binary-to-mqtt-binary-json", "string"),
        (with_line_feeds, "nats-binary-to-kafka-binary-binary", "line ends"),
        (lambda event: event.data or None, "kafka-binary-to-kafka-binary-nothing", "empty"),
        (lambda event: event.data or b"", "kafka-binary-to-kafka-binary-text", "absent"),
        (
            lambda event: event.data and event.data.strip(),
            "kafka-structured-to-json-latin-1",
            "line",
        ),
    ],
)
def test_a_mistake_with_data_is_found(change, example, kind):
    name = f"data-lattice-{example}"
    assert kind in str(failed(EVERY, Mistaken(event=on_data(change)), name)[name])


@pytest.mark.parametrize(
    "to_none", [lambda event: event.data or None, lambda event: event.data != b"null" or None]
)
def test_data_of_no_bytes_and_a_json_null_may_be_taken_for_none(to_none):
    change = on_data(lambda event: to_none(event) and event.data)
    found = failed(EVERY, Mistaken(event=change), "data-lattice-json-to-kafka-structured")
    assert list(found) == ["data-lattice-json-to-kafka-structured-nothing"]
    assert {check.level for check in EVERY if check.id in found} == {"MAY"}


def in_envelopes(change):
    def changed(_, message):
        if not message.content_type.startswith("application/cloudevents+json"):
            return message
        members = json.loads(message.payload)
        change(members)
        return Message(json.dumps(members).encode(), message.content_type)

    return changed


def encoded_twice(members):
    if isinstance(members.get("data"), dict):
        members["data"] = json.dumps(members["data"])


def url_safe(members):
    if "data_base64" in members:
        members["data_base64"] = members["data_base64"].replace("+", "-").replace("/", "_")


def in_both(members):
    if isinstance(members.get("data"), str):
        members["data_base64"] = base64.b64encode(members["data"].encode()).decode()


@pytest.mark.parametrize("change", [encoded_twice, url_safe, in_both])
def test_a_mistake_in_the_envelope_is_found(change):
    for example in ("http-binary-to-json-", "nats-binary-to-kafka-structured-"):
        assert failed(EVERY, Mistaken(sent=in_envelopes(change)), f"data-lattice-{example}")


def test_an_implied_content_type_left_implied_is_found():
    def silent(_, message):
        content_type = message.content_type.replace("application/json", "")
        return Message(message.payload, content_type, message.headers)

    assert failed(EVERY, Mistaken(sent=silent), "json-to-http-binary-implied")


def test_an_invented_content_type_is_found():
    def octets(_, event):
        return WireEvent(
            {"datacontenttype": "application/octet-stream", **event.attributes}, event.data
        )

    assert failed(EVERY, Mistaken(event=octets), "json-to-http-binary-no-type")


def test_data_is_malformed_if_its_content_type_says_something_else():
    def event(name, content_type):
        return WireEvent({"datacontenttype": content_type} if content_type else {}, DATA[name])

    assert is_malformed(event("text", "application/json"))
    assert is_malformed(event("another charset", "text/plain"))
    assert is_malformed(event("null", "application/cbor"))
    assert not is_malformed(event("another charset", "text/plain; charset=iso-8859-1"))
    assert not is_malformed(event("CBOR", "application/cbor"))
    assert not is_malformed(event("bytes", None))
    assert not is_malformed(event("bytes", "application/octet-stream"))
    assert not is_malformed(event("absent", "application/json"))
