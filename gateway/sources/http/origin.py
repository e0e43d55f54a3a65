"""Where a callback goes: the part of a URL that names a server (RFC 6454 3.2)."""

import ipaddress
from typing import NamedTuple
from urllib.parse import urlsplit


class Origin(NamedTuple):
    """A scheme, a host in lower case, a port."""

    scheme: str
    host: str
    port: int


def parse_origin(text: str) -> Origin | None:
    """Return whom a URL addresses; None unless it is https, or http on loopback.

    A URL with user information, or with characters that have to be escaped, is none: others might
    read another host in it.
    """
    if not text.isascii() or not text.isprintable() or any(c in text for c in ' \\"<>'):
        return None
    try:
        url = urlsplit(text)
        host, port = url.hostname or "", url.port
    except ValueError:
        return None
    is_secure = url.scheme == "https"
    if not host or "@" in url.netloc or port == 0:
        return None
    if not (is_secure or (url.scheme == "http" and _is_loopback(host))):
        return None
    return Origin(url.scheme, host, port or (443 if is_secure else 80))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
