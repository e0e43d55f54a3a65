"""Who a channel has authenticated, and which sources are its own (binding sections 10.1 and 10.4).

All channels use this: DTLS with its pre-shared keys, TLS with its certificates, OSCORE with its
contexts.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

import msgspec

_DOT_SEGMENT: Final = re.compile(r"(?:[^?#]*/)?(?:\.|%2e){1,2}(?![^/?#])", re.IGNORECASE)
"""The path up to a segment that a reader who normalises URIs takes out (RFC 3986 5.2.4, 6.2.2)."""


class Identity(msgspec.Struct, frozen=True):
    """Who has shown credentials.

    Attributes:
        label: the credential's name: its label, or what the channel calls it.
        may_speak_for: sources besides its own that it may use, each with what is below it; a
            field gateway has them.
    """

    label: str
    may_speak_for: tuple[str, ...] = ()


def default_source(identity: Identity | None, peer_ip: str) -> str:
    """Return the source of events that name none (section 10.1).

    Args:
        identity: who sent them; None for whoever has that address.
        peer_ip: the address without the port, as a NAT may change that at any time.
    """
    if identity is not None:
        return f"/devices/{quote(identity.label, safe='')}"
    return f"coap://[{peer_ip}]" if ":" in peer_ip else f"coap://{peer_ip}"


def is_source_allowed(source: str, roots: Iterable[str]) -> bool:
    """Whether a source is one of those that its sender may use, or below one (section 10.4)."""
    return any(_is_within(source, root) for root in roots)


def _is_within(source: str, root: str) -> bool:
    return source == root or (
        source.startswith((root + "/", root + "#")) and not _has_dot_segment(source)
    )


def _has_dot_segment(source: str) -> bool:
    """Whether the source of another may be what is left of this one after normalisation."""
    return _DOT_SEGMENT.match(source) is not None
