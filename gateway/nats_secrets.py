"""Files with NATS credentials, checked before nats-py gets them.

nats-py reads for ever where a marker is missing, and names no file in its errors.
"""

import re
from pathlib import Path
from typing import Final

import nkeys  # type: ignore[import-untyped]  # it has no stubs

from gateway.errors import GatewayError

_JWT: Final = b"BEGIN NATS USER JWT"
_SEED: Final = b"BEGIN USER NKEY SEED"


def check_credentials(path: Path) -> None:
    """Check a `.creds` file.

    Raises:
        GatewayError: it can't be read, or lacks the JWT or a valid seed.
    """
    content = _read(path)
    for marker in (_JWT, _SEED):
        if marker not in content:
            raise GatewayError(f"{path} holds no {marker.decode()!r}")
    found = re.search(_SEED + rb"-+\s+(\S+)", content)
    _check_seed(path, found[1] if found else b"")


def check_nkey(path: Path) -> None:
    """Check a file with nothing but a seed.

    Raises:
        GatewayError: it can't be read, or holds no valid seed.
    """
    _check_seed(path, _read(path).strip())


def _check_seed(path: Path, seed: bytes) -> None:
    try:
        nkeys.from_seed(bytearray(seed)).wipe()
    except (nkeys.NkeysError, ValueError) as error:
        raise GatewayError(f"{path} holds no nkey seed: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise GatewayError(f"can't read {path}: {error.strerror}") from error
