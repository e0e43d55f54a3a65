"""Mistakes about identities, DTLS and OSCORE (section 10)."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import aiocoap.oscore
from msgspec.structs import replace

from bindings.coap import Identity, RequestError, identity
from bindings.event import Event
from bindings.wire.coap import Code, Message, Number
from conformance.mutants.coap.gateways import Gateways, around, changed, decoding, routed
from conformance.mutants.mutant import Patch
from gateway.sources.coap import exchange, oscore, requests
from gateway.sources.coap.dtls import DtlsListener
from gateway.sources.coap.exchange import Exchange
from gateway.sources.coap.peers import Endpoint
from gateway.sources.coap.psk import KeyStore

MUTANTS = Gateways("datagrams", "channels")


# --- identities -----------------------------------------------------------------------------------


@MUTANTS.wrong("SEC-015 SEC-017")
def anybody_is_any_source(patch: Patch) -> None:
    """Every sender may claim every source."""
    routed(patch, any_source=True)


@MUTANTS.wrong("SEC-017")
def only_who_is_known_is_held_to_its_source(patch: Patch) -> None:
    """Anonymous senders may claim every source."""

    def wrong(right: Any, request: Any, payload: Any, route: Any, peer: Any, now: Any) -> Any:
        is_open = route.any_source or not peer.is_authenticated
        return right(request, payload, replace(route, any_source=is_open), peer, now)

    decoding(patch, wrong)


@MUTANTS.wrong("SEC-015")
def sources_that_begin_alike(patch: Patch) -> None:
    """A source that begins like the sender's own is taken for one below it."""
    patch(identity, "_is_within", str.startswith)


@MUTANTS.wrong("SEC-016")
def nothing_below_a_source(patch: Patch) -> None:
    """Sources below the sender's own are refused."""
    patch(identity, "_is_within", str.__eq__)


@MUTANTS.wrong("SEC-022")
def dot_segments_are_names(patch: Patch) -> None:
    """A source with dot segments is taken for one below the sender's own."""
    patch(identity, "_has_dot_segment", lambda _: False)


@MUTANTS.wrong("SEC-022")
def dots_that_are_encoded_are_names(patch: Patch) -> None:
    """Dot segments are looked for as they are, and not percent-encoded."""
    around(
        patch,
        identity,
        "_has_dot_segment",
        lambda right, source: "%" not in source and right(source),
    )


@MUTANTS.wrong("SEC-022")
def two_dots_are_a_segment(patch: Patch) -> None:
    """A source with two dots in a row is refused, wherever they stand."""
    patch(identity, "_has_dot_segment", lambda source: ".." in source)


@MUTANTS.wrong("SEC-001")
def open_to_everybody(patch: Patch) -> None:
    """A route that needs authentication is open."""
    routed(patch, needs_identity=False)


@MUTANTS.wrong("SEC-002")
def addresses_of_who_is_known(patch: Patch) -> None:
    """The default source of a sender with credentials is its address."""

    def wrong(right: Any, self: Any, *args: Any) -> None:
        right(self, *args)
        self.peer = replace(self.peer, source="coap://127.0.0.1")

    around(patch, Endpoint, "authenticate", wrong)


@MUTANTS.wrong("SEC-003")
def identities_as_they_are(patch: Patch) -> None:
    """An identity is not percent-encoded in the default source."""
    patch(identity, "quote", lambda text, **_: text)


@MUTANTS.wrong("SEC-003")
def slashes_of_identities(patch: Patch) -> None:
    """Slashes of an identity are not percent-encoded in the default source."""
    around(patch, identity, "quote", lambda right, text, **_: right(text))


@MUTANTS.wrong("SEC-005")
def identities_in_events(patch: Patch) -> None:
    """An event says in an extension whose credentials it came with."""

    def wrong(right: Any, request: Any, payload: Any, route: Any, peer: Any, now: Any) -> Any:
        found: list[Event] = right(request, payload, route, peer, now)
        if not peer.is_authenticated:
            return found
        return [changed(e, extensions={**e.extensions, "sentby": peer.source}) for e in found]

    decoding(patch, wrong)


@MUTANTS.wrong("SEC-018")
def answers_that_amplify(patch: Patch) -> None:
    """An answer may be as long as it likes."""
    patch(exchange, "AMPLIFICATION", 1000)


# --- DTLS -----------------------------------------------------------------------------------------


class _Careless:
    """A greeter whose cookies are good for everybody."""

    def __init__(self, greeter: Any) -> None:
        self._greeter = greeter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._greeter, name)

    def setcookieparam(self, _: bytes) -> None:
        self._greeter.setcookieparam(b"everybody")


@MUTANTS.wrong("SEC-007")
def cookies_for_everybody(patch: Patch) -> None:
    """A cookie of DTLS is good for every address."""

    def wrong(right: Any, self: Any, *args: Any) -> None:
        self._greeter = _Careless(self._greeter)
        right(self, *args)
        if isinstance(self._greeter, _Careless):
            self._greeter = self._greeter._greeter  # noqa: SLF001 - of this module

    around(patch, DtlsListener, "_greet", wrong)


