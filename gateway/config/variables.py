"""`${NAME}` and `${file:PATH}` in the values of the file."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_REFERENCE: Final = re.compile(r"\$(\$)?\{([^{}]*)(\})?")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Replace `${NAME}` by the environment's value and `${file:PATH}` by the file's content.

    The content of a file is stripped of white space at both ends. What is put in is not expanded
    again. `$${` stands for `${`.

    Raises:
        ValueError: a variable is not set, a file can't be read, or a reference is malformed.
    """
    return _REFERENCE.sub(lambda match: _value(match, environ), text) if "${" in text else text


def _value(match: re.Match[str], environ: Mapping[str, str]) -> str:
    escaped, name, closed = match.groups()
    if escaped:
        return match[0][1:]
    if not closed:
        raise ValueError("expected '}' after '${'; write '$${' for the two characters themselves")
    if name.startswith("file:"):
        return _content(name.removeprefix("file:"))
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{match[0]!r} is no reference, expected ${{NAME}} or ${{file:PATH}}; "
            "write '$${' for the two characters themselves"
        )
    if name not in environ:
        raise ValueError(f"the environment variable {name} is not set")
    return environ[name]


def _content(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"can't read {path!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"can't read {path!r}: it is not UTF-8") from error
