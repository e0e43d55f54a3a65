"""The NATS binding, beside the vectors in conformance/: the bytes on the wire."""

import json
from pathlib import Path

from bindings.binding import Message
from bindings.nats import NATS
from bindings.wire.nats import Parser, parse_headers

VECTORS = Path(__file__).parents[2] / "conformance" / "vectors" / "nats.json"


def test_the_message_on_the_wire_is_the_message_of_the_vector():
    vectors = {vector["id"]: vector for vector in json.loads(VECTORS.read_text())["vectors"]}
    vector = vectors["nats-binary"]
    # What a client publishes, as the server passes it on: HMSG with a subscription number.
    wire = bytes.fromhex(vector["wire_hex"]).replace(b"HPUB t ", b"HMSG t 1 ", 1)
    (received,), _ = Parser().feed(wire)
    headers = parse_headers(received.header)
    expected = [tuple(header) for header in vector["decode"]["headers"]]
    assert list(headers.pairs) == expected
    (event,) = NATS.decode(Message(received.payload, "", headers.pairs))
    assert event.attributes() == vector["expect"]["event"]["attributes"]
    assert event.data == b"hi"


def test_the_type_of_the_data_is_not_the_type_of_the_message():
    (event,) = NATS.decode(
        Message(
            b"hi",
            "application/json",
            [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")],
        )
    )
    assert event.datacontenttype is None
    assert NATS.encode(event, "binary").content_type == ""
