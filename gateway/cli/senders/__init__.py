"""What `ce-gateway send` speaks: one file a protocol, each a client that waits for its answer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bindings.binding import ContentMode
from bindings.event import Event


class SendError(Exception):
    """The other side said no, or nothing in time; the text is its own words (`4.00 ...`, `503`)."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A payload that is no CloudEvent, sent as it is."""

    payload: bytes
    content_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOptions:
    """What the command line said; each sender takes what it knows."""

    mode: ContentMode = "binary"
    qos: int = 1
    version: str = "5"
    confirmable: bool = True
    jetstream: bool = False
    username: str | None = None
    password: str | None = None
    token: str | None = None
    credentials: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    insecure: bool = False
    psk_identity: str | None = None
    psk_key: str | None = None
    timeout: float = 10.0


class Sender(Protocol):
    """A client for one URL. `send` may be called many times at once."""

    def __init__(self, url: str, options: SendOptions) -> None: ...

    async def open(self) -> None:
        """Connect.

        Raises:
            SendError: it can't; the text says what to check.
        """

    async def send(self, message: Event | Plain) -> str:
        """Send one message and return the answer in the protocol's words, such as `2.04 Changed`.

        A position in a log stands at its end (`events [0] offset 7`): a load leaves it out.

        Raises:
            SendError: refused, or no answer within `options.timeout`.
        """

    async def close(self) -> None:
        """Send what is buffered and disconnect."""
