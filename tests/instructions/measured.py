"""The process whose instructions are counted: `python -m tests.instructions.measured WORKLOAD`."""

import gc
import os
import sys
from typing import Final

from tests.instructions.counting import Counter
from tests.instructions.workloads import WORKLOADS

EVENTS: Final = 2048
"""Events that are counted."""


def main(name: str) -> None:
    """Warm up, then do the work with counting on."""
    workload = WORKLOADS[name]
    workload(0, EVENTS)()
    work = workload(EVENTS, EVENTS)
    counter = Counter()
    gc.collect()
    gc.freeze()
    gc.disable()
    with counter.counting():
        work()
    os._exit(0)  # threads and loops need no farewell


if __name__ == "__main__":
    main(sys.argv[1])
