"""A CoAP device over DTLS with a pre-shared key, on mbedtls and a socket of its own."""

import asyncio
from types import TracebackType
from typing import Any, Final, Self, cast

from mbedtls.exceptions import TLSError
from mbedtls.tls import ClientContext, DTLSConfiguration, WantReadError, WantWriteError

from conformance.check import CheckFailed
from conformance.peers.coap import Device, Reply, read
from conformance.peers.credentials import PSK

_SUITE: Final = "TLS-PSK-WITH-AES-128-CCM-8"
"""The one that every implementation has (RFC 7252 9.1.3.1)."""
_MAX_RECORD_BYTES: Final = 16384
_FLIGHT_SECONDS: Final = 2.0


class DtlsDevice(Device):
    """A session, which `connect` begins.

    Attributes:
        is_established: whether the handshake is done.

    Args:
        url: `coaps://host:port`.
        identity: of the key.
        key: default: the one that belongs to the identity.
    """

    def __init__(self, url: str, identity: str = "dev1", key: bytes | None = None) -> None:
        super().__init__(url)
        pair = (identity, PSK[identity] if key is None else key)
        context = ClientContext(
            DTLSConfiguration(
                validate_certificates=False,  # there are none
                ciphers=(_SUITE,),
                pre_shared_key=pair,
            )
        )
        self._session = context.wrap_buffers(None)
        self.is_established = False

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            self._session.shutdown()
            self.send_raw(self._taken())
        except (TLSError, OSError):  # there was no session, or nobody is there any more
            pass
        await super().__aexit__(kind, error, at)

    async def connect(self) -> Self:
        """Make the handshake.

        Raises:
            CheckFailed: it failed.
        """
        while not await self.continue_handshake():
            pass
        return self

    async def continue_handshake(self) -> bool:
        """Send a flight and take the answer; return whether the handshake is done.

        Raises:
            CheckFailed: it failed.
        """
        try:
            self.send_raw(self.flight())
            if self.is_established:
                return True
            self._session.receive_from_network(await self.receive_raw(_FLIGHT_SECONDS))
        except TLSError as error:
            raise CheckFailed("the handshake failed", got=str(error)) from error
        return False

    def flight(self) -> bytes:
        """Return what the handshake has to send now."""
        outgoing = b""
        try:
            while True:
                try:
                    self._session.do_handshake()
                except WantWriteError:
                    outgoing += self._taken()
        except WantReadError:
            pass
        except ValueError:  # the handshake is over
            self.is_established = True
        return outgoing + self._taken()

    def send_raw(self, record: bytes) -> None:
        """Send bytes as they are, no record if they are none."""
        if record:
            super().send(record)

    def send(self, datagram: bytes) -> None:
        self._session.write(datagram)
        self.send_raw(self._taken())

    async def receive(self, seconds: float = 5.0) -> Reply:
        plain = bytearray(_MAX_RECORD_BYTES)
        async with asyncio.timeout(seconds + 1):
            while True:
                self._session.receive_from_network(await self.receive_raw(seconds))
                try:
                    size = self._session.readinto(cast("bytes", plain), len(plain))
                except WantReadError:
                    continue
                except TLSError as error:
                    raise CheckFailed("the session was ended", got=str(error)) from error
                return read(bytes(plain[:size]))

    def _taken(self) -> bytes:
        outgoing: Any = self._session.peek_outgoing(2 * _MAX_RECORD_BYTES)
        self._session.consume_outgoing(len(outgoing))
        return bytes(outgoing)
