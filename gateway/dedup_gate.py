"""Where a route turns duplicates away: each is answered like its original, and goes no further."""

import time
from collections.abc import Iterable, Sequence
from functools import partial

from bindings.errors import CloudEventError
from gateway import stored_event
from gateway.dedup import Dedup, Verdict, key_of
from gateway.delivery import Delivery, Outcome, Reason, Settlement
from gateway.metrics import RouteMetrics

REPLAY = "(replay)"
"""The name under which replayed dead letters are counted, instead of a source's. They are let
through: that one was kept before is why it comes again."""

_DUPLICATE = Settlement(Outcome.ACCEPTED, Reason.DUPLICATE)


class DedupGate:
    """Deduplication at the door of a route.

    Args:
        dedup: what the route remembers.
        metrics: the route's counters.
    """

    def __init__(self, dedup: Dedup, metrics: RouteMetrics) -> None:
        self._dedup = dedup
        self._metrics = metrics

    def restore(self, spools: Sequence[Iterable[Sequence[bytes]]]) -> None:
        """Remember the events that the spools of all the route's lanes still have.

        One that a lane does not have may be lost to its sink: it is new when it comes again.
        """
        first, *others = spools
        elsewhere = [{key_of(*identity) for identity in _identities(spool)} for spool in others]
        self._dedup.restore(
            (
                identity
                for identity in _identities(first)
                if all(key_of(*identity) in keys for keys in elsewhere)
            ),
            time.monotonic(),
        )

    def passed(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Return those that are no duplicates, to be settled in place of the given ones."""
        now = time.monotonic()
        new: list[Delivery] = []
        for delivery in deliveries:
            if delivery.source == REPLAY:
                new.append(delivery)
                continue
            event = delivery.events[0]
            key = key_of(event.source, event.id)
            verdict = self._dedup.admit(key, now)
            if verdict is Verdict.NEW:
                new.append(delivery.behind(partial(self._settled, key, delivery)))
                continue
            self._metrics.duplicates += 1
            if verdict is Verdict.DUPLICATE_SAFE:
                delivery.settle(_DUPLICATE)
            else:
                self._dedup.attach(key, delivery.settle)
        return new

    def _settled(self, key: bytes, delivery: Delivery, settlement: Settlement) -> None:
        """Answer for an original, then for its copies."""
        delivery.settle(settlement)
        if settlement.outcome is Outcome.ACCEPTED:
            self._dedup.safe(key, time.monotonic(), settlement)
        else:
            self._dedup.forget(key, settlement)


def _identities(records: Iterable[Sequence[bytes]]) -> Iterable[tuple[str, str]]:
    for some in records:
        for record in some:
            try:
                event = stored_event.decode(record).event
            except CloudEventError:  # whoever reads it for delivery reports it
                continue
            yield event.source, event.id
