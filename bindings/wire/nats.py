"""NATS client protocol without I/O: bytes of a connection in, lists of messages out.

Reads what a server sends (`MSG`, `HMSG` and the short lines between them) and writes what a client
publishes. One call takes all that a read brought. Header blocks stay bytes until `parse_headers`
is called, so that a message nobody wants costs nothing.

Clauses: the protocol as in docs.nats.io "Client Protocol"; headers as in NATS ADR-4.
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from bindings.errors import InvalidEventError, excerpt
from bindings.memory import Memory

MAX_LINE_BYTES: Final = 65536
"""Longest line taken without its end in sight. Subjects and replies are bounded by the sender's
server (4 KiB by default); INFO of a large cluster is the longest line there is."""

_VERSION: Final = b"NATS/1.0"
_ACK: Final = b"$JS.ACK."
_BLANKS = re.compile(rb"[ \t]+")
# ADR-4: names are printable ASCII without colon and blanks.
_NAME = re.compile(r"[!-9;-~]+")
# Lines of header blocks and what they say; at most 1 MiB. Each event has some of its own.
_PAIRS: Final = Memory[bytes, tuple[str, str]]()
# Names that are well-formed, and whether a line that begins with it is worth being remembered.
_NAMES: Final = Memory[bytes, tuple[str, bool]]()
_NOT_SEEN_AGAIN: Final = frozenset(
    {"ce-id", "ce-time", "ce-traceparent", "nats-msg-id", "content-type"}
)
# Numbers of (H)MSG lines: few subscriptions, and sizes that come again.
_NUMBERS: Final = Memory[bytes, int](characters=6)
_STATUS = re.compile(r"[0-9]{3}")
_TAB, _LF, _CR, _COLON = b"\t\n\r:"  # a search for a number is cheaper than one for bytes
_CONTROL_LINES: Final = (b"PING", b"PONG", b"INFO ", b"-ERR", b"+OK")


class NatsMessage(msgspec.Struct, gc=False):
    """One delivery.

    Attributes:
        sid: the subscription it came for.
        subject: where it was published; bytes that are no UTF-8 come as lone surrogates.
        reply: where an answer goes, as it stood there; empty when none is wanted.
        header: the header block from `NATS/1.0` to its empty line; empty when there is none.
        payload: the body.
    """

    sid: int
    subject: str
    reply: bytes
    header: bytes
    payload: bytes


class Headers(msgspec.Struct, frozen=True, gc=False):
    """A header block, read.

    Attributes:
        status: the code of the first line, as 503; 0 when it has none.
        description: the text behind the code.
        pairs: names and values in the order of the wire, duplicates included, bytes as latin-1.
        content_type: what `get("content-type")` returns.
    """

    status: int
    description: str
    pairs: list[tuple[str, str]]
    content_type: str = ""

    def get(self, name: str) -> str:
        """Return the first value of `name`, compared without case; "" when there is none."""
        size, name = len(name), name.lower()
        for key, value in self.pairs:
            if len(key) == size and key.lower() == name:
                return value
        return ""


NO_HEADERS: Final = Headers(0, "", [])


class NatsProtocolError(Exception):
    """The bytes are no NATS protocol; the connection can't be read any further.

    Attributes:
        messages: those that stood before the fault in the same read; they are good.
        lines: likewise.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.messages: list[NatsMessage] = []
        self.lines: list[bytes] = []


class Parser:
    """Cuts the bytes of one connection into messages and lines."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the rest of the last read: a new connection begins."""
        self._parts: list[bytes] = []
        self._size = 0
        self._needed = 0  # bytes until the message at the front can be complete

    def feed(self, data: bytes) -> tuple[list[NatsMessage], list[bytes]]:
        """Return the messages and the other lines (`PING`, `INFO ...`) that `data` completes.

        Lines come without CR LF. Between the two lists the order of the wire is lost: handle the
        messages first, since a `PONG` promises that all before it has been handled.

        Raises:
            NatsProtocolError: neither a message nor a known line. The parser is of no further use
                until `reset`.
        """
        messages: list[NatsMessage] = []
        lines: list[bytes] = []
        self._parts.append(data)
        self._size += len(data)
        if self._size < self._needed:
            return messages, lines
        buffer = b"".join(self._parts) if len(self._parts) > 1 else data
        try:
            used, self._needed = _cut(buffer, messages, lines)
        except NatsProtocolError as error:
            error.messages, error.lines = messages, lines
            raise
        rest = buffer[used:] if used else buffer
        self._parts = [rest] if rest else []
        self._size = len(rest)
        return messages, lines


