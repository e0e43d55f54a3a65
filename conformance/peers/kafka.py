"""A Kafka consumer that keeps records as they are."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from bindings.binding import Message
from conformance.check import CheckFailed


class Record(msgspec.Struct, frozen=True):
    """A record.

    Attributes:
        key: None for none.
        message: value and headers, the content type apart.
    """

    key: bytes | None
    message: Message


class KafkaReader:
    """Reads one topic of one partition from its beginning.

    Args:
        bootstrap_servers: `host:port`.
        topic: it is made if it is not there.
    """

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self.servers, self.topic = bootstrap_servers, topic
        self._consumer: Any = None
        self.records: list[Record] = []

    async def open(self) -> None:
        """Make the topic and begin to read."""
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        admin = AdminClient({"bootstrap.servers": self.servers})
        for made in admin.create_topics([NewTopic(self.topic, 1, 1)]).values():
            made.result(15)
        self._consumer = Consumer({
            "bootstrap.servers": self.servers,
            "group.id": self.topic,
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 10,  # a record is waited for each time
        })  # fmt: skip
        self._consumer.assign([TopicPartition(self.topic, 0, 0)])

    async def wait(self, count: int, seconds: float = 10.0) -> Sequence[Record]:
        """Wait for at least `count` records; return all of them.

        Raises:
            CheckFailed: fewer came in time.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while len(self.records) < count:
            if asyncio.get_running_loop().time() > deadline:
                raise CheckFailed(
                    "too few records came", expected=str(count), got=str(len(self.records))
                )
            for found in await asyncio.to_thread(self._consumer.consume, 100, 0.05):
                self.records.append(_record(found))
        return self.records

    async def close(self) -> None:
        """Read no more."""
        await asyncio.to_thread(self._consumer.close)


def _record(found: Any) -> Record:
    pairs = [(name, (value or b"").decode()) for name, value in found.headers() or ()]
    types = [value for name, value in pairs if name == "content-type"]
    others = [pair for pair in pairs if pair[0] != "content-type"]
    return Record(found.key(), Message(found.value(), types[0] if types else "", others))
