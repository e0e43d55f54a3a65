"""Python's cyclic garbage collector, in a process that passes events on.

Events hold no cycles: reference counts free them. But each is a dozen containers, and hundreds of
events under way made the collector look at all of them every 700 allocations, for nothing. Cycles
come of exceptions and closed connections; those it still finds.
"""

import gc
from typing import Final

_ALLOCATIONS: Final = 20_000
"""More containers than at the last look, before it looks again: more than a full window has."""


def settle_collector() -> None:
    """Let the collector look rarely, and never again at what the start has made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, 20, 50)
