"""An HTTP server that answers by a script, for the tests of the HTTP sink; it speaks bytes."""

import asyncio
import contextlib
import json
import re

OK = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"


def answer(status, *fields, body=b""):
    head = b"HTTP/1.1 %d Whatever\r\n" % status + b"".join(field + b"\r\n" for field in fields)
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


class Received:
    def __init__(self, head, body, connection):
        line, *lines = head.decode("latin-1").split("\r\n")
        self.line = line
        self.lines = lines
        self.fields = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
        self.body = body
        self.connection = connection

    @property
    def id(self):
        return json.loads(self.body)["id"] if self.body else self.fields["ce-id"]


class Script:
    """A server whose answer to each request is chosen by `reply`.

    `reply(request)` returns bytes to write, or bytes and what happens then: "close", "reset",
    "stall" (neither close nor read on). An awaitable is waited for.
    """

    def __init__(self):
        self.requests = []
        self.connections = 0
        self.under_way = 0
        self.most_under_way = 0
        self.reply = lambda _: OK
        self._changed = asyncio.Condition()
        self._writers = set()

    async def start(self, context=None, port=0):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/path?query=1"

    async def _serve(self, reader, writer):
        self.connections += 1
        number = self.connections
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while await self._exchange(reader, writer, number):
                    pass
        finally:
            writer.close()
            self._writers.discard(writer)

    async def _exchange(self, reader, writer, number):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"Content-Length: (\d+)\r\n", head)[1])
        received = Received(head[:-4], await reader.readexactly(length), number)
        self.requests.append(received)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        async with self._changed:
            self._changed.notify_all()
        reply = self.reply(received)
        if hasattr(reply, "__await__"):
            reply = await reply
        self.under_way -= 1
        data, then = reply if isinstance(reply, tuple) else (reply, "")
        writer.write(data)
        if then == "reset":
            writer.transport.abort()
        elif then == "stall":
            await reader.read()
        elif not then:
            await writer.drain()
            return True
        return False

    async def wait_for(self, count):
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(self.requests) >= count)

    def drop_connections(self):
        for writer in tuple(self._writers):
            writer.close()

    async def close(self):
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        while self._writers:
            await asyncio.sleep(0)
