"""The HTTP/2 side of the counting sink: h2c with prior knowledge, and no more than counting needs.

Field blocks are not decoded: a request is whatever ends a stream, and all answers are the same.
Node's server goes by the book and costs ten times as much, more than what is measured.
"""

import asyncio
import struct
from typing import Any, Final

from tests.benchmarks.counting_sink import EVENT, Counter

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 4, 6, 8
_END_STREAM, _ACK, _END_HEADERS, _PADDED = 1, 1, 4, 8
_WINDOW: Final = 1 << 30
_STATUS_202: Final = b"\x08\x03202"  # RFC 7541 6.2.2: a literal, its name is :status of the table
_MAX_STREAMS: Final = 1000


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame (RFC 9113 4.1)."""
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


_HELLO: Final = frame(_SETTINGS, 0, 0, struct.pack(">HIHI", 3, _MAX_STREAMS, 4, _WINDOW)) + frame(
    _WINDOW_UPDATE, 0, 0, (_WINDOW - 65_535).to_bytes(4, "big")
)


class H2Connection(asyncio.Protocol):
    """A connection."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._transport: Any = None
        self._buffer = b""
        self._greeted = False
        self._bodies: dict[int, bytes] = {}
        self._read = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(_HELLO)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        at, size = 0, len(data)
        if not self._greeted:
            if size < len(_PREFACE):
                self._buffer = data
                return
            if not data.startswith(_PREFACE):
                self._transport.close()
                return
            self._greeted, at = True, len(_PREFACE)
        answers: list[bytes] = []
        while at + 9 <= size:
            end = at + 9 + int.from_bytes(data[at : at + 3], "big")
            if end > size:
                break
            stream = int.from_bytes(data[at + 5 : at + 9], "big")
            self._frame(data[at + 3], data[at + 4], stream, data[at + 9 : end], answers)
            at = end
        self._buffer = data[at:]
        if self._read > _WINDOW // 2:
            answers.append(frame(_WINDOW_UPDATE, 0, 0, self._read.to_bytes(4, "big")))
            self._read = 0
        if answers:
            self._transport.write(b"".join(answers))
            self._counter.tell()

    def _frame(
        self, kind: int, flags: int, stream: int, payload: bytes, answers: list[bytes]
    ) -> None:
        if kind == _DATA:
            self._read += len(payload)
            if flags & _PADDED:
                payload = payload[1 : len(payload) - payload[0]]
            body = self._bodies.pop(stream, b"") + payload
            if not flags & _END_STREAM:
                self._bodies[stream] = body
                return
            self._counter.take(body, lambda: EVENT)
        elif kind == _SETTINGS and not flags & _ACK:
            answers.append(frame(_SETTINGS, _ACK, 0))
            return
        elif kind == _PING and not flags & _ACK:
            answers.append(frame(_PING, _ACK, 0, payload))
            return
        elif kind != _HEADERS or not flags & _END_STREAM:
            return
        answers.append(frame(_HEADERS, _END_STREAM | _END_HEADERS, stream, _STATUS_202))
