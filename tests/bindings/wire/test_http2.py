"""HTTP/2 without I/O: vectors of RFC 7541 and RFC 9113, and the packages of `h2` as the peer."""

import contextlib

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, SettingsAcknowledged, StreamEnded, StreamReset
from h2.settings import SettingCodes, Settings
from hpack import Decoder, Encoder
from hpack.table import HeaderTable
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import example, given
from hypothesis import strategies as st

from bindings.wire.http2 import Client, ErrorCode, Http2Error, Limits, RequestEncoder
from bindings.wire.http2.hpack import (
    BlockDecoder,
    encode_field,
    encode_indexed,
    encode_integer,
)
from bindings.wire.http2.huffman import decode_huffman
from bindings.wire.http2.response import HeadReader

LIMITS = Limits(
    max_streams=100, max_body=50_000, kept_body=10, kept_fields=frozenset({b"retry-after"})
)
HEAD = b"POST /a?b HTTP/1.1\r\nHost: h:80\r\nUser-Agent: x\r\n"


# RFC 7541 appendix C.


@pytest.mark.parametrize(
    ("number", "bits", "octets"), [(10, 5, "0a"), (1337, 5, "1f9a0a"), (42, 8, "2a")]
)
def test_integers_of_c1(number, bits, octets):
    assert encode_integer(number, bits) == bytes.fromhex(octets)


C51 = """
    4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
    2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
    6c65 2e63 6f6d"""
C61 = """
    4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
    2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3"""


