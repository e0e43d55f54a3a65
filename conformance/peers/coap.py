"""A CoAP device over UDP: it sends bytes as they are and has a reader of its own."""

import asyncio
import socket
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import msgspec

from conformance.check import CheckFailed

TYPES: Final = ("CON", "NON", "ACK", "RST")
_PING: Final = bytes.fromhex("4000fffe")
_RESET: Final = bytes.fromhex("7000fffe")


class Reply(msgspec.Struct, frozen=True):
    """A message, field by field (RFC 7252 section 3).

    Attributes:
        type: CON, NON, ACK or RST; "" on a connection, where there are none.
        code: as `2.04`.
        mid: two bytes; none on a connection.
        token: up to eight bytes.
        options: the value of each option by its number; of a repeated one the last.
        payload: what follows the marker.
        body: what follows the token, options and payload as they came.
        raw: the message as it came.
    """

    type: str
    code: str
    mid: bytes
    token: bytes
    options: dict[int, bytes]
    payload: bytes
    body: bytes
    raw: bytes


def read(datagram: bytes) -> Reply:
    """Take a datagram apart.

    Raises:
        CheckFailed: it is no CoAP message.
    """
    try:
        token_length = datagram[0] & 15
        options, position = read_options(datagram, 4 + token_length)
        return Reply(
            TYPES[datagram[0] >> 4 & 3],
            code_text(datagram[1]),
            datagram[2:4],
            datagram[4 : 4 + token_length],
            options,
            datagram[position + 1 :],
            datagram[4 + token_length :],
            datagram,
        )
    except IndexError:
        raise CheckFailed("the answer is no CoAP message", got=datagram.hex()) from None


def code_text(code: int) -> str:
    """Return a code as people write it, such as `2.04`."""
    return f"{code >> 5}.{code & 31:02}"


def read_options(datagram: bytes, position: int) -> tuple[dict[int, bytes], int]:
    """Return the options that begin at a position, of repeated ones the last, and where they end.

    Raises:
        IndexError: they are cut off.
    """
    pairs, position = read_all_options(datagram, position)
    return dict(pairs), position


def read_all_options(datagram: bytes, position: int) -> tuple[list[tuple[int, bytes]], int]:
    """Return number and value of the options that begin at a position, and where they end.

    Raises:
        IndexError: they are cut off.
    """
    options: list[tuple[int, bytes]] = []
    number = 0
    while position < len(datagram) and datagram[position] != 0xFF:
        first = datagram[position]
        delta, position = _extended(datagram, first >> 4, position + 1)
        length, position = _extended(datagram, first & 15, position)
        number += delta
        options.append((number, datagram[position : position + length]))
        position += length
    return options, position


def _extended(datagram: bytes, nibble: int, position: int) -> tuple[int, int]:
    if nibble == 13:
        return datagram[position] + 13, position + 1
    if nibble == 14:
        return int.from_bytes(datagram[position : position + 2], "big") + 269, position + 2
    return nibble, position


# A gateway remembers message ids of an endpoint for minutes, so no port may speak to it twice.
_SPOKEN_TO: Final = set[tuple[Any, int]]()


def _socket_of_a_new_endpoint(family: int, address: Any) -> socket.socket:
    """Return a socket whose port has not spoken to an address since the process began."""
    unsuitable = []
    try:
        while True:
            one = socket.socket(family, socket.SOCK_DGRAM)
            one.setblocking(False)  # noqa: FBT003 - the library's interface
            one.connect(address)
            pair = address, one.getsockname()[1]
            if pair not in _SPOKEN_TO:
                _SPOKEN_TO.add(pair)
                return one
            unsuitable.append(one)  # kept for now, so that another port comes next
    finally:
        for one in unsuitable:
            one.close()


class Device:
    """A UDP socket of its own port, as an asynchronous context manager.

    Args:
        url: `coap://host:port`.
    """

    def __init__(self, url: str) -> None:
        at = urlsplit(url)
        self._address = (at.hostname or "127.0.0.1", at.port or 5683)
        self._socket: Any = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        ((family, _, _, _, address), *_) = await loop.getaddrinfo(
            *self._address, type=socket.SOCK_DGRAM
        )
        self._socket = _socket_of_a_new_endpoint(family, address)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._socket.close()

    def turn_to(self, url: str) -> None:
        """Speak to another gateway of the same family of addresses, from the same port."""
        at = urlsplit(url)
        self._socket.connect((at.hostname, at.port))

    def send(self, datagram: bytes) -> None:
        """Send a datagram."""
        self._socket.send(datagram)

    async def receive(self, seconds: float = 5.0) -> Reply:
        """Wait for the next datagram.

        Raises:
            CheckFailed: none came in time, or it is no CoAP message.
        """
        return read(await self.receive_raw(seconds))

    async def receive_raw(self, seconds: float = 5.0) -> bytes:
        """Wait for the next datagram, whatever it holds.

        Raises:
            CheckFailed: none came in time.
        """
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.get_running_loop().sock_recv(self._socket, 65536)
        except TimeoutError:
            raise CheckFailed("no answer came", expected=f"one within {seconds} s") from None
        except OSError as error:
            raise CheckFailed("nobody listens there", got=str(error)) from error

    async def expect_silence(self) -> None:
        """Check that nothing was answered: a ping is answered at once, and overtakes nothing.

        Raises:
            CheckFailed: something came before the answer to the ping.
        """
        self.send(_PING)
        reply = await self.receive()
        if reply.raw != _RESET:
            raise CheckFailed(
                "an answer came where there should be none", expected="none", got=reply.raw.hex()
            )
