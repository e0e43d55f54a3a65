"""A gateway by URL as a sender: events go in by POST, and nothing is waited for."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from conformance.check import CheckFailed, Unsupported
from conformance.foreign import NothingArrives
from conformance.foreign_delivering import ForeignDelivering, foreign_delivering
from conformance.forms import WireEvent
from conformance.peers.http_client import HttpClient
from conformance.peers.http_server import HttpServer
from conformance.target import Response

EVENT = WireEvent(
    {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "datacontenttype": "text/x"},
    b"data",
)


async def free_url() -> str:
    async with HttpServer() as server:
        return server.url


@asynccontextmanager
async def not_probed(url):
    async with HttpServer() as server, AsyncExitStack() as clients:
        yield ForeignDelivering(url, server, clients), server.url


@asynccontextmanager
async def gateway_that_sends(times, observe):
    """Deliver something to `observe`, so many times, when a request comes."""
    sending = []

    async def deliver():
        for _ in range(times):
            async with HttpClient(observe) as client:
                client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
                await client.receive()

    def script(request):
        sending.append(asyncio.ensure_future(deliver()))
        return Response()

    async with HttpServer() as gateway:
        gateway.script = script
        yield gateway.url
        await asyncio.gather(*sending)


async def test_each_event_goes_in_on_a_connection_of_its_own_unanswered():
    async with HttpServer() as gateway:
        gateway.script = lambda _: Response(delay=30.0)
        async with not_probed(f"{gateway.url}/in?a=b") as (sender, _):
            await sender.send(EVENT, EVENT)
            one, two = await gateway.requests(2)
    assert (one.method, one.target) == ("POST", "/in?a=b")
    assert one.header("content-type") == "application/cloudevents+json"
    assert b'"data":"data"' in one.body
    assert one.connection != two.connection


async def test_what_the_gateway_delivers_is_answered_by_the_script():
    async with not_probed("http://127.0.0.1:9") as (sender, observe):
        sender.answer(lambda _: Response(status=429))
        async with HttpClient(observe) as client:
            client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
            assert (await client.receive()).status == 429
        (request,) = await sender.requests(1)
        assert request.body == b"{}"
        sender.forget()
        assert await sender.requests(0) == []


async def test_nothing_can_be_switched_there():
    async with not_probed("http://127.0.0.1:9") as (sender, _):
        with pytest.raises(Unsupported, match="retry"):
            sender.variant(delivery={"retry": 1})


async def test_a_gateway_that_is_gone_is_said():
    async with not_probed(await free_url()) as (sender, _):
        with pytest.raises(CheckFailed, match="nobody listens"):
            await sender.send(EVENT)


async def test_one_that_delivers_and_repeats_is_judged_and_the_probe_forgotten():
    observe = await free_url()
    async with gateway_that_sends(2, observe) as url, foreign_delivering(url, observe) as sender:
        assert await sender.requests(0) == []


@pytest.mark.parametrize(
    ("times", "text"),
    [
        (0, r"no event came out at .* is the gateway set up to deliver there\?"),
        (1, "answered with 503 was not sent again within .* set up to repeat deliveries"),
    ],
)
async def test_one_that_does_not_is_told_in_a_sentence(times, text, monkeypatch):
    monkeypatch.setattr("conformance.foreign_delivering.PROBE_SECONDS", 0.2)
    observe = await free_url()
    async with gateway_that_sends(times, observe) as url:
        with pytest.raises(NothingArrives, match=text):
            async with foreign_delivering(url, observe):
                pass


async def test_an_address_that_nobody_has_or_that_is_taken_is_told_in_a_sentence():
    async with HttpServer() as server:
        with pytest.raises(NothingArrives, match="can't listen at"):
            async with foreign_delivering("http://127.0.0.1:9", server.url):
                pass
    with pytest.raises(NothingArrives, match="can't be used: nobody listens there"):
        async with foreign_delivering(await free_url(), await free_url()):
            pass