@pytest.mark.parametrize(
    ("octets", "fields"),
    [
        # C.2.1 to C.2.4: each kind of field.
        (
            "400a637573746f6d2d6b65790d637573746f6d2d686561646572",
            [(b"custom-key", b"custom-header")],
        ),
        ("040c2f73616d706c652f70617468", [(b":path", b"/sample/path")]),
        ("100870617373776f726406736563726574", [(b"password", b"secret")]),
        ("82", [(b":method", b"GET")]),
        # C.3.1 and C.4.1: a first request, plain and Huffman-coded.
        *(
            (
                octets,
                [
                    (b":method", b"GET"),
                    (b":scheme", b"http"),
                    (b":path", b"/"),
                    (b":authority", b"www.example.com"),
                ],
            )
            for octets in (
                "828684410f7777772e6578616d706c652e636f6d",
                "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            )
        ),
        # C.5.1 and C.6.1: a first response, plain and Huffman-coded.
        *(
            (
                octets,
                [
                    (b":status", b"302"),
                    (b"cache-control", b"private"),
                    (b"date", b"Mon, 21 Oct 2013 20:13:21 GMT"),
                    (b"location", b"https://www.example.com"),
                ],
            )
            for octets in (
                C51,
                C61,
            )
        ),
    ],
)
def test_blocks_of_c2_to_c6(octets, fields):
    assert BlockDecoder().decode(bytes.fromhex(octets)) == fields


def test_fields_of_c2_are_written_like_that():
    assert encode_field(b":path", b"/sample/path").hex() == "040c2f73616d706c652f70617468"
    assert encode_indexed(b":scheme", b"http").hex() == "86"


def test_static_table_is_that_of_appendix_a():
    for index, field in enumerate(HeaderTable.STATIC_TABLE, 1):
        assert BlockDecoder().decode(bytes((0x80 | index,))) == [field]


@pytest.mark.parametrize(
    "octets",
    [
        "80",  # index 0
        "be",  # index 62: the dynamic table, which has no room
        "3f0100",  # a table of 32 octets
        "8220",  # a size behind a field
        "0005616263",  # breaks off
        "00",
        "7fffffffff7f",  # an integer without end
        "008101",  # Huffman: 0 0 0 0 0 0 0 1 is no padding
        "0084ffffffff",  # Huffman: EOS
        "008261ff",  # Huffman: padding of more than seven bits
    ],
)
def test_blocks_that_cannot_be(octets):
    with pytest.raises(Http2Error) as caught:
        BlockDecoder().decode(bytes.fromhex(octets))
    assert caught.value.code is ErrorCode.COMPRESSION_ERROR


def test_a_table_size_of_0_may_begin_a_block():
    assert BlockDecoder().decode(bytes.fromhex("202082")) == [(b":method", b"GET")]


names = st.binary(min_size=1, max_size=30)
values = st.binary(max_size=300)


@given(st.lists(st.tuples(names, values), max_size=20), st.booleans())
def test_what_hpack_writes_is_read_the_same(fields, huffman):
    encoder = Encoder()
    encoder.header_table_size = 0
    assert BlockDecoder().decode(encoder.encode(fields, huffman=huffman)) == fields


@given(st.lists(st.tuples(names, values), max_size=20))
def test_what_we_write_is_read_the_same_by_hpack(fields):
    block = b"".join(encode_field(name, value) for name, value in fields)
    found = Decoder(max_header_list_size=1_000_000).decode(block, raw=True)
    assert [tuple(field) for field in found] == fields


@given(st.binary(max_size=100))
def test_any_block_is_read_or_refused_as_by_hpack(block):
    decoder = Decoder(max_header_list_size=1_000_000)
    decoder.max_allowed_table_size = decoder.header_table_size = 0
    try:
        expected = [tuple(field) for field in decoder.decode(block, raw=True)]
    except Exception:
        expected = None
    try:
        found = BlockDecoder().decode(block)
    except Http2Error:
        found = None
    if found is not None or expected is not None:
        # Numbers of more than 28 bits are nothing to us, and neither is where a size update stands.
        assert found == expected or found is None


@given(st.binary(max_size=60))
def test_any_huffman_string_is_decoded_or_refused(data):
    with contextlib.suppress(ValueError):
        decode_huffman(data)


def test_credentials_are_never_indexed():
    assert encode_field(b"authorization", b"x")[0] & 0xF0 == 0x10


# Requests.


def fields_of(block):
    return [tuple(field) for field in Decoder().decode(block)]


def request(*lines, body=b"", method=b"POST"):
    head = method + HEAD[4:] + b"".join(line + b"\r\n" for line in lines)
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def test_request_becomes_pseudo_fields_and_fields_in_lower_case():
    block, body = RequestEncoder(b"https").encode(
        request(b"Authorization: Bearer x", b"Content-Type: a/b ", b"ce-id: 7", body=b"{}")
    )
    assert body == b"{}"
    assert fields_of(block) == [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/a?b"),
        (":authority", "h:80"),
        ("user-agent", "x"),
        ("authorization", "Bearer x"),
        ("content-type", "a/b"),
        ("ce-id", "7"),
        ("content-length", "2"),
    ]


def test_requests_of_one_kind_and_of_another_keep_their_own_fields():
    encoder = RequestEncoder(b"http")
    first = request(b"ce-id: 1", body=b"x")
    for data, method, more in [
        (first, "POST", [("ce-id", "1"), ("content-length", "1")]),
        (request(b"ce-id: 2", b"ce-x: y"), "POST", [("ce-id", "2"), ("ce-x", "y")]),
        (request(b"X: 1", method=b"OPTIONS"), "OPTIONS", [("x", "1")]),
        (request(b"Authorization: other"), "POST", [("authorization", "other")]),
        (request(b"Content-Type: " + b"t" * 300), "POST", [("content-type", "t" * 300)]),
        (first, "POST", [("ce-id", "1"), ("content-length", "1")]),
    ]:
        fields = fields_of(encoder.encode(data)[0])
        assert fields[0] == (":method", method)
        assert fields[5 : 5 + len(more)] == more


def test_lines_that_never_come_again_do_not_pile_up():
    encoder = RequestEncoder(b"http")
    for number in range(3000):
        block, _ = encoder.encode(request(b"ce-subject: %d" % number, b"ce-x%d: y" % number))
    assert ("ce-subject", "2999") in fields_of(block)
    assert len(encoder._lines) + len(encoder._names) < 1100


def test_fields_about_an_http1_connection_are_left_out():
    lines = (b"Keep-Alive: 5", b"TE: gzip", b"Upgrade: x", b"Proxy-Connection: y", b"Connection: z")
    block, _ = RequestEncoder(b"http").encode(request(*lines))
    assert [name for name, _ in fields_of(block)[4:]] == ["user-agent", "content-length"]


def test_bytes_in_values_stay_bytes():
    block, _ = RequestEncoder(b"http").encode(request(b"ce-x: \xc3\xa9\xff"))
    assert (b"ce-x", b"\xc3\xa9\xff") in Decoder().decode(block, raw=True)


# Responses.


def block_of(*fields):
    encoder = Encoder()
    encoder.header_table_size = 0
    return encoder.encode(fields)


def test_fields_that_are_wanted_are_kept_and_joined():
    head = HeadReader(frozenset({b"retry-after"})).read(
        block_of((":status", "503"), ("retry-after", "1"), ("date", "x"), ("retry-after", "2"))
    )
    assert (head.status, head.fields, head.malformed) == (503, {b"retry-after": "1, 2"}, "")


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [("date", "x")],
        [("date", "x"), (":status", "200")],
        [(":status", "200"), (":status", "200")],
        [(":status", "2000")],
        [(":status", "099")],
        [(":status", "+20")],
        [(":status", "200"), (":path", "/")],
        [(":status", "200"), ("Date", "x")],
        [(":status", "200"), ("da te", "x")],
        [(":status", "200"), ("date", "x\r\ny: z")],
        [(":status", "200"), ("date", " x")],
        [(":status", "200"), ("date", "x\t")],
        [(":status", "200"), ("connection", "close")],
        [(":status", "200"), ("transfer-encoding", "chunked")],
    ],
)
def test_malformed_responses_are_named(fields):
    encoder = Encoder()
    block = encoder.encode(fields)
    assert HeadReader(frozenset()).read(block).malformed


