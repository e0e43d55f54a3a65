"""The scripted HTTP server, against raw bytes."""

import asyncio

import pytest

from conformance.check import CheckFailed
from conformance.peers.http_server import HttpServer
from conformance.target import Response

POST = b"POST /a?b HTTP/1.1\r\nHost: x\r\nX-Y: z\r\nContent-Length: 2\r\n\r\nhi"


async def talk(server, *sent, until=b""):
    """Send bytes on one connection; return all that comes until `until`, or the end."""
    port = int(server.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for data in sent:
        writer.write(data)
    try:
        return await (reader.readuntil(until) if until else reader.read())
    finally:
        writer.transport.abort()


async def test_a_request_is_kept_as_it_came():
    async with HttpServer() as server:
        answer = await talk(server, POST, until=b"\r\n\r\n")
        (request,) = await server.requests(1)
    assert answer == b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
    assert (request.method, request.target, request.body) == ("POST", "/a?b", b"hi")
    assert request.headers == [("Host", "x"), ("X-Y", "z"), ("Content-Length", "2")]
    assert request.header("x-y") == "z"
    assert request.header("none") is None


async def test_pipelined_requests_are_answered_in_order():
    async with HttpServer() as server:
        bodies = iter([b"1", b"2"])
        server.script = lambda _: Response(status=200, body=next(bodies))
        answer = await talk(server, POST + POST, until=b"\r\n\r\n2")
        assert b"\r\n\r\n1HTTP/1.1" in answer
        one, two = await server.requests(2)
    assert one.connection == two.connection


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (Response(status=0), b""),
        (Response(raw=b"HTTP/1.1 2"), b"HTTP/1.1 2"),
        (Response(status=204, close=True), b"HTTP/1.1 204 No Content\r\n\r\n"),
        (
            Response(status=429, headers=[("Retry-After", "1")], body=b"x", close=True, delay=0.01),
            b"HTTP/1.1 429 Status\r\nRetry-After: 1\r\nContent-Length: 1\r\n\r\nx",
        ),
    ],
)
async def test_an_answer_is_what_the_script_says(response, expected):
    async with HttpServer() as server:
        server.script = lambda _: response
        try:
            answer = await talk(server, POST)
        except ConnectionResetError:
            answer = b""
    assert answer == expected


async def test_requests_that_do_not_come_are_said():
    async with HttpServer() as server:
        await talk(server, POST, until=b"\r\n\r\n")
        with pytest.raises(CheckFailed, match="too few") as caught:
            await server.requests(2, 0.02)
        server.forget()
        assert await server.requests(0) == []
    assert caught.value.got == "1"


async def test_what_is_no_http_ends_the_connection():
    async with HttpServer() as server:
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await talk(server, b"\x00\x01\r\n\r\n", until=b"\n")
        assert await server.requests(0) == []
