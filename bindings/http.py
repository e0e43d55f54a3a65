"""The HTTP protocol binding (http-protocol-binding.md 1.0.2): binary, structured and batched.

Its own: names in `ce-` headers without regard to case, values percent-encoded, `datacontenttype` in
Content-Type and nowhere else. An event with empty data arrives as one without data; HTTP can't tell
the two apart.
"""

from collections.abc import Sequence

from bindings.binding import BATCH_MEDIA_TYPE, HeaderBinding, Message

HTTP = HeaderBinding(name="http", prefix="ce-", fold_case=True, percent=True, batched=True)


def join_batch(payloads: Sequence[bytes]) -> Message:
    """Return events in the JSON format as one message; only for a sink that asked for batches."""
    return Message(b"[" + b",".join(payloads) + b"]", BATCH_MEDIA_TYPE)