# Connections.


@pytest.fixture
def server():
    return make_server()


def make_server(**settings):
    connection = H2Connection(H2Configuration(client_side=False))
    values = {SettingCodes[name.upper()]: value for name, value in settings.items()}
    connection.local_settings = Settings(client=False, initial_values=values)
    connection.initiate_connection()
    return connection


def connected(server):
    """Return a client that has shaken hands with `server`."""
    client = Client(LIMITS)
    exchange(client, server)
    return client


def exchange(client, server):
    """Move bytes until there are none; returns the events of the server and the ended streams."""
    events, ended = [], []
    while True:
        out = client.output()
        events += server.receive_data(out)
        back = server.data_to_send()
        ended += client.receive(back)
        if not out and not back:
            return events, ended


def ask(client, context=0, body=b"abc"):
    return client.request(*RequestEncoder(b"http").encode(request(b"ce-id: 1", body=body)), context)


def test_preface_is_to_the_byte_what_the_rfc_says():
    out = Client(LIMITS).output()
    assert out.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")  # 3.4
    settings, length = SettingsFrame.parse_frame_header(out[24:33])
    settings.parse_body(out[33 : 33 + length])
    assert settings.settings[SettingsFrame.HEADER_TABLE_SIZE] == 0
    assert settings.settings[SettingsFrame.ENABLE_PUSH] == 0


def test_nothing_is_asked_before_the_settings_have_come(server):
    client = Client(LIMITS)
    assert client.room == 0
    events, _ = exchange(client, server)
    assert client.room == 100
    assert any(isinstance(event, SettingsAcknowledged) for event in events)


def test_request_and_answer(server):
    client = connected(server)
    stream = ask(client, "mine")
    events, _ = exchange(client, server)
    assert [type(event) for event in events] == [RequestReceived, DataReceived, StreamEnded]
    server.send_headers(stream.id, [(":status", "429"), ("retry-after", "3")])
    server.send_data(stream.id, b"0123456789abcdef", end_stream=True)
    _, (ended,) = exchange(client, server)
    assert ended is stream
    assert (ended.context, ended.status, ended.body) == ("mine", 429, b"0123456789")
    assert ended.fields == {b"retry-after": "3"}
    assert client.streams == {}


def test_answers_may_come_in_any_pieces(server):
    client = connected(server)
    for number in range(5):
        ask(client, number)
    exchange_out = client.output()
    server.receive_data(exchange_out)
    for number in range(5):
        server.send_headers(9 - 2 * number, [(":status", "200"), ("date", "x" * number)])
        server.send_data(9 - 2 * number, b"abc" * number, end_stream=True)
    ended = []
    for octet in server.data_to_send():
        ended += client.receive(bytes((octet,)))
    assert [stream.context for stream in ended] == [4, 3, 2, 1, 0]
    assert [stream.body for stream in ended] == [
        b"",
        b"abc",
        b"abcabc",
        b"abcabcabc",
        b"abcabcabca",
    ]


