import pytest

from gateway.config.document import Document


def read(text, **environ):
    return Document("f.yaml", text, environ)


def problems(text, **environ):
    return [str(problem) for problem in read(text, **environ).problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("12:30", "12:30"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("-5", -5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("3.1.1", "3.1.1"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("~", None),
        ("null", None),
        ('"5"', "5"),
        ("!!str 5", "5"),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text, value):
    result = read(f"a: {text}").value["a"]
    assert result == value
    assert type(result) is type(value)


def test_keys_are_always_text():
    assert read("1: a\ntrue: b\nnull: c").value == {"1": "a", "true": "b", "null": "c"}


def test_a_key_that_stands_twice_is_reported_with_its_place():
    assert problems("a:\n  b: 1\n  c: 2\n  b: 3\n") == [
        "f.yaml:4:3: a.b: the key 'b' stands twice, first in line 2"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1, 2\nb: 3\n", "f.yaml:2:2: no YAML: expected ',' or ']', but got ':'"),
        ("a: 'x\n", "f.yaml:2:1: no YAML: found unexpected end of stream"),
        ("\tb: 1", "f.yaml:1:1: no YAML: found character '\\t' that cannot start any token"),
        ("a: 1\n b: 2\n", "f.yaml:2:3: no YAML: mapping values are not allowed here"),
    ],
)
def test_a_syntax_error_has_its_place(text, problem):
    (found,) = problems(text)
    assert found.startswith(problem)


def test_a_control_character_has_its_place():
    assert problems("a: 1\nb: \x07\n") == [
        "f.yaml:2:4: no YAML: the character '\\x07' is not allowed"
    ]


def test_a_second_document_is_refused():
    assert problems("a: 1\n---\nb: 2\n")[0].startswith("f.yaml:2:1: no YAML: but found another")


def test_a_table_as_key_is_refused():
    assert problems("{a: 1}: 2\n") == ["f.yaml:1:1: ?: expected a name as key"]


def test_an_alias_is_the_value_it_names():
    assert read("a: &x {b: 1}\nc: *x").value == {"a": {"b": 1}, "c": {"b": 1}}


def test_a_value_that_contains_itself_is_reported():
    assert problems("a: &x [1, *x]\n") == ["f.yaml:1:4: a[1]: a value can't contain itself"]


def test_an_unknown_tag_is_reported():
    assert problems("a: !!binary aGk=\n") == [
        "f.yaml:1:4: a: the tag 'tag:yaml.org,2002:binary' is not supported"
    ]


def test_variables_are_expanded_in_quoted_and_plain_text_and_stay_text():
    document = read('a: ${X}\nb: "<${X}>"\n', X="5")
    assert document.value == {"a": "5", "b": "<5>"}
    assert document.reference(("b",)) == "<${X}>"


def test_an_unset_variable_is_reported_at_its_value():
    document = read("a:\n  - ${NOPE}\n")
    assert [str(p) for p in document.problems] == [
        "f.yaml:2:5: a[0]: the environment variable NOPE is not set"
    ]
    assert ("a", 0) in document.unset


def test_only_the_whole_url_of_a_sink_may_be_an_unset_k_sink():
    assert read("sinks: {x: {url: '${K_SINK}'}}").value == {"sinks": {"x": {"url": ""}}}
    assert problems("sinks: {x: {url: '${K_SINK}/a'}}") == [
        "f.yaml:1:18: sinks.x.url: the environment variable K_SINK is not set"
    ]
    assert problems("sources: {x: {url: '${K_SINK}'}}") != []
