"""One request and its answer on an HTTP/2 connection."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Generic, TypeVar

import msgspec

T = TypeVar("T")

_NO_FIELDS: Final[Mapping[bytes, str]] = MappingProxyType({})
_NOTHING: Final = memoryview(b"")


class Limits(msgspec.Struct, frozen=True):
    """How much of an answer is wanted, and how many requests there may be.

    Attributes:
        max_streams: requests under way at once; the peer may allow fewer.
        max_body: octets of a body after which the rest is not waited for.
        kept_body: octets of a body that are kept, from its beginning.
        kept_fields: names of the fields that are kept, in lower case.
    """

    max_streams: int
    max_body: int
    kept_body: int
    kept_fields: frozenset[bytes]


class Stream(Generic[T]):
    """A request under way, then what became of it.

    Attributes:
        id: its number.
        context: what the owner gave with the request.
        status: of the answer; None if there is none.
        fields: those of the answer that are kept.
        body: its first octets.
        error: why the stream ended early; a status that has come stands nonetheless.
        is_unprocessed: the peer says that it has not looked at the request.
        window: octets that the peer lets us send on this stream.
        unsent: what is left of the request's body.
        received: octets of DATA, padding included.
    """

    __slots__ = (
        "body",
        "context",
        "error",
        "fields",
        "id",
        "is_unprocessed",
        "received",
        "status",
        "unsent",
        "window",
    )

    def __init__(self, stream_id: int, context: T, window: int) -> None:
        self.id = stream_id
        self.context = context
        self.window = window
        self.unsent = _NOTHING
        self.status: int | None = None
        self.fields = _NO_FIELDS
        self.body = b""
        self.error = ""
        self.is_unprocessed = False
        self.received = 0

    def keep(self, payload: bytes, most: int) -> None:
        """Keep the first `most` octets of the answer's body."""
        if len(self.body) < most:
            self.body += payload[: most - len(self.body)]
