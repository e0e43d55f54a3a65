"""Records give back the event to the byte, and whatever is damaged is an error of one kind."""

import struct
import sys
from types import MappingProxyType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bindings.errors import CloudEventError
from bindings.event import Event
from bindings.json_format import decode_event, encode_event
from gateway.stored_event import decode, delivery_of, encode
from tests.bindings import strategies
from tests.helpers import make_event

MINIMAL = Event(id="1", source="/s", type="t")

# Written by hand from the MessagePack specification: what older records look like must not change.
JSON = b'{"specversion":"1.0","id":"1","source":"/s", "type" : "t"}'
JSON_RECORD = b"\x01\x92\xa6mqtt-1\xc4\x3a" + JSON
FIELDS_RECORD = (
    b"\x02\x9a\xa6mqtt-1\xa11\xa2/s\xa1t\xaatext/plain\xc0\xa2su\xc0"
    b"\x84\xa1b\xc4\x02\x00\xff\xa1f\xc2\xa1i\xff\xa1s\xa0"
    b"\xc4\x02\x01\x00"
)
FIELDS_EVENT = Event(
    id="1",
    source="/s",
    type="t",
    datacontenttype="text/plain",
    subject="su",
    extensions={"b": b"\x00\xff", "f": False, "i": -1, "s": ""},
    data=b"\x01\x00",
)


def everything(event):
    """All that an event is made of, with the types of its extensions."""
    return (
        event.id, event.source, event.type, event.specversion, event.datacontenttype,
        event.dataschema, event.subject, event.time,
        [(name, type(value), value) for name, value in event.extensions.items()],
        event.data, event.encoded,
    )  # fmt: skip


@given(strategies.events(), st.text(st.characters(exclude_categories=["Cs"])))
def test_an_event_and_its_source_come_back_whole(event, source):
    stored = decode(encode(event, source))
    assert everything(stored.event) == everything(event)
    assert stored.source == source


@given(strategies.events())
def test_an_event_that_came_as_json_comes_back_with_its_bytes(event):
    came = decode_event(b" " + encode_event(event))
    stored = decode(encode(came, "nats"))
    assert everything(stored.event) == everything(came)
    assert stored.event.encoded == b" " + encode_event(event)


def test_an_event_that_came_as_json_is_stored_as_those_bytes_alone():
    came = decode_event(JSON)
    assert encode(came, "mqtt-1") == JSON_RECORD
    assert decode(JSON_RECORD).event.encoded == JSON


def test_any_other_event_is_stored_as_its_fields():
    assert encode(FIELDS_EVENT, "mqtt-1") == FIELDS_RECORD
    assert everything(decode(FIELDS_RECORD).event) == everything(FIELDS_EVENT)


@pytest.mark.parametrize("data", [None, b"", b"\xff\x00"])
def test_absent_data_and_empty_data_are_told_apart(data):
    assert decode(encode(MINIMAL.replace(data=data), "http")).event.data == data


def test_true_and_one_are_told_apart():
    event = MINIMAL.replace(extensions={"a": True, "b": 1, "c": False, "d": 0})
    assert list(decode(encode(event, "http")).event.extensions.values()) == [True, 1, False, 0]
    assert decode(encode(event, "http")).event == event


def test_extensions_may_be_any_mapping():
    event = MINIMAL.replace(extensions=MappingProxyType({"a": b"b"}))
    assert decode(encode(event, "http")).event == event


def nested(depth):
    text = b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":%s}'
    return text % (b"[" * depth + b"]" * depth)


def deeper(levels, function):
    return deeper(levels - 1, function) if levels else function()


def test_json_as_deep_as_a_source_may_take_is_read_back_from_a_deeper_stack():
    def deepest():
        depth = sys.getrecursionlimit()
        while True:
            try:
                return decode_event(nested(depth))
            except CloudEventError:
                depth -= 1

    record = encode(deepest(), "coap")
    limit = sys.getrecursionlimit()
    assert deeper(100, lambda: decode(record)).event.data.startswith(b"[[[[")
    assert sys.getrecursionlimit() == limit


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\x00",
        b"\x03" + FIELDS_RECORD[1:],  # of a later version
        FIELDS_RECORD + b"\xc0",
        FIELDS_RECORD[:-1],
        b"\x02\x9b" + FIELDS_RECORD[2:] + b"\xc0",  # one field too many
        FIELDS_RECORD.replace(b"\xff\xa1s\xa0", b"\xff\xa1s\xc0"),  # an extension that is nil
        FIELDS_RECORD.replace(b"\xa1f\xc2", b"\xa1F\xc2"),  # no attribute name
        FIELDS_RECORD.replace(b"\xa11", b"\xa0"),  # no id
        FIELDS_RECORD.replace(b"\xa11", b"\xa1\xff"),  # no UTF-8
        b"\x01\x92\xa1s\xc4\x02{}",
        b"\x01\x92\xa1s\xc4\x01\xff",
        b"\x02\x9a\xa1s\xa11\xa2/s\xa1t\xc0\xc0\xc0\xc0\x81\xa1e" + b"\x91" * 100_000,
        b"\x02\x9a" + b"\xc6" + struct.pack(">I", 2**32 - 1),
    ],
)
def test_what_is_damaged_is_an_error(record):
    assert record not in (JSON_RECORD, FIELDS_RECORD)
    with pytest.raises(CloudEventError) as caught:
        decode(record)
    assert caught.value.reason


def try_to(record):
    try:
        stored = decode(record)
    except CloudEventError:
        return
    assert isinstance(stored.event, Event)
    assert isinstance(stored.source, str)
    assert everything(decode(encode(*stored)).event) == everything(stored.event)


@given(st.sampled_from([b"", b"\x01", b"\x02", b"\x01\x92\xa1s\xc4", b"\x02\x9a"]), st.binary())
@example(b"\x02", b"\xc1")
def test_garbage_is_an_event_or_an_error(start, rest):
    try_to(start + rest)


@given(
    st.one_of(
        strategies.events(),
        strategies.events().map(lambda event: decode_event(encode_event(event))),
    ),
    st.data(),
)
def test_a_record_with_changed_bytes_is_an_event_or_an_error(event, data):
    record = bytearray(encode(event, "mqtt-1"))
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(record) - 1))
        record[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.none() | st.integers(0, len(record)))
    try_to(bytes(record[:cut]))


def test_what_is_read_back_for_delivery_has_been_answered_for():
    delivery = delivery_of(encode(make_event(5), "web"), 17)
    assert (delivery.events, delivery.source) == ((make_event(5),), "web")
    assert (delivery.sequence, delivery.settled) == (17, True)
    assert delivery.received_at > 0
