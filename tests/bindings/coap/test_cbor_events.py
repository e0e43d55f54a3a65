"""CBOR over CoAP: the compact form, base records, batches, what the gateway fills in."""

import struct

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindings.coap import Moment, Peer, Route, decode_request, diagnostic, read_request
from bindings.errors import CloudEventError, InvalidEventError, UnknownEncodingError
from bindings.wire.coap import Message, parse
from tests.helpers import examples

PEER = Peer(b"udp 192.0.2.1 5683", "coap://192.0.2.1")
MOMENT = Moment(1767323045.2504, "2026-01-02T03:04:05.250Z")
STRUCTURED = Route(mode="structured", defaults={"type": "t.x"}, any_source=True)
BATCH = Route(mode="batch", defaults={"type": "t.x"}, any_source=True)
LAB = Route(lab_formats=True, any_source=True)
ARRAY, SEQUENCE = 60, 63


def decode(content_format, payload, route, *queries):
    options = [(12, content_format.to_bytes(2, "big")), *[(15, query) for query in queries]]
    message = Message(0, 2, 0x1234, b"\xa1", options, payload)
    return decode_request(read_request(message), payload, route, PEER, MOMENT)


def structured(entries, *queries):
    payload = entries if isinstance(entries, bytes) else cbor2.dumps(entries)
    (event,) = decode(60, payload, STRUCTURED, *queries)
    return event


def sequence(*items, queries=()):
    payload = b"".join(map(cbor2.dumps, items))
    return decode(SEQUENCE, payload, BATCH, *queries)


def refused(call, reason, attribute=None):
    with pytest.raises(InvalidEventError) as caught:
        call()
    assert (caught.value.reason, caught.value.attribute) == (reason, attribute)


def test_example_d_of_the_binding():
    message = parse(
        bytes.fromhex(
            "41021234a1b26365017311"
            "3cffa40170636f6d2e61636d652e74656d702e76310319126706183208a16174f94d60"
        )
    )
    (event,) = decode_request(read_request(message), message.payload, STRUCTURED, PEER, MOMENT)
    assert event.attributes() == {
        "specversion": "1.0", "type": "com.acme.temp.v1", "id": "4711", "time": MOMENT.text,
        "source": "coap://192.0.2.1", "datacontenttype": "application/json",
    }  # fmt: skip
    assert event.data == b'{"t":21.5}'
    assert event.encoded is None


# --- the compact form -----------------------------------------------------------------------------


def test_every_key_stands_for_its_attribute():
    event = structured(
        {0: "1.0", 1: "t", 2: "/s", 3: "1", 4: "2026-01-02T03:04:05+02:00", 5: "j",
         6: "text/plain", 7: "urn:x", 8: b"x", "flag": True, "n": -5, "b": b"\0", "w": "t"}
    )  # fmt: skip
    assert event.attributes() == {
        "specversion": "1.0", "type": "t", "source": "/s", "id": "1", "subject": "j",
        "time": "2026-01-02T03:04:05+02:00", "datacontenttype": "text/plain", "dataschema": "urn:x",
        "flag": True, "n": -5, "b": b"\0", "w": "t",
    }  # fmt: skip
    assert event.data == b"x"


@pytest.mark.parametrize(
    ("value", "id_"),
    [("x", "x"), (0, "0"), (2**64 - 1, "18446744073709551615"), (b"\0\xfe", "00fe")],
)
def test_an_id_may_be_short(value, id_):
    assert structured({3: value}).id == id_


@pytest.mark.parametrize(
    ("value", "time"),
    [
        (1767323045, "2026-01-02T03:04:05Z"),
        (1, "1970-01-01T00:00:01Z"),
        (1767323045.0, "2026-01-02T03:04:05Z"),
        (1767323045.5, "2026-01-02T03:04:05.500Z"),
        (1767323045.1, "2026-01-02T03:04:05.100Z"),
        (1767323045.000125, "2026-01-02T03:04:05.000125Z"),
        (253402300799, "9999-12-31T23:59:59Z"),
        (0, "2026-01-02T03:04:05.250Z"),
        (-60, "2026-01-02T03:03:05.250Z"),
        (-0.25, "2026-01-02T03:04:05Z"),
        (-1767323045, "1970-01-01T00:00:00.250Z"),
    ],
)
def test_a_time_may_be_a_number(value, time):
    assert structured({3: "1", 4: value}).time == time


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), float("-inf"), 253402300800, 2**64 - 1, -(2**64), 1e300,
              cbor2.CBORTag(1, 5), cbor2.CBORTag(0, "2026-01-02T03:04:05Z"), True, None, b"1", [1]],
)  # fmt: skip
def test_what_is_no_time_is_refused(value):
    refused(lambda: structured({3: "1", 4: value}), "attribute_type", "time")


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [(0, 1, "specversion"), (1, 1, "type"), (2, b"/s", "source"),
     (2, cbor2.CBORTag(32, "/s"), "source"),
     (3, -1, "id"), (3, 1.0, "id"), (3, True, "id"), (3, None, "id"), (5, 1, "subject"),
     (5, None, "subject"), (6, -1, "datacontenttype"), (6, 50.0, "datacontenttype"),
     (6, False, "datacontenttype"), (7, 7, "dataschema"), ("ext", 1.5, "ext"), ("ext", None, "ext"),
     ("ext", 2**31, "ext"), ("ext", {}, "ext"), ("ext", cbor2.undefined, "ext")],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(key, value, name):
    refused(lambda: structured({"w": "x", 8: 1, key: value}), "attribute_type", name)


