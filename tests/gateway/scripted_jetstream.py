"""A NATS source with a stream, and the server's side of it, said word by word."""

import asyncio
import json

from gateway.sources.nats import NatsSource, NatsSourceConfig
from tests.gateway.scripted_nats import ScriptedNats
from tests.helpers import RecordingIntake

EVENT = b'{"specversion":"1.0","id":"1","source":"/s","type":"t"}'
# ADR-15: the subject of an acknowledgement, with and without domain, account and random word.
ACK_9 = "$JS.ACK.S.gw.{delivered}.{sequence}.3.1700000000123456789.0"
ACK_11 = "$JS.ACK.hub.ACCHASH.S.gw.{delivered}.{sequence}.3.1700000000123456789.0"
ACK_12 = "$JS.ACK.hub.ACCHASH.S.gw.{delivered}.{sequence}.3.1700000000123456789.0.rAnd0m"


class JetStreamScript:
    """A source with a stream, and the server's side of it."""

    def __init__(self, server: ScriptedNats, intake: RecordingIntake, **options) -> None:
        self.server = server
        self.source = NatsSource(
            NatsSourceConfig(
                name="bus", protocol="nats", url=server.url, stream="S", durable="gw", **options
            )
        )
        self.intake = intake
        self.infos = 0

    async def __aenter__(self):
        opening = asyncio.ensure_future(self.source.open(self.intake))
        await self.answer_info()
        async with asyncio.timeout(10):
            await opening
        self.inbox_sid = (await self.server.heard(b"SUB ", 2)).split()[-1]
        return self

    async def __aexit__(self, *_):
        await self.source.drain()
        await self.source.close()

    async def answer_info(self, created="2026-01-01T00:00:00Z", **config):
        settings = {"durable_name": "gw", "ack_policy": "explicit", "max_ack_pending": 100}
        body = {
            "name": "gw",
            "stream_name": "S",
            "created": created,
            "config": settings | config,
        }
        await self.answer_info_with(body)

    async def answer_info_with(self, body):
        self.infos += 1
        line = await self.server.heard(b"PUB $JS.API.CONSUMER.INFO.S.gw ", self.infos)
        sid = next(found for found in self.server.lines if found.startswith(b"SUB ")).split()[-1]
        payload = json.dumps(body).encode()
        self.server.say(b"MSG %b %b %d\r\n%b\r\n" % (line.split()[2], sid, len(payload), payload))

    async def request(self, number: int) -> tuple[bytes, dict]:
        """Return reply subject and body of the source's `number`th request for messages."""
        start = b"PUB $JS.API.CONSUMER.MSG.NEXT.S.gw "
        line = await self.server.heard(start, number)
        lines = self.server.lines
        positions = [index for index, found in enumerate(lines) if found.startswith(start)]
        while len(lines) <= positions[number - 1] + 1:
            await asyncio.sleep(0)
        return line.split()[2], json.loads(lines[positions[number - 1] + 1])

    def deliver(self, reply: str, payload: bytes = EVENT):
        self.server.say(
            b"MSG s.a %b %b %d\r\n%b\r\n" % (self.inbox_sid, reply.encode(), len(payload), payload)
        )

    def status(self, subject: bytes, text: bytes, *headers: bytes):
        block = b"NATS/1.0 " + b"\r\n".join([text, *headers]) + b"\r\n\r\n"
        size = len(block)
        self.server.say(
            b"HMSG %b %b %d %d\r\n%b\r\n" % (subject, self.inbox_sid, size, size, block)
        )
