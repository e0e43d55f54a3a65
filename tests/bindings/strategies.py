"""What Hypothesis draws for the bindings: events that use all that the specification allows."""

from hypothesis import strategies as st

from bindings.event import CORE_ATTRIBUTES, INTEGER_MAX, INTEGER_MIN, Event

FORBIDDEN = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0), *range(0xFDD0, 0xFDF0)])) + "".join(
    chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF)
)
texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=FORBIDDEN), min_size=1, max_size=20
)
RESERVED = CORE_ATTRIBUTES | {"data"}
names = st.from_regex(r"[a-z0-9]{1,25}", fullmatch=True).filter(lambda name: name not in RESERVED)
values = st.one_of(
    texts, st.just(""), st.booleans(), st.integers(INTEGER_MIN, INTEGER_MAX), st.binary(max_size=9)
)
times = st.one_of(
    st.none(),
    st.datetimes().map(lambda time: f"{time.isoformat(timespec='microseconds'):0>26}Z"),
    st.sampled_from(["2016-12-31T23:59:60Z", "2018-04-05t17:31:00.123456789+01:00"]),
)
json_texts = st.sampled_from(
    [b"null", b"0", b'""', b'{"a" : [1E400, "\\u00e9"]}', b"[]", b"false", '"é"'.encode()]
)
contents = st.one_of(
    st.tuples(st.none(), st.one_of(st.none(), st.binary(max_size=30))),
    st.tuples(
        st.sampled_from(["application/json", "Text/X+JSON; v=1"]),
        st.one_of(st.none(), json_texts, st.binary(max_size=9)),
    ),
    st.tuples(
        st.sampled_from(["text/plain", "text/plain; charset=iso-8859-1", "application/xml", "a/b"]),
        st.one_of(st.none(), st.binary(max_size=30), st.text(max_size=9).map(str.encode)),
    ),
)


@st.composite
def events(draw) -> Event:
    """Any valid event."""
    content_type, data = draw(contents)
    return Event(
        id=draw(texts),
        source=draw(
            st.sampled_from(["/s", "urn:x:y", "https://a/b?c=d&e=f#g", "1-555-123", "%C3%A9"])
        ),
        type=draw(texts),
        subject=draw(st.none() | texts),
        time=draw(times),
        dataschema=draw(st.none() | st.sampled_from(["https://example.com/s", "urn:x"])),
        datacontenttype=content_type,
        extensions=draw(st.dictionaries(names, values, max_size=4)),
        data=data,
    )
