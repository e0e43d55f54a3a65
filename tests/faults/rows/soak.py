"""Row 16: everything at random for a long time, then a calm end in which nothing may grow."""

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from tests.faults.bench import MODES, WINDOW, Bench, bench
from tests.faults.figures import Figures
from tests.faults.row import Context
from tests.faults.sink import RandomFaults, no_fault

NUMBER = 16
NAME = "soak: kills, stops, SIGTERM, brokers restarted, sink down, half-open and faulty, at random"
BOUND = "10 min (`--minutes N`)"
SHORT_BOUND = "12 s"
SECONDS = 900.0
SHORT_SECONDS = 180.0

DELIVERY = {
    "timeout": "PT1S", "backoffDelay": "PT0.05S", "backoffCap": "PT1S", "retry": 1000,
}  # fmt: skip
CALM_SHARE = 0.3
"""The last part of the time is without restarts: memory and descriptors are watched."""
GROWN_MIB = 10.0
GROWN_DESCRIPTORS = 64
"""The pools of connections breathe; a leak grows with time."""


async def run(context: Context) -> Figures:
    figures = Figures(window=WINDOW)
    minutes = context.minutes or (0.2 if context.short else 10.0)
    mode = list(MODES)[context.seed % len(MODES)] if context.short else None
    for offset, name in enumerate([mode] if mode else MODES):
        seconds = minutes * 60 / (1 if mode else len(MODES))
        await _soak(context, name, context.seed + offset, seconds, figures)
    figures.require(
        figures.own_duplicates_max <= WINDOW,
        f"{figures.own_duplicates_max} own duplicates after one kill, window {WINDOW}",
    )
    return figures


async def _soak(context: Context, mode: str, seed: int, seconds: float, figures: Figures) -> None:
    done: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    async with bench(
        context.folder / mode, seed, rate=600, delivery={**MODES[mode], **DELIVERY}
    ) as made:
        made.start_load()
        end = loop.time() + seconds * (1 - CALM_SHARE)
        names = list(ACTIONS)
        while loop.time() < end:
            name = made.chance.choice(names)
            made.ledger.remark(name)
            await ACTIONS[name](made)
            done[name] += 1
            await asyncio.sleep(made.chance.uniform(0.1, 1.0))
        made.sink.choose = RandomFaults(made.chance, {"503": 0.02, "drop": 0.005})
        await _watch(made, seconds * CALM_SHARE, figures, mode)
        made.sink.choose = no_fault
        await made.finish(figures)
    figures.notes.append(
        f"ack: {mode}: " + ", ".join(f"{count} x {name}" for name, count in done.items())
    )


async def _watch(made: Bench, seconds: float, figures: Figures, mode: str) -> None:
    """Let it run without restarts and compare memory and descriptors with the beginning."""
    warm = seconds / 3
    await asyncio.sleep(warm)
    memory, descriptors = made.gateway.anonymous_mib(), made.gateway.descriptors()
    await asyncio.sleep(seconds - warm)
    grown = made.gateway.anonymous_mib() - memory
    opened = made.gateway.descriptors() - descriptors
    figures.notes.append(
        f"ack: {mode}: in the last {seconds - warm:.0f} s memory grew by {grown:.1f} MiB, "
        f"{opened:+d} descriptors"
    )
    figures.require(grown < GROWN_MIB, f"memory grew by {grown:.1f} MiB in {seconds - warm:.0f} s")
    figures.require(opened < GROWN_DESCRIPTORS, f"{opened} descriptors more")


async def _kill(made: Bench) -> None:
    await made.kill()
    await made.restart()


async def _terminate(made: Bench) -> None:
    await made.terminate()
    await made.restart()


async def _suspend(made: Bench) -> None:
    made.gateway.signal(signal.SIGSTOP)
    await asyncio.sleep(made.chance.uniform(0.2, 2))
    made.gateway.signal(signal.SIGCONT)


async def _close_sink(made: Bench) -> None:
    await made.sink.close()
    await asyncio.sleep(made.chance.uniform(0.5, 4))
    await made.sink.open()


async def _freeze_sink(made: Bench) -> None:
    made.sink.freeze()
    await asyncio.sleep(made.chance.uniform(0.2, 3))
    made.sink.thaw()


async def _spoil_sink(made: Bench) -> None:
    """Other shares of faults from now on."""
    names = made.chance.sample(sorted(RandomFaults.FAULTS), 4)
    shares = {name: made.chance.uniform(0, 0.05) for name in names}
    made.sink.choose = RandomFaults(made.chance, shares)


async def _restart_mosquitto(made: Bench) -> None:
    await _restart(made, "mosquitto")


async def _restart_nats(made: Bench) -> None:
    await _restart(made, "nats-server")


async def _restart(made: Bench, broker: str) -> None:
    """Stop it in peace, so that it keeps what it has taken and what was acknowledged to it.

    Killed brokers are row 6's: they forget acknowledgements, and how many comes from them again is
    not the gateway's doing.
    """
    await asyncio.to_thread(made.brokers[broker].stop)
    await asyncio.to_thread(made.brokers[broker].start)


ACTIONS: Mapping[str, Callable[[Bench], Awaitable[None]]] = {
    "kill -9": _kill,
    "SIGTERM": _terminate,
    "SIGSTOP": _suspend,
    "sink closed": _close_sink,
    "sink half-open": _freeze_sink,
    "sink's faults": _spoil_sink,
    "mosquitto restarted": _restart_mosquitto,
    "nats-server restarted": _restart_nats,
}
