"""Requests protected with OSCORE (RFC 8613), and the protection of their answers.

Key derivation, algorithms, nonces and the replay window are aiocoap's; the messages are ours, so
that the request inside goes through the same checks on its raw options as any other.
`tests/gateway/sources/coap/test_oscore.py` pins what is used of aiocoap, some of it private.

Nothing is written to disk. After a start no context knows which requests were there before, so the
first one is challenged: 4.01 with an Echo option that the sender has to repeat (RFC 8613 B.1.2).
It is the only answer with a Partial IV of our own, and that comes from the clock.
"""

import secrets
import time
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

import cbor2
import msgspec
from aiocoap import oscore
from aiocoap.numbers.codes import POST

from bindings.coap import Identity, RequestError
from bindings.coap.protected import Outer, echo_of, message_inside, unprotected_error
from bindings.wire.coap import Code, Message, Number, Option, serialise_options
from gateway.sources.coap.exchange import Exchange
from gateway.sources.coap.oscore_config import OscoreContext
from gateway.sources.coap.peers import Endpoint

WINDOW_SIZE: Final = 32
"""How far a request may fall behind the newest and still be taken (RFC 8613 3.2.2)."""
OVERHEAD_BYTES: Final = 32
"""What protection adds to an answer at most: code, two options, payload marker and tag."""

_FETCH: Final = 0x05
_NUMBERS_PER_SECOND: Final = 256
"""How fast sequence numbers of our own grow; so their 40 bits last until the year 2106."""
_NUMBERS_AHEAD: Final = 64
"""How far they may be ahead of the clock: a quarter of a second, less than a start takes."""
_NUMBERS: Final = 1 << 40
_CLOCK_IS_SET: Final = 1_735_689_600
"""2025: a clock that says less was not set since the power came back, and says it each time."""


class Protection:
    """How the answer to one request is protected; its nonce must not protect a second one."""

    __slots__ = ("_aad", "_code", "_context", "_nonce", "_options")

    def __init__(self, context: "Context", code: int, aad: bytes, nonce: bytes) -> None:
        self._context = context
        self._code = Code.CONTENT if code == _FETCH else Code.CHANGED  # RFC 8613 4.2
        self._aad = aad
        self._nonce = nonce
        self._options: list[Option] = [(Number.OSCORE, b"")]

    def use_own(self, partial_iv: bytes, nonce: bytes) -> None:
        """Take a Partial IV of our own, as the request's may have protected an answer before."""
        self._nonce = nonce
        self._options[0] = (Number.OSCORE, bytes((len(partial_iv),)) + partial_iv)

    def add_block(self, block1: bytes) -> None:
        """Say that the answer is to the last block of a protected request."""
        self._options.append((Number.BLOCK1, block1))

    def protect(self, answer: bytes) -> bytes:
        """Return the answer that has an answer inside; both are code, options and payload."""
        ciphertext = self._context.encrypt(answer, self._aad, self._nonce)
        return bytes((self._code,)) + serialise_options(self._options) + b"\xff" + ciphertext


class _Keys(oscore.SecurityContextUtils):  # type: ignore[misc]  # aiocoap has no types
    """The keys of a context, and what is computed with them."""

    def __init__(self, config: OscoreContext) -> None:
        self.alg_aead = oscore.algorithms[config.algorithm]
        self.hashfun = oscore.hashfunctions["sha256"]
        self.id_context = config.id_context
        self.sender_id = config.sender_id
        self.recipient_id = config.recipient_id
        self.derive_keys(config.master_salt, config.secret)

    def aad_of(self, partial_iv: bytes) -> bytes:
        """Return what is authenticated with a request and its answer (RFC 8613 5.4)."""
        names = oscore.RequestIdentifiers(self.recipient_id, partial_iv, None, POST)
        external_aad = self._extract_external_aad(None, names, local_is_sender=False)
        return cbor2.dumps(["Encrypt0", b"", external_aad])

    def nonce_of(self, partial_iv: bytes, owner: bytes) -> bytes:
        """Return the nonce for a Partial IV that the side with the id `owner` chose (5.2)."""
        nonce: bytes = self._construct_nonce(partial_iv, owner, self.alg_aead)
        return nonce


