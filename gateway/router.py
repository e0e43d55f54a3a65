"""Which routes an event takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bindings.event import Event
from gateway.retry import RetryPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route of the configuration, ready to run.

    Attributes:
        name: its label in metrics and logs.
        sources: names of sources it listens to; None means all.
        matches: its filter; None lets everything pass.
        sinks: names of the sinks that all have to accept.
        policy: when to try again.
        timeout: seconds for one attempt; None is the sink's own default.
        dead_letter_sink: name of the sink that takes what could not be delivered.
        inflight: most events under way.
        spool: whether events go to disk while a sink is in trouble.
        stored: whether every event goes to disk first, and is answered for then.
        spool_after: seconds after which an event that a sink has not taken yet goes to disk.
        drain_rate: events per second taken from a spool's backlog; None is no limit.
        keeps_letters: whether what can't be delivered is kept with the local dead letters.
        dedup_window: seconds for which a repeated event is recognised; 0 is not at all.
        dedup_events: most events that are remembered for that.
    """

    name: str
    sinks: Sequence[str]
    sources: frozenset[str] | None = None
    matches: Callable[[Event], bool] | None = None
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    timeout: float | None = None
    dead_letter_sink: str | None = None
    inflight: int = 1000
    spool: bool = False
    stored: bool = False
    spool_after: float = 2.0
    drain_rate: float | None = None
    keeps_letters: bool = False
    dedup_window: float = 0.0
    dedup_events: int = 1_000_000


def routes_from(source: str, routes: Sequence[Route]) -> list[int]:
    """Return the positions of the routes that listen to `source`."""
    return [
        position
        for position, route in enumerate(routes)
        if route.sources is None or source in route.sources
    ]
