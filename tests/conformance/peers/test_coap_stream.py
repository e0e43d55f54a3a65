"""The device on a TCP connection, with frames of RFC 8323 3.2."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from conformance.check import CheckFailed
from conformance.peers.coap_stream import CSM, StreamDevice, frame, reply_of


@asynccontextmanager
async def serving(answer):
    """A server that says something to each connection, and closes."""

    async def take(reader, writer):
        writer.write(answer)
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield f"coap+tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("size", "head"),
    [(0, "01027f"), (12, "c1027f"), (13, "d100027f"), (268, "d1ff027f"), (269, "e10000027f"),
     (65804, "e1ffff027f"), (65805, "f100000000027f")],
)  # fmt: skip
def test_a_length_is_written_in_the_shortest_form(size, head):
    message = frame(2, b"\x7f", bytes(size))
    assert message[: len(message) - size].hex() == head
    assert message.endswith(bytes(size))


def test_a_message_is_taken_apart():
    reply = reply_of(bytes.fromhex("d1000144") + b"\x07" + bytes.fromhex("c132ff61"), 3)
    assert (reply.code, reply.token, reply.options) == ("2.04", b"\x07", {12: b"2"})
    assert (reply.payload, reply.type, reply.mid) == (b"a", "", b"")


@pytest.mark.parametrize("size", [0, 13, 300, 70000])
async def test_messages_are_read_to_their_end(size):
    message = frame(0x45, b"\x01", b"\xff" + bytes(size) if size else b"")
    async with serving(message * 2) as url, StreamDevice(url) as device:
        for _ in range(2):
            reply = await device.receive()
            assert (reply.code, len(reply.payload), reply.raw) == ("2.05", size, message)


async def test_the_end_is_waited_for():
    async with serving(frame(CSM)) as url, StreamDevice(url) as device:
        assert (await device.greet()).code == "7.01"
        assert await device.expect_end() == b""
        with pytest.raises(CheckFailed, match="the connection ended"):
            await device.receive()


async def test_nobody_there_fails():
    async with serving(b"") as url:
        pass
    with pytest.raises(CheckFailed, match="no connection"):
        async with StreamDevice(url):
            pass
