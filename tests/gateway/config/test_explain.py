from typing import Annotated, Literal

import pytest
from pydantic import Field, SecretStr, ValidationError

from gateway.config.document import Document
from gateway.config.explain import explain, keys_of, unknown_key
from gateway.config.records import Duration, Record

DEP = "unknown key 'dep', expected 'deep' or 'word'; did you mean 'deep'?"
DURATION = "expected an ISO 8601 duration such as PT0.2S or PT5M, or seconds"


class Inner(Record):
    deep: int = 0
    word: Literal["one", "two"] = "one"


class Outer(Record):
    plain: int = 0
    spelled: int = Field(default=0, alias="spelledOtherwise")
    internal: str = Field(default="", exclude=True)
    tables: dict[str, Inner] = Field(default={})
    items: list[Annotated[Inner, Field()]] | None = None
    either: Literal["*"] | list[str] = "*"
    wait: Duration = 0.0
    ratio: float = Field(default=0.0, gt=0, le=1, multiple_of=0.5)
    name: str = Field(default="", min_length=2, max_length=4, pattern="^[a-z]*$")
    flag: bool = False
    version: Literal["1.1", "2", "old"] = "2"
    secret: SecretStr | None = None
    psk: dict[str, Inner] = Field(default={})


def explained(text, **environ):
    document = Document("f", text, environ)
    with pytest.raises(ValidationError) as error:
        Outer.model_validate(document.value)
    explain(document, (), Outer, error.value)
    return [str(problem) for problem in document.problems]


def test_keys_are_found_inside_tables_lists_and_unions():
    assert keys_of(Inner) == ["deep", "word"]
    assert keys_of(Outer, ("tables", "any name")) == ["deep", "word"]
    assert keys_of(Outer, ("items", 3)) == ["deep", "word"]
    assert keys_of(Outer, ("plain",)) == []


def test_keys_are_spelled_as_in_the_file_and_internal_ones_are_left_out():
    assert "spelledOtherwise" in keys_of(Outer)
    assert "spelled" not in keys_of(Outer)
    assert "internal" not in keys_of(Outer)


def test_an_unknown_key_where_none_is_known_names_none():
    assert unknown_key("x", []) == "unknown key 'x'"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("plain: x", "f:1:8: plain: expected an integer, not 'x'"),
        ("plain: 1.5", "f:1:8: plain: expected an integer, not 1.5"),
        ("plain: null", "f:1:8: plain: expected an integer, not null"),
        ("plain: [1]", "f:1:8: plain: expected an integer, not a list"),
        ("flag: maybe", "f:1:7: flag: expected true or false, not 'maybe'"),
        ("version: 2", "f:1:10: version: expected '1.1', '2' or 'old', not 2; put it in quotes"),
        ("version: 3", "f:1:10: version: expected '1.1', '2' or 'old', not 3"),
        (
            "version: 1.1",
            "f:1:10: version: expected '1.1', '2' or 'old', not 1.1; put it in quotes",
        ),
        ("ratio: 0", "f:1:8: ratio: expected more than 0.0, not 0"),
        ("ratio: 1.5", "f:1:8: ratio: expected at most 1.0, not 1.5"),
        ("ratio: 0.7", "f:1:8: ratio: expected a multiple of 0.5, not 0.7"),
        ("name: a", "f:1:7: name: expected at least 2 characters, not 'a'"),
        ("name: abcde", "f:1:7: name: expected at most 4 characters, not 'abcde'"),
        ("name: A1", "f:1:7: name: expected text that matches ^[a-z]*$, not 'A1'"),
        ("name: true", "f:1:7: name: expected text, not true; put it in quotes"),
        ("either: 5", "f:1:9: either: expected '*', or expected a list, not 5"),
        ("tables: {a: {deep: x}}", "f:1:20: tables.a.deep: expected an integer, not 'x'"),
        ("items: [{}, {deep: x}]", "f:1:20: items[1].deep: expected an integer, not 'x'"),
        ("tables: {a: {dep: 1}}", f"f:1:14: tables.a.dep: {DEP}"),
        ("tables: []", "f:1:9: tables: expected a table, not a list"),
        ("wait: soon", f"f:1:7: wait: {DURATION}, not 'soon'"),
        ("secret: 5", "f:1:9: secret: expected text; put it in quotes"),
        ("psk: {dev1: hunter2}", "f:1:13: psk.dev1: expected a table"),
        ("psk: {dev1: {deep: hunter2}}", "f:1:20: psk.dev1.deep: expected an integer"),
    ],
)
def test_what_pydantic_says_is_said_in_the_words_of_the_file(text, problem):
    assert explained(text) == [problem]


def test_a_long_value_is_cut():
    (problem,) = explained(f"plain: {'x' * 1000}")
    assert len(problem) < 300
    assert problem.endswith("...")


def test_what_a_variable_holds_is_masked_in_a_validators_own_words():
    (problem,) = explained("wait: ${W}", W="hunter2hunter2")
    assert problem.endswith("or seconds, not what ${W} stands for")
