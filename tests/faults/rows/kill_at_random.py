"""Row 1: kill -9 at random moments, load on every input, a sink that fails now and then."""

import asyncio

from tests.faults.bench import MODES, WINDOW, bench
from tests.faults.figures import Figures
from tests.faults.row import Context
from tests.faults.sink import RandomFaults, no_fault

NUMBER = 1
NAME = "kill -9 at random, all inputs, both acknowledgement modes"
BOUND = "200 kills, 0.2 to 1.2 s apart"
SHORT_BOUND = "4 kills"
SECONDS = 900.0
SHORT_SECONDS = 180.0

READY_SECONDS = 2.0
SHARES = {"503": 0.05, "stall": 0.0025, "stored stall": 0.0025, "drop": 0.005}


async def run(context: Context) -> Figures:
    figures = Figures(window=WINDOW)
    undisturbed: list[float] = []
    kills = (4 if context.short else 200) // len(MODES)
    for number, (mode, options) in enumerate(MODES.items()):
        delivery = {"timeout": "PT1S", "backoffDelay": "PT0.05S", "backoffCap": "PT0.5S"} | options
        async with bench(context.folder / mode, context.seed + number, delivery=delivery) as made:
            made.sink.choose = RandomFaults(made.chance, SHARES)
            made.start_load()
            for _ in range(kills):
                await asyncio.sleep(made.chance.uniform(0.2, 1.2))
                await made.kill()
                await made.restart()
            await asyncio.sleep(1)
            made.sink.choose = no_fault
            await made.finish(figures)
        undisturbed.append(made.gateway.ready_seconds[0])
        account = made.ledger.account
        figures.notes.append(
            f"ack: {mode}: {account.acked} acknowledged, {account.unacknowledged()} delivered "
            f"unacknowledged, own duplicates per kill {account.own[1:]}"
        )
        figures.require(not account.own[0], f"{account.own[0]} own duplicates before any kill")
    figures.require(
        figures.own_duplicates_max <= WINDOW,
        f"{figures.own_duplicates_max} own duplicates after one kill, window {WINDOW}",
    )
    # Nearly all, and not worse than a start that nothing disturbs: machines have other work, too.
    ready = sorted(figures.ready)[int(len(figures.ready) * (0.5 if context.short else 0.95))]
    bound = max(READY_SECONDS, 2 * max(undisturbed))
    figures.require(ready <= bound, f"ready again after {ready:.2f} s, at most {bound:.2f} s")
    return figures
