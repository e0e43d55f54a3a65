"""To the official SDK's type and back."""

import datetime as dt

import pytest
from cloudevents.core.v1.event import CloudEvent

from bindings.errors import InvalidEventError
from bindings.event import Event

BASE = {"id": "1", "source": "/s", "type": "t", "specversion": "1.0"}


def sdk_event(data=None, **attributes):
    made = CloudEvent({**BASE, **attributes}, data)
    if "time" not in attributes:
        del made.get_attributes()["time"]  # it invents one
    return made


@pytest.mark.parametrize(
    "event",
    [
        Event(id="1", source="/s", type="t"),
        Event(id="1", source="/s", type="t", data=b"\xff", extensions={"n": 5, "b": True}),
        Event(id="1", source="/s", type="t", time="2018-04-05T17:31:00.120000+01:00"),
        Event(id="1", source="/s", type="t", datacontenttype="text/plain", data="é".encode()),
        Event(id="1", source="/s", type="t", datacontenttype="text/plain", data=b"\xff"),
        Event(id="1", source="/s", type="t", datacontenttype="application/json", data=b'{"a": 1}'),
        Event(id="1", source="/s", type="t", datacontenttype="application/json", data=b'"x"'),
        Event(id="1", source="/s", type="t", datacontenttype="application/json", data=b"no json"),
        Event(id="1", source="/s", type="t", datacontenttype="a/b", subject="s", data=b""),
    ],
)
def test_an_event_survives_the_way_to_the_sdk_and_back(event):
    assert Event.from_sdk(event.to_sdk()) == event


def test_the_sdk_sees_values_and_no_time_that_nobody_set():
    made = Event(
        id="1", source="/s", type="t", datacontenttype="application/json", data=b'{"a":[1]}'
    ).to_sdk()
    assert made.get_data() == {"a": [1]}
    assert made.get_time() is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2018-04-05t17:31:00z", "2018-04-05T17:31:00+00:00"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59+00:00"),
        ("2018-04-05T17:31:00.5-01:00", "2018-04-05T17:31:00.500000-01:00"),
        ("2018-04-05T17:31:00.1234567891Z", "2018-04-05T17:31:00.123456+00:00"),
    ],
)
def test_a_time_is_cut_to_what_the_sdk_can_hold(text, expected):
    made = Event(id="1", source="/s", type="t", time=text).to_sdk()
    assert made.get_time() == dt.datetime.fromisoformat(expected)


def test_parsed_data_becomes_json_and_says_so():
    event = Event.from_sdk(sdk_event({"a": "é"}))
    assert (event.datacontenttype, event.data) == ("application/json", '{"a": "é"}'.encode())
    event = Event.from_sdk(sdk_event("text", datacontenttype="application/json"))
    assert event.data == b'"text"'
    event = Event.from_sdk(sdk_event("é", datacontenttype="text/plain; charset=iso-8859-1"))
    assert event.data == b"\xe9"


def test_what_the_sdk_does_not_check_is_checked():
    with pytest.raises(InvalidEventError):
        Event.from_sdk(sdk_event(subject="a\nb"))
    with pytest.raises(InvalidEventError):
        Event.from_sdk(sdk_event(ext=1.5))
    with pytest.raises(InvalidEventError):
        Event.from_sdk(sdk_event({"a": float("nan")}))
    with pytest.raises(InvalidEventError):
        Event.from_sdk(sdk_event({"a": object()}))
    with pytest.raises(InvalidEventError):
        Event.from_sdk(sdk_event("€", datacontenttype="text/plain; charset=us-ascii"))


def test_an_attribute_that_is_none_is_absent():
    event = sdk_event()
    event.get_attributes()["subject"] = None
    assert Event.from_sdk(event).subject is None
