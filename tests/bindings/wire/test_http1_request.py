"""The shortcut against httptools: whatever it takes, a full parser reads in the same way."""

import random

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindings.wire.http1_request import PlainPosts

HEAD = (
    b"POST /events HTTP/1.1\r\nHost: gateway:8080\r\nce-id: 1\r\nCE-Source: /devices/7\r\n"
    b"Content-Type: application/json\r\nAccept: */*\r\nConnection: keep-alive\r\n"
    b"Content-Length: 13\r\n\r\n"
)
BODY = b'{"a": "\r\n\r\n"}'
WHOLE = HEAD + BODY


OFTEN = 16
"""Requests of one shape, from which on a pattern reads them."""


class Full:
    """What httptools makes of a request."""

    def __init__(self):
        self.target, self.fields, self.body, self.complete = b"", [], b"", 0
        self.parser = httptools.HttpRequestParser(self)

    def on_url(self, url):
        self.target += url

    def on_header(self, name, value):
        self.fields.append((name, value))

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        self.complete += 1


def learned():
    """A memory that knows what a full parser has told of the request above."""
    posts = PlainPosts()
    full = Full()
    full.parser.feed_data(WHOLE)
    for name, _ in full.fields:
        posts.learn_name(name)
    posts.learn_target(full.target, b"gateway:8080", "/events")
    return posts


def practised():
    """The same, after so many requests of that shape that it has a pattern."""
    posts = learned()
    for _ in range(OFTEN):
        assert posts.read(WHOLE, 0, 1000)
    assert len(posts._recent) == 1
    return posts


@pytest.fixture(params=[learned, practised])
def posts(request):
    return request.param()


def read(data, start=0, max_body=1000, posts=None):
    return (posts or learned()).read(data, start, max_body)


def test_plain_request_is_read_with_its_attributes_in_lower_case(posts):
    found = read(WHOLE, posts=posts)
    assert found.headers == [("ce-id", "1"), ("ce-source", "/devices/7")]
    assert (found.path, found.content_type) == ("/events", "application/json")
    assert (found.body, found.end) == (BODY, len(WHOLE))


def test_requests_behind_each_other_are_read_one_by_one(posts):
    data = WHOLE + WHOLE.replace(b"ce-id: 1", b"ce-id: 22") + WHOLE[:40]
    first = read(data, posts=posts)
    second = read(data, first.end, posts=posts)
    assert (first.headers[0][1], second.headers[0][1]) == ("1", "22")
    assert read(data, second.end, posts=posts) is None


def test_nothing_is_read_that_the_full_parser_has_not_shown():
    posts = PlainPosts()
    assert read(WHOLE, posts=posts) is None
    posts.learn_target(b"/events", b"gateway:8080", "/events")
    for name in (b"Host", b"ce-id", b"CE-Source", b"Content-Type", b"Accept", b"Connection"):
        posts.learn_name(name)
        assert read(WHOLE, posts=posts) is None
    posts.learn_name(b"Content-Length")
    assert read(WHOLE, posts=posts) is not None


def test_target_counts_together_with_its_host():
    assert read(WHOLE.replace(b"gateway:8080", b"gateway:8081")) is None
    assert read(WHOLE.replace(b"Host: gateway:8080\r\n", b"")) is None
    posts = learned()
    posts.learn_target(b"/events", b"", "/events")  # an empty Host is one, no Host is none
    assert read(WHOLE.replace(b"Host: gateway:8080\r\n", b""), posts=posts) is None


