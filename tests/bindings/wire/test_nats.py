"""Bytes as the NATS client protocol documentation and ADR-4 write them."""

import contextlib
import re

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bindings.binding import Message
from bindings.errors import CloudEventError, InvalidEventError
from bindings.nats import NATS
from bindings.wire import nats
from bindings.wire.nats import (
    FREQUENT,
    MAX_LINE_BYTES,
    NatsMessage,
    NatsProtocolError,
    Parser,
    encode_headers,
    encode_publish,
    parse_headers,
    parse_number,
)
from tests.helpers import examples

# docs.nats.io, "Client Protocol", the examples of MSG and HMSG.
DOCUMENTED = [
    (
        b"MSG FOO.BAR 9 11\r\nHello World\r\n",
        NatsMessage(9, "FOO.BAR", b"", b"", b"Hello World"),
    ),
    (
        b"MSG FOO.BAR 9 GREETING.34 11\r\nHello World\r\n",
        NatsMessage(9, "FOO.BAR", b"GREETING.34", b"", b"Hello World"),
    ),
    (
        b"HMSG FOO.BAR 9 34 45\r\nNATS/1.0\r\nFoodGroup: vegetable\r\n\r\nHello World\r\n",
        NatsMessage(9, "FOO.BAR", b"", b"NATS/1.0\r\nFoodGroup: vegetable\r\n\r\n", b"Hello World"),
    ),
    (
        b"HMSG FOO.BAR 9 BAZ.69 34 45\r\nNATS/1.0\r\nFoodGroup: vegetable\r\n\r\nHello World\r\n",
        NatsMessage(
            9, "FOO.BAR", b"BAZ.69", b"NATS/1.0\r\nFoodGroup: vegetable\r\n\r\n", b"Hello World"
        ),
    ),
    (b"MSG a 1 0\r\n\r\n", NatsMessage(1, "a", b"", b"", b"")),
    # A payload may hold what looks like the end of a line or a message.
    (b"MSG a 1 9\r\n\r\nMSG\r\n\r\n\r\n", NatsMessage(1, "a", b"", b"", b"\r\nMSG\r\n\r\n")),
    (b"MSG  a \t1  0\r\n\r\n", NatsMessage(1, "a", b"", b"", b"")),
    # The server cuts words at blanks and tabs only.
    (b"MSG a\x0bb 1 0\r\n\r\n", NatsMessage(1, "a\x0bb", b"", b"", b"")),
    (b"MSG \xc3\xa9 1 0\r\n\r\n", NatsMessage(1, "é", b"", b"", b"")),
    (b"MSG \xff 1 0\r\n\r\n", NatsMessage(1, "\udcff", b"", b"", b"")),
]
STREAM = b"".join(
    data + line
    for (data, _), line in zip(
        DOCUMENTED,
        [
            b"PING\r\n",
            b"",
            b"+OK\r\n",
            b"PONG\r\n",
            b'INFO {"a":1}\r\n',
            b"-ERR 'x'\r\n",
            *[b""] * 4,
        ],
        strict=True,
    )
)
LINES = [b"PING", b"+OK", b"PONG", b'INFO {"a":1}', b"-ERR 'x'"]
MESSAGES = [message for _, message in DOCUMENTED]


@pytest.mark.parametrize(("data", "expected"), DOCUMENTED)
def test_a_documented_message_is_read(data, expected):
    assert Parser().feed(data) == ([expected], [])


def test_one_read_brings_all_its_messages_and_lines_in_order():
    assert Parser().feed(STREAM) == (MESSAGES, LINES)


def test_a_read_may_end_at_any_byte():
    for cut in range(len(STREAM) + 1):
        parser = Parser()
        first, first_lines = parser.feed(STREAM[:cut])
        second, second_lines = parser.feed(STREAM[cut:])
        assert first + second == MESSAGES, cut
        assert first_lines + second_lines == LINES, cut


def test_bytes_may_come_one_by_one():
    parser = Parser()
    messages, lines = [], []
    for value in STREAM:
        more, more_lines = parser.feed(bytes([value]))
        messages += more
        lines += more_lines
    assert (messages, lines) == (MESSAGES, LINES)


