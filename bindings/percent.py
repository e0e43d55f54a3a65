"""Attribute values in headers of HTTP and NATS (http-protocol-binding.md 3.1.3.2), both ways."""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from bindings.errors import InvalidEventError, excerpt

# http-protocol-binding.md 3.1.3.2: space, double quote, percent and all outside U+0021-7E.
_TO_ESCAPE = re.compile(r"[^!#$&-~]")
_PLAIN: Final = bytes(code for code in range(0x21, 0x7F) if code not in b'"%')
_MALFORMED_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# RFC 7230 section 3.2.6, without the grammar's own escaping of characters outside ASCII.
_QUOTED_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)


def is_plain(text: str) -> bool:
    """Whether a header value is the text that it stands for: no escapes, quotes and blanks."""
    return text.isascii() and not text.encode().translate(None, _PLAIN)  # no bytes but these


def percent_encode(text: str) -> str:
    """Encode a header value as http-protocol-binding.md 3.1.3.2 demands, and no character more."""
    return text if is_plain(text) else _TO_ESCAPE.sub(_escape, text)


def _escape(match: "re.Match[str]") -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8"))


def percent_decode(name: str, text: str) -> str:
    """Decode a header value: unquote, then percent-decode once, then UTF-8, strictly.

    A value is quoted if a double quote opens it; quotes further in are characters. Malformed
    escapes (`100%`, `%zz`) are refused, as nobody can tell what they were meant to say. Bytes
    outside ASCII, which no conforming sender emits and widespread SDKs do, count as UTF-8.

    Args:
        name: the attribute, for the error.
        text: the value as it stood there, bytes as latin-1.

    Raises:
        InvalidEventError: a malformed escape or quoted string, or bytes that are no UTF-8.
    """
    if is_plain(text):
        return text
    text = text.strip(" \t")
    if text[:1] == '"':
        quoted = _QUOTED_STRING.fullmatch(text)
        if quoted is None:
            raise _undecodable(name, "a quoted string has no end", text)
        text = _QUOTED_PAIR.sub(r"\1", quoted[1])
    if _MALFORMED_ESCAPE.search(text):
        raise _undecodable(name, "a percent sign starts no escape", text)
    try:
        # To bytes here, because unquote_to_bytes itself would take latin-1 text for UTF-8.
        return unquote_to_bytes(text.encode("latin-1")).decode("utf-8")
    except UnicodeError:
        raise _undecodable(name, "the value is no UTF-8", text) from None


def _undecodable(name: str, what: str, text: str) -> InvalidEventError:
    return InvalidEventError(
        f"{what} in {name}: {excerpt(text)}", attribute=name, reason="header_encoding"
    )
