"""The id that an event gets when its producer gave none (binding section 3.4.2)."""

from base64 import urlsafe_b64encode
from hashlib import blake2b
from typing import Final

from bindings.wire.coap import Message, Number, serialise_options

WINDOW_SECONDS: Final = 256
"""How long one message id means one message; RFC 7252 lets it be used again after 247 s."""

_PER_BLOCK: Final = frozenset({Number.BLOCK1, Number.BLOCK2, Number.SIZE1, Number.SIZE2})


def generate_id(message: Message, payload: bytes, endpoint: bytes, seconds: float) -> str:
    """Return a function of window and datagram alone, so that a retransmission gets the same id.

    Args:
        message: the request; the one with the last block where there were several.
        payload: the whole payload.
        endpoint: who sent it: transport, address and port, and security context if any.
        seconds: wall clock time of the first copy's reception.
    """
    content = b"".join((
        int(seconds // WINDOW_SECONDS).to_bytes(8, "big"),
        bytes((len(endpoint),)),
        endpoint,
        bytes((message.code, message.mid >> 8, message.mid & 0xFF, len(message.token))),
        message.token,
        serialise_options([option for option in message.options if option[0] not in _PER_BLOCK]),
        b"\xff",
        payload,
    ))  # fmt: skip
    return id_of(content)


def id_of(content: bytes) -> str:
    """Return an id that is the same for the same content, and for nothing else: 96 bits."""
    return urlsafe_b64encode(blake2b(content, digest_size=12).digest()).decode("ascii")


def assembly_key(message: Message) -> bytes:
    """Return what all blocks of one payload have in common beside their endpoint (section 5.2)."""
    ignored = _PER_BLOCK | {Number.ECHO, Number.NO_RESPONSE}
    return serialise_options(option for option in message.options if option[0] not in ignored)
