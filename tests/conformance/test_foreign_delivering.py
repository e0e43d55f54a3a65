"""A gateway by URL as a sender: events go in by POST, and nothing is waited for."""

import pytest

from conformance.check import CheckFailed, Unsupported
from conformance.foreign_delivering import foreign_delivering
from conformance.forms import WireEvent
from conformance.peers.http_client import HttpClient
from conformance.peers.http_server import HttpServer
from conformance.target import Response

EVENT = WireEvent(
    {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "datacontenttype": "text/x"},
    b"data",
)
OBSERVE = "http://127.0.0.1:0"


async def free_url() -> str:
    async with HttpServer() as server:
        return server.url


async def test_each_event_goes_in_on_a_connection_of_its_own_unanswered():
    async with HttpServer() as gateway:
        gateway.script = lambda _: Response(delay=30.0)
        async with foreign_delivering(f"{gateway.url}/in?a=b", await free_url()) as sender:
            await sender.send(EVENT, EVENT)
            one, two = await gateway.requests(2)
    assert (one.method, one.target) == ("POST", "/in?a=b")
    assert one.header("content-type") == "application/cloudevents+json"
    assert b'"data":"data"' in one.body
    assert one.connection != two.connection


async def test_what_the_gateway_delivers_is_answered_by_the_script():
    observe = await free_url()
    async with HttpServer() as gateway, foreign_delivering(gateway.url, observe) as sender:
        sender.answer(lambda _: Response(status=429))
        async with HttpClient(observe) as client:
            client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
            assert (await client.receive()).status == 429
        (request,) = await sender.requests(1)
        assert request.body == b"{}"
        sender.forget()
        assert await sender.requests(0) == []


async def test_nothing_can_be_switched_there():
    async with foreign_delivering("http://127.0.0.1:9", await free_url()) as sender:
        with pytest.raises(Unsupported, match="retry"):
            sender.variant(delivery={"retry": 1})


async def test_a_gateway_that_is_not_there_is_said():
    async with foreign_delivering(await free_url(), await free_url()) as sender:
        with pytest.raises(CheckFailed, match="nobody listens"):
            await sender.send(EVENT)
