"""The CAN binding (docs/bindings/can.md): a frame on a bus without IP becomes an event, and back.

A CAN frame has up to 8 bytes (CAN FD: 64) and no room for attributes. They are made of what the
receiver knows: the channel, the arbitration id, the time of arrival. Data are the frame's bytes;
or, when a DBC database describes the frame, the JSON object of its signals.

A `Message` holds the frame in the layout of Linux's `struct can_frame` or `canfd_frame`
(<linux/can.h>, little-endian), and what a receiver's log has beside it as headers: `channel`,
`timestamp` ("1700000000.123456", as candump writes it) and `occurrence`.
"""

import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, unquote

import msgspec

from bindings.binding import ContentMode, Message, media_type_of
from bindings.errors import InvalidEventError, NotAnEventError, UnknownEncodingError, excerpt
from bindings.event import Event
from bindings.wrap import Wrapper

FRAME_TYPE: Final = "can.frame.v1"
"""The type of an event whose data are the frame's bytes."""
MESSAGE_TYPE: Final = "can.message.v1"
"""The type of an event whose data are decoded signals."""

FD_BRS: Final = 0x01
"""`canfdflags`: the data were sent at the second bit rate (<linux/can.h>, CANFD_BRS)."""
FD_ESI: Final = 0x02
"""`canfdflags`: the sender is error passive (CANFD_ESI)."""

_EXTENDED_FLAG: Final = 0x80000000
_REMOTE_FLAG: Final = 0x40000000
_ERROR_FLAG: Final = 0x20000000
_EXTENDED_MASK: Final = 0x1FFFFFFF
_STANDARD_MASK: Final = 0x7FF
_FDF: Final = 0x04

_CLASSICAL = struct.Struct("<IB3x8s")
_FD = struct.Struct("<IBB2x64s")
_FD_LENGTHS: Final = frozenset({*range(9), 12, 16, 20, 24, 32, 48, 64})

# <linux/can/error.h>: the bits of an error frame's id.
_ERROR_CLASSES: Final = (
    (0x001, "transmission timed out"),
    (0x002, "lost arbitration"),
    (0x004, "controller problem"),
    (0x008, "protocol violation"),
    (0x010, "transceiver status"),
    (0x020, "no acknowledgement"),
    (0x040, "bus off"),
    (0x080, "bus error"),
    (0x100, "controller restarted"),
    (0x200, "error counters"),
)

_TIMESTAMP = re.compile(r"([0-9]{1,11})\.([0-9]{6}|[0-9]{9})")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:)(\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)")
_LAST_SECOND: Final = 253402300799  # of the year 9999, the last that RFC 3339 can write
_IDENTIFIER = re.compile(r"[0-7][0-9A-Fa-f]{2}|[01][0-9A-Fa-f]{7}")
_SOURCE = re.compile(r"/can/([^/?#]+)")
# What cantools raises, besides its own errors, for values that are no signals.
_WRONG_VALUES: Final = (ValueError, LookupError, TypeError, ArithmeticError, RecursionError)
_FD_FLAGS = re.compile(r"[0-3]")

DbcMessages = Mapping[tuple[int, bool], Any]
"""`cantools` messages by arbitration id and whether it is an extended one."""


class CanFrame(msgspec.Struct, frozen=True):
    """A data frame.

    Attributes:
        arbitration_id: 11 bits, or 29 if it is extended.
        data: 0 to 8 bytes; CAN FD: 0 to 8, 12, 16, 20, 24, 32, 48 or 64.
        is_extended: whether the id has 29 bits.
        fd_flags: `FD_BRS` and `FD_ESI` of a CAN FD frame; None for a classical one.
    """

    arbitration_id: int
    data: bytes
    is_extended: bool = False
    fd_flags: int | None = None

    @property
    def identifier(self) -> str:
        """The id as candump writes it: 3 hexadecimal digits, 8 if it is extended."""
        return f"{self.arbitration_id:08X}" if self.is_extended else f"{self.arbitration_id:03X}"

    def to_bytes(self) -> bytes:
        """Return the frame as `struct can_frame` or `struct canfd_frame`."""
        can_id = self.arbitration_id | (_EXTENDED_FLAG if self.is_extended else 0)
        if self.fd_flags is None:
            return _CLASSICAL.pack(can_id, len(self.data), self.data)
        return _FD.pack(can_id, len(self.data), self.fd_flags | _FDF, self.data)