def test_peers_limit_of_streams_and_ours_are_kept():
    client = connected(make_server(max_concurrent_streams=3))
    assert client.room == 3
    ask(client)
    assert client.room == 2
    client = connected(make_server(max_concurrent_streams=1000))
    assert client.room == 100


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 65_535, 65_536, 300_000])
def test_body_of_any_size_arrives_whole(server, size):
    client = connected(server)
    ask(client, body=b"x" * size)
    received = b""
    for _ in range(100):
        for event in server.receive_data(client.output()):
            if isinstance(event, DataReceived):
                received += event.data
                server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if isinstance(event, StreamEnded):
                assert received == b"x" * size
                return
        client.receive(server.data_to_send())
    pytest.fail("it did not end")


def test_window_that_becomes_negative_is_respected():
    server = make_server(initial_window_size=100)
    client = connected(server)
    stream = ask(client, body=b"x" * 150)
    client.output()
    client.receive(frame(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 20})))
    client.output()
    client.receive(frame(WindowUpdateFrame(stream.id, window_increment=80)))
    assert client.output() == b""  # 100 - 80 + 80 - 100 sent = 0
    client.receive(frame(WindowUpdateFrame(stream.id, window_increment=1)))
    assert client.output() == frame(DataFrame(stream.id, b"x"))


def test_streams_of_one_window_do_not_hold_up_those_of_another():
    client = connected(make_server(initial_window_size=10))
    ask(client, body=b"x" * 11)
    client.output()
    small = ask(client, body=b"y" * 10)
    assert client.output().endswith(frame(DataFrame(small.id, b"y" * 10, flags=["END_STREAM"])))


def test_connections_window_holds_for_all_streams_together(server):
    client = connected(server)
    sent = 0
    for _ in range(200):  # 80,000 octets; nobody opens a window
        stream = ask(client, body=b"x" * 400)
        for event in server.receive_data(client.output()):
            sent += len(event.data) if isinstance(event, DataReceived) else 0
        server.send_headers(stream.id, [(":status", "200")], end_stream=True)
        client.receive(server.data_to_send())
    assert sent == 65_535


def test_pings_between_answers_are_no_flood(server):
    client = connected(server)
    for _ in range(600):
        stream = ask(client)
        client.receive(frame(PingFrame(0)) * 2 + headers(stream.id))
    assert client.failure is None


def test_long_header_section_goes_out_in_several_frames(server):
    client = connected(server)
    block, body = RequestEncoder(b"http").encode(request(b"ce-x: " + b"v" * 40_000))
    client.request(block, body, None)
    (received, _) = exchange(client, server)[0]
    assert (b"ce-x", b"v" * 40_000) in received.headers


def test_cancelled_stream_is_reset_and_what_still_comes_of_it_is_passed_over(server):
    client = connected(server)
    stream = ask(client)
    server.receive_data(client.output())
    server.send_headers(stream.id, [(":status", "200")], end_stream=True)
    late = server.data_to_send()
    client.cancel(stream)
    (reset,) = server.receive_data(client.output()) or [None]
    assert reset is None or isinstance(reset, StreamReset)
    assert client.receive(late) == []
    assert client.failure is None


def test_stream_identifiers_run_out(server):
    client = connected(server)
    client._next_id = 2**31 - 1
    ask(client)
    assert client.is_exhausted
    assert client.room == 0


def test_goaway_ends_what_is_above_its_last_stream(server):
    client = connected(server)
    first, second, third = ask(client, 1), ask(client, 2), ask(client, 3)
    goaway = GoAwayFrame(0, last_stream_id=first.id, error_code=11, additional_data=b"too much")
    assert client.receive(frame(goaway)) == [second, third]
    assert second.is_unprocessed
    assert client.goaway == "GOAWAY ENHANCE_YOUR_CALM too much"
    assert client.room == 0
    assert list(client.streams.values()) == [first]
    assert client.receive(headers(first.id)) == [first]


