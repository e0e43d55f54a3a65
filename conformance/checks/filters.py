"""Filters of the Subscriptions API (subscriptions/spec.md 3.2.4): vectors."""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.resources import files
from typing import Any

from conformance.check import Check, CheckFailed
from conformance.engine import FilterEngine
from conformance.forms import Refused, WireEvent
from conformance.requirements import profiles_of, strongest

_ANY_EVENT = WireEvent({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"})


def checks() -> Iterator[Check]:
    """Return a check for each vector."""
    text = files("conformance").joinpath("vectors", "filters.json").read_text("utf-8")
    for vector in json.loads(text)["vectors"]:
        ids = tuple(vector["requirements"])
        verdict = "refused" if "error" in vector else "passes" if vector["passes"] else "held back"
        yield Check(
            id=f"filter-{vector['name'].lower().replace(' ', '-').replace(',', '')}",
            title=vector["name"],
            binding="filters",
            family="filters",
            requirements=ids,
            level=strongest(ids),
            role="intermediary",
            profiles=profiles_of(ids),
            verdict=verdict,
            needs="filters",
            run=partial(_run, vector),
        )


def _run(vector: Mapping[str, Any], engine: FilterEngine) -> None:
    reproduce = json.dumps({key: vector[key] for key in ("filter", "event") if key in vector})
    event = WireEvent(vector["event"]) if "event" in vector else _ANY_EVENT
    try:
        passes = engine.passes(vector["filter"], event)
    except Refused as refused:
        if "error" in vector:
            return
        raise CheckFailed(
            "a right filter was refused", got=str(refused), reproduce=reproduce
        ) from None
    if "error" in vector:
        raise CheckFailed(
            "a wrong filter was taken",
            expected=f"a refusal of {vector['error'] or 'the whole'}",
            reproduce=reproduce,
        )
    if passes is not vector["passes"]:
        raise CheckFailed(
            "the filter is wrong about an event",
            expected=str(vector["passes"]),
            got=str(passes),
            reproduce=reproduce,
        )
