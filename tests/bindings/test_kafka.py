"""The Kafka binding, beside the vectors in conformance/: the official SDK's records."""

import pytest
from cloudevents.core.bindings import kafka as sdk_kafka
from cloudevents.core.formats.json import JSONFormat

from bindings.binding import Message
from bindings.event import Event
from bindings.kafka import KAFKA

COMMON = [
    Event(
        id="1", source="/s", type="t", subject="é %20", time="2018-04-05T17:31:00Z",
        datacontenttype="application/json", data=b'{"a": 1}',
    ),
    Event(
        id="1", source="/s", type="t", time="2018-04-05T17:31:00Z", datacontenttype="text/plain",
        extensions={"partitionkey": "p"}, data=b"x",
    ),
]  # fmt: skip


@pytest.mark.parametrize("event", COMMON)
@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_the_official_sdk_reads_what_we_write(event, mode):
    message = KAFKA.encode(event, mode)
    headers = {name: value.encode() for name, value in message.headers}
    headers["content-type"] = message.content_type.encode()
    record = sdk_kafka.KafkaMessage(headers=headers, key=None, value=message.payload)
    assert Event.from_sdk(sdk_kafka.from_kafka(record, JSONFormat())) == event


@pytest.mark.parametrize("event", COMMON)
@pytest.mark.parametrize("write", [sdk_kafka.to_binary, sdk_kafka.to_structured])
def test_we_read_what_the_official_sdk_writes(event, write):
    record = write(event.to_sdk(), JSONFormat())
    headers = {name: value.decode() for name, value in record.headers.items()}
    content_type = headers.pop("content-type")
    (back,) = KAFKA.decode(Message(record.value, content_type, list(headers.items())))
    assert back.data == event.data
    assert back.attributes() == event.attributes()


def test_no_data_and_empty_data_stay_apart():
    for data in (None, b""):
        event = Event(id="1", source="/s", type="t", data=data)
        assert KAFKA.encode(event, "binary").payload == data
        assert KAFKA.decode(KAFKA.encode(event, "binary")) == (event,)
        assert KAFKA.decode(KAFKA.encode(event, "structured")) == (event,)