def parse_frame(payload: bytes) -> CanFrame:
    """Return the frame in a `struct can_frame` (16 bytes) or `struct canfd_frame` (72 bytes).

    Raises:
        InvalidEventError: it is no such structure.
        NotAnEventError: it is a remote frame or an error frame, which carry no data.
    """
    flags: int | None = None
    if len(payload) == _CLASSICAL.size:
        can_id, length, data = _CLASSICAL.unpack(payload)
    elif len(payload) == _FD.size:
        can_id, length, flags, data = _FD.unpack(payload)
        flags &= FD_BRS | FD_ESI
    else:
        raise _malformed(f"{len(payload)} bytes; a CAN frame has 16, a CAN FD frame 72")
    if can_id & _ERROR_FLAG:
        raise NotAnEventError(error_text(can_id), reason="error_frame")
    if length not in _FD_LENGTHS or (flags is None and length > 8):
        raise _malformed(f"no frame has {length} bytes of data")
    is_extended = bool(can_id & _EXTENDED_FLAG)
    arbitration_id = can_id & _EXTENDED_MASK
    if not is_extended and arbitration_id > _STANDARD_MASK:
        raise _malformed(f"id {arbitration_id:X} has more than 11 bits and is not extended")
    frame = CanFrame(arbitration_id, data[:length], is_extended, flags)
    if can_id & _REMOTE_FLAG:
        if flags is not None:
            raise _malformed("CAN FD has no remote frames")
        raise NotAnEventError(f"a remote frame asks for {frame.identifier}", reason="remote_frame")
    return frame


def error_text(can_id: int) -> str:
    """Return in words what an error frame's id says of the bus or the controller."""
    named = [text for bit, text in _ERROR_CLASSES if can_id & bit]
    return "error frame: " + (", ".join(named) or "unspecified")


def parse_dbc(texts: Iterable[str]) -> DbcMessages:
    """Return the messages that DBC databases describe, for `CanBinding`.

    Raises:
        ValueError: a text is no DBC database, or two messages have one id or one name.
        ImportError: `cantools` is not installed.
    """
    import cantools  # noqa: PLC0415 - optional: only who has DBC files needs it

    found: dict[tuple[int, bool], Any] = {}
    names: set[str] = set()
    for text in texts:
        try:
            database: Any = cantools.database.load_string(text, "dbc")
        except cantools.Error as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"no DBC database: {reason}") from None
        for message in database.messages:
            key = message.frame_id, message.is_extended_frame
            if key in found or message.name in names:
                raise ValueError(f"message {message.name!r} or its id is described twice")
            found[key] = message
            names.add(message.name)
    return found


class CanBinding:
    """The mapping of frames to events; without a database, of their bytes.

    Args:
        messages: what `parse_dbc` returned.
        wrapper: makes the attributes instead of the binding's defaults; its facts are `channel`,
            `canid` and `message`, which is the message's name, or the id when no database has it.
    """

    name = "can"
    losses: Final = frozenset({"subset", "defaults"})

    def __init__(self, messages: DbcMessages | None = None, wrapper: Wrapper | None = None) -> None:
        self._messages = messages or {}
        self._by_name = {message.name: key for key, message in self._messages.items()}
        self._wrapper = wrapper

    def decode(self, message: Message) -> Sequence[Event]:
        frame = parse_frame(message.payload or b"")
        beside: dict[str, str] = {}
        for name, value in message.headers:
            if beside.setdefault(name, value) != value:
                raise _malformed(f"two values of {excerpt(name)} beside the frame")
        if not beside.get("channel"):
            raise _malformed("no channel beside the frame")
        occurrence = beside.get("occurrence", "0")
        if not re.fullmatch("[0-9]{1,9}", occurrence):
            raise _malformed(f"no number: {excerpt(occurrence)}")
        timestamp = beside.get("timestamp", "")
        return (self.event(frame, beside["channel"], timestamp, int(occurrence)),)

    def encode(self, event: Event, mode: ContentMode) -> Message:
        """Return the frame that carries `event`; `channel` and `timestamp` are for a log.

        Raises:
            UnknownEncodingError: the mode is structured, which CAN has no room for.
            InvalidEventError: the event can't be told by a frame (reason `not_representable`).
        """
        if mode != "binary":
            raise UnknownEncodingError("CAN has no structured mode: a frame has 8 or 64 bytes")
        headers = []
        source = _SOURCE.fullmatch(event.source)
        if source:
            headers.append(("channel", unquote(source[1])))
        timestamp = _timestamp_of(event.time)
        if timestamp:
            headers.append(("timestamp", timestamp))
        return Message(self.frame(event).to_bytes(), headers=headers)

    def event(self, frame: CanFrame, channel: str, timestamp: str, occurrence: int = 0) -> Event:
        """Return the event that a frame becomes.

        Args:
            frame: a data frame.
            channel: the name of the bus.
            timestamp: when it was received: seconds since 1970, a point, 6 or 9 digits.
            occurrence: how many frames of this channel before it have the same timestamp.

        Raises:
            InvalidEventError: the database has its id and can't decode it (reason `dbc`), it has
                no timestamp, or the wrapper lacks something.
        """
        known = self._messages.get((frame.arbitration_id, frame.is_extended))
        identifier = frame.identifier
        if known is None:
            content_type = "application/octet-stream" if frame.data else None
            type_, subject, data = FRAME_TYPE, identifier, frame.data or None
        else:
            content_type, type_, subject = "application/json", MESSAGE_TYPE, known.name
            data = _decode_signals(known, frame.data)
        id_ = f"{timestamp}-{identifier}" + (f"-{occurrence}" if occurrence else "")
        time = _time_of(timestamp)
        if self._wrapper is not None:
            facts = {"channel": channel, "canid": identifier, "message": subject}
            return self._wrapper.wrap(
                data or b"", facts, id=id_, time=time, content_type=content_type or ""
            )
        extensions = {"canid": identifier}
        if frame.fd_flags is not None:
            extensions["canfdflags"] = str(frame.fd_flags)
        return Event(
            id=id_,
            source=_source_of(channel),
            type=type_,
            subject=subject,
            time=time,
            datacontenttype=content_type,
            extensions=extensions,
            data=data,
        )

    def frame(self, event: Event) -> CanFrame:
        """Return the frame that tells `event`: its `canid`, else the message it is named after.

        Raises:
            InvalidEventError: no frame does (reason `not_representable`).
        """
        arbitration_id, is_extended = self._key_of(event)
        known = self._messages.get((arbitration_id, is_extended))
        flags = event.extensions.get("canfdflags")
        if flags is None:
            fd_flags = 0 if known is not None and known.is_fd else None
        elif isinstance(flags, str) and _FD_FLAGS.fullmatch(flags):
            fd_flags = int(flags)
        else:
            raise _not_representable(f"canfdflags is 0 to 3, not {excerpt(flags)}", "canfdflags")
        data = event.data or b""
        if event.has_json_data and known is not None:
            data = _encode_signals(known, data)
        elif data and media_type_of(event.datacontenttype or "") not in {
            "",
            "application/octet-stream",
        }:
            raise _not_representable(f"no way to put {event.datacontenttype} into a frame")
        if len(data) not in _FD_LENGTHS or (fd_flags is None and len(data) > 8):
            raise _not_representable(f"no frame of its kind has {len(data)} bytes of data")
        return CanFrame(arbitration_id, data, is_extended, fd_flags)

    def _key_of(self, event: Event) -> tuple[int, bool]:
        identifier = event.extensions.get("canid")
        if identifier is None:
            key = self._by_name.get(event.subject or "")
            if key is None:
                raise _not_representable("no canid, and no message of that name", "canid")
            return key
        if not isinstance(identifier, str) or not _IDENTIFIER.fullmatch(identifier):
            raise _not_representable(
                f"canid is 3 or 8 hexadecimal digits, not {excerpt(identifier)}", "canid"
            )
        return int(identifier, 16), len(identifier) == 8


