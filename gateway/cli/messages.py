"""What `ce-gateway send` sends: events, or plain payloads, made of its options."""

import datetime as dt
import json
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bindings.event import Event
from gateway.cli.senders import Plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """The options that say what a message is.

    Attributes:
        data: the payload; None is an event without data.
        size: instead of `data`: bytes of a made-up JSON object.
        devices: how many sources to take turns; 0 leaves `source` as it is.
    """

    type: str = "com.example.test"
    source: str = "/ce-gateway/send"
    id: str | None = None
    subject: str | None = None
    data: bytes | None = None
    datacontenttype: str | None = None
    extensions: Mapping[str, str] = field(default_factory=dict)
    plain: bool = False
    size: int | None = None
    devices: int = 0
    count: int = 1

    def message(self, position: int) -> Event | Plain:
        """Return the message at `position`, counted from 0.

        Raises:
            InvalidEventError: the options make no valid event.
        """
        data = self.data if self.size is None else filler(position, self.size)
        content_type = self.datacontenttype
        if self.plain:
            return Plain(data or b"", content_type or "")
        if content_type is None and data is not None:
            content_type = guess(data)
        event_id = self.id or str(uuid.uuid4())
        if self.id and self.count > 1:
            event_id = f"{self.id}-{position}"
        return Event(
            id=event_id,
            source=f"{self.source}/{position % self.devices}" if self.devices else self.source,
            type=self.type,
            subject=self.subject,
            time=dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z"),
            datacontenttype=content_type,
            extensions=self.extensions,
            data=data,
        )


def read_data(text: str | None) -> bytes | None:
    """Return what `--data` means: a text, `@FILE`, or `-` or `@-` for the standard input.

    Raises:
        OSError: the file can't be read.
    """
    if text is None:
        return None
    if text in {"-", "@-"}:
        return sys.stdin.buffer.read()
    return Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()


def guess(data: bytes) -> str:
    """Return JSON's media type if it parses, else that of text if it is UTF-8, else of bytes."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "application/octet-stream"
    try:
        json.loads(text)
    except ValueError:
        return "text/plain"
    return "application/json"


def filler(position: int, size: int) -> bytes:
    """Return a JSON object of `size` bytes (at least of the few it needs), with the position."""
    start = b'{"n":%d,"fill":"' % position
    return start + b"x" * (size - len(start) - 2) + b'"}'
