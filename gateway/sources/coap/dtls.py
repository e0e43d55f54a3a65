"""CoAP over DTLS with pre-shared keys (RFC 7252 9.1.3.1), on mbedtls.

mbedtls has the protocol; here are the socket, the sessions and the time. A peer costs nothing until
it has returned the cookie of HelloVerifyRequest (RFC 6347 4.2.1): every new ClientHello goes to one
buffer, the greeter, that keeps nothing of it. One with its cookie makes the greeter the buffer of
a new session: under way until the handshake is done, and established until it is closed, idle, or
one of too many. Then the identity that has the most sessions loses its least used one, so that
nobody ends those of others by beginning many.

One timer serves all sessions. What is malformed, repeated or forged is dropped by mbedtls without
a word (RFC 6347 4.1.2.7).
"""

import asyncio
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from mbedtls.exceptions import TLSError
from mbedtls.tls import (
    DTLSConfiguration,
    DTLSVersion,
    HelloVerifyRequest,
    ServerContext,
)

from bindings.coap import Identity
from gateway.config.records import Address
from gateway.interfaces import Intake
from gateway.sources.coap.config import CoapSourceConfig
from gateway.sources.coap.datagrams import DatagramSocket
from gateway.sources.coap.dtls_session import (
    APPLICATION_DATA,
    Session,
    cipher_suites,
    client_random_of,
    encrypted_records,
)
from gateway.sources.coap.listener import SocketAddress
from gateway.sources.coap.peers import Endpoint
from gateway.sources.coap.psk import KeyStore

MAX_HANDSHAKES: Final = 1024
"""How many handshakes are under way at most: with one more the oldest is given up."""
FLIGHT_SECONDS: Final = 9.0
"""When mbedtls repeats a flight for the first time; then after twice as long (RFC 7925 11).

Devices repeat theirs earlier, which makes mbedtls repeat ours too. With the 1 s of RFC 6347 both
do it at the same time, and then libcoap on GnuTLS never repeats its flight.
"""

_MAX_DATAGRAM_BYTES: Final = 16384
"""More than one record with the largest CoAP message; mbedtls buffers twice as much."""
_TICK_SECONDS: Final = 0.5
"""How often handshakes are looked at."""


