"""Plain payloads to events, beside the vectors in conformance/: wrong templates, odd facts."""

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindings.errors import InvalidEventError
from bindings.json_format import decode_event, encode_event
from bindings.wrap import Template, Wrapper
from tests.helpers import examples


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{topik}", "did you mean {topic}"),
        ("{clientid}", "did you mean {client_id}"),
        ("{}", "did you mean"),
        ("{topic", "no other half"),
        ("topic}", "no other half"),
        ("{topic[x]}", "numbered from 0"),
        ("{topic[-1]}", "numbered from 0"),
        ("{topic[]}", "numbered from 0"),
        ("{topic[1}", "no other half"),
        ("{Topic}", "did you mean {topic}"),
        ("{device[1]}", "write {device}"),
    ],
)
def test_a_wrong_template_says_what_would_be_right(text, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        Template(text)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"type": "", "source": "/s"}, "type"),
        ({"type": "t", "source": "a b"}, "source"),
        ({"type": "t", "source": ""}, "source"),
        ({"type": "t", "source": "/s", "extensions": {"Bad-Name": "x"}}, "Bad-Name"),
        ({"type": "t", "source": "/s", "extensions": {"data": "x"}}, "data"),
        ({"type": "t", "source": "/s", "datacontenttype": "json"}, "datacontenttype"),
        ({"type": "t", "source": "/s", "dataschema": "/relative/{topic}"}, "dataschema"),
        ({"type": "t", "source": "/s", "subject": "a\n"}, "subject"),
    ],
)
def test_a_table_that_no_message_could_satisfy_is_refused_at_once(table, says):
    with pytest.raises(ValueError, match=says):
        Wrapper(**table)


def test_a_constant_template_needs_no_facts():
    wrapper = Wrapper(type="t", source="/s", dataschema="urn:x:y", extensions={"a": "b"})
    event = wrapper.wrap(b"{}", {}, id="1", time=None)
    assert (event.type, event.source, event.subject) == ("t", "/s", None)
    assert (event.dataschema, event.extensions) == ("urn:x:y", {"a": "b"})


@pytest.mark.parametrize(
    ("template", "value", "source"),
    [
        ("{topic}", "a/b:c", "a/b%3Ac"),
        ("x{topic}", "a:b", "xa%3Ab"),
        ("x/{topic}", "a:b", "x/a:b"),
        ("#{device}", "a:b", "#a:b"),
        ("urn:{device}", "a:b", "urn:a:b"),
        ("//{device}", "a:b@c", "//a%3Ab%40c"),
        ("//host/{device}", "a:b@c", "//host/a:b@c"),
        ("mqtt://{device}/{topic}", "a:b", "mqtt://a%3Ab/a:b"),
        ("/{topic}", "[a]{b}", "/%5Ba%5D%7Bb%7D"),
        ("/{topic}", "50%", "/50%25"),
    ],
)
def test_what_is_inserted_can_not_change_the_parts_of_a_source(template, value, source):
    wrapper = Wrapper(type="t", source=template)
    event = wrapper.wrap(b"", {"topic": value, "device": value}, id="1", time=None)
    assert event.source == source


@settings(max_examples=examples(200))
@given(payload=st.binary(max_size=40), topic=st.text(max_size=20))
def test_any_message_becomes_a_valid_event_or_a_named_error(payload, topic):
    wrapper = Wrapper(type="t", source="/p/{topic}", subject="{topic[0]}")
    facts = {"topic": topic}
    if not topic.partition("/")[0] or not topic.isprintable():
        # Most of these are refused; what counts is that nothing else is raised.
        with contextlib.suppress(InvalidEventError):
            wrapper.wrap(payload, facts, id="1", time=None)
        return
    event = wrapper.wrap(payload, facts, id="1", time=None)
    assert event.data == (payload or None)
    assert decode_event(encode_event(event)) == event


def test_a_redelivery_is_the_same_event():
    wrapper = Wrapper(type="t", source="/s", subject="{topic}")
    made = [wrapper.wrap(b"21.5", {"topic": "a"}, id="s-7", time=None) for _ in range(2)]
    assert made[0] == made[1]


def test_a_lone_surrogate_in_a_fact_is_refused():
    wrapper = Wrapper(type="t", source="/{topic}")
    with pytest.raises(InvalidEventError) as caught:
        wrapper.wrap(b"", {"topic": "a\udcff"}, id="1", time=None)
    assert caught.value.reason == "forbidden_character"


@pytest.mark.parametrize("facts", [{}, {"path": "/a"}])
def test_a_part_that_is_missing_rejects_the_message(facts):
    wrapper = Wrapper(type="t", source="/{path[1]}")
    with pytest.raises(InvalidEventError) as caught:
        wrapper.wrap(b"", facts, id="1", time=None)
    assert caught.value.reason == "template"
    assert wrapper.wrap(b"", {"path": "/a/b"}, id="1", time=None).source == "/b"
