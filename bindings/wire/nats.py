"""NATS client protocol without I/O: bytes of a connection in, lists of messages out.

Reads what a server sends (`MSG`, `HMSG` and the short lines between them) and writes what a client
publishes. One call takes all that a read brought. Header blocks stay bytes until `parse_headers`
is called, so that a message nobody wants costs nothing.

Clauses: the protocol as in docs.nats.io "Client Protocol"; headers as in NATS ADR-4.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from bindings.errors import InvalidEventError, excerpt
from bindings.memory import Memory
from bindings.wire.header_fields import HeaderFields

MAX_LINE_BYTES: Final = 65536
"""Longest line taken without its end in sight. Subjects and replies are bounded by the sender's
server (4 KiB by default); INFO of a large cluster is the longest line there is."""

_VERSION: Final = b"NATS/1.0"
_ACK: Final = b"$JS.ACK."
_BLANKS = re.compile(rb"[ \t]+")
# ADR-4: names are printable ASCII without colon and blanks.
_NAME = re.compile(r"[!-9;-~]+")
# A line as a server writes it, one blank between words. `++`: no word or value could end earlier.
_USUAL_LINE = re.compile(
    rb"(H)?MSG ([!-\xff]++) ([0-9]{1,10}+) (?:([!-\xff]++) )??"
    rb"(?(1)([0-9]{1,10}+) )([0-9]{1,10}+)\r\n"
).match
# As `HeaderFields.plain` has it; visible, perhaps with blanks inside. Others are read line by line.
_PLAIN_VALUE: Final = "([!#$&-~]++)"
_USUAL_VALUE: Final = "([!-\xff][ -\xff]*+)(?<! )"
# Numbers of (H)MSG lines: few subscriptions, and sizes that come again.
_NUMBERS: Final = Memory[bytes, int](characters=6)
_STATUS = re.compile(r"[0-9]{3}")
_LF, _CR = b"\n\r"
FREQUENT: Final = 32
"""Header blocks with the same names that make us know their shape by heart, which costs 1 ms."""
_MOST_USUAL: Final = 4
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
    pairs: Sequence[tuple[str, str]]
    content_type: str = ""

    def get(self, name: str) -> str:
        """Return the first value of `name`, compared without case; "" when there is none."""
        size, name = len(name), name.lower()
        for key, value in self.pairs:
            if len(key) == size and key.lower() == name:
                return value
        return ""


class _Shape(msgspec.Struct, eq=False):
    """What header blocks of the same names have in common.

    Attributes:
        names: the names, well-formed, in the order of the wire.
        content_type: position of the first `content-type` among them; -1 for none.
        count: how many came that had to be read line by line.
        plain: tells a block of this shape whose values are plain, and finds them.
        usual: likewise for those that are visible.
    """

    names: tuple[str, ...]
    content_type: int
    count: int = 0
    plain: Callable[[str], re.Match[str] | None] = lambda _text: None
    usual: Callable[[str], re.Match[str] | None] = lambda _text: None


NO_HEADERS: Final = Headers(0, "", [])
# Shapes that came lately: at most 3 MiB. Those known by heart of which the latest blocks were.
_SHAPES: Final = Memory[tuple[str, ...], _Shape](entries=64, characters=2048)
_usual: Final[list[_Shape]] = []


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


def _cut(  # noqa: C901, PLR0912 - a call for each number costs more than looking it up
    buffer: bytes, messages: list[NatsMessage], lines: list[bytes]
) -> tuple[int, int]:
    """Append what is complete; return the bytes used, and the bytes that the next message needs."""
    position = 0
    size = len(buffer)
    known = _NUMBERS.get
    while True:
        usual = _USUAL_LINE(buffer, position)
        if usual is not None:
            _, subject, sid, reply, header, total = usual.groups(b"")
            start = usual.end()
        else:
            end = buffer.find(b"\r\n", position)
            if end < 0:
                if size - position > MAX_LINE_BYTES:
                    raise NatsProtocolError("a line without end")
                return position, 0
            line = buffer[position:end]
            start = end + 2
            if not line.startswith((b"HMSG ", b"MSG ")):
                if not line.startswith(_CONTROL_LINES):
                    raise NatsProtocolError(f"no NATS line: {excerpt(line[:40])}")
                lines.append(line)
                position = start
                continue
            subject, sid, reply, header, total = _arguments(line)
        number = known(sid)
        if number is None:
            number = _number(sid, buffer[position : start - 2])
        found = known(header) if header else 0
        header_size = found if found is not None else _number(header, buffer[position : start - 2])
        found = known(total)
        body_size = found if found is not None else _number(total, buffer[position : start - 2])
        if header_size > body_size:
            raise NatsProtocolError("a header block longer than its message")
        split = start + header_size
        stop = start + body_size
        if stop + 2 > size:
            return position, stop + 2 - position
        if buffer[stop] != _CR or buffer[stop + 1] != _LF:
            raise NatsProtocolError("a message longer than it said")
        text = subject.decode("utf-8", "surrogateescape")
        messages.append(NatsMessage(number, text, reply, buffer[start:split], buffer[split:stop]))
        position = stop + 2


def _arguments(line: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """Return subject, sid, reply, size of the header block ("" for none) and of all the body."""
    # Not bytes.split(): it also cuts at vertical tabs, which a subject may hold.
    words = _BLANKS.split(line.rstrip(b" \t"))
    header = b""
    if len(words) > 1 and words[0] == b"HMSG":
        header = words.pop(-2)
    if len(words) == 5:
        _, subject, sid, reply, total = words
    elif len(words) == 4:
        _, subject, sid, total = words
        reply = b""
    else:
        raise _no_arguments(line)
    return subject, sid, reply, header, total


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
    text = block.decode("latin-1")
    for shape in _usual:
        found = shape.plain(text)
        is_plain = found is not None
        if found is None:
            found = shape.usual(text)
        if found is not None:
            if shape is not _usual[0]:
                _usual.remove(shape)
                _usual.insert(0, shape)
            values = list(found.groups())
            place = shape.content_type
            content_type = values[place] if place >= 0 else ""
            pairs: Any = HeaderFields(shape.names, values, is_plain)
            return Headers(0, "", pairs, content_type)
    return _read_lines(text)


def _read_lines(text: str) -> Headers:
    """Read a header block that is of no shape known by heart; learn its shape if it comes often."""
    lines = text.split("\r\n")
    # The first line, headers, and two times nothing: the block ends with an empty line. Any other
    # line break is none (ADR-4: values are anything but those).
    breaks = len(lines) - 1
    if breaks < 2 or lines.pop() or lines.pop():
        raise _no_block(text)
    if text.count("\r") != breaks or text.count("\n") != breaks:
        raise _no_block(text)
    status, description = _status(lines.pop(0), text)
    names: list[str] = []
    values: list[str] = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise _no_block(text)
        names.append(name)
        values.append(value.strip(" \t"))
    shape = _shape_of(tuple(names), text)
    content_type = values[shape.content_type] if shape.content_type >= 0 else ""
    pairs: Any = HeaderFields(shape.names, values) if values else []
    return Headers(status, description, pairs, content_type)


def _shape_of(names: tuple[str, ...], text: str) -> _Shape:
    """Return the shape of blocks with these names; have it known by heart when it is frequent."""
    shape = _SHAPES.get(names)
    if shape is None:
        if not all(map(_NAME.fullmatch, names)):
            raise _no_block(text)
        folded = [name.lower() for name in names]
        place = folded.index("content-type") if "content-type" in folded else -1
        shape = _Shape(names, place)
        # 50 characters stand for what a string costs.
        _SHAPES.remember(names, shape, 50 * len(names) + len("".join(names)))
    shape.count += 1
    if shape.count == FREQUENT:
        blank = " " if 2 * text.count(": ") > len(names) else ""  # a value may be odd, or empty
        shape.plain = _pattern(names, blank, _PLAIN_VALUE)
        shape.usual = _pattern(names, blank, _USUAL_VALUE)
    if shape.count >= FREQUENT and shape not in _usual and shape.usual(text) is not None:
        _usual.insert(0, shape)
        del _usual[_MOST_USUAL:]
    return shape


def _pattern(
    names: tuple[str, ...], blank: str, value: str
) -> Callable[[str], re.Match[str] | None]:
    """Return what finds the values in a block of these names."""
    lines = "".join([f"{re.escape(name)}:{blank}{value}\r\n" for name in names])
    return re.compile(f"NATS/1\\.0\r\n{lines}\r\n").fullmatch


def _status(first: str, text: str) -> tuple[int, str]:
    """Return code and text of a block's first line."""
    if first == "NATS/1.0":
        return 0, ""
    if not first.startswith("NATS/1.0 "):
        raise _no_block(text)
    code, _, description = first[9:].strip(" ").partition(" ")
    return (int(code) if _STATUS.fullmatch(code) else 0), description


def _no_block(text: str) -> InvalidEventError:
    return _malformed(f"no header block of NATS/1.0: {excerpt(text[:120])}")


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
