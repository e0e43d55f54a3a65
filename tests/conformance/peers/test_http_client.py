import asyncio

import pytest

from bindings.binding import Message
from conformance.check import CheckFailed
from conformance.peers.http_client import HttpClient, post


async def answered(*answers, ask=b"POST / HTTP/1.1\r\n\r\n"):
    """Return what a client makes of bytes that a server writes."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"".join(answers))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with HttpClient(f"http://127.0.0.1:{port}/a?b") as client:
            assert client.target == "/a?b"
            client.send(ask)
            return await client.receive()


def test_a_request_is_written_as_it_stands():
    message = Message(b"hi", "text/plain", [("ce-id", "1"), ("ce-x", "\u00e9")])
    assert post(message, "/p") == (
        b"POST /p HTTP/1.1\r\nHost: conformance\r\nContent-Length: 2\r\n"
        b"Content-Type: text/plain\r\nce-id: 1\r\nce-x: \xe9\r\n\r\nhi"
    )


async def test_an_answer_is_taken_apart():
    response = await answered(
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\nRETRY-after:  7 \r\nContent-Length: 4\r\n\r\nbusy",
    )
    assert (response.status, response.body, response.header("retry-after")) == (503, b"busy", "7")
    assert response.header("allow") is None


async def test_a_body_in_chunks_is_put_together():
    response = await answered(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"
    )
    assert response.body == b"abcd"


async def test_a_body_may_end_with_the_connection_or_not_be_there():
    assert (await answered(b"HTTP/1.1 200 OK\r\n\r\nto the end")).body == b"to the end"
    assert (await answered(b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n")).body == b""


@pytest.mark.parametrize(
    ("answer", "text"),
    [(b"", "closed without an answer"), (b"220 smtp ready\r\n\r\n", "is no HTTP")],
)
async def test_what_is_no_answer_is_told(answer, text):
    with pytest.raises(CheckFailed, match=text):
        await answered(answer)
