"""One end of the socket pair between the parent and a worker: messages with their length."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final

import msgspec

_LENGTH_BYTES: Final = 4
_encode: Final = msgspec.msgpack.Encoder().encode


class Channel(asyncio.Protocol):
    """Sends and receives whole messages; both ends trust each other.

    Args:
        kind: the union of the messages that come.
        on_message: called with each.
        on_lost: called once when the other end is gone, or `close` was called.
    """

    def __init__(
        self, kind: Any, on_message: Callable[[Any], None], on_lost: Callable[[], None]
    ) -> None:
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._on_message = on_message
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._flushed = asyncio.Event()
        self._flushed.set()
        self._ended = asyncio.Event()

    @property
    def is_congested(self) -> bool:
        """Whether the other end does not keep up; what is not needed had better wait."""
        return not self._flushed.is_set()

    @property
    def is_open(self) -> bool:
        """Whether what is sent may arrive."""
        return self._transport is not None

    async def open(self, sock: socket.socket) -> None:
        """Begin on this end; the socket is ours from now on."""
        sock.settimeout(0)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)

    def send(self, message: msgspec.Struct) -> bool:
        """Send a message without waiting; False if nobody is there."""
        if self._transport is None:
            return False
        data = _encode(message)
        self._transport.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
        return True

    async def flushed(self) -> None:
        """Return when the other end keeps up, or is gone."""
        await self._flushed.wait()

    async def ended(self) -> None:
        """Return when the other end is gone and all that it has sent has been read."""
        if self._transport is not None:
            await self._ended.wait()

    async def close(self) -> None:
        """Send what is under way, and hang up."""
        if self._transport is not None:
            self._transport.close()
            await self._ended.wait()

    # What the event loop calls.

    def connection_made(self, transport: Any) -> None:  # uvloop's is no asyncio.Transport
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport = None
        self._flushed.set()
        self._ended.set()
        self._on_lost()

    def pause_writing(self) -> None:
        self._flushed.clear()

    def resume_writing(self) -> None:
        self._flushed.set()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTH_BYTES:
            begin = start + _LENGTH_BYTES
            end = begin + int.from_bytes(buffer[start:begin], "big")
            if len(buffer) < end:
                break
            # Bytes of its own: a letter's payload must not keep all that came with it.
            self._on_message(self._decode(bytes(buffer[begin:end])))
            start = end
        del buffer[:start]
