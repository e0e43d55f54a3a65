"""The stream behind a subject: whether it takes atomic batches, and whether it keeps what it took.

Whether the server syncs before it acknowledges (`sync_interval`) can't be seen from here: neither
INFO nor the JetStream API says it, and `varz` is for the system account.
"""

from collections.abc import Iterator

import msgspec
from nats.aio.client import Client

from gateway.nats_client import CLIENT_ERRORS

_SECONDS = 1.0
_NO_STREAM = 10059
"""JetStream's error number of a stream that does not exist."""


class StreamConfig(msgspec.Struct, frozen=True):
    """What concerns us of a stream's configuration; absent numbers are the server's -1."""

    name: str
    allow_atomic: bool = False
    discard: str = "old"
    max_bytes: int = -1
    max_msgs: int = -1
    max_msgs_per_subject: int = -1
    storage: str = "file"
    persist_mode: str = ""


class NoStreamError(Exception):
    """The server knows that there is no such stream; the text says what to do."""


class _Error(msgspec.Struct):
    err_code: int = 0


class _Info(msgspec.Struct):
    config: StreamConfig | None = None
    error: _Error | None = None


class _List(msgspec.Struct):
    streams: list[_Info] | None = None
    total: int | None = None


async def find_stream(client: Client, name: str, pattern: str) -> StreamConfig | None:
    """Ask for the stream `name`, or for the only one whose subjects meet `pattern`.

    Returns:
        None when several meet it, or there is no permission to ask, or no answer.

    Raises:
        NoStreamError: there is none.
    """
    try:
        if name:
            message = await client.request(f"$JS.API.STREAM.INFO.{name}", b"", timeout=_SECONDS)
            info = msgspec.json.decode(message.data, type=_Info)
            if info.error is not None and info.error.err_code == _NO_STREAM:
                raise NoStreamError(
                    f"there is no stream {name}: make it, with the subject {pattern}"
                )
            return info.config
        request = msgspec.json.encode({"subject": pattern})
        message = await client.request("$JS.API.STREAM.LIST", request, timeout=_SECONDS)
        answer = msgspec.json.decode(message.data, type=_List)
    except CLIENT_ERRORS:  # msgspec's are ValueErrors
        return None
    if answer.total == 0:
        raise NoStreamError(f"no stream has the subject {pattern}: make one")
    found = answer.streams or []
    return found[0].config if len(found) == 1 else None


def weaknesses(stream: StreamConfig) -> Iterator[str]:
    """Yield what lets the stream lose events that it has acknowledged, in words for the log."""
    limits = (stream.max_bytes, stream.max_msgs, stream.max_msgs_per_subject)
    if stream.discard == "old" and any(limit > 0 for limit in limits):
        yield "drops its oldest events without a word when it is full: set `discard: new`"
    if stream.max_bytes <= 0:
        yield "may grow until the server's disk is full: set max_bytes, with `discard: new`"
    if stream.storage == "memory":
        yield "is kept in memory, and empty after a restart of the server: use file storage"
    if stream.persist_mode == "async":
        yield "acknowledges before it has written (persist_mode: async)"
