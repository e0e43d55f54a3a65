"""All mutants: which there are, and the run in which the suite has to kill each."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from typing import Final

from conformance.check import Check
from conformance.mutants.mutant import Mutant, memories, right_codec
from conformance.mutants.processes import Lost, run_each
from conformance.mutants.trial import Verdict, counting, passing, try_mutant
from conformance.suite import all_checks

CATALOGUES: Final = (
    "core",
    "values",
    "json",
    "http",
    "header_values",
    "mqtt",
    "nats",
    "kafka",
    "cbor",
    "coap",
    "delivery",
    "webhook_sender",
    "webhook_target",
    "answering",
    "can",
    "filters",
)
"""Modules of `conformance.mutants`, each with its `MUTANTS`."""


def all_mutants() -> list[Mutant]:
    """Return every mutant.

    Raises:
        ValueError: two have the same id.
    """
    found: dict[str, Mutant] = {}
    for name in CATALOGUES:
        for mutant in import_module(f"conformance.mutants.{name}").MUTANTS:
            if mutant.id in found:
                raise ValueError(f"two mutants {mutant.id}")
            found[mutant.id] = mutant
    return list(found.values())


def try_all(
    mutants: Sequence[Mutant], width: int, tell: Callable[[str], None]
) -> Iterator[tuple[Mutant, Verdict]]:
    """Try every mutant with the checks that the right implementation passes; yield as they end.

    Args:
        mutants: what is tried.
        width: how many processes run at a time.
        tell: is told how far the first part is.
    """
    checks = list(all_checks())
    right_codec()  # once for all processes, as is the search for what the product remembers
    memories()
    subjects: dict[tuple[str, str, str], Mutant] = {}
    for mutant in mutants:
        subjects.setdefault(_subject(mutant), mutant)
    by_subject: dict[tuple[str, str, str], list[Check]] = {}
    for subject in subjects:
        same = [mutant for mutant in mutants if _subject(mutant) == subject]
        by_subject[subject] = [
            check for check in checks if any(mutant.can_be_killed_by(check) for mutant in same)
        ]
    jobs = [partial(passing, subjects[key], by_subject[key]) for key in subjects]
    for number, ids in run_each(jobs, width):
        key = list(subjects)[number]
        if isinstance(ids, Lost):
            raise ids
        wrong = len(by_subject[key]) - len(set(ids))
        by_subject[key] = counting(by_subject[key], set(ids))
        more = f"; {wrong} that it fails or skips do not" if wrong else ""
        tell(f"{' '.join(filter(None, key))}: {len(by_subject[key])} checks count{more}")
    tries = [partial(try_mutant, mutant, by_subject[_subject(mutant)]) for mutant in mutants]
    for number, found in run_each(tries, width):
        mutant = mutants[number]
        if isinstance(found, Lost):
            yield mutant, Verdict(mutant=mutant.id, outcome="broken", text=str(found))
        else:
            yield mutant, found


def _subject(mutant: Mutant) -> tuple[str, str, str]:
    protocol = mutant.protocol if mutant.needs == "target" else ""
    return mutant.needs, protocol, mutant.profile
