"""CoAP senders (RFC 7252): CON POSTs with the attributes in the query, an event at a time per key.

Messages are repeated as section 4.2 says, with shorter waits: a kill shall meet repetitions.
"""

import asyncio
import random
from typing import Any, Final, cast

from tests.e2e.servers import HOST
from tests.faults.ledger import Ledger
from tests.faults.producers.producer import OneAtATime
from tests.faults.sample import Sample

_ACK_TIMEOUT: Final = 0.25
_MAX_RETRANSMIT: Final = 4
_ANSWER_SECONDS: Final = 60.0
_CON, _NON, _ACK, _RST = range(4)
_URI_PATH, _CONTENT_FORMAT, _URI_QUERY = 11, 12, 15
_JSON: Final = b"\x32"


class CoapProducer(OneAtATime):
    """Posts events; 2.04 is the acknowledgement.

    Attributes:
        answer_seconds: how long it waits for an answer that was promised.

    Args:
        port: of the gateway's CoAP source.
        chance: from the seed, for message IDs and waits.
    """

    answer_seconds = _ANSWER_SECONDS

    def __init__(
        self, port: int, sample: Sample, ledger: Ledger, *, chance: random.Random, **load: Any
    ) -> None:
        super().__init__(load.pop("name", "coap"), sample, ledger, **load)
        self._port = port
        self._chance = chance
        self._client = _Client()
        self._mid = chance.randrange(0x10000)
        self._token = chance.randrange(1 << 32)

    def gateway_gone(self) -> None:
        self._client.forget_acknowledged()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(
            lambda: self._client, self.local_addr, (self.host, self._port)
        )
        try:
            await super()._run()
        finally:
            self._client.close()

    async def _send(self, key: str, number: int) -> float | None:
        self._mid = (self._mid + 1) & 0xFFFF
        self._token = (self._token + 1) & 0xFFFFFFFF
        mid, token = self._mid, self._token.to_bytes(4, "big")
        datagram = bytes([0x44, 0x02]) + mid.to_bytes(2, "big") + token
        datagram += self._options(key, number) + b"\xff" + self.sample.data(key, number)
        wait = _ACK_TIMEOUT * self._chance.uniform(1, 1.5)
        try:
            code = await self._client.post(mid, token, datagram, wait, self.answer_seconds)
        except TimeoutError:
            return 0.0
        if code == "2.04":
            self.ledger.ack(key, number)
            return None
        if code.startswith("4.") and code not in ("4.08", "4.29"):
            self.ledger.refuse(key, number, code)
            return None
        return 0.2

    def _options(self, key: str, number: int) -> bytes:
        attributes = self.sample.attributes(key, number)
        del attributes["datacontenttype"], attributes["specversion"]
        queries = sorted(f"{name}={value}".encode() for name, value in attributes.items())
        out = _option(_URI_PATH, b"ce") + _option(_CONTENT_FORMAT - _URI_PATH, _JSON)
        delta = _URI_QUERY - _CONTENT_FORMAT
        for query in queries:
            out += _option(delta, query)
            delta = 0
        return out


async def ask(port: int) -> str:
    """Post an event that must not be taken; returns the code of the answer."""
    client = _Client()
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: client, remote_addr=(HOST, port))
    options = _option(_URI_PATH, b"ce") + _option(_CONTENT_FORMAT - _URI_PATH, _JSON)
    delta = _URI_QUERY - _CONTENT_FORMAT
    for query in (b"id=refused", b"source=/probe", b"type=probe"):
        options += _option(delta, query)
        delta = 0
    token = random.randbytes(4)
    datagram = b"\x44\x02\x00\x01" + token + options + b"\xff{}"
    try:
        return await client.post(1, token, datagram, _ACK_TIMEOUT * 8)
    finally:
        client.close()


def _option(delta: int, value: bytes) -> bytes:
    """Return an option (section 3.1) whose number is at most 12 beyond the last one's."""
    if len(value) < 13:
        return bytes([delta << 4 | len(value)]) + value
    assert len(value) < 269
    return bytes([delta << 4 | 13, len(value) - 13]) + value


class _Client(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None
        self._by_token: dict[bytes, asyncio.Future[str]] = {}
        self._by_mid: dict[int, bytes] = {}
        self._acknowledged: set[bytes] = set()

    async def post(
        self,
        mid: int,
        token: bytes,
        datagram: bytes,
        wait: float,
        answer_seconds: float = _ANSWER_SECONDS,
    ) -> str:
        """Send a CON until there is an answer and return its code.

        Raises:
            TimeoutError: there was none.
        """
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._by_token[token], self._by_mid[mid] = answer, token
        try:
            for _ in range(1 + _MAX_RETRANSMIT):
                self._send(datagram)
                done, _ = await asyncio.wait((answer,), timeout=wait)
                if done:
                    return answer.result()
                if token in self._acknowledged:  # the answer comes on its own
                    async with asyncio.timeout(answer_seconds):
                        return await answer
                wait *= 2
            raise TimeoutError
        finally:
            del self._by_token[token], self._by_mid[mid]
            self._acknowledged.discard(token)

    def forget_acknowledged(self) -> None:
        """Give up the requests whose answer would come on its own: nobody knows them any more."""
        for token in self._acknowledged:
            answer = self._by_token.get(token)
            if answer is not None and not answer.done():
                answer.set_exception(TimeoutError())

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def error_received(self, exc: Exception) -> None:
        """Refused while the gateway is down: what is sent again will tell."""

    def datagram_received(self, data: bytes, addr: object) -> None:
        kind, length, code = data[0] >> 4 & 3, data[0] & 15, data[1]
        mid, token = data[2:4], data[4 : 4 + length]
        if kind == _CON:
            self._send(b"\x60\x00" + mid)
        if code == 0:
            known = self._by_mid.get(int.from_bytes(mid, "big"))
            if known is None:
                return
            if kind == _ACK:
                self._acknowledged.add(known)
                return
            code, token = 5 << 5, known  # reset: try again
        answer = self._by_token.get(token)
        if answer is not None and not answer.done():
            answer.set_result(f"{code >> 5}.{code & 31:02}")

    def _send(self, datagram: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(datagram)