def test_refused_stream_was_not_processed_and_another_reset_is_unknown(server):
    client = connected(server)
    refused, cancelled = ask(client), ask(client)
    data = frame(RstStreamFrame(refused.id, error_code=7), RstStreamFrame(cancelled.id, 8))
    assert client.receive(data) == [refused, cancelled]
    assert [refused.is_unprocessed, cancelled.is_unprocessed] == [True, False]


def test_ping_is_answered_with_its_own_octets(server):
    client = connected(server)
    client.receive(frame(PingFrame(0, opaque_data=b"12345678")))
    assert client.output() == frame(PingFrame(0, opaque_data=b"12345678", flags=["ACK"]))


def test_connection_window_is_opened_in_large_steps(server):
    client = connected(server)
    updates = 0
    for _ in range(200):
        stream = ask(client)
        client.receive(headers(stream.id, "END_HEADERS"))
        client.receive(
            frame(DataFrame(stream.id, b"x" * 16_384), DataFrame(stream.id, b"x" * 16_384))
        )
        client.receive(frame(DataFrame(stream.id, b"", flags=["END_STREAM"])))
        updates += client.output().count(b"\x00\x00\x04\x08\x00\x00\x00\x00\x00")
    assert client.failure is None
    assert updates == 3  # 6.5 MB, a window of 4


def frame(*frames):
    return b"".join(each.serialize() for each in frames)


def headers(stream_id, *flags, fields=((":status", "200"),)):
    flags = flags or ("END_HEADERS", "END_STREAM")
    return frame(HeadersFrame(stream_id, block_of(*fields), flags=flags))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ErrorCodes.PROTOCOL_ERROR),
        (b"<!DOCTYPE HTML>\n<html>", ErrorCodes.PROTOCOL_ERROR),  # Python's http.server
        (frame(PingFrame(0)), ErrorCodes.PROTOCOL_ERROR),
        (frame(SettingsFrame(0, flags=["ACK"])), ErrorCodes.PROTOCOL_ERROR),
    ],
)
def test_first_frame_has_to_be_settings(data, code):
    client = Client(LIMITS)
    client.receive(data)
    assert client.failure.code == code


