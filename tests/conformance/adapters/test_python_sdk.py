"""The adapter asks the SDK for what it is asked for, and says what it can't ask."""

import pytest

from bindings.binding import Message
from conformance.adapter import AdapterCodec
from conformance.adapters import command_of
from conformance.check import Unsupported
from conformance.forms import Refused, WireEvent

LEAST = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
DATED = {**LEAST, "time": "2018-04-05T17:31:00Z"}
HEADERS = [(f"ce-{name}", value) for name, value in DATED.items()]


@pytest.fixture(scope="module")
def codec():
    with AdapterCodec(command_of("python-sdk")) as codec:
        yield codec


def test_it_has_three_bindings(codec):
    assert codec.title.startswith("cloudevents (Python SDK) ")
    assert codec.bindings == ("json", "http", "kafka")


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("text/plain", "é".encode()),
        ("text/plain; charset=iso-8859-1", b"\xe9"),
        ("application/json", b'{"a": [1, "b"]}'),
        ("application/octet-stream", b"\x00\xff"),
    ],
)
def test_data_comes_back_as_it_went_in(codec, content_type, data):
    event = WireEvent({**DATED, "datacontenttype": content_type}, data)
    for binding in ("http", "kafka"):
        message = codec.encode(binding, event, "binary")
        assert message.payload == data
        assert codec.decode(binding, message) == [event]


def test_an_envelope_is_read_and_written(codec):
    event = WireEvent({**DATED, "datacontenttype": "application/json"}, b'{"a":1}')
    for binding in ("http", "kafka"):
        message = codec.encode(binding, event, "structured")
        assert message.content_type == "application/cloudevents+json"
        assert codec.decode(binding, message) == [event]
        (sent,) = codec.relay(binding, message, "json", "structured")
        assert codec.decode("json", Message(sent.payload)) == [event]


def test_what_the_sdk_refuses_is_refused(codec):
    with pytest.raises(Refused, match="CloudEventValidationError"):
        codec.decode("http", Message(b"", "", HEADERS[:1]))
    with pytest.raises(Refused, match="time"):
        codec.encode("http", WireEvent({**LEAST, "time": "yesterday"}), "binary")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Message(b"[]", "application/cloudevents-batch+json"), "batches"),
        (Message(b"", "", [*HEADERS, HEADERS[0]]), "twice"),
        (Message(b"", "", [*HEADERS, ("ce-\u212aey", "x")]), "no header"),
        (Message(b"", "", [*HEADERS, ("ce-a", "\xe9")]), "ASCII"),
        (Message(b"", "", [("ce-specversion", "0.3"), *HEADERS[1:]]), "0.3"),
        (Message(b'{"specversion":"0.3"', "application/cloudevents+cbor"), "cbor"),
    ],
)
def test_what_its_api_cannot_be_asked_is_unsupported(codec, message, text):
    with pytest.raises(Unsupported, match=text):
        codec.decode("http", message)


@pytest.mark.parametrize("time", ["1990-12-31T23:59:60Z", "2018-04-05T17:31:00.123456789Z"])
def test_a_time_that_is_no_datetime_cannot_be_written(codec, time):
    with pytest.raises(Unsupported, match="datetime"):
        codec.encode("json", WireEvent({**LEAST, "time": time}), "structured")


def test_blanks_around_a_header_value_are_gone_as_in_every_web_framework(codec):
    (event,) = codec.decode("http", Message(b"", "", [*HEADERS, ("ce-a", " x\t")]))
    assert event.attributes["a"] == "x"
