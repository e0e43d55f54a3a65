"""A scripted HTTP/1.1 server: keeps every request as it came and answers as it is told."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Self, cast

import httptools

from conformance.check import CheckFailed
from conformance.target import Request, Response

_REASONS = {200: "OK", 202: "Accepted", 204: "No Content", 503: "Service Unavailable"}

Script = Callable[[Request], Response]


class HttpServer:
    """The server, as an asynchronous context manager.

    Args:
        host, port: where to listen; port 0 takes a free one.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._host, self._port = host, port
        self._server: asyncio.Server | None = None
        self._requests: list[Request] = []
        self._changed = asyncio.Event()
        self.connections: list[_Connection] = []
        self.script: Script = lambda _: Response()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self._host}:{self._port}"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self._host, self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        server = cast("asyncio.Server", self._server)
        server.close()
        for connection in self.connections:
            connection.transport.abort()
        await server.wait_closed()

    def forget(self) -> None:
        """Forget the requests so far."""
        self._requests.clear()

    async def requests(self, count: int, seconds: float = 5.0) -> Sequence[Request]:
        """Wait for at least `count` requests since `forget`; return all of them, in order.

        Raises:
            CheckFailed: fewer came in time.
        """
        try:
            async with asyncio.timeout(seconds):
                while len(self._requests) < count:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            came = len(self._requests)
            raise CheckFailed(
                "too few requests came", expected=f"{count} within {seconds} s", got=str(came)
            ) from None
        return list(self._requests)

    def take(self, request: Request) -> Response:
        """Keep a request and return its answer."""
        self._requests.append(request)
        response = self.script(request)
        self._changed.set()
        return response


class _Connection(asyncio.Protocol):
    """One connection: requests are answered in their order."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._body = bytearray()
        self._delayed: list[asyncio.TimerHandle] = []
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._number = len(self._server.connections)
        self._server.connections.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        for handle in self._delayed:
            handle.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_message_begin(self) -> None:
        self._target, self._headers, self._body = b"", [], bytearray()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        request = Request(
            method=self._parser.get_method().decode("ascii"),
            target=self._target.decode("latin-1"),
            headers=self._headers,
            body=bytes(self._body),
            at=time.monotonic(),
            connection=self._number,
        )
        response = self._server.take(request)
        if response.delay:
            loop = asyncio.get_running_loop()
            self._delayed.append(loop.call_later(response.delay, self._answer, response))
        else:
            self._answer(response)

    def _answer(self, response: Response) -> None:
        if self.transport.is_closing():
            return
        if response.raw:
            self.transport.write(response.raw)
            self.transport.close()
            return
        if response.status == 0:
            self.transport.abort()
            return
        reason = _REASONS.get(response.status, "Status")
        lines = [f"HTTP/1.1 {response.status} {reason}"]
        lines += [f"{name}: {value}" for name, value in response.headers]
        if response.status >= 200 and response.status != 204:
            lines.append(f"Content-Length: {len(response.body)}")
        head = "\r\n".join(lines) + "\r\n\r\n"
        self.transport.write(head.encode("latin-1") + response.body)
        if response.close:
            self.transport.close()
