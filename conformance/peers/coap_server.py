"""A CoAP server over UDP that keeps every request as it came and answers as it is told."""

import asyncio
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast

from conformance.peers.coap import Reply, read

BLOCK1 = 27
Script = Callable[[Reply], bytes]


def changed(request: Reply) -> bytes:
    """Return code and options that accept a request: 2.04, or 2.31 to a block with more to come."""
    block = request.options.get(BLOCK1)
    if block is None:
        return b"\x44"
    code = b"\x5f" if block and block[-1] & 8 else b"\x44"
    return code + bytes((0xD0 | len(block), BLOCK1 - 13)) + block


class CoapServer(asyncio.DatagramProtocol):
    """The server, as an asynchronous context manager.

    Attributes:
        requests: what came, in order.
        script: code, options and payload of the answer to a request.
    """

    def __init__(self) -> None:
        self.requests: list[Reply] = []
        self.script: Script = changed
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0), family=socket.AF_INET
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._opened.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self._opened.get_extra_info("sockname")[:2]
        return f"coap://{host}:{port}"

    @property
    def _opened(self) -> asyncio.DatagramTransport:
        return cast("asyncio.DatagramTransport", self._transport)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # uvloop's is no subclass

    def datagram_received(self, data: bytes, addr: Any) -> None:
        request = read(data)
        self.requests.append(request)
        answer = self.script(request)
        head = bytes((0x60 | len(request.token),)) + answer[:1] + request.mid + request.token
        self._opened.sendto(head + answer[1:], addr)
