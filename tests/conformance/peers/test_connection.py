import asyncio

import pytest

from conformance.check import CheckFailed
from conformance.peers.connection import Connection


async def test_bytes_arrive_and_the_end_of_the_context_is_the_end_of_the_connection():
    received = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        first = await reader.readexactly(2)
        try:
            rest = await reader.read()
        except ConnectionResetError:
            rest = b""
        writer.transport.abort()
        received.set_result((first, rest))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        async with Connection("127.0.0.1", server.sockets[0].getsockname()[1]) as connection:
            connection.send(b"hi")
        async with asyncio.timeout(5):
            assert await received == (b"hi", b"")


async def test_where_nobody_listens_the_check_has_failed():
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(CheckFailed, match="nobody listens there"):
        async with Connection("127.0.0.1", port):
            pass
