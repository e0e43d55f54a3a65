"""Many messages through one sender: paced, timed and counted."""

import asyncio
import math
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from bindings.event import Event
from gateway.cli.senders import Plain, Sender, SendError

_POSITION = re.compile(r" \d+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much to send.

    Attributes:
        count: messages in all.
        rate: messages per second; None is as fast as acknowledgements come back.
        concurrency: messages that wait for their acknowledgement at once, at most.
    """

    count: int
    rate: float | None = None
    concurrency: int = 1


@dataclass(slots=True)
class Tally:
    """What became of them.

    Attributes:
        seconds: from the first message to the last answer.
        latencies: seconds to the acknowledgement, of each message that had one.
        answers: acknowledgements by their text; of several without the position that a log gave
            (`events [0] offset 7`), or there would be as many as messages.
        failures: messages that were refused or unanswered, by text.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        """How many messages had no acknowledgement."""
        return self.failures.total()

    def percentile(self, percent: float) -> float:
        """Return the latency that `percent` of the acknowledged messages did not exceed."""
        ordered = sorted(self.latencies)
        return ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)] if ordered else math.nan

    def as_dict(self) -> dict[str, object]:
        """Return the figures as plain data; latencies in milliseconds."""
        acknowledged = len(self.latencies)
        latency = {
            f"p{percent}" if percent < 100 else "max": round(self.percentile(percent) * 1000, 3)
            for percent in (50, 90, 99, 100)
        }
        return {
            "sent": acknowledged + self.failed,
            "acknowledged": acknowledged,
            "failed": self.failed,
            "seconds": round(self.seconds, 6),
            "rate": round(acknowledged / self.seconds, 1) if self.seconds else 0.0,
            "latency_ms": latency if acknowledged else None,
            "answers": dict(self.answers.most_common()),
            "failures": dict(self.failures.most_common()),
        }

    def as_text(self) -> str:
        """Return the figures as lines for people."""
        figures = self.as_dict()
        count = f"{figures['acknowledged']} of {figures['sent']}"
        speed = f"{figures['rate']} a second"
        lines = [f"{count} acknowledged in {self.seconds:.3f} s, {speed}"]
        if self.latencies:
            shown = [
                f"{name} {self.percentile(percent) * 1000:.2f}" for name, percent in _PERCENTILES
            ]
            lines.append(f"acknowledged after (ms): {', '.join(shown)}")
        lines += [f"{count} x answer: {text}" for text, count in self.answers.most_common(10)]
        lines += [f"{count} x failure: {text}" for text, count in self.failures.most_common(10)]
        return "\n".join(lines)


_PERCENTILES = (("p50", 50), ("p90", 90), ("p99", 99), ("max", 100))


async def run_load(
    sender: Sender,
    message: Callable[[int], Event | Plain],
    plan: Plan,
    on_answer: Callable[[], None] = lambda: None,
) -> Tally:
    """Send `plan.count` messages and return what became of them; also when cancelled midway.

    Args:
        sender: open already.
        message: makes the i-th message, i from 0.
        plan: how many and how fast.
        on_answer: called after each answer or failure.
    """
    tally = Tally()
    positions = iter(range(plan.count))
    started = time.perf_counter()

    async def work() -> None:
        for position in positions:
            if plan.rate is not None:
                await asyncio.sleep(max(started + position / plan.rate - time.perf_counter(), 0))
            one = message(position)
            sent = time.perf_counter()
            try:
                answer = await sender.send(one)
            except SendError as error:
                tally.failures[str(error)] += 1
            else:
                tally.latencies.append(time.perf_counter() - sent)
                tally.answers[answer if plan.count == 1 else _POSITION.sub("", answer)] += 1
            tally.seconds = time.perf_counter() - started
            on_answer()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(plan.concurrency, plan.count)):
                group.create_task(work())
    except asyncio.CancelledError:
        pass  # Ctrl-C: what was measured until then is worth showing
    return tally
