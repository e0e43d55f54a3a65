"""Row 12: storms of malformed frames in every protocol, beside senders who do nothing wrong."""

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from tests.faults.bench import MODES, Bench, bench
from tests.faults.figures import Figures
from tests.faults.producers.producer import OneAtATime
from tests.faults.row import Context
from tests.faults.storms.process import storm
from tests.faults.storms.routes import ROUTES, SINKS

NUMBER = 12
NAME = "malformed frames in HTTP, MQTT, CoAP and NATS, beside good senders"
BOUND = "50000 frames per protocol"
SHORT_BOUND = "2000 frames per protocol"
SECONDS = 900.0
SHORT_SECONDS = 180.0

INPUTS: Final = ("http", "endpoint", "coap", "nats", "jetstream")
KINDS: Final = ("http", "endpoint", "coap", "nats")
FEW_REASONS: Final = 5
"""Causes that each source counts at least."""
GROWN_MIB = 40.0
GROWN_DESCRIPTORS = 5
MOST_LINES: Final = 2000
"""Lines of the log: one for each cause and ten seconds, whatever comes."""


async def run(context: Context) -> Figures:
    figures = Figures()
    count = 2000 if context.short else 50_000
    async with bench(
        context.folder, context.seed, inputs=INPUTS, rate=200, delivery=MODES["sink"],
        sinks=SINKS, routes=ROUTES,
    ) as made:  # fmt: skip
        made.undecodable = 0
        made.start_load()
        await asyncio.sleep(1 if context.short else 5)
        calm = await _latencies(made, 1 if context.short else 10)
        memory, descriptors = made.gateway.anonymous_mib(), made.gateway.descriptors()
        ports = {**made.gateway.ports, "nats": made.brokers["nats-server"].port}
        storms = [
            asyncio.ensure_future(storm(kind, ports[kind], count, seed=context.seed + number))
            for number, kind in enumerate(KINDS)
        ]
        marks = _marks(made)
        reports = dict(zip(KINDS, await asyncio.gather(*storms), strict=True))
        during = {name: list(made.producers[name].seconds[mark:]) for name, mark in marks.items()}
        await made.stop_load()
        await made.settle(15 if context.short else 60)
        await _compare(made, memory, descriptors, figures)
        rejected = await _rejected(made)
        lines = made.gateway.log.count("\n")
        await made.finish(figures, seconds=5)
    _judge_log(made, lines, figures)
    for kind, report in reports.items():
        counted = rejected[kind] + (rejected["jetstream"] if kind == "nats" else Counter())
        figures.notes.append(
            f"{kind}: {', '.join(f'{value} {name}' for name, value in report.items())}; rejected: "
            + ", ".join(f"{number} {reason}" for reason, number in counted.most_common())
        )
        figures.require(len(counted) >= FEW_REASONS, f"{kind}: only {len(counted)} causes counted")
        figures.require(report["sent"] == count, f"{kind}: only {report['sent']} frames were sent")
        figures.require(not report.get("left open"), f"{kind}: {report.get('left open')} left open")
    figures.notes.append(
        "good senders' p99 calm and meanwhile: "
        + ", ".join(f"{name} {_p99(calm[name])} and {_p99(during[name])} ms" for name in calm)
        + f"; {made.undecodable} dead letters that are no events, {lines} lines in the log"
    )
    return figures


def _marks(made: Bench) -> dict[str, int]:
    return {
        name: len(producer.seconds)
        for name, producer in made.producers.items()
        if isinstance(producer, OneAtATime)
    }


async def _latencies(made: Bench, seconds: float) -> dict[str, list[float]]:
    marks = _marks(made)
    await asyncio.sleep(seconds)
    return {name: list(made.producers[name].seconds[mark:]) for name, mark in marks.items()}


def _p99(values: Sequence[float]) -> str:
    return f"{sorted(values)[int(len(values) * 0.99)] * 1000:.1f}" if values else "-"


async def _compare(made: Bench, memory: float, descriptors: int, figures: Figures) -> None:
    """Compare memory and descriptors with those before; connections may need a moment to end."""
    for _ in range(100):
        opened = made.gateway.descriptors() - descriptors
        if opened <= 0:
            break
        await asyncio.sleep(0.1)
    grown = made.gateway.anonymous_mib() - memory
    figures.notes.append(f"memory {grown:+.1f} MiB, {opened:+d} descriptors")
    figures.require(grown < GROWN_MIB, f"memory grew by {grown:.1f} MiB")
    figures.require(opened <= GROWN_DESCRIPTORS, f"{opened} descriptors more")


async def _rejected(made: Bench) -> dict[str, Counter[str]]:
    """Return how many messages were rejected, by source and reason."""
    found: dict[str, Counter[str]] = {name: Counter() for name in INPUTS}
    for name, value in (await made.gateway.metrics()).items():
        if name.startswith("ce_gateway_rejected_total"):
            labels: dict[str, Any] = dict(re.findall(r'(\w+)="([^"]*)"', name))
            found[labels["source"]][labels["reason"]] = int(value)
    return found


def _judge_log(made: Bench, lines: int, figures: Figures) -> None:
    log = made.gateway.log
    for word in ("Traceback", "Exception", " ERROR ", " CRITICAL "):
        at = log.find(word)
        figures.require(at < 0, f"{word.strip()!r} in the log: {log[max(0, at - 200) : at + 1500]}")
    figures.require(lines < MOST_LINES, f"{lines} lines in the log")
    odd = [line for line in log.splitlines() if not line.isprintable()]
    figures.require(not odd, f"{len(odd)} lines of the log are not printable: {odd[:2]}")
