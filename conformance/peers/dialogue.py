"""One way to talk to a gateway for each protocol: send messages, hear what became of each.

http        a POST and its status
mqtt        MQTT 5, QoS 1: PUBLISH and PUBACK
mqtt-qos2   MQTT 5, QoS 2: PUBLISH, PUBREC, PUBREL, PUBCOMP
mqtt311     MQTT 3.1.1, QoS 1
nats        core NATS with a reply subject: `+ACK` or `-ERR`
jetstream   a stream, and the acknowledgements that a consumer of it sends
"""

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Literal, Protocol, Self
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import msgspec

from bindings.binding import Message
from conformance.check import CheckFailed, Unsupported
from conformance.peers import coap, http_client, mqtt, nats

Word = Literal["yes", "no", "later"]

WAYS: Final = ("http", "mqtt", "mqtt-qos2", "mqtt311", "nats", "jetstream")
_Client = http_client.HttpClient | mqtt.MqttClient | nats.NatsClient
_QUIET_SECONDS: Final = 0.05
"""What a server has written when it answered somebody else arrives within that."""
_CONTENT_FORMATS: Final = {
    "application/octet-stream": b"\x2a", "application/json": b"\x32",
    "application/cloudevents+json": b"\x32",  # on a path for structured mode
}  # fmt: skip


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


def dialogue(way: str, url: str) -> Dialogue:
    """Return the dialogue of a way."""
    if way == "mqtt-qos2":
        return MqttDialogue(url, qos=2)
    if way == "mqtt311":
        return MqttDialogue(url, version=4)
    return _DIALOGUES[way](url)


def topic_of(url: str) -> str:
    """Return the topic that the path of an MQTT URL names."""
    return urlsplit(url).path.strip("/") or "conformance/events"


class _Connected:
    """What the dialogues share: they break off as their clients do."""

    def __init__(self, client: _Client) -> None:
        self._connection = client

    async def __aenter__(self) -> Self:
        await self._connection.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._connection.__aexit__(kind, error, at)


class HttpDialogue(_Connected):
    """HTTP/1.1."""

    binding = "http"

    def __init__(self, url: str) -> None:
        self.client = http_client.HttpClient(url)
        self._url = url
        super().__init__(self.client)

    def send(self, *messages: Message) -> str:
        sent = b"".join(http_client.post(message, self.client.target) for message in messages)
        self.client.send(sent)
        return sent.decode("latin-1")

    async def answer(self, seconds: float = 5.0) -> Answer:
        return _answer_of_http(await self.client.receive(seconds))

    async def said(self) -> Answer | None:
        async with http_client.HttpClient(self._url) as other:  # something that has an end
            other.send(b"GET /conformance HTTP/1.1\r\nHost: conformance\r\n\r\n")
            await other.receive()
        if await self.client.is_silent(_QUIET_SECONDS):
            return None
        return await self.answer()


def _answer_of_http(response: http_client.Response) -> Answer:
    if 200 <= response.status < 300:
        word: Word = "yes"
    else:
        word = "later" if response.status in {429, 502, 503, 504} else "no"
    wait = response.header("retry-after")
    first = response.head.partition("\r\n")[0]
    text = f"{first} {response.body[:200].decode('utf-8', 'replace')}".strip()
    return Answer(word=word, text=text, code=response.status, retry_after=wait)


class MqttDialogue(_Connected):
    """MQTT at QoS 1 or 2; packet identifiers are counted from 1."""

    def __init__(self, url: str, version: int = 5, qos: int = 1) -> None:
        self.client = mqtt.MqttClient(url, version)
        self.binding = "mqtt" if version == 5 else "mqtt311"
        self.topic = topic_of(url)
        self._qos = qos
        self._sent = 0
        self._heard: list[mqtt.Packet] = []
        super().__init__(self.client)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await self.client.open(f"conformance-{uuid4().hex[:12]}")
        return self

    def send(self, *messages: Message) -> str:
        sent = b""
        for message in messages:
            self._sent += 1
            sent += mqtt.publish(
                self.client.version, self.topic, message, qos=self._qos, packet_id=self._sent
            )
        self.client.send(sent)
        return sent.hex()

    async def answer(self, seconds: float = 5.0) -> Answer:
        packet = self._heard.pop(0) if self._heard else await self.client.receive(seconds)
        if packet.name == "PUBREC" and packet.code < 0x80:
            self.client.send(mqtt.pubrel(packet.packet_id))
            await self._completed(packet.packet_id, seconds)
        elif packet.name not in {"PUBACK", "PUBREC", "DISCONNECT"}:
            raise CheckFailed("another packet came", expected="PUBACK", got=str(packet))
        is_yes = packet.code < 0x80 and packet.name != "DISCONNECT"
        return Answer(word="yes" if is_yes else "no", text=str(packet), code=packet.code)

    async def _completed(self, packet_id: int, seconds: float) -> None:
        while True:
            packet = await self.client.receive(seconds)
            if packet.name == "DISCONNECT" or packet.packet_id == packet_id:
                return  # what PUBREC said holds, whatever becomes of the rest
            self._heard.append(packet)

    async def said(self) -> Answer | None:
        self._heard += await self.client.answers_so_far()
        return await self.answer() if self._heard else None


class CoreDialogue(_Connected):
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


class StreamDialogue(_Connected):
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

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.client.subscribe(self._acks)
        await self.client.flush()
        return self

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


class CoapDialogue:
    """CoAP over UDP: confirmable requests, each in one datagram."""

    binding = "coap"

    def __init__(self, url: str) -> None:
        self.client = coap.Device(url)
        self._path = urlsplit(url).path.strip("/") or "ce"
        self._mid = 0x3000

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.client.__aexit__(kind, error, at)

    def send(self, *messages: Message) -> str:
        sent = []
        for message in messages:
            self._mid += 1
            sent.append(self._request(message))
            self.client.send(sent[-1])
        return " ".join(datagram.hex() for datagram in sent)

    def _request(self, message: Message) -> bytes:
        """Write a POST: Uri-Path 11, Content-Format 12, Uri-Query 15."""
        options = [(11, part.encode()) for part in self._path.split("/")]
        if message.content_type in _CONTENT_FORMATS:
            options.append((12, _CONTENT_FORMATS[message.content_type]))
        elif message.content_type:
            options.append((15, b"c=" + message.content_type.encode()))
        options += [(15, f"{name}={value}".encode()) for name, value in message.headers]
        out, last = b"\x42\x02" + self._mid.to_bytes(2, "big") * 2, 0
        for number, value in options:
            out += bytes([(number - last) << 4 | min(len(value), 13)])
            out += bytes([len(value) - 13]) if len(value) >= 13 else b""
            out, last = out + value, number
        return out + (b"\xff" + message.payload if message.payload else b"")

    async def answer(self, seconds: float = 5.0) -> Answer:
        while (reply := await self.client.receive(seconds)).code == "0.00":
            pass  # an empty ACK: the answer comes later
        word: Word = "no"
        if reply.code.startswith("2."):
            word = "yes"
        elif reply.code == "5.03":
            word = "later"
        return Answer(word=word, text=f"{reply.code} {reply.payload!r}")

    async def said(self) -> Answer | None:
        raise Unsupported("CoAP has checks of its own")


_DIALOGUES: Final[Mapping[str, Callable[[str], Dialogue]]] = {
    "http": HttpDialogue,
    "mqtt": MqttDialogue,
    "nats": CoreDialogue,
    "jetstream": StreamDialogue,
    "coap": CoapDialogue,
}
