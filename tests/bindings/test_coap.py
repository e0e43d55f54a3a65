"""The CoAP binding without a socket: attributes, modes, what is filled in, what is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindings.binding import Message
from bindings.coap import (
    COAP,
    Identity,
    Moment,
    Peer,
    RequestError,
    Route,
    content_formats,
    decode_request,
    default_source,
    diagnostic,
    generate_id,
    read_request,
    request_options,
)
from bindings.errors import (
    CloudEventError,
    InvalidEventError,
    NotAnEventError,
    TooManyEventsError,
    UnknownEncodingError,
)
from bindings.event import Event
from bindings.wire.coap import Message as Datagram
from bindings.wire.coap import parse

PEER = Peer(b"udp 192.0.2.1 5683", "coap://192.0.2.1")
MOMENT = Moment(1767323045.0, "2026-01-02T03:04:05.000Z")
T = Route(defaults={"type": "com.acme.temp.v1"})
ANY = Route(defaults={"type": "t.x"}, any_source=True)
STRUCTURED = Route(mode="structured", defaults={"type": "t.x"}, any_source=True)


def decode(options, payload, route):
    message = Datagram(0, 2, 0x1234, b"\xa1", options, payload)
    return decode_request(read_request(message), payload, route, PEER, MOMENT)


def decode_datagram(hexadecimal, route):
    message = parse(bytes.fromhex(hexadecimal))
    (event,) = decode_request(read_request(message), message.payload, route, PEER, MOMENT)
    return event


def structured(payload, *queries):
    options = [(12, b"\x32"), *[(15, query) for query in queries]]
    (event,) = decode(options, payload, STRUCTURED)
    return event


# --- the binding's own examples (section 3.1.4) ----------------------------------


def test_example_a_gets_everything_from_the_gateway():
    event = decode_datagram("50021234b1741132ff7b2274223a32312e357d", T)
    assert (event.type, event.source) == ("com.acme.temp.v1", "coap://192.0.2.1")
    assert (event.time, event.data) == ("2026-01-02T03:04:05.000Z", b'{"t":21.5}')
    assert len(event.id) == 16


def test_example_b_names_its_id():
    event = decode_datagram("41021234a1b174113236693d34373131ff7b2274223a32312e357d", T)
    assert (event.id, event.datacontenttype) == ("4711", "application/json")


def test_example_c_names_type_and_id():
    datagram = (
        "41021234a1b2636511323d05743d636f6d2e61636d652e74656d702e763106693d34373131"
        "ff7b2274223a32312e357d"
    )
    event = decode_datagram(datagram, Route())
    assert (event.type, event.id) == ("com.acme.temp.v1", "4711")


def test_example_e_has_a_subject_and_no_data():
    event = decode_datagram("41021236a3b174486a3d4bc3bc636865", T)
    assert (event.subject, event.data, event.datacontenttype) == ("Küche", None, None)


# --- attributes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "name", "value"),
    [
        (b"j=x", "subject", "x"),
        (b"subject=x", "subject", "x"),
        (b"ce-subject=x", "subject", "x"),
        (b"d=urn:x", "dataschema", "urn:x"),
        (b"m=2026-01-02T03:04:05Z", "time", "2026-01-02T03:04:05Z"),
        (b"v=1.0", "specversion", "1.0"),
        (b"ce-t=x", "t", "x"),
        (b"ce-w=5", "w", "5"),
        (b"traceparent=00-a=b", "traceparent", "00-a=b"),
        (b"note=", "note", ""),
    ],
)
def test_each_spelling_names_its_attribute(query, name, value):
    (event,) = decode([(15, query)], b"", ANY)
    assert event.attributes()[name] == value


def test_w_is_no_attribute():
    (event,) = decode([(15, b"w=5")], b"", ANY)
    assert event.extensions == {}


@pytest.mark.parametrize(
    "query",
    [b"", b"x", b"=x", b"x=1", b"Type=x", b"ce-=x", b"ce-Type=x", b"a_b=1", b"data=1", b"ce-data=1",
     b"data_base64=1", b"\xc3\xa4b=1", b"j=\xed\xa0\x80", b"i=", b"t=", b"v=0.3", b"m=today",
     b"d=a", b"j=\xc2\x85", b"c=json"],
)  # fmt: skip
def test_a_query_that_names_no_attribute_or_a_wrong_value_is_refused(query):
    with pytest.raises(InvalidEventError):
        decode([(15, query)], b"", ANY)


@pytest.mark.parametrize(
    "queries", [(b"j=a", b"j=a"), (b"j=a", b"ce-subject=b"), (b"ab=1", b"ce-ab=1")]
)
def test_one_attribute_twice_is_refused(queries):
    with pytest.raises(InvalidEventError) as error:
        decode([(15, query) for query in queries], b"", ANY)
    assert error.value.reason == "duplicate_attribute"


# --- binary mode ----------------------------------------------------------------------------------


def test_a_payload_without_content_format_is_an_octet_stream():
    (event,) = decode([], b"{}", ANY)
    assert event.datacontenttype == "application/octet-stream"


@pytest.mark.parametrize(
    ("content_format", "payload"),
    [
        (50, b"NaN"),
        (50, b"\xef\xbb\xbf{}"),
        (50, b'"\xff"'),
        (110, b"[1,]"),
        (432, b"{"),
        (0, b"\xff"),
    ],
)
def test_a_payload_that_is_not_what_its_format_says_is_refused(content_format, payload):
    with pytest.raises(InvalidEventError):
        decode([(12, content_format.to_bytes(2, "big"))], payload, ANY)


@pytest.mark.parametrize("content_format", [11050, 11060, 40000, 65060, 65063])
def test_a_content_format_outside_the_table_is_refused(content_format):
    with pytest.raises(UnknownEncodingError):
        decode([(12, content_format.to_bytes(2, "big"))], b"x", ANY)


def test_a_content_format_of_three_bytes_is_ignored_as_any_elective_option():
    (event,) = decode([(12, b"\x00\x00\x32")], b"x", ANY)
    assert event.datacontenttype == "application/octet-stream"


def test_the_table_is_what_the_binding_lists():
    assert len(content_formats.MEDIA_TYPES) == 18
    assert content_formats.number_of("Application/JSON") == 50
    assert content_formats.number_of("text/plain; charset=UTF-8") == 0
    assert content_formats.number_of("text/plain") is None


# --- structured and batch mode --------------------------------------------------------------------


def test_what_a_structured_event_lacks_is_added_and_its_encoded_form_kept_complete():
    event = structured(b' { "id" : "1", "data" : {"a": 1.50} }', b"sequence=9", b"s=/q")
    assert json.loads(event.encoded) == {
        "specversion": "1.0", "type": "t.x", "source": "/q", "sequence": "9",
        "time": "2026-01-02T03:04:05.000Z", "id": "1", "data": {"a": 1.5},
    }  # fmt: skip
    assert b'{"a": 1.50}' in event.encoded
    assert event.data == b'{"a": 1.50}'


def test_a_complete_structured_event_keeps_its_bytes():
    payload = (
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"2026-01-02T03:04:05Z"}'
    )
    assert structured(payload).encoded == payload


def test_an_empty_object_becomes_an_event_of_defaults():
    assert structured(b"{}").type == "t.x"


def test_null_is_absence_for_attributes_and_data_for_data():
    event = structured(b'{"id":null,"type":null,"time":null,"subject":null,"data":null}')
    assert (event.type, event.time, event.subject, event.data) == (
        "t.x",
        MOMENT.text,
        None,
        b"null",
    )
    assert json.loads(event.encoded)["id"] == event.id


@pytest.mark.parametrize(
    "payload",
    [
        b'{"id":"1","id":"2"}',
        b'{"id":null,"id":"2"}',
        b'{"time":null,"x1":1,"x1":2}',
        b'{"specversion":null,"id":"1","source":"/s","type":"t","t\\u0069me":null,"time":null}',
        b"[]",
        b"",
        b"null",
        b'\xef\xbb\xbf{"id":"1"}',
        b'{"id":1}',
        b'{"data":1,"data_base64":"AA=="}',
        b'{"Data":null}',
        b'{"id":null,"Data":null}',
        b'{"ext":{}}',
        b'{"ext":1.5}',
        b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_an_object_that_is_no_event_is_refused(payload):
    with pytest.raises(InvalidEventError):
        structured(payload)


def test_no_depth_of_nesting_is_more_than_an_error():
    outcomes = set()
    for depth in range(50, 1050, 10):
        payload = b'{"id":null,"data":' + b"[" * depth + b"]" * depth + b"}"
        try:
            structured(payload)
            outcomes.add("event")
        except InvalidEventError as error:
            outcomes.add(error.reason)
    assert outcomes == {"event", "json"}


def test_a_query_that_contradicts_the_event_is_refused_and_one_that_agrees_is_not():
    assert structured(b'{"id":"1","n":5}', b"i=1", b"ce-n=5").id == "1"
    with pytest.raises(InvalidEventError) as error:
        structured(b'{"id":"1"}', b"i=2")
    assert error.value.attribute == "id"


@pytest.mark.parametrize(
    ("mode", "content_format"),
    [("structured", None), ("structured", 0), ("structured", 63), ("structured", 65060),
     ("batch", None), ("batch", 42), ("batch", 65063), ("auto", 65064)],
)  # fmt: skip
def test_formats_that_a_route_does_not_take_are_refused(mode, content_format):
    options = [] if content_format is None else [(12, content_format.to_bytes(2, "big"))]
    with pytest.raises(UnknownEncodingError):
        decode(options, b"{}", Route(mode=mode, lab_formats=True, any_source=True))


def test_lab_formats_select_the_mode_where_they_are_enabled():
    lab = Route(lab_formats=True, any_source=True)
    payload = b'{"id":"1","type":"t","data":1}'
    (event,) = decode([(12, b"\xfe\x24")], payload, lab)
    assert event.data == b"1"
    batch = decode([(12, b"\xfe\x25")], b"[" + payload + b"," + payload + b"]", lab)
    assert len(batch) == 2


def test_one_bad_event_makes_the_batch_invalid_and_the_diagnostic_names_it_without_its_data():
    payload = b'[{"type":"t"},{"type":"t","subject":5,"data":"secret"}]'
    with pytest.raises(InvalidEventError) as error:
        decode([(12, b"\x32")], payload, Route(mode="batch", any_source=True))
    assert diagnostic(error.value) == "event 1: 'subject': attribute type"


@pytest.mark.parametrize(
    ("content_format", "two", "three"),
    [
        (50, b"[{},{}]", b"[{},{},0]"),
        (60, b"\x82\xa0\xa0", b"\x83\xa0\xa0\xa0"),
        (60, b"\x98\x02\xa0\xa0", b"\x9a\x00\x01\x00\x00" + b"\xa0" * 65536),
        # What comes after the limit is not looked at.
        (60, b"\x9f\xa0\xa0\xff", b"\x9f\xa0\xa0\xa0\x1c"),
        (63, b"\xa0\xa0", b"\xa0\xa0\xa0\x1c"),
        # A base record is one of them: it costs as much.
        (63, b"\xa1\x20\xf5\xa0", b"\xa1\x20\xf5\xa1\x20\xf5\xa0"),
    ],
)
def test_a_batch_above_the_limit_is_refused_whatever_is_in_it(content_format, two, three):
    route = Route(mode="batch", defaults={"type": "t.x"}, any_source=True, max_batch_events=2)
    options = [(12, bytes((content_format,)))]
    assert len(decode(options, two, route)) in {1, 2}
    with pytest.raises(TooManyEventsError) as caught:
        decode(options, three, route)
    assert diagnostic(caught.value) == "more than 2 events in a batch"


def test_a_diagnostic_is_short_and_ascii():
    error = InvalidEventError("x" * 500, attribute="ä" * 50, reason="attribute_name")
    assert len(diagnostic(error)) <= 64
    assert diagnostic(error).isascii()


# --- identity -------------------------------------------------------------------------------------


def test_a_route_that_needs_an_identity_refuses_before_it_reads():
    with pytest.raises(RequestError) as error:
        decode([(12, b"\xff\xff")], b"", Route(needs_identity=True))
    assert error.value.code == 0x81


def test_a_generated_id_depends_on_what_the_binding_lists_and_on_nothing_else():
    message = Datagram(0, 2, 1, b"\x01", [(11, b"t"), (60, b"\x05"), (27, b"\x10")], b"x")
    same = Datagram(1, 2, 1, b"\x01", [(11, b"t")], b"x")
    first = generate_id(message, b"payload", b"endpoint", 255.9)
    assert generate_id(same, b"payload", b"endpoint", 0) == first
    assert len(first) == 16
    others = {
        generate_id(same, b"payload", b"endpoint", 256),
        generate_id(same, b"other", b"endpoint", 0),
        generate_id(same, b"payload", b"other", 0),
        generate_id(Datagram(0, 2, 2, b"\x01", [(11, b"t")]), b"payload", b"endpoint", 0),
        generate_id(Datagram(0, 2, 1, b"\x02", [(11, b"t")]), b"payload", b"endpoint", 0),
        generate_id(Datagram(0, 2, 1, b"\x01", [(11, b"u")]), b"payload", b"endpoint", 0),
    }
    assert len(others | {first}) == 7


# --- the binding as other protocols have it -------------------------------------------------------

NESTED = "application/cloudevents+json"
FULL = Event(
    id="1", source="/s", type="t", subject="a=b&c%20d €", time="2026-01-02T03:04:05+02:00",
    datacontenttype="application/json", dataschema="urn:x", data=b"{}",
    extensions={"x": "1", "flag": True, "n": -5},
)  # fmt: skip


def test_a_binary_event_becomes_short_queries():
    message = COAP.encode(FULL, "binary")
    assert request_options(message) == [
        (12, b"2"),
        (15, b"i=1"),
        (15, b"s=/s"),
        (15, b"t=t"),
        (15, b"d=urn:x"),
        (15, "j=a=b&c%20d €".encode()),
        (15, b"m=2026-01-02T03:04:05+02:00"),
        (15, b"ce-x=1"),
        (15, b"flag=true"),
        (15, b"ce-n=-5"),
    ]


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_what_is_encoded_is_decoded(mode):
    (event,) = COAP.decode(COAP.encode(FULL, mode))
    as_text = (
        {**FULL.extensions, "flag": "true", "n": "-5"} if mode == "binary" else FULL.extensions
    )
    assert event == FULL.replace(extensions=as_text)


@pytest.mark.parametrize(
    ("content_type", "options"),
    [
        ("", []),
        ("application/json", [(12, b"2")]),
        ("text/plain;charset=utf-8", [(12, b"")]),
        ("text/plain; charset=UTF-8", [(12, b""), (15, b"c=text/plain; charset=UTF-8")]),
        ("image/png", [(15, b"c=image/png")]),
        ("application/cloudevents+json", [(12, b"2")]),
    ],
)
def test_a_media_type_becomes_a_number_where_there_is_one(content_type, options):
    assert request_options(Message(b"", content_type)) == options


def test_a_value_too_long_for_a_query_is_refused():
    with pytest.raises(InvalidEventError, match="structured"):
        COAP.encode(FULL.replace(subject="x" * 254), "binary")
    COAP.encode(FULL.replace(subject="x" * 253), "binary")


def test_an_event_in_an_event_goes_in_an_envelope():
    nested = Event(id="1", source="/s", type="t", datacontenttype=NESTED, data=b'{"x":1}')
    message = COAP.encode(nested, "binary")
    assert message.address == "/ce/s"
    assert COAP.decode(message) == (nested,)


def test_a_message_without_attributes_is_no_event():
    with pytest.raises(NotAnEventError):
        COAP.decode(Message(b"21.5", "text/plain"))


def test_a_query_with_a_lone_surrogate_is_refused():
    with pytest.raises(InvalidEventError, match="UTF-8"):
        COAP.decode(Message(b"", "", [("s", "/s"), ("t", "t"), ("i", "\ud800")]))


# --- anything -------------------------------------------------------------------------------------

options_of_any_kind = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 300), st.sampled_from([11, 12, 15, 17, 27])),
        st.binary(max_size=12),
    ),
    max_size=5,
).map(lambda options: sorted(options, key=lambda option: option[0]))
routes = st.sampled_from([ANY, STRUCTURED, Route(mode="batch"), Route(lab_formats=True)])


@given(
    options_of_any_kind,
    st.one_of(st.binary(max_size=40), st.text(max_size=40).map(str.encode)),
    routes,
)
def test_any_request_gives_events_or_an_error_of_its_kind(options, payload, route):
    try:
        events = decode(options, payload, route)
    except CloudEventError as error:
        events = [error]
    assert all(isinstance(event, Event | CloudEventError) for event in events)


json_texts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "type", "source", "data", "time", "x"]), inner, max_size=5
        )
    ),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())


@given(json_texts)
def test_any_json_gives_an_event_whose_encoded_form_says_the_same_or_an_error(payload):
    try:
        event = structured(payload)
    except InvalidEventError:
        return
    assert json.loads(event.encoded)["id"] == event.id
    assert json.loads(event.encoded)["type"] == event.type


# --- who may claim which source: sections 10.1 and 10.4 ----------------------------------


@pytest.mark.parametrize(
    ("identity", "ip", "source"),
    [
        (Identity("dev1"), "192.0.2.1", "/devices/dev1"),
        (Identity("a b/ü"), "192.0.2.1", "/devices/a%20b%2F%C3%BC"),
        (Identity("x-._~y"), "192.0.2.1", "/devices/x-._~y"),
        (None, "192.0.2.1", "coap://192.0.2.1"),
        (None, "2001:db8::1", "coap://[2001:db8::1]"),
    ],
)
def test_the_default_source_names_the_identity_or_else_the_address(identity, ip, source):
    assert default_source(identity, ip) == source


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        (b"/devices/gw", True),
        (b"/devices/gw/port1", True),
        (b"/devices/gw#port1", True),
        (b"/devices/gw2", False),
        (b"/devices", False),
        (b"/plant/a", True),
        (b"/plant/a/b", True),
        (b"/plant/ab", False),
        (b"/plant", False),
        # RFC 3986 5.2.4 makes another's of these, or what is above.
        (b"/devices/gw/../dev2", False),
        (b"/devices/gw/..", False),
        (b"/devices/gw/.", False),
        (b"/devices/gw/a/./b", False),
        (b"/devices/gw/%2e%2E/dev2", False),
        (b"/devices/gw/.%2e?a", False),
        (b"/plant/a/..#b", False),
        # No dot segments, or not in the path.
        (b"/devices/gw/a.b", True),
        (b"/devices/gw/...", True),
        (b"/devices/gw/.a/b./..c", True),
        (b"/devices/gw/%2ea", True),
        (b"/devices/gw/%252e%252e/a", True),
        (b"/devices/gw/a?b/../c", True),
        (b"/devices/gw#a/../b", True),
    ],
)
@pytest.mark.parametrize("route", [Route(), Route(defaults={"source": "/line"})])
def test_an_identity_uses_its_own_source_and_those_it_may_speak_for(source, allowed, route):
    peer = Peer(b"dtls", "/devices/gw", is_authenticated=True, may_speak_for=("/plant/a",))
    message = Datagram(0, 2, 1, b"", [(15, b"t=t.x"), (15, b"s=" + source)], b"")
    request = read_request(message)
    if allowed:
        (event,) = decode_request(request, b"", route, peer, MOMENT)
        assert event.source == source.decode()
    else:
        with pytest.raises(RequestError, match="not yours") as caught:
            decode_request(request, b"", route, peer, MOMENT)
        assert f"{caught.value.code:#x}" == "0x83"  # 4.03


@pytest.mark.parametrize("before", [[], [(3, b"host")]])
def test_of_a_repeated_content_format_the_first_counts(before):
    # Elective (an even number), so the second is ignored: RFC 7252 5.4.5.
    options = [*before, (11, b"ce"), (12, b"\x32"), (12, b""), (15, b"t=t")]
    request = read_request(Datagram(0, 2, 1, b"", options))
    assert request.content_format == 50
    assert (request.path, request.queries) == ((b"ce",), [b"t=t"])


def test_content_format_of_three_bytes_is_none():
    assert read_request(Datagram(0, 2, 1, b"", [(12, b"\0\0\x32")])).content_format is None
