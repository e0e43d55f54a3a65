"""A UDP socket at work: all datagrams that one wake-up finds, and sending without waiting."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Final

from gateway.config.records import Address
from gateway.sources.coap.listener import SocketAddress, bound_address, open_socket

_log = logging.getLogger(__name__)

_READS_PER_WAKE_UP: Final = 256
"""Enough to share the cost of a submit; few enough (8 ms) not to hold up other sources."""
_DATAGRAM_BYTES: Final = 65536


class DatagramSocket:
    """A bound UDP socket that says when there is something to read."""

    def __init__(self) -> None:
        self._buffer = bytearray(_DATAGRAM_BYTES)
        self._socket: socket.socket | None = None

    @property
    def address(self) -> Address:
        """Where it is bound, with the port that the system chose.

        Raises:
            RuntimeError: it is not open.
        """
        if self._socket is None:
            raise RuntimeError("the socket is not open")
        return bound_address(self._socket)

    async def open(
        self,
        listen: Address,
        receive_buffer_bytes: int,
        on_readable: Callable[[], None],
        *,
        reuse_port: bool = False,
    ) -> None:
        """Bind; `on_readable` is called on each wake-up and has to `read`.

        Args:
            listen: the address.
            receive_buffer_bytes: what the system keeps until it is read.
            on_readable: the callback.
            reuse_port: whether other workers listen there, too.

        Raises:
            ListenError: the host is unknown or the port is taken.
        """
        self._socket = await open_socket(listen, receive_buffer_bytes, reuse_port=reuse_port)
        asyncio.get_running_loop().add_reader(self._socket.fileno(), on_readable)

    def read(self) -> Iterator[tuple[bytes, SocketAddress]]:
        """Yield the datagrams that have arrived, with their senders; 256 at most."""
        view = memoryview(self._buffer)
        for _ in range(_READS_PER_WAKE_UP):
            if self._socket is None:
                return
            try:
                size, address = self._socket.recvfrom_into(self._buffer)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:  # what an ICMP message said of an earlier answer
                _log.debug("can't receive: %s", error)
                continue
            yield bytes(view[:size]), address

    def send(self, datagram: bytes, address: SocketAddress) -> None:
        """Send, if the system takes it now; nothing once it is closed."""
        if self._socket is None:
            return
        try:
            self._socket.sendto(datagram, address)
        except OSError as error:
            # As lost on the way: the sender repeats its request and the answer is kept.
            _log.debug("can't answer: %s", error)

    def close(self) -> None:
        """Read and send no more."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
