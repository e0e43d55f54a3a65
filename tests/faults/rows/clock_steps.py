"""Row 11: the time of day jumps; waits, timeouts and memories go by another clock."""

import asyncio
import contextlib
import http.client
import math
import sqlite3
import time
import zlib
from collections import defaultdict
from datetime import datetime
from pathlib import Path

from bindings.json_format import decode_event
from tests.e2e.servers import HOST
from tests.faults.bench import MODES, WINDOW, Bench, bench
from tests.faults.figures import Figures
from tests.faults.launched import LaunchedGateway, launched
from tests.faults.row import Context
from tests.faults.sample import split_id
from tests.faults.sink import Fault

NUMBER = 11
NAME = "clock steps of 1 h either way and of 0.4 s"
BOUND = "25 steps per acknowledgement mode, 2 kills"
SHORT_BOUND = "4 steps, 1 kill"
SECONDS = 300.0
SHORT_SECONDS = 180.0

TIMEOUT, DELAY, RETRY_AFTER = 0.5, 0.3, 1
DELIVERY = {
    "timeout": "PT0.5S", "backoffDelay": "PT0.3S", "backoffPolicy": "linear", "retry": 1000,
}  # fmt: skip
WINDOW_SECONDS = 120
"""Of deduplication: longer than the row, shorter than the steps."""
STEPS = (3600.0, -3600.0, 0.4, -0.4, 7200.0, -86400.0, 0.0)
EARLY, LATE = 0.15, 2.0
"""Seconds that an attempt may seem early, as the one before was seen late, or come late: keys wait
for one another, and the machine is shared."""
_MISSING, _STALL = Fault("status", 404), Fault("stall")
_BUSY = Fault("status", 429, retry_after=str(RETRY_AFTER))
_REFUSAL = Fault("status", 400)
PLANS = {
    0: (_MISSING, _MISSING), 1: (_MISSING, _MISSING), 2: (_STALL,), 3: (_BUSY,), 4: (_BUSY,),
    5: (_REFUSAL,), 6: (_REFUSAL,),
}  # fmt: skip
"""What goes wrong with the attempts of an event in 400, by the remainder. It is so little that the
sink is never taken to be down, for then it is asked by other rules."""


class Script:
    """Knows when each attempt should have come, and what time the gateway thought it was.

    Attributes:
        wrong: attempts that came too early or too late.
        waits: how many were measured.
        refused: when an event was refused for good, in Unix seconds.
    """

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.waits = 0
        self.refused: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
        self._clocks = [(0.0, 0.0)]  # from when on the gateway's is how wrong
        self._attempts: defaultdict[tuple[str, int], list[float]] = defaultdict(list)

    def __call__(self, key: str, number: int) -> Fault | None:
        plan = PLANS.get(zlib.crc32(f"{key}/{number}".encode()) % 400)
        if plan is None:
            return None
        attempts, now = self._attempts[key, number], time.monotonic()
        attempts.append(now)
        made = len(attempts)
        if 1 < made <= len(plan) + 1:
            self._judge(f"{key}-{number}", plan[made - 2], made - 1, now - attempts[-2])
        if made > len(plan):
            return None
        if plan[made - 1] is _REFUSAL:
            self.refused[key, number].append(time.time())
        return plan[made - 1]

    def step(self, made: Bench, clock: float) -> None:
        """Set the gateway's clock wrong by so many seconds."""
        self._clocks.append((time.time(), clock))
        launched(made).order(clock=clock)

    def clocks(self, start: float, end: float) -> set[float]:
        """Return how wrong the gateway's clock was in some time."""
        later = [began for began, _ in self._clocks[1:]] + [math.inf]
        return {
            clock
            for (began, clock), ended in zip(self._clocks, later, strict=True)
            if began <= end and ended >= start
        }

    def forget(self) -> None:
        """The gateway was killed: what it was waiting for begins anew."""
        self._attempts.clear()

    def _judge(self, name: str, fault: Fault, retry: int, waited: float) -> None:
        least = DELAY * retry
        if fault is _STALL:
            least += TIMEOUT
        elif fault is _BUSY:
            least = max(least, RETRY_AFTER)
        self.waits += 1
        if not least - EARLY <= waited <= least + LATE:
            self.wrong.append(f"{name}: {waited:.2f} s after {fault.kind}, not {least:.2f} s")