def test_reset_forgets_the_rest_of_the_last_connection():
    parser = Parser()
    parser.feed(b"MSG a 1 100\r\nhalf")
    parser.reset()
    assert parser.feed(b"PING\r\n") == ([], [b"PING"])


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"MSG\r\n",
        b"MSG a\r\n",
        b"MSG a 1\r\n",
        b"MSG a 1 x\r\n",
        b"MSG a 1 -1\r\n",
        b"MSG a 1 +1\r\n",
        b"MSG a 1 1_0\r\n",
        b"MSG a 1 99999999999999999999\r\n",
        b"MSG a x 1\r\n",
        b"MSG a b c d 1\r\n",
        b"HMSG a 1 5\r\n",
        b"HMSG a 1 9 5\r\n12345\r\n",
        b"MSG a 1 2\r\nabcd\r\n",
        b"\r\n",
        b"x" * (MAX_LINE_BYTES + 1),
    ],
)
def test_what_is_no_protocol_ends_the_connection(data):
    with pytest.raises(NatsProtocolError):
        Parser().feed(data)


def test_messages_before_a_fault_are_not_lost():
    with pytest.raises(NatsProtocolError) as caught:
        Parser().feed(STREAM + b"nonsense\r\n")
    assert caught.value.messages == MESSAGES
    assert caught.value.lines == LINES


@given(st.lists(st.binary(max_size=60), max_size=6))
@example([b"MSG a 1 2\r\n"])
def test_no_bytes_raise_anything_but_a_protocol_error(chunks):
    parser = Parser()
    try:
        for chunk in chunks:
            parser.feed(chunk)
    except NatsProtocolError:
        pass


@given(
    st.lists(st.sampled_from([b"MSG ", b"HMSG ", b"a ", b"1 ", b"2", b"\r\n", b"\xff", b"PING"]))
)
def test_no_pieces_of_the_protocol_raise_anything_but_a_protocol_error(pieces):
    with contextlib.suppress(NatsProtocolError):
        Parser().feed(b"".join(pieces))


def test_headers_keep_order_duplicates_and_case():
    # ADR-4: names keep their case, a name may stand more than once, blanks around values go.
    block = b"NATS/1.0\r\nA: 1\r\nb:2\r\nA:\t3 \r\nEmpty:\r\nUrl: http://x:1\r\n\r\n"
    headers = parse_headers(block)
    assert headers.pairs == [
        ("A", "1"),
        ("b", "2"),
        ("A", "3"),
        ("Empty", ""),
        ("Url", "http://x:1"),
    ]
    assert headers.get("a") == "1"
    assert headers.get("B") == "2"
    assert headers.get("c") == ""
    assert headers.status == 0


@pytest.mark.parametrize(
    ("block", "status", "description", "pairs"),
    [
        (b"NATS/1.0 503\r\n\r\n", 503, "", []),
        (b"NATS/1.0 404 No Messages\r\n\r\n", 404, "No Messages", []),
        (
            b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 1\r\n\r\n",
            408,
            "Request Timeout",
            [("Nats-Pending-Messages", "1")],
        ),
        (b"NATS/1.0 100 Idle Heartbeat\r\n\r\n", 100, "Idle Heartbeat", []),
        (b"NATS/1.0\r\n\r\n", 0, "", []),
    ],
)
def test_a_status_line_is_read(block, status, description, pairs):
    headers = parse_headers(block)
    assert (headers.status, headers.description, headers.pairs) == (status, description, pairs)


def test_header_bytes_that_are_no_ascii_come_as_latin_1():
    assert parse_headers(b"NATS/1.0\r\na: \xc3\xa9\xff\r\n\r\n").pairs == [("a", "Ã©ÿ")]


@pytest.mark.parametrize(
    "block",
    [
        b"NATS/2.0\r\n\r\n",
        b"NATS/1.0\r\na: 1\r\n",
        b"NATS/1.0",
        b"NATS/1.0\r\nno colon\r\n\r\n",
        b"NATS/1.0\r\n: no name\r\n\r\n",
        b"NATS/1.0\r\nce-id : 1\r\n\r\n",
        b"NATS/1.0\r\n folded: 1\r\n\r\n",
        b"NATS/1.0\r\nce-\xc3\xa9: 1\r\n\r\n",
        b"NATS/1.0\r\na: 1\nce-id: 2\r\n\r\n",
        b"NATS/1.0\r\na: 1\rce-id: 2\r\n\r\n",
        b"NATS/1.0\r\n\r\nce-id: 2\r\n\r\n",
    ],
)
def test_a_header_block_that_breaks_the_grammar_is_rejected(block):
    with pytest.raises(InvalidEventError) as caught:
        parse_headers(block)
    assert caught.value.reason == "malformed_headers"


@given(st.binary(max_size=80))
def test_no_header_block_raises_anything_but_an_invalid_event(block):
    for candidate in (block, b"NATS/1.0" + block + b"\r\n\r\n"):
        with contextlib.suppress(InvalidEventError):
            parse_headers(candidate)


