"""The JSON event format: what the vectors in conformance/ do not reach."""

import contextlib
import json
from types import MappingProxyType

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindings import json_format
from bindings.errors import (
    CloudEventError,
    InvalidEventError,
    NotAnEventError,
    TooManyEventsError,
)
from bindings.event import Event
from bindings.json_format import (
    decode_bare_event,
    decode_base64,
    decode_batch,
    decode_event,
    encode_event,
    is_json,
)
from tests.bindings.strategies import events
from tests.helpers import examples

MINIMAL = b'{"specversion":"1.0","id":"1","source":"/s","type":"t"}'


@settings(max_examples=examples(150))
@given(events())
def test_an_event_survives_the_json_format(event):
    encoded = encode_event(event)
    back = decode_event(encoded)
    document = json.loads(encoded)
    assert back.data == event.data
    assert back.encoded == encoded
    assert not {"data", "data_base64"} <= document.keys()
    # JSON writes Binary as text, and has no type to tell it by.
    expected = {
        name: document[name] if isinstance(value, bytes) else value
        for name, value in event.attributes().items()
    }
    assert back.attributes() == expected


@settings(max_examples=examples(300))
@given(events())
def test_the_attributes_are_written_as_one_object_in_their_order(event):
    attributes = msgspec.json.encode(event.attributes())
    without_data = event.replace(data=None)
    assert encode_event(without_data) == attributes
    if event.data is not None:
        assert encode_event(event).startswith(attributes[:-1] + b',"data')


def test_extensions_may_be_in_any_mapping():
    extensions = MappingProxyType({"a": "b", "c": True})
    event = Event(id="1", source="/s", type="t", extensions=extensions)
    assert encode_event(event) == MINIMAL[:-1] + b',"a":"b","c":true}'


@settings(max_examples=examples(300))
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda text: text.encode())))
def test_garbage_raises_nothing_but_the_named_errors(payload):
    for decode in (decode_event, decode_batch, decode_bare_event):
        with pytest.raises(CloudEventError):
            decode(payload + b"\0")


@settings(max_examples=examples(300))
@given(st.data())
def test_a_damaged_event_raises_nothing_but_the_named_errors(data):
    payload = bytearray(
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t","n":5,"b":true,'
        b'"datacontenttype":"text/plain; charset=utf-8","data":"a\\u00e9","x":null}'
    )
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(payload) - 1))
        payload[position] = data.draw(st.integers(0, 255))
    try:
        event = decode_event(bytes(payload))
    except InvalidEventError:
        return
    # What is accepted, an independent parser reads too, and sees the same id.
    document = json.loads(payload)
    assert document["id"] == event.id


@pytest.mark.parametrize("depth", [2_000, 200_000])
@pytest.mark.parametrize("place", ['"data":%s', '"ext":%s', '"data":{"a":%s}'])
def test_a_depth_bomb_is_an_invalid_event(depth, place):
    bomb = place % ("[" * depth + "]" * depth)
    payload = MINIMAL[:-1] + b"," + bomb.encode() + b"}"
    for decode in (decode_event, decode_bare_event):
        with pytest.raises(CloudEventError):
            decode(payload)
    with pytest.raises(InvalidEventError):
        decode_batch(b"[" + payload + b"]")
    with pytest.raises(InvalidEventError):
        decode_batch(b"[" * depth)
    assert not is_json(b"[" * depth + b"]" * depth)


def test_any_depth_raises_only_the_named_error():
    # Around the interpreter's limit the first or the second pass over the members gives up.
    for depth in range(850, 1010):
        # An escape in a name, so that the members are counted one by one.
        payload = MINIMAL[:-1] + b', "d\\u0061ta":' + b"[" * depth + b"]" * depth + b"}"
        for decode in (decode_event, decode_bare_event):
            with contextlib.suppress(CloudEventError):
                decode(payload)


def test_a_huge_number_is_kept_as_data_and_refused_as_attribute():
    digits = b"1" * 100_000
    assert decode_event(MINIMAL[:-1] + b',"data":' + digits + b"}").data == digits
    with pytest.raises(InvalidEventError):
        decode_event(MINIMAL[:-1] + b',"ext":' + digits + b"}")


def test_only_what_was_decoded_is_passed_on_untouched():
    odd = b' { "type":"t", "specversion":"1.0" ,"id":"\\u0031","source":"\\/s","data": 1E400 } '
    event = decode_event(odd)
    assert encode_event(event) is odd
    assert encode_event(event.replace(subject="x")) == (
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t",'
        b'"datacontenttype":"application/json","subject":"x","data":1E400}'
    )


def test_a_batch_keeps_order_and_the_bytes_of_each_event():
    first = b'{"specversion":"1.0", "id":"1","source":"/s","type":"t","data":[1, 2]}'
    events_ = decode_batch(b" [ " + first + b" ,\n" + MINIMAL + b"] ")
    assert [event.id for event in events_] == ["1", "1"]
    assert [event.encoded for event in events_] == [first, MINIMAL]
    assert decode_batch(b"[]") == []