@MUTANTS.wrong("SEC-006")
def keys_for_everybody(patch: Patch) -> None:
    """An identity that nobody has gets the key of the first."""

    def key_of(right: Any, self: Any, name: str) -> Any:
        return right(self, name if name in self._keys else next(iter(self._keys)))

    around(patch, KeyStore, "__getitem__", key_of)
    around(
        patch,
        KeyStore,
        "take_asked",
        lambda right, self: right(self) or (Identity("nobody") if self._keys else None),
    )


@MUTANTS.wrong("SEC-008")
def plain_text_on_the_secure_port(patch: Patch) -> None:
    """A request in plain text is answered on the port of DTLS."""

    def wrong(right: Any, self: Any) -> Iterator[tuple[bytes, Endpoint]]:
        read, plain = self._socket.read, []

        def sort() -> Iterator[tuple[bytes, Any]]:
            for datagram, sender in read():
                if datagram[:1] and datagram[0] & 0xC0 == 0x40:
                    plain.append((datagram, Endpoint(sender, self._socket)))
                else:
                    yield datagram, sender

        self._socket.read = sort
        try:
            yield from right(self)
        finally:
            self._socket.read = read
        yield from plain

    around(patch, DtlsListener, "_decrypted", wrong)


# --- OSCORE ---------------------------------------------------------------------------------------


@MUTANTS.wrong("SEC-009")
def the_path_outside(patch: Patch) -> None:
    """The path outside the protected message counts."""

    def wrong(right: Any, self: Any, message: Message, *rest: Any) -> Message:
        inner: Message = right(self, message, *rest)
        path = [option for option in message.options if option[0] == Number.URI_PATH]
        inside = [option for option in inner.options if option[0] != Number.URI_PATH]
        return replace(inner, options=sorted([*(path or [(11, b"ce")]), *inside]))

    around(patch, oscore.Oscore, "open", wrong)


@MUTANTS.wrong("SEC-010")
def attributes_outside(patch: Patch) -> None:
    """Uri-Query and Content-Format outside the protected message count."""

    def wrong(right: Any, self: Any, message: Message, *rest: Any) -> Message:
        inner: Message = right(self, message, *rest)
        numbers = {Number.URI_QUERY, Number.CONTENT_FORMAT}
        outside = [option for option in message.options if option[0] in numbers]
        return replace(inner, options=sorted([*outside, *inner.options], key=lambda o: o[0]))

    around(patch, oscore.Oscore, "open", wrong)


@MUTANTS.wrong("SEC-011")
def no_replay_window(patch: Patch) -> None:
    """A Partial IV may come again."""
    patch(aiocoap.oscore.ReplayWindow, "is_valid", lambda _, __: True)

    def wrong(right: Any, self: Any, number: int) -> None:
        with suppress(ValueError, AssertionError):
            right(self, number)

    around(patch, aiocoap.oscore.ReplayWindow, "strike_out", wrong)


def _refusing(patch: Patch, reason: str, code: Code) -> None:
    """Answer what OSCORE refuses for a reason with another code."""

    def wrong(right: Any, self: Any, *args: Any) -> Any:
        try:
            return right(self, *args)
        except RequestError as error:
            if error.reason == reason:
                error.code = code
            raise

    around(patch, oscore.Oscore, "open", wrong)


@MUTANTS.wrong("SEC-012")
def bad_request_for_an_unknown_context(patch: Patch) -> None:
    """4.00 is the answer to a security context that is not known."""
    _refusing(patch, "unknown_context", Code.BAD_REQUEST)


@MUTANTS.wrong("SEC-013")
def unauthorized_for_what_is_forged(patch: Patch) -> None:
    """4.01 is the answer to a message that can't be decrypted."""
    _refusing(patch, "decryption", Code.UNAUTHORIZED)


@MUTANTS.wrong("SEC-014")
def answers_are_not_protected(patch: Patch) -> None:
    """The answer to a protected request is sent in plain text."""
    patch(Exchange, "protected", lambda _, answer: answer)


@MUTANTS.wrong("SEC-020")
def trusts_the_first_after_a_start(patch: Patch) -> None:
    """After a start the first request is taken for a new one."""

    def wrong(right: Any, self: Any, partial_iv: bytes, _: Any) -> Any:
        return right(self, partial_iv, self.echo)

    around(patch, oscore.Context, "accept", wrong)


@MUTANTS.wrong("SEC-021")
def bad_request_for_a_malformed_option(patch: Patch) -> None:
    """4.00 is the answer to a malformed OSCORE option."""

    def wrong(right: Any, message: Message) -> Any:
        try:
            return right(message)
        except RequestError as error:
            raise RequestError(str(error), Code.BAD_REQUEST, options=error.options) from None

    around(patch, requests, "read_outer", wrong)


@MUTANTS.wrong("ID-006")
def ids_of_protected_datagrams(patch: Patch) -> None:
    """With OSCORE an id is a digest of the datagram."""

    def wrong(right: Any, request: Any, payload: Any, route: Any, peer: Any, now: Any) -> Any:
        return right(request, payload, route, replace(peer, request_name=b""), now)

    decoding(patch, wrong)
