"""What goes out on an HTTP/2 connection: frames that gather, and bodies within their windows."""

from collections.abc import Iterable
from typing import Final, Generic, TypeVar

from bindings.wire.http2 import frame
from bindings.wire.http2.frame import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER,
    HEADERS,
    MAX_WINDOW,
    NO_FLAGS,
    ErrorCode,
    Http2Error,
)
from bindings.wire.http2.stream import Stream

T = TypeVar("T")

_TOO_WIDE: Final = "a window of more than 2^31-1"


class Sender(Generic[T]):
    """The way out, with flow control (RFC 9113 5.2).

    Attributes:
        out: what is to be written, in order.
        initial_window: of a new stream.
    """

    def __init__(self) -> None:
        self.out: list[bytes | memoryview] = []
        self.initial_window = frame.DEFAULT_WINDOW
        self._max_frame = frame.DEFAULT_MAX_FRAME
        self._window = frame.DEFAULT_WINDOW
        # Streams whose body has to wait for a window, oldest first.
        self._waiting: dict[int, Stream[T]] = {}

    @property
    def is_starved(self) -> bool:
        """Whether bodies wait because the connection's window is shut."""
        return bool(self._waiting) and self._window <= 0

    def request(self, stream: Stream[T], block: bytes, body: bytes) -> None:
        """Send a request as far as the windows allow; the rest follows by itself."""
        out, size, stream_id = self.out, len(body), stream.id
        flags = END_HEADERS if body else END_HEADERS | END_STREAM
        if len(block) <= self._max_frame:
            out.append(FRAME_HEADER.pack(len(block) << 8 | HEADERS, flags, stream_id))
            out.append(block)
        else:
            self._write_long_block(stream_id, flags, block)
        if not size:
            return
        if (
            size <= self._window
            and size <= stream.window
            and size <= self._max_frame
            and not self._waiting
        ):
            self._window -= size
            stream.window -= size
            out.append(FRAME_HEADER.pack(size << 8 | DATA, END_STREAM, stream_id))
            out.append(body)
        else:
            stream.unsent = memoryview(body)
            self._waiting[stream_id] = stream
            self._write_body(stream)

    def forget(self, stream: Stream[T]) -> None:
        """Send no more of a stream."""
        self._waiting.pop(stream.id, None)

    def open_window(self, increment: int) -> None:
        """Take a WINDOW_UPDATE of the connection.

        Raises:
            Http2Error: it may not be (6.9).
        """
        if increment == 0:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        self._window += increment
        if self._window > MAX_WINDOW:
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, _TOO_WIDE)
        self.write_waiting()

    def open_stream_window(self, stream: Stream[T], increment: int) -> ErrorCode | None:
        """Take a WINDOW_UPDATE of a stream; returns why the stream has to end, if it has to."""
        if increment == 0:
            return ErrorCode.PROTOCOL_ERROR
        stream.window += increment
        if stream.window > MAX_WINDOW:
            return ErrorCode.FLOW_CONTROL_ERROR
        if stream.unsent:
            self._write_body(stream)
        return None

    def set_initial_window(self, size: int, streams: Iterable[Stream[T]]) -> None:
        """Take SETTINGS_INITIAL_WINDOW_SIZE, which changes the window of every stream (6.9.2).

        Raises:
            Http2Error: it may not be.
        """
        if size > MAX_WINDOW:
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, _TOO_WIDE)
        change = size - self.initial_window
        self.initial_window = size
        for stream in streams:
            stream.window += change
            if stream.window > MAX_WINDOW:
                raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, _TOO_WIDE)

    def set_max_frame(self, size: int) -> None:
        """Take SETTINGS_MAX_FRAME_SIZE.

        Raises:
            Http2Error: it may not be (6.5.2).
        """
        if not frame.DEFAULT_MAX_FRAME <= size <= frame.LARGEST_MAX_FRAME:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"MAX_FRAME_SIZE {size}")
        self._max_frame = size

    def write_waiting(self) -> None:
        """Send what the windows allow of the bodies that wait."""
        for stream in tuple(self._waiting.values()):
            if self._window <= 0:
                break
            self._write_body(stream)

    def _write_long_block(self, stream_id: int, flags: int, block: bytes) -> None:
        size = self._max_frame
        kind, flags = HEADERS, flags & ~END_HEADERS
        for start in range(0, len(block), size):
            if start + size >= len(block):
                flags |= END_HEADERS
            part = block[start : start + size]
            self.out.append(frame.encode_frame(kind, flags, stream_id, part))
            kind, flags = CONTINUATION, NO_FLAGS

    def _write_body(self, stream: Stream[T]) -> None:
        body, out = stream.unsent, self.out
        while body:
            size = min(len(body), stream.window, self._window, self._max_frame)
            if size <= 0:
                break
            flags = END_STREAM if size == len(body) else NO_FLAGS
            out.append(FRAME_HEADER.pack(size << 8 | DATA, flags, stream.id))
            out.append(body[:size])
            body = body[size:]
            stream.window -= size
            self._window -= size
        stream.unsent = body
        if not body:
            self._waiting.pop(stream.id, None)
