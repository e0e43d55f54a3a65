"""Row 15: keys whose events the sink refuses, or never takes, hold up nobody but themselves."""

import asyncio
import statistics

from tests.faults.bench import MODES, Bench, bench
from tests.faults.figures import Figures
from tests.faults.producers.http import HttpProducer
from tests.faults.row import Context
from tests.faults.sink import Fault

NUMBER = 15
NAME = "poison keys: one is always refused, one never taken"
BOUND = "60 s at 300 events/s, both acknowledgement modes"
SHORT_BOUND = "4 s at 300 events/s"
SECONDS = 300.0
SHORT_SECONDS = 180.0

RETRY = 3
DELIVERY = {"retry": RETRY, "backoffDelay": "PT0.01S", "backoffCap": "PT0.05S"}
REFUSED = {"http-00", "endpoint-00", "jetstream-00"}
STUCK = {"http-01", "endpoint-01", "jetstream-01"}
_REFUSAL = Fault("status", 400)
_NEVER = Fault("status", 503, is_final=True)
QUIET_SECONDS = 1.5
FEW_HELD = 5
"""Events under way or in the spool at any moment of a load that flows."""


def choose(key: str, number: int) -> Fault | None:
    if key in REFUSED:
        return _REFUSAL
    return _NEVER if key in STUCK else None


async def run(context: Context) -> Figures:
    figures = Figures()
    modes = list(MODES)[:1] if context.short else list(MODES)
    seconds, rate = (4, 300) if context.short else (60, 300)
    for offset, mode in enumerate(modes):
        async with bench(
            context.folder / mode, context.seed + offset, inputs=("http", "endpoint", "jetstream"),
            rate=rate, delivery={**MODES[mode], **DELIVERY}, limits={"inflight": 1000},
        ) as made:  # fmt: skip
            made.start_load()
            await asyncio.sleep(1)
            made.sink.choose = choose
            sender = made.producers["http"]
            assert isinstance(sender, HttpProducer)
            first = len(sender.seconds)
            await asyncio.sleep(seconds)
            during = sorted(sender.seconds[first:])
            left = await _end_poison(made, 20 if context.short else 60)
            await made.stop_load()
            await made.settle(10)
            spooled = await made.held()
            await made.finish(figures)
        account = made.ledger.account
        figures.notes.append(
            f"ack: {mode}: {account.dead_letters} dead letters, acknowledgement over HTTP "
            f"p50 {statistics.median(during) * 1000:.1f} ms, "
            f"p99 {during[int(len(during) * 0.99)] * 1000:.1f} ms, {spooled:.0f} left in the spool"
        )
        figures.require(account.dead_letters, "there are no dead letters")
        figures.require(spooled <= FEW_HELD, f"{spooled:.0f} events are still in the spool")
        figures.require(
            len(during) > 0.5 * rate / 3 * seconds / context.patience,
            f"only {len(during)} events over HTTP in {seconds} s",
        )
        figures.require(not left, f"{left} poison events are no dead letters yet")
        own = sum(account.own)
        figures.require(not own, f"{own} own duplicates without a kill")
    return figures


async def _end_poison(made: Bench, seconds: float) -> float:
    """Let only the other keys send on; returns how many events are held after `seconds` or so.

    Without the others' success nothing tells an event that always fails from a sink that is down.
    """
    for producer in made.producers.values():
        producer.silent = REFUSED | STUCK
    loop = asyncio.get_running_loop()
    deadline, since = loop.time() + seconds, loop.time()
    held = 0.0
    while loop.time() < min(deadline, since + QUIET_SECONDS):
        held = await made.held()
        if held > FEW_HELD:
            since = loop.time()
        await asyncio.sleep(0.1)
    return held if held > FEW_HELD else 0