OFFENCES = {
    "frame above the maximum": (b"\x00\x40\x01\x00\x00\x00\x00\x00\x01", "FRAME_SIZE_ERROR"),
    "DATA of stream 0": (frame(DataFrame(2, b"x")).replace(b"\2", b"\0"), "PROTOCOL_ERROR"),
    "DATA of an idle stream": (frame(DataFrame(99, b"x")), "PROTOCOL_ERROR"),
    "HEADERS of an even stream": (headers(2), "PROTOCOL_ERROR"),
    "HEADERS of an idle stream": (headers(77), "PROTOCOL_ERROR"),
    "HEADERS begin on an idle stream": (headers(77, "END_STREAM"), "PROTOCOL_ERROR"),
    "padding": (b"\0\0\2\1\x0d\0\0\0\1\2\x88", "PROTOCOL_ERROR"),
    "padding without length": (b"\0\0\0\1\x0d\0\0\0\1", "PROTOCOL_ERROR"),
    "RST_STREAM of an idle stream": (frame(RstStreamFrame(99)), "PROTOCOL_ERROR"),
    "RST_STREAM cut": (b"\0\0\3\3\0\0\0\0\1abc", "FRAME_SIZE_ERROR"),
    "SETTINGS of a stream": (b"\0\0\0\4\0\0\0\0\1", "PROTOCOL_ERROR"),
    "SETTINGS cut": (b"\0\0\5\4\0\0\0\0\0abcde", "FRAME_SIZE_ERROR"),
    "SETTINGS ACK with values": (b"\0\0\6\4\1\0\0\0\0\0\1\0\0\0\0", "FRAME_SIZE_ERROR"),
    "ENABLE_PUSH": (frame(SettingsFrame(0, {2: 1})), "PROTOCOL_ERROR"),
    "window": (frame(SettingsFrame(0, {4: 2**31})), "FLOW_CONTROL_ERROR"),
    "window of a stream": (
        frame(WindowUpdateFrame(1, 2**31 - 1 - 65_535 + 3), SettingsFrame(0, {4: 65_536})),
        "FLOW_CONTROL_ERROR",
    ),
    "small frames": (frame(SettingsFrame(0, {5: 16_383})), "PROTOCOL_ERROR"),
    "large frames": (frame(SettingsFrame(0, {5: 2**24})), "PROTOCOL_ERROR"),
    "PUSH_PROMISE": (frame(PushPromiseFrame(1, 2, flags=["END_HEADERS"])), "PROTOCOL_ERROR"),
    "PING of a stream": (b"\0\0\x08\6\0\0\0\0\00112345678", "PROTOCOL_ERROR"),
    "PING cut": (b"\0\0\7\6\0\0\0\0\0" + b"1234567", "FRAME_SIZE_ERROR"),
    "GOAWAY of a stream": (b"\0\0\x08\7\0\0\0\0\00112345678", "PROTOCOL_ERROR"),
    "GOAWAY cut": (b"\0\0\7\7\0\0\0\0\0" + b"1234567", "FRAME_SIZE_ERROR"),
    "WINDOW_UPDATE of 0": (b"\0\0\4\x08\0\0\0\0\0\0\0\0\0", "PROTOCOL_ERROR"),
    "WINDOW_UPDATE too far": (frame(WindowUpdateFrame(0, 2**31 - 1)), "FLOW_CONTROL_ERROR"),
    "WINDOW_UPDATE cut": (b"\0\0\3\x08\0\0\0\0\1abc", "FRAME_SIZE_ERROR"),
    "WINDOW_UPDATE of an idle stream": (frame(WindowUpdateFrame(99, 1)), "PROTOCOL_ERROR"),
    "PRIORITY of stream 0": (b"\0\0\5\2\0\0\0\0\0abcde", "PROTOCOL_ERROR"),
    "PRIORITY cut": (b"\0\0\4\2\0\0\0\0\1abcd", "FRAME_SIZE_ERROR"),
    "CONTINUATION of nothing": (frame(ContinuationFrame(1, b"")), "PROTOCOL_ERROR"),
    "CONTINUATION of another stream": (
        headers(1, "END_STREAM") + frame(ContinuationFrame(3, b"")),
        "PROTOCOL_ERROR",
    ),
    "a frame inside a header section": (
        headers(1, "END_STREAM") + frame(PingFrame(0)),
        "PROTOCOL_ERROR",
    ),
    "a block that is none": (
        frame(HeadersFrame(1, b"\xff", flags=["END_HEADERS"])),
        "COMPRESSION_ERROR",
    ),
    "a flood of PING": (frame(PingFrame(0)) * 1001, "ENHANCE_YOUR_CALM"),
    "a flood of SETTINGS": (frame(SettingsFrame(0)) * 1001, "ENHANCE_YOUR_CALM"),
    "a flood of PRIORITY": (frame(PriorityFrame(1)) * 1001, "ENHANCE_YOUR_CALM"),
    "a flood of empty DATA": (
        headers(1, "END_HEADERS") + frame(DataFrame(1)) * 1001,
        "ENHANCE_YOUR_CALM",
    ),
    "a flood of frames nobody knows": (b"\0\0\0\x99\0\0\0\0\0" * 1001, "ENHANCE_YOUR_CALM"),
    "a flood of 103": (
        headers(1, "END_HEADERS", fields=[(":status", "103")]) * 1001,
        "ENHANCE_YOUR_CALM",
    ),
    "a flood of CONTINUATION": (
        headers(1, "END_STREAM") + frame(ContinuationFrame(1, b"")) * 40,
        "ENHANCE_YOUR_CALM",
    ),
    "a header section without end": (
        headers(1, "END_STREAM") + frame(ContinuationFrame(1, b"\x88" * 16_000)) * 5,
        "ENHANCE_YOUR_CALM",
    ),
}