@pytest.mark.parametrize(
    "field",
    [
        b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"Connection: close",
        b"Proxy-Connection: close", b"Upgrade: h2c", b"Content-Encoding: gzip",
        b"WebHook-Request-Origin: a", b"Content-Length: 13", b"Host: gateway:8080", b"ce-id:1",
        b"ce-id : 1", b"ce-id: 1 ", b"ce-id: \xc3\xa9", b"ce-id: a\tb", b"ce-id: a\x00", b" folded",
        b"ce-id: a\nb: c", b"ce-id: a\rb", b": x", b"X-Unknown: 1", b"",
    ],
)  # fmt: skip
def test_anything_out_of_the_ordinary_is_left_to_the_full_parser(posts, field):
    name = field.partition(b":")[0]
    if name and b" " not in name:
        if name != b"X-Unknown":
            posts.learn_name(name)
        for _ in range(OFTEN):
            assert read(WHOLE, posts=posts) is not None
    changed = WHOLE.replace(b"Accept: */*", b"Accept: */*\r\n" + field)
    found = read(changed, posts=posts)
    assert found is None or found.body != BODY


@pytest.mark.parametrize(
    "length",
    # 5000 digits are more than `int` reads at all.
    [b"-1", b"+13", b"0x0d", b"13, 13", b"", b"1" * 10, b"1" * 5000, b"\xb2"],
    ids=lambda length: length.decode("latin-1")[:10],
)
def test_length_is_decimal_digits(posts, length):
    changed = WHOLE.replace(b"Content-Length: 13", b"Content-Length: " + length)
    assert read(changed, posts=posts) is None


def test_request_line_is_that_of_a_post_of_http_1_1(posts):
    for other in (b"PUT /events HTTP/1.1", b"POST /events HTTP/1.0", b"POST  /events HTTP/1.1"):
        assert read(WHOLE.replace(b"POST /events HTTP/1.1", other), posts=posts) is None


def test_body_that_is_not_all_there_or_above_the_limit_is_left_alone(posts):
    assert read(WHOLE[:-1], posts=posts) is None
    assert read(WHOLE, max_body=13, posts=posts) is not None
    assert read(WHOLE, max_body=12, posts=posts) is None


def test_target_with_a_query_is_never_learned():
    posts = learned()
    posts.learn_target(b"/events?a=1", b"gateway:8080", "/events")
    assert read(WHOLE.replace(b"/events", b"/events?a=1"), posts=posts) is None


def test_a_flood_of_names_is_forgotten_and_those_in_use_are_learned_again():
    posts = learned()
    for number in range(3000):
        posts.learn_name(b"x-%d" % number)
        posts.learn_target(b"/%d" % number, b"h", "/")
    assert len(posts._attributes) + len(posts._others) <= 1024
    assert len(posts._targets) <= 256
    posts.learn_name(b"x" * 100)
    assert "x" * 100 not in posts._others
    assert read(WHOLE, posts=posts) is None
    for name in (b"Host", b"ce-id", b"CE-Source", b"Content-Type", b"Accept", b"Connection"):
        posts.learn_name(name)
    posts.learn_name(b"Content-Length")
    posts.learn_target(b"/events", b"gateway:8080", "/events")
    assert read(WHOLE, posts=posts) is not None


def fields_of(post):
    return [
        list(post.headers),
        post.path,
        post.content_type,
        post.authorization,
        post.body,
        post.end,
    ]


def test_shape_is_read_alike_with_a_pattern_and_without():
    heads = [
        HEAD,
        HEAD.replace(b"Accept: */*\r\n", b"Authorization: Basic YTpi\r\n"),
        HEAD.replace(
            b"ce-id: 1\r\nCE-Source: /devices/7\r\nContent-Type: application/json\r\n", b""
        ),
        HEAD.replace(b"CE-Source: /devices/7", b"ce-id: a second  one"),
        HEAD.replace(b"ce-id: 1\r\n", b""),
        HEAD.replace(b"keep-alive", b"Keep-Alive"),
    ]
    fresh, posts = learned(), learned()
    for each in (fresh, posts):
        each.learn_name(b"Authorization")
    expected = [fields_of(fresh.read(head + BODY, 0, 1000)) for head in heads]
    for _ in range(3 * OFTEN):
        assert [fields_of(posts.read(head + BODY, 0, 1000)) for head in heads] == expected
    assert 1 < len(posts._recent) <= 4