def test_publishing_is_written_as_documented():
    # docs.nats.io, "Client Protocol", the examples of PUB and HPUB.
    assert encode_publish(b"FOO", b"Hello NATS!") == b"PUB FOO 11\r\nHello NATS!\r\n"
    assert (
        encode_publish(b"FRONT.DOOR", b"Knock Knock", reply=b"JOKE.22")
        == b"PUB FRONT.DOOR JOKE.22 11\r\nKnock Knock\r\n"
    )
    header = encode_headers([("Bar", "Baz")])
    assert (
        encode_publish(b"FOO", b"Hello NATS!", header=header)
        == b"HPUB FOO 22 33\r\nNATS/1.0\r\nBar: Baz\r\n\r\nHello NATS!\r\n"
    )
    header = encode_headers([("BREAKFAST", "donut"), ("BREAKFAST", "eggs")])
    assert (
        encode_publish(b"MORNING.MENU", b"Yum!", reply=b"R", header=header)
        == b"HPUB MORNING.MENU R 47 51\r\n"
        b"NATS/1.0\r\nBREAKFAST: donut\r\nBREAKFAST: eggs\r\n\r\nYum!\r\n"
    )


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb", "é"])
def test_no_header_value_breaks_out_of_its_line(value):
    with pytest.raises(InvalidEventError):
        encode_headers([("a", value)])
    with pytest.raises(InvalidEventError):
        encode_headers([(value, "a")])


def test_the_bytes_of_pitfall_58_are_an_event():
    # spec/pitfalls.md 58: datacontenttype has its own header, Content-Type is none of ours.
    header = (
        b"NATS/1.0\r\nce-specversion: 1.0\r\nce-id: 1\r\nce-source: /s\r\nce-type: t\r\n"
        b"ce-subject: %C3%A9%20%25\r\nce-datacontenttype: text/plain\r\n\r\n"
    )
    data = b"HMSG t 1 %d %d\r\n%bhi\r\n" % (len(header), len(header) + 2, header)
    ((message,), _) = Parser().feed(data)
    headers = parse_headers(message.header)
    (event,) = NATS.decode(Message(message.payload, "", headers.pairs, message.subject))
    assert (event.id, event.subject, event.datacontenttype, event.data) == (
        "1",
        "é %",
        "text/plain",
        b"hi",
    )


@pytest.mark.parametrize(
    ("word", "number"),
    [("0", 0), ("007", 7), ("9" * 19, 10**19 - 1), ("9" * 20, None), ("", None), ("-1", None),
     (" 1", None), ("1_0", None), ("\u00b2", None), ("\u0661", None), ("1" * 5000, None)],
)  # fmt: skip
def test_a_word_is_a_number_or_none(word, number):
    assert parse_number(word) == number


# ADR-4 in one expression; the parser has none.
GRAMMAR = re.compile(r"NATS/1\.0(?: ([^\r\n]*))?\r\n((?:[!-9;-~]+:[^\r\n]*\r\n)*)\r\n")
GRAMMAR_LINE = re.compile(r"([^:\r\n]+):[ \t]*([^\r\n]*?)[ \t]*\r\n")


@given(
    st.lists(
        st.sampled_from(
            ["NATS/1.0", "NATS/1.0 ", "503", " ", "\t", "\r\n", "\r\n", "\r\n\r\n", "\r", "\n",
             "a:", "ce-id: 1", "b", ":", "é", "\x0b", "\x1c", "\x85", "\xa0"]
        ),
        max_size=8,
    ),
    st.booleans(),
)  # fmt: skip
@settings(max_examples=examples(2000))
def test_a_header_block_is_what_the_grammar_says(pieces, framed):
    text = "".join(pieces)
    if framed:
        text = f"NATS/1.0\r\n{text}\r\n\r\n"
    block = text.encode("latin-1")
    match = GRAMMAR.fullmatch(text)
    for _ in range(FREQUENT + 1):  # by heart the last time
        if match or not block:
            assert parse_headers(block).pairs == GRAMMAR_LINE.findall(match[2] if match else "")
        else:
            with pytest.raises(InvalidEventError):
                parse_headers(block)


