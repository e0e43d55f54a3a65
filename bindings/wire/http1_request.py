"""Plain POST requests at a glance: the shortcut past a full parser of HTTP/1.1.

Nearly all requests to an event source look like those before them: the same target, the same field
names, a Content-Length, all of it in one read. Those are read here, in a few calls. Whatever is out
of the ordinary in the least is left to the full parser, and nothing that it would refuse is taken:
targets and field names count only once they have been learned from it.
"""

from typing import Final

import msgspec

MAX_HEAD: Final = 16_384
"""Bytes of a head that is read here."""
_MAX_NAMES: Final = 1024
_MAX_LEARNED: Final = 64  # bytes of a name
_MAX_TARGETS: Final = 256
_MAX_DIGITS: Final = 9  # of a Content-Length
_MAX_TARGET: Final = 256  # bytes of a target and a Host

_READ: Final = frozenset({"host", "content-length", "content-type", "authorization", "connection"})
# Those that say how a message is framed or what becomes of its connection, or that a source judges.
_NEVER: Final = frozenset(
    {
        "transfer-encoding", "trailer", "te", "upgrade", "http2-settings", "expect",
        "proxy-connection", "content-encoding", "webhook-request-origin", "webhook-request-rate",
        "webhook-request-callback",
    }
)  # fmt: skip


class PlainPost(msgspec.Struct):
    """A request that was read whole.

    Attributes:
        path: what its target was learned with.
        content_type: "" without the field.
        authorization: as `content_type`.
        headers: the fields named `ce-*`, names in lower case, in the order of the wire; latin-1.
        body: as many bytes as Content-Length said.
        end: where the next request begins.
    """

    path: str
    content_type: str
    authorization: str
    headers: list[tuple[str, str]]
    body: bytes
    end: int


class PlainPosts:
    """What requests have looked like so far; a memory that is full begins anew."""

    def __init__(self) -> None:
        self._attributes: dict[str, str] = {}
        self._others: dict[str, str] = {}
        self._targets: dict[tuple[str, str | None], str] = {}

    def learn_name(self, name: bytes) -> None:
        """Take note of a field name that the full parser has accepted."""
        text = name.decode("latin-1")
        lower = text.lower()
        if len(name) > _MAX_LEARNED or lower in _NEVER:
            return
        if len(self._attributes) + len(self._others) >= _MAX_NAMES:
            self._attributes.clear()
            self._others.clear()
        if lower.startswith("ce-"):
            self._attributes[text] = lower
        else:
            self._others[text] = lower if lower in _READ else ""

    def learn_target(self, target: bytes, host: bytes, path: str) -> None:
        """Take note of a request that was admitted by its target and Host alone."""
        if len(target) + len(host) > _MAX_TARGET or b"?" in target:
            return
        if len(self._targets) >= _MAX_TARGETS:
            self._targets.clear()
        self._targets[target.decode("latin-1"), host.decode("latin-1")] = path

    def read(self, data: bytes, start: int, max_body: int) -> PlainPost | None:
        """Return the request that begins at `start`; None if the full parser has to see it.

        Args:
            data: what one read brought.
            start: where in it a request begins.
            max_body: the most bytes of a body.
        """
        end = data.find(b"\r\n\r\n", start, start + MAX_HEAD)
        if end < 0:
            return None
        head = data[start:end].decode("latin-1")
        lines = head.split("\r\n")
        # No control character, no CR or LF but at a line's end, no blank at the end of a value.
        is_clean = head.isascii() and "".join(lines).isprintable() and " \r\n" not in head
        first = lines.pop(0)
        if not is_clean or head[-1:] == " " or first[:5] != "POST " or first[-9:] != " HTTP/1.1":
            return None
        headers: list[tuple[str, str]] = []
        fields = self._read_fields(lines, headers)
        if fields is None or fields.get("connection", "keep-alive").lower() != "keep-alive":
            return None
        path = self._targets.get((first[5:-9], fields.get("host")))
        length = fields.get("content-length", "")
        if path is None or not length.isdigit() or len(length) > _MAX_DIGITS:
            return None
        body = end + 4
        end = body + int(length)
        if end > len(data) or end - body > max_body:
            return None
        content_type = fields.get("content-type", "")
        authorization = fields.get("authorization", "")
        return PlainPost(path, content_type, authorization, headers, data[body:end], end)

    def _read_fields(
        self, lines: list[str], headers: list[tuple[str, str]]
    ) -> dict[str, str] | None:
        """Return the fields that are read, and add to `headers`; None for one that is unknown."""
        attributes, others = self._attributes, self._others
        fields: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            attribute = attributes.get(name)
            if attribute is not None:
                headers.append((attribute, value.lstrip(" ")))
                continue
            field = others.get(name)
            if field:
                if field in fields:
                    return None
                fields[field] = value.lstrip(" ")
            elif field is None:
                return None
        return fields