async def run(context: Context) -> Figures:
    figures = Figures(window=WINDOW)
    for offset, mode in enumerate(["stored"] if context.short else MODES):
        await _run_mode(context, mode, offset, figures)
    return figures


async def _run_mode(context: Context, mode: str, offset: int, figures: Figures) -> None:
    inputs = ("http", "endpoint", "coap")
    route = {
        "name": "faults", "from": list(inputs), "to": ["out"],
        "dedup": {"window": f"PT{WINDOW_SECONDS}S"},
    }  # fmt: skip
    async with bench(
        context.folder / mode, context.seed + offset, inputs=inputs, rate=300, keys=40,
        delivery=MODES[mode] | DELIVERY, process=LaunchedGateway, routes=[route],
        state={"max_bytes": "64MiB"},
    ) as made:  # fmt: skip
        script = made.sink.choose = Script()
        made.start_load()
        await asyncio.sleep(0.5 if context.short else 1)
        steps = STEPS[:4] if context.short else [made.chance.choice(STEPS) for _ in range(25)]
        for position, clock in enumerate(steps):
            script.step(made, clock)
            await asyncio.sleep(0.5 if context.short else made.chance.uniform(0.5, 2))
            await _send_again(made, figures, f"clock {clock:+}")
            if clock < 0 and position in (1, 12):
                await made.kill()
                script.forget()
                await made.restart()
                # With `sink`, nothing of them need ever have been on disk: once more is once more.
                new = Figures() if mode == "sink" else figures
                await _send_again(made, new, f"clock {clock:+}, restarted")
        await asyncio.sleep(1)
        await made.finish(figures)
        worst = _worst_time(Path(made.gateway.config["state"]["path"]), script)
    own = made.ledger.account.own
    figures.require(not own[0], f"ack: {mode}: {own[0]} own duplicates before any kill")
    figures.require(max(own) <= WINDOW, f"ack: {mode}: own duplicates per kill {own[1:]}")
    figures.require(
        not script.wrong, f"{len(script.wrong)} attempts at wrong times: {script.wrong[:5]}"
    )
    figures.require(script.waits, "no waits were measured")
    figures.require(worst < LATE, f"a dead letter's time is wrong by {worst:.1f} s")
    figures.notes.append(
        f"ack: {mode}: {len(steps)} steps, {script.waits} waits as long as they should be; dead "
        f"letters have the clock's time, within {worst:.2f} s"
    )


async def _send_again(made: Bench, figures: Figures, what: str) -> None:
    """Send each key's first event once more: it is acknowledged and goes no further."""
    account = made.ledger.account
    keys = [
        key
        for key in made.producers["http"].keys
        if account.arrivals(key, 0) and zlib.crc32(f"{key}/0".encode()) % 400 not in PLANS
    ]
    before = [account.arrivals(key, 0) for key in keys]
    bodies = [made.sample.structured(key, 0) for key in keys]
    answers = await asyncio.to_thread(_post, made.gateway.ports["http"], bodies)
    figures.require(set(answers) == {202}, f"{what}: duplicates are answered {set(answers)}")
    await asyncio.sleep(0.2)
    more = sum(account.arrivals(key, 0) for key in keys) - sum(before)
    figures.require(not more, f"{what}: {more} duplicates went to the sink")


def _post(port: int, bodies: list[bytes]) -> list[int]:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    answers = []
    with contextlib.closing(connection):
        for body in bodies:
            headers = {"Content-Type": "application/cloudevents+json"}
            connection.request("POST", "/", body, headers)
            answer = connection.getresponse()
            answer.read()
            answers.append(answer.status)
    return answers


def _worst_time(state: Path, script: Script) -> float:
    """Return the greatest difference of a dead letter's time from the clock's at its refusal."""
    worst = 0.0
    with contextlib.closing(sqlite3.connect(state / "dead-letters" / "letters.db")) as database:
        letters = database.execute("SELECT event, last_time FROM letters").fetchall()
    for event, last_time in letters:
        name = split_id(decode_event(event).id)
        if name in script.refused:
            said = datetime.fromisoformat(last_time).timestamp()
            # A list has ended when its last event has, which may have had to wait for a timeout.
            wrong = min(
                abs(said - clock - moment)
                for moment in script.refused[name]
                for clock in script.clocks(moment - 0.1, moment + TIMEOUT + 0.5)
            )
            worst = max(worst, wrong)
    return worst
