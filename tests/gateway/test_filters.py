"""Filters against the shared vectors, the user's page, and what the vectors can't say."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bindings.event import Event, event_from_attributes
from gateway.errors import ConfigError
from gateway.filters import FilterError, compile_filter

ROOT = Path(__file__).parents[2]
VECTORS = json.loads((ROOT / "conformance" / "vectors" / "filters.json").read_text())["vectors"]
EVENT = {"specversion": "1.0", "id": "42", "source": "/plant/7", "type": "com.acme.temp.v1"}


@pytest.mark.parametrize("vector", [pytest.param(v, id=v["name"]) for v in VECTORS if "event" in v])
def test_event_passes_as_the_vector_says(vector):
    event = event_from_attributes(vector["event"], None)
    assert compile_filter(vector["filter"])(event) is vector["passes"]


@pytest.mark.parametrize("vector", [pytest.param(v, id=v["name"]) for v in VECTORS if "error" in v])
def test_wrong_filter_is_refused_with_its_place(vector):
    with pytest.raises(FilterError) as caught:
        compile_filter(vector["filter"])
    assert caught.value.path == vector["error"]


def test_vectors_name_requirements():
    assert all(
        re.fullmatch(r"(SUB|CESQL)-[A-Z]+-\d{3}", id_) for v in VECTORS for id_ in v["requirements"]
    )
    covered = {id_ for v in VECTORS for id_ in v["requirements"]}
    assert {f"SUB-FIL-{n:03}" for n in range(1, 18)} <= covered


def documented_examples():
    """Yield filter, attributes of an event, and whether it passes, for each example of the page."""
    page = (ROOT / "docs" / "filters.md").read_text()
    for block, examples in re.findall(r"```yaml\n(.*?)```\n\n((?:- [^\n]*\n)+)", page, re.DOTALL):
        filter_ = yaml.safe_load(block)["filter"]
        for words, attributes in re.findall(r"- (passes|does not pass) `(.*)`", examples):
            yield pytest.param(
                filter_, yaml.safe_load(attributes), words == "passes", id=f"{filter_} {attributes}"
            )


@pytest.mark.parametrize(("filter_", "attributes", "passes"), list(documented_examples()))
def test_page_is_true(filter_, attributes, passes):
    assert compile_filter(filter_)(event_from_attributes(EVENT | attributes, None)) is passes


def test_page_has_an_example_of_every_dialect_that_passes_and_one_that_does_not():
    seen = {(next(iter(param.values[0])), param.values[2]) for param in documented_examples()}
    dialects = ("exact", "prefix", "suffix", "all", "any", "not", "sql")
    assert seen == {(dialect, passes) for dialect in dialects for passes in (True, False)}


@pytest.mark.parametrize(
    ("wrong", "right"), [("exakt", "exact"), ("Prefix", "prefix"), ("ANY", "any"), ("cesql", "sql")]
)
def test_unknown_dialect_names_the_nearest_right_one(wrong, right):
    with pytest.raises(FilterError, match=f"did you mean {right}"):
        compile_filter({wrong: {"type": "x"}})


def test_dialect_like_no_other_lists_them_all():
    with pytest.raises(
        FilterError, match="the dialects are exact, prefix, suffix, all, any, not, sql"
    ):
        compile_filter({"jsonpath": "$"})


def test_error_is_one_of_configuration_and_carries_the_keys():
    with pytest.raises(FilterError) as caught:
        compile_filter({"any": [{"not": {"exact": {"count": 1}}}]})
    assert isinstance(caught.value, ConfigError)
    assert isinstance(caught.value, ValueError)
    assert caught.value.keys == ("any", 0, "not", "exact", "count")
    assert str(caught.value) == "any[0].not.exact.count: expected a text, not 1; put it in quotes"


def test_unknown_function_names_the_nearest_right_one():
    with pytest.raises(FilterError, match="no function LENGHT; did you mean LENGTH"):
        compile_filter({"sql": "lenght(id) = 2"})


def test_binary_extension_compares_as_base64():
    event = Event(id="1", source="/s", type="t", extensions={"sum": b"\xff\x00"})
    assert compile_filter({"exact": {"sum": "/wA="}})(event)


def test_deep_nesting_is_refused_instead_of_overflowing_the_stack():
    filter_ = {"exact": {"type": "x"}}
    for _ in range(5000):
        filter_ = {"not": filter_}
    with pytest.raises(FilterError, match="inside each other"):
        compile_filter(filter_)


def test_errors_of_sql_are_told_with_their_expression():
    told = []
    passes = compile_filter(
        [{"not": {"sql": "subject = 'door'"}}, {"not": {"sql": "1"}}, {"sql": "id = 42"}],
        on_sql_error=lambda expression, text: told.append((expression, text)),
    )
    assert passes(Event(id="42", source="/s", type="t"))
    assert told == [
        ("subject = 'door'", "the event has no attribute 'subject'"),
        ("1", "1 is no Boolean"),
    ]


def test_parser_generator_is_loaded_for_sql_only():
    code = (
        "import sys; from gateway.filters import compile_filter\n"
        "compile_filter({'all': [{'exact': {'type': 'x'}}, {'not': {'prefix': {'id': 'x'}}}]})\n"
        "assert 'lark' not in sys.modules\n"
        "compile_filter({'sql': 'TRUE'})\n"
        "assert 'lark' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


LEAVES = st.sampled_from(
    [
        {"exact": {"id": "42"}},
        {"exact": {"subject": "door"}},
        {"prefix": {"type": "com."}},
        {"suffix": {"tenant": "me"}},
        {"sql": "id = 42"},
        {"sql": "subject = 'x'"},
    ]
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(lambda items: {"all": items}, st.lists(inner, min_size=1, max_size=3))
        | st.builds(lambda items: {"any": items}, st.lists(inner, min_size=1, max_size=3))
        | st.builds(lambda item: {"not": item}, inner)
    ),
    max_leaves=8,
)


@given(FILTERS)
def test_combinations_follow_boolean_algebra(filter_):
    event = event_from_attributes(EVENT, None)

    def reference(filter_):
        ((dialect, value),) = filter_.items()
        if dialect == "all":
            return all(map(reference, value))
        if dialect == "any":
            return any(map(reference, value))
        if dialect == "not":
            return not reference(value)
        # Of the leaves, these are true for the event.
        return filter_ in (
            {"exact": {"id": "42"}},
            {"prefix": {"type": "com."}},
            {"sql": "id = 42"},
        )

    assert compile_filter(filter_)(event) is reference(filter_)
