"""Reads a topic of librdkafka's mock cluster into the ledger: what is in the log has arrived."""

import asyncio
import itertools
import threading
import time
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition

from tests.faults.ledger import Ledger
from tests.faults.sample import Sample, read_structured, split_id

_SETTINGS: Final[dict[str, Any]] = {
    "group.id": "faults", "enable.auto.commit": False, "log_level": 0,
    "reconnect.backoff.max.ms": 200, "fetch.wait.max.ms": 20, "fetch.error.backoff.ms": 50,
}  # fmt: skip


class KafkaReader:
    """Follows all partitions of a topic, in a thread of its own.

    Attributes:
        arrived: records read, with repetitions.
        moments: monotonic seconds of each list of records.
        answer: what is written of arrivals: `ok`, or `late` while a record may be stored
            twice through no fault of ours. The mock cluster keeps what it answers with an error,
            and knows no sequence numbers, so that what is sent again is there twice.
    """

    def __init__(
        self, servers: str, topic: str, partitions: int, sample: Sample, ledger: Ledger
    ) -> None:
        self.arrived = 0
        self.moments: list[float] = []
        self.answer = "ok"
        self._sample = sample
        self._ledger = ledger
        self._loop = asyncio.get_running_loop()
        self._consumer = Consumer({**_SETTINGS, "bootstrap.servers": servers})
        self._consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def close(self) -> None:
        self._stopping.set()
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._consumer.close)

    def longest_gap(self, since: float, until: float) -> float:
        """Return the longest time without a record between two moments."""
        moments = [since, *(each for each in self.moments if since <= each <= until), until]
        return max(late - early for early, late in itertools.pairwise(moments))

    def _run(self) -> None:
        while not self._stopping.is_set():
            messages = self._consumer.consume(500, 0.02)
            bodies = [message.value() for message in messages if message.error() is None]
            if bodies:
                self._loop.call_soon_threadsafe(self._take, bodies)

    def _take(self, bodies: list[bytes]) -> None:
        self.moments.append(time.monotonic())
        self.arrived += len(bodies)
        for body in bodies:
            attributes, data = read_structured(body)
            name = split_id(attributes.get("id", ""))
            difference = self._sample.difference(attributes, data)
            if name is None or difference:
                self._ledger.corrupt(f"{attributes.get('id')}: {difference}")
                continue
            self._ledger.store(*name, self.answer)
