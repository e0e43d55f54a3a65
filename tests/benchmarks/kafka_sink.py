"""A Kafka cluster in a process of its own, librdkafka's mock one, and what arrives in it.

It costs next to nothing, which on two cores matters more than that it keeps only the last megabytes
of a partition. What is in it is consumed as it comes, so that every event is counted by its number;
or else only a sample is looked at, and the count is that of the high watermarks. Another cluster
can take its place; then this process only counts.
"""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any, Final

import uvloop
from confluent_kafka import Consumer, Message, TopicPartition

from tests.benchmarks.board import ARRIVED, open_board
from tests.benchmarks.counting_sink import Counter
from tests.benchmarks.worker import options, own_cpu, say, told
from tests.mock_kafka import MockCluster

TOPIC: Final = "bench"
PARTITIONS: Final = 4
_TICK: Final = 0.004
_LOOK: Final = 0.25
_SAMPLE: Final = 20
_MOST: Final = 5000


class Reader:
    """Counts what arrives.

    Args:
        whole: consume everything; else look at a few records now and then.
    """

    def __init__(self, servers: str, counter: Counter, *, whole: bool) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": "bench",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 20,
                "log_level": 0,
            }
        )
        self._counter = counter
        self._whole = whole
        self._looked = 0.0
        if whole:
            self._consumer.assign([TopicPartition(TOPIC, n, 0) for n in range(PARTITIONS)])

    def look(self) -> int:
        """Consume what is to be consumed; returns how many events have arrived."""
        if self._whole:
            self._take(self._consumer.consume(_MOST, 0))
            return self._counter.figures["arrived"]
        ends = self._ends()
        if time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            parts = [(n, max(end - _SAMPLE, 0), end) for n, end in enumerate(ends) if end]
            self._consumer.assign([TopicPartition(TOPIC, n, first) for n, first, _ in parts])
            self._take(self._consumer.consume(sum(end - first for _, first, end in parts), 1))
            self._consumer.unassign()
        return sum(ends)

    def rest(self) -> int:
        """Consume the rest; returns how many events the cluster has.

        Raises:
            TimeoutError: there are fewer than the watermarks say.
        """
        written, deadline = sum(self._ends()), time.monotonic() + 20
        while self._whole and self._counter.figures["arrived"] < written:
            self._take(self._consumer.consume(_MOST, 0.1))
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._counter.figures} of {written}")
        self._looked = 0.0
        self.look()
        self._consumer.close()
        return written

    def _ends(self) -> list[int]:
        return [
            self._consumer.get_watermark_offsets(TopicPartition(TOPIC, number), 5)[1]
            for number in range(PARTITIONS)
        ]

    def _take(self, messages: list[Message]) -> None:
        for message in messages:
            if message.error() is not None:
                raise RuntimeError(str(message.error()))
            value = message.value()
            self._counter.take(value or b"", lambda m=message: _type(m))


def _type(message: Message) -> str:
    for name, value in message.headers() or ():
        if name == "content-type":
            return value.decode() if isinstance(value, bytes) else value or ""
    return ""


async def _serve(
    *,
    board: str,
    counts: str,
    form: str,
    whole: bool = False,
    sample: int = 1,
    every: int = 0,
    servers: str = "",
) -> None:
    memory = open_board(Path(board))
    with contextlib.ExitStack() as stack:
        if not servers:
            cluster = stack.enter_context(MockCluster())
            cluster.create_topic(TOPIC, PARTITIONS)
            servers = cluster.bootstrap_servers
        counter = Counter(memory, form, sample if whole else 1, every)
        reader = Reader(servers, counter, whole=whole)
        end, begun = told(), own_cpu()
        say(bootstrap_servers=servers)
        while not end.done():
            memory[ARRIVED] = reader.look()
            await asyncio.wait([end], timeout=_TICK)
        memory[ARRIVED] = arrived = reader.rest()
        Path(counts).write_bytes(counter.counts)
        figures: dict[str, Any] = dict(counter.figures)
        say(**{**figures, "arrived": arrived, "cpu": (own_cpu() - begun) * 1e6 / max(arrived, 1)})


if __name__ == "__main__":
    uvloop.run(_serve(**options()))
