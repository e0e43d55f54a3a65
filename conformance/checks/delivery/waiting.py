"""When a delivery is repeated: back-off, Retry-After, and how often.

Knative's documents have three readings of how waits grow. What is demanded is what all of them
have: no wait is shorter than the shortest of the three.
"""

import asyncio
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from email.utils import formatdate
from functools import partial
from itertools import pairwise
from typing import Any, Final

from conformance.check import Check, CheckFailed
from conformance.checks.deliveries import DOWN, Deliveries, Family
from conformance.checks.delivery.statuses import repeated
from conformance.target import Delivering, Request, Response

WAITING: Final = Family("waiting", "knative", "delivery", role="producer", needs="delivering")

DELAY: Final = 0.02
_LINEAR: Final = {"backoffPolicy": "linear", "backoffDelay": f"PT{DELAY}S"}
_EXPONENTIAL: Final = {"backoffPolicy": "exponential", "backoffDelay": f"PT{DELAY}S"}
_EARLY: Final = 0.005
"""Seconds by which clocks and timers may differ."""

UNREADABLE: Final = {
    "word": "soon", "negative": "-1", "fraction": "1.5", "empty": "", "hex": "0x10",
    "not-a-date": "Wed, 99 Foo 2031 25:61:00 GMT", "superscript": "\u00b3600",
}  # fmt: skip
"""What is no Retry-After (RFC 9110 10.2.3)."""


def checks() -> Iterator[Check]:
    """Return the checks of waiting."""
    for retries in (0, 1, 3):
        yield WAITING.check(
            f"retry-{retries}", f"retry: {retries} means {retries + 1} attempts and no more",
            "KN-006 KN-008", partial(_retries, retries), f"{retries + 1} requests",
        )  # fmt: skip
    yield WAITING.check(
        "backoff-linear", "no wait of linear back-off is shorter than its delay", "KN-008",
        partial(_backs_off, _LINEAR, (0.0, DELAY, DELAY)), "waits",
    )  # fmt: skip
    yield WAITING.check(
        "backoff-exponential", "the waits of exponential back-off double", "KN-008",
        partial(_backs_off, _EXPONENTIAL, (DELAY, 2 * DELAY, 4 * DELAY)), "waits double",
    )  # fmt: skip
    yield WAITING.check(
        "backoff-order", "while an event waits, later ones of its key wait and others don't",
        "KN-008", _keeps_order, "order kept",
    )  # fmt: skip
    yield WAITING.check(
        "backoff-lists", "each event of a list is repeated on its own", "KN-006 KN-008",
        _each_alone, "repeated alone",
    )  # fmt: skip
    yield from _about_retry_after()


def _about_retry_after() -> Iterator[Check]:
    for form, after in _FORMS.items():
        yield WAITING.check(
            f"retry-after-{form}", f"429 and 503 with Retry-After as {form} hold an event back",
            "KN-008", partial(_waits, after), "waits",
        )  # fmt: skip
    for name, value in UNREADABLE.items():
        yield WAITING.check(
            f"retry-after-unreadable-{name}", f"Retry-After: {value[:20]!r} stops nothing",
            "KN-006 KN-008", partial(_goes_on, value), "repeated",
        )  # fmt: skip
    yield WAITING.check(
        "retry-after-past", "a Retry-After that is over is no reason to wait", "KN-008",
        partial(_goes_on, "Sun, 06 Nov 1994 08:49:37 GMT"), "repeated",
    )  # fmt: skip
    yield WAITING.check(
        "retry-after-capped", "retryAfterMax limits what Retry-After asks for", "KN-008",
        partial(_is_limited, "PT0.05S", 0.05, "3600"), "repeated",
    )  # fmt: skip
    yield WAITING.check(
        "retry-after-huge", "a Retry-After beyond every clock is limited as well", "KN-008",
        partial(_is_limited, "PT0.05S", 0.05, "9" * 400), "repeated",
    )  # fmt: skip
    yield WAITING.check(
        "retry-after-ignored", "retryAfterMax: PT0S ignores Retry-After", "KN-008",
        partial(_is_limited, "PT0S", 0.0, "3600"), "repeated",
    )  # fmt: skip
    yield WAITING.check(
        "retry-after-elsewhere", "Retry-After holds nothing back with a status other than 429, 503",
        "KN-008", _other_status, "repeated",
    )  # fmt: skip


def retry_after_seconds() -> tuple[str, float]:
    """Return a Retry-After in seconds, and the time that it means."""
    return "1", time.time() + 1.0


def retry_after_date() -> tuple[str, float]:
    """Return a Retry-After that is a date, soon, and the time that it means."""
    due = math.ceil(time.time() + 0.3)
    return formatdate(due, usegmt=True), float(due)


