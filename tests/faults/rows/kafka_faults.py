"""Row 7: a Kafka broker that is down, slow, answers with errors and makes the producer useless.

The broker is librdkafka's mock cluster, which fails as it is told. It checks no sequence numbers,
so there is one request under way at a time, and records that come twice are its own doing.
"""

import asyncio
import statistics
import time
from typing import Any, Final

from tests.faults.bench import MODES, Bench, bench
from tests.faults.figures import Figures
from tests.faults.kafka_reader import KafkaReader
from tests.faults.row import Context
from tests.mock_kafka import PRODUCE, MockCluster

NUMBER = 7
NAME = "Kafka down, slow, errors in bursts, fatal errors, a topic denied once"
BOUND = "3 times each, both acknowledgement modes"
SHORT_BOUND = "once each"
SECONDS = 400.0
SHORT_SECONDS = 180.0

NEW_PRODUCER_SECONDS = 1.0
RTT_MILLISECONDS = 1600
"""librdkafka looks for requests that take longer than `socket.timeout.ms` once a second."""
PARTITIONS: Final = 4
PASSING: Final = (19, 20, 6, 7)
"""NOT_ENOUGH_REPLICAS, the same after append, NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT."""
OUT_OF_ORDER_SEQUENCE_NUMBER: Final = 45
TOPIC_AUTHORIZATION_FAILED: Final = 29
DELIVERY = {"timeout": "PT2S", "backoffDelay": "PT0.05S", "backoffCap": "PT0.5S", "retry": 1000}
PROPERTIES = {
    "max.in.flight": 1, "request.timeout.ms": 300, "socket.timeout.ms": 300, "retry.backoff.ms": 20,
    "retry.backoff.max.ms": 100, "reconnect.backoff.max.ms": 200,
}  # fmt: skip


class Trouble:
    """What befalls the cluster, and what is measured meanwhile."""

    def __init__(
        self, cluster: MockCluster, made: Bench, reader: KafkaReader, *, short: bool
    ) -> None:
        self._cluster = cluster
        self._made = made
        self._reader = reader
        self._short = short
        self.gaps: dict[str, list[float]] = {}

    async def down(self) -> None:
        self._made.ledger.remark("down")
        self._cluster.go_down()
        await asyncio.sleep(1.5 if self._short else 5)
        self._cluster.come_up()
        await self._measure("down", 1.0)

    async def burst(self) -> None:
        """Errors that pass, in a row."""
        for _ in range(1 if self._short else 3):
            chance = self._made.chance
            codes = [chance.choice(PASSING) for _ in range(chance.randint(1, 6))]
            self._made.ledger.remark(f"errors {codes}")
            self._cluster.fail_next(PRODUCE, *codes)
            await self._measure("passing errors", 1.0)

    async def slow(self) -> None:
        """Answers that come after the client has given their request up."""
        self._made.ledger.remark("slow")
        self._cluster.answer_after(RTT_MILLISECONDS)
        await asyncio.sleep(2 if self._short else 8)
        self._cluster.answer_after(0)
        await self._measure("slow", 1.0)

    async def fatal(self) -> None:
        """The producer has lost count and can't go on."""
        self._made.ledger.remark("fatal")
        self._cluster.fail_next(PRODUCE, OUT_OF_ORDER_SEQUENCE_NUMBER)
        await self._measure("fatal", 1.5)

    async def denied(self) -> None:
        self._made.ledger.remark("denied")
        self._cluster.fail_next(PRODUCE, TOPIC_AUTHORIZATION_FAILED)
        await self._measure("denied", 1.5)

    async def _measure(self, what: str, seconds: float) -> None:
        """Wait, and for a record in any case, and note the longest time without one."""
        began = time.monotonic()
        await asyncio.sleep(seconds / 2 if self._short else seconds)
        while time.monotonic() < began + 20 and self._reader.moments[-1] < began:
            await asyncio.sleep(0.01)
        gap = self._reader.longest_gap(began, time.monotonic())
        self.gaps.setdefault(what, []).append(gap)


async def run(context: Context) -> Figures:
    figures = Figures()
    modes = list(MODES)[context.seed % 2 :][:1] if context.short else list(MODES)
    for number, mode in enumerate(modes):
        with MockCluster() as cluster:
            cluster.create_topic("faults", PARTITIONS)
            await _run_mode(context, mode, context.seed + number, cluster, figures)
    return figures


async def _run_mode(
    context: Context, mode: str, seed: int, cluster: MockCluster, figures: Figures
) -> None:
    sink: dict[str, Any] = {
        "protocol": "kafka", "bootstrap_servers": cluster.bootstrap_servers, "topic": "faults",
        "key": "order", "properties": PROPERTIES,
    }  # fmt: skip
    async with bench(
        context.folder / mode, seed, inputs=("http", "endpoint", "coap"), rate=400,
        delivery={**MODES[mode], **DELIVERY}, sinks={"out": sink},
    ) as made:  # fmt: skip
        reader = KafkaReader(
            cluster.bootstrap_servers, "faults", PARTITIONS, made.sample, made.ledger
        )
        reader.start()
        try:
            made.start_load()
            await _flow(reader)
            await asyncio.sleep(0.3 if context.short else 3)
            own = sum(made.ledger.account.own)
            figures.require(not own, f"{own} own duplicates before any fault")
            reader.answer = "late"
            trouble = Trouble(cluster, made, reader, short=context.short)
            await _befall(trouble, made, 1 if context.short else 3)
            await made.stop_load()
            await _arrive(made, reader, 15 if context.short else 60)
            await made.finish(figures, seconds=5)
        finally:
            await reader.close()
    gaps = ", ".join(f"{name} {max(values):.2f} s" for name, values in trouble.gaps.items())
    figures.notes.append(f"ack: {mode}: longest time without a record after: {gaps}")
    figures.require(not made.ledger.account.dead_letters, "there are dead letters")
    usual = statistics.median(trouble.gaps["fatal"])
    figures.require(
        usual <= NEW_PRODUCER_SECONDS * context.patience,
        f"{usual:.2f} s without a record for a new producer's sake",
    )


async def _flow(reader: KafkaReader) -> None:
    """Wait for the first records: a new producer needs a moment to be given its number."""
    async with asyncio.timeout(10):
        while not reader.arrived:
            await asyncio.sleep(0.01)


async def _befall(trouble: Trouble, made: Bench, count: int) -> None:
    actions = [trouble.down, trouble.burst, trouble.slow, trouble.fatal, trouble.denied]
    plan = [action for action in actions for _ in range(count)]
    made.chance.shuffle(plan)
    for action in plan:
        await action()


async def _arrive(made: Bench, reader: KafkaReader, seconds: float) -> None:
    """Wait until the reader has all that was acknowledged and the gateway holds nothing more."""
    loop = asyncio.get_running_loop()
    deadline, before, quiet = loop.time() + seconds, -1, 0
    while loop.time() < deadline and quiet < 10:
        await asyncio.sleep(0.05)
        is_quiet = reader.arrived == before and not made.ledger.account.outstanding
        quiet = quiet + 1 if is_quiet and not await made.held() else 0
        before = reader.arrived
