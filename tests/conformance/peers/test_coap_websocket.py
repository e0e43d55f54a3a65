"""The device on a WebSocket, with the library's own server at the other end."""

from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import serve

from conformance.check import CheckFailed
from conformance.peers.coap_websocket import WebSocketDevice, WebSocketRefused


@asynccontextmanager
async def serving(answers):
    """A server that answers each message with the next, and then closes."""
    paths = []

    async def take(connection):
        paths.append(connection.request.path)
        for answer in answers:
            await connection.recv()
            await connection.send(answer)

    async with serve(take, "127.0.0.1", 0, subprotocols=["coap"]) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"coap+ws://127.0.0.1:{port}", paths


async def test_a_message_is_sent_and_one_received():
    answers = [bytes.fromhex("00e12301080020"), b"\x01\x44\x07"]
    async with serving(answers) as (url, paths), WebSocketDevice(url) as device:
        assert device.subprotocol == "coap"
        csm = await device.greet()
        assert (csm.code, csm.options) == ("7.01", {2: b"\x01\x08\x00", 4: b""})
        assert (await device.ask(2, b"\x07")).code == "2.04"
        await device.expect_end()
    assert paths == ["/.well-known/coap"]


async def test_text_and_the_end_are_no_answers():
    async with serving(["text"]) as (url, _), WebSocketDevice(url) as device:
        with pytest.raises(CheckFailed, match="text"):
            await device.greet()
        with pytest.raises(CheckFailed, match="ended"):
            await device.receive()


async def test_a_refused_handshake_is_told_apart_from_nobody_there():
    async with serving([]) as (url, _):
        with pytest.raises(WebSocketRefused):
            async with WebSocketDevice(url, subprotocols=["mqtt"]):
                pass
    with pytest.raises(CheckFailed, match="no connection"):
        async with WebSocketDevice(url):
            pass
