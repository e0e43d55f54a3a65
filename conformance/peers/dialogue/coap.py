"""CoAP: a confirmable POST and its code; the families of CoAP itself ask for more."""

from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from bindings.binding import Message
from conformance.check import Unsupported
from conformance.peers import coap
from conformance.peers.dialogue.answer import Answer, Word

_CONTENT_FORMATS: Final = {
    "application/octet-stream": b"\x2a", "application/json": b"\x32",
    "application/cloudevents+json": b"\x32",  # on a path for structured mode
}  # fmt: skip


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
