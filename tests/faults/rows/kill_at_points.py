"""Row 2: kill -9 at each line of what makes an event durable, and of what takes it off the disk."""

import asyncio
import zlib
from collections import Counter

from tests.faults.bench import MODES, Bench, bench
from tests.faults.figures import Figures
from tests.faults.launched import LaunchedGateway, count_kill, launched
from tests.faults.row import Context
from tests.faults.sink import Fault, RandomFaults

NUMBER = 2
NAME = "kill -9 at named points of the spool and the dead letters"
BOUND = "each point 6 times, 3 per acknowledgement mode"
SHORT_BOUND = "each point once"
SECONDS = 900.0
SHORT_SECONDS = 180.0

POINTS = {
    "mid_write": 40,  # the first half of a commit is written
    "after_write": 40,  # not synced
    "after_fsync": 40,  # synced, nobody knows
    "before_ack": 40,  # stored, some of the answers given
    "after_sink_ok": 60,  # the sink has it, the log doesn't know
    "before_checkpoint": 8,
    "cursor_created": 8,  # cursor.new is empty
    "after_checkpoint_write": 5,  # not renamed
    "after_checkpoint_rename": 5,
    "after_synced_checkpoint_write": 3,
    "after_synced_checkpoint_rename": 3,  # the folder not synced
    "mid_roll_created": 3,  # the new segment is empty
    "mid_roll_head": 3,  # not synced
    "before_trim": 2,  # the cursor is in place
    "mid_trim": 1,  # between two segments
    "after_trim": 2,
    "mid_dead_letter_inserted": 2,  # not committed
    "mid_dead_letter_committed": 2,  # still in the spool
}
"""Points and how often, at most, each is passed before the kill."""
PATIENCE = 15.0
"""Seconds in which a point has to be reached."""
DELIVERY = {
    "timeout": "PT1S", "backoffDelay": "PT0.05S", "backoffCap": "PT0.5S", "retry": 1000,
}  # fmt: skip
SHARES = {"503": 0.05, "stall": 0.002, "stored stall": 0.002, "drop": 0.005}
_REFUSAL = Fault("status", 400)


class Trouble(RandomFaults):
    """A sink that refuses some events for good and fails at random with others."""

    def __call__(self, key: str, number: int) -> Fault | None:
        if zlib.crc32(f"{key}/{number}".encode()) % 50 == 0:
            return _REFUSAL
        return super().__call__(key, number)


async def run(context: Context) -> Figures:
    # No bound for duplicates: at most points the cursor is as old as it can be.
    figures = Figures()
    reached: Counter[str] = Counter()
    points = list(POINTS)
    context.chance().shuffle(points)
    async with asyncio.TaskGroup() as group:  # most of the time is spent waiting for starts
        for number, mode in enumerate(MODES):
            mine = points[number::2] if context.short else points * 3
            group.create_task(_run_mode(context, mode, mine, reached, figures))
    missed = [point for point in POINTS if not reached[point]]
    figures.require(not missed, f"never reached: {missed}")
    figures.notes.append(
        f"{len(reached)} of {len(POINTS)} points reached: "
        + ", ".join(f"{point} {reached[point]}" for point in POINTS)
    )
    return figures


async def _run_mode(
    context: Context, mode: str, points: list[str], reached: Counter[str], figures: Figures
) -> None:
    offset = list(MODES).index(mode)
    async with bench(
        context.folder / mode, context.seed + offset, inputs=("http", "endpoint", "coap"),
        rate=600, delivery=MODES[mode] | DELIVERY, process=LaunchedGateway,
        state={"max_bytes": "16MiB"},
    ) as made:  # fmt: skip
        made.sink.choose = Trouble(made.chance, SHARES)
        made.start_load()
        for point in points:
            if await _kill_at(made, point):
                reached[point] += 1
            else:
                figures.problems.append(f"ack: {mode}: {point} was not reached")
        await asyncio.sleep(0.5)
        await made.finish(figures)
    own = made.ledger.account.own
    figures.notes.append(f"ack: {mode}: own duplicates per kill {own[1:]}")
    figures.require(not own[0], f"ack: {mode}: {own[0]} own duplicates before any kill")


async def _kill_at(made: Bench, point: str) -> bool:
    """Have the gateway kill itself at a point, and start it again; returns whether it did."""
    gateway = launched(made)
    gateway.order(crash={"point": point, "hit": made.chance.randint(1, POINTS[point])})
    if not await gateway.has_ended(0.3):
        # Nothing delivered for a while, then much at once: whole segments are done together.
        await made.sink.close()
        await asyncio.sleep(0.5)
        await made.sink.open()
    has_ended = await gateway.has_ended(PATIENCE)
    gateway.order(crash=None)
    if not has_ended:
        return False
    count_kill(made)
    journal = gateway.journal()
    await made.restart()
    return ["crash", point] in journal
