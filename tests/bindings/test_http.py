"""The HTTP binding, beside the vectors in conformance/: batches, the official SDK's messages."""

import pytest
from cloudevents.core.bindings import http as sdk_http
from cloudevents.core.formats.json import JSONFormat

from bindings.binding import Message
from bindings.event import Event
from bindings.http import HTTP, join_batch
from bindings.json_format import encode_event


def test_a_batch_is_one_message_that_reads_back():
    events = [Event(id=str(number), source="/s", type="t", data=b"x") for number in range(3)]
    message = join_batch([encode_event(event) for event in events])
    assert message.content_type == "application/cloudevents-batch+json"
    assert message.payload.startswith(b'[{"specversion":"1.0","id":"0",')
    back = HTTP.decode(message)
    assert list(back) == events
    assert join_batch([encode_event(event) for event in back]).payload == message.payload
    assert join_batch([]).payload == b"[]"


# What the SDK gets right, see pitfalls: it neither unquotes nor checks, and it invents ids.
COMMON = [
    Event(id="1", source="/s", type="t", time="2018-04-05T17:31:00Z"),
    Event(
        id='A é % " 1', source="https://a/b?c=d&e=f#g", type="com.example", subject="Euro € 😀",
        time="2018-04-05T17:31:00.123456Z", dataschema="https://example.com/s",
        datacontenttype="application/json", extensions={"ext": "a%20b"}, data=b'{"a": 1}',
    ),
    Event(
        id="2", source="/s", type="t", time="2018-04-05T17:31:00Z",
        datacontenttype="text/plain", data="é".encode(),
    ),
]  # fmt: skip


@pytest.mark.parametrize("event", COMMON)
def test_the_official_sdk_reads_what_we_write(event):
    message = HTTP.encode(event, "binary")
    headers = dict(message.headers)
    if message.content_type:
        headers["content-type"] = message.content_type
    foreign = sdk_http.from_http(
        sdk_http.HTTPMessage(headers=headers, body=message.payload), JSONFormat()
    )
    assert Event.from_sdk(foreign) == event
    message = HTTP.encode(event, "structured")
    foreign = sdk_http.from_http(
        sdk_http.HTTPMessage({"content-type": message.content_type}, message.payload), JSONFormat()
    )
    assert Event.from_sdk(foreign) == event


@pytest.mark.parametrize("event", COMMON)
@pytest.mark.parametrize("write", [sdk_http.to_binary, sdk_http.to_structured])
def test_we_read_what_the_official_sdk_writes(event, write):
    foreign = write(event.to_sdk(), JSONFormat())
    headers = {name.lower(): value for name, value in foreign.headers.items()}
    content_type = headers.pop("content-type", "")
    (back,) = HTTP.decode(Message(foreign.body, content_type, list(headers.items())))
    assert back.attributes() == event.attributes()
    assert (back.data or b"") == (event.data or b"")