def test_a_broken_event_in_a_batch_is_named_by_its_position():
    with pytest.raises(InvalidEventError, match="event 1 of the batch") as caught:
        decode_batch(b"[" + MINIMAL + b',{"specversion":"1.0","id":"","source":"/s","type":"t"}]')
    assert (caught.value.attribute, caught.value.reason) == ("id", "empty_attribute")


def test_a_batch_above_the_limit_is_refused_before_its_events_are_looked_at():
    assert len(decode_batch(b"[" + MINIMAL + b"," + MINIMAL + b"]", max_events=2)) == 2
    with pytest.raises(TooManyEventsError, match="more than 2 events") as caught:
        decode_batch(b"[0,0,0]", max_events=2)
    assert caught.value.reason == "too_large"


def test_a_batch_has_to_be_utf_8():
    with pytest.raises(InvalidEventError, match="UTF-8"):
        decode_batch(b'["\xff"]')


def test_a_bare_event_is_told_by_its_specversion():
    assert decode_bare_event(MINIMAL) == decode_event(MINIMAL)
    with pytest.raises(NotAnEventError):
        decode_bare_event(b'{"data":{"specversion":"1.0"}}')
    with pytest.raises(NotAnEventError):
        decode_bare_event(b'["specversion"]')
    with pytest.raises(NotAnEventError):
        decode_bare_event(b'{"\xff":"","specversion":"1.0"}')


@settings(max_examples=examples(100))
@given(st.binary(max_size=40))
def test_base64_of_any_bytes_is_read_back(data):
    import base64

    assert decode_base64("x", base64.b64encode(data).decode()) == data


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (b'"a":1,"a":2', "duplicate_attribute"),
        (b'"a b c d e f":1, "a b c d e f" : 1', "duplicate_attribute"),
        (b' "a" : 1,\n\t"b" : "x y" , "a" : 1 ', "duplicate_attribute"),
        (b'"\\u0061":1,"a":2', "duplicate_attribute"),
        (b'"data":" ","data": "a b" ', "duplicate_attribute"),
        # blanks in a name could make up for the missing bytes, but it is no attribute name
        (b'"a      b":1,"c":1,"c":1', "attribute_name"),
        (b'"data":1,"data_base64":null', "data_twice"),
        (b'"A":null', "attribute_name"),
        (b'"data_base64":1', "base64"),
        (b'"datacontenttype":"text/plain; charset=klingon","data":"a"', "charset"),
    ],
)
def test_what_is_ambiguous_is_refused(members, reason):
    with pytest.raises(InvalidEventError) as caught:
        decode_event(MINIMAL[:-1] + b"," + members + b"}")
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("members", "data"),
    [
        (b'"data":null', b"null"),
        (b'"datacontenttype":"text/plain","data":{"a":1}', b'{"a":1}'),
        (b'"datacontenttype":"text/plain; charset=iso-8859-1","data":"\\u00e9"', b"\xe9"),
        (b'"data_base64":null', None),
        (b'"data_base64":"\\/w=="', b"\xff"),
    ],
)
def test_data_are_the_bytes_that_were_meant(members, data):
    assert decode_event(MINIMAL[:-1] + b"," + members + b"}").data == data


def test_base64_outside_ascii_names_the_attribute():
    with pytest.raises(InvalidEventError) as caught:
        decode_base64("ext", "é===")
    assert (caught.value.attribute, caught.value.reason) == ("ext", "base64")


def test_the_largest_event_of_the_specification_survives():
    data = bytes(range(256)) * 192  # 48 KiB, 64 KiB in Base64
    event = Event(id="1", source="/s", type="t", data=data)
    assert len(encode_event(event)) > 65536
    assert decode_event(encode_event(event)).data == data


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        (
            "text/plain; charset=utf-16",
            "é".encode("utf-16-be"),
        ),  # no mark: would come back another way
        ("text/plain; charset=klingon", b"a"),
        ("text/plain; charset=base64", b"YQ=="),
        ("text/plain; charset=utf-7", b"+/v8"),
        ("text/plain; charset=utf-7", b"+2AA-"),  # a lone surrogate, which JSON can't say
        ("image/png", b"a"),
        ("application/octet-stream", b"a"),
    ],
)
def test_text_that_would_not_come_back_the_same_goes_as_bytes(media_type, data):
    event = Event(id="1", source="/s", type="t", datacontenttype=media_type, data=data)
    assert "data_base64" in json.loads(encode_event(event))
    assert decode_event(encode_event(event)).data == data


def outcome(work):
    """What comes of it: the event with its bytes, or all that an error says."""
    try:
        event = work()
    except CloudEventError as error:
        return type(error), str(error), error.reason, getattr(error, "attribute", None)
    return event.attributes(), event.data, event.encoded


