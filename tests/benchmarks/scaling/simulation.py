"""Pods under a fleet's load: a queue that is emptied in lists, fed by reports and reconnections.

A pod is one process on one core. When it is free it takes all that waits, up to `MOST` events, and
is busy for `per_list + per_event * events`: that is what the gateway does with a read, and why its
cost per event falls as load rises. Pods don't know of each other and get equal shares of the
devices, so one of them is simulated.
"""

import math
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

MOST: Final = 256
"""Events of a list."""
PERIOD: Final = 60.0
"""Seconds between two reports of a device."""
Pattern = Literal["spread", "aligned", "reconnect"]

PATTERNS: Final[dict[Pattern, str]] = {
    "spread": "reports at any time of the minute",
    "aligned": "all report within the first 2 s of the minute",
    "reconnect": "all reconnect within 30 s after a restart, and report",
}
_ALIGNED_WITHIN: Final = 2.0
_RECONNECT_WITHIN: Final = 30.0


@dataclass(frozen=True)
class Costs:
    """What was measured, in seconds and bytes.

    Attributes:
        per_list: CPU time of a list, however long.
        per_event: CPU time of an event in it.
        per_connect: CPU time of a device's connecting.
        base_bytes: resident memory of a pod without devices.
        device_bytes: resident memory of a connected device.
        event_bytes: resident memory of an event that waits.
    """

    per_list: float
    per_event: float
    per_connect: float
    base_bytes: float
    device_bytes: float
    event_bytes: float

    def busy(self, events: int) -> float:
        """Return how long a list of that many keeps a core busy."""
        return self.per_list + self.per_event * events


@dataclass(frozen=True)
class Pod:
    """What a pod went through in a minute.

    Attributes:
        load: share of the minute that its core was busy.
        p50, p99, longest: seconds until an event's list was through.
        waiting: the most events that waited at once.
        mib: resident memory then.
        seconds: until nothing waited any more, from the minute's start.
    """

    load: float
    p50: float
    p99: float
    longest: float
    waiting: int
    mib: float
    seconds: float


def simulate(devices: int, pods: int, pattern: Pattern, costs: Costs, seed: int = 1) -> Pod:
    """Return what one of the pods goes through in one minute, in which each device reports once.

    After a restart a report is worth a connection and an event.
    """
    mine = math.ceil(devices / pods)
    arrivals = _arrivals(mine, pattern, random.Random(seed))
    per_event = costs.per_event + (costs.per_connect if pattern == "reconnect" else 0.0)
    waits = array("d", bytes(8 * mine))
    now = busy = 0.0
    done = known = most = 0
    while done < mine:
        now = max(now, arrivals[done])
        while known < mine and arrivals[known] <= now:
            known += 1
        most = max(most, known - done)
        size = min(known - done, MOST)
        spent = costs.per_list + per_event * size
        now += spent
        busy += spent
        for position in range(done, done + size):
            waits[position] = now - arrivals[position]
        done += size
    ordered = sorted(waits)
    memory = costs.base_bytes + mine * costs.device_bytes + most * costs.event_bytes
    return Pod(
        load=busy / max(now, PERIOD),
        p50=ordered[mine // 2],
        p99=ordered[min(math.ceil(mine * 0.99), mine) - 1],
        longest=ordered[-1],
        waiting=most,
        mib=memory / 2**20,
        seconds=now,
    )


def _arrivals(count: int, pattern: Pattern, chance: random.Random) -> Sequence[float]:
    within = {"spread": PERIOD, "aligned": _ALIGNED_WITHIN, "reconnect": _RECONNECT_WITHIN}[pattern]
    return sorted(chance.random() * within for _ in range(count))


@dataclass(frozen=True)
class Need:
    """Pods that a fleet needs, by what limits them.

    Attributes:
        for_cpu: so that a core is busy for `share` of the time, at the cost in full lists.
        for_memory: so that connected devices fit.
    """

    for_cpu: int
    for_memory: int

    @property
    def pods(self) -> int:
        return max(self.for_cpu, self.for_memory)


def need(devices: int, costs: Costs, *, share: float = 0.5, pod_mib: float = 1024) -> Need:
    """Return the pods for a fleet that reports evenly, each device once a minute."""
    cores = devices / PERIOD * (costs.per_event + costs.per_list / MOST)
    room = pod_mib * 2**20 - costs.base_bytes
    return Need(
        max(math.ceil(cores / share), 1), max(math.ceil(devices * costs.device_bytes / room), 1)
    )
