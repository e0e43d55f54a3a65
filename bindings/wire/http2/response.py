"""Header sections of responses: what may be in them, and what is kept (RFC 9113 8.1 to 8.3)."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from bindings.wire.http2.hpack import BlockDecoder

_MAX_KNOWN: Final = 256
_MAX_KNOWN_BYTES: Final = 1024
_NO_FIELDS: Final[Mapping[bytes, str]] = MappingProxyType({})

_STATUS = re.compile(rb"[1-9][0-9]{2}")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
# No NUL, CR, LF, and no blank at either end.
_VALUE = re.compile(rb"(?![ \t])[^\0\r\n]*(?<![ \t])")
_OF_HTTP1: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)


class Head(msgspec.Struct, frozen=True):
    """A header section of a response.

    Attributes:
        status: its code.
        fields: those that were asked for; several lines of one name joined with ", ".
        malformed: why the message counts as no response; "" if it does.
    """

    status: int = 0
    fields: Mapping[bytes, str] = _NO_FIELDS
    malformed: str = ""


class HeadReader:
    """Reads header sections; remembers blocks, since equal bytes mean equal fields.

    Args:
        kept: names of the fields that are wanted, in lower case.
    """

    def __init__(self, kept: frozenset[bytes]) -> None:
        self._kept = kept
        self._decoder = BlockDecoder()
        self._known: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """Return the head that a block is.

        Raises:
            Http2Error: COMPRESSION_ERROR.
        """
        head = self._known.get(block)
        if head is None:
            try:
                head = self._head(self._decoder.decode(block))
            except ValueError as error:
                head = Head(malformed=str(error))
            if len(block) <= _MAX_KNOWN_BYTES:
                if len(self._known) >= _MAX_KNOWN:
                    self._known.clear()
                self._known[block] = head
        return head

    def _head(self, section: list[tuple[bytes, bytes]]) -> Head:
        if not section or section[0][0] != b":status" or not _STATUS.fullmatch(section[0][1]):
            raise ValueError("a response without :status")
        fields: dict[bytes, str] = {}
        for name, value in section[1:]:
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise ValueError(f"a field that may not be: {name!r:.60}")
            if name in _OF_HTTP1:
                raise ValueError(f"the field {name.decode()}, which is HTTP/1.1's")
            if name in self._kept:
                text = value.decode("latin-1")
                fields[name] = f"{fields[name]}, {text}" if name in fields else text
        return Head(int(section[0][1]), fields or _NO_FIELDS)
