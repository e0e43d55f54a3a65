"""One DTLS session with a pre-shared key, and what is read of records before mbedtls gets them."""

from typing import Final, cast

from mbedtls.tls import TLSWrappedBuffer, WantReadError, WantWriteError, ciphers_available

from bindings.coap import Identity
from gateway.sources.coap.datagrams import DatagramSocket
from gateway.sources.coap.listener import SocketAddress
from gateway.sources.coap.peers import Endpoint

APPLICATION_DATA: Final = b"\x17"
"""The first byte of a record with data of ours."""

_MAX_OUTGOING_BYTES: Final = 32768
"""More than mbedtls ever has to say at once."""

# Where things are in a record, and in one that begins with a ClientHello (RFC 6347 4.3).
_CONTENT_TYPE: Final = 0
_EPOCH: Final = slice(3, 5)
_LENGTH: Final = slice(11, 13)
_HEADER_BYTES: Final = 13
_HANDSHAKE_TYPE: Final = 13
_CLIENT_RANDOM: Final = slice(27, 59)
_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_NO_EPOCH: Final = b"\0\0"
_SESSION_EPOCH: Final = b"\0\1"
"""The only one, as mbedtls is told not to negotiate again."""


class Session:
    """The DTLS session of one address and port; it carries datagrams to its endpoint.

    Attributes:
        address: whose it is.
        client_random: what tells a repeated ClientHello from a new one.
        identity: whose key the peer has, once it has said so.
        endpoint: for requests; None until the handshake is done.
        last_used: monotonic seconds.
        has_spoken: whether anything has been sent.
        is_over: whether nothing can be sent or received any more.
    """

    __slots__ = (
        "_buffer",
        "_socket",
        "address",
        "client_random",
        "endpoint",
        "has_spoken",
        "identity",
        "is_over",
        "last_used",
    )

    def __init__(
        self, buffer: TLSWrappedBuffer, socket: DatagramSocket, address: SocketAddress, now: float
    ) -> None:
        self._buffer = buffer
        self._socket = socket
        self.address = address
        self.client_random = b""
        self.identity: Identity | None = None
        self.endpoint: Endpoint | None = None
        self.last_used = now
        self.has_spoken = False
        self.is_over = False

    def feed(self, datagram: bytes) -> None:
        """Give mbedtls a datagram, which it does not look at yet."""
        self._buffer.receive_from_network(datagram)

    def shake_hands(self) -> bool:
        """Go on with the handshake as far as possible; True when it is done.

        Raises:
            HelloVerifyRequest: the ClientHello had no cookie, and has been answered.
            TLSError: it has failed, and the peer has been told.
        """
        try:
            while True:
                try:
                    self._buffer.do_handshake()
                except WantWriteError:
                    self._flush()
        except WantReadError:
            return False
        except ValueError:  # it is over already
            return True
        finally:
            self._flush()

    def read_into(self, plain: bytearray) -> int:
        """Decrypt one record; 0 when there is none.

        Raises:
            TLSError: the peer has closed the session.
        """
        try:
            return self._buffer.readinto(cast("bytes", plain), len(plain))
        except (WantReadError, WantWriteError):
            self._flush()  # the last flight, when the peer has repeated its own
            return 0

    def send(self, datagram: bytes, _address: SocketAddress) -> None:
        """Encrypt and send a datagram; nothing once the session is over."""
        if self.is_over:
            return
        self._buffer.write(datagram)
        self._flush()

    def close(self) -> None:
        """Say goodbye, with what is needed for it at hand."""
        if not self.is_over:
            self.is_over = True
            self._buffer.shutdown()
            self._flush()

    def _flush(self) -> None:
        # A flight without certificates has 400 bytes at most, so that it is one datagram.
        outgoing = self._buffer.peek_outgoing(_MAX_OUTGOING_BYTES)
        if outgoing:
            self.has_spoken = True
            self._buffer.consume_outgoing(len(outgoing))
            self._socket.send(outgoing, self.address)


def client_random_of(datagram: bytes) -> bytes:
    """Return the random bytes of a ClientHello outside a session; none of all else."""
    if (
        len(datagram) >= _CLIENT_RANDOM.stop
        and datagram[_CONTENT_TYPE] == _HANDSHAKE
        and datagram[_EPOCH] == _NO_EPOCH
        and datagram[_HANDSHAKE_TYPE] == _CLIENT_HELLO
    ):
        return datagram[_CLIENT_RANDOM]
    return b""


def encrypted_records(datagram: bytes) -> bytes:
    """Return the records of a datagram but for those outside a session.

    Anybody can write those, and there are some that make mbedtls give a session up.
    """
    kept = []
    while len(header := datagram[:_HEADER_BYTES]) == _HEADER_BYTES:
        end = _HEADER_BYTES + int.from_bytes(header[_LENGTH], "big")
        if header[_EPOCH] == _SESSION_EPOCH:
            kept.append(datagram[:end])
        datagram = datagram[end:]
    return b"".join(kept)


def cipher_suites() -> tuple[str, ...]:
    """Return the suites with nothing but a pre-shared key, and authenticated encryption.

    TLS_PSK_WITH_AES_128_CCM_8, which every CoAP device with keys has (RFC 7252 9.1.3.1), is one.
    There is none with a key exchange: mbedtls takes its largest curve for that, which is 5 ms that
    anybody could make us spend before showing a key, where a handshake takes 0.1 ms else.
    """
    return tuple(
        name
        for name in ciphers_available()
        if name.startswith("TLS-PSK-")
        and any(kind in name for kind in ("-GCM-", "-CCM", "-POLY1305-"))
    )
