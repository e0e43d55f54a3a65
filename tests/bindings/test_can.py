"""Frames to events and back. Wire forms come from <linux/can.h>, python-can and the vectors."""

import base64
import json
import re
import struct
import sys
from pathlib import Path

import can
import pytest
from can.interfaces.socketcan.socketcan import build_can_frame, dissect_can_frame
from hypothesis import given
from hypothesis import strategies as st

from bindings.binding import Message
from bindings.can import CAN, CanBinding, CanFrame, error_text, parse_dbc, parse_frame
from bindings.errors import (
    CloudEventError,
    InvalidEventError,
    NotAnEventError,
    UnknownEncodingError,
)
from bindings.event import Event, event_from_attributes
from bindings.json_format import decode_event
from bindings.wrap import Wrapper

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/bindings/can.md").read_text("utf-8")
DBC = (ROOT / "docs/examples/can/engine.dbc").read_text("utf-8")
VECTORS = json.loads((ROOT / "conformance/vectors/can.json").read_text("utf-8"))
ERRORS = {
    "invalid_event": InvalidEventError,
    "not_an_event": NotAnEventError,
    "unknown_encoding": UnknownEncodingError,
}
ENGINE = CanBinding(parse_dbc([DBC]))
STAMP = "1700000000.123456"
LENGTHS = [*range(9), 12, 16, 20, 24, 32, 48, 64]


def hexadecimal(item, key):
    if f"{key}_hex" in item:
        return bytes.fromhex(item[f"{key}_hex"])
    return item[key].encode() if key in item else None


def message_of(item):
    headers = [tuple(header) for header in item["headers"]]
    return Message(bytes.fromhex(item["payload_hex"]), item["content_type"], headers)


def event_of(item):
    return event_from_attributes(item["attributes"], hexadecimal(item, "data"))


def with_ids(vectors):
    return [pytest.param(vector, id=vector["id"]) for vector in vectors]


def run_vector(binding, vector):
    expect = vector.get("expect", {})
    kind = ERRORS[expect["error"]] if "error" in expect else None
    if "encode" in vector and kind:
        with pytest.raises(kind) as caught:
            binding.encode(event_of(vector["encode"]["event"]), vector["encode"]["mode"])
        assert type(caught.value) is kind
    elif "encode" in vector:
        case = vector["encode"]
        assert binding.encode(event_of(case["event"]), case["mode"]) == message_of(
            vector["message"]
        )
    elif kind:
        with pytest.raises(kind) as caught:
            binding.decode(message_of(vector["decode"]))
        assert type(caught.value) is kind
        assert caught.value.reason == expect["reason"]
    else:
        (event,) = binding.decode(message_of(vector["decode"]))
        assert event == event_of(expect["event"])


@pytest.mark.parametrize("vector", with_ids(VECTORS["vectors"]))
def test_the_codec_does_what_the_vector_says(vector):
    run_vector(ENGINE if vector.get("binding") == "can-dbc" else CAN, vector)


def test_the_vectors_database_is_the_example():
    assert VECTORS["database"] == DBC.splitlines()


def test_every_vector_has_a_name_of_its_own_and_requirements_that_the_document_has():
    every = VECTORS["vectors"]
    assert len({vector["id"] for vector in every}) == len(every)
    numbers = set(re.findall(r"\*\*(CAN-[A-Z]+-\d{3})\*\*", PAGE))
    used = {number for vector in every for number in vector["requirements"]}
    assert used <= numbers
    not_of_a_codec = {
        "CAN-MAP-004", "CAN-ATT-005",
        "CAN-DEL-001", "CAN-DEL-002", "CAN-DEL-003", "CAN-DEL-004",
    }  # fmt: skip
    assert numbers - used == not_of_a_codec


# --- the document's examples ----------------------------------------------------------------------

BLOCK = re.compile(
    r"^<!-- example (\S+): ([^\n]+) -->\n(?:```\w*\n(.*?)^```$)?", re.MULTILINE | re.DOTALL
)


def bytes_of(dump):
    return bytes.fromhex("".join(line.partition("  ")[2] for line in dump.splitlines()))


