"""Row 10: SIGTERM under load, a second SIGTERM, and SIGTERM while the sink is stuck."""

import asyncio

from tests.faults.bench import MODES, Bench, bench
from tests.faults.figures import Figures
from tests.faults.row import Context
from tests.faults.sink import RandomFaults

NUMBER = 10
NAME = "SIGTERM under load, a second one, a stuck sink"
BOUND = "20 SIGTERMs, 3 of them repeated, 3 with a stuck sink"
SHORT_BOUND = "3 SIGTERMs, 1 of them repeated, 1 with a stuck sink"
SECONDS = 400.0
SHORT_SECONDS = 180.0

EXIT_SECONDS = 10.0
AT_ONCE_SECONDS = 1.0
WITHOUT_SPOOL = {"sink, no spool": {"ack": "sink", "spool": "off", "dead_letters": "off"}}
SHARES = {"503": 0.05, "drop": 0.005}
DRAIN = {"grace": "PT8S"}
SHORT_DRAIN = {"grace": "PT3S"}


async def run(context: Context) -> Figures:
    figures = Figures()
    ends: list[float] = []
    for number, (mode, options) in enumerate({**MODES, **WITHOUT_SPOOL}.items()):
        # No answer fails to come but from the stuck sink: on a busy machine one may take a second.
        delivery = {"timeout": "PT5S", "backoffDelay": "PT0.05S", "backoffCap": "PT0.5S"} | options
        if context.short and number:
            continue
        async with bench(
            context.folder / str(number), context.seed + number, delivery=delivery,
            drain=SHORT_DRAIN if context.short else DRAIN,
        ) as made:  # fmt: skip
            faults = made.sink.choose = RandomFaults(made.chance, SHARES)
            made.start_load()
            ends += [await _stop(made, figures) for _ in range(1 if context.short else 5)]
            own = sum(made.ledger.account.own)
            if mode in MODES:
                figures.require(not own, f"ack: {mode}: {own} own duplicates after SIGTERM alone")
            else:  # what was released lets the stream begin again before it
                figures.notes.append(f"ack: {mode}: {own} own duplicates after SIGTERM alone")
            # What the sink was given and may have stored can't be told from here on.
            made.sink.freeze()
            ends.append(await _stop(made, figures))
            made.sink.thaw()
            made.sink.choose = faults
            await asyncio.sleep(1)
            made.sink.freeze()
            await asyncio.sleep(0.5)
            took = await made.terminate(again_after=0.5)
            figures.notes.append(f"ack: {mode}: second SIGTERM: end {took - 0.5:.2f} s later")
            figures.require(
                took < 0.5 + AT_ONCE_SECONDS * context.patience,
                f"the end after a second SIGTERM took {took:.1f} s",
            )
            made.sink.thaw()
            await made.restart()
            await asyncio.sleep(1)
            await made.finish(figures)
    figures.notes.append(f"exit after SIGTERM: at most {max(ends):.2f} s, {len(ends)} times")
    figures.require(max(ends) <= EXIT_SECONDS, f"an exit took {max(ends):.1f} s")
    return figures


async def _stop(made: Bench, figures: Figures) -> float:
    """SIGTERM after a while, and start again; returns the seconds until the end."""
    await asyncio.sleep(made.chance.uniform(0.3, 1.3))
    took = await made.terminate()
    code = made.gateway.returncode
    figures.require(code == 0, f"exit code {code} after SIGTERM")
    await made.restart()
    return took
