"""The trial of a mutant: the checks that can kill it, until the first that does."""

import asyncio
import inspect
import logging
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal

import msgspec
import uvloop

from conformance.check import Check, CheckFailed, Unsupported
from conformance.mutants.mutant import Mutant, opened, unpatched

Outcome = Literal["killed", "survived", "broken"]

_SECONDS: Final = 15.0
"""A check that takes longer has failed."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a mutant.

    Attributes:
        mutant: its id.
        outcome: killed by a check; survived them all; or broken: it raised what is no answer, and
            so shows nothing about the suite.
        check: the check that killed it or broke it.
        text: what that check said.
        tried: how many checks it was given.
    """

    mutant: str
    outcome: Outcome
    check: str = ""
    text: str = ""
    tried: int = 0


def try_mutant(mutant: Mutant, checks: Iterable[Check]) -> Verdict:
    """Give a mutant the checks that can kill it, one after the other."""
    candidates = [check for check in checks if mutant.can_be_killed_by(check)]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_try(mutant, candidates))


def passing(mutant: Mutant, checks: Iterable[Check]) -> list[str]:
    """Return the ids of the checks that what it is a mutant of passes: only those count."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_passing(unpatched(mutant), checks))


async def _passing(subject: AbstractAsyncContextManager[Any], checks: Iterable[Check]) -> list[str]:
    async with subject as right:
        # Once more if it fails, as a machine that is busy with other things may be late.
        return [
            check.id
            for check in checks
            if await _passes(check, right) or await _passes(check, right)
        ]


async def _passes(check: Check, right: Any) -> bool:
    try:
        await _give(check, right)
    except (CheckFailed, Unsupported, TimeoutError):
        return False
    return True


async def _try(mutant: Mutant, candidates: Sequence[Check]) -> Verdict:
    tracebacks = _Tracebacks()
    logging.getLogger().addHandler(tracebacks)
    try:
        async with opened(mutant) as subject:
            for tried, check in enumerate(candidates, 1):
                outcome, text = await _judge(mutant, check, subject)
                if tracebacks.texts:
                    outcome, text = "broken", tracebacks.texts[0]
                if outcome != "survived":
                    return Verdict(
                        mutant=mutant.id, outcome=outcome, check=check.id, text=text, tried=tried
                    )
    except Exception as error:  # noqa: BLE001 - a mutant may do anything
        return Verdict(mutant=mutant.id, outcome="broken", text=_said(error))
    finally:
        logging.getLogger().removeHandler(tracebacks)
    text = "every check took it for right" if candidates else "no check is of what it breaks"
    return Verdict(mutant=mutant.id, outcome="survived", text=text, tried=len(candidates))


async def _judge(mutant: Mutant, check: Check, subject: Any) -> tuple[Outcome, str]:
    try:
        await _give(check, subject)
    except CheckFailed as failure:
        return "killed", str(failure)
    except Unsupported:
        return "survived", ""
    except TimeoutError:
        return "killed", f"no result within {_SECONDS:.0f} s"
    except Exception as error:  # noqa: BLE001 - a mutant may do anything
        is_meant = mutant.crash is not None and isinstance(error, mutant.crash)
        return ("killed" if is_meant else "broken"), _said(error)
    return "survived", ""


async def _give(check: Check, subject: Any) -> None:
    async with asyncio.timeout(_SECONDS):
        pending = check.run(subject)
        if inspect.isawaitable(pending):
            await pending


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


class _Tracebacks(logging.Handler):
    """Keeps errors that the product logs with a traceback: it expects none of them."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.texts.append(_said(record.exc_info[1]))


def counting(checks: Iterable[Check], ids: Collection[str]) -> list[Check]:
    """Return those of `checks` that passed with what is right."""
    return [check for check in checks if check.id in ids]
