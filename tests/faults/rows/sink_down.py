"""Row 9: the sink is down for minutes under full load; what gathers goes to disk, not to memory."""

import asyncio

from tests.faults.bench import MODES, Bench, bench
from tests.faults.figures import Figures
from tests.faults.row import Context

NUMBER = 9
NAME = "sink down under load"
BOUND = "5 min at 2000 events/s"
SHORT_BOUND = "6 s at 500 events/s"
SECONDS = 900.0
SHORT_SECONDS = 180.0

MOST_MIB = 120.0
FLAT_MIB = 10.0
DRAIN_FACTOR = 3.0
DELIVERY = {"backoffDelay": "PT0.1S", "backoffCap": "PT2S", "retry": 1000}


async def run(context: Context) -> Figures:
    figures = Figures()
    seconds, rate, warm = (6.0, 500.0, 2.0) if context.short else (300.0, 2000.0, 30.0)
    async with bench(
        context.folder, context.seed, inputs=("http", "endpoint"), rate=rate, keys=40,
        delivery={**MODES["sink"], **DELIVERY}, limits={"inflight": 1000},
        state={"max_bytes": "4GiB"},
    ) as made:  # fmt: skip
        made.start_load()
        await asyncio.sleep(1)
        await made.sink.close()
        memory = await _watch_memory(made, warm, seconds)
        account = made.ledger.account
        backlog, intake = account.outstanding, (account.acked / (1 + seconds))
        figures.require(
            intake > 0.5 * rate, f"only {intake:.0f} events/s were taken while the sink was down"
        )
        await made.sink.open()
        drained = await _drain(made, backlog)
        await made.finish(figures, seconds=120)
    figures.rss_mib = max(figures.rss_mib, memory[1])
    flat = memory[3] - memory[2]
    figures.notes.append(
        f"{intake:.0f} events/s taken, {backlog} waiting, drained at {drained:.0f} events/s; "
        f"anonymous memory {memory[0]:.1f} MiB before, {memory[2]:.1f} to {memory[3]:.1f} MiB "
        f"after {warm:.0f} s"
    )
    figures.require(
        drained >= DRAIN_FACTOR * intake,
        f"drained at {drained:.0f} events/s, intake {intake:.0f} events/s",
    )
    figures.require(
        figures.rss_mib <= MOST_MIB, f"{figures.rss_mib:.0f} MiB resident, at most {MOST_MIB:.0f}"
    )
    figures.require(flat <= FLAT_MIB, f"memory is not flat: {flat:.1f} MiB")
    return figures


async def _watch_memory(made: Bench, warm: float, seconds: float) -> list[float]:
    """Return anonymous memory at first, most resident, least and most anonymous when warm."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    first, peak, warm_values = made.gateway.anonymous_mib(), 0.0, []
    while loop.time() < began + seconds:
        await asyncio.sleep(0.5)
        peak = max(peak, made.gateway.memory_mib())
        if loop.time() > began + warm:
            warm_values.append(made.gateway.anonymous_mib())
    return [first, peak, min(warm_values), max(warm_values)]


async def _drain(made: Bench, backlog: int) -> float:
    """Return events per second at the sink from its first one until the backlog is gone."""
    loop, account = asyncio.get_running_loop(), made.ledger.account
    deadline, before = loop.time() + 300, account.delivered
    while account.delivered == before and loop.time() < deadline:
        await asyncio.sleep(0.01)
    before, began = account.delivered, loop.time()
    while account.outstanding > backlog * 0.02 and loop.time() < deadline:
        await asyncio.sleep(0.01)
    return (account.delivered - before) / max(loop.time() - began, 0.01)
