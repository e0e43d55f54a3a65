"""Requests in HTTP/1.1's words become header sections of HTTP/2 (RFC 9113 8.2 and 8.3)."""

from typing import Final

from bindings.wire.http2.hpack import encode_field, encode_indexed, encode_integer, field_name

# 8.2.2: they are about an HTTP/1.1 connection. Host is :authority.
_LEFT_OUT: Final = frozenset(
    {b"connection", b"host", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding"}
    | {b"upgrade"}
)
# Fields from here on differ from request to request.
_VARYING: Final = (b"content-", b"ce-")
_EACH_TIME_NEW: Final = frozenset({b"ce-id", b"ce-time"})
_MAX_KNOWN: Final = 512
_MAX_KNOWN_BYTES: Final = 256


class RequestEncoder:
    """Turns requests of one origin into header sections and bodies.

    What is the same in each request is encoded once, and so is a line that comes again.

    Args:
        scheme: http or https.
    """

    def __init__(self, scheme: bytes) -> None:
        self._scheme = encode_indexed(b":scheme", scheme)
        self._head = b"\0"
        self._block = b""
        self._names: dict[bytes, bytes] = {}
        self._lines: dict[bytes, bytes] = {}

    def encode(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the header section and the body of a request.

        Args:
            data: a whole request of HTTP/1.1, with a Content-Length.
        """
        if not data.startswith(self._head):
            self._learn(data)
        start = len(self._head)
        end = data.index(b"\r\n\r\n", start - 2)
        known, field = self._lines.get, self._field
        fields = [known(line) or field(line) for line in data[start:end].split(b"\r\n")]
        return self._block + b"".join(fields), data[end + 4 :]

    def _field(self, line: bytes) -> bytes:
        name, _, value = line.partition(b": ")
        value = value.strip(b" \t")  # 8.2.1
        begin = self._names.get(name) or self._learn_name(name)
        if not begin:
            return b""
        size = len(value)
        field = begin + (bytes((size,)) if size < 127 else encode_integer(size, 7)) + value
        if size <= _MAX_KNOWN_BYTES and name not in _EACH_TIME_NEW:
            if len(self._lines) >= _MAX_KNOWN:
                self._lines.clear()
            self._lines[line] = field
        return field

    def _learn_name(self, name: bytes) -> bytes:
        """Return how a field begins; b"" if it is left out."""
        if name.lower() in _LEFT_OUT:
            return b""
        if len(self._names) >= _MAX_KNOWN:
            self._names.clear()
        begin = self._names[name] = field_name(name.lower())
        return begin

    def _learn(self, data: bytes) -> None:
        """Encode what this request begins with, up to the fields that vary."""
        request_line, *lines = data[: data.index(b"\r\n\r\n")].split(b"\r\n")
        method, path, _ = request_line.split(b" ")
        authority, fields, size = b"", b"", len(request_line) + 2
        for line in lines:
            name, _, value = line.partition(b": ")
            name = name.lower()
            if name.startswith(_VARYING):
                break
            size += len(line) + 2
            if name == b"host":
                authority = value
            elif name not in _LEFT_OUT:
                fields += encode_field(name, value.strip(b" \t"))
        self._head = data[:size]
        self._block = b"".join(
            (
                encode_indexed(b":method", b"POST")
                if method == b"POST"
                else encode_field(b":method", method),
                self._scheme,
                encode_field(b":path", path),
                encode_field(b":authority", authority),
                fields,
            )
        )
