"""An HTTP/2 server that does what a test tells it, on top of the `h2` package."""

import asyncio
import contextlib
import json

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingReceived,
    RequestReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError
from h2.settings import Settings


class Received:
    """One request, as far as it has come."""

    def __init__(self, connection, stream_id, headers):
        self.connection = connection
        self.stream_id = stream_id
        self.headers = [(name.decode(), value.decode("latin-1")) for name, value in headers]
        self.fields = dict(self.headers)
        self.body = b""

    @property
    def id(self):
        return json.loads(self.body)["id"] if self.body else self.fields["ce-id"]

    def answer(self, status=202, fields=(), body=b""):
        self.connection.answer(self.stream_id, status, fields, body)

    def reset(self, code=ErrorCodes.INTERNAL_ERROR):
        self.connection.h2.reset_stream(self.stream_id, code)
        self.connection.flush()


class ServerConnection(asyncio.Protocol):
    def __init__(self, script):
        self.script = script
        self.h2 = H2Connection(H2Configuration(client_side=False))
        self.open = {}
        self.resets = []
        self.goaways = []
        self.pings = 0
        self.answers_pings = True
        self.lost = False

    def connection_made(self, transport):
        self.transport = transport
        self.script.connections.append(self)
        self.number = len(self.script.connections)
        self.h2.local_settings = Settings(client=False, initial_values=self.script.settings)
        self.h2.initiate_connection()
        if self.script.speaks:
            self.flush()

    def connection_lost(self, exc):
        self.lost = True
        self.script.note()

    def data_received(self, data):
        if not self.script.speaks:
            return
        events = []
        with contextlib.suppress(ProtocolError):
            events = self.h2.receive_data(data)
        for event in events:
            self._on(event)
        if self.answers_pings:
            self.flush()
        self.script.note()

    def _on(self, event):
        if isinstance(event, RequestReceived):
            self.open[event.stream_id] = Received(self, event.stream_id, event.headers)
        elif isinstance(event, DataReceived):
            self.open[event.stream_id].body += event.data
            if self.script.opens_windows:
                size = event.flow_controlled_length
                self.h2.acknowledge_received_data(size, event.stream_id)
        elif isinstance(event, StreamEnded):
            received = self.open[event.stream_id]
            self.script.requests.append(received)
            self.script.on_request(received)
        elif isinstance(event, StreamReset):
            self.resets.append((event.stream_id, event.error_code))
        elif isinstance(event, ConnectionTerminated):
            self.goaways.append(event.error_code)
        elif isinstance(event, PingReceived):
            self.pings += 1

    def answer(self, stream_id, status=202, fields=(), body=b""):
        headers = [(":status", str(status)), *fields]
        self.h2.send_headers(stream_id, headers, end_stream=not body)
        for start in range(0, len(body), 16_384):
            part = body[start : start + 16_384]
            self.h2.send_data(stream_id, part, end_stream=start + len(part) == len(body))
        self.flush()

    def goaway(self, last_stream_id, code=ErrorCodes.NO_ERROR):
        """Say GOAWAY and go on; `h2` itself would refuse to."""
        payload = last_stream_id.to_bytes(4) + int(code).to_bytes(4)
        self.raw(7, 0, 0, payload)

    def raw(self, kind, flags, stream_id, payload=b""):
        """Write a frame of any kind."""
        self.flush()
        head = len(payload).to_bytes(3) + bytes((kind, flags)) + stream_id.to_bytes(4)
        self.transport.write(head + payload)

    def flush(self):
        data = self.h2.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)


class Http2Script:
    """The server. `on_request(received)` is called for each complete request."""

    def __init__(self):
        self.requests = []
        self.connections = []
        self.settings = {}
        self.opens_windows = True
        self.speaks = True
        self.on_request = Received.answer
        self._changed = asyncio.Event()

    async def start(self, context=None, port=0):
        self._server = await asyncio.get_running_loop().create_server(
            lambda: ServerConnection(self), "127.0.0.1", port, ssl=context
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/path?query=1"

    def note(self):
        self._changed.set()

    async def until(self, condition, seconds=20):
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def ids(self):
        return [request.id for request in self.requests]

    def stop_listening(self):
        self._server.close()

    async def close(self):
        self.stop_listening()
        for connection in self.connections:
            connection.transport.abort()
        await self.until(lambda: all(connection.lost for connection in self.connections))
