"""Row 4: calls of the disk fail, once or for a while: EIO, ENOSPC, EMFILE, short writes."""

import asyncio
import shutil
from collections import Counter
from dataclasses import dataclass

from tests.faults import platter
from tests.faults.bench import MODES, Bench, bench
from tests.faults.figures import Figures
from tests.faults.launched import LaunchedGateway, count_kill, launched
from tests.faults.row import Context
from tests.faults.sink import Fault, RandomFaults

NUMBER = 4
NAME = "EIO, ENOSPC, EMFILE and short writes at each call of the disk"
BOUND = "114 faults, once or for 0.5 s, power cut after every 3"
SHORT_BOUND = "6 faults, power cut after every 3"
SECONDS = 900.0
SHORT_SECONDS = 180.0

DELIVERY = {
    "timeout": "PT1S", "backoffDelay": "PT0.05S", "backoffCap": "PT0.5S", "retry": 1000,
}  # fmt: skip
AGAIN_SECONDS = 1.0
"""Until something is acknowledged again, once the disk works."""
HOLD_SECONDS = 0.5
FLIGHT_SECONDS = 0.15
"""For acknowledgements that are in sockets when the fault begins."""
_DOWN = Fault("status", 503)


@dataclass(frozen=True)
class Trouble:
    """A call that fails.

    Attributes:
        call: as `Watch.fault` knows it.
        error: name of an errno, or SHORT.
        times: how often; None: until it is taken back.
        when: what has to go on so that the call is made: `storing` (the sink is down),
            `delivering`, or `reading` what a sink that was down has left.
    """

    call: str
    error: str
    times: int | None
    when: str

    @property
    def refuses(self) -> bool:
        """Whether nothing can be stored while it lasts."""
        return self.when == "storing" and self.times is None and self.error != "SHORT"


_STORING = [
    ("write segment", ("EIO", "ENOSPC", "SHORT")),
    ("fdatasync segment", ("EIO", "ENOSPC")),
    ("create segment", ("EIO", "ENOSPC", "EMFILE")),
]
_DELIVERING = [
    ("write cursor", ("EIO", "ENOSPC", "SHORT")),
    ("create cursor", ("ENOSPC",)),
    ("fdatasync cursor", ("EIO",)),
    ("fsync_dir", ("EIO",)),
    ("rename", ("EIO",)),
    ("unlink", ("EIO",)),
]
TROUBLES = [
    Trouble(call, error, times, when)
    for when, calls in (
        ("storing", _STORING),
        ("delivering", _DELIVERING),
        ("reading", [("open segment", ("EMFILE", "EIO")), ("read", ("EIO",))]),
    )
    for call, errors in calls
    for error in errors
    for times in (1, None)
]
SHORT_TROUBLES = [
    Trouble("write segment", "ENOSPC", None, "storing"),
    Trouble("fdatasync segment", "EIO", 1, "storing"),
    Trouble("write segment", "SHORT", None, "storing"),
    Trouble("create segment", "EIO", None, "storing"),
    Trouble("fsync_dir", "EIO", None, "delivering"),
    Trouble("open segment", "EIO", None, "reading"),
]
FAULTS_PER_LIFE = 3


async def run(context: Context) -> Figures:
    figures = Figures()
    again: list[float] = []
    troubles = SHORT_TROUBLES if context.short else TROUBLES * 3
    context.chance().shuffle(troubles := list(troubles))
    async with asyncio.TaskGroup() as group:
        for number, mode in enumerate(MODES):
            mine = troubles[number :: len(MODES)]
            group.create_task(_run_mode(context, mode, mine, again, figures))
    calls = Counter(f"{trouble.call} {trouble.error}" for trouble in troubles)
    figures.notes.append(
        f"{len(troubles)} faults at {len(calls)} kinds of calls and errors; acknowledged again "
        f"at most {max(again):.2f} s after the disk worked"
    )
    return figures


async def _run_mode(
    context: Context, mode: str, troubles: list[Trouble], again: list[float], figures: Figures
) -> None:
    offset = list(MODES).index(mode)
    async with bench(
        context.folder / mode, context.seed + offset, inputs=("http", "endpoint", "coap"),
        rate=400, delivery=MODES[mode] | DELIVERY, process=LaunchedGateway,
        state={"max_bytes": "16MiB"},
    ) as made:  # fmt: skip
        made.start_load()
        for position, trouble in enumerate(troubles, 1):
            made.ledger.remark(f"{trouble}")
            again.append(await _try(made, mode, trouble, figures, context.patience))
            if position % FAULTS_PER_LIFE == 0:
                await _cut(made)
        made.sink.choose = RandomFaults(made.chance, {})
        await made.finish(figures, seconds=20)


async def _try(
    made: Bench, mode: str, trouble: Trouble, figures: Figures, patience: float
) -> float:
    """Have a call fail; returns the seconds from its end until something is acknowledged."""
    gateway, account = launched(made), made.ledger.account
    loop = asyncio.get_running_loop()
    what = f"ack: {mode}: {trouble.call} {trouble.error} x {trouble.times or 'many'}"
    if trouble.when != "delivering":
        made.sink.choose = lambda _key, _number: _DOWN
        await asyncio.sleep(0.2 if trouble.when == "storing" else 1.0)
    else:
        made.sink.choose = RandomFaults(made.chance, {"503": 0.1})
    served = _served(gateway)
    fault = {"call": trouble.call, "error": trouble.error}
    gateway.order(faults=[fault if trouble.times is None else fault | {"times": trouble.times}])
    if trouble.when == "reading":
        made.sink.choose = RandomFaults(made.chance, {})
    deadline = loop.time() + 8 * patience
    while _served(gateway) == served and loop.time() < deadline:
        await asyncio.sleep(0.01)
    figures.require(_served(gateway) > served, f"{what}: the call was never made")
    await asyncio.sleep(FLIGHT_SECONDS)
    if trouble.times is None:
        acked = account.acked
        await asyncio.sleep(HOLD_SECONDS)
        figures.require(
            not trouble.refuses or account.acked == acked,
            f"{what}: {account.acked - acked} acknowledged while nothing could be stored",
        )
    gateway.order(faults=None)
    acked, began = account.acked, loop.time()
    while account.acked == acked and loop.time() < began + 10:
        await asyncio.sleep(0.005)
    took = loop.time() - began
    figures.require(
        took <= AGAIN_SECONDS * patience, f"{what}: acknowledged again after {took:.1f} s"
    )
    return took


def _served(gateway: LaunchedGateway) -> int:
    return sum(line[0] == "fault" for line in gateway.journal())


async def _cut(made: Bench) -> None:
    """Kill it, leave nothing of what was not synced, and start it again."""
    gateway = launched(made)
    await gateway.kill_hard()
    count_kill(made)
    left = platter.read(gateway.journal(), gateway.lane)
    shutil.rmtree(gateway.lane)
    platter.leave(left, gateway.attic, gateway.lane, None)
    await made.restart()