def test_every_example_of_the_document_is_what_the_codec_does():
    tried = []
    message, binding = Message(b""), CAN
    for name, role, body in BLOCK.findall(PAGE):
        kind, _, rest = role.partition(" ")
        if kind == "message,":
            place, *database = rest.split(", ")
            channel, timestamp = place.split()
            binding = ENGINE if database == ["engine.dbc"] else CAN
            message = Message(
                bytes_of(body), headers=[("channel", channel), ("timestamp", timestamp)]
            )
            continue
        tried.append(name)
        if kind == "refused":
            with pytest.raises(NotAnEventError) as caught:
                binding.decode(message)
            assert caught.value.reason == rest
            continue
        shown = json.loads(body)
        data = shown.pop("data", None)
        expected = base64.b64decode(shown.pop("data_base64", ""))
        (event,) = binding.decode(message)
        assert event.attributes() == shown
        if data is None:
            assert event.data == expected
        else:
            assert json.loads(event.data) == data
        assert binding.encode(event, "binary") == message
    assert tried == ["A", "B", "C", "D", "E"]


# --- against python-can ---------------------------------------------------------------------------

needs_little_endian = pytest.mark.skipif(
    sys.byteorder != "little", reason="python-can writes the byte order of this machine"
)
frames = st.builds(
    lambda extended, number, fd_flags, data: CanFrame(
        number if extended else number & 0x7FF,
        data[: max(n for n in LENGTHS if n <= len(data) and (n <= 8 or fd_flags is not None))],
        extended,
        fd_flags,
    ),
    st.booleans(),
    st.integers(0, 0x1FFFFFFF),
    st.none() | st.integers(0, 3),
    st.binary(max_size=64),
)


def as_python_can(frame, **changes):
    return can.Message(
        arbitration_id=frame.arbitration_id,
        is_extended_id=frame.is_extended,
        is_fd=frame.fd_flags is not None,
        bitrate_switch=bool((frame.fd_flags or 0) & 1),
        error_state_indicator=bool((frame.fd_flags or 0) & 2),
        data=frame.data,
        check=True,
        **changes,
    )


@needs_little_endian
@given(frames)
def test_a_frame_that_python_can_built_is_read(frame):
    assert parse_frame(build_can_frame(as_python_can(frame))) == frame


@needs_little_endian
@given(frames)
def test_a_frame_that_was_built_is_read_by_python_can(frame):
    can_id, length, flags, data = dissect_can_frame(frame.to_bytes())
    assert can_id == frame.arbitration_id | (0x80000000 if frame.is_extended else 0)
    assert (length, data) == (len(frame.data), frame.data)
    assert flags == (0 if frame.fd_flags is None else frame.fd_flags | 4)


@given(frames)
def test_every_frame_survives_the_way_to_an_event_and_back(frame):
    message = Message(frame.to_bytes(), headers=[("channel", "can0"), ("timestamp", STAMP)])
    (event,) = CAN.decode(message)
    assert CAN.encode(event, "binary") == message


@given(st.binary(max_size=80), st.binary(max_size=72))
def test_any_bytes_bring_an_event_or_an_error_of_ours(record, rest):
    for payload in (record, rest.ljust(16, b"\0")[:16], rest.ljust(72, b"\0")):
        for binding in (CAN, ENGINE):
            try:
                binding.decode(Message(payload, headers=[("channel", "c"), ("timestamp", STAMP)]))
            except CloudEventError:
                continue


# --- what the vectors leave out -------------------------------------------------------------------


def test_the_ids_of_two_frames_of_one_microsecond_differ():
    frame = CanFrame(0x123, b"")
    ids = [CAN.event(frame, "can0", STAMP, number).id for number in range(3)]
    assert ids == [f"{STAMP}-123", f"{STAMP}-123-1", f"{STAMP}-123-2"]


def test_a_record_with_an_occurrence_that_is_no_number_is_refused():
    headers = [("channel", "can0"), ("timestamp", STAMP), ("occurrence", "-1")]
    with pytest.raises(InvalidEventError):
        CAN.decode(Message(CanFrame(1, b"").to_bytes(), headers=headers))


def test_a_channel_that_is_no_text_is_refused():
    with pytest.raises(InvalidEventError):
        CAN.event(CanFrame(1, b""), "\udc80", STAMP)


@pytest.mark.parametrize("time", ["1969-12-31T23:59:59Z", "0000-01-01T00:00:00Z", None])
def test_a_time_that_no_log_can_tell_leaves_the_timestamp_out(time):
    event = Event(id="1", source="/s", type="t", time=time, extensions={"canid": "123"})
    assert CAN.encode(event, "binary").headers == []


