"""Where attributes stand among headers."""

import copy
import pickle

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bindings.errors import CloudEventError, InvalidEventError
from bindings.event import CheckedEvent, Event
from bindings.header_layout import event_of, layout_of
from tests.conftest import examples

REQUIRED = ["specversion", "id", "source", "type"]
HEADERS = ["the", "names", "of", "headers"]


def test_core_attributes_come_in_one_order_whatever_that_of_the_headers():
    layout = layout_of(HEADERS, ["time", "type", "", "ext", "source", "id", "specversion", "b"])
    assert layout.core == [6, 5, 4, 1, 8, 8, 8, 0]
    assert layout.extensions == [("ext", 3), ("b", 7)]
    assert layout.headers == HEADERS


def test_all_that_is_optional_has_its_place():
    layout = layout_of(HEADERS, [*REQUIRED, "subject", "dataschema", "datacontenttype", "time"])
    assert layout.core == [0, 1, 2, 3, 6, 5, 4, 7]
    assert layout.extensions == []


@pytest.mark.parametrize("name", REQUIRED)
def test_without_a_required_attribute_there_are_no_positions(name):
    layout = layout_of(HEADERS, [other for other in REQUIRED if other != name])
    assert not layout.core
    assert layout.headers == HEADERS


@pytest.mark.parametrize("name", [*REQUIRED, "ext"])
def test_with_an_attribute_that_stands_twice_there_are_no_positions(name):
    assert not layout_of(HEADERS, [*REQUIRED, "ext", name]).core
    assert layout_of(HEADERS, [*REQUIRED, "", ""]).core


USUAL = {
    "specversion": "1.0", "id": "b3c1", "source": "/devices/1", "type": "com.example.a",
    "datacontenttype": "text/plain", "dataschema": "urn:a", "subject": "room",
    "time": "2026-11-22T10:00:00.123Z", "partitionkey": "p", "ext": "e f",
}  # fmt: skip
LAYOUT = layout_of([*USUAL], [*USUAL])


def outcome(work):
    """What comes of it: all that an event says, or all that an error does."""
    try:
        event = work()
    except CloudEventError as error:
        return str(error), error.reason, getattr(error, "attribute", None)
    return event, event.key, event.attributes(), [*event.attributes()]


def checked(values):
    core = {name: value for name, value in values.items() if name not in ("partitionkey", "ext")}
    extensions = {name: values[name] for name in ("partitionkey", "ext")}
    return Event(**core, extensions=extensions, data=b"x")


@settings(max_examples=examples(500))
@given(
    st.dictionaries(
        st.sampled_from([*USUAL]),
        st.text(max_size=3)
        | st.sampled_from(
            ["", "a\n", "\x7f", "\ufffe", "\ud800", "1.0", "a b", "2026-02-30T00:00:00Z"]
        ),
        max_size=2,
    )
)
@example({"type": "\u200b"})
def test_values_are_judged_as_by_the_event_itself_also_when_most_are_known(changes):
    values = USUAL | changes
    expected = outcome(lambda: checked(values))
    for _ in range(2):  # what is right is known afterwards
        made = outcome(lambda: event_of(LAYOUT, [*values.values()], None, b"x", False))
        assert made == expected


@pytest.mark.parametrize("percent", [False, True])
def test_order_is_kept_by_the_partition_key_or_else_by_the_source(percent):
    values = {name: value for name, value in USUAL.items() if name != "partitionkey"}
    layout = layout_of([*values], [*values])
    for _ in range(2):
        assert event_of(LAYOUT, [*USUAL.values()], None, None, percent).key == "p"
        assert event_of(layout, [*values.values()], "", None, percent).key == "/devices/1"


def known_event():
    for _ in range(2):
        event = event_of(LAYOUT, [*USUAL.values()], None, b"x", False)
    assert type(event) is CheckedEvent
    return event


def test_a_changed_copy_of_an_event_of_known_values_is_checked():
    event = known_event()
    assert event.replace(source="/s", extensions={}).key == "/s"
    for wrong in ({"id": ""}, {"type": "\n"}, {"time": "now"}, {"extensions": {"A": ""}}):
        with pytest.raises(InvalidEventError):
            event.replace(**wrong)
    with pytest.raises(TypeError):
        event.replace(colour="red")


def test_an_event_of_known_values_is_like_any_other():
    event, other = known_event(), checked(USUAL)
    assert event == other
    assert hash(event) == hash(other)
    assert pickle.loads(pickle.dumps(event)) == copy.deepcopy(event) == other
    with pytest.raises(AttributeError):
        event.id = "2"
