"""Messages over connections; the bytes are those of RFC 8323 figures 4 to 9."""

import pytest

from bindings.wire.coap_stream import from_websocket, head, read_head, to_websocket

FORMS = [
    (b"\x01\x02\x07", (2, 1, 0)),
    (b"\xc0\x02" + bytes(12), (2, 0, 12)),
    (b"\xd0\x00\x02" + bytes(13), (3, 0, 13)),
    (b"\xd8\xff\x02" + bytes(8 + 268), (3, 8, 268)),
    (b"\xe0\x00\x00\x02" + bytes(269), (4, 0, 269)),
    (b"\xe1\xff\xff\x02" + bytes(1 + 65804), (4, 1, 65804)),
    (b"\xf0\x00\x00\x00\x00\x02" + bytes(65805), (6, 0, 65805)),
]


@pytest.mark.parametrize(("message", "fields"), FORMS)
def test_each_form_of_length_is_read_and_written(message, fields):
    assert read_head(message) == fields
    assert read_head(b"\x00" + message, 1) == fields
    assert read_head(message).size == len(message)
    start, token_length, length = fields
    assert head(token_length, length, message[start - 1]) == message[:start]


@pytest.mark.parametrize(("message", "fields"), FORMS)
def test_over_websockets_the_length_is_zero_and_the_rest_the_same(message, fields):
    start, token_length, _ = fields
    content = bytes((token_length, message[start - 1])) + message[start:]
    assert to_websocket(message) == content
    assert from_websocket(content) == message


@pytest.mark.parametrize("part", [b"", b"\xd0", b"\xe0\x00", b"\xf0\x00\x00\x00"])
def test_a_length_that_is_not_all_there_is_waited_for(part):
    assert read_head(part) is None


@pytest.mark.parametrize("content", [b"", b"\x00", b"\x01\x02", b"\x10\x02\x00", b"\xf0\x02"])
def test_what_is_too_short_or_has_a_length_is_no_message(content):
    with pytest.raises(ValueError, match=r"header|token|length"):
        from_websocket(content)
