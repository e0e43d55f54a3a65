"""All checks, and how they are run one after the other."""

import asyncio
import inspect
import time
import traceback
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from conformance.check import Check, CheckFailed, Profile, Result, Status, Unsupported

FAMILIES: Final = (
    "vectors",
    "header_codec",
    "type_lattice",
    "data_lattice",
    "transparency",
    "coap",
    "coap_channels",
    "coap_limits",
    "coap_endpoints",
    "coap_producer",
    "messages",
    "limits",
    "robustness",
    "redelivery",
    "acknowledgement",
    "drain",
    "secured",
    "through_gateway",
    "webhook",
    "delivery",
    "filters",
    "cesql",
)
"""Modules of `conformance.checks`, each with a function `checks()`."""

_SECONDS: Final = 30.0
"""A check over the wire that takes longer has failed."""


def all_checks() -> Iterator[Check]:
    """Return every check of every profile."""
    for family in FAMILIES:
        yield from import_module(f"conformance.checks.{family}").checks()


@cache
def verdicts() -> Mapping[str, Mapping[Profile, str]]:
    """Return what every check expects under each profile in which it holds, by its id."""
    found: dict[str, dict[Profile, str]] = {}
    for check in all_checks():
        for profile in sorted(check.profiles):
            found.setdefault(check.id, {})[profile] = check.verdict
    return found


def of_profile(checks: Iterable[Check], profile: Profile) -> list[Check]:
    """Return the checks of one profile."""
    return [check for check in checks if profile in check.profiles]


async def run(checks: Iterable[Check], subject: Any) -> AsyncIterator[Result]:
    """Run checks that need the same subject, and yield each result as it is known.

    A subject that has something under way after a failure may have `calm`, which is waited for.
    """
    for check in checks:
        result = await run_one(check, subject)
        yield result
        if result.status == "failed" and hasattr(subject, "calm"):
            await subject.calm()


async def run_one(check: Check, subject: Any) -> Result:
    """Run a check; whatever it raises becomes a result."""
    started = time.perf_counter()
    try:
        async with asyncio.timeout(_SECONDS):
            pending = check.run(subject)
            if inspect.isawaitable(pending):
                await pending
    except CheckFailed as failed:
        return _result(
            check, "failed", started, str(failed),
            expected=failed.expected, got=failed.got, reproduce=failed.reproduce,
        )  # fmt: skip
    except Unsupported as unsupported:
        return _result(check, "skipped", started, str(unsupported))
    except TimeoutError:
        return _result(check, "failed", started, f"no result within {_SECONDS:.0f} s")
    except Exception as error:  # noqa: BLE001 - what is judged may raise anything: that fails it
        text = f"{type(error).__name__}: {error}"
        return _result(check, "failed", started, text, got=_raised_at(error))
    return _result(check, "passed", started)


def _raised_at(error: Exception) -> str:
    """Return where an error was raised, for those who mend what is judged."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{'/'.join(Path(frame.filename).parts[-2:])}, line {frame.lineno}: {frame.line}"


def _result(check: Check, status: Status, started: float, text: str = "", **more: str) -> Result:
    seconds = time.perf_counter() - started
    return Result(check=check, status=status, seconds=seconds, text=text, **more)
