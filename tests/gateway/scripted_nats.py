"""A NATS server that says what a test tells it to: for what a real one says too rarely."""

import asyncio
import json


class ScriptedNats:
    """Greets, answers PING, and records every line a client writes."""

    def __init__(self, **info):
        self.info = {"server_id": "x", "version": "2.15.0", "headers": True, "max_payload": 1 << 20}
        self.info |= info
        self.lines: list[bytes] = []
        self.connections = 0
        self.confirmed = 0  # acknowledgements that asked for an answer
        self.refusal = b""  # what it says to everybody who comes
        self._changed = asyncio.Condition()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_):
        self.hang_up()
        self._server.close()
        await self._server.wait_closed()

    def hang_up(self):
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    def say(self, data: bytes):
        self._writers[-1].write(data)

    async def heard(self, start: bytes, count: int = 1) -> bytes:
        """Return the `count`th line that starts so, when it has come."""

        def found():
            return [line for line in self.lines if line.startswith(start)]

        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(found()) >= count)
            return found()[count - 1]

    def _confirm(self, reply: bytes):
        """Answer an acknowledgement that asks for it, as JetStream does: with nothing."""
        inbox = reply.rpartition(b".")[0] + b".*"
        for line in reversed(self.lines):
            if line.startswith(b"SUB " + inbox):
                self.confirmed += 1
                self.say(b"MSG %b %b 0\r\n\r\n" % (reply, line.split()[-1]))
                return

    async def _serve(self, reader, writer):
        self._writers.append(writer)
        self.connections += 1
        writer.write(b"INFO " + json.dumps(self.info).encode() + b"\r\n" + self.refusal)
        try:
            while line := await reader.readline():
                if line == b"PING\r\n":
                    writer.write(b"PONG\r\n")
                elif line.startswith(b"PUB $JS.ACK.") and len(line.split()) == 4:
                    self._confirm(line.split()[2])
                async with self._changed:
                    self.lines.append(line)
                    self._changed.notify_all()
        except ConnectionError:
            pass
        finally:
            writer.close()
