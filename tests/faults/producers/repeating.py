"""Senders that repeat what they have sent: at once, after the answer, and long after it."""

import asyncio
import random
from typing import Any, Final

from tests.e2e.servers import HOST
from tests.faults.producers.coap import CoapProducer, _Client
from tests.faults.producers.http import HttpProducer
from tests.faults.producers.mqtt import MqttProducer
from tests.faults.producers.nats import NatsProducer
from tests.faults.producers.producer import OneAtATime

_LONG_AFTER: Final = 200
"""So many events later, at most, one is sent again that was acknowledged."""


class _Repeating(OneAtATime):
    """Sends each event up to three times more, and old ones too.

    Attributes:
        again: how many repetitions were sent.
        repeats: from the seed.
    """

    repeats: random.Random
    again = 0

    async def _send(self, key: str, number: int) -> float | None:
        wait = await self._attempt(key, number)
        if wait is not None:
            return wait
        numbers = [number] * self.repeats.randrange(4)
        numbers.append(max(0, number - self.repeats.randint(1, _LONG_AFTER)))
        for each in numbers:
            self.again += 1
            self.ledger.intent(key, each)
            if await self._attempt(key, each) is not None:
                break  # the gateway is down or full: this one is acknowledged already
        return None

    async def _attempt(self, key: str, number: int) -> float | None:
        return await super()._send(key, number)


class RepeatingHttp(_Repeating, HttpProducer):
    """Begins some requests on connections that it leaves before the answer."""

    async def _attempt(self, key: str, number: int) -> float | None:
        if self.repeats.random() < 0.2:
            self.again += 1
            try:
                _, writer = await asyncio.open_connection(HOST, self._port)
            except OSError:
                return 0.05
            writer.write(self._request(key, number))
            await asyncio.sleep(self.repeats.uniform(0, 0.005))
            writer.transport.abort()
        return await super()._attempt(key, number)


class RepeatingCoap(_Repeating, CoapProducer):
    """Sends each datagram four times; what it repeats later has another message ID."""

    def __init__(self, *arguments: Any, **load: Any) -> None:
        super().__init__(*arguments, **load)
        self._client = _FourTimes()


class _FourTimes(_Client):
    def _send(self, datagram: bytes) -> None:
        for _ in range(4):
            super()._send(datagram)


class RepeatingNats(_Repeating, NatsProducer):
    """Makes requests again, with the same id."""


class RepeatingMqtt(MqttProducer):
    """Sends packets twice, the second time with DUP, and loses its connection now and then.

    Attributes:
        again: how many packets were sent twice.
        repeats: from the seed.
    """

    repeats: random.Random
    again = 0

    def _packet(self, packet_id: int, key: str, number: int) -> bytes:
        packet = super()._packet(packet_id, key, number)
        if self.repeats.random() < 0.005 and self._client is not None:
            asyncio.get_running_loop().call_soon(self._client.close)
        if self.repeats.random() < 0.5:
            return packet
        self.again += 1
        return packet + bytes([packet[0] | 8]) + packet[1:]
