"""CoAP over WebSockets (RFC 8323 section 4): a layer between a socket and a connection.

As TLS does it stands between asyncio's transport and `Connection`: what comes in frames goes on in
the form that messages have over TCP, and back. So requests, signals, Abort, back-pressure and
draining are the same code for all connections. Handshake and frames are those of the library
`websockets`, without its I/O, as that has tasks and queues for each connection and message.
"""

import asyncio
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

from bindings.wire.coap_stream import from_websocket, read_head, to_websocket
from gateway.sources.coap.connection import CLOSE_SECONDS, Connection

if TYPE_CHECKING:
    from gateway.sources.coap.streams import Streams

PATH: Final = "/.well-known/coap"
SUBPROTOCOL: Final = "coap"
_MAX_HANDSHAKE_BYTES: Final = 16384
_NORMAL_CLOSURE: Final = 1000

# What is wrong with a handshake or a frame is counted as a rejected message, not logged.
_library_log = logging.getLogger(f"{__name__}.websockets")
_library_log.setLevel(logging.CRITICAL)


class WebSocket(asyncio.Protocol):
    """One WebSocket: a protocol for asyncio, the transport for its connection."""

    def __init__(self, streams: "Streams") -> None:
        self._streams = streams
        self._connection = Connection(streams)
        origins = streams.config.ws_origins
        self._websocket = ServerProtocol(
            origins=None if "*" in origins else [None, *map(Origin, origins)],
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            max_size=streams.max_message_bytes,
            logger=_library_log,
        )
        self._handshake = bytearray()
        self._is_open = False
        # What the connection wants to say before the handshake is done: its CSM.
        self._early = b""
        self._fragments: bytearray | None = None
        self._closing = False
        self._reading = True
        self._deadline: asyncio.TimerHandle | None = None

    # --- asyncio's side -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._connection.connection_made(cast("asyncio.Transport", self))

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._unwatch()
        self._connection.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_open:
            self._receive(data)
        elif not self._closing:
            self._handshake += data
            self._shake_hands()

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    # --- the handshake ------------------------------------------------------------------------

    def _shake_hands(self) -> None:
        end = self._handshake.find(b"\r\n\r\n") + 4
        if end < 4 and len(self._handshake) <= _MAX_HANDSHAKE_BYTES:
            return
        if end < 4 or end > _MAX_HANDSHAKE_BYTES:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self._refuse(self._websocket.reject(status, "The request is too large.\n"))
            return
        response = self._answer(bytes(self._handshake[:end]))
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            self._refuse(response)
            return
        rest = bytes(self._handshake[end:])
        self._handshake.clear()
        self._websocket.send_response(response)
        self._is_open = True
        self.write(self._early)
        if rest:
            self._receive(rest)

    def _answer(self, head: bytes) -> Response:
        """Return the answer to a request: 101, or why it is none that opens a WebSocket."""
        if not head.isascii():  # the library can't quote it
            return self._websocket.reject(HTTPStatus.BAD_REQUEST, "That is no ASCII.\n")
        target = head.partition(b"\r\n")[0].split(b" ")[1:2]
        if target != [PATH.encode()]:
            return self._websocket.reject(HTTPStatus.NOT_FOUND, f"CoAP is at {PATH}.\n")
        self._websocket.receive_data(head)
        for event in self._websocket.events_received():
            if isinstance(event, Request):
                return self._websocket.accept(event)
        text = "That is no GET of HTTP/1.1 without a body.\n"
        return self._websocket.reject(HTTPStatus.BAD_REQUEST, text)

    def _refuse(self, response: Response) -> None:
        detail = f"{response.status_code} {response.reason_phrase}"
        self._streams.intake.rejected("websocket_handshake", detail)
        self._handshake.clear()
        self._transport.write(response.serialize())
        self._hang_up()

    # --- in -----------------------------------------------------------------------------------

    def _receive(self, data: bytes) -> None:
        """Take what one read brought; the connection gets all of it at once."""
        self._websocket.receive_data(data)
        frames = self._websocket.events_received()
        messages: list[bytes] = []
        fault = ""
        for frame in frames:
            if isinstance(frame, Frame) and (fault := self._take(frame, messages)):
                break
        if messages and not self._closing:
            self._connection.data_received(b"".join(messages))
        if fault and not self._closing:
            self._connection.abort(fault)
        if self._websocket.parser_exc is not None and not self._closing:
            self._streams.intake.rejected("message_format", str(self._websocket.parser_exc))
        self._write_out()
        if messages:
            self._unwatch()
        self._watch(between_frames=bool(frames) and not self._websocket.reader.buffer)

    def _take(self, frame: Frame, messages: list[bytes]) -> str:
        """Add what a frame completes to the messages; returns what is wrong with it, if anything.

        Close, ping and pong are answered by the library.
        """
        if frame.opcode is Opcode.TEXT:
            return "a text message"
        if frame.opcode is Opcode.BINARY and not frame.fin:
            self._fragments = bytearray(frame.data)
        elif frame.opcode in {Opcode.BINARY, Opcode.CONT}:
            message = bytes(frame.data)
            if self._fragments is not None:
                self._fragments += message
                if not frame.fin:
                    return ""
                message, self._fragments = bytes(self._fragments), None
            try:
                messages.append(from_websocket(message))
            except ValueError as error:
                return str(error)
        return ""

    def _watch(self, *, between_frames: bool) -> None:
        """See to it that a message does not take too long to arrive."""
        if self._closing:
            return
        if between_frames and self._fragments is None:
            self._unwatch()
        elif self._deadline is None and self._reading:
            seconds = self._streams.config.message_timeout
            self._deadline = self._streams.loop.call_later(
                seconds, self._connection.abort, "not in time"
            )

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # --- the connection's side: a transport ---------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def write(self, data: bytes) -> None:
        """Send whole messages in the form that they have over TCP."""
        if not self._is_open:
            self._early += data
            return
        if self._websocket.state is not State.OPEN:
            return
        position = 0
        while (head := read_head(data, position)) is not None:
            end = position + head.size
            self._websocket.send_binary(to_websocket(data[position:end]))
            position = end
        self._write_out()

    def _write_out(self) -> None:
        """Send what the library has ready; b"" among it is the end of what we say."""
        chunks = self._websocket.data_to_send()
        data = b"".join(chunks)
        if data and not self._transport.is_closing():
            self._transport.write(data)
        if b"" in chunks:
            self._hang_up()

    def pause_reading(self) -> None:
        if not self._closing:
            self._reading = False
            self._unwatch()
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def close(self) -> None:
        """Start the closing handshake; it ends when the peer has answered, or is late."""
        if self._closing:
            return
        if not self._is_open:
            self._hang_up()
            return
        if self._websocket.state is State.OPEN:
            self._websocket.send_close(_NORMAL_CLOSURE)
            self._write_out()
        self._wind_up()

    def abort(self) -> None:
        self._transport.abort()

    def _hang_up(self) -> None:
        """Say nothing more; the peer may still read what was said."""
        self._wind_up()
        if self._websocket.close_rcvd is not None or not self._transport.can_write_eof():
            self._transport.close()
        else:
            self._transport.write_eof()

    def _wind_up(self) -> None:
        self._closing = True
        self._unwatch()
        self.resume_reading()  # or the peer's end is never seen
        self._deadline = self._streams.loop.call_later(CLOSE_SECONDS, self.abort)