def test_a_media_type_may_be_a_number():
    assert structured({6: 0, 8: b"x"}).datacontenttype == "text/plain;charset=utf-8"
    assert structured({6: 432}).datacontenttype == "application/td+json"
    for number in (9999, 65060, 2**32):
        with pytest.raises(UnknownEncodingError):
            structured({6: number, 8: b"x"})


@pytest.mark.parametrize(
    ("content_type", "item", "expected_type", "data"),
    [
        (None, "4200ff", "application/octet-stream", b"\0\xff"),
        (None, "40", "application/octet-stream", b""),
        (None, "a16174fb4035800000000000", "application/cbor", "a16174fb4035800000000000"),
        (None, "626869", "application/cbor", "626869"),
        (None, "f6", "application/cbor", "f6"),
        ("1832", "f6", "application/json", b"null"),
        ("1832", "626869", "application/json", b'"hi"'),
        ("1832", "623132", "application/json", b'"12"'),
        ("1832", "63225c0a", "application/json", b'"\\"\\\\\\n"'),
        ("1832", "427b7d", "application/json", b"{}"),
        ("1832", "9f01820203bf616120ffff", "application/json", b'[1,[2,3],{"a":-1}]'),
        ("1832", "3bffffffffffffffff", "application/json", b"-18446744073709551616"),
        ("1832", "fb7e37e43c8800759c", "application/json", b"1e300"),
        ("186e", "81a16176f94d60", "application/senml+json", b'[{"v":21.5}]'),
        ("183c", "1805", "application/cbor", "1805"),
        ("183c", "420102", "application/cbor", b"\1\2"),
        ("1870", "9fff", "application/senml+cbor", "9fff"),
        ("00", "626869", "text/plain;charset=utf-8", b"hi"),
        ("182a", "8101", "application/octet-stream", "8101"),
        ("182a", "626869", "application/octet-stream", b"hi"),
    ],
)
def test_data_is_bytes_or_an_embedded_value(content_type, item, expected_type, data):
    entries = "" if content_type is None else "06" + content_type
    count = 0xA2 if content_type is None else 0xA3
    payload = bytes((count,)) + bytes.fromhex("0301" + entries + "08" + item)
    event = structured(payload)
    assert event.datacontenttype == expected_type
    assert event.data == (bytes.fromhex(data) if isinstance(data, str) else data)


@pytest.mark.parametrize("item", ["8140", "c11a695735a5", "a10102", "f97e00", "f9fc00", "f7", "e0"])
def test_what_json_has_not_is_refused_under_a_json_type(item):
    payload = bytes.fromhex("a3030106183208" + item)
    refused(lambda: structured(payload), "json")


@pytest.mark.parametrize(
    ("payload", "reason", "attribute"),
    [
        ("a2030109f5", "attribute_name", "9"),
        ("a203012141" + "00", "attribute_name", "-2"),
        ("a203014100f5", "attribute_name", "b'\\x00'"),
        ("a20301f5f5", "attribute_name", "True"),
        ("a20301f93c00f5", "attribute_name", "1.0"),
        ("a203010302", "duplicate_attribute", None),
        ("a20301180302", "duplicate_attribute", None),
        ("a2030162696401", "duplicate_attribute", "id"),
        ("a2080064646174" + "6100", "duplicate_attribute", "data"),
        ("a2030163457874f5", "attribute_name", "Ext"),
        ("a10301" + "00", "cbor", None),
        ("a103", "cbor", None),
        ("80", "cbor", None),
        ("", "cbor", None),
        ("a1085b7fffffffffffffff", "cbor", None),
        ("a220f50301", "base_record", None),
        ("a220f40301", "base_record", None),
    ],
)
def test_a_map_that_is_no_event_is_refused(payload, reason, attribute):
    refused(lambda: structured(bytes.fromhex(payload)), reason, attribute)


