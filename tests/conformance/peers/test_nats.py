"""Against a real nats-server."""

import pytest

from bindings.binding import Message
from conformance.check import CheckFailed
from conformance.peers.nats import NatsClient, publish
from gateway.embedded_nats import EmbeddedNats


@pytest.fixture
async def url():
    server = EmbeddedNats(port=0)
    await server.start()
    yield server.url
    await server.stop()


def test_lines_are_those_of_the_protocol_s_document():
    assert publish("FOO", Message(b"Hello NATS!")) == b"PUB FOO 11\r\nHello NATS!\r\n"
    assert publish("FOO", Message(b"Hello NATS!", "", [("Bar", "Baz")]), "R") == (
        b"HPUB FOO R 22 33\r\nNATS/1.0\r\nBar: Baz\r\n\r\nHello NATS!\r\n"
    )


async def test_messages_come_with_headers_and_reply(url):
    async with NatsClient(url) as client:
        client.subscribe("a.>")
        client.send(publish("a.b", Message(b"1", "text/plain", [("ce-id", "\u00e9")]), "r"))
        client.send(publish("a.c", Message(b"2")))
        second = await client.receive("a.c")
        assert client.has_kept("a.")
        first = await client.receive("a.")
        assert not client.has_kept("a.")
    assert (first.subject, first.reply) == ("a.b", "r")
    assert first.message == Message(b"1", "text/plain", [("ce-id", "\u00e9")])
    assert (second.payload, second.header, second.reply) == (b"2", b"", "")


async def test_jetstream_is_asked_by_json(url):
    async with NatsClient(url) as client:
        stream = {"name": "S", "subjects": ["s.>"], "storage": "memory"}
        assert (await client.ask("$JS.API.STREAM.CREATE.S", stream))["config"]["name"] == "S"
        with pytest.raises(CheckFailed, match=r"refused \$JS.API.STREAM.INFO.NO"):
            await client.ask("$JS.API.STREAM.INFO.NO")


async def test_what_does_not_come_is_told(url):
    async with NatsClient(url) as client:
        with pytest.raises(CheckFailed, match="no answer came"):
            await client.receive("x", 0.01)
        client.send(b"NONSENSE\r\n")
        with pytest.raises(CheckFailed):
            await client.receive("x")
