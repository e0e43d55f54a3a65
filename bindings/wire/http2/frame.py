"""Frames of HTTP/2 (RFC 9113 4 to 7), as numbers and bytes."""

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # 3.4
HEADER_BYTES: Final = 9
DEFAULT_MAX_FRAME: Final = 16_384  # 4.2
LARGEST_MAX_FRAME: Final = 16_777_215
DEFAULT_WINDOW: Final = 65_535  # 6.9.2
MAX_WINDOW: Final = 2**31 - 1
MAX_STREAM_ID: Final = 2**31 - 1

# Types (6).
DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

# Flags (6).
NO_FLAGS: Final = 0
ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

# Length and type in one word, flags, stream.
FRAME_HEADER: Final = struct.Struct(">IBI")
_WORD: Final = struct.Struct(">I")
_SETTING: Final = struct.Struct(">HI")
_GOAWAY: Final = struct.Struct(">II")


class Setting(IntEnum):
    """Parameters of SETTINGS (6.5.2)."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ErrorCode(IntEnum):
    """Why a stream or a connection ends (7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class Http2Error(Exception):
    """The peer broke the protocol, so that the connection has to end (5.4.1).

    Attributes:
        code: what GOAWAY says.
    """

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(f"{code.name}: {text}")
        self.code = code


def error_name(code: int) -> str:
    """Return the name of an error code, or the number of an unknown one."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return f"error {code}"


def encode_frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return FRAME_HEADER.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def encode_settings(values: Iterable[tuple[Setting, int]]) -> bytes:
    """Return a SETTINGS frame."""
    payload = b"".join(_SETTING.pack(name, value) for name, value in values)
    return encode_frame(SETTINGS, NO_FLAGS, 0, payload)


def decode_settings(payload: bytes) -> list[tuple[int, int]]:
    """Return the parameters and values of SETTINGS; its length is known to be right."""
    return list(_SETTING.iter_unpack(payload))


def encode_rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    """Return an RST_STREAM frame."""
    return encode_frame(RST_STREAM, NO_FLAGS, stream_id, _WORD.pack(code))


def encode_window_update(stream_id: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame; stream 0 is the connection."""
    return encode_frame(WINDOW_UPDATE, NO_FLAGS, stream_id, _WORD.pack(increment))


def encode_goaway(last_stream_id: int, code: ErrorCode, text: str = "") -> bytes:
    """Return a GOAWAY frame with debug data."""
    payload = _GOAWAY.pack(last_stream_id, code) + text[:200].encode("utf-8", "replace")
    return encode_frame(GOAWAY, NO_FLAGS, 0, payload)


def decode_goaway(payload: bytes) -> tuple[int, int, str]:
    """Return the last stream, the code and the debug data of a GOAWAY of at least 8 octets."""
    last_stream_id, code = _GOAWAY.unpack_from(payload)
    return last_stream_id & MAX_STREAM_ID, code, payload[8:208].decode("utf-8", "replace")


def decode_word(payload: bytes) -> int:
    """Return the number that a payload of four octets is."""
    (number,) = _WORD.unpack(payload)
    return int(number)


def without_padding(flags: int, payload: bytes) -> bytes:
    """Return the payload of DATA or HEADERS without padding and priority (6.1, 6.2).

    Raises:
        Http2Error: PROTOCOL_ERROR; there is more padding than payload.
    """
    start, end = 0, len(payload)
    if flags & PADDED:
        start = 1
        end -= payload[0] if payload else 1
    if flags & WITH_PRIORITY:
        start += 5
    if start > end:
        raise Http2Error(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
    return payload[start:end]
