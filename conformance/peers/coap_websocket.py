"""A CoAP device on a WebSocket (RFC 8323 section 4), with the library `websockets`."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self, cast

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from conformance.check import CheckFailed
from conformance.peers.coap import Reply
from conformance.peers.coap_stream import CSM, reply_of

PATH: Final = "/.well-known/coap"


class WebSocketRefused(Exception):  # noqa: N818 - it may be the right answer
    """The handshake was answered with something else than 101."""


class WebSocketDevice:
    """A connection, as an asynchronous context manager.

    Args:
        url: `coap+ws://host:port`.
        path: of the handshake.
        subprotocols: that are offered.
    """

    def __init__(
        self, url: str, path: str = PATH, subprotocols: Sequence[str] | None = ("coap",)
    ) -> None:
        self._url = url.removeprefix("coap+") + path
        self._subprotocols = subprotocols
        self._socket: Any = None

    async def __aenter__(self) -> Self:
        offered = cast("Sequence[Subprotocol] | None", self._subprotocols)
        try:
            self._socket = await connect(
                self._url, subprotocols=offered, compression=None, proxy=None
            )
        except InvalidHandshake as error:
            raise WebSocketRefused(str(error)) from error
        except OSError as error:
            raise CheckFailed("no connection", got=str(error)) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._socket.close()

    @property
    def subprotocol(self) -> str | None:
        """What the other side has chosen."""
        return cast("str | None", self._socket.subprotocol)

    async def greet(self, options: bytes = b"") -> Reply:
        """Exchange CSMs; return the other side's.

        Args:
            options: of ours.
        """
        return await self.ask(CSM, rest=options)

    async def send(self, message: bytes | str | Sequence[bytes]) -> None:
        """Send one message, whatever it holds; str is a text message, a sequence has fragments."""
        await self._socket.send(message)

    async def receive(self, seconds: float = 5.0) -> Reply:
        """Wait for the next message.

        Raises:
            CheckFailed: none came in time, it is text, or the connection ended.
        """
        try:
            async with asyncio.timeout(seconds):
                message = await self._socket.recv()
        except TimeoutError:
            raise CheckFailed("no answer came", expected=f"one within {seconds} s") from None
        except ConnectionClosed as error:
            raise CheckFailed("the connection ended", got=str(error)) from error
        if isinstance(message, str):
            raise CheckFailed("the answer is a text message", got=message)
        return reply_of(message, 1)

    async def ask(self, code: int, token: bytes = b"", rest: bytes = b"") -> Reply:
        """Send a message, whose length is 0 here, and return the next that comes."""
        await self.send(bytes((len(token), code)) + token + rest)
        return await self.receive()

    async def expect_end(self) -> None:
        """Wait until the other side has closed.

        Raises:
            CheckFailed: it does not.
        """
        try:
            async with asyncio.timeout(5):
                while True:
                    await self._socket.recv()
        except ConnectionClosed:
            return
        except TimeoutError:
            raise CheckFailed("the connection stays open") from None
