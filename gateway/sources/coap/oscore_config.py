"""The security contexts of OSCORE (RFC 8613) in the CoAP source's table."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Annotated, Final, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    SecretStr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from gateway.config.records import Record
from gateway.sources.coap.claims import Claims

_LEAST_SECRET_BYTES: Final = 16


def parse_hex(value: object) -> bytes:
    """Return the bytes of a hexadecimal text.

    Raises:
        ValueError: it is none; YAML makes a number of digits that stand without quotes.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return bytes.fromhex(value)
        except ValueError:
            pass
    raise ValueError("expected hexadecimal digits in quotes, two for each byte, such as '0a1b'")


Hex = Annotated[
    bytes,
    BeforeValidator(parse_hex),
    PlainSerializer(bytes.hex, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^([0-9a-fA-F]{2})*$", "examples": ["0a1b"]}),
]

Algorithm = Literal[
    "AES-CCM-16-64-128",
    "AES-CCM-16-64-256",
    "AES-CCM-16-128-128",
    "AES-CCM-16-128-256",
    "A128GCM",
    "A192GCM",
    "A256GCM",
    "ChaCha20/Poly1305",
]
_NONCE_BYTES: Final = {
    name: 13 if name.startswith("AES-CCM-16") else 12 for name in get_args(Algorithm)
}


class OscoreContext(Record):
    """One security context: what is agreed with one device."""

    label: str = Field(
        min_length=1, description="the device's name; its own source is /devices/{label}"
    )
    sender_id: Hex = Field(description="our id, which is the device's recipient id; hexadecimal")
    recipient_id: Hex = Field(description="the device's id, which is its sender id; hexadecimal")
    id_context: Hex | None = Field(
        None, max_length=255, description="tells contexts with the same ids apart; hexadecimal"
    )
    master_secret: SecretStr = Field(
        description="at least 16 bytes, hexadecimal; ${NAME} or ${file:PATH}"
    )
    master_salt: Hex = Field(b"", description="hexadecimal")
    algorithm: Algorithm = Field("AES-CCM-16-64-128", description="AEAD algorithm (RFC 9053)")
    may_speak_for: Claims = Field([])

    @field_validator("master_secret")
    @classmethod
    def _is_long_enough(cls, secret: SecretStr) -> SecretStr:
        if len(parse_hex(secret.get_secret_value())) < _LEAST_SECRET_BYTES:
            raise ValueError(f"expected at least {_LEAST_SECRET_BYTES} bytes")
        return secret

    @model_validator(mode="after")
    def _ids_fit(self) -> "OscoreContext":
        longest = _NONCE_BYTES[self.algorithm] - 6  # RFC 8613 3.3
        for name in ("sender_id", "recipient_id"):
            if len(getattr(self, name)) > longest:
                raise ValueError(f"{name} has at most {longest} bytes with {self.algorithm}")
        return self

    @property
    def secret(self) -> bytes:
        """The master secret."""
        return parse_hex(self.master_secret.get_secret_value())

    @property
    def keys(self) -> list[Hashable]:
        """What our sender key and the device's are derived from (RFC 8613 3.2.1)."""
        shared = (self.secret, self.master_salt, self.id_context)
        return [(*shared, self.sender_id), (*shared, self.recipient_id)]


def _tell_apart(contexts: Sequence[OscoreContext]) -> Sequence[OscoreContext]:
    """Check that a request has one context, and that no key belongs to two (RFC 8613 3.3).

    Raises:
        ValueError: two contexts can't be told apart.
    """
    names = Counter((context.recipient_id, context.id_context) for context in contexts)
    keys = Counter(key for context in contexts for key in context.keys)
    for context in contexts:
        if names[context.recipient_id, context.id_context] > 1:
            raise ValueError(
                f"{context.label}: another context has the same recipient_id and id_context"
            )
        for own, key in zip((context.sender_id, context.recipient_id), context.keys, strict=True):
            if keys[key] > 1:
                raise ValueError(
                    f"{context.label}: id '{own.hex()}' stands twice with the same master_secret, "
                    "master_salt and id_context; both sides' ids have to differ"
                )
    return contexts


OscoreContexts = Annotated[list[OscoreContext], AfterValidator(_tell_apart)]