def test_a_flood_of_shapes_is_forgotten_and_those_in_use_are_learned_again():
    posts = learned()
    for number in range(300):
        posts.learn_name(b"x-%d" % number)
        other = WHOLE.replace(b"Accept", b"x-%d" % number)
        for _ in range(OFTEN if number % 7 == 0 else 1):
            assert posts.read(other, 0, 1000)
    assert len(posts._shapes) <= 64
    assert len(posts._recent) <= 4
    for _ in range(OFTEN):
        assert posts.read(WHOLE, 0, 1000)
    assert posts._recent[0].match(HEAD[:-4].decode())


def test_target_that_is_new_to_a_known_shape_is_not_read():
    posts = practised()
    assert posts.read(WHOLE.replace(b"/events", b"/events/2"), 0, 1000) is None
    assert posts.read(WHOLE.replace(b"gateway:8080", b"gateway"), 0, 1000) is None
    # A dot of a pattern would stand for any character.
    posts.learn_target(b"/a.b", b"g.h", "/a.b")
    dotted = WHOLE.replace(b"/events", b"/a.b").replace(b"gateway:8080", b"g.h")
    for _ in range(OFTEN):
        assert posts.read(dotted, 0, 1000).path == "/a.b"
    assert posts.read(dotted.replace(b"/a.b", b"/axb"), 0, 1000) is None
    assert posts.read(dotted.replace(b"g.h", b"gxh"), 0, 1000) is None


def test_mutated_requests_are_read_as_the_full_parser_reads_them_or_not_at_all(posts):
    rng = random.Random(20261123)
    pieces = [b"\r\n", b"\r", b"\n", b": ", b":", b" ", b"\t", b"\x00", b"13", b"\xff", b"\r\n\r\n"]
    lines = HEAD[:-4].split(b"\r\n")[1:]
    taken = 0
    for _ in range(20_000):
        data = bytearray(WHOLE)
        for _ in range(rng.randint(1, 2)):
            at = rng.randrange(len(HEAD))
            kind = rng.randrange(4)
            if kind == 0:
                data[at : at + 1] = rng.choice(pieces)
            elif kind == 1:
                data[at:at] = rng.choice(pieces)
            elif kind == 2:
                data[at] = rng.randrange(256)
            else:
                where = data.find(b"\r\n", at) + 2
                data[where:where] = rng.choice(lines) + b"\r\n"
        found = posts.read(bytes(data), 0, 1000)
        if found is None:
            continue
        taken += 1
        full = Full()
        full.parser.feed_data(bytes(data[: found.end]))
        assert full.complete == 1, bytes(data)
        assert full.parser.should_keep_alive()
        attributes = [
            (name.lower().decode(), value.decode("latin-1"))
            for name, value in full.fields
            if name.lower().startswith(b"ce-")
        ]
        assert (full.target, full.body, attributes) == (b"/events", found.body, found.headers)
    assert taken > 1000


FIELDS = st.sampled_from(
    [
        "ce-id: 1", "ce-id: 2 2", "CE-ID: 3", "ce-x: a", "Accept: */*", "accept: b", "a: ",
        "Content-Length: 3", "content-length: 2", "Content-Length: 3 ", "Content-Length:3",
        "Content-Length: +3", "Content-Type: text/plain", 'content-type: x;y="z"', "ce-x:",
        "Authorization: Basic YTpi", "Connection: keep-alive", "connection: Keep-Alive",
        "Connection: close", "ce-id:  1", "ce-x : 1", "Host: gateway:8080", "Host: other",
        "host: gateway:8080", "Transfer-Encoding: chunked", " folded", "ce-x: a\tb",
        "ce-x: a\x00b", "ce-x: a\rb", "ce-x: a\nHost: b", "ce-x: \xe9", "", ":",
    ]
)  # fmt: skip
USUAL = ("Host: gateway:8080", "ce-id: 1", "ce-source: /s", "Content-Length: 3")


