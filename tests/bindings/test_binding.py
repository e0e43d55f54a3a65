"""The one algorithm that maps attributes to headers, in all bindings that use it."""

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
)
from bindings.errors import CloudEventError, InvalidEventError, UnknownEncodingError
from bindings.event import Event, canonical_text
from bindings.http import HTTP
from bindings.kafka import KAFKA
from bindings.mqtt import MQTT
from bindings.nats import NATS
from tests.bindings.strategies import events
from tests.helpers import examples

BINDINGS = [HTTP, KAFKA, MQTT, NATS]


def as_text(event):
    """The event as it is after a binding without types: every value as text."""
    return {name: canonical_text(value) for name, value in event.attributes().items()}


@pytest.mark.parametrize("binding", BINDINGS, ids=lambda binding: binding.name)
@settings(max_examples=examples(80))
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
@settings(max_examples=examples(15))
@given(event=events())
def test_a_relay_changes_nothing_whatever_the_way(first, second, event):
    direct = first.decode(first.encode(event, "binary"))[0]
    (relayed,) = second.decode(second.encode(direct, "binary"))
    (enveloped,) = second.decode(second.encode(direct, "structured"))
    assert relayed.attributes() == direct.attributes() == enveloped.attributes()
    assert (relayed.data or b"") == (direct.data or b"") == (enveloped.data or b"")


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
@settings(max_examples=examples(100))
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


COMMON_NAMES = ["specversion", "id", "source", "type", "time", "subject", "datacontenttype", "ext"]


def outcome(work):
    """What comes of it: the event, or all that an error says."""
    try:
        event = work()
    except CloudEventError as error:
        return type(error), str(error), error.reason, getattr(error, "attribute", None)
    return event


@pytest.mark.parametrize("binding", BINDINGS, ids=lambda binding: binding.name)
@settings(max_examples=examples(300))
@given(
    names=st.lists(
        st.sampled_from([*COMMON_NAMES, "dataschema", "data", "ID", "X-y", "e1", "e2"]), max_size=4
    ),
    left_out=st.sets(st.sampled_from(COMMON_NAMES[:4]), max_size=1),
    values=st.lists(
        st.sampled_from(
            ["1.0", "/s", "a b", "", "%41", "%", "a/b", "2026-02-29T00:00:00Z", "é", "a\n", '"q"']
        )
        | st.text(max_size=3),
        min_size=9,
        max_size=9,
    ),
    content_type=st.sampled_from(["", "a/b", "x"]),
    shuffle=st.randoms(),
)
def test_a_message_is_judged_the_same_with_a_layout_and_step_by_step(
    binding, names, left_out, values, content_type, shuffle
):
    prefix = binding.prefix
    required = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
    headers = [(prefix + name, value) for name, value in required.items() if name not in left_out]
    headers += [(prefix + name, value) for name, value in zip(names, values, strict=False)]
    shuffle.shuffle(headers)
    message = Message(b"{}", content_type, headers)
    expected = outcome(lambda: binding._event_by_steps(message, b"{}"))
    assert outcome(lambda: binding.decode(message)[0]) == expected
    assert outcome(lambda: binding.decode(message)[0]) == expected  # from memory now


def test_names_of_headers_are_remembered_within_bounds():
    binding = msgspec.structs.replace(HTTP, name="bounded")
    headers = HTTP.encode(Event(id="1", source="/s", type="t"), "binary").headers
    for number in range(2000):
        binding.decode(Message(b"", "", [*headers, (f"x-{number}", "1")]))
    assert 0 < len(binding._layouts) <= 512
    before = set(binding._layouts)
    for huge in ([("x" * 3000, "1")], [("x", "1")] * 100):
        assert binding.decode(Message(b"", "", [*headers, *huge]))
    assert set(binding._layouts) == before


def test_a_copy_of_a_binding_does_not_know_the_names_of_the_first():
    headers = HTTP.encode(Event(id="1", source="/s", type="t"), "binary").headers
    assert HTTP.decode(Message(b"", "", headers))
    other = msgspec.structs.replace(HTTP, prefix="x-")
    with pytest.raises(UnknownEncodingError):
        other.decode(Message(b"", "", headers))
