"""Handing requests in: when they came, and what to do where there is no room for all of them."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

from bindings.coap import Moment
from gateway.delivery import ListedDelivery
from gateway.interfaces import Intake
from gateway.sources.coap.exchange import Exchange


class Submission(ListedDelivery, eq=False, gc=False, kw_only=True):
    """What a request brought, with the request that it answers."""

    exchange: Exchange


Batch = list[Submission]
"""What one read brought."""


def hand_in(intake: Intake, batch: Batch, refuse: Callable[[Exchange], None]) -> None:
    """Hand a batch in; where there is no room for all of it, as many as there is room for.

    Args:
        intake: the gateway.
        batch: at least one delivery.
        refuse: called for each request that finds no room.
    """
    if intake.try_submit(batch):
        return
    if len(batch) == 1:
        refuse(batch[0].exchange)
        return
    middle = len(batch) // 2
    hand_in(intake, batch[:middle], refuse)
    hand_in(intake, batch[middle:], refuse)


def moment() -> Moment:
    """Return now as events have it: UTC, milliseconds."""
    seconds = time.time()
    second = int(seconds)
    return Moment(seconds, f"{_text_of(second)}.{int((seconds - second) * 1000):03}Z")


@lru_cache(maxsize=1)
def _text_of(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