class Context:
    """A security context (RFC 8613 3): keys, what was received, and whose it is.

    Attributes:
        endpoint: the device in the place of its address: its identity and its blocks.
        echo: what a request has to repeat to be known as a new one.
    """

    def __init__(self, config: OscoreContext, position: int) -> None:
        self._keys = keys = _Keys(config)
        self._window = oscore.ReplayWindow(WINDOW_SIZE, lambda: None)
        self._next_number = 0
        self.echo = secrets.token_bytes(8)
        fingerprint = blake2b(keys.recipient_key + keys.common_iv, digest_size=16).digest()
        self._name = fingerprint + bytes((len(config.recipient_id),)) + config.recipient_id
        self.endpoint = Endpoint(("oscore", position))
        identity = Identity(config.label, tuple(config.may_speak_for))
        self.endpoint.authenticate(identity, fingerprint)

    def decrypt(self, code: int, partial_iv: bytes, payload: bytes) -> tuple[bytes, Protection]:
        """Return what is inside a request, and how to protect its answer (RFC 8613 8.2).

        Raises:
            RequestError: 4.01 for a Partial IV that was there before, 4.00 for what can't be
                decrypted.
        """
        number = int.from_bytes(partial_iv, "big")
        if self._window.is_initialized() and not self._window.is_valid(number):
            raise unprotected_error("Replay detected", Code.UNAUTHORIZED, "replay")
        keys = self._keys
        aad = keys.aad_of(partial_iv)
        nonce = keys.nonce_of(partial_iv, keys.recipient_id)
        try:
            plaintext = keys.alg_aead.decrypt(payload, aad, keys.recipient_key, nonce)
        except ValueError:  # aiocoap's ProtectionInvalid is one
            raise unprotected_error("Decryption failed", Code.BAD_REQUEST, "decryption") from None
        return plaintext, Protection(self, code, aad, nonce)

    def encrypt(self, plaintext: bytes, aad: bytes, nonce: bytes) -> bytes:
        """Return the ciphertext of an answer."""
        keys = self._keys
        ciphertext: bytes = keys.alg_aead.encrypt(plaintext, aad, keys.sender_key, nonce)
        return ciphertext

    def accept(self, partial_iv: bytes, echo: bytes | None) -> bool:
        """Take a decrypted request as new and remember it; False when it has to repeat `echo`."""
        number = int.from_bytes(partial_iv, "big")
        if self._window.is_initialized():
            self._window.strike_out(number)
        elif echo == self.echo:
            self._window.initialize_from_freshlyseen(number)
        else:
            return False
        # A Partial IV is never used again, so it names the request (binding section 3.4.2).
        name = self._name + number.to_bytes(5, "big")
        self.endpoint.peer = msgspec.structs.replace(self.endpoint.peer, request_name=name)
        return True

    def challenge(self, protection: Protection, seconds: float) -> bool:
        """Protect the answer to a request that may have been there before we started.

        Args:
            protection: of that answer; gets a Partial IV that was never used, also not by another
                process before this one.
            seconds: since 1970.

        Returns:
            False when there is none: too many were used of late, or the clock is wrong.
        """
        earliest = int(seconds * _NUMBERS_PER_SECOND)
        number = max(self._next_number, earliest)
        if seconds < _CLOCK_IS_SET or number >= min(earliest + _NUMBERS_AHEAD, _NUMBERS):
            return False
        self._next_number = number + 1
        partial_iv = number.to_bytes(5, "big").lstrip(b"\0") or b"\0"
        protection.use_own(partial_iv, self._keys.nonce_of(partial_iv, self._keys.sender_id))
        return True


class Oscore:
    """The security contexts of one source."""

    def __init__(self, configs: Iterable[OscoreContext]) -> None:
        self._contexts: dict[tuple[bytes, bytes | None], Context] = {}
        owners: dict[bytes, list[Context]] = {}
        for position, config in enumerate(configs):
            context = Context(config, position)
            self._contexts[config.recipient_id, config.id_context] = context
            owners.setdefault(config.recipient_id, []).append(context)
        for kid, contexts in owners.items():
            if len(contexts) == 1:  # so the kid context may be left out (RFC 8613 5.1)
                self._contexts.setdefault((kid, None), contexts[0])
        self._started = 0.0

    def _now(self) -> float:
        """Return seconds since 1970; once the clock is set, its steps back don't count."""
        if self._started + time.monotonic() < _CLOCK_IS_SET:
            self._started = time.time() - time.monotonic()
        return self._started + time.monotonic()

    def open(self, message: Message, outer: Outer, exchange: Exchange) -> Message:
        """Return the request inside a protected one.

        Args:
            message: the protected request, its payload complete.
            outer: what its options say.
            exchange: learns who speaks and how to protect the answer.

        Raises:
            RequestError: RFC 8613 8.2 and B.1.2.
        """
        context = self._contexts.get((outer.kid, outer.kid_context))
        if context is None:
            text = "Security context not found"
            raise unprotected_error(text, Code.UNAUTHORIZED, "unknown_context")
        plaintext, protection = context.decrypt(message.code, outer.partial_iv, message.payload)
        inner = message_inside(plaintext, message)
        is_new = context.accept(outer.partial_iv, echo_of(inner))
        if not is_new and not context.challenge(protection, self._now()):
            later = ((Number.MAX_AGE, b"\x01"),)
            text = "no clock, or too many at once"
            raise RequestError(text, Code.SERVICE_UNAVAILABLE, reason="busy", options=later)
        if exchange.block1 is not None:
            protection.add_block(exchange.block1)
            exchange.block1 = None
        exchange.max_answer_bytes -= OVERHEAD_BYTES
        exchange.protection = protection
        if not is_new:
            echo = ((Number.ECHO, context.echo),)
            raise RequestError("is it new?", Code.UNAUTHORIZED, reason="echo", options=echo)
        exchange.speaker = context.endpoint
        if inner is None:
            raise RequestError("no request inside", Code.BAD_REQUEST, reason="message_format")
        return inner
