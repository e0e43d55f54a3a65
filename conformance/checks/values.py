"""Values at the borders of the seven attribute types, and sets of attributes of every kind."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from conformance.checks.judging import BASE, MINIMAL
from conformance.forms import WireEvent
from conformance.reference.cbor_event import Item
from conformance.reference.json_event import Raw


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """A value of an attribute, and whether its type has it.

    Attributes:
        kind: the type.
        attribute: the attribute that is given it.
        value: the value.
        is_right: whether it is one.
        requirements: ids of the registry.
    """

    kind: str
    attribute: str
    value: Any
    is_right: bool
    requirements: tuple[str, ...]


TIMES: Final = (
    "1985-04-12T23:20:50.52Z", "1996-12-19T16:39:57-08:00", "1990-12-31T23:59:60Z",
    "1990-12-31T15:59:60-08:00", "2016-12-31T23:59:60Z", "1937-01-01T12:00:27.87+00:20",
    "2018-04-05T17:31:00Z", "2018-04-05t17:31:00z", "2018-04-05T17:31:00+00:00",
    "2018-04-05T17:31:00-00:00", "2018-04-05T17:31:00+23:59", "2018-04-05T17:31:00-23:59",
    "2018-04-05T17:31:00.1Z", "2018-04-05T17:31:00.123Z", "2018-04-05T17:31:00.123456Z",
    "2018-04-05T17:31:00.1234567Z", "2018-04-05T17:31:00.123456789+01:00",
    "2018-04-05T17:31:00.123456789012Z", "2018-04-05T17:31:00.000000001Z",
    "2018-04-05T00:00:00Z", "2018-04-05T23:59:59Z", "2018-12-31T23:59:59.999999999Z",
    "2020-02-29T12:00:00Z", "2000-02-29T12:00:00Z", "2018-01-31T00:00:00Z",
    "2018-04-30T00:00:00Z", "0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z",
    "1582-10-10T00:00:00Z", "9999-12-31T23:59:59Z",
)  # fmt: skip
"""RFC 3339 section 5.6 and 5.8, digits beyond what clocks of languages hold, leap days."""

NO_TIMES: Final = (
    "20180405T173100Z", "2018-04-05T18:31Z", "2018-W14-4T00:00:00Z", "2018-095T00:00:00Z",
    "2018-04-05T17:31:00,5Z", "2018-04-05T17:31:00+05", "2018-04-05T17:31:00+0500",
    "2018-04-05", "17:31:00Z", "2018-04-05T24:00:00Z", "2018-04-05T25:00:00Z",
    "2018-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2018-02-30T00:00:00Z",
    "2018-04-31T00:00:00Z", "2018-06-31T00:00:00Z", "2018-13-01T00:00:00Z",
    "2018-00-01T00:00:00Z", "2018-01-00T00:00:00Z", "2018-01-32T00:00:00Z",
    "2018-04-05T17:60:00Z", "2018-04-05T17:31:61Z", "2018-04-05T17:31:00",
    "2018-04-05 17:31:00Z", "2018-04-05_17:31:00Z", "2018-04-05T17:31:00.Z",
    "2018-04-05T17:31:00+25:00", "2018-04-05T17:31:00+24:00", "2018-04-05T17:31:00+01:60",
    "2018-04-05T17:31:00+1:00", "2018-04-05T17:31:00 Z", "2018-04-05T17:31:00UTC",
    "2018-04-05T17:31:00+01:00:00", "2018-04-05T17:31:00ZZ", "18-04-05T17:31:00Z",
    "+2018-04-05T17:31:00Z", "-2018-04-05T17:31:00Z", "12018-04-05T17:31:00Z",
    "\u0662\u0660\u0661\u0668-04-05T17:31:00Z", "2018-04-05T17:31:0\u0660Z",
    "2018-04-05T17:31:00Z ", " 2018-04-05T17:31:00Z", "1522949460", "1522949460.5",
    "2018-4-5T17:31:00Z", "2018-04-05T7:31:00Z", "2018/04/05T17:31:00Z",
    "2018-04-05T17.31.00Z", "Thu, 05 Apr 2018 17:31:00 GMT", "Thu Apr  5 17:31:00 2018",
    "now", "null", "2018-04-05T17:31:00Z[Europe/Paris]", "2018-04-05T", "T17:31:00Z",
    "2018-04-05T17:31:00\u2212 01:00", "2018-04-05T17:31:00\u221201:00",
)  # fmt: skip
"""ISO 8601 but not RFC 3339, no day of the calendar, other digits, other formats."""

URIS: Final = (
    "http://example.com/x", "https://example.com:8080/a?b=c", "urn:x:y", "http://host",
    "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66", "mailto:a@b.example", "file:///etc/x",
    "tag:example.com,2020:x", "http://[::1]/", "ldap://[2001:db8::7]/c=GB?one",
    "tel:+1-816-555-1212", "HTTP://Example.com/%7Ea", "a:b", "a+b-c.1:x", "data:,x",
    "http://user:pw@host/", "http://example.com/%E2%82%AC", "coap://h/x", "http://h:/x",
    "http://h/a;b=c,d/e!$&'()*+", "http://h/?a/b?c", "x:",
)  # fmt: skip

NO_URIS: Final = (
    "foo/bar", "/x", "//host/x", "#f", "?q", "1a:b", "http://a b/", "%zz", ":x", "http://[::1",
    "\u00e9:x", "http://host:port/", "http://h/<x>", "http://h/`", "http://h/\\", "http://h/^",
    "http://h/{x}", "http://h/|", "http://h/%", "http://h/%4", "http://h/%zz", "http://h/#a#b",
    "http://h/[x]", "example.com", "1-555-123-4567", 'http://h/"x"', "http://h/\u20ac", "h!t:x",
)  # fmt: skip

REFERENCES: Final = (
    "/s", "#fragment", "//authority/path", "1-555-123-4567", "a/b", "./a:b", "?q", ".", "..",
    "../x", "a", "~x", "a;b=c", "a@b", "/cloudevents/spec/pull/123", "mailto:a@b.example",
    "/%7Ea", "//[::1]/x", "a,b", "!$&'()*+,;=", "a/b:c", "urn:uuid:6e8bc430", "/a//b", "/a?b#c",
    "HTTP://Example.com/%7Ea", "https://github.com/cloudevents", "x-y_z.1", "a%20b",
)  # fmt: skip

NO_REFERENCES: Final = (
    "a b", " a", "a ", "%zz", "%", "a%2", "http://[::1", "\u00e9", "a<b>", "not a uri^", "1a:b",
    ":a", "a#b#c", "/a[b]", "http://host:port/", "{x}", '"x"', "a\\b", "a`b", "a|b", "//[x",
    "http://a b/", "http://h:80:80/", "\u20ac", "a%g0",
)  # fmt: skip

MEDIA_TYPES: Final = (
    "text/plain", "TEXT/Plain; CharSet=utf-8", 'multipart/mixed; boundary="a b"', "x/y",
    "application/json", "application/vnd.a_b+json ; v=1", "image/svg+xml", "text/json",
    "application/json;charset=utf-8", 'a/b;c="\\""', "application/octet-stream",
    "text/plain; charset=iso-8859-1;format=flowed", "application/vnd.x-1.y+cbor",
)  # fmt: skip

NO_MEDIA_TYPES: Final = (
    "xyz", "text/", "/json", "text//plain", "text plain", "te xt/plain", "text/plain; charset",
    '"text/plain"', "text/plain, text/html", "text/pl@in", "text/plain; a=b c", "\u00e9/x",
    "text/plain;=x", 'text/plain; a="b',
)  # fmt: skip

STRINGS: Final = (
    "a", " ", "  a  ", "\u00e9", "\u20ac", "\U0001f600", "\U0010fffd", "\u00a0", "\ud7ff",
    "\ue000", "\ufffd", "\ufffc", "a%20b", "100%", '"quoted"', "a=b", "a,b; c", "0", "true",
    "null", "a\u200bb", "e\u0301", "\u05d0\u05d1", "~!@#$^&*()_+`{}|[]\\:;'<>?,./", "x" * 200,
)  # fmt: skip

NOT_GUESSED: Final = (
    "true", "false", "True", "TRUE", "1", "t", "yes", "0", "-1", "05", "+1", "1_000", "\u0663",
    "2147483647", "2147483648", "1.0", "1e3", "0x1", "null", "TWE=", "{}", "[1]",
)  # fmt: skip
"""Text of an extension that nothing declares: it stays text."""

INTEGERS: Final = (0, 1, -1, 42, 2147483647, -2147483648)
BINARIES: Final = (b"Ma", b"M", b"\x00\xff", b"\xff\xef\xbf", bytes(range(96)))

CHARACTER_GROUPS: Final = {
    "c0": (range(0x20), "CORE-TYPE-STR-001"),
    "c1": (range(0x7F, 0xA0), "CORE-TYPE-STR-001"),
    "arabic-noncharacters": (range(0xFDD0, 0xFDF0), "CORE-TYPE-STR-002"),
    "plane-ends": (
        [plane << 16 | low for plane in range(17) for low in (0xFFFE, 0xFFFF)],
        "CORE-TYPE-STR-002",
    ),
    "surrogates": ([0xD800, 0xDBFF, 0xDC00, 0xDEAD, 0xDFFF], "CORE-TYPE-STR-003"),
}
"""Code points that no String holds."""

NAMES: Final = (
    "a", "z", "0", "9", "1abc", "abc1", "sequence", "comexampleextension1",
    "abcdefghijklmnopqrstu", "verylongextensionnamehere", "x" * 60,
)  # fmt: skip

NO_NAMES: Final = (
    "MyExt", "my_ext", "my-ext", "my.ext", "my ext", "\u00e9moji", "\u00aa", "\u212aey", "\u0663",
    "ab\n", "", "data_base64",
)  # fmt: skip

JSON_NO_VALUES: Final = {
    "list": "[1]", "empty list": "[]", "map": '{"a":1}', "empty map": "{}", "fraction": "1.5",
    "above the Integers": "2147483648", "below the Integers": "-2147483649",
    "of 64 bits": "9223372036854775807", "beyond 64 bits": "18446744073709551616",
    "huge": "1E400", "exponent": "1e-1", "leading zero": "05", "plus": "+5", "no number": "NaN",
    "hexadecimal": "0x5", "lone surrogate": '"\\uDEAD"', "reversed pair": '"\\uDEAD\\uD800"',
    "escaped line feed": '"\\n"', "escaped noncharacter": '"\\uFFFF"', "unquoted": "x",
    "single quotes": "'x'",
}  # fmt: skip

CBOR_NO_VALUES: Final = {
    "list": "8101", "empty list": "80", "map": "a1616101", "empty map": "a0",
    "half float": "f93e00", "single float": "fa3fc00000", "double float": "fb3ff8000000000000",
    "above the Integers": "1a80000000", "below the Integers": "3a80000000",
    "of 64 bits": "1b7fffffffffffffff", "bignum": "c249010000000000000000", "undefined": "f7",
    "epoch time": "c11a5ac65d94", "simple value": "e0", "no UTF-8": "62c328",
    "surrogate": "63eda080", "line feed": "610a", "embedded item": "d8184101",
}  # fmt: skip


def _of(kind: str, attribute: str, ids: str, right: Any, wrong: Any = ()) -> list[Value]:
    return [
        Value(
            kind=kind,
            attribute=attribute,
            value=value,
            is_right=is_right,
            requirements=tuple(ids.split()),
        )
        for is_right, values in ((True, right), (False, wrong))
        for value in values
    ]


VALUES: Final = (
    *_of("Timestamp", "time", "CORE-TYPE-TS-001 CORE-TIME-003 CORE-TYPE-006", TIMES, NO_TIMES),
    *_of("URI", "dataschema", "CORE-TYPE-URI-001 CORE-DSC-002", URIS, NO_URIS),
    *_of("URI-reference", "source", "CORE-TYPE-URI-002 CORE-SRC-004", REFERENCES, NO_REFERENCES),
    *_of("media type", "datacontenttype", "CORE-DCT-005", MEDIA_TYPES, NO_MEDIA_TYPES),
    *_of("String", "subject", "CORE-SUB-001 CORE-TYPE-STR-001", STRINGS),
    *_of("String", "id", "CORE-ID-005 CORE-TYPE-STR-001", STRINGS),
    *_of("undeclared", "ext", "CORE-TYPE-007 CORE-TYPE-004", NOT_GUESSED),
    *_of("Integer", "ext", "CORE-TYPE-INT-001 CORE-TYPE-INT-002 CORE-TYPE-005", INTEGERS),
    *_of("Boolean", "ext", "CORE-TYPE-BOOL-001 CORE-TYPE-005", (True, False)),
    *_of("Binary", "ext", "CORE-TYPE-BIN-001 CORE-TYPE-005", BINARIES),
)
"""Right and wrong values that every encoding can write."""

NATIVE_VALUES: Final[dict[str, Mapping[str, str | bytes]]] = {
    "json": {name: Raw(text) for name, text in JSON_NO_VALUES.items()},
    "mqtt311": {name: Raw(text) for name, text in JSON_NO_VALUES.items()},
    "cbor": {name: Item(bytes.fromhex(text)) for name, text in CBOR_NO_VALUES.items()},
}
"""Wrong values that only an encoding with types of its own can write."""

_FULL: Final[dict[str, Any]] = {
    **BASE,
    "datacontenttype": "application/xml; charset=utf-8",
    "dataschema": "HTTP://Example.com/%7Ea?b=c&d#e",
    "subject": 'a%20b \u00e9 \u20ac \U0001f600 "q" \\',
    "time": "2018-04-05T17:31:00.5+01:00",
}

SETS: Final[dict[str, WireEvent]] = {
    "full": WireEvent(_FULL, b"<a/>"),
    "subject": WireEvent({**BASE, "subject": "sub"}),
    "leap second": WireEvent({**BASE, "time": "1990-12-31T23:59:60-00:00"}),
    "nanoseconds": WireEvent({**BASE, "time": "2018-04-05T17:31:00.123456789+01:00"}),
    "dataschema": WireEvent({**BASE, "dataschema": "urn:x:y"}),
    "datacontenttype": WireEvent({**BASE, "datacontenttype": "TEXT/Plain; a=b"}),
    "names": WireEvent({**BASE, "a": "1", "1abc": "2", "verylongextensionnamehere": "3"}),
    "documented": WireEvent(
        {**BASE, "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
         "partitionkey": "k\u00e9", "sequence": "7", "expirytime": "2018-04-05T17:31:00Z",
         "knativekafkaoffset": "5", "kafkaheadercontenttype": "x"}
    ),
    "typed": WireEvent(
        {**BASE, "yes": True, "no": False, "int": -2147483648, "bin": b"\x00\xff", "text": "5"}
    ),
    "many": WireEvent({**BASE, **{f"extension{number}": str(number) for number in range(50)}}),
    "spaces": WireEvent({**BASE, "subject": "  a  ", "type": " ", "ext": "\u00a0a\u00a0"}),
    "encrypted": WireEvent(
        {**BASE, "datacontenttype": "application/jose"}, bytes(range(255, -1, -1))
    ),
}  # fmt: skip

LEAST: Final[dict[str, WireEvent]] = {
    "least": WireEvent(MINIMAL),
    "least with data": WireEvent({**MINIMAL, "datacontenttype": "text/plain"}, b"a"),
}
"""Events to which an implementation may be tempted to add a time."""
