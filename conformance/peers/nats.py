"""A NATS client that writes its lines by hand; it knows as much of JetStream as requests and JSON.

https://docs.nats.io/reference/reference-protocols/nats-protocol is all that it is written from.
"""

import asyncio
import itertools
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import msgspec

from bindings.binding import Message
from conformance.check import CheckFailed


class Received(msgspec.Struct, frozen=True):
    """A message that came.

    Attributes:
        subject: where it was sent.
        reply: where an answer goes; "" for none.
        header: the block of headers as it came, with its version line.
        payload: the rest.
    """

    subject: str
    reply: str
    header: bytes
    payload: bytes

    @property
    def message(self) -> Message:
        """The message as a binding sees it."""
        pairs = []
        for line in self.header.decode("utf-8").split("\r\n")[1:]:
            name, colon, value = line.partition(":")
            if colon:
                pairs.append((name, value.strip()))
        types = [value for name, value in pairs if name.lower() == "content-type"]
        others = [pair for pair in pairs if pair[0].lower() != "content-type"]
        return Message(self.payload, types[0] if types else "", others)


def publish(subject: str, message: Message, reply: str = "") -> bytes:
    """Return HPUB, or PUB for a message without headers.

    Raises:
        UnicodeEncodeError: a header holds what no byte stands for.
    """
    payload = message.payload or b""
    headers = list(message.headers)
    if message.content_type:
        headers.append(("Content-Type", message.content_type))
    where = f"{subject} {reply}" if reply else subject
    if not headers:
        return f"PUB {where} {len(payload)}\r\n".encode() + payload + b"\r\n"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    block = f"NATS/1.0\r\n{lines}\r\n".encode()
    size = f"{len(block)} {len(block) + len(payload)}"
    return f"HPUB {where} {size}\r\n".encode() + block + payload + b"\r\n"


class NatsClient:
    """One connection, as an asynchronous context manager.

    Args:
        url: `nats://user:password@host:port`.
    """

    def __init__(self, url: str) -> None:
        at = urlsplit(url)
        self._host, self._port = at.hostname or "127.0.0.1", at.port or 4222
        self._login = {}
        if at.username is not None and at.password is None:
            self._login = {"auth_token": unquote(at.username)}
        elif at.username is not None:
            self._login = {"user": unquote(at.username), "pass": unquote(at.password or "")}
        self._sids = itertools.count(1)
        self._inbox = f"_INBOX.{uuid4().hex}"
        self._requests = itertools.count()
        self._kept: list[Received] = []

    async def __aenter__(self) -> Self:
        try:
            self._reader, self._writer = await asyncio.open_connection(
                self._host, self._port, limit=1 << 22
            )
        except OSError as error:
            raise CheckFailed("nobody listens there", got=str(error)) from error
        options: dict[str, Any] = {
            "verbose": False,
            "pedantic": False,
            "headers": True,
            "no_responders": False,
        }
        options |= {"lang": "conformance", "version": "1", "protocol": 1, **self._login}
        self.send(b"CONNECT " + json.dumps(options).encode() + b"\r\n")
        self.subscribe(f"{self._inbox}.*")
        try:
            await self.flush()
        except CheckFailed:
            self._writer.transport.abort()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._writer.transport.abort()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)

    def subscribe(self, subject: str) -> None:
        """Subscribe; `flush` tells when it holds."""
        self.send(f"SUB {subject} {next(self._sids)}\r\n".encode())

    def inbox(self) -> str:
        """Return a subject of our own, for the answer to one request."""
        return f"{self._inbox}.{next(self._requests):06}"

    async def flush(self) -> None:
        """Return when the server has taken all that was sent; what comes meanwhile is kept."""
        self.send(b"PING\r\n")
        try:
            async with asyncio.timeout(5):
                while (found := await self._next()) is not None:
                    self._kept.append(found)
        except TimeoutError:
            raise CheckFailed("the NATS server answers no PING") from None
        except (EOFError, OSError) as error:
            raise CheckFailed("the NATS server closed the connection") from error

    def has_kept(self, subject: str) -> bool:
        """Whether a message whose subject begins so came while another was waited for."""
        return any(kept.subject.startswith(subject) for kept in self._kept)

    async def receive(self, subject: str, seconds: float = 5.0) -> Received:
        """Wait for the next message whose subject begins so; others are kept.

        Raises:
            CheckFailed: none came in time.
        """
        for kept in self._kept:
            if kept.subject.startswith(subject):
                self._kept.remove(kept)
                return kept
        try:
            async with asyncio.timeout(seconds):
                while True:
                    found = await self._next()
                    if found is not None and found.subject.startswith(subject):
                        return found
                    if found is not None:
                        self._kept.append(found)
        except TimeoutError:
            raise CheckFailed("no answer came", expected=f"one within {seconds} s") from None
        except (EOFError, OSError) as error:
            raise CheckFailed("the NATS server closed the connection") from error

    async def ask(self, subject: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a JSON request, as to JetStream's API, and return the answer.

        Raises:
            CheckFailed: no answer, or one with an error.
        """
        inbox = self.inbox()
        payload = b"" if body is None else json.dumps(body).encode()
        self.send(publish(subject, Message(payload), inbox))
        answer: dict[str, Any] = json.loads((await self.receive(inbox)).payload)
        if "error" in answer:
            raise CheckFailed(f"the NATS server refused {subject}", got=json.dumps(answer["error"]))
        return answer

    async def _next(self) -> Received | None:
        """Return a message, or None for the answer to a PING."""
        while True:
            line = (await self._reader.readuntil(b"\r\n"))[:-2]
            verb, _, rest = line.partition(b" ")
            words = rest.decode().split()
            if verb == b"PONG":
                return None
            if verb == b"PING":
                self.send(b"PONG\r\n")
            elif verb == b"-ERR":
                raise CheckFailed("the NATS server complains", got=line.decode())
            elif verb == b"MSG":
                payload = (await self._reader.readexactly(int(words[-1]) + 2))[:-2]
                return Received(words[0], words[2] if len(words) > 3 else "", b"", payload)
            elif verb == b"HMSG":
                head, total = int(words[-2]), int(words[-1])
                content = (await self._reader.readexactly(total + 2))[:-2]
                reply = words[2] if len(words) > 4 else ""
                return Received(words[0], reply, content[:head], content[head:])
