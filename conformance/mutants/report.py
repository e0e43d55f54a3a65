"""The catalogue of mutants and the result of a run, as documents."""

import json
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from conformance.mutants.mutant import Mutant
from conformance.mutants.pitfalls import NOT_OURS, PITFALLS
from conformance.mutants.trial import Verdict

DOCUMENT: Final = "docs/conformance/mutants.md"
Tried = tuple[Mutant, Verdict]


def origin(mutant: Mutant) -> str:
    """Return the pitfall's number, or the family of rules."""
    return mutant.rule if mutant.pitfall is None else str(mutant.pitfall)


def line(mutant: Mutant, verdict: Verdict) -> str:
    """Return the line of the terminal's table."""
    by = verdict.check or f"({verdict.tried} checks)"
    return f"{verdict.outcome:8}  {mutant.id:42}  {origin(mutant):>4}  {by}  {verdict.text[:100]}"


def summary(tried: Sequence[Tried], seconds: float) -> str:
    """Return the last line."""
    counts = {
        outcome: sum(verdict.outcome == outcome for _, verdict in tried)
        for outcome in ("killed", "survived", "broken")
    }
    words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    return f"{len(tried)} mutants: {words}, in {seconds:.0f} s"


def to_json(tried: Iterable[Tried]) -> str:
    """Return a record for each mutant."""
    return json.dumps(
        [
            {
                **msgspec.to_builtins(verdict),
                "about": mutant.about,
                "pitfall": mutant.pitfall,
                "rule": mutant.rule,
                "requirements": list(mutant.requirements),
            }
            for mutant, verdict in tried
        ],
        indent=1,
    )


def to_markdown(tried: Iterable[Tried]) -> str:
    """Return the table of a run."""
    rows = [
        f"| `{mutant.id}` | {origin(mutant)} | {verdict.outcome} | `{verdict.check}` "
        f"| {_cell(verdict.text[:200])} |"
        for mutant, verdict in tried
    ]
    head = ["| Mutant | Pitfall or rule | Outcome | By check | It said |", "|---|---|---|---|---|"]
    return "\n".join(["# Mutants", "", *head, *rows, ""])


def catalogue(mutants: Sequence[Mutant]) -> str:
    """Return the document that lists every mutant."""
    rows = [
        f"| `{mutant.id}` | {origin(mutant)} | {_cell(mutant.about)} "
        f"| {', '.join(mutant.requirements)} |"
        for mutant in mutants
    ]
    without = [f"| {number} | {PITFALLS[number]} | {why} |" for number, why in NOT_OURS.items()]
    return "\n".join(
        [
            "# The suite is tested by mistakes",
            "",
            "Each mutant is an implementation with one mistake, most of them known from SDKs and",
            "brokers in use. The suite has to find every one, by a check that proves one of the",
            "requirements that stand beside it; one that survives fails the build. Made by",
            "`conformance.mutants.report.catalogue`.",
            "",
            "    make conformance-mutants",
            "    python -m conformance.mutants --only mqtt --report killed.md",
            "",
            "A check counts only if the right implementation passes it. A mutant that raises what",
            "is no answer is broken and shows nothing, unless to crash is its mistake.",
            "",
            f"{len(mutants)} mutants.",
            "",
            "| Mutant | Pitfall or rule | What is wrong | Killed by a check of |",
            "|---|---|---|---|",
            *rows,
            "",
            "## Pitfalls without a mutant",
            "",
            "| Number | Pitfall | Why |",
            "|---|---|---|",
            *without,
            "",
        ]
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
