"""HTTP sources and raw connections to them."""

import asyncio
import contextlib

import httptools

from gateway.config.records import Address
from gateway.sources.http import HttpSource, HttpSourceConfig
from tests.helpers import RecordingIntake

STRUCTURED = b'{"specversion":"1.0","id":"s1","source":"/s","type":"t","data":{"a":1}}'


class Answer:
    def __init__(self):
        self.status = 0
        self.fields = {}
        self.body = b""
        self.complete = False


class Client:
    """A raw connection; answers are parsed by httptools."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.answers = []
        self._parser = httptools.HttpResponseParser(self)

    def on_message_begin(self):
        self.answers.append(Answer())

    def on_header(self, name, value):
        self.answers[-1].fields[name.decode().lower()] = value.decode()

    def on_body(self, body):
        self.answers[-1].body += body

    def on_message_complete(self):
        self.answers[-1].status = self._parser.get_status_code()
        self.answers[-1].complete = True

    def write(self, data):
        self.writer.write(data)

    async def read(self, count=1):
        """Return the next `count` answers, of which one may be 100."""
        async with asyncio.timeout(10):
            while sum(answer.complete for answer in self.answers) < count:
                data = await self.reader.read(65536)
                assert data, "closed before the answer"
                self._parser.feed_data(data)
        taken, self.answers = self.answers[:count], self.answers[count:]
        return taken

    async def ask(self, data):
        self.write(data)
        return (await self.read())[0]

    async def closed(self):
        """Wait until the other side has closed; returns what still came."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


def post(body=b"", *fields, target=b"/", method=b"POST", content_type=None):
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: x", *fields]
    if content_type is not None:
        lines.append(b"Content-Type: " + content_type)
    lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def structured(*fields, target=b"/"):
    return post(STRUCTURED, *fields, target=target, content_type=b"application/cloudevents+json")


@contextlib.asynccontextmanager
async def running_sources():
    running = []

    async def start(intake=None, **config):
        config.setdefault("listen", Address("127.0.0.1", 0))
        intake = intake or RecordingIntake()
        source = HttpSource(HttpSourceConfig(name="web", **config))
        await source.open(intake)
        running.append(source)
        return source, intake

    yield start
    for source in running:
        await source.close()


@contextlib.asynccontextmanager
async def open_clients():
    writers = []

    async def connect(source, **options):
        reader, writer = await asyncio.open_connection("127.0.0.1", source.address.port, **options)
        writers.append(writer)
        return Client(reader, writer)

    yield connect
    for writer in writers:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
