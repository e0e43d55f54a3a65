"""The HTTP protocol binding (http-protocol-binding.md 1.0.2): binary, structured and batched.

Its own: names in `ce-` headers without regard to case, values percent-encoded, `datacontenttype` in
Content-Type and nowhere else. An event with empty data arrives as one without data; HTTP can't tell
the two apart.
"""

from collections.abc import Sequence

from bindings.binding import BATCH_MEDIA_TYPE, HeaderBinding, Message
from bindings.event import Event
from bindings.json_format import encode_event

HTTP = HeaderBinding(name="http", prefix="ce-", fold_case=True, percent=True, batched=True)


def encode_batch(events: Sequence[Event]) -> Message:
    """Return `events` as one batched message; only for a sink that asked for batches."""
    return join_batch([encode_event(event) for event in events])


def join_batch(payloads: Sequence[bytes]) -> Message:
    """Return events that are encoded already as one batched message."""
    return Message(b"[" + b",".join(payloads) + b"]", BATCH_MEDIA_TYPE)
