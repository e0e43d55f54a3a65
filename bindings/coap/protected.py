"""What a message protected with OSCORE (RFC 8613) shows, and what is inside once decrypted."""

from typing import Final

import msgspec

from bindings.coap.request import RequestError
from bindings.wire.coap import Block, Code, Message, Number, Option, parse_options, to_block

_NOT_CACHED: Final[tuple[Option, ...]] = ((Number.MAX_AGE, b""),)


def is_protected(message: Message) -> bool:
    """Whether a message has an OSCORE option, however malformed."""
    return any(number == Number.OSCORE for number, _ in message.options)


class Outer(msgspec.Struct, frozen=True):
    """What counts of a protected message besides its payload; all else is ignored (section 10.3).

    Attributes:
        kid: which context, by the sender's id.
        kid_context: the same, where ids are not enough.
        partial_iv: which message of that sender.
        block1: which block of the protected message this is, if a proxy or client cut it.
    """

    kid: bytes
    kid_context: bytes | None
    partial_iv: bytes
    block1: Block | None


def read_outer(message: Message) -> Outer:
    """Return what the outer options of a protected request say.

    Raises:
        RequestError: 5.05 for a proxy request, 4.02 for a malformed or repeated OSCORE option, and
            for EDHOC, whose messages would be in the payload (RFC 9668).
    """
    values: dict[int, list[bytes]] = {}
    for number, value in message.options:
        values.setdefault(number, []).append(value)
    if Number.PROXY_URI in values or Number.PROXY_SCHEME in values:
        raise RequestError("no proxy", Code.PROXYING_NOT_SUPPORTED, reason="proxy")
    blocks = values.get(Number.BLOCK1, [])
    if Number.EDHOC in values or len(blocks) > 1 or any(len(block) > 3 for block in blocks):
        text = "EDHOC, or Block1 repeated or out of range"
        raise RequestError(text, Code.BAD_OPTION, reason="bad_option")
    try:
        (option,) = values[Number.OSCORE]
        kid, kid_context, partial_iv = _read_option(option)
    except (ValueError, IndexError):
        text = "Failed to decode COSE"
        raise unprotected_error(text, Code.BAD_OPTION, "oscore_format") from None
    return Outer(kid, kid_context, partial_iv, to_block(blocks[0]) if blocks else None)


def _read_option(value: bytes) -> tuple[bytes, bytes | None, bytes]:
    """Return kid, kid context and Partial IV (RFC 8613 6.1).

    Raises:
        ValueError: a request must not have such an option.
        IndexError: it ends too early.
    """
    flags, rest = value[0], value[1:]
    length = flags & 0x07
    if flags & 0xE0 or not flags & 0x08 or not 0 < length <= 5 or length > len(rest):
        raise ValueError("reserved bits, no kid or no Partial IV")
    partial_iv, rest = rest[:length], rest[length:]
    if not flags & 0x10:
        return rest, None, partial_iv
    length, rest = rest[0], rest[1:]
    if length > len(rest):
        raise ValueError("the kid context is cut off")
    return rest[length:], rest[:length], partial_iv


def message_inside(plaintext: bytes, message: Message) -> Message | None:
    """Return the request in a plaintext: code, options and payload (RFC 8613 5.3)."""
    if not plaintext or not 0 < plaintext[0] < 0x20:
        return None
    try:
        options, payload = parse_options(plaintext, 1)
    except ValueError:
        return None
    return Message(message.type, plaintext[0], message.mid, message.token, options, payload)


def echo_of(message: Message | None) -> bytes | None:
    """Return the Echo option's value (RFC 9175 2.2.1)."""
    options = () if message is None else message.options
    return next((value for number, value in options if number == Number.ECHO), None)


def unprotected_error(text: str, code: Code, reason: str) -> RequestError:
    """Return a refusal that is not protected itself, so that no proxy may keep it (8.2)."""
    return RequestError(text, code, reason=reason, options=_NOT_CACHED)
