"""A list that is under way to a sink, what of it has not ended yet, and who is told of ends."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import msgspec

from gateway.delivery import Delivery, Failure
from gateway.interfaces import Sending


class Ends(Protocol):
    """What a dispatcher tells of its deliveries; each of them ends once."""

    def delivered(self, deliveries: Sequence[Delivery]) -> None:
        """The sink has accepted them."""

    def failed(self, delivery: Delivery, failure: Failure) -> None:
        """It will not be tried again: the sink refused it, or it has outlived its retries."""

    def given_up(self, deliveries: Sequence[Delivery]) -> None:
        """The process ends before they could be delivered."""

    def troubled(self) -> None:
        """Events of a list have to be tried again; what becomes of the list has been told."""


class Batch:
    """Deliveries of one event each, that were given to a sink as one list.

    Attributes:
        deliveries: those that have not ended, in the order of the list.
        keys: of which something has not ended.
        is_probe: whether the list asks if the sink is back.
        started: monotonic seconds of when it was sent.
        resumed: how often the sink had resumed then.
        sending: cuts it off; None if that is left to `Senders.close`.
    """

    __slots__ = (
        "_open", "_positions", "_size", "deliveries", "is_probe", "keys",
        "resumed", "sending", "started",
    )  # fmt: skip

    def __init__(self, deliveries: list[Delivery], keys: set[str], *, is_probe: bool) -> None:
        self.deliveries = deliveries
        self.keys = keys
        self.is_probe = is_probe
        self.started = 0.0
        self.resumed = 0
        self.sending: Sending | None = None
        self._size = len(deliveries)
        # Both only once something has ended early.
        self._positions: dict[int, int] | None = None  # place in the list to index in `deliveries`
        self._open: Counter[str] | None = None  # by key: how many have not ended

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it has ended early."""
        return len(self.deliveries) == self._size

    @property
    def is_straggling(self) -> bool:
        """Whether the greater part has ended, and the sink takes long for the rest."""
        return len(self.deliveries) * 2 <= self._size

    def end(self, positions: Sequence[int]) -> tuple[list[Delivery], list[str]]:
        """Take out what the sink has accepted.

        Args:
            positions: places in the list that was sent.

        Returns:
            The deliveries that had not ended before, and the keys of which nothing is left.
        """
        places = self._positions
        counts = self._open
        if places is None or counts is None:
            places = {place: place for place in range(self._size)}
            counts = Counter(delivery.events[0].key for delivery in self.deliveries)
            self._open = counts
        ended = [self.deliveries[places.pop(place)] for place in positions if place in places]
        self.deliveries = [self.deliveries[index] for index in places.values()]
        self._positions = dict(zip(places, range(len(places)), strict=True))
        through: list[str] = []
        for delivery in ended:
            key = delivery.events[0].key
            counts[key] -= 1
            if not counts[key]:
                through.append(key)
        self.keys.difference_update(through)
        return ended, through

    def remaining(self, failures: Sequence[Failure]) -> Sequence[Failure]:
        """Return the failures with their index in `deliveries` as position."""
        places = self._positions
        if places is None:
            return failures
        return [
            msgspec.structs.replace(failure, position=places[failure.position])
            for failure in failures
            if failure.position in places
        ]
