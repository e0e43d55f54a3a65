"""HTTP/1.1: a POST and its status."""

from typing import Final

from bindings.binding import Message
from conformance.peers import http_client
from conformance.peers.dialogue.answer import Answer, Connected, Word

_QUIET_SECONDS: Final = 0.05
"""What a server has written when it answered somebody else arrives within that."""


class HttpDialogue(Connected):
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
