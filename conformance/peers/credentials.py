"""Who devices are on secured channels: keys that the judged gateway has been told before.

A foreign gateway is set up with the same ones (docs/conformance/targets.md).
"""

from typing import Final

PSK: Final = {
    "dev1": b"open sesame",
    "a b/\u00fc": b"field and stream",
    "A.z_0~-9": b"behind seven hills",
}
"""Pre-shared keys for DTLS, by identity."""

OSCORE_LABEL: Final = "oscdev"
MASTER_SECRET: Final = bytes.fromhex("0102030405060708090a0b0c0d0e0f10")
MASTER_SALT: Final = bytes.fromhex("9e7ca92223786340")
DEVICE_ID: Final = b""
GATEWAY_ID: Final = b"\x01"
"""A security context with the keys of RFC 8613 appendix C.1, the device as its client."""
