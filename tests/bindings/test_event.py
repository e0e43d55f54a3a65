"""The event model: what the vectors in conformance/ do not reach."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import bindings.event
from bindings.errors import InvalidEventError, TooLargeError, excerpt
from bindings.event import (
    CORE_ATTRIBUTES,
    Event,
    canonical_text,
    check_extension,
    event_from_attributes,
    is_json_type,
    is_media_type,
    is_valid_name,
)
from tests.helpers import examples

REQUIRED = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


def make(**attributes):
    return Event(**{"id": "1", "source": "/s", "type": "t", **attributes})


def fault(work):
    """What an error is about and why, None if there is none."""
    try:
        work()
    except InvalidEventError as error:
        return error.attribute, error.reason
    return None


def test_every_forbidden_code_point_is_refused_and_its_neighbours_are_not():
    forbidden = {*range(0x20), *range(0x7F, 0xA0), *range(0xD800, 0xE000), *range(0xFDD0, 0xFDF0)}
    forbidden |= {plane << 16 | low for plane in range(17) for low in (0xFFFE, 0xFFFF)}
    edges = {point + step for point in forbidden for step in (-1, 0, 1)} | {0x20, 0x10FFFD}
    for point in sorted(edges & set(range(0x110000))):
        refused = False
        try:
            make(subject=f"a{chr(point)}")
        except InvalidEventError as error:
            refused = error.reason == "forbidden_character"
        assert refused == (point in forbidden), hex(point)


def test_a_short_value_is_judged_the_same_the_second_time():
    for _ in range(2):
        with pytest.raises(InvalidEventError):
            make(source="a b")
        with pytest.raises(InvalidEventError):
            make(dataschema="/relative")
        assert make(source="/ok", dataschema="urn:x:y").source == "/ok"


def test_a_long_value_is_checked_though_it_is_not_remembered():
    assert make(source="/" + "a" * 5000).source.endswith("a")
    with pytest.raises(InvalidEventError) as caught:
        make(source="/" + "a" * 5000 + " ")
    assert caught.value.attribute == "source"
    assert len(str(caught.value)) < 300


def test_an_extension_may_not_hold_a_control_character():
    with pytest.raises(InvalidEventError) as caught:
        make(extensions={"ext": "a\n"})
    assert (caught.value.attribute, caught.value.reason) == ("ext", "forbidden_character")
    assert make(extensions={"ext": "é", "empty": ""}).extensions == {"ext": "é", "empty": ""}


def test_source_may_not_hold_a_control_character():
    with pytest.raises(InvalidEventError) as caught:
        make(source="/a\n")
    assert caught.value.reason == "forbidden_character"


@pytest.mark.parametrize("value", [1.5, None, [], {}, "x".join])
def test_an_extension_of_no_attribute_type_is_refused(value):
    with pytest.raises(InvalidEventError) as caught:
        make(extensions={"ext": value})
    assert (caught.value.attribute, caught.value.reason) == ("ext", "attribute_type")


def test_integers_are_of_32_bits():
    for number in (-(2**31), 2**31 - 1):
        check_extension("n", number)
    for number in (-(2**31) - 1, 2**31):
        with pytest.raises(InvalidEventError):
            check_extension("n", number)


def test_attributes_of_the_core_are_text():
    for name in REQUIRED:
        with pytest.raises(InvalidEventError) as caught:
            event_from_attributes({**REQUIRED, name: 5}, None)
        assert (caught.value.attribute, caught.value.reason) == (name, "attribute_type")


def test_making_an_event_leaves_the_attributes_as_they_were():
    attributes = {**REQUIRED, "ext": "x"}
    event = event_from_attributes(attributes, b"")
    assert attributes == {**REQUIRED, "ext": "x"}
    assert event.attributes() == attributes
    assert event.data == b""


def test_attributes_are_listed_with_the_core_first():
    event = make(
        extensions={"a": 1}, time="2018-04-05T17:31:00Z", subject="s", dataschema="urn:x:y",
        datacontenttype="a/b",
    )  # fmt: skip
    assert list(event.attributes()) == [
        "specversion", "id", "source", "type", "datacontenttype", "dataschema", "subject", "time",
        "a",
    ]  # fmt: skip


def test_events_are_equal_by_what_they_say():
    assert make(extensions={"a": 1}) == make(extensions={"a": 1}, encoded=b"{}")
    assert make(extensions={"a": 1}) != make(extensions={"a": True})
    assert make(data=b"") != make()
    assert (make() == "event") is False
    assert hash(make()) == hash(make(subject="x"))


def test_a_changed_copy_forgets_how_it_was_written_and_is_checked():
    event = make(encoded=b"{}", data=b"x")
    assert event.replace(subject="s").encoded is None
    assert event.replace(subject="s").data == b"x"
    assert event.replace(encoded=b"[]").encoded == b"[]"
    with pytest.raises(InvalidEventError):
        event.replace(subject="")


def test_only_version_1_0_is_read():
    with pytest.raises(InvalidEventError) as caught:
        make(specversion="1.0.2")
    assert caught.value.reason == "specversion"


@pytest.mark.parametrize("time", ["2018-02-29T00:00:00Z", "2018-04-31T00:00:00Z", "yesterday"])
def test_a_day_that_never_was_is_no_time(time):
    with pytest.raises(InvalidEventError) as caught:
        make(time=time)
    assert caught.value.attribute == "time"


def test_order_is_kept_by_partitionkey_or_else_by_source():
    assert make().key == "/s"
    assert make(extensions={"partitionkey": "p"}).key == "p"
    assert make(extensions={"partitionkey": 5}).key == "/s"


def test_data_is_json_by_its_media_type_only():
    assert not make(data=b"{}").has_json_data
    assert make(datacontenttype="application/json").has_json_data
    assert not make(datacontenttype="application/json-seq").has_json_data


def test_values_have_one_canonical_text():
    assert [canonical_text(value) for value in ("a", True, False, -5, b"\xff\xef\xbf")] == [
        "a", "true", "false", "-5", "/++/",
    ]  # fmt: skip


def test_checks_of_media_types_take_linear_time():
    assert not is_media_type("a/b" + "; " * 5000 + "\0")
    assert not is_media_type("a/b" + ';a="' * 5001)
    assert not is_json_type("a/" + "+" * 5000)
    assert not is_valid_name("a" * 5000 + "-")


def test_an_error_shows_little_of_a_long_value():
    assert excerpt("ab") == "'ab'"
    assert len(excerpt("a" * 1000)) == 200
    assert TooLargeError("too large", limit=5).limit == 5


@pytest.mark.parametrize("time", ["2026-02-30T10:00:00Z", "2026-01-01T10:00:00Z\n", ""])
def test_a_time_that_is_none_is_refused(time):
    assert fault(lambda: make(time=time)) == ("time", "attribute_type")


@settings(max_examples=examples(1000))
@given(
    st.lists(
        st.sampled_from([*"/:?#[]@!$&+.-%_~aZ0", "//", "://", ":8080", "%41", "urn:", "é", " "]),
        max_size=7,
    ).map("".join)
)
@example("//host")
@example("http://")
@example("a//b")
def test_a_source_is_judged_the_same_at_once_and_by_its_parts(source):
    expected = fault(lambda: bindings.event._check_uri_reference("source", source))
    for _ in range(2):  # from memory the second time
        assert fault(lambda: make(source=source)) == expected


@pytest.mark.parametrize(
    "source",
    ["/devices/1", "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66", "https://a.example:8080/b/c",
     "https://a.example", "mailto:x", "a/b", "1-555-123-4567"],
)  # fmt: skip
def test_the_usual_sources_are_told_at_once(source):
    assert bindings.event._USUAL_REFERENCE.fullmatch(source)


@settings(max_examples=examples(300))
@given(
    st.dictionaries(
        st.sampled_from(sorted(CORE_ATTRIBUTES | {"ext", "data", "B"})),
        st.sampled_from(
            ["1.0", "/s", "a b", "", "a/b", "2026-01-01T10:00:00Z", "é", "a\n", None, 1]
        )
        | st.text(max_size=3),
    )
)
def test_attributes_are_judged_as_by_the_constructor(attributes):
    merged = {**REQUIRED, **attributes}
    present = {name: value for name, value in merged.items() if value is not None}
    core = {name: value for name, value in present.items() if name in CORE_ATTRIBUTES}
    rest = {name: value for name, value in merged.items() if name not in CORE_ATTRIBUTES}
    wrong = [name for name, value in core.items() if not isinstance(value, str)]
    missing = [name for name in REQUIRED if name not in present]
    if missing:
        expected = missing[0], "missing_attribute"
    elif wrong:
        expected = fault(lambda: event_from_attributes(merged, b"x"))
        assert expected in [(name, "attribute_type") for name in wrong]
    else:
        expected = fault(lambda: Event(**core, extensions=rest, data=b"x"))
    assert fault(lambda: event_from_attributes(merged, b"x")) == expected
    if expected is None:
        made = event_from_attributes(merged, b"x")
        assert made == Event(**core, extensions=rest, data=b"x")