# docs.nats.io, "Client Protocol": MSG <subject> <sid> [reply-to] <#bytes>
# and HMSG <subject> <sid> [reply-to] <#header-bytes> <#total-bytes>; blanks may be more than one.
@pytest.mark.parametrize("blank", [b" ", b"  ", b"\t", b" \t "])
@pytest.mark.parametrize("reply", [b"", b"_INBOX.1"])
@pytest.mark.parametrize("header", [b"", b"NATS/1.0\r\n\r\n"])
def test_the_words_of_a_message_may_stand_apart(blank, reply, header):
    words = [b"HMSG" if header else b"MSG", b"a\x0b.b", b"7", *filter(None, [reply])]
    words += [b"%d" % len(header)] * bool(header) + [b"%d" % (len(header) + 2)]
    line = blank.join(words).replace(blank, b" ", 1)
    for tail in (b"", b" ", b"\t"):
        ((message,), lines) = Parser().feed(line + tail + b"\r\n" + header + b"ok\r\n")
        assert not lines
        assert message == NatsMessage(7, "a\x0b.b", reply, header, b"ok")


def test_shapes_of_header_blocks_are_remembered_within_bounds():
    for number in range(300):
        for _ in range(FREQUENT):
            parse_headers(b"NATS/1.0\r\nX-%d: 1\r\nce-id: %d\r\n\r\n" % (number, number))
    for _ in range(FREQUENT):
        parse_headers(b"NATS/1.0\r\n" + b"x" * 5000 + b": long\r\n\r\n")
    for number in range(3000):
        Parser().feed(b"MSG a %d 0\r\n\r\n" % (number * 1000))
    assert 0 < len(nats._SHAPES) <= 64
    assert max(len("".join(names)) for names in nats._SHAPES) <= 2048
    assert 0 < len(nats._usual) <= 4
    assert 0 < len(nats._NUMBERS) <= 2048
    assert max(map(len, nats._NUMBERS)) <= 6


@pytest.mark.parametrize("blank", [" ", "", "\t"])
def test_a_frequent_header_block_is_read_as_a_rare_one(blank):
    shapes = [
        [("a", "1"), ("Content-Type", "t/x"), ("b", "2")], [("a", "1")], [("ab", "1"), ("a", "x")],
        [("b", "2"), ("Content-Type", "t/x"), ("a", "1")], [("a", "1"), ("a", "1")], [],
        [("a", "")],
    ]  # fmt: skip
    values = ["v", "two words", "", "\xff", "\x7f", "a\x01b", "\tx", "a: b", "a:b"]
    for pairs in shapes * 2 * FREQUENT:
        for value in values:
            found = [(name, text and value) for name, text in pairs]
            lines = "".join(f"{name}:{blank}{text}\r\n" for name, text in found)
            headers = parse_headers(f"NATS/1.0\r\n{lines}\r\n".encode("latin-1"))
            expected = [(name, text.strip(" \t")) for name, text in found]
            assert headers.pairs == expected
            assert headers.content_type == dict(expected).get("Content-Type", "")


@pytest.mark.parametrize("odd", ["ext:\r\n", "ext:two words\r\n", "ext:  x\r\n"])
def test_one_odd_block_does_not_keep_its_shape_from_being_known(odd):
    block = b"NATS/1.0\r\nodd-id: 1\r\nodd-type: a\r\next: 2\r\n\r\n"
    nats._usual.clear()
    nats._SHAPES.clear()
    for _ in range(FREQUENT - 1):
        parse_headers(block)
    parse_headers(block.replace(b"ext: 2\r\n", odd.encode()))
    parse_headers(block)
    assert parse_headers(block).pairs.plain


@pytest.mark.parametrize(
    ("value", "subject"),
    [
        ("room-1", "room-1"), ("%41", "A"), ("a%20b", "a b"), ('"a b"', "a b"), ("a b", "a b"),
        ("100%", None), ("a\x7fb", None), ("\xff", None),
    ],
)  # fmt: skip
def test_a_frequent_block_is_plain_only_if_its_values_stand_for_themselves(value, subject):
    core = (
        "NATS/1.0\r\nce-specversion: 1.0\r\nce-id: 1\r\nce-source: /s\r\nce-type: t\r\nce-subject: "
    )
    for _ in range(FREQUENT):
        parse_headers(f"{core}x\r\n\r\n".encode())
    headers = parse_headers(f"{core}{value}\r\n\r\n".encode("latin-1"))
    assert headers.pairs.plain is (value == subject and " " not in value)
    message = Message(b"{}", "", headers.pairs)
    if subject is not None:
        (event,) = NATS.decode(message)
        assert event.subject == subject
    else:
        with pytest.raises(InvalidEventError):
            NATS.decode(message)


