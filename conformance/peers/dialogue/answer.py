"""What a dialogue is, and what it hears."""

from types import TracebackType
from typing import Literal, Protocol, Self

import msgspec

from bindings.binding import Message
from conformance.peers import http_client, mqtt, nats

Word = Literal["yes", "no", "later"]
Client = http_client.HttpClient | mqtt.MqttClient | nats.NatsClient


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway said of one message.

    Attributes:
        word: yes, no, or not now.
        text: as it stood on the wire, for people.
        code: HTTP's status, MQTT's reason code, else 0.
        retry_after: HTTP's Retry-After.
    """

    word: Word
    text: str
    code: int = 0
    retry_after: str | None = None


class Dialogue(Protocol):
    """A device's connection, as an asynchronous context manager."""

    @property
    def binding(self) -> str:
        """The binding by which its messages are written."""

    async def __aenter__(self) -> Self:
        """Connect."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Break off."""

    def send(self, *messages: Message) -> str:
        """Send messages in one write; return what was sent, for people."""

    async def answer(self, seconds: float = 5.0) -> Answer:
        """Wait for the answer to the next message, in the order in which they were sent.

        Raises:
            CheckFailed: none came in time, or the connection was closed.
            Unsupported: this gateway answers nothing in this way.
        """

    async def said(self) -> Answer | None:
        """Return the next answer if there is one by now, without waiting for it."""


class Connected:
    """What the dialogues share: they break off as their clients do."""

    def __init__(self, client: Client) -> None:
        self._connection = client

    async def __aenter__(self) -> Self:
        await self._connection.__aenter__()
        try:
            await self._begin()
        except BaseException:
            await self._connection.__aexit__(None, None, None)
            raise
        return self

    async def _begin(self) -> None:
        """Say what has to be said before the first message."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._connection.__aexit__(kind, error, at)
