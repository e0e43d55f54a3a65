"""A request that is arriving, as far as httptools has told of it."""

from bindings.binding import Message
from bindings.wire.http1_request import PlainPosts
from gateway.sources.http.admission import KNOWN_FIELDS, SINGLE_FIELDS, Refusal
from gateway.sources.http.listener import Phase


class Incoming:
    """What is known of the request that a connection reads at the moment."""

    def __init__(self, plain: PlainPosts) -> None:
        self._plain = plain
        self._phase = Phase.IDLE
        self._replaying = False
        self._message = Message(None)
        self._begin()

    def _begin(self) -> None:
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._fields: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._read_bytes = -1
        self._repeated = b""
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._refusal: Refusal | None = None

    # What httptools calls.

    def on_url(self, url: bytes) -> None:
        if not self._replaying:
            self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is not Phase.HEAD:
            return  # a trailer: RFC 9110 6.5.1, not to be merged into the head
        self._head_bytes += len(name) + len(value)
        self._plain.learn_name(name)
        lower = name.lower()
        if lower[:3] == b"ce-":
            attribute = lower.decode("latin-1")
            self._headers.append((attribute, value.rstrip(b" \t").decode("latin-1")))
        elif lower in KNOWN_FIELDS:
            self._set_field(lower, value.rstrip(b" \t"))

    def _set_field(self, name: bytes, value: bytes) -> None:
        fields = self._fields
        if name in fields:
            if name in SINGLE_FIELDS:
                self._repeated = name
            value = fields[name] + b", " + value
        fields[name] = value