def _cut(buffer: bytes, messages: list[NatsMessage], lines: list[bytes]) -> tuple[int, int]:
    """Append what is complete; return the bytes used, and the bytes that the next message needs."""
    position = 0
    size = len(buffer)
    while True:
        end = buffer.find(b"\r\n", position)
        if end < 0:
            if size - position > MAX_LINE_BYTES:
                raise NatsProtocolError("a line without end")
            return position, 0
        line = buffer[position:end]
        if line.startswith((b"HMSG ", b"MSG ")):
            sid, subject, reply, header_size, body_size = _arguments(line)
            start = end + 2
            split = start + header_size
            stop = start + body_size
            if stop + 2 > size:
                return position, stop + 2 - position
            if buffer[stop] != _CR or buffer[stop + 1] != _LF:
                raise NatsProtocolError("a message longer than it said")
            messages.append(
                NatsMessage(sid, subject, reply, buffer[start:split], buffer[split:stop])
            )
            position = stop + 2
        elif line.startswith(_CONTROL_LINES):
            lines.append(line)
            position = end + 2
        else:
            raise NatsProtocolError(f"no NATS line: {excerpt(line[:40])}")


def _arguments(line: bytes) -> tuple[int, str, bytes, int, int]:
    """Return sid, subject, reply, size of the header block and size of all of (H)MSG's body."""
    # Not bytes.split(): it also cuts at vertical tabs, which a subject may hold.
    words = line.split(b" ")
    if b"" in words or _TAB in line:
        words = _BLANKS.split(line.rstrip(b" \t"))
    header = b"0"
    if len(words) > 1 and words[0] == b"HMSG":
        header = words.pop(-2)
    if len(words) == 5:
        _, subject, sid, reply, total = words
    elif len(words) == 4:
        _, subject, sid, total = words
        reply = b""
    else:
        raise _no_arguments(line)
    number = _NUMBERS.get(sid)
    header_size = _NUMBERS.get(header)
    body_size = _NUMBERS.get(total)
    if number is None:
        number = _number(sid, line)
    if header_size is None:
        header_size = _number(header, line)
    if body_size is None:
        body_size = _number(total, line)
    if header_size > body_size:
        raise NatsProtocolError("a header block longer than its message")
    return number, subject.decode("utf-8", "surrogateescape"), reply, header_size, body_size


def _number(word: bytes, line: bytes) -> int:
    # int() would take blanks, signs and underscores too.
    if not word.isdigit() or len(word) > 10:
        raise _no_arguments(line)
    number = int(word)
    _NUMBERS.remember(word, number, len(word))
    return number


def _no_arguments(line: bytes) -> NatsProtocolError:
    return NatsProtocolError(f"malformed {excerpt(line[:80])}")


def parse_number(word: str) -> int | None:
    """Return the number that a word of a subject or a header is, None if it is none.

    Others may write such words too: `int` takes blanks and signs, and fails on 5000 digits.
    """
    return int(word) if word.isascii() and word.isdigit() and len(word) < 20 else None


def parse_ack_place(reply: bytes) -> tuple[bytes, bytes] | None:
    """Return sequence and time of an acknowledgement subject (ADR-15), None if it is none.

    They stay as they are written: they are compared far more often than they are read.

    `$JS.ACK.stream.consumer.delivered.sequence.consumer-sequence.time.pending`, or with domain and
    account behind `$JS.ACK`, and perhaps with a random word at the end.
    """
    if reply[:8] != _ACK:
        return None
    words = reply.split(b".")
    if len(words) == 9:
        sequence, moment = words[5], words[7]
    elif len(words) >= 11:
        sequence, moment = words[7], words[9]
    else:
        return None
    # As `parse_number`, whose calls would cost more than all else of this.
    if sequence.isdigit() and moment.isdigit() and len(sequence) < 20 and len(moment) < 20:
        return sequence, moment
    return None


