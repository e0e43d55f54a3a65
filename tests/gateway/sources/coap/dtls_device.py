"""A device that talks DTLS to the CoAP source, with mbedtls on a socket of its own."""

import asyncio
import socket
from contextlib import asynccontextmanager

from mbedtls.exceptions import TLSError
from mbedtls.tls import (
    ClientContext,
    DTLSConfiguration,
    WantReadError,
    WantWriteError,
)

from gateway.config.records import Address
from tests.gateway.sources.coap.device import Device, running

LOOPBACK = Address("127.0.0.1", 0)
KEYS = {
    "dev1": {"key": "open sesame"},
    "dev2": {"key_hex": "ff00fe01"},
    "gw": {"key": "field gateway", "may_speak_for": ["/plant"], "label": "line 7"},
}
SECRETS = {"dev1": b"open sesame", "dev2": b"\xff\0\xfe\x01", "gw": b"field gateway"}
MANDATORY_SUITE = "TLS-PSK-WITH-AES-128-CCM-8"
ALERT, HANDSHAKE, APPLICATION_DATA = 21, 22, 23


def listening(intake, **changes):
    """A source that listens for DTLS only."""
    return running(intake, **{"listen": None, "listen_dtls": LOOPBACK, "psk": KEYS, **changes})


class DtlsDevice(Device):
    """A socket of its own port, and one DTLS session over it at a time."""

    def __init__(self, source, identity="dev1", key=None, suites=(MANDATORY_SUITE,), port=0):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(("127.0.0.1", port))
        self.socket.connect(source.dtls_address)
        self._context = ClientContext(
            DTLSConfiguration(
                validate_certificates=False,
                ciphers=suites,
                pre_shared_key=(identity, SECRETS.get(identity, b"?") if key is None else key),
            )
        )
        self.begin()

    @property
    def port(self):
        return self.socket.getsockname()[1]

    def begin(self):
        """Forget the session, as after a loss of power."""
        self.session = self._context.wrap_buffers(None)
        self.is_established = False

    # --- records ------------------------------------------------------------------------------

    def flight(self):
        """Return what the handshake has to send now."""
        outgoing = b""
        try:
            while True:
                try:
                    self.session.do_handshake()
                except WantWriteError:
                    outgoing += self._taken()
        except WantReadError:
            return outgoing + self._taken()
        except ValueError:  # the handshake is over
            self.is_established = True
            return outgoing + self._taken()

    def encrypted(self, datagram):
        self.session.write(datagram)
        return self._taken()

    def _taken(self):
        outgoing = self.session.peek_outgoing(65536)
        self.session.consume_outgoing(len(outgoing))
        return outgoing

    def send_raw(self, record):
        self.socket.send(record)

    async def receive_raw(self, seconds=5):
        return await super().receive(seconds)

    async def ask_raw(self, record):
        self.send_raw(record)
        return await self.receive_raw()

    # --- sessions -----------------------------------------------------------------------------

    async def hello(self):
        """Send a ClientHello; return the one with the cookie that comes back."""
        first = self.flight()
        self.session.receive_from_network(await self.ask_raw(first))
        again = self.flight()
        # After a second, by its clock, mbedtls repeats its flight before it reads the answer.
        return again if len(again) > len(first) else self.flight()

    async def connect(self):
        """Make the four flights after the cookie."""
        self.session.receive_from_network(await self.ask_raw(await self.hello()))
        await self.finish()
        return self

    async def finish(self):
        """Make the rest of the handshake; a flight that comes once more is no matter."""
        while True:
            if outgoing := self.flight():
                self.send_raw(outgoing)
            if self.is_established:
                return
            self.session.receive_from_network(await self.receive_raw())

    def close(self):
        self.session.shutdown()
        self.send_raw(self._taken())

    async def expect_end(self):
        """The session is closed by the other side."""
        record = await self.receive_raw()
        assert record[0] == ALERT
        self.session.receive_from_network(record)
        try:
            self.session.readinto(bytearray(100), 100)
        except TLSError as error:
            assert "going to be closed" in str(error)  # noqa: PT017 - that is all it offers
        else:
            raise AssertionError("the session is open")

    # --- datagrams ----------------------------------------------------------------------------

    def send(self, datagram):
        plain = bytes.fromhex(datagram) if isinstance(datagram, str) else datagram
        self.send_raw(self.encrypted(plain))

    async def receive(self, seconds=5):
        plain = bytearray(16384)
        async with asyncio.timeout(seconds):
            while True:
                record = await self.receive_raw(seconds)
                self.session.receive_from_network(record)
                try:
                    size = self.session.readinto(plain, len(plain))
                except WantReadError:
                    continue
                return bytes(plain[:size])


@asynccontextmanager
async def connected(source, identity="dev1", **options):
    with DtlsDevice(source, identity, **options) as device:
        yield await device.connect()
