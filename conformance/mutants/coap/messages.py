"""Mistakes in the message layer: format, duplicates, generated ids (sections 3.0.1, 3.4.2, 4.1)."""

import itertools
import secrets
from typing import Any

from msgspec.structs import replace

from bindings.coap import filling, identifier
from bindings.coap.filling import Filling, Peer
from bindings.coap.identifier import id_of
from bindings.errors import InvalidEventError
from bindings.event import Event
from bindings.wire import coap as wire
from bindings.wire.coap import (
    Message,
    MessageFormatError,
    Type,
    acknowledgement,
    parse,
    reset,
)
from conformance.mutants.coap.gateways import (
    Gateways,
    around,
    arriving,
    changed,
    decoding,
    events,
    parsed,
)
from conformance.mutants.mutant import Patch
from gateway.sources.coap import duplicates, source
from gateway.sources.coap.duplicates import Duplicates
from gateway.sources.coap.exchange import BARE_ACK, CHANGED, Exchange, piggybacked, separate
from gateway.sources.coap.peers import Endpoint
from gateway.sources.coap.source import CoapSource

MUTANTS = Gateways()


# --- format ---------------------------------------------------------------------------------------


def _malformed(patch: Patch, answer: Any) -> None:
    """Answer a format error with what `answer` makes of the datagram and the error."""

    def wrong(right: Any, datagram: bytes) -> Message:
        try:
            return right(datagram)  # type: ignore[no-any-return]
        except MessageFormatError as error:
            raise MessageFormatError(str(error), answer(datagram, error)) from None

    around(patch, source, "parse", wrong)


@MUTANTS.wrong("MSG-004 MSG-006")
def drops_what_is_malformed(patch: Patch) -> None:
    """A CON with a message format error is dropped and gets no RST."""
    _malformed(patch, lambda _, __: b"")


@MUTANTS.wrong("MSG-004 MSG-006")
def bad_request_for_what_is_malformed(patch: Patch) -> None:
    """A CON with a message format error is answered 4.00."""
    _malformed(patch, lambda datagram, error: error.reply and b"\x60\x80" + datagram[2:4])


@MUTANTS.wrong("MSG-005")
def resets_malformed_non(patch: Patch) -> None:
    """A NON with a message format error gets an RST too."""
    _malformed(patch, lambda datagram, _: reset(datagram[2] << 8 | datagram[3]))


@MUTANTS.wrong("MSG-001")
def resets_what_is_too_short(patch: Patch) -> None:
    """A datagram of fewer than 4 bytes gets an RST."""
    _malformed(patch, lambda d, error: error.reply if len(d) > 3 else reset(0))


@MUTANTS.wrong("MSG-009")
def acknowledges_empty_messages_with_content(patch: Patch) -> None:
    """Code 0.00 with something behind it is acknowledged."""
    _malformed(patch, lambda d, e: b"\x60\0" + d[2:4] if e.reply and not d[1] else e.reply)


@MUTANTS.wrong("MSG-008")
def codes_of_every_class(patch: Patch) -> None:
    """A code of a reserved class is taken for a method that is not known."""
    arriving(patch, lambda d: d[:1] + b"\x1f" + d[2:] if d[1:2] >= b"\xc0" else d)


@MUTANTS.wrong("MSG-007")
def tokens_that_are_cut_off(patch: Patch) -> None:
    """A token that is longer than the datagram is taken as far as it goes."""

    def wrong(datagram: bytes) -> bytes:
        room = len(datagram) - 4
        if 0 <= room < datagram[0] & 15 <= 8:
            return bytes((datagram[0] & 0xF0 | room,)) + datagram[1:]
        return datagram

    arriving(patch, wrong)


@MUTANTS.wrong("MSG-006")
def tokens_of_more_than_eight_bytes(patch: Patch) -> None:
    """A token length of 9 to 15 is taken for 8."""
    arriving(
        patch,
        lambda d: bytes((d[0] & 0xF0 | 8,)) + d[1:] if len(d) > 12 and d[0] & 15 > 8 else d,
    )


@MUTANTS.wrong("MSG-010")
def nibbles_of_fifteen(patch: Patch) -> None:
    """An option delta or length of 15 is taken as it is."""
    around(
        patch,
        wire,
        "_extended",
        lambda right, octets, position, nibble: (
            (15, position) if nibble == 15 else right(octets, position, nibble)
        ),
    )


@MUTANTS.wrong("MSG-011 MSG-012")
def reads_as_far_as_it_goes(patch: Patch) -> None:
    """An option that is cut off or has no number is left out, and the rest is taken."""

    def wrong(right: Any, datagram: bytes) -> Message:
        for end in range(len(datagram), 3, -1):
            try:
                return right(datagram[:end])  # type: ignore[no-any-return]
            except MessageFormatError:
                continue
        return right(datagram)  # type: ignore[no-any-return]

    around(patch, source, "parse", wrong)


