"""The TCK of cloudevents/spec, each case in both modes of evaluation."""

import re
from pathlib import Path

import pytest
import yaml

from bindings.event import event_from_attributes
from gateway.cesql import ParseError, compile_expression

TCK = Path(__file__).parents[3] / "conformance" / "data" / "cesql_tck"

# What we disagree with, and in which modes. Each must still disagree, else it leaves the list.
FAIL_FAST_ASSUMED = "1 != 1 / 0 is 1 != 0, which is true: the case assumes fail-fast mode"
LOGICAL = (
    "Binary logical operations: {} operator is NOT short circuit evaluated when the first operand"
)
EXCEPTIONS = {
    "Not operator: Invalid int cast": (
        {"complete", "fail_fast"},
        "3.7: every Integer casts to Boolean, so that NOT 10 is false without an error",
    ),
    LOGICAL.format("AND") + " evaluates to true": ({"complete"}, FAIL_FAST_ASSUMED),
    LOGICAL.format("OR") + " evaluates to false": ({"complete"}, FAIL_FAST_ASSUMED),
}
ANY_EVENT = {"specversion": "1.0", "id": "1", "source": "/tck", "type": "tck"}


def load_cases():
    """Yield name and case; expressions and events as text, results as YAML has them."""
    for path in sorted(TCK.glob("*.yaml")):
        texts = yaml.load(path.read_text(), yaml.CBaseLoader)
        values = yaml.load(path.read_text(), yaml.CSafeLoader)
        for text, value in zip(texts["tests"], values["tests"], strict=True):
            text["suite"] = texts["name"]
            text["event"] = text.get("event", ANY_EVENT) | {
                # Extensions may be Booleans and Integers; a timestamp is a text.
                name: override if isinstance(override, bool | int) else text["eventOverrides"][name]
                for name, override in value.get("eventOverrides", {}).items()
            }
            text["result"] = (
                text.get("result")
                if not isinstance(value.get("result"), bool | int)
                else value["result"]
            )
            yield f"{texts['name']}: {text['name']}", text


CASES = list(load_cases())


def verdict(case, mode):
    event = event_from_attributes(case["event"], None)
    try:
        expression = compile_expression(case["expression"])
    except ParseError as error:
        return False, [error.kind.value]
    result = expression.evaluate(event, fail_fast=mode == "fail_fast")
    return result.value, [error.kind.value for error in result.errors]


def test_the_tck_is_whole():
    assert len(CASES) == 275
    assert set(EXCEPTIONS) <= {name for name, _ in CASES}


def test_users_page_names_the_exceptions_and_no_others():
    page = (TCK.parents[2] / "docs" / "filters.md").read_text()
    rows = re.findall(r"^\| ([^|]+: [^|]+) \| (both|complete|fail-fast) \|", page, re.MULTILINE)
    words = {
        "both": {"complete", "fail_fast"},
        "complete": {"complete"},
        "fail-fast": {"fail_fast"},
    }
    assert {name: words[mode] for name, mode in rows} == {
        name: modes for name, (modes, _) in EXCEPTIONS.items()
    }


@pytest.mark.parametrize("mode", ["complete", "fail_fast"])
@pytest.mark.parametrize(("name", "case"), [pytest.param(*case, id=case[0]) for case in CASES])
def test_case_has_the_result_and_the_error_it_names(name, case, mode):
    value, errors = verdict(case, mode)
    expected = [case["error"]] if "error" in case else []
    # A case of a parse error may leave the result out.
    agrees = errors == expected and (
        (type(value), value) == (type(case["result"]), case["result"]) or case["result"] is None
    )
    if name in EXCEPTIONS and mode in EXCEPTIONS[name][0]:
        assert not agrees, "the exception is no longer needed"
    else:
        assert agrees, (
            f"{case['expression']} gave {value!r} {errors}, not {case['result']!r} {expected}"
        )
