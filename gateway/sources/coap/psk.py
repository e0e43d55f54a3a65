"""Pre-shared keys: their table in the configuration, and who they belong to (RFC 4279)."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Self

from pydantic import Field, SecretStr, StringConstraints, model_validator

from bindings.coap import Identity
from gateway.config.records import Record
from gateway.sources.coap.claims import Claims

_MAX_KEY_BYTES = 32
"""What mbedtls takes, as it is built for Python."""
_MAX_IDENTITY_BYTES = 128
"""What every implementation takes (RFC 4279 5.3)."""


class PreSharedKey(Record):
    """The key of one identity, and what it may do."""

    key: SecretStr | None = Field(
        None, description="the key as text, at most 32 bytes; at random they should be 16 or more"
    )
    key_hex: SecretStr | None = Field(None, description="the key in hexadecimal; instead of `key`")
    label: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        None, description="the name of the device in its source, /devices/LABEL; default: identity"
    )
    may_speak_for: Claims = Field([])

    @model_validator(mode="after")
    def _has_a_key(self) -> Self:
        if (self.key is None) is (self.key_hex is None):
            raise ValueError("either key or key_hex is needed")
        try:
            size = len(self.secret_bytes)
        except ValueError:
            raise ValueError("key_hex is no hexadecimal number") from None
        if not 1 <= size <= _MAX_KEY_BYTES:
            raise ValueError(f"the key has {size} bytes; 1 to {_MAX_KEY_BYTES} are possible")
        return self

    @property
    def secret_bytes(self) -> bytes:
        """The key itself."""
        if self.key_hex is not None:
            return bytes.fromhex(self.key_hex.get_secret_value())
        return self.key.get_secret_value().encode() if self.key is not None else b""


def check_identities(keys: Mapping[str, PreSharedKey]) -> None:
    """Check what the keys are called.

    Raises:
        ValueError: an identity is too long.
    """
    for name in keys:
        if not 1 <= len(name.encode()) <= _MAX_IDENTITY_BYTES:
            raise ValueError(f"{name!r}: an identity has 1 to {_MAX_IDENTITY_BYTES} bytes")


class KeyStore(Mapping[str, bytes]):
    """The keys by identity, as mbedtls asks for them; it tells which one it asked for last."""

    def __init__(self, keys: Mapping[str, PreSharedKey]) -> None:
        self._keys = {name: key.secret_bytes for name, key in keys.items()}
        self._identities = {
            name: Identity(key.label or name, tuple(key.may_speak_for))
            for name, key in keys.items()
        }
        self._asked: str | None = None

    def __getitem__(self, name: str) -> bytes:
        self._asked = name
        return self._keys[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def take_asked(self) -> Identity | None:
        """Return whose key was asked for since the last call; None if none was, or nobody's."""
        name, self._asked = self._asked, None
        return self._identities.get(name) if name is not None else None