@MUTANTS.wrong("MSG-013")
def a_marker_without_payload(patch: Patch) -> None:
    """A payload marker without payload is taken for an empty payload."""
    arriving(patch, lambda datagram: datagram.removesuffix(b"\xff"))


@MUTANTS.wrong("MSG-002")
def versions_are_not_looked_at(patch: Patch) -> None:
    """A datagram of another version is taken for one of version 1."""
    arriving(patch, lambda d: bytes((d[0] & 0x3F | 0x40,)) + d[1:] if d else d)


@MUTANTS.wrong("MSG-003")
def acknowledges_pings(patch: Patch) -> None:
    """A ping is answered with an empty ACK."""
    patch(source, "reset", acknowledgement)


@MUTANTS.wrong("MSG-014")
def requests_in_acknowledgements(patch: Patch) -> None:
    """A request code in an ACK or RST is taken for a request."""
    parsed(patch, lambda m: replace(m, type=m.type & 1) if 0 < m.code < 0x20 else m)


@MUTANTS.wrong("MSG-015")
def acknowledges_stray_responses(patch: Patch) -> None:
    """A response that nobody asked for is acknowledged."""

    def wrong(right: Any, self: Any, message: Message, endpoint: Endpoint) -> None:
        if message.type == Type.CON and message.code and endpoint.channel is not None:
            endpoint.channel.send(acknowledgement(message.mid), endpoint.address)
        else:
            right(self, message, endpoint)

    around(patch, CoapSource, "_take_control", wrong)


@MUTANTS.wrong("MSG-016")
def tokens_of_four_bytes(patch: Patch) -> None:
    """A token is kept in 32 bits."""
    parsed(patch, lambda message: replace(message, token=message.token[:4]))


@MUTANTS.wrong("MSG-017")
def acknowledges_non(patch: Patch) -> None:
    """A NON is answered in an ACK."""

    def wrong(right: Any, kind: Type, *rest: Any) -> Any:
        return right(Type.ACK if kind == Type.NON else kind, *rest)

    around(patch, source, "separate", wrong)


@MUTANTS.wrong("MSG-018")
def resets_whoever_was_malformed_once(patch: Patch) -> None:
    """After a message format error its sender gets nothing but RST."""
    banned = set()

    def wrong(right: Any, self: Any, datagram: bytes, endpoint: Endpoint, *rest: Any) -> None:
        try:
            parse(datagram)
        except MessageFormatError:
            banned.add(endpoint.address)
        if endpoint.address in banned and endpoint.channel is not None and len(datagram) > 3:
            endpoint.channel.send(reset(datagram[2] << 8 | datagram[3]), endpoint.address)
        else:
            right(self, datagram, endpoint, *rest)

    around(patch, CoapSource, "_receive", wrong)


# --- duplicates -----------------------------------------------------------------------------------


def _known_by(patch: Patch, key: Any) -> None:
    around(patch, source, "key_of", lambda right, peer, datagram: right(*key(peer, datagram)))


@MUTANTS.wrong("DUP-002", 81)
def duplicates_by_message_id(patch: Patch) -> None:
    """A message ID is enough to take a request for a repetition."""
    _known_by(patch, lambda peer, datagram: (peer, datagram[2:4]))


@MUTANTS.wrong("DUP-002", 81)
def duplicates_by_message_id_and_token(patch: Patch) -> None:
    """Message ID and token are enough to take a request for a repetition."""
    _known_by(patch, lambda peer, d: (peer, d[2 : 4 + (d[0] & 15)]))


@MUTANTS.wrong("DUP-001", 81, families=("endpoints",))
def duplicates_of_anybody(patch: Patch) -> None:
    """The same bytes from another endpoint are taken for a repetition."""
    _known_by(patch, lambda _, datagram: (Peer(b"", ""), datagram))


@MUTANTS.wrong("DUP-006 DUP-001", 81)
def knows_no_duplicates(patch: Patch) -> None:
    """A repeated request is a new one, and makes a second event."""
    _known_by(patch, lambda peer, datagram: (peer, datagram + secrets.token_bytes(8)))


@MUTANTS.wrong("DUP-005")
def answers_repeated_non(patch: Patch) -> None:
    """A repeated NON is answered again."""

    def wrong(right: Any, self: Any, known: Any, message: Message, endpoint: Endpoint) -> None:
        if message.type == Type.NON and endpoint.channel is not None:
            answer = separate(Type.NON, endpoint.new_mid(), message.token, CHANGED)
            endpoint.channel.send(answer, endpoint.address)
        else:
            right(self, known, message, endpoint)

    around(patch, CoapSource, "_repeat", wrong)