@st.composite
def requests(draw):
    """Return a head and the three bytes behind it, right or wrong, much like those of others."""
    line = draw(
        st.sampled_from(
            [
                *["POST /events HTTP/1.1"] * 5, "POST http://gateway:8080/events HTTP/1.1",
                "POST //events HTTP/1.1", "POST /events HTTP/1.0", "GET /events HTTP/1.1",
            ]
        )
    )  # fmt: skip
    fields = list(draw(st.permutations(USUAL)) if draw(st.booleans()) else USUAL)
    for field in draw(st.lists(FIELDS, max_size=2)):
        fields.insert(draw(st.integers(0, len(fields))), field)
    if draw(st.integers(0, 3)) == 0:
        del fields[draw(st.integers(0, len(fields) - 1))]
    return "\r\n".join([line, *fields, "", "abc"]).encode("latin-1")


def learn_all(posts):
    for name in (
        b"Host", b"host", b"ce-id", b"CE-ID", b"ce-source", b"ce-x", b"Accept", b"accept", b"a",
        b"Content-Length", b"content-length", b"Content-Type", b"content-type", b"Authorization",
        b"Connection", b"connection", b"Transfer-Encoding",
    ):  # fmt: skip
        posts.learn_name(name)
    for target in (b"/events", b"http://gateway:8080/events"):
        posts.learn_target(target, b"gateway:8080", "/events")
    return posts


@given(st.lists(requests(), min_size=1, max_size=8))
def test_a_request_says_the_same_whatever_came_before_it(wire):
    def read(posts, data):
        found = posts.read(data, 0, 1000)
        return found and fields_of(found)

    expected = [read(learn_all(PlainPosts()), data) for data in wire]
    posts = learn_all(PlainPosts())
    for data, fields in zip(wire * 2, expected * 2, strict=True):
        for _ in range(OFTEN + 1):
            assert read(posts, data) == fields
    assert [read(posts, data) for data in reversed(wire)] == expected[::-1]
    for data, fields in zip(wire, expected, strict=True):
        if fields is None:
            continue
        full = Full()
        full.parser.feed_data(data[: fields[-1]])
        assert (full.complete, full.parser.get_method()) == (1, b"POST")
        assert full.parser.should_keep_alive()
        assert full.body == fields[4]
        single = (b"host", b"content-length", b"content-type", b"authorization", b"connection")
        names = [name.lower() for name, _ in full.fields]
        assert all(names.count(name) <= 1 for name in single)
        assert b"transfer-encoding" not in names
        pairs = [(name.lower().decode(), value.decode()) for name, value in full.fields]
        assert [pair for pair in pairs if pair[0].startswith("ce-")] == fields[0]
        assert dict(pairs).get("content-type", "") == fields[2]
        assert dict(pairs).get("authorization", "") == fields[3]


def test_a_hostile_head_costs_no_more_than_its_length():
    # Were a value able to end in many places, each would be tried with each of the others.
    posts = learned()
    fields = b"".join(b"ce-x: a\r\n" for _ in range(25))
    posts.learn_name(b"ce-x")
    many = WHOLE.replace(b"Accept: */*\r\n", fields)
    for _ in range(OFTEN):
        assert posts.read(many, 0, 1000)
    blanks = b"a" + b" " * 600 + b"a"
    hostile = many.replace(b"ce-x: a", b"ce-x: " + blanks)
    assert len(hostile) < 16_384
    assert len(posts.read(hostile, 0, 1000).headers) == 27
    for wrong in (b"Content-Length: x", b"Content-Length: 13 ", b"Content-Length: 13\x00"):
        assert posts.read(hostile.replace(b"Content-Length: 13", wrong), 0, 1000) is None


def test_a_head_of_64_kib_is_left_to_the_full_parser(posts):
    for size in (16_000, 65_536):
        long = WHOLE.replace(b"ce-id: 1", b"ce-id: " + b"1" * size)
        assert (posts.read(long, 0, 1000) is None) is (size > 16_384)
