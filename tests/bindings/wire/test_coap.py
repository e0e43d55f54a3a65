"""CoAP datagrams, by the examples of the RFCs, by aiocoap, and by what is no datagram."""

import aiocoap
import pytest
from aiocoap.numbers import OptionNumber
from aiocoap.optiontypes import OpaqueOption
from hypothesis import given
from hypothesis import strategies as st

from bindings.wire.coap import (
    Block,
    Message,
    MessageFormatError,
    Type,
    acknowledgement,
    code_text,
    from_uint,
    parse,
    reset,
    serialise,
    serialise_options,
    to_block,
    to_uint,
)

# RFC 7252 appendix A, figures 16 and 20, and binding examples B and F.
EXAMPLES = [
    (
        "40017d34bb74656d7065726174757265",
        Message(Type.CON, 0x01, 0x7D34, b"", [(11, b"temperature")]),
    ),
    (
        "41017d3520bb74656d7065726174757265",
        Message(Type.CON, 0x01, 0x7D35, b"\x20", [(11, b"temperature")]),
    ),
    ("60457d34ff32322e332043", Message(Type.ACK, 0x45, 0x7D34, b"", [], b"22.3 C")),
    ("61457d3520ff32322e332043", Message(Type.ACK, 0x45, 0x7D35, b"\x20", [], b"22.3 C")),
    (
        "41021234a1b174113236693d34373131ff7b2274223a32312e357d",
        Message(
            Type.CON,
            0x02,
            0x1234,
            b"\xa1",
            [(11, b"t"), (12, b"2"), (15, b"i=4711")],
            b'{"t":21.5}',
        ),
    ),
    (
        "50021235b1741132d1e902ff7b2274223a32312e357d",
        Message(
            Type.NON, 0x02, 0x1235, b"", [(11, b"t"), (12, b"2"), (258, b"\x02")], b'{"t":21.5}'
        ),
    ),
    ("61a31234a1d1012d", Message(Type.ACK, 0xA3, 0x1234, b"\xa1", [(14, b"\x2d")])),
    ("60007d01", Message(Type.ACK, 0, 0x7D01)),
]


@pytest.mark.parametrize(("datagram", "message"), EXAMPLES)
def test_examples_are_read_and_written(datagram, message):
    got = parse(bytes.fromhex(datagram))
    assert (list(got.options), got) == (list(message.options), got)
    assert serialise(message).hex() == datagram
    assert serialise(got).hex() == datagram
    for name in ("type", "code", "mid", "token", "payload"):
        assert getattr(got, name) == getattr(message, name)


@pytest.mark.parametrize(
    ("datagram", "reply"),
    [
        ("", ""),
        ("400200", ""),
        ("00021234", ""),  # version 0
        ("80021234", ""),
        ("c0021234", ""),
        ("49021234" + "00" * 9, "70001234"),
        ("41021234", "70001234"),  # the token is cut off
        ("51021234", ""),
        ("61451234", ""),
        ("40201234", "70001234"),
        ("40c01234", "70001234"),
        ("40e11234", "70001234"),
        ("50e11234", ""),
        ("4000123400", "70001234"),
        ("5000123400", ""),
        ("40021234ff", "70001234"),
        ("40021234b3ff", "70001234"),  # an option of three bytes of which one is there
        ("40021234d0", "70001234"),
        ("40021234e001", "70001234"),
        ("400212340e01", "70001234"),
        ("40021234f0", "70001234"),
        ("400212340f", "70001234"),
        ("40021234e0fefee0fefe", "70001234"),  # two deltas of 65547
        ("40021234e0fef3", "70001234"),  # option 65536
    ],
)
def test_what_breaks_the_format_is_reset_if_confirmable(datagram, reply):
    with pytest.raises(MessageFormatError) as error:
        parse(bytes.fromhex(datagram))
    assert error.value.reply.hex() == reply


def test_the_highest_option_number_is_taken():
    assert parse(bytes.fromhex("40021234e0fef2")).options == [(65535, b"")]


@pytest.mark.parametrize("length", [0, 12, 13, 268, 269, 1034])
@pytest.mark.parametrize("number", [0, 12, 13, 268, 269, 65535])
def test_options_of_every_length_form_are_what_aiocoap_writes(number, length):
    options = aiocoap.options.Options()
    options.add_option(OpaqueOption(OptionNumber(number), b"x" * length))
    wire = options.encode()
    assert serialise_options([(number, b"x" * length)]) == wire
    assert parse(b"\x40\x02\x00\x01" + wire).options == [(number, b"x" * length)]


numbers = st.integers(2000, 65535)  # aiocoap knows no format for these
messages = st.builds(
    Message,
    st.sampled_from([Type.CON, Type.NON]),
    st.integers(1, 31),
    st.integers(0, 0xFFFF),
    st.binary(max_size=8),
    st.lists(st.tuples(numbers, st.binary(max_size=300)), max_size=6),
    st.binary(max_size=50),
)


@given(messages)
def test_aiocoap_reads_what_is_written(message):
    foreign = aiocoap.Message.decode(serialise(message))
    assert (foreign.mtype, foreign.code, foreign.mid) == (message.type, message.code, message.mid)
    assert (foreign.token, foreign.payload) == (message.token, message.payload)
    options = [(int(option.number), option.encode()) for option in foreign.opt.option_list()]
    assert options == sorted(message.options, key=lambda option: option[0])


@given(st.binary(max_size=80))
def test_any_bytes_are_a_message_or_a_format_error(datagram):
    try:
        message = parse(datagram)
    except MessageFormatError as error:
        reply, expected = error.reply, {b"", reset(int.from_bytes(datagram[2:4], "big"))}
    else:
        reply, expected = serialise(message), {datagram}
    assert reply in expected


def test_a_token_above_eight_bytes_and_an_option_too_long_are_refused():
    with pytest.raises(ValueError, match="token"):
        serialise(Message(Type.CON, 2, 1, bytes(9)))
    with pytest.raises(ValueError, match="65804"):
        serialise_options([(11, bytes(65805))])


def test_bare_messages_have_four_bytes():
    assert reset(0x1234).hex() == "70001234"
    assert acknowledgement(0x1234).hex() == "60001234"


@pytest.mark.parametrize(
    ("number", "value"), [(0, ""), (1, "01"), (255, "ff"), (256, "0100"), (65536, "010000")]
)
def test_numbers_are_as_short_as_they_can_be(number, value):
    assert from_uint(number).hex() == value
    assert to_uint(bytes.fromhex(value)) == number
    assert to_uint(b"\x00" + bytes.fromhex(value)) == number


# RFC 7959 2.2; binding example G.
@pytest.mark.parametrize(
    ("value", "block", "size", "offset"),
    [
        ("", Block(0, more=False, size_exponent=0), 16, 0),
        ("0e", Block(0, more=True, size_exponent=6), 1024, 0),
        ("26", Block(2, more=False, size_exponent=6), 1024, 2048),
        ("2f", Block(2, more=True, size_exponent=7), 1024, 2048),
        ("0438", Block(67, more=True, size_exponent=0), 16, 1072),
    ],
)
def test_blocks_are_number_more_and_size(value, block, size, offset):
    assert to_block(bytes.fromhex(value)) == block
    assert block.to_bytes().hex() == value
    assert (block.size, block.offset) == (size, offset)


def test_codes_are_shown_as_people_write_them():
    assert [code_text(code) for code in (0x02, 0x44, 0x8F, 0xA3)] == [
        "0.02",
        "2.04",
        "4.15",
        "5.03",
    ]
