"""A device with an OSCORE context, after RFC 8613 and with the keys of its appendix C.1.

It has sender id "" and recipient id 01, so the gateway's context has them the other way round.
"""

from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from gateway.sources.coap.oscore_config import OscoreContext
from tests.gateway.sources.coap.device import fields

SECRET = "0102030405060708090a0b0c0d0e0f10"
SALT = "9e7ca92223786340"
DEVICE_KEY = bytes.fromhex("f0910ed7295e6ad4b54fc793154302ff")
GATEWAY_KEY = bytes.fromhex("ffb14e093c94c9cac9471648b4f98710")
COMMON_IV = bytes.fromhex("4622d4dd6d944168eefb54987c")

POST_CE = bytes.fromhex("02b26365113235743d742e7803693d31ff7b2261223a317d")
"""What SEC-07 sends: POST /ce?t=t.x&i=1, Content-Format 50, {"a":1}."""
CHANGED = b"\x44"


def context(**changes):
    agreed = {
        "label": "oscdev",
        "sender_id": "01",
        "recipient_id": "",
        "master_secret": SECRET,
        "master_salt": SALT,
    }
    return OscoreContext(**{**agreed, **changes})


def encode_number(number):
    return number.to_bytes(5, "big").lstrip(b"\0") or b"\0"


def nonce(number, owner):
    """RFC 8613 5.2."""
    plain = bytes((len(owner),)) + owner.rjust(7, b"\0") + number.to_bytes(5, "big")
    return bytes(a ^ b for a, b in zip(plain, COMMON_IV, strict=True))


def aad(number):
    """RFC 8613 5.4 for a request whose kid is empty."""
    piv = encode_number(number)
    external = b"\x85\x01\x81\x0a\x40" + bytes((0x40 | len(piv),)) + piv + b"\x40"
    return b"\x83\x68Encrypt0\x40" + bytes((0x40 | len(external),)) + external


def seal(inner, number):
    """Return the OSCORE option's value and the ciphertext of code, options and payload."""
    piv = encode_number(number)
    option = bytes((0x08 | len(piv),)) + piv
    return option, AESCCM(DEVICE_KEY, 8).encrypt(nonce(number, b""), inner, aad(number))


def protected(inner, number, mid, *, outer=b"", code=2, kind=0x41, block=b""):
    """Return a datagram; `outer` and `block` are options before and behind the OSCORE option."""
    option, ciphertext = seal(inner, number)
    delta = 9 - sum(octet >> 4 for octet in outer[:1])
    head = bytes((kind, code)) + mid.to_bytes(2, "big") + b"\x07" + outer
    return head + bytes((delta << 4 | len(option),)) + option + block + b"\xff" + ciphertext


def opened(datagram, number):
    """Return code, options and payload of the answer to the request with a Partial IV."""
    answer = fields(datagram)
    assert answer["code"] in {"2.04", "2.05"}, answer
    option = answer["options"][9]
    own = option[1 : 1 + option[0]] if option else None
    used = nonce(number, b"") if own is None else nonce(int.from_bytes(own, "big"), b"\x01")
    return AESCCM(GATEWAY_KEY, 8).decrypt(used, answer["payload"], aad(number))


def echo_in(inner):
    """Return the Echo option's value of a challenge: 4.01, option 252 of 8 bytes."""
    assert inner[:3] == b"\x81\xd8\xef"
    return inner[3:11]


def with_echo(inner, value):
    """Return a request whose last option is a Uri-Query with the Echo option behind it."""
    head, marker, payload = inner.partition(b"\xff")
    return head + b"\xd8\xe0" + value + marker + payload  # 252 = 15 + 13 + 224


async def introduce(device, number=0):
    """Let the gateway know that the device is there now; the first numbers are then used up."""
    challenge = opened(await device.ask(protected(POST_CE, number, 0xFF00)), number)
    answer = await device.ask(protected(with_echo(POST_CE, echo_in(challenge)), number + 1, 0xFF01))
    assert opened(answer, number + 1) == CHANGED
