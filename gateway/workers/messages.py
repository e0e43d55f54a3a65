"""What the parent and a worker tell each other, in MessagePack over the socket pair.

Dead letters go as rows of their database: that form holds whatever a device may have sent.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.cli.logs import LogFormat, LogLevel
from gateway.delivery import Settlement
from gateway.workers.figures import Family


class _Message(msgspec.Struct, array_like=True, tag=True):
    pass


class Start(_Message):
    """To a worker, first of all: what it is to be.

    Attributes:
        number: which worker, from 0.
        count: how many there are; one with a higher number empties what an earlier run has left.
        group: a word that this gateway's workers have in common, and no other gateway has.
        text: the configuration.
        listeners: where to listen, by source and key, with the ports that the parent has found.
        state: the gateway's state folder.
        log_format: as of `ce-gateway run`.
        log_level: as of `ce-gateway run`.
    """

    number: int
    count: int
    group: str
    text: str
    listeners: Mapping[str, Mapping[str, str]]
    state: str
    log_format: LogFormat
    log_level: LogLevel


class Ask(_Message):
    """To a worker: its figures, please."""

    call: int


class Stored(_Message):
    """To a worker: what became of `Store`; "" is good."""

    call: int
    error: str


class Replay(_Message):
    """To a worker: deliver dead letters to their routes once more."""

    call: int
    letters: Sequence[tuple[Any, ...]]


class Stop(_Message):
    """To a worker: drain and end."""


class Ready(_Message):
    """From a worker: it takes events; where it listens, by source."""

    listeners: Mapping[str, tuple[str, int]]


class Figures(_Message):
    """From a worker: what it counts. 0 is the call of figures that nobody asked for."""

    call: int
    unready: str
    inflight: int
    families: Sequence[Family]


class Store(_Message):
    """From a worker: dead letters to be kept."""

    call: int
    letters: Sequence[tuple[Any, ...]]


class Replayed(_Message):
    """From a worker: what became of each letter of `Replay`."""

    call: int
    settlements: Sequence[Settlement]


class Logged(_Message):
    """From a worker: events in JSON format that a log sink took."""

    sink: str
    events: Sequence[bytes]


class Emptied(_Message):
    """From a worker with nothing to take: all that an earlier run has left is delivered."""


ToWorker = Start | Ask | Stored | Replay | Stop
FromWorker = Ready | Figures | Store | Replayed | Logged | Emptied
