"""A TCP or TLS connection, which the clients of protocols over streams are made of."""

import asyncio
import ssl
from types import TracebackType
from typing import Self

from conformance.check import CheckFailed


class Connection:
    """One connection, as an asynchronous context manager.

    Args:
        host, port: where to.
        tls: how it is secured; None for not at all.
        limit: bytes that a line may have.
    """

    def __init__(
        self, host: str, port: int, tls: ssl.SSLContext | None = None, limit: int = 1 << 16
    ) -> None:
        self._host, self._port = host, port
        self._tls = tls
        self._limit = limit

    async def __aenter__(self) -> Self:
        try:
            self._reader, self._writer = await asyncio.open_connection(
                self._host, self._port, ssl=self._tls, limit=self._limit
            )
        except OSError as error:
            raise CheckFailed("nobody listens there", got=str(error)) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._writer.transport.abort()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)
