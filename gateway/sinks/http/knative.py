"""What Knative gives a container: environment variables and files (data-plane.md, sources.md).

It counts for the sink whose URL is `${K_SINK}` and for no other.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bindings.errors import InvalidEventError
from bindings.event import CORE_ATTRIBUTES, REQUIRED_ATTRIBUTES, check_extension, is_valid_name
from gateway.errors import GatewayError

TOKEN_FILE: Final = Path("/oidc/token")
CERTIFICATES_FOLDER: Final = Path("/knative-custom-certs")
_IS_PEM: Final = "-----BEGIN CERTIFICATE-----"


def overrides(text: str) -> dict[str, str]:
    """Return the extensions of `K_CE_OVERRIDES`, which are set on every event; "" is none.

    Raises:
        GatewayError: it is not `{"extensions": {"name": "value"}}`, or names a core attribute.
    """
    if not text.strip():
        return {}
    try:
        table = json.loads(text)
    except ValueError as error:
        raise GatewayError(f"K_CE_OVERRIDES is no JSON: {error}") from error
    extensions = table.get("extensions") if isinstance(table, dict) else None
    if isinstance(table, dict) and extensions is None:
        return {}
    if not isinstance(extensions, dict):
        raise GatewayError('K_CE_OVERRIDES: expected {"extensions": {"name": "value"}}')
    for name, value in extensions.items():
        _check_override(name, value)
    return extensions


def _check_override(name: str, value: object) -> None:
    if name in REQUIRED_ATTRIBUTES:
        raise GatewayError(
            f"K_CE_OVERRIDES: {name!r} is a required attribute and can't be overridden"
        )
    if name in CORE_ATTRIBUTES or not is_valid_name(name):
        raise GatewayError(f"K_CE_OVERRIDES: {name!r} is no name of an extension")
    if not isinstance(value, str):
        raise GatewayError(f"K_CE_OVERRIDES: the value of {name!r} must be a string")
    try:
        check_extension(name, value)
    except InvalidEventError as error:
        raise GatewayError(f"K_CE_OVERRIDES: {error}") from error


def sink_timeout(environ: Mapping[str, str]) -> float | None:
    """Return the seconds of `K_SINK_TIMEOUT`; None unless it is a whole number above 0."""
    text = environ.get("K_SINK_TIMEOUT", "").strip()
    return float(text) if text.isascii() and text.isdigit() and int(text) > 0 else None


class TrustedCertificates:
    """`K_CA_CERTS` and every PEM file of the folder that Knative keeps up to date.

    Newer releases put one file into the folder, older ones a folder for each ConfigMap, with
    whatever names its author gave.
    """

    def __init__(self, environ: Mapping[str, str], folder: Path = CERTIFICATES_FOLDER) -> None:
        self._given = environ.get("K_CA_CERTS", "")
        self._folder = folder

    def state(self) -> tuple[tuple[str, int, int], ...]:
        """Return what changes when a file does; cheap enough for every new connection."""
        found = []
        for path in self._files():
            try:
                status = path.stat()
            except OSError:  # replaced at this moment
                continue
            found.append((str(path), status.st_mtime_ns, status.st_size))
        return tuple(found)

    def text(self) -> str:
        """Return all certificates as PEM text.

        Raises:
            GatewayError: a file can't be read.
        """
        parts = [self._given] if self._given.strip() else []
        for path in self._files():
            try:
                part = path.read_text(encoding="ascii", errors="ignore")
            except FileNotFoundError:  # replaced at this moment: the state will differ, too
                continue
            except OSError as error:
                raise GatewayError(f"can't read {path}: {error}") from error
            if _IS_PEM in part:
                parts.append(part)
        return "\n".join(parts)

    def _files(self) -> list[Path]:
        """Return the files of the folder and those below it.

        A volume's names are links into a folder whose name begins with two dots, which is replaced
        as a whole.
        """
        found = []
        for folder, folders, files in os.walk(self._folder, followlinks=True):
            folders[:] = [name for name in folders if not name.startswith("..")]
            found += [Path(folder, name) for name in files if not name.startswith("..")]
        return sorted(found)


class TokenFile:
    """A Bearer token in a file that is rewritten while we run (Knative: every half hour)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state: tuple[int, int, int] | None = None
        self._checked = -1.0
        self._token = ""

    def token(self, now: float) -> str:
        """Return the token, "" if there is no file; looks at the file once a second at most.

        Args:
            now: monotonic seconds.
        """
        if now - self._checked >= 1.0 or self._checked < 0:
            self._checked = now
            self._read()
        return self._token

    def forget(self) -> None:
        """Read the file again, whatever its date says: the receiver did not take the token."""
        self._state = None
        self._checked = -1.0

    def _read(self) -> None:
        try:
            status = os.stat(self._path)  # noqa: PTH116 - the cheap call, once a second
            state = (status.st_mtime_ns, status.st_size, status.st_ino)
            if state != self._state:
                self._token = self._path.read_text(encoding="ascii").strip()
                self._state = state
        except (OSError, UnicodeDecodeError):
            self._token = ""
            self._state = None
        if not self._token.isprintable():
            self._token = ""
