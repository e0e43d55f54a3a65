"""`ce-gateway send coaps://...`: what is below the CoAP client, DTLS with a pre-shared key."""

import asyncio
from typing import Any, Final, cast

from mbedtls.exceptions import TLSError
from mbedtls.tls import (
    ClientContext,
    DTLSConfiguration,
    DTLSVersion,
    WantReadError,
    WantWriteError,
    ciphers_available,
)

from gateway.cli.senders import SendError, SendOptions

_HEX_PREFIX: Final = "hex:"
_WITH_KEYS: Final = ("TLS-PSK-", "TLS-ECDHE-PSK-")
"""No other suites: with a certificate, which is not checked, anybody could be the server."""
_TICK_SECONDS: Final = 0.25
"""How often a handshake is looked at; mbedtls repeats a flight after 1 s, 2 s, 4 s, ..."""
_MAX_RECORD_BYTES: Final = 16384
_MAX_OUTGOING_BYTES: Final = 32768


class DtlsTransport(asyncio.DatagramTransport, asyncio.DatagramProtocol):
    """A transport for the protocol above it, a protocol for the socket below."""

    def __init__(self, above: asyncio.DatagramProtocol, options: SendOptions) -> None:
        """Prepare a session.

        Raises:
            SendError: identity or key can't be used.
        """
        super().__init__()
        self._above = above
        self._timeout = options.timeout
        self._buffer = _context(options).wrap_buffers(None)
        self._below: asyncio.DatagramTransport | None = None
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None

    async def shake_hands(self) -> None:
        """Return when the session is there, and the protocol above is connected.

        Raises:
            SendError: it can't be.
        """
        self._go_on()
        try:
            async with asyncio.timeout(self._timeout):
                await self._done
        except TimeoutError:
            raise SendError(
                f"no DTLS handshake within {self._timeout:g} s; "
                "does anything listen there, and is the key right?"
            ) from None
        finally:
            if self._timer is not None:
                self._timer.cancel()
        self._above.connection_made(self)

    # --- for the socket -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._below = cast(asyncio.DatagramTransport, transport)  # uvloop's is no subclass

    def error_received(self, exc: Exception) -> None:
        if not self._done.done():
            self._done.set_exception(SendError(f"{exc}; does anything listen there?"))
        else:
            self._above.error_received(exc)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._buffer.receive_from_network(data)
        if not self._done.done():
            self._go_on()
        if self._done.done():
            self._read(addr)

    # --- for the protocol ---------------------------------------------------------------------

    def sendto(self, data: Any, addr: Any = None) -> None:
        del addr  # there is one peer
        self._buffer.write(data)
        self._flush()

    def close(self) -> None:
        self._buffer.shutdown()
        self._flush()
        if self._below is not None:
            self._below.close()

    # --- DTLS ---------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Go on with the handshake, for a datagram or for the time that has passed."""
        if self._timer is not None:
            self._timer.cancel()
        for _ in range(2):  # when it is time to repeat a flight, that is done before reading
            self._step()
        if not self._done.done():
            self._timer = self._loop.call_later(_TICK_SECONDS, self._go_on)

    def _step(self) -> None:
        try:
            while not self._done.done():
                try:
                    self._buffer.do_handshake()
                except WantWriteError:
                    self._flush()
        except WantReadError:
            pass
        except ValueError:  # it is over
            self._done.set_result(None)
        except TLSError as error:
            self._done.set_exception(SendError(f"DTLS: {error}; are identity and key right?"))
        self._flush()

    def _read(self, addr: Any) -> None:
        plain = bytearray(_MAX_RECORD_BYTES)
        try:
            while True:
                size = self._buffer.readinto(cast("bytes", plain), len(plain))
                self._above.datagram_received(bytes(plain[:size]), addr)
        except (WantReadError, WantWriteError):
            self._flush()
        except TLSError:
            self._above.error_received(ConnectionResetError("the DTLS session was closed"))

    def _flush(self) -> None:
        outgoing = self._buffer.peek_outgoing(_MAX_OUTGOING_BYTES)
        if outgoing:
            self._buffer.consume_outgoing(len(outgoing))
            if self._below is not None:
                self._below.sendto(outgoing)


def _identity_and_key(options: SendOptions) -> tuple[str, bytes]:
    """Return identity and key.

    Raises:
        SendError: the key is no hexadecimal number.
    """
    identity, key = options.psk_identity or "", options.psk_key or ""
    if not key.startswith(_HEX_PREFIX):
        return identity, key.encode()
    try:
        return identity, bytes.fromhex(key.removeprefix(_HEX_PREFIX))
    except ValueError:
        raise SendError("--psk-key: no hexadecimal number after hex:") from None


def _context(options: SendOptions) -> ClientContext:
    try:
        return ClientContext(
            DTLSConfiguration(
                validate_certificates=False,  # there are none
                lowest_supported_version=DTLSVersion.DTLSv1_2,
                ciphers=tuple(name for name in ciphers_available() if name.startswith(_WITH_KEYS)),
                pre_shared_key=_identity_and_key(options),
            )
        )
    except TLSError as error:
        raise SendError("--psk-key: 1 to 32 bytes are possible") from error