def parse_headers(block: bytes) -> Headers:
    """Read a header block (ADR-4).

    Raises:
        InvalidEventError: it breaks the grammar; the message is to be rejected, not the connection.
    """
    if not block:
        return NO_HEADERS
    lines = block.split(b"\r\n")
    # The first line, headers, and two times nothing: the block ends with an empty line.
    if len(lines) < 3 or lines.pop() or lines.pop():
        raise _no_block(block)
    first = lines.pop(0)
    known = _PAIRS.get
    pairs: list[tuple[str, str]] = []
    content_type = None
    for line in lines:
        pair = known(line)
        if pair is None:
            # A line break that is none (ADR-4: values are anything but those).
            colon = line.find(_COLON)
            if colon < 0 or _CR in line or _LF in line:
                raise _no_block(block)
            name, comes_again = _NAMES.get(line[:colon]) or _judge_name(line[:colon], block)
            value = line[colon + 1 :].strip(b" \t").decode("latin-1")
            pair = name, value
            if comes_again:
                _PAIRS.remember(line, pair, len(line))
            elif content_type is None and len(name) == 12 and name.lower() == "content-type":
                content_type = value
        pairs.append(pair)
    if first == _VERSION:
        return Headers(0, "", pairs, content_type or "")
    status, description = _status(first, block)
    return Headers(status, description, pairs, content_type or "")


def _judge_name(word: bytes, block: bytes) -> tuple[str, bool]:
    """Check the name of a header; return it, and whether its lines are worth being remembered."""
    name = word.decode("latin-1")
    if not _NAME.fullmatch(name):
        raise _no_block(block)
    judged = name, name.lower() not in _NOT_SEEN_AGAIN
    _NAMES.remember(word, judged, len(word))
    return judged


def _status(line: bytes, block: bytes) -> tuple[int, str]:
    """Return code and text of a block's first line."""
    first = line.decode("latin-1")
    if not first.startswith("NATS/1.0 ") or "\r" in first or "\n" in first:
        raise _no_block(block)
    code, _, description = first[9:].strip(" ").partition(" ")
    return (int(code) if _STATUS.fullmatch(code) else 0), description


def _no_block(block: bytes) -> InvalidEventError:
    return _malformed(f"no header block of NATS/1.0: {excerpt(block.decode('latin-1')[:120])}")


def _malformed(text: str) -> InvalidEventError:
    return InvalidEventError(text, reason="malformed_headers")


def encode_headers(pairs: Sequence[tuple[str, str]]) -> bytes:
    """Write a header block; values must have been made ASCII before (percent-encoded).

    Raises:
        InvalidEventError: a name or value that would break out of its line, or is no ASCII.
    """
    text = "".join([f"{name}: {value}\r\n" for name, value in pairs])
    if text.count("\n") != len(pairs) or text.count("\r") != len(pairs):
        raise _malformed("a line break in a header")
    try:
        return b"%b\r\n%b\r\n" % (_VERSION, text.encode("ascii"))
    except UnicodeEncodeError as error:
        raise _malformed("a header that is no ASCII") from error


def encode_publish(
    subject: bytes, payload: bytes, *, reply: bytes = b"", header: bytes = b""
) -> bytes:
    """Write `PUB` or, with a header block, `HPUB`. The caller vouches for subject and reply."""
    if header:
        sizes = b"%d %d" % (len(header), len(header) + len(payload))
        return b"HPUB %b %b%b%b\r\n%b%b\r\n" % (
            subject, reply, b" " if reply else b"", sizes, header, payload,
        )  # fmt: skip
    return b"PUB %b %b%b%d\r\n%b\r\n" % (
        subject, reply, b" " if reply else b"", len(payload), payload,
    )  # fmt: skip
