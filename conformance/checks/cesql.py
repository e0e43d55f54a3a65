"""CESQL 1.0: the TCK of the specification, and vectors for what it leaves out.

Where a case of the TCK breaks the text of the specification, the text counts (`CORRECTIONS`); under
the profile `lenient` both verdicts do.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import Any, Final, NamedTuple

import yaml

from conformance.check import Check, CheckFailed, Profile
from conformance.engine import Evaluation, FilterEngine
from conformance.forms import Refused, WireEvent, event_from_json
from conformance.requirements import profiles_of, strongest

# libyaml's, ten times as fast, where PyYAML has them.
_TEXTS: Final = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_VALUES: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MODES: Final = {"fail_fast": True, "complete": False}
BASE: Final = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}

TCK: Final = {
    "binary_comparison_operators": "OP-001 OP-007 CAST-004",
    "binary_logical_operators": "OP-001 OP-005 OP-006",
    "binary_math_operators": "OP-001 OP-002 OP-003",
    "case_sensitivity": "SYN-001",
    "casting_functions": "CAST-001 CAST-002 CAST-003",
    "context_attributes_access": "ATT-001 ATT-003",
    "exists_expression": "EXI-001",
    "in_expression": "IN-001 CAST-006",
    "integer_builtin_functions": "FN-001 FN-008",
    "like_expression": "LIKE-002 LIKE-003 LIKE-004",
    "literals": "SYN-005 SYN-006",
    "negate_operator": "OP-001 OP-002",
    "not_operator": "OP-001 OP-002",
    "parse_errors": "ERR-002",
    "spec_examples": "EVAL-001",
    "string_builtin_functions": "FN-001 FN-006 FN-007",
    "sub_expression": "SYN-002 EVAL-001",
    "subscriptions_api_recreations": "OP-001 LIKE-002",
}
"""The files of the TCK, and what the cases of each are about."""


class Case(NamedTuple):
    """An expression and an event, and what their check is called."""

    name: str
    title: str
    ids: Sequence[str]
    expression: str
    event: WireEvent


class Correction(NamedTuple):
    """What the text of the specification says of a case, and why."""

    expected: Evaluation
    reason: str


_FAIL_FAST_ASSUMED: Final = Correction(
    Evaluation(True, ("math",)),  # noqa: FBT003 - the value
    "1 != 1 / 0 is 1 != 0, which is true: the case is about fail-fast mode only",
)

CORRECTIONS: Final[Mapping[tuple[str, str], Correction]] = {
    **{
        ("NOT 10", mode): Correction(
            Evaluation(False),  # noqa: FBT003 - the value
            "3.7: each Integer but 0 is cast to true without an error; the SDKs' copies say so",
        )
        for mode in MODES
    },
    ("true and (1 != 1 / 0)", "complete"): _FAIL_FAST_ASSUMED,
    ("false or (1 != 1 / 0)", "complete"): _FAIL_FAST_ASSUMED,
}
"""By expression and mode."""


def checks() -> Iterator[Check]:
    """Return the checks of the TCK and of the vectors, in both modes."""
    for file, topics in TCK.items():
        yield from _of_file(file, [f"CESQL-{topic}" for topic in topics.split()])
    text = files("conformance").joinpath("vectors", "cesql.json").read_text("utf-8")
    for vector in json.loads(text)["vectors"]:
        yield from _of_vector(vector)
    yield Check(
        id="cesql-unchanged",
        title="an evaluation does not change the event",
        binding="cesql",
        family="cesql",
        requirements=("CESQL-GEN-001",),
        level="MUST",
        role="intermediary",
        needs="filters",
        run=_unchanged,
    )


def _of_file(file: str, ids: Sequence[str]) -> Iterator[Check]:
    place = files("conformance").joinpath("data", "cesql_tck", f"{file}.yaml")
    # As text, where YAML would make times and numbers of attributes.
    texts = yaml.load(place.read_text("utf-8"), _TEXTS)  # noqa: S506 - makes text only
    values = yaml.load(place.read_text("utf-8"), _VALUES)  # noqa: S506 - safe
    for number, (text, value) in enumerate(zip(texts["tests"], values["tests"], strict=True)):
        event = WireEvent(_attributes(text, value))
        errors = [text["error"]] if "error" in text else []
        result = value.get("result")
        typed = result if isinstance(result, bool | int) else text.get("result")
        expected = None if errors == ["parse"] else Evaluation(typed, errors)
        for mode in MODES:
            name = f"tck-{file.replace('_', '-')}-{number}-{_word(text['name'])}"
            title = f"TCK {file}: {text['name']}"
            yield from _judged(Case(name, title, ids, text["expression"], event), mode, expected)


def _attributes(text: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
    overrides = {
        name: override if isinstance(override, bool | int) else text["eventOverrides"][name]
        for name, override in value.get("eventOverrides", {}).items()
    }
    given = {name: one for name, one in text.get("event", BASE).items() if name != "data"}
    return given | overrides


def _judged(case: Case, mode: str, expected: Evaluation | None) -> Iterator[Check]:
    """Yield the check of a case; two with disjoint profiles where the TCK is wrong."""
    correction = CORRECTIONS.get((case.expression, mode))
    if correction is None:
        yield _check(case, mode, (expected,))
        return
    lenient: frozenset[Profile] = frozenset({"lenient"})
    case = case._replace(title=f"{case.title}; corrected: {correction.reason}")
    yield _check(case, mode, (correction.expected,), profiles_of(case.ids) - lenient)
    yield _check(case, mode, (correction.expected, expected), lenient)


def _of_vector(vector: Mapping[str, Any]) -> Iterator[Check]:
    form = {"attributes": BASE | vector.get("attributes", {}), "data": None}
    event = event_from_json(form)
    for mode in MODES:
        said = vector.get(mode, vector)
        expected = None if "parse_error" in vector else Evaluation(said["value"], said["errors"])
        name = vector["name"]
        case = Case(_word(name), name, vector["requirements"], vector["expression"], event)
        yield _check(case, mode, (expected,))


def _word(text: str) -> str:
    signs = {"+": "plus", "-": "minus", "*": "times", "/": "by", "%": "mod", "<": "lt", ">": "gt",
             "=": "eq", "!": "not"}  # fmt: skip
    spelled = "".join(f" {signs[sign]} " if sign in signs else sign for sign in text.lower())
    return re.sub("[^a-z0-9]+", "-", spelled.encode("ascii", "namereplace").decode()).strip("-")


def _words(expected: Evaluation | None) -> str:
    if expected is None:
        return "parse error"
    errors = f" with {', '.join(expected.errors)}" if expected.errors else ""
    return f"{expected.value!r}{errors}"


def _check(
    case: Case,
    mode: str,
    allowed: Sequence[Evaluation | None],
    profiles: frozenset[Profile] | None = None,
) -> Check:
    return Check(
        id=f"cesql-{case.name}-{mode}",
        title=f"{case.title} ({mode})",
        binding="cesql",
        family="cesql",
        requirements=tuple(case.ids),
        level=strongest(case.ids),
        role="intermediary",
        profiles=profiles_of(case.ids) if profiles is None else profiles,
        verdict=" or ".join(map(_words, allowed)),
        needs="filters",
        run=partial(_run, case, mode, allowed),
    )


def _run(case: Case, mode: str, allowed: Sequence[Evaluation | None], engine: FilterEngine) -> None:
    """Demand one of some results; None is a parse error, which some engines report as a result."""
    try:
        got: Evaluation | None = engine.evaluate(case.expression, case.event, fail_fast=MODES[mode])
    except Refused:
        got = None
    if got is not None and list(got.errors) == ["parse"]:
        got = None
    if not any(_same(got, expected) for expected in allowed):
        raise CheckFailed(
            "the expression is evaluated otherwise",
            expected=" or ".join(map(_words, allowed)),
            got=_words(got),
            reproduce=f"{case.expression}   for {json.dumps(case.event.attributes, default=repr)}",
        )


def _same(got: Evaluation | None, expected: Evaluation | None) -> bool:
    if got is None or expected is None:
        return got is expected
    return (
        type(got.value) is type(expected.value)
        and got.value == expected.value
        and set(got.errors) == set(expected.errors)
    )


def _unchanged(engine: FilterEngine) -> None:
    attributes = {**BASE, "subject": "  Door ", "count": 42, "flag": True}
    event = WireEvent(dict(attributes), b"data")
    for expression in ("TRIM(subject)", "count + 1", "NOT flag", "LOWER(subject) = 'door'"):
        engine.evaluate(expression, event, fail_fast=False)
    for name, value in attributes.items():
        got = engine.evaluate(name, event, fail_fast=False)
        if not _same(got, Evaluation(value)):
            raise CheckFailed(f"{name} was changed", expected=repr(value), got=repr(got.value))
    if dict(event.attributes) != attributes or event.data != b"data":
        raise CheckFailed("the event was changed", expected=str(attributes), got=str(event))