def test_nesting_ends_at_sixteen_also_in_an_array_of_events():
    def event(depth):
        return bytes.fromhex("a2030108") + b"\x81" * depth + b"\x80"

    assert structured(event(14)).data == event(14)[4:]
    refused(lambda: structured(event(15)), "cbor")
    assert len(decode(ARRAY, b"\x81" + event(14), BATCH)) == 1
    refused(lambda: decode(ARRAY, b"\x81" + event(15), BATCH), "cbor")
    assert len(decode(SEQUENCE, event(14) * 2, BATCH)) == 2


# --- text keys ------------------------------------------------------------------------------------


def test_with_text_keys_the_working_draft_rules():
    event = structured(
        {"id": "1", "time": cbor2.CBORTag(0, "2026-01-02T03:04:05Z"), "subject": None,
         "source": cbor2.CBORTag(32, "/q"), "datacontenttype": "application/json", "data": "[1, 2]"}
    )  # fmt: skip
    assert (event.source, event.time, event.subject) == ("/q", "2026-01-02T03:04:05Z", None)
    assert event.data == b"[1, 2]"
    assert structured({"data": b"x"}).datacontenttype == "application/octet-stream"
    refused(lambda: structured({"id": 1}), "attribute_type", "id")
    refused(lambda: structured({"time": 1767323045}), "attribute_type", "time")


def test_an_empty_map_becomes_an_event_of_defaults():
    event = structured({})
    assert (event.type, event.source, event.time) == ("t.x", "coap://192.0.2.1", MOMENT.text)
    assert len(event.id) == 16
    assert event == structured({})


# --- the query ------------------------------------------------------------------------------------


def test_the_query_gives_defaults_and_may_not_contradict():
    event = structured({3: 5, "n": 5, 8: "hi"}, b"i=5", b"ce-n=5", b"s=/q", b"c=text/plain")
    assert (event.source, event.datacontenttype, event.data) == ("/q", "text/plain", b"hi")
    assert event.extensions == {"n": 5}
    refused(lambda: structured({3: 5}, b"i=6"), "duplicate_attribute", "id")


def test_in_a_batch_the_query_s_id_and_time_are_ignored():
    events = sequence({3: 1}, {}, queries=[b"i=9", b"m=2020-01-01T00:00:00Z", b"j=x"])
    assert [event.subject for event in events] == ["x", "x"]
    assert [event.time for event in events] == [MOMENT.text, MOMENT.text]
    assert events[0].id == "1"
    assert events[1].id.endswith(".1")


# --- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "content_format", "payload"),
    [(BATCH, ARRAY, "82a10301a10302"), (BATCH, ARRAY, "9fa10301bf0302ffff"),
     (BATCH, SEQUENCE, "a10301bf0302ff"), (LAB, 65063, "82a2030101" + "6174a20302016174")],
)  # fmt: skip
def test_a_batch_keeps_its_order(route, content_format, payload):
    events = decode(content_format, bytes.fromhex(payload), route)
    assert [event.id for event in events] == ["1", "2"]


def test_an_empty_batch_has_no_events():
    assert decode(ARRAY, b"\x80", BATCH) == []
    assert decode(SEQUENCE, b"", BATCH) == []


@pytest.mark.parametrize(
    ("content_format", "payload"),
    [(ARRAY, "a10301"), (ARRAY, ""), (ARRAY, "8000"), (ARRAY, "82a10301"), (ARRAY, "f6"),
     (SEQUENCE, "a103"), (SEQUENCE, "ff")],
)  # fmt: skip
def test_what_is_no_batch_is_refused(content_format, payload):
    refused(lambda: decode(content_format, bytes.fromhex(payload), BATCH), "cbor")


@pytest.mark.parametrize("wrong", [{3: -1}, [], 5, {9: 1}, {20: {}}, {-1: True, 8: 1}, {-1: 1}])
def test_one_wrong_event_makes_the_batch_wrong_and_is_named(wrong):
    with pytest.raises(InvalidEventError) as caught:
        sequence({3: 1}, wrong, {3: 2})
    assert diagnostic(caught.value).startswith("event 1: ")


def test_a_lab_event_is_one_event():
    (event,) = decode(65062, bytes.fromhex("a20301016174"), LAB)
    assert (event.id, event.type) == ("1", "t")
    with pytest.raises(UnknownEncodingError):
        decode(65062, bytes.fromhex("a20301016174"), Route(any_source=True))