def _repeating(patch: Patch, answer_of: Any) -> None:
    """Answer a repeated CON with what `answer_of` makes of what is known of it."""

    def wrong(right: Any, self: Any, known: Any, message: Message, endpoint: Endpoint) -> None:
        answer = answer_of(known)
        if answer is None or message.type != Type.CON or endpoint.channel is None:
            right(self, known, message, endpoint)
        else:
            token = b"" if answer == BARE_ACK else message.token
            endpoint.channel.send(piggybacked(message.mid, token, answer), endpoint.address)

    around(patch, CoapSource, "_repeat", wrong)


@MUTANTS.wrong("DUP-003")
def acknowledges_what_is_repeated(patch: Patch) -> None:
    """A repeated CON gets an empty ACK in the place of its answer."""
    _repeating(patch, lambda known: BARE_ACK if known else None)


@MUTANTS.wrong("DUP-003")
def repeated_requests_are_accepted(patch: Patch) -> None:
    """A repeated CON gets 2.04, whatever the answer was."""
    _repeating(patch, lambda known: CHANGED if isinstance(known, bytes) else None)


@MUTANTS.wrong("DUP-004 ACK-001")
def accepts_what_is_repeated_under_way(patch: Patch) -> None:
    """A CON that is repeated before its outcome is known gets 2.04."""
    _repeating(patch, lambda known: CHANGED if isinstance(known, Exchange) else None)


@MUTANTS.wrong("DUP-009")
def refuses_what_it_has_accepted(patch: Patch) -> None:
    """An event whose source and id were accepted before is refused in a new message."""
    seen: set[tuple[str, str]] = set()

    def wrong(right: Any, *args: Any) -> list[Event]:
        found: list[Event] = right(*args)
        names = {(event.source, event.id) for event in found}
        if not names.isdisjoint(seen):
            raise InvalidEventError("it was there before")
        seen.update(names)
        return found

    decoding(patch, wrong)


@MUTANTS.wrong("DUP-008", families=("limits",))
def forgets_at_once_in_a_flood(patch: Patch) -> None:
    """When there is no room for new requests, those just answered are forgotten."""
    patch(duplicates, "CROWDED_SECONDS", -2.0)


@MUTANTS.wrong("LIM-003", families=("limits",))
def remembers_without_bound(patch: Patch) -> None:
    """The memory for duplicates grows with each request."""
    patch(Duplicates, "_make_room", lambda _, __: True)


# --- generated ids --------------------------------------------------------------------------------


def _id_of(patch: Patch, content: Any) -> None:
    """Generate ids from what `content` makes of the request's message, payload and endpoint."""
    around(
        patch,
        filling,
        "generate_id",
        lambda _, message, payload, endpoint, __: id_of(content(message, payload, endpoint)),
    )


@MUTANTS.wrong("ID-004", 81)
def ids_of_the_payload(patch: Patch) -> None:
    """An id is a digest of the payload."""
    _id_of(patch, lambda _, payload, __: payload)


@MUTANTS.wrong("ID-004", 81)
def ids_of_the_message_id(patch: Patch) -> None:
    """An id is a digest of endpoint, message ID and payload."""
    _id_of(patch, lambda message, payload, peer: peer + b"%d " % message.mid + payload)


@MUTANTS.wrong("ID-003", families=("endpoints",))
def ids_at_random(patch: Patch) -> None:
    """An id is random, so that a copy that comes after a restart has another."""
    _id_of(patch, lambda *_: secrets.token_bytes(16))


@MUTANTS.wrong("ID-004")
def ids_of_32_bits(patch: Patch) -> None:
    """A generated id is a digest of 32 bits."""
    patch.everywhere(identifier, "id_of", lambda content: id_of(content)[:6])


@MUTANTS.wrong("ID-004", families=("endpoints",))
def ids_without_endpoint(patch: Patch) -> None:
    """An id is a digest of the datagram alone."""
    around(
        patch,
        filling,
        "generate_id",
        lambda right, message, payload, _, seconds: right(message, payload, b"", seconds),
    )


@MUTANTS.wrong("ID-003", families=("endpoints",))
def ids_of_this_process(patch: Patch) -> None:
    """An id counts the events of the process."""
    count = itertools.count()
    _id_of(patch, lambda *_: b"%d" % next(count))


@MUTANTS.wrong("ID-007")
def one_id_for_a_batch(patch: Patch) -> None:
    """The events of a batch have the same generated id."""
    around(patch, Filling, "new_id", lambda right, self, _=None: right(self))


@MUTANTS.wrong("ID-001")
def replaces_ids(patch: Patch) -> None:
    """An id of the producer's is replaced by a digest."""
    events(patch, lambda event: changed(event, id=id_of(event.id.encode())))
