import json
import re

import pytest

from bindings.errors import InvalidEventError
from gateway.cli.messages import Template, filler, guess, read_data
from gateway.cli.senders import Plain


def test_an_event_is_made_of_the_options():
    event = Template(
        type="t", source="/s", id="1", subject="x", data=b"{}", extensions={"a": "b"}
    ).message(0)
    assert (event.type, event.source, event.id, event.subject) == ("t", "/s", "1", "x")
    assert (event.data, event.datacontenttype, event.extensions) == (
        b"{}",
        "application/json",
        {"a": "b"},
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", event.time)


def test_ids_differ_between_messages():
    assert Template().message(0).id != Template().message(1).id
    named = Template(id="a", count=2)
    assert [named.message(i).id for i in (0, 1)] == ["a-0", "a-1"]


def test_devices_take_turns_as_source():
    template = Template(source="/d", devices=2)
    assert [template.message(i).source for i in range(3)] == ["/d/0", "/d/1", "/d/0"]


def test_an_event_without_data_has_no_content_type():
    event = Template().message(0)
    assert (event.data, event.datacontenttype) == (None, None)


def test_a_plain_payload_is_no_event():
    assert Template(plain=True, data=b"21.5").message(0) == Plain(b"21.5", "")


def test_wrong_attributes_are_refused():
    with pytest.raises(InvalidEventError):
        Template(extensions={"Big": "x"}).message(0)


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"21.5", "application/json"),
        (b"hello", "text/plain"),
        (b"", "text/plain"),
        (b"\xff", "application/octet-stream"),
    ],
)
def test_the_media_type_is_as_the_data_looks(data, media_type):
    assert guess(data) == media_type


def test_made_up_data_is_json_of_the_size_that_was_asked_for():
    assert len(filler(7, 200)) == 200
    assert json.loads(filler(7, 200))["n"] == 7
    assert json.loads(filler(7, 1))["n"] == 7


def test_data_is_text_or_a_file(tmp_path):
    (tmp_path / "f").write_bytes(b"\x00")
    assert read_data("text") == b"text"
    assert read_data(f"@{tmp_path}/f") == b"\x00"
    assert read_data(None) is None
