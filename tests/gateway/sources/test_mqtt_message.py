"""What becomes of the payload of a PUBLISH."""

import uuid

import pytest

from bindings.errors import InvalidEventError, NotAnEventError, TooLargeError
from bindings.wire.mqtt import V5, V311, Property, Publish
from gateway.config.records import EventTemplate
from gateway.sources.mqtt_message import MessageDecoder, refusal_code

TEMPLATE = EventTemplate(type="t", source="/{client_id}/{topic[0]}", subject="{topic}")
EVENT = b'{"specversion":"1.0","id":"1","source":"/s","type":"t"}'


def test_what_is_no_event_is_wrapped_with_a_fresh_id_and_the_time():
    decoder = MessageDecoder(TEMPLATE, 100)
    first, second = (
        decoder.decode(Publish("a/b", b"21.5", content_type="text/x"), V5, {"client_id": "dev"})[0]
        for _ in range(2)
    )
    assert (first.source, first.subject, first.data) == ("/dev/a", "a/b", b"21.5")
    assert first.datacontenttype == "text/x"
    assert uuid.UUID(first.id) != uuid.UUID(second.id)
    assert first.time is not None
    assert first.time.endswith("Z")


def test_without_a_template_it_is_refused():
    with pytest.raises(NotAnEventError):
        MessageDecoder(None, 100).decode(Publish("a", b"21.5"), V5, {})


def test_an_event_that_is_wrong_is_refused_and_never_wrapped():
    with pytest.raises(InvalidEventError):
        MessageDecoder(TEMPLATE, 100).decode(Publish("a", b'{"specversion":"1.0"}'), V311, {})


def test_a_json_event_without_content_type_is_one_in_3_1_1_and_by_choice_in_5():
    publish = Publish("a", EVENT)
    assert MessageDecoder(None, 100).decode(publish, V311, {})[0].id == "1"
    assert MessageDecoder(None, 100, bare_json=True).decode(publish, V5, {})[0].id == "1"
    with pytest.raises(NotAnEventError):
        MessageDecoder(None, 100).decode(publish, V5, {})


def test_the_limit_is_exact_and_has_its_own_code():
    decoder = MessageDecoder(TEMPLATE, 10)
    decoder.decode(Publish("a", b"x" * 10), V5, {"client_id": "c"})
    with pytest.raises(TooLargeError) as raised:
        decoder.decode(Publish("a", b"x" * 11), V5, {"client_id": "c"})
    assert refusal_code(raised.value) == 0x97


def test_a_payload_format_that_is_not_true_is_refused():
    text = {Property.PAYLOAD_FORMAT_INDICATOR: 1}
    decoder = MessageDecoder(TEMPLATE, 10)
    decoder.decode(Publish("a", "é".encode(), properties=text), V5, {"client_id": "c"})
    with pytest.raises(InvalidEventError) as raised:
        decoder.decode(Publish("a", b"\xff", properties=text), V5, {"client_id": "c"})
    assert refusal_code(raised.value) == 0x99