def by_members(payload):
    """Decode without the short cut."""
    json_format._check_utf8(payload)
    return json_format._event(json_format._members(payload), payload)


MEMBERS = [
    '"specversion":"1.0"', '"id":"1"', '"source":"/s"', '"type":"t"', '"data":{"data":[1, "a"]}',
    '"data" : "x,\\"data\\":1"', '"data":1', '"data_base64":"YQ=="', '"ext":"\\"data\\":"',
    '"datacontenttype":"text/plain"', '"datacontenttype":null', '"n":5', '"\\u0064ata":2', '"":""',
    '"id":"2"', '"e":"é"', '"d":{"data":1}', '"data":', '"data":[}', '"a":"\\u0041"',
    '"data":"\\ud800"', "",
]  # fmt: skip
SEPARATORS = [",", ", ", " ,", ",,", "\n,\n"]


@settings(max_examples=examples(2000))
@given(
    members=st.permutations(MEMBERS[:4]).flatmap(
        lambda required: st.lists(st.sampled_from(MEMBERS), max_size=4).map(
            lambda more: [*required, *more]
        )
    ),
    cut=st.integers(0, 1),
    separators=st.lists(st.sampled_from(SEPARATORS[:1] * 9 + SEPARATORS), min_size=8, max_size=8),
    ends=st.sampled_from(["{}", " {}", "{ }\n", "{}}", "{", "}", "[]", "{}\x00", "{\xa0}"]),
)
def test_the_short_cut_sees_what_a_reading_by_members_sees(members, cut, separators, ends):
    text = "".join(
        part for pair in zip(members[cut:], separators, strict=False) for part in pair
    ).removesuffix(separators[len(members) - cut - 1])
    payload = (ends.replace("{", "{" + text, 1) if "{" in ends else text + ends).encode()
    assert outcome(lambda: decode_event(payload)) == outcome(lambda: by_members(payload))


@settings(max_examples=examples(500))
@given(event=events(), data=st.data())
def test_the_short_cut_sees_the_same_damage(event, data):
    payload = bytearray(encode_event(event))
    for _ in range(data.draw(st.integers(0, 2))):
        position = data.draw(st.integers(0, len(payload) - 1))
        payload[position] = data.draw(st.sampled_from(b'",:{}[]\\ad1 \xc3\xff'))
    payload = bytes(payload)
    assert outcome(lambda: decode_event(payload)) == outcome(lambda: by_members(payload))


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,", ":\n")])
def test_the_usual_form_takes_the_short_cut(separators):
    document = {**json.loads(MINIMAL), "subject": "é", "data": {"data": [1, {"data": None}]}}
    payload = json.dumps(document, separators=separators, ensure_ascii=False).encode()
    event = json_format._usual_event(payload)
    assert event == by_members(payload)
    assert event.encoded is payload


@pytest.mark.parametrize(
    "payload",
    [
        MINIMAL,
        b'{"data":1,' + MINIMAL[1:],
        b'{,"data":1}',
        MINIMAL[:-1] + b',"n":1,"data":1}',
        MINIMAL[:-1] + b',"id":"2","data":1}',
        MINIMAL[:-1] + b',"data_base64":"YQ==","data":1}',
        MINIMAL[:-1] + b',"data":1} ',
        MINIMAL[:-1] + b',"data":1,"x":"y"}',
        MINIMAL[:-1] + b',,"data":1}',
        MINIMAL[:-1] + b',"x":"\\n","data":1}',
    ],
)
def test_any_other_form_is_read_by_members(payload):
    assert json_format._usual_event(payload) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a/\u00e9", b'"a/\xc3\xa9"'),
        ("", b'""'),
        (-5, b"-5"),
        (False, b"false"),
        (b"\xff", b'"/w=="'),
    ],
)
def test_an_only_extension_stands_behind_the_core_attributes_whatever_its_type(value, text):
    for name in ("partitionkey", "ext"):
        event = Event(id="1", source="/s", type="t", subject="u", extensions={name: value})
        expected = (
            b'{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"u","%s":%s}'
        ) % (name.encode(), text)
        assert encode_event(event) == expected
        more = event.replace(
            extensions={name: value, "b": "c"}, data=b"[1]", datacontenttype="a/json"
        )
        assert encode_event(more).endswith(b',"%s":%s,"b":"c","data":[1]}' % (name.encode(), text))


@pytest.mark.parametrize("payload", [b"{", b"[]", b"2"])
def test_what_is_no_event_is_told_so_before_the_parser_says_why(payload):
    with pytest.raises(InvalidEventError, match=r"not the JSON format of events: .+"):
        decode_event(payload)
    with pytest.raises(InvalidEventError, match=r"not the JSON format of events: .+"):
        decode_batch(payload if payload != b"[]" else b"{}")