@pytest.mark.parametrize(("data", "code"), OFFENCES.values(), ids=OFFENCES)
def test_offence_ends_the_connection_with_its_code(server, data, code):
    client = connected(server)
    ask(client)
    ask(client)
    client.output()
    client.receive(data)
    assert client.failure is not None
    assert client.failure.code.name == code
    out = client.output()
    goaway = out[out.rindex(b"\x07\0\0\0\0\0", 0) - 3 :]
    parsed, _ = GoAwayFrame.parse_frame_header(goaway[:9])
    parsed.parse_body(memoryview(goaway[9:]))
    assert parsed.error_code == ErrorCode[code]
    assert client.room == 0
    assert client.receive(headers(1)) == []


@pytest.mark.parametrize(
    "data",
    [
        frame(DataFrame(1, b"x")),  # before a header section
        headers(1, fields=[("date", "x")]),
        headers(1, fields=[(":status", "101")]),
        headers(1, fields=[(":status", "103")]),  # the end
        frame(WindowUpdateFrame(1, 2**31 - 1)),
        b"\0\0\4\x08\0\0\0\0\1\0\0\0\0",
    ],
)
def test_offence_of_one_stream_ends_that_one_alone(server, data):
    client = connected(server)
    first, second = ask(client), ask(client)
    client.output()
    assert client.receive(data) == [first]
    assert first.status is None
    assert first.error.startswith("no HTTP/2 answer: ")
    assert client.output().startswith(b"\0\0\4\3\0\0\0\0\1")  # RST_STREAM
    assert client.receive(headers(second.id)) == [second]
    assert client.failure is None


def test_second_header_section_must_be_the_end(server):
    client = connected(server)
    stream = ask(client)
    client.receive(headers(stream.id, "END_HEADERS"))
    assert client.receive(headers(stream.id, "END_HEADERS")) == [stream]
    assert stream.status == 200  # it has come, and stands


def test_unknown_frames_settings_and_flags_are_passed_over(server):
    client = connected(server)
    stream = ask(client)
    client.receive(b"\0\0\3\xfe\xff\0\0\0\7abc" + frame(SettingsFrame(0, {0x99: 5})))
    client.receive(frame(PriorityFrame(99)))
    padded = HeadersFrame(
        stream.id, block_of((":status", "204")), pad_length=7,
        flags=["PADDED", "PRIORITY", "END_HEADERS", "END_STREAM"],
    )  # fmt: skip
    assert client.receive(frame(padded)) == [stream]
    assert stream.status == 204


def test_body_is_not_read_to_its_end(server):
    client = connected(server)
    stream = ask(client)
    client.receive(headers(stream.id, "END_HEADERS"))
    client.output()
    ended = [client.receive(frame(DataFrame(stream.id, b"x" * 16_000))) for _ in range(4)]
    assert ended == [[], [], [], [stream]]
    assert client.output() == frame(RstStreamFrame(stream.id, error_code=8))


KINDS = st.builds(
    lambda kind, flags, stream_id, payload: (
        len(payload).to_bytes(3) + bytes((kind, flags)) + stream_id.to_bytes(4) + payload
    ),
    st.integers(0, 11),
    st.integers(0, 255),
    st.sampled_from([0, 1, 2, 3, 5, 2**31 + 1]),
    st.one_of(st.binary(max_size=40), st.just(block_of((":status", "200")))),
)


@given(st.lists(st.one_of(KINDS, st.binary(max_size=20)), max_size=20), st.integers(1, 50))
@example([b"\0\0\5\1\x29\0\0\0\1\0\0\0\0\0"], 50)
def test_any_bytes_end_in_answers_or_one_failure(frames, step):
    client = connected(make_server())
    streams = {ask(client, number).id for number in range(3)}
    data = b"".join(frames)
    ended = []
    for start in range(0, len(data), step):
        ended += client.receive(data[start : start + step])
        client.output()
    assert len({stream.id for stream in ended}) == len(ended)
    assert {stream.id for stream in ended} | set(client.streams) == streams
    if client.failure is None and client.room:
        ask(client)


def test_fields_of_http1_are_left_out_wherever_they_stand():
    data = (
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Language: de\r\nKeep-Alive: 5\r\n"
        b"Proxy-Connection: close\r\nContent-Length: 0\r\n\r\n"
    )
    encoder = RequestEncoder(b"http")
    for _ in range(2):
        block, _ = encoder.encode(data)
        names = [name for name, _ in BlockDecoder().decode(block)]
        assert names[4:] == [b"content-language", b"content-length"]
