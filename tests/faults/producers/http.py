"""HTTP senders: a connection per key, binary mode, an event at a time."""

import asyncio
from typing import Any, Final

from tests.e2e.servers import HOST
from tests.faults.ledger import Ledger
from tests.faults.producers.producer import RECONNECT_SECONDS, OneAtATime
from tests.faults.sample import Sample

_PERMANENT: Final = {400, 401, 403, 404, 410, 413, 415, 422}
LONGEST_RETRY_AFTER: Final = 0.5
"""A sender should wait as long as it is told; here the load has to go on."""
_ANSWER_SECONDS: Final = 90.0
"""Longer than the gateway's own `ack_timeout`: it says 504 before a sender gives up."""


class HttpProducer(OneAtATime):
    """Posts events; 2xx is the acknowledgement.

    Attributes:
        answer_seconds: how long it waits for an answer.

    Args:
        port: of the gateway's HTTP source.
    """

    answer_seconds = _ANSWER_SECONDS

    def __init__(self, port: int, sample: Sample, ledger: Ledger, **load: Any) -> None:
        super().__init__(load.pop("name", "http"), sample, ledger, **load)
        self._port = port
        self._clients: dict[str, _Client] = {}

    async def stop(self, seconds: float = 20) -> None:
        await super().stop(seconds)
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    async def _send(self, key: str, number: int) -> float | None:
        client = self._clients.get(key)
        try:
            if client is None or client.is_closed:
                client = await self.connect(_Client, self._port)
                self._clients[key] = client
            async with asyncio.timeout(self.answer_seconds):
                status, retry_after = await client.post(self._request(key, number))
        except (OSError, TimeoutError):
            if client is not None:
                client.close()
            return RECONNECT_SECONDS
        if 200 <= status < 300:
            self.ledger.ack(key, number)
            return None
        if status in _PERMANENT:
            self.ledger.refuse(key, number, status)
            return None
        return min(retry_after, LONGEST_RETRY_AFTER)

    def _request(self, key: str, number: int) -> bytes:
        attributes = self.sample.attributes(key, number)
        content_type = attributes.pop("datacontenttype")
        data = self.sample.data(key, number)
        lines = [f"ce-{name}: {value}" for name, value in attributes.items()]
        lines += [f"host: {HOST}", f"content-type: {content_type}", f"content-length: {len(data)}"]
        return "\r\n".join(["POST / HTTP/1.1", *lines, "", ""]).encode() + data


class _Client(asyncio.Protocol):
    """One connection; answers have a Content-Length, as the gateway's do."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._answer: asyncio.Future[tuple[int, float]] | None = None
        self._buffer = b""
        self.is_closed = False

    async def post(self, request: bytes) -> tuple[int, float]:
        """Send a request and return status and Retry-After.

        Raises:
            ConnectionError: it was closed before the whole answer came.
        """
        if self.is_closed:
            raise ConnectionResetError
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        self.is_closed = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        if len(body) < int(headers.get("content-length", 0)):
            return
        self._buffer = b""
        if headers.get("connection", "").lower() == "close":
            self.is_closed = True
        if self._answer is not None and not self._answer.done():
            seconds = headers.get("retry-after", "")
            self._answer.set_result(
                (int(status_line.split(" ")[1]), float(seconds) if seconds.isdigit() else 0.1)
            )
