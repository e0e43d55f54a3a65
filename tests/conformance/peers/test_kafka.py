"""Without a broker; tests/e2e/test_conformance.py reads from one."""

import pytest

from bindings.binding import Message
from conformance.check import CheckFailed
from conformance.peers.kafka import KafkaReader, _record


class Found:
    """A record of confluent_kafka."""

    def __init__(self, key, value, headers):
        self.key, self.value, self.headers = lambda: key, lambda: value, lambda: headers


def test_the_content_type_stands_apart():
    record = _record(Found(b"k", b"v", [("content-type", b"a/b"), ("ce_id", b"1")]))
    assert record.key == b"k"
    assert record.message == Message(b"v", "a/b", [("ce_id", "1")])


def test_a_record_may_have_no_headers_and_no_value():
    assert _record(Found(None, None, None)).message == Message(None, "", [])


async def test_too_few_records_are_told():
    reader = KafkaReader("127.0.0.1:1", "t")
    assert await reader.wait(0) == []
    with pytest.raises(CheckFailed, match="too few"):
        await reader.wait(1, -1)