@pytest.mark.parametrize(
    "damaged",
    [
        "NATS/1.0\r\na: 1\r\nb: 2\r\n", "NATS/1.0\r\na: 1\r\nb: 2\r\n\r\n\r\n",
        "NATS/1.0\r\na: 1\nx\r\nb: 2\r\n\r\n", "NATS/1.0\r\na: 1\rx\r\nb: 2\r\n\r\n",
        "NATS/1.1\r\na: 1\r\nb: 2\r\n\r\n", "NATS/1.0\r\na: 1\r\nb: 2\r\n\r\nx",
        "NATS/1.0\r\na: 1\r\nb2\r\n\r\n", "xNATS/1.0\r\na: 1\r\nb: 2\r\n\r\n",
    ],
)  # fmt: skip
def test_a_fault_is_seen_in_a_block_whose_shape_is_known(damaged):
    for _ in range(FREQUENT):
        assert parse_headers(b"NATS/1.0\r\na: 1\r\nb: 2\r\n\r\n").pairs == [("a", "1"), ("b", "2")]
    with pytest.raises(InvalidEventError):
        parse_headers(damaged.encode())


def test_a_name_with_a_fault_is_refused_each_time():
    for _ in range(2 * FREQUENT):
        with pytest.raises(InvalidEventError):
            parse_headers(b"NATS/1.0\r\na b: 1\r\n\r\n")


@pytest.mark.parametrize("name", ["content-type", "Content-Type", "CONTENT-TYPE"])
def test_content_type_is_the_first_value_whatever_the_case_of_its_name(name):
    block = f"NATS/1.0\r\nce-id: 1\r\n{name}:  text/plain \r\nContent-Type: b\r\n\r\n".encode()
    for _ in range(FREQUENT + 1):  # by heart the last time
        headers = parse_headers(block)
        assert headers.content_type == headers.get("content-type") == "text/plain"
    assert parse_headers(b"NATS/1.0\r\nce-id: 1\r\n\r\n").content_type == ""
    assert parse_headers(b"NATS/1.0\r\nContent-Type:\r\nContent-Type: b\r\n\r\n").content_type == ""


LINES_OF_HEADERS = st.sampled_from(
    [
        "ce-specversion: 1.0", "ce-id: 1", "ce-id: 2", "ce-source: /s", "ce-type: t", "CE-Type: u",
        "ce-type:t", "ce-type: t ", "ce-x: %C3%A9", "ce-x: %", "ce-Bad-: 1",
        "content-type: text/plain", "Content-Type: application/json", "content-type:", "a: b", "a",
        "a : b", "a: \r", "",
    ]
)  # fmt: skip


@given(
    st.lists(
        st.tuples(st.booleans(), st.lists(LINES_OF_HEADERS, max_size=6)), min_size=2, max_size=6
    )
)
def test_a_header_block_says_the_same_whatever_came_before_it(blocks):
    core = ["ce-specversion: 1.0", "ce-id: 1", "ce-source: /s", "ce-type: t"]
    wire = [
        "\r\n".join(["NATS/1.0", *core * is_event, *lines, "", ""]).encode("latin-1")
        for is_event, lines in blocks
    ]

    def read(block, binding):
        try:
            headers = parse_headers(block)
            message = Message(b"{}", headers.content_type, headers.pairs)
            return headers, list(binding.decode(message))
        except CloudEventError as error:
            return str(error)

    def read_alone(block):
        nats._SHAPES.clear()
        nats._usual.clear()
        return read(block, msgspec.structs.replace(NATS))

    expected = [read_alone(block) for block in wire]
    binding = msgspec.structs.replace(NATS)
    for _ in range(FREQUENT + 1):
        assert [read(block, binding) for block in wire] == expected
    assert [read(block, binding) for block in reversed(wire)] == expected[::-1]


@pytest.mark.parametrize(
    "line",
    [
        b"MSG a 1 9999999999", b"HMSG a 1 0 9999999999", b"HMSG a 1 9999999999 9999999999",
        b"MSG a 9999999999 0", b"MSG a 1 " + b"9" * 11, b"MSG a 1 " + b"9" * 30,
        b"HMSG a 1 9999999999 1", b"HMSG a 1 " + b"9" * 20 + b" 1", b"MSG a " + b"9" * 20 + b" 0",
        b"MSG a 1 00000000000", b"MSG a 1 4294967296", b"MSG a 1 2147483648",
    ],
)  # fmt: skip
def test_a_hostile_size_is_waited_for_or_refused(line):
    number = max(line.split()[2:], key=len)
    parser = Parser()
    if len(number) > 10 or line.endswith(b" 9999999999 1"):
        with pytest.raises(NatsProtocolError):
            parser.feed(line + b"\r\nab\r\n")
    else:
        messages, lines = parser.feed(line + b"\r\n\r\n")
        assert (messages == []) is not line.endswith(b" 0")
        assert not lines
