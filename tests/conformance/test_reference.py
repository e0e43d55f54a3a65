"""Messages written and read without the codec under test: by examples of the documents."""

import json

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindings.binding import Message
from conformance.forms import WireEvent
from conformance.reference import cbor_event, headers, json_event
from conformance.reference.carrier import CARRIERS, Carrier
from conformance.reference.compare import difference, instant
from conformance.reference.headers import Misread

EVENT = WireEvent(
    {
        "specversion": "1.0", "id": "1", "source": "/s", "type": "t", "subject": "\u00e9 %",
        "datacontenttype": "text/plain",
    },
    b"hi",
)  # fmt: skip
CORE = [("specversion", "1.0"), ("id", "1"), ("source", "/s"), ("type", "t")]


def test_http_percent_encodes_and_has_a_content_type_of_its_own():
    assert headers.write("http", EVENT) == Message(
        b"hi",
        "text/plain",
        [*[(f"ce-{name}", value) for name, value in CORE], ("ce-subject", "%C3%A9%20%25")],
    )


def test_nats_keeps_datacontenttype_in_a_header():
    sent = headers.write("nats", EVENT)
    assert sent.content_type == ""
    assert sent.headers[-1] == ("ce-datacontenttype", "text/plain")


def test_mqtt_and_kafka_write_text_as_it_is():
    assert headers.write("mqtt", EVENT).headers == [*CORE, ("subject", "\u00e9 %")]
    assert headers.write("kafka", EVENT).headers[-1] == ("ce_subject", "\u00e9 %")
    assert headers.write("kafka", WireEvent({}, None)).payload is None
    assert headers.write("http", WireEvent({}, None)).payload == b""


def test_the_specification_s_example_of_escapes():
    text = "Euro \u20ac \U0001f600"
    assert headers.escape(text) == "Euro%20%E2%82%AC%20%F0%9F%98%80"
    assert headers.unescape("Euro%20%E2%82%AC%20%F0%9F%98%80") == text


@pytest.mark.parametrize("text", ["a b", '"', "100%", "%zz", "\u00e9", "%C3", "%ED%A0%80"])
def test_a_sender_must_not_write_this(text):
    with pytest.raises(Misread):
        headers.unescape(text)


def test_coap_has_one_letter_names():
    short = [("s", "/s"), ("t", "t"), ("i", "1"), ("ce-a", "x")]
    assert headers.read("coap", Message(b"", "", short)).attributes == {
        "source": "/s", "type": "t", "id": "1", "a": "x", "specversion": "1.0",
    }  # fmt: skip


def test_headers_that_break_a_rule_are_told():
    with pytest.raises(Misread, match="twice"):
        headers.read("http", Message(b"", "", [("ce-id", "1"), ("CE-ID", "1")]))
    with pytest.raises(Misread, match="beside"):
        headers.read("http", Message(b"", "a/b", [("ce-datacontenttype", "a/b")]))
    with pytest.raises(Misread, match="Content-Type"):
        headers.read("nats", Message(b"", "a/b", [("ce-id", "1")]))
    with pytest.raises(Misread, match="no attribute"):
        headers.read("kafka", Message(b"", "", [("ce_my-ext", "1")]))


def test_json_data_stand_in_the_envelope_by_their_type():
    def written(content_type, data):
        event = WireEvent({"datacontenttype": content_type} if content_type else {}, data)
        return json.loads(json_event.write(event))

    assert written("application/json", b'{"a":1}')["data"] == {"a": 1}
    assert written("text/xml", b"<a/>")["data"] == "<a/>"
    assert written("text/plain; charset=iso-8859-1", b"\xe9")["data"] == "\u00e9"
    assert written("text/plain", b"\xe9")["data_base64"] == "6Q=="
    assert written("image/png", b"\x00\xff")["data_base64"] == "AP8="
    assert written(None, b"{}")["data_base64"] == "e30="
    assert json.loads(json_event.write(WireEvent({}, b"{}"), implied=True)) == {"data": {}}


def test_json_is_read_with_the_bytes_of_its_data():
    payload = b'{ "id" : "1" , "data" : [ 1.50, 1E400 ] , "yes":true,"x":null}'
    assert json_event.read(payload) == WireEvent(
        {"id": "1", "yes": True, "datacontenttype": "application/json"}, b"[ 1.50, 1E400 ]"
    )
    assert json_event.read(b'{"data_base64":"AP8="}') == WireEvent({}, b"\x00\xff")


@pytest.mark.parametrize(
    "payload",
    [b"[]", b"x", b'{"id":"1","id":"1"}', b'{"data":1,"data_base64":""}', b'{"ext":1.5}',
     b'{"ext":{}}', b"\xff", b'{"datacontenttype":"text/plain","data":1}'],
)  # fmt: skip
def test_json_that_is_no_event_is_told(payload):
    with pytest.raises(Misread):
        json_event.read(payload)


