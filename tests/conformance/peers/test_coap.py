"""The device over UDP, read against the examples of RFC 7252."""

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest

from conformance.check import CheckFailed
from conformance.peers.coap import Device, read, read_all_options


@asynccontextmanager
async def answering(answers):
    """A socket that answers each datagram by what a table says."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setblocking(False)
        server.bind(("127.0.0.1", 0))
        loop = asyncio.get_running_loop()

        def take():
            data, sender = server.recvfrom(2048)
            for answer in answers.get(data, ()):
                server.sendto(answer, sender)

        loop.add_reader(server, take)
        try:
            yield f"coap://127.0.0.1:{server.getsockname()[1]}"
        finally:
            loop.remove_reader(server)


PING, RESET = bytes.fromhex("4000fffe"), bytes.fromhex("7000fffe")


def test_a_message_is_taken_apart():
    # RFC 7252 figure 16: 2.05, token 20, "22.3 C"
    reply = read(bytes.fromhex("61457d3520ff32322e332043"))
    assert (reply.type, reply.code, reply.mid.hex()) == ("ACK", "2.05", "7d35")
    assert (reply.token, reply.options, reply.payload) == (b"\x20", {}, b"22.3 C")
    assert reply.body == b"\xff22.3 C"


def test_options_have_short_and_long_deltas_and_lengths():
    octets = b"\xb1a\x01b\xd2\x01xy\xe0\x00\x01" + b"\x0d\x00" + bytes(13) + b"\xff!"
    options, position = read_all_options(octets, 0)
    assert options == [(11, b"a"), (11, b"b"), (25, b"xy"), (295, b""), (295, bytes(13))]
    assert octets[position:] == b"\xff!"


@pytest.mark.parametrize("datagram", ["", "40", "40450001d1"])
def test_what_is_no_message_fails(datagram):
    with pytest.raises(CheckFailed):
        read(bytes.fromhex(datagram))


async def test_a_device_asks_and_expects_silence():
    request, answer = bytes.fromhex("40020001"), bytes.fromhex("60440001")
    async with answering({request: [answer], PING: [RESET]}) as url, Device(url) as device:
        device.send(request)
        assert (await device.receive()).raw == answer
        await device.expect_silence()
        device.send(request)
        with pytest.raises(CheckFailed, match="there should be none"):
            await device.expect_silence()


async def test_an_answer_that_does_not_come_fails():
    async with answering({}) as url, Device(url) as device:
        device.send(PING)
        with pytest.raises(CheckFailed, match="no answer"):
            await device.receive(0.01)


async def test_no_port_speaks_to_a_gateway_twice():
    # Ports are given at random: of 800 about ten would come again.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        ports = set()
        for _ in range(800):
            async with Device(f"coap://127.0.0.1:{server.getsockname()[1]}") as device:
                device.send(PING)
            ports.add(server.recvfrom(16)[1])
    assert len(ports) == 800
