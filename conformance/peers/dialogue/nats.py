"""NATS: a reply, or the acknowledgement of a stream's consumer."""

import asyncio
from urllib.parse import parse_qs, urlsplit

import msgspec

from bindings.binding import Message
from conformance.check import CheckFailed, Unsupported
from conformance.peers import nats
from conformance.peers.dialogue.answer import Answer, Connected


class CoreDialogue(Connected):
    """Core NATS with a reply subject."""

    binding = "nats"

    def __init__(self, url: str) -> None:
        self.client = nats.NatsClient(url)
        self.subject = urlsplit(url).path.strip("/") or "conformance.events"
        self._inboxes: list[str] = []
        super().__init__(self.client)

    def send(self, *messages: Message) -> str:
        sent = b""
        for message in messages:
            inbox = self.client.inbox()
            self._inboxes.append(inbox)
            sent += nats.publish(self.subject, message, inbox)
        self.client.send(sent)
        return sent.decode("utf-8", "replace")

    async def answer(self, seconds: float = 5.0) -> Answer:
        try:
            received = await self.client.receive(self._inboxes[0], seconds)
        except CheckFailed as failed:
            raise Unsupported(f"no reply came: {failed}") from failed
        del self._inboxes[0]
        text = received.payload[:200].decode("utf-8", "replace")
        return Answer(word="yes" if text.startswith("+ACK") else "no", text=text)

    async def said(self) -> Answer | None:
        await _refused_by_now(self.client, self.subject)
        if not self.client.has_kept(self._inboxes[0]):
            return None
        return await self.answer()


async def _refused_by_now(client: nats.NatsClient, subject: str) -> None:
    """Send what is no event and wait for the answer: those to what went before have left."""
    inbox = client.inbox()
    client.send(nats.publish(subject, Message(b"", "", [("ce-specversion", "1.0")]), inbox))
    try:
        await client.receive(inbox)
    except CheckFailed as failed:
        raise Unsupported(f"no reply came: {failed}") from failed


class StreamDialogue(Connected):
    """JetStream: what is published is stored, and the gateway's consumer acknowledges it.

    Args:
        url: `nats://host:port/subject?stream=NAME`.
    """

    binding = "nats"

    def __init__(self, url: str) -> None:
        at = urlsplit(url)
        names = parse_qs(at.query).get("stream")
        if not names:
            raise Unsupported("no stream: the URL has to end in ?stream=NAME")
        self.client = nats.NatsClient(url)
        self.subject = at.path.strip("/") or "conformance.events"
        self._acks = f"$JS.ACK.{names[0]}.>"
        self._stored: list[str] = []
        self._waiting: list[int] = []
        self._said: dict[int, str] = {}
        super().__init__(self.client)

    async def _begin(self) -> None:
        self.client.subscribe(self._acks)
        await self.client.flush()

    def send(self, *messages: Message) -> str:
        sent = b""
        for message in messages:
            inbox = self.client.inbox()
            self._stored.append(inbox)
            sent += nats.publish(self.subject, message, inbox)
        self.client.send(sent)
        return sent.decode("utf-8", "replace")

    async def answer(self, seconds: float = 5.0) -> Answer:
        await self._store()
        try:
            async with asyncio.timeout(seconds):
                while self._waiting[0] not in self._said:
                    self._hear(await self._next_ack(seconds * 2))
        except TimeoutError:
            raise CheckFailed("no acknowledgement was sent", expected="+ACK or +TERM") from None
        word = self._said[self._waiting.pop(0)]
        return Answer(word="yes" if word == "+ACK" else "no", text=word)

    async def said(self) -> Answer | None:
        await self._store()
        inbox = self.client.inbox()
        bad = Message(b"", "", [("ce-specversion", "1.0")])
        self.client.send(nats.publish(self.subject, bad, inbox))
        self._stored.append(inbox)
        await self._store()
        last = self._waiting.pop()
        async with asyncio.timeout(5):
            while last not in self._said:
                self._hear(await self._next_ack(5))
        return await self.answer() if self._waiting[0] in self._said else None

    async def _store(self) -> None:
        """Take note of the sequences under which the stream has what was sent."""
        stored, self._stored = self._stored, []
        for inbox in stored:
            answer = msgspec.json.decode((await self.client.receive(inbox)).payload)
            if "seq" not in answer:
                raise CheckFailed("the stream did not store a message", got=str(answer))
            self._waiting.append(answer["seq"])

    async def _next_ack(self, seconds: float) -> nats.Received:
        return await self.client.receive("$JS.ACK.", seconds)

    def _hear(self, received: nats.Received) -> None:
        words = received.subject.split(".")
        sequence = int(words[5] if len(words) == 9 else words[7])
        text = received.payload.decode("utf-8", "replace") or "+ACK"
        if text.startswith(("+ACK", "+TERM", "-NAK")):  # +WPI is no answer
            self._said.setdefault(sequence, text[:200])
