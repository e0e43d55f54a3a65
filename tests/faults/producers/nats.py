"""NATS senders: JetStream publishes that the stream acknowledges, core requests that we do."""

import asyncio
from typing import Any, Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.faults.ledger import Ledger
from tests.faults.producers.producer import RECONNECT_SECONDS, OneAtATime
from tests.faults.sample import Sample

_ANSWER_SECONDS: Final = 60.0
REFUSED_SECONDS: Final = 0.1
"""After `-ERR`."""
_FAILED: Final = (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError)


class NatsProducer(OneAtATime):
    """Publishes events, in binary and structured mode by turns.

    Args:
        name: of the input.
        url: of the server.
        subject: the key follows it.
        stream: publish to a stream: what it has stored is acknowledged, and has to arrive. Else a
            core request, which the gateway answers.
    """

    def __init__(
        self, name: str, url: str, sample: Sample, ledger: Ledger, *, subject: str,
        stream: bool, **load: Any,
    ) -> None:  # fmt: skip
        super().__init__(name, sample, ledger, **load)
        self._url = url
        self._subject = subject
        self._stream = stream
        self._client = Client()
        self._requests: set[asyncio.Task[Msg]] = set()

    def gateway_gone(self) -> None:
        for request in self._requests:
            request.cancel()

    async def _run(self) -> None:
        async def quiet(_: Exception) -> None: ...

        await self._client.connect(
            self._url, max_reconnect_attempts=-1, reconnect_time_wait=RECONNECT_SECONDS,
            error_cb=quiet,
        )  # fmt: skip
        try:
            await super()._run()
        finally:
            await self._client.close()

    async def _send(self, key: str, number: int) -> float | None:
        subject, headers = f"{self._subject}.{key}", self._headers(key, number)
        payload = (
            self.sample.structured(key, number) if number % 2 else self.sample.data(key, number)
        )
        try:
            if self._stream:
                headers["Nats-Msg-Id"] = f"{key}-{number}"
                await self._client.jetstream().publish(subject, payload, headers=headers, timeout=5)
            else:
                answer = await self._request(subject, payload, headers)
                if not answer.startswith(b"+ACK"):
                    return REFUSED_SECONDS
        except _FAILED:
            return RECONNECT_SECONDS
        self.ledger.ack(key, number)
        return None

    async def _request(self, subject: str, payload: bytes, headers: dict[str, str]) -> bytes:
        """Return the answer, or nothing if the gateway was killed meanwhile."""
        request = asyncio.ensure_future(
            self._client.request(subject, payload, timeout=_ANSWER_SECONDS, headers=headers)
        )
        self._requests.add(request)
        try:
            await asyncio.wait((request,))
            return b"" if request.cancelled() else request.result().data
        finally:
            self._requests.discard(request)
            request.cancel()

    def _headers(self, key: str, number: int) -> dict[str, str]:
        if number % 2:
            return {"Content-Type": "application/cloudevents+json"}
        attributes = self.sample.attributes(key, number)
        return {f"ce-{name}": value for name, value in attributes.items()}
