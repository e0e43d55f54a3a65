"""An HTTP/1.1 client that sends bytes as they are and has a reader of its own (RFC 9112)."""

import asyncio
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from bindings.binding import Message
from conformance.check import CheckFailed
from conformance.peers.connection import Connection


class Response(msgspec.Struct, frozen=True):
    """An answer.

    Attributes:
        status: its code.
        headers: in their order, names in lower case.
        body: the payload.
        head: status line and headers as they came, for people.
    """

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    head: str

    def header(self, name: str) -> str | None:
        """Return a header's value by its name in lower case; None if there is none."""
        return next((value for key, value in self.headers if key == name), None)


def post(message: Message, target: str = "/", host: str = "conformance") -> bytes:
    """Write a POST by hand.

    Raises:
        UnicodeEncodeError: a header holds what no byte stands for.
    """
    payload = message.payload or b""
    lines = [f"POST {target} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(payload)}"]
    if message.content_type:
        lines.append(f"Content-Type: {message.content_type}")
    lines += [f"{name}: {value}" for name, value in message.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + payload


class HttpClient(Connection):
    """One connection, as an asynchronous context manager.

    Args:
        url: `http://host:port/path`.
        tls: how `https` is spoken.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        at = urlsplit(url)
        tls = tls or (ssl.create_default_context() if at.scheme == "https" else None)
        port = at.port or (443 if tls else 80)
        super().__init__(at.hostname or "127.0.0.1", port, tls, limit=1 << 20)
        self.target = at.path or "/"
        if at.query:
            self.target += f"?{at.query}"

    async def receive(self, seconds: float = 5.0) -> Response:
        """Wait for the next answer; interim ones (1xx) are passed over.

        Raises:
            CheckFailed: none came in time, or it is no HTTP.
        """
        try:
            async with asyncio.timeout(seconds):
                while True:
                    response = await self._response()
                    if response.status >= 200:
                        return response
        except TimeoutError:
            raise CheckFailed("no answer came", expected=f"one within {seconds} s") from None
        except (EOFError, OSError) as error:
            raise CheckFailed("the connection was closed without an answer") from error
        except (ValueError, asyncio.LimitOverrunError) as error:
            raise CheckFailed("the answer is no HTTP", got=str(error)) from error

    async def is_silent(self, seconds: float) -> bool:
        """Whether nothing comes for that long."""
        try:
            async with asyncio.timeout(seconds):
                await self.receive(seconds * 2)
        except TimeoutError:
            return True
        return False

    async def head(self) -> Response:
        """Return the next answer but for its body, as after HEAD."""
        return await self._head()

    async def _response(self) -> Response:
        response = await self._head()
        if response.status < 200 or response.status in {204, 304}:
            return response
        body = await self._body(dict(response.headers))
        return Response(response.status, response.headers, body, response.head)

    async def _head(self) -> Response:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        version, status, *_ = first.split(" ", 2)
        if not version.startswith("HTTP/1."):
            raise ValueError(first)
        headers = []
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise ValueError(line)
            headers.append((name.lower(), value.strip(" \t")))
        return Response(int(status), headers, b"", head.strip())

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            chunks = []
            while size := int((await self._reader.readuntil(b"\r\n")).partition(b";")[0], 16):
                chunks.append(await self._reader.readexactly(size))
                await self._reader.readexactly(2)
            while await self._reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return b"".join(chunks)
        if "content-length" in headers:
            return await self._reader.readexactly(int(headers["content-length"]))
        return await self._reader.read()
