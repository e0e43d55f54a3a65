"""The CBOR event format: what the vectors in conformance/ do not reach."""

import contextlib
import datetime

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindings import json_format
from bindings.binding import Message
from bindings.cbor_format import MEDIA_TYPE, decode_event, encode_event, is_cbor_type
from bindings.errors import InvalidEventError, UnknownEncodingError
from bindings.event import Event, is_json_type
from bindings.http import HTTP
from bindings.kafka import KAFKA
from bindings.mqtt import MQTT
from bindings.nats import NATS
from tests.bindings.strategies import events
from tests.helpers import examples

MINIMAL = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}

trees = st.recursive(
    st.integers(-(2**64), 2**64 - 1) | st.none() | st.text(max_size=9) | st.binary(max_size=30)
    | st.floats(allow_nan=False) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)  # fmt: skip
cbor_events = st.builds(
    lambda event, content_type, data: event.replace(datacontenttype=content_type, data=data),
    events(),
    st.sampled_from(["application/cbor", "Application/SenML+CBOR ; v=1"]),
    st.binary(max_size=9) | trees.map(cbor2.dumps) | st.binary(max_size=9).map(cbor2.dumps),
)


@settings(max_examples=examples(300))
@given(events() | cbor_events)
def test_an_event_survives_the_cbor_format(event):
    assert decode_event(encode_event(event)) == event


def is_read_by_cbor2(event):
    """Whether embedded data holds only what its tags allow: cbor2 wants a text in a date."""
    try:
        cbor2.loads(encode_event(event.replace(time=None)))
    except cbor2.CBORDecodeError:
        return not any(initial >> 5 == 6 for initial in event.data)
    return True


@settings(max_examples=examples(200))
@given((events() | cbor_events).filter(is_read_by_cbor2))
def test_cbor2_reads_the_attributes_and_the_data(event):
    # cbor2 makes dates of times, of those that it knows.
    members = cbor2.loads(encode_event(event.replace(time=None)))
    data = members.pop("data", None)
    attributes = {name: value for name, value in event.attributes().items() if name != "time"}
    assert [repr(members[name]) for name in attributes] == list(map(repr, attributes.values()))
    assert members.keys() == attributes.keys()
    if isinstance(data, bytes):
        assert data == event.data
    elif event.datacontenttype is not None and is_cbor_type(event.datacontenttype):
        assert repr(data) == repr(cbor2.loads(event.data))
    elif isinstance(data, str):
        text = event.data.decode() if is_json_type(event.datacontenttype) else data
        assert data == text
    else:
        assert event.data is None


def test_cbor2_reads_the_time_as_a_date():
    event = Event(id="1", source="/s", type="t", time="2026-01-02T03:04:05.25+02:00")
    zone = datetime.timezone(datetime.timedelta(hours=2))
    expected = datetime.datetime(2026, 1, 2, 3, 4, 5, 250_000, zone)
    assert cbor2.loads(encode_event(event))["time"] == expected


@settings(max_examples=examples(500))
@given(st.data())
def test_any_bytes_raise_nothing_but_an_invalid_event(data):
    payload = data.draw(st.binary(max_size=60) | events().map(encode_event))
    if payload and data.draw(st.booleans()):
        position = data.draw(st.integers(0, len(payload) - 1))
        value = bytes((data.draw(st.integers(0, 255)),))
        payload = payload[:position] + value + payload[position + 1 :]
    try:
        event = decode_event(payload)
    except InvalidEventError:
        return
    # What is read can be written, in this format and in the other.
    assert decode_event(encode_event(event)) == event
    assert json_format.decode_event(json_format.encode_event(event)).id == event.id


members = st.dictionaries(
    st.sampled_from([*MINIMAL, "time", "dataschema", "datacontenttype", "data", "ext"]) | st.text(),
    trees | st.sampled_from(["application/json", "1.0", cbor2.CBORTag(0, "x"), cbor2.undefined]),
)


@settings(max_examples=examples(300))
@given(members)
def test_any_map_is_an_event_or_an_invalid_one(entries):
    with contextlib.suppress(InvalidEventError):
        event = decode_event(cbor2.dumps({**MINIMAL, **entries}))
        assert event.attributes().keys() <= MINIMAL.keys() | entries.keys() | {"datacontenttype"}


@pytest.mark.parametrize("binding", [HTTP, KAFKA, MQTT], ids=lambda binding: binding.name)
def test_the_format_is_a_structured_format_of_every_binding_that_leaves_it_open(binding):
    event = Event(id="1", source="/s", type="t", extensions={"n": 5}, data=b"\0")
    for content_type in (MEDIA_TYPE, "application/CloudEvents+CBOR ; charset=utf-8"):
        (back,) = binding.decode(Message(encode_event(event), content_type, [("ce-id", "2")]))
        assert back == event
    for content_type in ("application/cloudevents-batch+cbor", "application/cloudevents+cbor-seq"):
        with pytest.raises(UnknownEncodingError):
            binding.decode(Message(b"\x80", content_type))
    with pytest.raises(InvalidEventError):
        binding.decode(Message(None, MEDIA_TYPE))


def test_nats_has_no_format_but_json():
    event = Event(id="1", source="/s", type="t")
    with pytest.raises(UnknownEncodingError):
        NATS.decode(Message(encode_event(event), MEDIA_TYPE))


def test_a_cbor_event_has_no_json_form_to_copy():
    event = decode_event(cbor2.dumps({**MINIMAL, "n": 1}))
    assert event.encoded is None
    assert HTTP.encode(event, "structured").payload == (
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t","n":1}'
    )


@pytest.mark.parametrize("charset", ["utf-7", "utf-16", "cp037", "base64", "nonsense"])
def test_text_in_any_charset_is_restored_to_the_byte(charset):
    for data in (b"+2AA-", b"\xff\xfe\x00\xd8", b"hi", b"\xff"):
        event = Event(
            id="1",
            source="/s",
            type="t",
            datacontenttype=f"text/plain;charset={charset}",
            data=data,
        )
        assert decode_event(encode_event(event)) == event


@pytest.mark.parametrize(
    ("depth", "is_embedded"),
    [(14, True), (15, False), (1000, False)],
)
def test_an_item_too_deep_for_a_reader_is_kept_as_bytes(depth, is_embedded):
    data = b"\x81" * depth + b"\x80"
    event = Event(id="1", source="/s", type="t", datacontenttype="application/cbor", data=data)
    encoded = encode_event(event)
    assert (b"\x64data" + data in encoded) == is_embedded
    assert decode_event(encoded) == event


@pytest.mark.parametrize(
    ("media_type", "is_cbor"),
    [("application/cbor", True), ("a/CBOR;x=y", True), ("a/b+c+cbor ; x", True), ("a/x+cbor", True),
     ("application/cbor-seq", False), ("a/xcbor", False), ("a/b;x=a/cbor", False), ("cbor", False)],
)  # fmt: skip
def test_cbor_types_are_told_by_their_subtype(media_type, is_cbor):
    assert is_cbor_type(media_type) == is_cbor
