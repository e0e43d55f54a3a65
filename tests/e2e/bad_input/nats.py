"""Bad NATS messages, and what neighbours can send to where they should not."""

from tests.e2e.bad_input.mqtt import LIMIT
from tests.e2e.bad_input.peers import event, nats_header

GOOD_HEADER = nats_header(b"Content-Type: application/cloudevents+json")
CE = (b"ce-specversion: 1.0", b"ce-source: /s", b"ce-type: t.x")
# Header block, payload, and the reason.
NATS_MESSAGES: dict[str, tuple[bytes, bytes, str]] = {
    "no id": (nats_header(*CE), b"{}", "missing_attribute"),
    "id twice": (nats_header(*CE, b"ce-id: a", b"ce-id: b"), b"{}", "duplicate_attribute"),
    "id twice by case": (nats_header(*CE, b"ce-id: a", b"CE-ID: b"), b"{}", "duplicate_attribute"),
    "bad escape": (nats_header(*CE, b"ce-id: %zz"), b"{}", "header_encoding"),
    "escaped bytes no UTF-8": (nats_header(*CE, b"ce-id: %ff"), b"{}", "header_encoding"),
    "bytes no UTF-8": (nats_header(*CE, b"ce-id: \xff\xfe"), b"{}", "header_encoding"),
    "escaped NUL": (nats_header(*CE, b"ce-id: a%00b"), b"{}", "forbidden_character"),
    "NUL": (nats_header(*CE, b"ce-id: a\0b"), b"{}", "forbidden_character"),
    "ESC": (nats_header(*CE, b"ce-id: \x1b[2J"), b"{}", "forbidden_character"),
    "attribute data": (nats_header(*CE, b"ce-id: a", b"ce-data: x"), b"{}", "attribute_name"),
    "another version": (b"NATS/2.0\r\na: b\r\n\r\n", b"{}", "malformed_headers"),
    "no end": (b"NATS/1.0\r\nce-id: a\r\n", b"{}", "malformed_headers"),
    "no colon": (b"NATS/1.0\r\nnonsense\r\n\r\n", b"{}", "malformed_headers"),
    "bare line feeds": (b"NATS/1.0\nce-id: a\n\n", b"{}", "malformed_headers"),
    "name outside ASCII": (nats_header(b"ce-\xc3\xa9: x"), b"{}", "malformed_headers"),
    "no header block": (b"\x00\xff\xfe", b"{}", "malformed_headers"),
    "bad JSON": (GOOD_HEADER, b"{", "json"),
    "lone surrogate": (GOOD_HEADER, event("\\ud800"), "json"),
    "deep": (GOOD_HEADER, b"[" * 60_000, "json"),
    "avro": (nats_header(b"Content-Type: application/cloudevents+avro"), b"x", "unknown_encoding"),
    "too large": (GOOD_HEADER, b"x" * (LIMIT + 1), "too_large"),
    "attribute missing, no headers": (b"", b'{"specversion":"1.0"}', "missing_attribute"),
}  # fmt: skip
NO_EVENTS = {
    "bytes": b"\x00\xff\xfe\r\n",
    "text": b"hello",
    "JSON": b'{"t":1}',
    "empty": b"",
    "NaN": b'{"specversion":NaN}',
    "deep": b'{"specversion":' + b"[" * 60_000,
    "lone surrogate": event("\\ud800"),
}


HOSTILE_REPLIES = [
    b"*",
    b">",
    b"a.*",
    b"a..b",
    b".a",
    b"a.",
    b"$JS.API.INFO",
    b"$SYS.x",
    b"\xff",
    b"_R_.x",
    b"x" * 4000,
    b"$JS.ACK.x",
]


# What a neighbour in the same account can send to the inbox of a pull consumer.
FORGED_STATUS = {
    "no number": (b"x", b"NATS/1.0 408 Timeout\r\n\r\n"),
    "no ASCII digit": ("\u00b2".encode(), b"NATS/1.0 408 Timeout\r\n\r\n"),
    "endless number": (b"1" * 3000, b"NATS/1.0 409 x\r\n\r\n"),
    "endless count": (
        b"99",
        b"NATS/1.0 408 x\r\nNats-Pending-Messages: %b\r\n\r\n" % (b"1" * 5000),
    ),
    "no header block": (b"1", b"\xff\xfe\0"),
    "controls": (b"1000000", b"NATS/1.0 100 a\x1b[2Jb\r\n\r\n"),
}
FORGED_REPLIES = [
    b"",
    b"a.b",
    b"$JS.ACK",
    b"$JS.ACK.BAD.bad.1.x.1.1.0",
    b"$JS.ACK.BAD.bad.1.1.1.x.0",
    b"$JS.ACK.BAD.bad.1.%b.1.1.0" % (b"9" * 3000),
    b"$JS.ACK.BAD.bad.1.99999999.1.99999999999999999999.0",
]
