"""The client's side of an HTTP/2 connection (RFC 9113): requests in, answers out, as bytes.

One call of `receive` takes all that a read brought and returns the streams that ended with it; all
that is to be written gathers until `output` is called. No push, no priorities, no dynamic tables.
"""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from bindings.wire.http2 import frame
from bindings.wire.http2.frame import ACK, END_STREAM, MAX_STREAM_ID, ErrorCode, Http2Error, Setting
from bindings.wire.http2.response import Head, HeadReader
from bindings.wire.http2.sender import Sender
from bindings.wire.http2.stream import Limits, Stream

T = TypeVar("T")

_MAX_BLOCK: Final = 65_536
# CONTINUATION frames of one block, and frames that bring nothing between two answers: a peer that
# sends more floods (10.5).
_MAX_CONTINUATIONS: Final = 32
_MAX_IDLE_FRAMES: Final = 1_000
_CONNECTION_WINDOW: Final = 4_194_304


class Client(Generic[T]):
    """The state of one connection.

    Args:
        limits: how much of an answer is wanted, and how many streams there may be.

    Attributes:
        streams: those that are open, by number, oldest first.
        is_settled: the peer's frame.SETTINGS have come; before that nothing should be asked.
        goaway: why the peer takes no more requests here; "" if it does.
        failure: the peer broke the protocol; what `output` returns is the last there is to write.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.streams: dict[int, Stream[T]] = {}
        self.is_settled = False
        self.goaway = ""
        self.failure: Http2Error | None = None
        self._reader = HeadReader(limits.kept_fields)
        self._next_id = 1
        self._rest = b""
        self._ended: list[Stream[T]] = []
        # The block whose frame.CONTINUATION has to come: stream, flags, what has come.
        self._partial: tuple[int, int, list[bytes]] | None = None
        self._idle_frames = 0
        # What the peer wants.
        self._peer_streams = MAX_STREAM_ID
        self._last_id = MAX_STREAM_ID
        self._window_in = _CONNECTION_WINDOW
        self._sender = Sender[T]()
        self._out = self._sender.out
        self._out += [
            frame.PREFACE,
            frame.encode_settings(
                [
                    (Setting.HEADER_TABLE_SIZE, 0),
                    (Setting.ENABLE_PUSH, 0),
                    # Larger than what is read of a stream, so it never needs an update.
                    (Setting.INITIAL_WINDOW_SIZE, limits.max_body + frame.DEFAULT_MAX_FRAME),
                    (Setting.MAX_HEADER_LIST_SIZE, _MAX_BLOCK),
                ]
            ),
            frame.encode_window_update(0, _CONNECTION_WINDOW - frame.DEFAULT_WINDOW),
        ]
        self._handlers: dict[int, Callable[[int, int, bytes], None]] = {
            frame.HEADERS: self._on_headers,
            frame.DATA: self._on_data,
            frame.CONTINUATION: self._on_continuation,
            frame.RST_STREAM: self._on_rst_stream,
            frame.SETTINGS: self._on_settings,
            frame.PING: self._on_ping,
            frame.GOAWAY: self._on_goaway,
            frame.WINDOW_UPDATE: self._on_window_update,
            frame.PRIORITY: self._on_priority,
            frame.PUSH_PROMISE: self._on_push_promise,
        }

    # What the owner calls.

    @property
    def room(self) -> int:
        """How many requests can be sent now."""
        if not self.is_settled or self.goaway or self.failure is not None or self.is_exhausted:
            return 0
        return min(self._limits.max_streams, self._peer_streams) - len(self.streams)

    @property
    def is_exhausted(self) -> bool:
        """Whether every stream identifier has been used (5.1.1)."""
        return self._next_id > MAX_STREAM_ID

    @property
    def is_starved(self) -> bool:
        """Whether bodies wait because the peer does not open the connection's window."""
        return self._sender.is_starved

    @property
    def takes_none(self) -> bool:
        """Whether the peer allows no request at all."""
        return self._peer_streams == 0

    def output(self) -> bytes:
        """Return what is to be written now, and forget it."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def request(self, block: bytes, body: bytes, context: T) -> Stream[T]:
        """Send a request; `room` is above 0.

        Args:
            block: its header section, encoded.
            body: its content.
            context: whatever belongs to it.
        """
        stream_id = self._next_id
        self._next_id += 2
        stream = Stream(stream_id, context, self._sender.initial_window)
        self.streams[stream_id] = stream
        self._sender.request(stream, block, body)
        return stream

    def cancel(self, stream: Stream[T], code: ErrorCode = ErrorCode.CANCEL) -> None:
        """Give up a stream."""
        if self.streams.pop(stream.id, None) is not None:
            self._sender.forget(stream)
            self._out.append(frame.encode_rst_stream(stream.id, code))

    def ping(self) -> None:
        """Have the peer say something, if it is there."""
        self._out.append(frame.encode_frame(frame.PING, frame.NO_FLAGS, 0, bytes(8)))

    def close(self) -> None:
        """Say that nothing more comes."""
        self._out.append(frame.encode_goaway(0, ErrorCode.NO_ERROR))

    def receive(self, data: bytes) -> list[Stream[T]]:
        """Take bytes of the peer; returns the streams that ended, in that order.

        After an offence `failure` is set, and what is still in `streams` stays without an answer.
        """
        ended = self._ended = []
        if self.failure is None:
            try:
                self._read(self._rest + data if self._rest else data)
            except Http2Error as error:
                self.failure = error
                self._out.append(frame.encode_goaway(0, error.code, str(error)))
        return ended

    # Frames in.

    def _read(self, data: bytes) -> None:
        position, end = 0, len(data)
        if not self.is_settled and data[:5] == b"HTTP/"[:end] and end:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "the peer speaks HTTP/1.1")
        handlers, unpack = self._handlers, frame.FRAME_HEADER.unpack_from
        while position + frame.HEADER_BYTES <= end:
            word, flags, stream_id = unpack(data, position)
            start = position + frame.HEADER_BYTES
            position = start + (word >> 8)
            kind = word & 0xFF
            if not self.is_settled and (kind != frame.SETTINGS or flags & ACK):
                # What is no HTTP/2 at all has a first "frame" of any size.
                raise Http2Error(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            if position - start > frame.DEFAULT_MAX_FRAME:
                raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {word >> 8} octets")
            if position > end:
                position = start - frame.HEADER_BYTES
                break
            if self._partial is not None and kind != frame.CONTINUATION:
                raise Http2Error(ErrorCode.PROTOCOL_ERROR, "a header section is interrupted")
            handler = handlers.get(kind)
            if handler is None:
                self._count_idle()
            else:
                handler(stream_id & MAX_STREAM_ID, flags, data[start:position])
        self._rest = data[position:] if position < end else b""

    def _count_idle(self) -> None:
        """Count a frame that brings nothing."""
        self._idle_frames += 1
        if self._idle_frames > _MAX_IDLE_FRAMES:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "a flood of frames that bring nothing")

    def _on_headers(self, stream_id: int, flags: int, payload: bytes) -> None:
        if flags & (frame.PADDED | frame.WITH_PRIORITY):
            payload = frame.without_padding(flags, payload)
        if flags & frame.END_HEADERS:
            self._on_block(stream_id, flags, payload)
        else:
            self._find(stream_id)
            self._partial = (stream_id, flags, [payload])

    def _on_continuation(self, stream_id: int, flags: int, payload: bytes) -> None:
        if self._partial is None or self._partial[0] != stream_id:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        _, first_flags, parts = self._partial
        parts.append(payload)
        if len(parts) > _MAX_CONTINUATIONS or sum(map(len, parts)) > _MAX_BLOCK:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "a header section without end")
        if flags & frame.END_HEADERS:
            self._partial = None
            self._on_block(stream_id, first_flags, b"".join(parts))

    def _on_block(self, stream_id: int, flags: int, block: bytes) -> None:
        stream = self.streams.get(stream_id)
        if stream is None:
            self._find(stream_id)
            return
        if stream.status is None:
            head = self._reader.read(block)
            if head.status < 200:
                self._on_interim(stream, head, is_last=bool(flags & END_STREAM))
                return
            self._idle_frames = 0
            stream.status, stream.fields = head.status, head.fields
        elif not flags & END_STREAM:  # trailers say nothing that is wanted
            self._reset(stream, "a second header section")
            return
        if flags & END_STREAM:
            self._end(stream)

    def _on_interim(self, stream: Stream[T], head: Head, *, is_last: bool) -> None:
        """Pass over what says that the answer is still to come."""
        if head.malformed:
            self._reset(stream, head.malformed)
        elif is_last or head.status == 101:
            self._reset(stream, f"{head.status} may not be")
        else:
            self._count_idle()

    def _on_data(self, stream_id: int, flags: int, payload: bytes) -> None:
        stream, size = self._find(stream_id), len(payload)
        self._window_in -= size  # padding counts
        if self._window_in < _CONNECTION_WINDOW // 2:
            increment = _CONNECTION_WINDOW - self._window_in
            self._out.append(frame.encode_window_update(0, increment))
            self._window_in += increment
        if flags & frame.PADDED:
            payload = frame.without_padding(flags & ~frame.WITH_PRIORITY, payload)
        if not payload and not flags & END_STREAM:
            self._count_idle()
        if stream is None:
            return
        stream.received += size
        if stream.status is None:
            self._reset(stream, "DATA before a response")
            return
        stream.keep(payload, self._limits.kept_body)
        if flags & END_STREAM:
            self._end(stream)
        elif stream.received > self._limits.max_body:
            self.cancel(stream)
            self._ended.append(stream)

    def _on_rst_stream(self, stream_id: int, flags: int, payload: bytes) -> None:  # noqa: ARG002 - as every handler
        _check_size(payload, 4, "RST_STREAM")
        stream, code = self._find(stream_id), frame.decode_word(payload)
        if stream is None:
            self._count_idle()
            return
        stream.error = f"the stream was reset: {frame.error_name(code)}"
        stream.is_unprocessed = code == ErrorCode.REFUSED_STREAM  # 8.7
        self._forget(stream)

    def _on_settings(self, stream_id: int, flags: int, payload: bytes) -> None:
        _check_connection(stream_id, "SETTINGS")
        if flags & ACK:
            _check_size(payload, 0, "SETTINGS with ACK")
            return
        if len(payload) % 6:
            raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS is cut short")
        self._count_idle()
        for name, value in frame.decode_settings(payload):
            self._set(name, value)
        self.is_settled = True
        self._out.append(frame.encode_frame(frame.SETTINGS, ACK, 0))
        self._sender.write_waiting()

    def _set(self, name: int, value: int) -> None:
        if name == Setting.MAX_CONCURRENT_STREAMS:
            self._peer_streams = value
        elif name == Setting.INITIAL_WINDOW_SIZE:
            self._sender.set_initial_window(value, self.streams.values())
        elif name == Setting.MAX_FRAME_SIZE:
            self._sender.set_max_frame(value)
        elif name == Setting.ENABLE_PUSH and value:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH of a server")

    def _on_ping(self, stream_id: int, flags: int, payload: bytes) -> None:
        _check_connection(stream_id, "PING")
        _check_size(payload, 8, "PING")
        self._count_idle()
        if not flags & ACK:
            self._out.append(frame.encode_frame(frame.PING, ACK, 0, payload))

    def _on_goaway(self, stream_id: int, flags: int, payload: bytes) -> None:  # noqa: ARG002 - as every handler
        _check_connection(stream_id, "GOAWAY")
        if len(payload) < 8:
            raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY is cut short")
        self._count_idle()
        last_id, code, text = frame.decode_goaway(payload)
        self._last_id = min(self._last_id, last_id)
        self.goaway = f"GOAWAY {frame.error_name(code)} {text}".rstrip()
        # 6.8: what is above was not and will not be processed.
        for stream in [each for each in self.streams.values() if each.id > self._last_id]:
            stream.error = self.goaway
            stream.is_unprocessed = True
            self._forget(stream)

    def _on_window_update(self, stream_id: int, flags: int, payload: bytes) -> None:  # noqa: ARG002 - as every handler
        _check_size(payload, 4, "WINDOW_UPDATE")
        increment = frame.decode_word(payload) & frame.MAX_WINDOW
        if stream_id == 0:
            self._sender.open_window(increment)
            return
        stream = self._find(stream_id)
        if stream is not None:
            code = self._sender.open_stream_window(stream, increment)
            if code is not None:
                self._reset(stream, "a frame.WINDOW_UPDATE that may not be", code)

    def _on_priority(self, stream_id: int, flags: int, payload: bytes) -> None:  # noqa: ARG002 - as every handler
        if stream_id == 0:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "PRIORITY of no stream")
        _check_size(payload, 5, "PRIORITY")
        self._count_idle()

    def _on_push_promise(self, stream_id: int, flags: int, payload: bytes) -> None:  # noqa: ARG002 - as every handler
        raise Http2Error(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, though push is off")

    # Streams.

    def _find(self, stream_id: int) -> Stream[T] | None:
        """Return an open stream; None if it has ended.

        Raises:
            Http2Error: PROTOCOL_ERROR; no such stream was ever opened.
        """
        stream = self.streams.get(stream_id)
        if stream is None and (stream_id % 2 == 0 or stream_id >= self._next_id):
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"stream {stream_id} was never opened")
        return stream

    def _forget(self, stream: Stream[T]) -> None:
        del self.streams[stream.id]
        if stream.unsent:
            self._sender.forget(stream)
        self._ended.append(stream)

    def _end(self, stream: Stream[T]) -> None:
        """Note that an answer is complete."""
        if stream.unsent:  # 8.1: the rest of the request is not wanted
            self._out.append(frame.encode_rst_stream(stream.id, ErrorCode.CANCEL))
            self._sender.forget(stream)
        del self.streams[stream.id]
        self._ended.append(stream)

    def _reset(
        self, stream: Stream[T], why: str, code: ErrorCode = ErrorCode.PROTOCOL_ERROR
    ) -> None:
        """End a stream for an offence that concerns it alone (5.4.2)."""
        self.cancel(stream, code)
        stream.error = f"no HTTP/2 answer: {why}"
        self._ended.append(stream)


def _check_size(payload: bytes, size: int, what: str) -> None:
    if len(payload) != size:
        raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, f"{what} of {len(payload)} octets")


def _check_connection(stream_id: int, what: str) -> None:
    if stream_id:
        raise Http2Error(ErrorCode.PROTOCOL_ERROR, f"{what} of a stream")