_FORMS: Final = {"seconds": retry_after_seconds, "date": retry_after_date}


def gaps(requests: Sequence[Request]) -> list[float]:
    """Return the seconds between requests."""
    return [after.at - before.at for before, after in pairwise(requests)]


async def _retries(retries: int, sender: Delivering) -> None:
    async with sender.variant(delivery={**_LINEAR, "retry": retries}) as one:
        deliveries = Deliveries(one, {"event": DOWN})
        await deliveries.send("event")
        last = (await deliveries.wait("event", retries + 1))[-1]
        # Others go until one attempt more would have come, twice over.
        number = 0
        while time.monotonic() < last.at + 2 * DELAY * (retries + 1):
            number += 1
            await deliveries.send(f"other{number}")
            await deliveries.wait(f"other{number}")
        await deliveries.expect_count("event", retries + 1, "there are too many attempts")


async def _backs_off(
    delivery: Mapping[str, Any], least: Sequence[float], sender: Delivering
) -> None:
    async with sender.variant(delivery=delivery) as one:
        deliveries = Deliveries(one, {"event": [DOWN] * len(least)})
        await deliveries.send("event")
        found = gaps(await deliveries.wait("event", len(least) + 1))
    if any(wait < due - _EARLY for wait, due in zip(found, least, strict=True)):
        raise CheckFailed(
            "the event was sent again too early",
            expected=f"waits of at least {', '.join(f'{due:.3f}' for due in least)} s",
            got=", ".join(f"{wait:.3f} s" for wait in found),
            reproduce=f"{deliveries.story('event')}; {delivery}",
        )


async def _keeps_order(sender: Delivering) -> None:
    async with sender.variant(delivery=_LINEAR) as one:
        deliveries = Deliveries(one, {"first": [DOWN, DOWN]})
        names = ("first", "second", "third")
        of_one_key = [deliveries.event(name, source="/conformance/key") for name in names]
        await one.send(*of_one_key, deliveries.event("other"))
        await deliveries.wait("third")
        await deliveries.wait("other")
        order = [
            name
            for request in await deliveries.all()
            for name in (*names, "other")
            if request in deliveries.of(name)
        ]
    expected = ["first", "first", "first", "second", "third"]
    if [name for name in order if name != "other"] != expected:
        raise CheckFailed(
            "events of one key came in another order", expected=str(expected), got=str(order)
        )
    if order.index("other") > order.index("second"):
        raise CheckFailed("an event of another key had to wait", got=str(order))


async def _each_alone(sender: Delivering) -> None:
    deliveries = Deliveries(sender, {"second": [DOWN], "third": Response(status=400)})
    names = ("first", "second", "third", "fourth")
    await deliveries.send(*names)
    for name in names:
        await deliveries.wait(name, 2 if name == "second" else 1)
    await deliveries.pass_marker()
    for name in names:
        count = 2 if name == "second" else 1
        await deliveries.expect_count(name, count, f"the {name} of four came again")


async def _waits(form: Any, sender: Delivering) -> None:
    value, due = form()
    fields = [("Retry-After", value)]
    answers = {
        "busy": [Response(status=429, headers=fields)],
        "down": [Response(status=503, headers=fields)],
    }
    deliveries = Deliveries(sender, answers)
    await deliveries.send("busy", "down")
    await asyncio.gather(*(deliveries.wait(name, 2) for name in answers))
    for name in answers:
        at = deliveries.of(name)[1].at - time.monotonic() + time.time()
        if at < due - _EARLY:
            raise CheckFailed(
                "the event was sent again before the time of Retry-After",
                expected=f"after {formatdate(due, usegmt=True)}",
                got=f"{due - at:.3f} s earlier",
                reproduce=deliveries.story(name),
            )


async def _goes_on(value: str, sender: Delivering) -> None:
    await repeated(Response(status=503, headers=[("Retry-After", value)]), sender)


async def _is_limited(most: str, seconds: float, value: str, sender: Delivering) -> None:
    async with sender.variant(delivery={**_LINEAR, "retryAfterMax": most}) as one:
        answer = Response(status=429, headers=[("Retry-After", value)])
        deliveries = Deliveries(one, {"event": [answer]})
        await deliveries.send("event")
        (wait,) = gaps(await deliveries.wait("event", 2))
    if wait < seconds - _EARLY:
        raise CheckFailed(
            "the event was sent again too early",
            expected=f"after {seconds} s",
            got=f"{wait:.3f} s",
            reproduce=deliveries.story("event"),
        )


async def _other_status(sender: Delivering) -> None:
    for status in (500, 502):
        await repeated(Response(status=status, headers=[("Retry-After", "3600")]), sender)
