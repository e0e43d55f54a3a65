"""Plain POST requests at a glance: the shortcut past a full parser of HTTP/1.1.

Nearly all requests to an event source look like those before them: the same target, the same field
names, a Content-Length, all of it in one read. Those are read here, in a few calls. Whatever is out
of the ordinary in the least is left to the full parser, and nothing that it would refuse is taken:
targets and field names count only once they have been learned from it.

A head is taken apart field by field until its shape (target, Host, names in their order) has been
seen often; then one regular expression reads it.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from bindings.wire.header_fields import HeaderFields

MAX_HEAD: Final = 16_384
"""Bytes of a head that is read here."""
_MAX_NAMES: Final = 1024
_MAX_LEARNED: Final = 64  # bytes of a name
_MAX_TARGETS: Final = 256
_MAX_DIGITS: Final = 9  # of a Content-Length
_MAX_TARGET: Final = 256  # bytes of a target and a Host
_MAX_SHAPES: Final = 64
_MAX_FIELDS: Final = 32
_MAX_RECENT: Final = 4  # shapes that a head is compared with
# Making a pattern takes as long as reading some tens of requests without it.
_SEEN_OFTEN: Final = 16
# What a value may be here: visible ASCII, with blanks inside.
_VALUE: Final = "[!-~][ -~]*(?<! )"

_LENGTH: Final = "content-length"
_READ: Final = frozenset({"host", _LENGTH, "content-type", "authorization", "connection"})
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
    headers: Sequence[tuple[str, str]]
    body: bytes
    end: int


class _HeadShape:
    """Heads of one target and Host, with the same field names in the same order.

    Attributes:
        match: finds what stands in such a head; None for any other.
        length: the group that is Content-Length.

    The other groups are the attributes' values (none, or at least two), and those of Content-Type
    and Authorization; 0 is for a field that is not there.
    """

    __slots__ = (
        "_attributes", "_authorization", "_content_type", "_names", "_path", "length", "match",
    )  # fmt: skip

    def __init__(self, line: str, host: str, fields: list[tuple[str, str]], path: str) -> None:
        pattern, groups = [re.escape(line)], [""]
        for name, meaning in fields:
            value = _VALUE
            if meaning == "host":
                value = re.escape(host)
            elif meaning == "connection":
                value = "(?i:keep-alive)"
            elif meaning:
                groups.append(meaning)
                value = f"([0-9]{{1,{_MAX_DIGITS}}})" if meaning == _LENGTH else f"({_VALUE})"
            pattern.append(f"\r\n{re.escape(name)}: {value}")
        self.match = re.compile("".join(pattern)).fullmatch
        self._path = path
        self.length = groups.index(_LENGTH)
        self._content_type, self._authorization = (
            groups.index(name) if name in groups else 0
            for name in ("content-type", "authorization")
        )
        self._attributes = [at for at, name in enumerate(groups) if name[:3] == "ce-"]
        self._names = tuple(groups[at] for at in self._attributes)

    def post(self, found: re.Match[str], body: bytes, end: int) -> PlainPost:
        """Return the request that `match` has found."""
        names, content_type, authorization = self._names, self._content_type, self._authorization
        headers: Any = ()  # `HeaderFields` is a sequence by registration, which types can't say
        if names:
            headers = HeaderFields(names, list(found.group(*self._attributes)))
        return PlainPost(
            self._path,
            found[content_type] if content_type else "",
            found[authorization] if authorization else "",
            headers,
            body,
            end,
        )


class PlainPosts:
    """What requests have looked like so far; a memory that is full begins anew."""

    def __init__(self) -> None:
        self._attributes: dict[str, str] = {}
        self._others: dict[str, str] = {}
        self._targets: dict[tuple[str, str | None], str] = {}
        # How often a shape was seen, then the shape.
        self._shapes: dict[tuple[str, ...], int | _HeadShape] = {}
        self._recent: list[_HeadShape] = []

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
        for shape in self._recent:
            found = shape.match(head)
            if found is None:
                continue
            if shape is not self._recent[0]:
                self._prefer(shape)
            body = end + 4
            end = body + int(found[shape.length])
            if end > len(data) or end - body > max_body:
                return None
            return shape.post(found, data[body:end], end)
        return self._read_unknown(data, head, end + 4, max_body)

    def _prefer(self, shape: _HeadShape) -> None:
        """Compare with this shape first."""
        recent = self._recent
        self._recent = [shape, *[other for other in recent if other is not shape]][:_MAX_RECENT]

    def _read_unknown(self, data: bytes, head: str, body: int, max_body: int) -> PlainPost | None:
        """Read a request field by field; its body begins at `body`."""
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
        length = fields.get(_LENGTH, "")
        if path is None or not length.isdigit() or len(length) > _MAX_DIGITS:
            return None
        end = body + int(length)
        if end > len(data) or end - body > max_body:
            return None
        self._note_shape(first, lines, fields["host"], path)
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

    def _note_shape(self, line: str, lines: list[str], host: str, path: str) -> None:
        """Take note of a head that was read, and compare later ones with it if it comes often."""
        if len(lines) > _MAX_FIELDS:
            return
        names = [line.partition(":")[0] for line in lines]
        key = (line, host, *names)
        shape = self._shapes.get(key, 0)
        if isinstance(shape, int):
            if key not in self._shapes and len(self._shapes) >= _MAX_SHAPES:
                self._shapes.clear()
            shape += 1
            if shape >= _SEEN_OFTEN:
                meanings = [self._attributes.get(name) or self._others[name] for name in names]
                if sum(meaning[:3] == "ce-" for meaning in meanings) != 1:
                    shape = _HeadShape(line, host, list(zip(names, meanings, strict=True)), path)
            self._shapes[key] = shape
        if isinstance(shape, _HeadShape):
            self._prefer(shape)