def test_json_numbers_are_the_same_by_value_and_differ_by_digit():
    def value(text):
        return json_event.parse(text.encode())

    assert value("[1.50, 100, -0.0]") == value("[15e-1,1E2,0]")
    assert value("9007199254740993") != value("9007199254740992")
    assert value('"1"') != value("1")
    assert value("true") != value("1")
    assert value("NaN") is None


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_is_parsed_as_python_parses_it(value):
    text = json.dumps(value)
    assert json_event.parse(text.encode()) == json_event.parse(
        json.dumps(json.loads(text)).encode()
    )


@given(
    st.dictionaries(
        st.text(), st.text() | st.booleans() | st.binary() | st.integers(-(2**63), 2**63 - 1)
    )
)
def test_cbor_is_written_as_a_foreign_library_reads_it(members):
    assert cbor2.loads(cbor_event.item(members)) == members
    assert cbor_event.is_item(cbor2.dumps(members))


def test_cbor_data_are_items_text_or_bytes_by_their_type():
    def written(content_type, data):
        event = WireEvent({"datacontenttype": content_type} if content_type else {}, data)
        return cbor2.loads(cbor_event.write(event))["data"]

    assert written("application/cbor", bytes.fromhex("a10102")) == {1: 2}
    assert written("application/cbor", b"\xff") == b"\xff"
    assert written("application/json", b"[1]") == "[1]"
    assert written("text/plain", b"a") == "a"
    assert written("image/png", b"a") == b"a"
    assert written(None, b"a") == b"a"


def test_cbor_is_read_with_the_bytes_of_its_data():
    payload = cbor2.dumps(
        {"id": "1", "data": {1: [2, 1.5]}, "n": None, "time": cbor2.CBORTag(0, "x")}
    )
    assert cbor_event.read(payload) == WireEvent(
        {"id": "1", "time": "x", "datacontenttype": "application/cbor"},
        cbor2.dumps({1: [2, 1.5]}),
    )


@pytest.mark.parametrize("text", ["80", "", "a1", "a10102", "a2616101616102", "a0f6", "a1616162ff"])
def test_cbor_that_is_no_event_is_told(text):
    with pytest.raises(Misread):
        cbor_event.read(bytes.fromhex(text))


@pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)
def test_what_is_written_is_read(carrier):
    assert carrier.read(carrier.write(EVENT)) == EVENT


def test_a_carrier_demands_its_content_type():
    with pytest.raises(Misread, match="absent"):
        Carrier("kafka", "structured").read(Message(b"{}"))
    with pytest.raises(Misread, match="json"):
        Carrier("cbor", "structured").read(Message(b"\xa0", "application/cloudevents+json"))


def test_carriers_have_names_and_profiles():
    names = [carrier.name for carrier in CARRIERS]
    assert len(set(names)) == len(names) == 13
    assert Carrier("nats", "binary").profiles == {"main", "lenient"}
    assert Carrier("nats", "structured").profiles == {"1.0.2", "main", "lenient"}


def test_differences_are_told_by_name():
    got = WireEvent({"id": 1, "subject": "b", "time": "x"}, b"")
    expected = WireEvent({"id": "1", "subject": "b", "type": "t"}, None)
    text = "lost: type; invented: time; changed: id; other data"
    assert difference(expected, got) == text
    assert difference(got, got) == ""
    assert difference(WireEvent({"a": True}), WireEvent({"a": 1})) == "changed: a"


def test_times_are_the_same_if_they_are_one_instant_to_the_last_digit():
    same = (
        "2018-04-05T17:31:00.5Z",
        "2018-04-05T18:31:00.500+01:00",
        "2018-04-05t16:31:00.50-01:00",
    )
    assert len({instant(time) for time in same}) == 1
    assert instant("2018-04-05T17:31:00.123456789Z") != instant("2018-04-05T17:31:00.123456Z")
    assert instant("2016-12-31T23:59:60Z") != instant("2017-01-01T00:00:00Z")
    assert instant("2018-02-30T00:00:00Z") is None
    assert instant("x") is None
    assert difference(WireEvent({"time": same[0]}), WireEvent({"time": same[1]})) == ""
    assert difference(WireEvent({"ext": same[0]}), WireEvent({"ext": same[1]})) != ""


def test_json_data_are_compared_by_value_where_they_need_not_keep_their_bytes():
    one = WireEvent({"datacontenttype": "application/json"}, b'{"a": 1, "b": 2}')
    other = WireEvent({"datacontenttype": "application/json"}, b'{"b":2,"a":1.0}')
    assert difference(one, other) == "other data"
    assert difference(one, other, exact=False) == ""
    text = WireEvent({"datacontenttype": "text/plain"}, b"[1]")
    assert difference(text, WireEvent(text.attributes, b"[1 ]"), exact=False) == "other data"
