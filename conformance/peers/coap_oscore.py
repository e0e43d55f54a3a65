"""A device whose CoAP messages are protected with OSCORE (RFC 8613), written from the RFC.

Partial IVs come from the clock, so that a gateway that runs on sees each once, whoever asks.
"""

import itertools
import time
from typing import Final

import cbor2
import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from conformance.check import CheckFailed
from conformance.peers.coap import Device, Reply, code_text, read_options
from conformance.peers.credentials import DEVICE_ID, GATEWAY_ID, MASTER_SALT, MASTER_SECRET

OSCORE: Final = 9
ECHO: Final = 252
_ALGORITHM: Final = 10  # AES-CCM-16-64-128
_NONCE_BYTES: Final = 13
_TAG_BYTES: Final = 8

_numbers = itertools.count(int(time.time() * 100))
_mids = itertools.count(1)


class Inner(msgspec.Struct, frozen=True):
    """The answer inside a protected one."""

    code: str
    options: dict[int, bytes]
    payload: bytes


def next_number() -> int:
    """Return a Partial IV that was never used, as a number."""
    return next(_numbers)


def derive(owner: bytes, kind: str, size: int) -> bytes:
    """Return a key or the common IV of the context (RFC 8613 section 3.2.1)."""
    info = cbor2.dumps([owner, None, _ALGORITHM, kind, size])
    return HKDF(SHA256(), size, MASTER_SALT, info).derive(MASTER_SECRET)


_COMMON_IV: Final = derive(b"", "IV", _NONCE_BYTES)
_DEVICE_KEY: Final = derive(DEVICE_ID, "Key", 16)
_GATEWAY_KEY: Final = derive(GATEWAY_ID, "Key", 16)


def partial_iv(number: int) -> bytes:
    """Return a sequence number as few bytes as it takes."""
    return number.to_bytes(5, "big").lstrip(b"\0") or b"\0"


def _nonce(piv: bytes, owner: bytes) -> bytes:
    plain = bytes((len(owner),)) + owner.rjust(_NONCE_BYTES - 6, b"\0") + piv.rjust(5, b"\0")
    return bytes(a ^ b for a, b in zip(plain, _COMMON_IV, strict=True))


def _aad(piv: bytes) -> bytes:
    external = cbor2.dumps([1, [_ALGORITHM], DEVICE_ID, piv, b""])
    return cbor2.dumps(["Encrypt0", b"", external])


def protect(inner: bytes, number: int, kid: bytes = DEVICE_ID) -> tuple[bytes, bytes]:
    """Return the OSCORE option's value and the ciphertext of a request.

    Args:
        inner: code, options and payload.
        number: of the Partial IV.
        kid: whose request it says it is.
    """
    piv = partial_iv(number)
    sealed = AESCCM(_DEVICE_KEY, _TAG_BYTES).encrypt(_nonce(piv, DEVICE_ID), inner, _aad(piv))
    return bytes((0x08 | len(piv),)) + piv + kid, sealed


def request(inner: bytes, number: int, *, kid: bytes = DEVICE_ID, outer: bytes = b"") -> bytes:
    """Return the datagram that carries a protected request, with a message id of its own.

    Args:
        inner: code, options and payload.
        number: of the Partial IV.
        kid: whose request it says it is.
        outer: options behind the OSCORE option, outside the protection.
    """
    option, sealed = protect(inner, number, kid)
    return unprotected(option, outer + b"\xff" + sealed)


def unprotected(option: bytes, rest: bytes) -> bytes:
    """Return a CON POST with an OSCORE option of that value.

    Args:
        option: up to 12 bytes.
        rest: what follows: other options, marker, payload.
    """
    head = b"\x41\x02" + (next(_mids) & 0xFFFF).to_bytes(2, "big") + b"\x07"
    return head + bytes((0x90 | len(option),)) + option + rest


def opened(reply: Reply, number: int) -> Inner:
    """Return the answer inside the answer to the request of a Partial IV.

    Raises:
        CheckFailed: it is not protected, or not with the right key.
    """
    option = reply.options.get(OSCORE)
    if option is None:
        raise CheckFailed("the answer is not protected", got=reply.raw.hex())
    piv = partial_iv(number)
    own = option[1 : 1 + (option[0] & 7)] if option else b""
    nonce = _nonce(own, GATEWAY_ID) if own else _nonce(piv, DEVICE_ID)
    try:
        plain = AESCCM(_GATEWAY_KEY, _TAG_BYTES).decrypt(nonce, reply.payload, _aad(piv))
        options, position = read_options(plain, 1)
    except (InvalidTag, ValueError, IndexError):
        raise CheckFailed("the answer can't be decrypted", got=reply.raw.hex()) from None
    return Inner(code_text(plain[0]), options, plain[position + 1 :])


def with_echo(inner: bytes, last_option: int, value: bytes) -> bytes:
    """Return a request with an Echo option behind its last one, whose number is given."""
    head, marker, payload = inner.partition(b"\xff")
    delta = ECHO - last_option
    option = bytes((0xD0 | len(value), delta - 13))
    return head + option + value + marker + payload


async def ask(device: Device, inner: bytes, last_option: int) -> tuple[Inner, int]:
    """Send a protected request, again with Echo when that is asked for.

    Args:
        device: at the gateway.
        inner: code, options and payload.
        last_option: the number of its last option.

    Returns:
        The answer inside, and the number of the Partial IV it is for.
    """
    number = next_number()
    device.send(request(inner, number))
    answer = opened(await device.receive(), number)
    if answer.code == "4.01" and ECHO in answer.options:
        number = next_number()
        device.send(request(with_echo(inner, last_option, answer.options[ECHO]), number))
        answer = opened(await device.receive(), number)
    return answer, number
