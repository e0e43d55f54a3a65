"""Nodes: attributes by their types, and the limit on depth."""

import pytest

from bindings.event import CORE_ATTRIBUTES, Event
from gateway.cesql.errors import ErrorKind, ParseError
from gateway.cesql.nodes import FAILED, MAX_DEPTH, Node, above, as_type, attribute, exists, literal

BARE = Event(id="1", source="/s", type="t")
FULL = Event(
    id="1",
    source="/s",
    type="t",
    subject="x",
    time="2018-04-26T14:48:09+02:00",
    datacontenttype="text/plain",
    dataschema="https://example.com/schema",
    extensions={"n": -5, "b": False, "bin": b"\x00", "empty": ""},
)


class Recorder:
    def __init__(self):
        self.kinds = []

    def report(self, error, run, value):
        self.kinds.append(error.kind)
        return value


@pytest.mark.parametrize("name", sorted(CORE_ATTRIBUTES))
def test_core_attribute_is_a_text(name):
    node, recorder = attribute(name), Recorder()
    assert node.run(FULL, recorder) == FULL.attributes()[name]
    assert exists(name).run(FULL, recorder) is True
    assert recorder.kinds == []


@pytest.mark.parametrize(
    ("name", "value"), [("n", -5), ("b", False), ("bin", "AA=="), ("empty", "")]
)
def test_extension_keeps_its_type_but_for_binary(name, value):
    recorder = Recorder()
    found = attribute(name).run(FULL, recorder)
    assert (type(found), found) == (type(value), value)
    assert exists(name).run(FULL, recorder) is True
    assert recorder.kinds == []


@pytest.mark.parametrize("name", ["subject", "time", "datacontenttype", "dataschema", "n"])
def test_missing_attribute_has_no_value_under_any_cast_and_is_reported_once(name):
    for target in (str, int, bool, object):
        recorder = Recorder()
        assert as_type(attribute(name), target)(BARE, recorder) is FAILED
        assert recorder.kinds == [ErrorKind.MISSING_ATTRIBUTE]
    assert exists(name).run(BARE, Recorder()) is False


def test_operand_that_can_not_be_cast_has_no_value_and_is_reported_once():
    for target in (int, bool):
        recorder = Recorder()
        assert as_type(literal("x"), target)(BARE, recorder) is FAILED
        assert recorder.kinds == [ErrorKind.CAST]


def test_operand_of_the_right_type_is_taken_as_it_is():
    node = literal("x")
    assert as_type(node, str) is node.run
    assert as_type(literal(1), int)(BARE, Recorder()) == 1
    assert as_type(literal(1), object)(BARE, Recorder()) == 1


def test_depth_counts_the_deepest_operand_and_has_a_limit():
    shallow, deep = literal(1), Node(literal(1).run, int, depth=MAX_DEPTH - 1)
    assert above(shallow, deep)[0] == MAX_DEPTH
    with pytest.raises(ParseError, match=f"more than {MAX_DEPTH}"):
        above(shallow, Node(literal(1).run, int, depth=MAX_DEPTH))