# --- base records ---------------------------------------------------------------------------------


def test_a_base_record_gives_defaults_to_what_follows_and_the_event_s_own_win():
    events = sequence(
        {3: 0},
        {1: "t.b", 2: "/b", -1: True, 6: 50, "site": "k"},
        {3: 1, 8: "x"},
        {3: 2, 1: "t.c", "site": "l"},
        {-1: True, 2: "/c"},
        {3: 3},
    )
    assert [(event.id, event.type, event.source) for event in events] == [
        ("0", "t.x", "coap://192.0.2.1"), ("1", "t.b", "/b"), ("2", "t.c", "/b"),
        ("3", "t.b", "/c"),
    ]  # fmt: skip
    assert [event.extensions.get("site") for event in events] == [None, "k", "l", "k"]
    assert events[1].data == b'"x"'


@pytest.mark.parametrize(
    ("base", "times", "expected"),
    [
        (1767323045, [None, 60, -60, 0.5, "2020-01-01T00:00:00Z"],
         ["2026-01-02T03:04:05Z", "2026-01-02T03:05:05Z", "2026-01-02T03:03:05Z",
          "2026-01-02T03:04:05.500Z", "2020-01-01T00:00:00Z"]),
        (-3600, [None, 0, 5], ["2026-01-02T02:04:05.250Z", "2026-01-02T02:04:05.250Z",
                               "2026-01-02T02:04:10.250Z"]),
        ("2020-01-01T00:00:00Z", [None, -5, 1], ["2020-01-01T00:00:00Z", "2026-01-02T03:04:00.250Z",
                                                 "1970-01-01T00:00:01Z"]),
    ],
)  # fmt: skip
def test_numeric_times_count_from_a_numeric_base(base, times, expected):
    items = [{3: 1} if time is None else {3: 1, 4: time} for time in times]
    events = sequence({-1: True, 4: base}, *items)
    assert [event.time for event in events] == expected


def test_a_text_time_ends_a_numeric_base():
    events = sequence({-1: True, 4: 1000}, {4: 1}, {-1: True, 4: "2020-01-01T00:00:00Z"}, {4: 1})
    assert [event.time for event in events] == ["1970-01-01T00:16:41Z", "1970-01-01T00:00:01Z"]


def test_a_base_does_not_outlive_its_batch():
    assert sequence({-1: True, 2: "/b"}) == []
    assert sequence({3: 1})[0].source == "coap://192.0.2.1"


def test_a_sum_of_times_that_is_none_is_refused():
    items = [{-1: True, 4: 253402300799}, {4: 1}]
    refused(lambda: sequence(*items), "attribute_type", "time")


def test_ten_readings_share_a_base_record():
    base = {-1: True, 1: "com.acme.temp.v1", 2: "/devices/dev1", 4: 1767323045, 6: 50}
    events = sequence(base, *({3: 4711 + n, 4: 6 * n, 8: {"t": 21.5 + n}} for n in range(10)))
    assert [event.id for event in events] == [str(4711 + n) for n in range(10)]
    assert events[9].time == "2026-01-02T03:04:59Z"
    assert [event.data for event in events] == [b'{"t":%d.5}' % (21 + n) for n in range(10)]


# --- anything -------------------------------------------------------------------------------------

keys = st.integers(-2, 9) | st.sampled_from(["id", "time", "data", "ext", "Ext", b"", 1.5])
items = st.one_of(
    st.integers(-(2**64), 2**64 - 1), st.floats(), st.text(max_size=5), st.binary(max_size=5),
    st.booleans(), st.none(), st.sampled_from(["1.0", 50, 60, 0, [{"a": 1}], cbor2.CBORTag(1, 1)]),
)  # fmt: skip
records = st.dictionaries(keys, items, max_size=6)


@settings(max_examples=examples(500))
@given(st.lists(records, max_size=3).map(lambda maps: [cbor2.dumps(one) for one in maps])
       | st.lists(st.binary(max_size=20), max_size=2))  # fmt: skip
def test_any_payload_is_events_or_a_named_error(parts):
    for content_format, payload, route in (
        (60, b"".join(parts[:1]), STRUCTURED),
        (SEQUENCE, b"".join(parts), BATCH),
        (ARRAY, struct.pack("B", 0x80 | len(parts)) + b"".join(parts), BATCH),
    ):
        try:
            events = decode(content_format, payload, route)
        except CloudEventError as error:
            assert diagnostic(error).isascii()  # noqa: PT017 - not each payload raises
        else:
            assert len(events) <= max(len(parts), 1) + 20
