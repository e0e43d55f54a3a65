"""One request under way: what is needed to answer it, and to answer it again."""

import math
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from bindings.coap import content_formats
from bindings.wire.coap import (
    Code,
    Message,
    Number,
    Option,
    Type,
    from_uint,
    serialise_options,
)
from gateway.delivery import Outcome, Reason, Settlement
from gateway.sources.coap.peers import Endpoint

if TYPE_CHECKING:
    from gateway.sources.coap.oscore import Protection

NO_ANSWER: Final = b""
"""Kept in the place of an answer when there is none: a repetition gets none either."""
BARE_ACK: Final = b"\x00"
"""Kept when the repetition gets an empty ACK: the answer is separate or not wanted."""
CHANGED: Final = bytes((Code.CHANGED,))
"""2.04 without options or payload: nearly every answer."""

AMPLIFICATION: Final = 3
"""An answer has at most so many times the bytes of its request (binding section 10.5)."""

_CON: Final = int(Type.CON)  # each request's type is compared with it
_MAX_AGE_SECONDS: Final = (30, 90)
"""Random, so that a fleet does not come back at once (binding section 4.3)."""
_OUR_OWN: Final = frozenset({Reason.BUSY, Reason.DRAINING, Reason.NOT_STORED})
"""Their `retry_after` is the gateway's, for a single sender; no sink has asked for it."""


class Exchange(msgspec.Struct, eq=False):
    """A request without its content, until it is answered.

    Attributes:
        endpoint: who asked.
        speaker: whose words these are: the endpoint, or who is behind it with OSCORE.
        key: what a repetition of the request is known by.
        confirmable: whether it was a CON.
        mid: its message id.
        token: its token.
        max_answer_bytes: how large the answer may be.
        acknowledged: whether the empty ACK is out, so that the answer goes separately.
        pending: whether it has no answer yet.
        is_in_flight: whether it counts for its endpoint's limit.
        no_response: which classes of answers are not wanted (RFC 7967), as a bit field.
        accept: the Content-Format asked for.
        block1: the value of the Block1 option that the answer has.
        protection: how to protect the answer; None for one that is not.
    """

    endpoint: Endpoint
    speaker: Endpoint
    key: bytes
    confirmable: bool
    mid: int
    token: bytes
    max_answer_bytes: int
    acknowledged: bool = False
    pending: bool = True
    is_in_flight: bool = False
    no_response: int = 0
    accept: int | None = None
    block1: bytes | None = None
    protection: "Protection | None" = None

    def suppresses(self, code: int) -> bool:
        """Whether answers of this class are not wanted (RFC 7967); 2.31 is always sent."""
        return code != Code.CONTINUE and bool(self.no_response >> (code >> 5) - 1 & 1)

    def protected(self, answer: bytes) -> bytes:
        """Return an answer as it goes out: protected if the request was. To be called once."""
        return answer if self.protection is None else self.protection.protect(answer)

    def answer(self, code: Code, options: Sequence[Option] = (), diagnostic: str = "") -> bytes:
        """Return an answer: its code, options and payload as on the wire.

        Args:
            code: the response code.
            options: besides Block1, which is repeated to a request that had it (RFC 7959 2.3).
            diagnostic: a text for people; left out where it would make the answer too large.
        """
        every = list(options)
        if self.block1 is not None:
            every.append((Number.BLOCK1, self.block1))
        plain = bytes((code,)) + serialise_options(every)
        if not diagnostic:
            return plain
        payload = diagnostic.encode("ascii", "replace")
        if self.accept == content_formats.PROBLEM_DETAILS:
            every.append((Number.CONTENT_FORMAT, from_uint(content_formats.PROBLEM_DETAILS)))
            payload = _problem_details(payload)
        whole = bytes((code,)) + serialise_options(every) + b"\xff" + payload
        return whole if len(whole) + 3 + len(self.token) <= self.max_answer_bytes else plain

    def settled(self, settlement: Settlement) -> bytes:
        """Return the answer for what became of the events (binding section 4.3)."""
        if settlement.outcome is Outcome.ACCEPTED and self.block1 is None:
            return CHANGED
        code = _code_of(settlement)
        options: tuple[Option, ...] = ()
        if code in {Code.SERVICE_UNAVAILABLE, Code.TOO_MANY_REQUESTS}:
            seconds = None if settlement.reason in _OUR_OWN else settlement.retry_after
            options = (_max_age(seconds),)
        return self.answer(code, options)

    def unavailable(self) -> bytes:
        """Return the answer to a request that finds no room."""
        return self.answer(Code.SERVICE_UNAVAILABLE, (_max_age(None),))

    def timed_out(self) -> bytes:
        """Return the answer when nothing was settled in time."""
        return self.answer(Code.GATEWAY_TIMEOUT, (), "outcome unknown")


def exchange_of(endpoint: Endpoint, message: Message, key: bytes, size: int) -> Exchange:
    """Return the exchange that a request begins.

    Args:
        endpoint: who asks.
        message: the request.
        key: what a repetition of it is known by.
        size: the bytes of its datagram.
    """
    confirmable = message.type == _CON
    limit = size * AMPLIFICATION
    return Exchange(endpoint, endpoint, key, confirmable, message.mid, message.token, limit)


def piggybacked(mid: int, token: bytes, answer: bytes) -> bytes:
    """Return the ACK that carries an answer, or the bare one."""
    if answer == BARE_ACK:
        return bytes((0x60, 0, mid >> 8, mid & 0xFF))
    return bytes((0x60 | len(token), answer[0], mid >> 8, mid & 0xFF)) + token + answer[1:]


def separate(kind: Type, mid: int, token: bytes, answer: bytes) -> bytes:
    """Return the CON or NON that carries an answer."""
    head = bytes((0x40 | kind << 4 | len(token), answer[0], mid >> 8, mid & 0xFF))
    return head + token + answer[1:]


def _problem_details(text: bytes) -> bytes:
    """Return concise problem details (RFC 9290) with a title, which is at most 64 bytes."""
    length = bytes((0x60 | len(text),)) if len(text) < 24 else bytes((0x78, len(text)))
    return b"\xa1\x20" + length + text


def _code_of(settlement: Settlement) -> Code:
    """Return the response code for what became of the events (binding section 4.3)."""
    if settlement.outcome == Outcome.ACCEPTED:
        return Code.CHANGED
    if settlement.outcome == Outcome.REJECTED:
        return Code.BAD_REQUEST if settlement.reason == Reason.INVALID else Code.BAD_GATEWAY
    if settlement.reason == Reason.SINK_BUSY:
        return Code.TOO_MANY_REQUESTS
    if settlement.reason == Reason.TIMEOUT:
        return Code.GATEWAY_TIMEOUT
    return Code.SERVICE_UNAVAILABLE


def _max_age(seconds: float | None) -> Option:
    """Return the option that says when to come back."""
    if seconds is None:
        first, last = _MAX_AGE_SECONDS
        return (Number.MAX_AGE, from_uint(first + secrets.randbelow(last - first + 1)))
    return (Number.MAX_AGE, from_uint(max(1, min(math.ceil(seconds), 0xFFFFFFFF))))