class DtlsListener:
    """The DTLS socket of one source, and the sessions of its peers."""

    def __init__(
        self,
        config: CoapSourceConfig,
        intake: Intake,
        take: Callable[[Iterable[tuple[bytes, Endpoint]]], None],
        forget: Callable[[Endpoint], None],
    ) -> None:
        """Prepare to listen.

        Args:
            config: the source's table.
            intake: counts what is refused.
            take: called with what one wake-up brings: datagrams as over plain UDP.
            forget: called with the endpoint of a session that is over.
        """
        self._config = config
        self._intake = intake
        self._take = take
        self._forget = forget
        self._loop = asyncio.get_running_loop()
        self._socket = DatagramSocket()
        self._keys = KeyStore(config.psk)
        self._context = ServerContext(
            DTLSConfiguration(
                validate_certificates=False,  # there are none
                ciphers=cipher_suites(),
                lowest_supported_version=DTLSVersion.DTLSv1_2,
                handshake_timeout_min=FLIGHT_SECONDS,
                pre_shared_key_store=self._keys,
            )
        )
        self._greeter = self._context.wrap_buffers()
        self._handshakes: OrderedDict[SocketAddress, Session] = OrderedDict()  # by their beginning
        self._sessions: OrderedDict[SocketAddress, Session] = OrderedDict()  # by their last use
        self._count = 0
        self._plain = bytearray(_MAX_DATAGRAM_BYTES)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0  # uvloop's handles may have no `when`

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def address(self) -> Address:
        """Where it listens, with the port that the system chose."""
        return self._socket.address

    async def open(self, listen: Address) -> None:
        """Start to listen.

        Raises:
            ListenError: the host is unknown or the port is taken.
        """
        size = self._config.receive_buffer_bytes
        await self._socket.open(listen, size, self._on_readable, reuse_port=self._config.reuse_port)

    def close(self) -> None:
        """Say goodbye to all peers and end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        self._handshakes.clear()
        self._socket.close()

    # --- in -----------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        self._take(self._decrypted())
        self._arm()

    def _decrypted(self) -> Iterator[tuple[bytes, Endpoint]]:
        """Yield what one wake-up brings, decrypted; what belongs to handshakes is dealt with."""
        now = self._loop.time()
        for datagram, sender in self._socket.read():
            if len(datagram) > _MAX_DATAGRAM_BYTES:
                continue
            session = self._session_of(datagram, sender, now)
            if session is None:
                continue
            if session.endpoint is None:
                session.feed(datagram)
                self._shake_hands(session, now)
            else:
                session.feed(encrypted_records(datagram))
            if session.endpoint is not None:
                yield from self._read(session, session.endpoint, now)

    def _session_of(self, datagram: bytes, sender: SocketAddress, now: float) -> Session | None:
        """Return whom a datagram is for; a ClientHello that is nobody's is answered.

        While a peer that has a session begins another, it has both (RFC 6347 4.2.8).
        """
        beginning = self._handshakes.get(sender)
        established = self._sessions.get(sender)
        client_random = client_random_of(datagram)
        if not client_random:
            is_data = datagram[:1] == APPLICATION_DATA
            return established if is_data or beginning is None else beginning
        if beginning is not None and beginning.client_random == client_random:
            return beginning
        if established is None or established.client_random != client_random:
            self._greet(datagram, sender, client_random, now)
        return None

    def _read(
        self, session: Session, endpoint: Endpoint, now: float
    ) -> Iterator[tuple[bytes, Endpoint]]:
        view = memoryview(self._plain)
        try:
            while not session.is_over and (size := session.read_into(self._plain)):
                session.last_used = now
                self._sessions.move_to_end(session.address)
                yield bytes(view[:size]), endpoint
        except TLSError:  # close_notify, as nothing else gets here
            self._drop(session)

    # --- sessions -----------------------------------------------------------------------------

    def _greet(
        self, datagram: bytes, sender: SocketAddress, client_random: bytes, now: float
    ) -> None:
        """Answer a ClientHello: with a cookie, or when it has that, with a new session."""
        session = Session(self._greeter, self._socket, sender, now)
        self._greeter.setcookieparam(repr(sender).encode())
        session.feed(datagram)
        try:
            self._step(session)
        except HelloVerifyRequest:
            return
        except TLSError as error:
            self._intake.rejected("handshake", str(error))
            session.has_spoken = False  # but for an alert
        self._greeter = self._context.wrap_buffers()
        if not session.has_spoken:
            return  # it was no ClientHello that can be answered, and its sender may be forged
        session.client_random = client_random
        self._handshakes.pop(sender, None)
        self._handshakes[sender] = session
        if len(self._handshakes) > MAX_HANDSHAKES:
            self._handshakes.popitem(last=False)
            self._intake.rejected("handshake", "too many at once")

    def _shake_hands(self, session: Session, now: float) -> None:
        """Go on with a handshake, for a datagram or for the time that has passed."""
        try:
            # When it is time to repeat a flight, mbedtls does that before it reads.
            is_done = self._step(session) or self._step(session)
        except TLSError as error:
            self._intake.rejected("handshake", str(error))
            del self._handshakes[session.address]
            return
        if is_done and session.identity is not None:
            self._establish(session, session.identity, now)

    def _step(self, session: Session) -> bool:
        """Go on with a handshake as far as it goes; True when it is done.

        Raises:
            HelloVerifyRequest: the ClientHello had no cookie, and has been answered.
            TLSError: it has failed.
        """
        try:
            return session.shake_hands()
        finally:
            # At once: a ClientHello may come with all that follows it in the same datagram, and
            # whose key was asked for here must never be what another handshake finds.
            session.identity = self._keys.take_asked() or session.identity

    def _establish(self, session: Session, identity: Identity, now: float) -> None:
        self._count += 1
        session.last_used = now
        session.endpoint = endpoint = Endpoint(session.address, session)
        # All that is kept by address belongs to this session, not to the next one there.
        endpoint.address = (f"session {self._count}", session.address[1])
        endpoint.authenticate(identity, b"dtls " + secrets.token_bytes(16))
        del self._handshakes[session.address]
        self._drop(self._sessions.get(session.address))  # the peer has lost it
        self._sessions[session.address] = session
        if len(self._sessions) > self._config.max_sessions:
            self._end(self._least_needed())

    def _least_needed(self) -> Session:
        """Return the least used session of an identity that has the most of them."""
        sessions = self._sessions.values()
        counts = Counter(session.identity for session in sessions)
        most = max(counts.values())
        return next(session for session in sessions if counts[session.identity] == most)

    def _end(self, session: Session) -> None:
        session.close()
        self._drop(session)

    def _drop(self, session: Session | None) -> None:
        """Forget a session, if there is one."""
        if session is not None and session.endpoint is not None:
            session.is_over = True
            self._sessions.pop(session.address, None)
            self._forget(session.endpoint)

    # --- time ---------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Set the timer for what is due next, unless it is set for a time before that."""
        due = self._loop.time() + _TICK_SECONDS
        if not self._handshakes:
            if not self._sessions:
                return
            oldest = next(iter(self._sessions.values()))
            due = oldest.last_used + self._config.session_timeout
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        for session in list(self._handshakes.values()):
            if session.last_used + self._config.message_timeout <= now:
                self._intake.rejected("handshake", "not in time")
                del self._handshakes[session.address]
            else:
                self._shake_hands(session, now)
        for session in list(self._sessions.values()):
            if session.last_used + self._config.session_timeout > now:
                break
            self._end(session)
        self._arm()
