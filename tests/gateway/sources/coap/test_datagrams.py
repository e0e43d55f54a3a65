"""A UDP socket at work."""

import asyncio
import socket

import pytest

from gateway.config.records import Address
from gateway.errors import ListenError
from gateway.sources.coap.datagrams import DatagramSocket

ANYWHERE = Address("127.0.0.1", 0)


@pytest.fixture
async def readable():
    """An open socket, and an event that says there is something to read."""
    arrived = asyncio.Event()
    datagrams = DatagramSocket()
    await datagrams.open(ANYWHERE, 65536, arrived.set)
    yield datagrams, arrived
    datagrams.close()


@pytest.fixture
def peer():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as result:
        result.bind(("127.0.0.1", 0))
        result.settimeout(5)
        yield result


async def test_all_that_has_arrived_is_read_at_once_with_its_sender(readable, peer):
    datagrams, arrived = readable
    for datagram in (b"one", b"", b"three"):
        peer.sendto(datagram, datagrams.address)
    await arrived.wait()
    me = peer.getsockname()
    assert list(datagrams.read()) == [(b"one", me), (b"", me), (b"three", me)]
    assert list(datagrams.read()) == []


async def test_an_answer_goes_to_its_address_and_one_that_cant_be_sent_is_lost(readable, peer):
    datagrams, _ = readable
    datagrams.send(b"x" * 70000, peer.getsockname())
    datagrams.send(b"answer", peer.getsockname())
    assert peer.recv(100) == b"answer"


async def test_a_closed_socket_reads_and_sends_nothing(readable, peer):
    datagrams, arrived = readable
    peer.sendto(b"one", datagrams.address)
    await arrived.wait()
    datagrams.close()
    assert list(datagrams.read()) == []
    datagrams.send(b"answer", peer.getsockname())
    with pytest.raises(RuntimeError, match="not open"):
        _ = datagrams.address


async def test_a_port_that_is_taken_is_told(readable):
    with pytest.raises(ListenError):
        await DatagramSocket().open(readable[0].address, 65536, list)