CAN = CanBinding()
"""Frames as bytes, for those who have no DBC database."""


def _decode_signals(message: Any, data: bytes) -> bytes:
    import cantools  # noqa: PLC0415 - imported before, by who made the message

    try:
        # The names of values are objects of cantools; everything else is a number.
        return msgspec.json.encode(message.decode(data), enc_hook=str)
    except (cantools.Error, ValueError, ArithmeticError) as error:
        text = f"{len(data)} bytes are no {message.name}: {excerpt(error)}"
        raise InvalidEventError(text, reason="dbc") from None


def _encode_signals(message: Any, data: bytes) -> bytes:
    import cantools  # noqa: PLC0415 - imported before, by who made the message

    try:
        encoded: bytes = message.encode(msgspec.json.decode(data))
    except (cantools.Error, msgspec.MsgspecError, *_WRONG_VALUES) as error:
        raise _not_representable(f"no signals of {message.name}: {excerpt(error)}") from None
    return encoded


@lru_cache(maxsize=256)
def _source_of(channel: str) -> str:
    try:
        return f"/can/{quote(channel, safe='')}"
    except UnicodeEncodeError:
        raise _malformed(f"no name of a channel: {excerpt(channel)}") from None


@lru_cache(maxsize=16)
def _second_of(seconds: str) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(seconds))
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def _time_of(timestamp: str) -> str:
    match = _TIMESTAMP.fullmatch(timestamp)
    if match is None or int(match[1]) > _LAST_SECOND:
        raise InvalidEventError(
            f"no timestamp of a frame: {excerpt(timestamp)}", attribute="time", reason="frame"
        )
    return f"{_second_of(match[1])}.{match[2]}Z"


def _timestamp_of(time: str | None) -> str:
    """Return a time as candump writes it, "" if there is none or it was before 1970."""
    match = _TIME.fullmatch(time or "")
    if match is None:
        return ""
    day, minute, second, fraction, zone = match.groups()
    leap = second == "60"
    zone = "+00:00" if zone in "Zz" else zone
    try:
        moment = datetime.fromisoformat(f"{day}T{minute}{'59' if leap else second}{zone}")
    except ValueError:  # the year 0
        return ""
    seconds = int(moment.timestamp()) + leap
    digits = (fraction or "")[:9]
    return f"{seconds}.{digits.ljust(6 if len(digits) <= 6 else 9, '0')}" if seconds >= 0 else ""


def _malformed(text: str) -> InvalidEventError:
    return InvalidEventError(text, reason="frame")


def _not_representable(text: str, attribute: str | None = None) -> InvalidEventError:
    return InvalidEventError(text, attribute=attribute, reason="not_representable")
