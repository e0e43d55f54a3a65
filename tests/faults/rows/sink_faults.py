"""Row 8: each way in which a sink fails, how often it is then asked, and what neighbours notice."""

import asyncio
import statistics
import zlib
from collections import Counter
from collections.abc import Sequence

from tests.faults.bench import MODES, Bench, bench
from tests.faults.figures import Figures
from tests.faults.producers.http import HttpProducer
from tests.faults.row import Context
from tests.faults.sink import Fault, no_fault

NUMBER = 8
NAME = "sink: 503, 429, 404, 408, 409, 400, timeout, RST, truncated, slow, half-open, closed"
BOUND = "60 s of faulty answers, 10 s half-open, 5 s closed, twice"
SHORT_BOUND = "3 s of faulty answers, 1.5 s half-open, 1 s closed"
SECONDS = 900.0
SHORT_SECONDS = 180.0

RETRY = 4
RETRY_AFTER = "1"
MOST_PROBES = 20
DELIVERY = {
    "retry": RETRY, "timeout": "PT1S", "backoffDelay": "PT0.05S", "backoffCap": "PT0.2S",
}  # fmt: skip
_UNAVAILABLE = Fault("status", 503)
_NEVER = [Fault("status", 503)] * RETRY + [Fault("status", 503, is_final=True)]
PLANS: Sequence[Sequence[Fault]] = [
    [_UNAVAILABLE],
    [_UNAVAILABLE] * 2,
    [_UNAVAILABLE] * RETRY,
    _NEVER,
    [Fault("status", 500), Fault("status", 504)],
    [Fault("status", 429)],
    [Fault("status", 429, retry_after=RETRY_AFTER)],
    [Fault("status", 503, retry_after=RETRY_AFTER)],
    [Fault("status", 404)],
    [Fault("status", 408), Fault("status", 409)],
    [Fault("status", 400)],
    [Fault("status", 401)],
    [Fault("status", 413)],
    [Fault("stall")],
    [Fault("stall", stores=True)],
    [Fault("reset")],
    [Fault("reset", stores=True)],
    [Fault("drop", stores=True)],
    [Fault("truncate", stores=True)],
    [Fault("slow", seconds=0.5)],
]
"""What goes wrong with the successive attempts of an event; then all is well."""


class Script:
    """Gives each event a plan, or none, and counts attempts.

    Args:
        seed: chooses which event gets which plan.
        share: how many of 100 events get one.
    """

    def __init__(self, seed: int, share: int) -> None:
        self._seed = seed
        self._share = share
        self._last: dict[tuple[str, int], float] = {}
        self.attempts: Counter[tuple[str, int]] = Counter()
        self.hasty: list[str] = []

    def plan(self, key: str, number: int) -> Sequence[Fault]:
        drawn = zlib.crc32(f"{self._seed}/{key}/{number}".encode())
        if key.startswith("steady") or drawn % 100 >= self._share:
            return ()
        return PLANS[drawn // 100 % len(PLANS)]

    def __call__(self, key: str, number: int) -> Fault | None:
        event, now = (key, number), asyncio.get_running_loop().time()
        plan, attempt = self.plan(key, number), self.attempts[event]
        self.attempts[event] += 1
        if 0 < attempt <= len(plan):
            asked = plan[attempt - 1].retry_after
            if asked and now - self._last[event] < float(asked) * 0.98:
                self.hasty.append(f"{key}-{number} after {now - self._last[event]:.3f} s")
        self._last[event] = now
        return plan[attempt] if attempt < len(plan) else None

    def judge(self, figures: Figures) -> None:
        """Compare how often each event was asked for with what its plan asks for.

        What never goes through may be asked for more often: an attempt that only asks whether the
        sink is back (an open circuit's probe) uses up no retry.
        """
        wrong, probes = [], 0
        for (key, number), attempts in self.attempts.items():
            plan = self.plan(key, number)
            if plan is _NEVER:
                probes += max(0, attempts - len(plan))
                expected = max(attempts, len(plan))
            elif plan and plan[0].status in {400, 401, 413}:
                expected = 1
            else:
                expected = sum(fault.kind != "slow" for fault in plan) + 1
            if attempts != expected:
                kinds = [fault.status if fault.kind == "status" else fault.kind for fault in plan]
                wrong.append(f"{key}-{number}: {attempts}, not {expected}, of {kinds}")
        figures.require(not wrong, f"{len(wrong)} wrong numbers of attempts: {wrong[:5]}")
        figures.require(probes <= MOST_PROBES, f"{probes} attempts beyond the retries")
        figures.require(
            not self.hasty, f"{len(self.hasty)} retries before Retry-After: {self.hasty[:5]}"
        )


async def run(context: Context) -> Figures:
    figures = Figures()
    modes = list(MODES)[:1] if context.short else list(MODES)
    for number, mode in enumerate(modes):
        await _run_mode(context, mode, context.seed + number, figures)
    return figures


async def _run_mode(context: Context, mode: str, seed: int, figures: Figures) -> None:
    faulty, half_open, closed = (3, 1.5, 1) if context.short else (60, 10, 5)
    async with bench(
        context.folder / mode, seed, inputs=("http", "endpoint", "coap"), rate=300,
        delivery={**MODES[mode], **DELIVERY}, neighbour=True,
    ) as made:  # fmt: skip
        steady = made.producers["steady"]
        assert isinstance(steady, HttpProducer)
        made.start_load()
        await asyncio.sleep(0.5)
        calm = await _latencies(steady, 1.5 if context.short else 10)
        script = Script(seed, share=20)
        made.sink.choose = script
        during = await _latencies(steady, faulty)
        await _end_plans(made, script)
        script.judge(figures)
        made.sink.choose = no_fault
        made.sink.freeze()
        during += await _latencies(steady, half_open)
        made.sink.thaw()
        await asyncio.sleep(0.5)
        await made.sink.close()
        during += await _latencies(steady, closed)
        await made.sink.open()
        await made.finish(figures)
    before, after = statistics.median(calm), statistics.median(during)
    figures.notes.append(
        f"ack: {mode}: neighbour's acknowledgement p50 {before * 1000:.1f} ms calm, "
        f"{after * 1000:.1f} ms during faults; p99 {_p99(calm) * 1000:.1f} and "
        f"{_p99(during) * 1000:.1f} ms; {sum(script.attempts.values())} attempts counted"
    )
    figures.require(after < 3 * before + 0.02, "the neighbour's route was slowed down")


async def _latencies(steady: HttpProducer, seconds: float) -> list[float]:
    first = len(steady.seconds)
    await asyncio.sleep(seconds)
    return list(steady.seconds[first:])


async def _end_plans(made: Bench, script: Script) -> None:
    """Stop the load until every plan has come to its end."""
    for name in ("http", "endpoint", "coap"):
        made.producers[name].pause()
    before, quiet = -1, 0
    while quiet < 15:
        await asyncio.sleep(0.1)
        total = sum(script.attempts.values())
        quiet = quiet + 1 if total == before else 0
        before = total
    for name in ("http", "endpoint", "coap"):
        made.producers[name].resume()


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]
