"""Events and messages in their plain forms: compared by type, and to JSON and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindings.binding import Message
from bindings.errors import InvalidEventError, NotAnEventError
from bindings.event import Event
from conformance.forms import (
    Refused,
    WireEvent,
    bytes_from_json,
    event_from_json,
    event_to_json,
    events_from_json,
    message_from_json,
    message_to_json,
)

CORE = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


def test_events_are_compared_with_the_types_of_their_values():
    assert WireEvent({"a": 1}) == WireEvent({"a": 1})
    assert WireEvent({"a": 1}) != WireEvent({"a": True})
    assert WireEvent({"a": "1"}) != WireEvent({"a": 1})
    assert WireEvent({}, None) != WireEvent({}, b"")
    assert WireEvent({"a": 1}) != {"a": 1}
    assert hash(WireEvent(CORE)) == hash(WireEvent(dict(CORE)))


def test_an_event_goes_into_the_form_and_is_checked_on_the_way_back():
    event = Event(id="1", source="/s", type="t", extensions={"n": 5}, data=b"")
    form = WireEvent.of(event)
    assert form == WireEvent({**CORE, "n": 5}, b"")
    assert form.checked() == event
    with pytest.raises(InvalidEventError):
        WireEvent({"id": "1"}).checked()


@given(
    st.dictionaries(st.text(), st.text() | st.booleans() | st.integers() | st.binary()),
    st.none() | st.binary(),
)
def test_an_event_survives_json(attributes, data):
    event = WireEvent(attributes, data)
    assert event_from_json(json.loads(json.dumps(event_to_json(event)))) == event
    assert events_from_json([event_to_json(event)]) == [event]


@given(
    st.none() | st.binary(),
    st.text(),
    st.lists(st.tuples(st.text(), st.text())),
)
def test_a_message_survives_json(payload, content_type, headers):
    message = Message(payload, content_type, headers)
    assert message_from_json(json.loads(json.dumps(message_to_json(message)))) == message


def test_a_lone_surrogate_survives_json():
    message = Message(b"", "", [("a", "\udcff")])
    assert message_from_json(json.loads(json.dumps(message_to_json(message)))) == message


@pytest.mark.parametrize("value", ["a", "!", 5, "TWE"])
def test_what_is_no_base64_is_refused(value):
    with pytest.raises(ValueError, match="Base64"):
        bytes_from_json(value)


def test_a_refusal_is_of_the_kind_of_our_error():
    refusal = Refused.by(NotAnEventError("no event"))
    assert (str(refusal), refusal.kind) == ("no event", "not_an_event")
    assert Refused.by(InvalidEventError("x", reason="json")).kind == "invalid_event"
    assert Refused("x").kind == ""