@pytest.mark.parametrize(
    ("can_id", "text"),
    [
        (0x20000040, "error frame: bus off"),
        (0x20000024, "error frame: controller problem, no acknowledgement"),
        (0x20000000, "error frame: unspecified"),
    ],
)
def test_an_error_frame_is_told_in_words(can_id, text):
    assert error_text(can_id) == text


WIDE_DBC = """VERSION ""

NS_ :

BS_:

BU_: A

BO_ 2 Wide: 64 A
 SG_ Counter : 0|64@1+ (1,0) [0|0] "" A

BA_DEF_ BO_ "VFrameFormat" ENUM "StandardCAN","ExtendedCAN","reserved","StandardCAN_FD";
BA_DEF_DEF_ "VFrameFormat" "StandardCAN";
BA_ "VFrameFormat" BO_ 2 3;
"""


def test_an_integer_of_64_bits_keeps_its_digits_and_its_database_makes_it_can_fd():
    binding = CanBinding(parse_dbc([WIDE_DBC]))
    data = struct.pack("<Q", 2**64 - 1).ljust(64, b"\0")
    event = binding.event(CanFrame(2, data, fd_flags=0), "can0", STAMP)
    assert event.data == b'{"Counter":18446744073709551615}'
    plain = event.replace(extensions={})
    assert binding.frame(plain) == CanFrame(2, data, fd_flags=0)


def test_json_of_any_depth_is_refused_and_not_a_fault():
    data = b"[" * 100_000
    event = Event(
        id="1", source="/s", type="t", subject="EngineData", datacontenttype="application/json",
        data=data,
    )  # fmt: skip
    with pytest.raises(InvalidEventError):
        ENGINE.encode(event, "binary")


@given(st.integers(0, 65535), st.integers(0, 255), st.integers(0, 3), st.integers(0, 4095))
def test_signals_are_what_the_database_says(speed, temperature, state, pressure):
    data = struct.pack("<HBBH2x", speed, temperature, state, pressure)
    event = ENGINE.event(CanFrame(0x100, data), "can0", STAMP)
    assert json.loads(event.data) == {
        "EngineSpeed": speed * 0.25,
        "CoolantTemp": temperature - 40,
        "EngineState": ["off", "starting", "running", "fault"][state],
        "OilPressure": pressure * 0.5,
    }
    assert ENGINE.frame(event).data == data


@pytest.mark.parametrize("text", ["", "garbage", DBC.replace("0|16@1+", "60|16@1+")])
def test_a_text_that_is_no_database_is_refused(text):
    with pytest.raises(ValueError, match=r"^no DBC database: "):
        parse_dbc([text])


def test_a_message_that_is_described_twice_is_refused():
    with pytest.raises(ValueError, match="'EngineData' or its id is described twice"):
        parse_dbc([DBC, DBC])
    with pytest.raises(ValueError, match="described twice"):
        parse_dbc([DBC, DBC.replace(" 256 ", " 257 ")])


def test_a_template_makes_the_attributes():
    wrapper = Wrapper(
        type="com.acme.{message}",
        source="//vehicle-17/can/{channel}",
        subject="{canid}",
        extensions={"partitionkey": "{canid}"},
    )
    binding = CanBinding(parse_dbc([DBC]), wrapper)
    event = binding.event(CanFrame(0x18FEF100, b"\1\x12\x34\0", is_extended=True), "can0", STAMP, 1)
    assert event == Event(
        id=f"{STAMP}-18FEF100-1",
        source="//vehicle-17/can/can0",
        type="com.acme.Diagnosis",
        subject="18FEF100",
        time="2023-11-14T22:13:20.123456Z",
        datacontenttype="application/json",
        extensions={"partitionkey": "18FEF100"},
        data=b'{"Page":1,"Fault":4660}',
    )


def test_a_template_does_not_guess_what_bytes_are():
    binding = CanBinding(wrapper=Wrapper(type="t", source="/s"))
    event = binding.event(CanFrame(1, b"123"), "can0", STAMP)
    assert (event.datacontenttype, event.data) == ("application/octet-stream", b"123")
    event = binding.event(CanFrame(1, b""), "can0", STAMP)
    assert (event.datacontenttype, event.data) == (None, None)


def test_an_event_survives_the_json_format():
    event = ENGINE.event(CanFrame(0x100, bytes(8)), "can0", STAMP)
    from bindings.json_format import encode_event

    assert decode_event(encode_event(event)) == event
