"""A foreign gateway: here a few lines that hand on what they get, more or less."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from bindings.binding import Message
from conformance.check import CheckFailed, Unsupported
from conformance.foreign import ForeignTarget, NothingArrives, foreign_target, protocol_of
from conformance.forms import WireEvent
from conformance.peers.http_client import HttpClient, post
from conformance.peers.http_server import HttpServer
from conformance.target import Response
from tests.e2e.servers import free_port

EVENT = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")]


@asynccontextmanager
async def relay(observe, change=lambda body: body):
    """Hand each request on as it is, and answer what its sink answered."""

    async def serve(reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            request = head + await reader.readexactly(length)
            async with HttpClient(observe) as sink:
                sink.send(change(request))
                response = await sink.receive()
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % response.status)
            await writer.drain()
        except (EOFError, CheckFailed):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest.fixture
def observe():
    return f"http://127.0.0.1:{free_port()}"


async def send(url, *headers):
    async with HttpClient(url) as client:
        client.send(post(Message(b"x", "text/plain", [*EVENT, *headers])))
        return (await client.receive()).status


def test_the_protocol_is_that_of_the_scheme():
    schemes = ["coaps+tcp://h", "mqtts://h", "https://h", "nats://h", "coap://h"]
    assert [protocol_of(url) for url in schemes] == ["coap", "mqtt", "http", "nats", "coap"]


async def test_what_its_sink_took_are_the_events(observe):
    async with relay(observe) as url, foreign_target([url], observe) as target:
        assert target.protocol == "http"
        assert await target.events(0) == []  # the probe is forgotten
        target.sink_answers("down")
        assert await send(url) == 503
        await target.asked()
        assert await target.events(0) == []
        target.sink_answers("accept")
        assert await send(url) == 202
        (event,) = await target.events(1)
        assert event == WireEvent(
            {**{k[3:]: v for k, v in EVENT}, "datacontenttype": "text/plain"}, b"x"
        )
        with pytest.raises(CheckFailed, match="too few events came out"):
            await target.events(2, 0.01)


async def test_it_is_calm_when_nothing_comes_any_more():
    async with HttpServer() as server:
        target = ForeignTarget([server.url], server, is_broker=False)
        begun = asyncio.Event()

        async def deliver():
            async with HttpClient(server.url) as client:
                for _ in range(100):
                    client.send(post(Message(b"x", "text/plain", EVENT)))
                    await client.receive()
                    begun.set()

        delivering = asyncio.ensure_future(deliver())
        await begun.wait()
        await target.calm(1.0)
        assert delivering.done()
        assert len(await server.requests(0)) == 100


async def test_nothing_can_be_set_there(observe):
    async with relay(observe) as url, foreign_target([url], observe) as target:
        with pytest.raises(Unsupported):
            target.variant(limits={})
        with pytest.raises(Unsupported):
            await target.drain()


async def test_what_is_no_event_is_the_gateway_s_failure(observe):
    def twice(request):
        return request.replace(b"ce-type: t\r\n", b"ce-type: t\r\nce-type: t\r\n")

    async with relay(observe, twice) as url, foreign_target([url], observe) as target:
        await send(url)
        with pytest.raises(CheckFailed, match="no CloudEvent"):
            await target.events(1)


async def test_nothing_that_comes_out_is_told(observe, monkeypatch):
    monkeypatch.setattr("conformance.foreign.PROBE_SECONDS", 0.5)
    async with HttpServer() as elsewhere:
        elsewhere.script = lambda _: Response(status=404)
        text = r"\(answered HTTP/1.1 404 .*\); is the gateway set up to deliver there\?"
        with pytest.raises(NothingArrives, match=text):
            async with foreign_target([elsewhere.url], observe):
                pass
        elsewhere.script = lambda _: Response(delay=60.0)
        with pytest.raises(NothingArrives, match=r"\(no answer\); is the gateway"):
            async with foreign_target([elsewhere.url], observe):
                pass


async def test_an_address_that_is_taken_is_told():
    async with HttpServer() as server:
        with pytest.raises(NothingArrives, match="can't listen at"):
            async with foreign_target(["http://127.0.0.1:1"], server.url):
                pass
