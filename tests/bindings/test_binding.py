"""The one algorithm that maps attributes to headers, in all bindings that use it."""

import contextlib
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindings.binding import (
    HeaderBinding,
    Message,
    claims_structured,
    decode_structured,
    media_type_of,
    percent_decode,
    percent_encode,
)
from bindings.errors import CloudEventError, InvalidEventError, UnknownEncodingError
from bindings.event import Event, canonical_text
from bindings.http import HTTP
from bindings.kafka import KAFKA
from bindings.mqtt import MQTT
from bindings.nats import NATS
from tests.bindings.strategies import events, texts

BINDINGS = [HTTP, KAFKA, MQTT, NATS]


def as_text(event):
    """The event as it is after a binding without types: every value as text."""
    return {name: canonical_text(value) for name, value in event.attributes().items()}


@pytest.mark.parametrize("binding", BINDINGS, ids=lambda binding: binding.name)
@settings(max_examples=80, deadline=None)
@given(event=events())
def test_an_event_survives_binary_mode(binding, event):
    (back,) = binding.decode(binding.encode(event, "binary"))
    assert back.attributes() == as_text(event)
    if binding is KAFKA:
        assert back.data == event.data
    else:
        assert (back.data or b"") == (event.data or b"")
    assert back.encoded is None


@pytest.mark.parametrize("first", BINDINGS, ids=lambda binding: binding.name)
@pytest.mark.parametrize("second", BINDINGS, ids=lambda binding: binding.name)
@settings(max_examples=15, deadline=None)
@given(event=events())
def test_a_relay_changes_nothing_whatever_the_way(first, second, event):
    direct = first.decode(first.encode(event, "binary"))[0]
    (relayed,) = second.decode(second.encode(direct, "binary"))
    (enveloped,) = second.decode(second.encode(direct, "structured"))
    assert relayed.attributes() == direct.attributes() == enveloped.attributes()
    assert (relayed.data or b"") == (direct.data or b"") == (enveloped.data or b"")


@settings(max_examples=200, deadline=None)
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


@settings(max_examples=300, deadline=None)
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


@pytest.mark.parametrize(
    ("binding", "message", "reason"),
    [
        (HTTP, Message(b"", "", [("ce-id", "1"), ("CE-ID", "1")]), "duplicate_attribute"),
        (HTTP, Message(b"", "", [("ce-my-ext", "1")]), "attribute_name"),
        (HTTP, Message(b"", "a/b", [("ce-datacontenttype", "a/b")]), "duplicate_attribute"),
        (HTTP, Message(b"{}", "application/json"), "not_an_event"),
        (HTTP, Message(b"{}", "application/cloudevents+avro"), "unknown_encoding"),
        (NATS, Message(b"{}"), "not_an_event"),
        (MQTT, Message(b"{}", "", [("id", "1")]), "not_an_event"),
    ],
)
def test_what_is_no_event_is_refused_with_its_reason(binding, message, reason):
    with pytest.raises(CloudEventError) as caught:
        binding.decode(message)
    assert caught.value.reason == reason


@pytest.mark.parametrize("binding", BINDINGS, ids=lambda binding: binding.name)
@settings(max_examples=100, deadline=None)
@given(
    names=st.lists(st.text(max_size=6), max_size=5),
    values=st.lists(st.text(max_size=6), min_size=5, max_size=5),
    content_type=st.sampled_from(["", "a/b", "application/cloudevents+json", "x"]),
    payload=st.none() | st.binary(max_size=9),
)
def test_any_message_is_an_event_or_a_named_error(binding, names, values, content_type, payload):
    prefix = binding.prefix
    headers = [(f"{prefix}{name}", value) for name, value in zip(names, values, strict=False)]
    required = [("specversion", "1.0"), ("id", "1"), ("source", "/s"), ("type", "t")]
    headers += [(f"{prefix}{name}", value) for name, value in required]
    try:
        for event in binding.decode(Message(payload, content_type, headers)):
            assert isinstance(event, Event)
    except CloudEventError:
        pass


@pytest.mark.parametrize("binding", BINDINGS, ids=lambda binding: binding.name)
def test_every_missing_attribute_is_named(binding):
    whole = binding.encode(Event(id="1", source="/s", type="t"), "binary")
    for name in ("id", "source", "type"):
        rest = [header for header in whole.headers if header[0] != binding.prefix + name]
        with pytest.raises(InvalidEventError) as caught:
            binding.decode(Message(b"", "", rest))
        assert (caught.value.attribute, caught.value.reason) == (name, "missing_attribute")


@pytest.mark.parametrize("binding", BINDINGS, ids=lambda binding: binding.name)
def test_an_event_of_64_kib_survives_both_modes(binding):
    data = bytes(range(256)) * 256
    event = Event(id="1", source="/s", type="t", data=data, extensions={"long": "x" * 30000})
    for mode in ("binary", "structured"):
        (back,) = binding.decode(binding.encode(event, mode))
        assert back == event
    assert data in binding.encode(event, "binary").payload


@pytest.mark.parametrize("binding", BINDINGS, ids=lambda binding: binding.name)
def test_what_was_structured_stays_so_to_the_byte(binding):
    odd = b'{ "type":"t", "specversion":"1.0","id":"\\u0031","source":"\\/s" }'
    message = Message(odd, "application/cloudevents+json")
    (event,) = binding.decode(message)
    assert binding.encode(event, "structured").payload is odd


def test_headers_of_other_purposes_are_no_attributes():
    event = Event(id="1", source="/s", type="t")
    message = HTTP.encode(event, "binary")
    others = [("Host", "x"), ("Cebu", "x"), ("X-" + "a" * 200, "x"), ("traceparent", "x")]
    assert HTTP.decode(Message(b"", "", [*others, *message.headers])) == (event,)


def test_media_types_are_compared_without_case_and_parameters():
    assert media_type_of(" Text/PLAIN\t; charset=X") == "text/plain"
    assert media_type_of("İ/x") == "İ/x"  # only ASCII folds
    assert claims_structured("APPLICATION/CLOUDEVENTS")
    assert not claims_structured("application/json; x=application/cloudevents")


def test_batches_are_for_protocols_that_have_them():
    message = Message(b"[]", "application/cloudevents-batch+json")
    assert decode_structured(message) == []
    with pytest.raises(UnknownEncodingError):
        decode_structured(message, batched=False)


def test_a_binding_of_another_kind_states_its_differences_only():
    custom = HeaderBinding(name="custom", prefix="x-", foreign_names="ignore", value_limit=10)
    event = Event(id="1", source="/s", type="t", subject="é" * 5)
    message = custom.encode(event, "binary")
    assert message.headers[-1] == ("x-subject", "é" * 5)
    (back,) = custom.decode(Message(b"", "", [*message.headers, ("x-Foreign", "1")]))
    assert back == event
    with pytest.raises(InvalidEventError):
        custom.decode(Message(b"", "", [*message.headers, ("x-data", "1")]))
    assert custom.encode(event.replace(subject="é" * 6), "binary").headers == ()
    assert msgspec.structs.replace(custom, bare_json=True).bare_json


def test_a_binding_says_what_its_messages_can_t():
    assert HTTP.losses == {"empty"}
    assert KAFKA.losses == set()
